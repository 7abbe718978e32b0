"""What a run reports about itself."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from commands import run_main
from recbole.model.general_recommender import BPR

from recbole_llm import report, run_recbole_llm
from recbole_llm.cli import main
from recbole_llm.commands.shared import parse_names
from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.checkpoints.stored import plain_config, trusted_settings
from recbole_llm.core.config import Config
from recbole_llm.core.log import log_file
from recbole_llm.data.create import create_dataset
from recbole_llm.data.rows.sizes import count_rows, data_line
from recbole_llm.evaluation.protocol import describe_repeats
from recbole_llm.features.tables.align import align
from recbole_llm.features.tables.table import EmbeddingTable
from recbole_llm.steps import build_model, build_trainer, load_data, start

pytestmark = pytest.mark.usefixtures("own_logging", "tiny")
LEAVE_ONE_OUT = "leave-one-out (each user's last two for valid and test), all 60 items ranked"


def test_a_run_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model=SASRec", "--item_init=llm", "--encoder=hash", "--epochs=2", "--hidden_size=8"]
    assert run_main([*argv, "--dataset=tiny", "--output=out/r.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    interactions = len(Path("dataset/tiny/tiny.inter").read_text().splitlines()) - 1
    assert lines[1] == f"data      tiny: 40 users, 60 items, {interactions} interactions"
    assert lines[2].startswith("model     SASRec: ") and "parameters, trained on" in lines[2]
    assert lines[3] == "reads     item text of 60 of 60, 16 numbers each (hash)"
    assert lines[4] == f"protocol  {LEAVE_ONE_OUT}"
    assert lines[5] == "epoch     the best by MRR@10 on validation"
    assert lines[6].startswith("training    2 epochs in ")
    table = lines[lines.index(f"SASRec: {LEAVE_ONE_OUT}") :]
    result = json.loads(Path("out/r.json").read_text())
    ndcg = [result[key]["ndcg@10"] for key in ("best_valid_result", "test_result")]
    assert [float(number) for number in table[4].split()[1:]] == ndcg
    places = dict(line.split(None, 1) for line in table[8:])
    assert Path(places["checkpoint"]).is_file() and Path(places["log"]).is_file()
    assert (result["checkpoint"], result["log"]) == (places["checkpoint"], places["log"])
    assert Path(places["tensorboard"]).is_dir()
    assert places["next"].startswith(f"recbole-llm recommend --checkpoint={places['checkpoint']}")
    assert len(lines) < 25


@pytest.fixture
def trees(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand-ins for the packages of decision trees, which need not be installed."""
    for name in ("xgboost", "lightgbm"):
        fake = ModuleType(name)
        fake.Booster = type("Booster", (), {"__init__": lambda *_, **__: None})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, fake)
    yield
    for name in [name for name in sys.modules if "exlib_recommender" in name]:
        del sys.modules[name]


@pytest.mark.usefixtures("trees")
@pytest.mark.parametrize(
    ("model", "params"), [("XGBoost", "xgb_params"), ("LightGBM", "lgb_params")]
)
def test_decision_trees_have_recboles_defaults_and_no_parameters(
    model: str, params: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {"threshold": {"rating": 3}, "data_path": "dataset"}
    config = Config(model, "tiny", config_dict=labels)
    assert config[params]["objective"].startswith("binary")
    start(config, trains=True)
    data = load_data(config)
    own = report.Report(config)
    network = build_model(config, data.train_dataset)
    own.begin(data, build_trainer(config, network))
    written = Path(log_file() or "").read_text(encoding="utf-8")
    assert f"{model}: trees" in written
    assert own.parameters is None and f"{model}: trees, trained on" in capsys.readouterr().out
    assert not list(report.suggest_next_step(data.dataset, {"checkpoint": "saved/trees.pth"}))
    assert trusted_settings(plain_config(config), "trees.pth")[params] == config[params]
    assert f"--{params}=" in CliRunner().invoke(main, ["models", model]).output


def test_the_encoder_is_named_beside_what_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    table = EmbeddingTable(np.ones((3, 2), np.float32), ["[PAD]", "a", "b"], "f")
    monkeypatch.setattr(
        report, "attached_features", lambda _: {"item_text": table, "reviews": table}
    )
    said = report._describe_vectors(Config("SASRec", "tiny", config_dict={"encoder": "hash"}), None)  # type: ignore[arg-type]
    each = "of 2 of 2, 2 numbers each"
    assert said == f"item text {each} (hash); reviews {each}"
    one = EmbeddingTable(np.ones((3, 1), np.float32), ["[PAD]", "a", "b"], "f")
    monkeypatch.setattr(report, "attached_features", lambda _: {"popularity": one})
    said = report._describe_vectors(Config("SASRec", "tiny", config_dict={"encoder": "hash"}), None)  # type: ignore[arg-type]
    assert said == "popularity of 2 of 2, 1 number each"


def test_what_a_metric_reads_is_named_beside_a_model_without_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "attached_features", lambda _: {})
    for metrics, more in (["MRR"], ""), (["MRR", "Diversity"], "; for Diversity: item text"):
        config = Config("BPR", "tiny", config_dict={"encoder": "hash", "metrics": metrics})
        assert report._describe_vectors(config, None) == f"no texts or pictures{more}"  # type: ignore[arg-type]


def test_rows_that_missing_embedding_fills_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    table = align(
        EmbeddingTable(np.ones((1, 2), np.float32), ["a"], "f"), ["[PAD]", "a", "b"], "mean"
    )
    monkeypatch.setattr(report, "attached_features", lambda _: {"item_text": table})
    said = report._describe_vectors(Config("SASRec", "tiny", config_dict={"encoder": "hash"}), None)  # type: ignore[arg-type]
    assert said == "item text of 1 of 2, 2 numbers each (hash)"


def test_first_interactions_of_recboles_own_rows_are_counted() -> None:
    lines = Path("dataset/tiny/tiny.inter").read_text().splitlines()
    dataset = load_data(Config("DIEN", "tiny")).dataset
    assert count_rows(dataset) == {"users": 40, "items": 60, "interactions": len(lines) - 1}


@pytest.mark.parametrize("model", ["FM", "DIEN", "SASRec", "BPR"])
def test_users_without_interactions_are_not_counted(model: str) -> None:
    with Path("dataset/tiny/tiny.user").open("a", encoding="utf-8") as file:
        file.write("idle\t30\tM\n")
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp"], "user": ["user_id", "age"]}
    keys = {"load_col": columns, "threshold": {"rating": 3}, "data_path": "dataset"}
    assert count_rows(load_data(Config(model, "tiny", config_dict=keys)).dataset)["users"] == 40


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_users_of_one_interaction_are_counted_with_it(model: str) -> None:
    file = Path("dataset/tiny/tiny.inter")
    file.write_text(f"{file.read_text()}one\ti1\t3\t5\n")
    counts = data_line(create_dataset(Config(model, "tiny")))
    interactions = len(file.read_text().splitlines()) - 1
    assert counts == f"tiny: 41 users, 60 items, {interactions} interactions"


def test_the_next_command_has_what_no_checkpoint_keeps() -> None:
    dataset = create_dataset(Config("BPR", "tiny", config_dict={
        "encoder": "precomputed", "embedding_path": "my vectors.npz", "encoder_model": "./folder",
        "learning_rate": 0.1,
    }))  # fmt: skip
    ((_, line),) = report.suggest_next_step(dataset, {"checkpoint": "x.pth"})
    assert line == (
        "recbole-llm recommend --checkpoint=x.pth --users=u0 '--embedding_path=my vectors.npz' "
        "--encoder_model=./folder"
    )


@pytest.mark.parametrize("name", ["Own", "SASRec"])  # an unknown name, or another model's
def test_the_next_step_with_a_class_is_in_python(name: str) -> None:
    dataset = create_dataset(Config(type(name, (BPR,), {}), "tiny"))
    ((_, line),) = report.suggest_next_step(dataset, {"checkpoint": "x.pth"})
    assert line == f"load_data_and_model('x.pth', config_dict={{'model': {name}}})"


def test_the_next_command_takes_an_id_with_commas_for_one() -> None:
    dataset = create_dataset(Config("BPR", "tiny"))
    for user in ["Doe, Jane", '"Jo", or Joe', 'just "Jo"', "u1"]:
        dataset.field2id_token["user_id"] = np.array(["[PAD]", user])
        ((_, line),) = report.suggest_next_step(dataset, {"checkpoint": "x.pth"})
        (given,) = [part for part in shlex.split(line) if part.startswith("--users=")]
        assert parse_names(given.removeprefix("--users=")) == [user]


def test_ready_made_lists_have_no_next_command() -> None:
    """`recommend` needs the interactions themselves."""
    dataset = create_dataset(Config("SASRec", "tiny"))
    dataset.config["benchmark_filename"] = ["train", "valid", "test"]
    assert not list(report.suggest_next_step(dataset, {"checkpoint": "x.pth"}))


@pytest.mark.parametrize(
    ("given", "suggests"),
    [
        ({}, True),
        ({"load_col": {"inter": ["user_id", "item_id", "label", "timestamp", "rating"]}}, True),
        ({"load_col": {"inter": ["user_id", "item_id", "label", "hour"]}}, False),
        ({"numerical_features": ["timestamp"]}, False),
        ({"load_col": None}, False),
    ],
)
def test_a_model_that_reads_more_of_interactions_has_no_next_command(
    given: dict[str, Any], suggests: bool
) -> None:
    """`recommend` refuses it, since a recommendation has no hour or time."""
    file = Path("dataset/tiny/tiny.inter")
    head, *rows = file.read_text().splitlines()
    more = [f"{head}\thour:token\tlabel:float", *(f"{row}\t7\t1" for row in rows)]
    file.write_text("\n".join(more) + "\n")
    dataset = create_dataset(Config("DeepFM", "tiny", config_dict=given))
    assert bool(list(report.suggest_next_step(dataset, {"checkpoint": "x.pth"}))) == suggests


def test_settings_that_a_checkpoint_leaves_out_are_in_the_result() -> None:
    given = {"item_init": "llm", "encoder": "hash", "protocol": "leave-one-out"}
    config = Config("BPR", "tiny", argv=[f"--{key}={value}" for key, value in given.items()])
    assert report.changed_settings(config) == given


def test_the_result_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model=BPR", "--dataset=tiny", "--epochs=2", "--stopping_step=10", "--output=r.json"]
    assert run_main([*argv, "--state=ERROR"]) == 0
    assert capsys.readouterr().out == ""
    found = json.loads(Path("r.json").read_text())
    assert found["settings"] == {"model": "BPR", "dataset": "tiny", "epochs": 2}
    assert found["best_epoch"] in (1, 2) and found["trainings"][0]["epochs"] == 2
    assert found["data"]["size"]["users"] == 40
    assert len(found["data"]["sha256"]["tiny.inter"]) == 64
    assert found["versions"]["recbole"].startswith("1.2") and found["peak_memory_mib"] > 50
    assert 0 < found["seconds"]["training"] <= found["seconds"]["all"]
    assert found["test_result"]["recall@10"] > 0 and Path(found["checkpoint"]).is_file()


def test_the_output_is_tried_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert run_main(["--model=BPR", "--dataset=tiny", "--output=file/r.json"]) == 2
    assert "folder 'file' cannot be written" in capsys.readouterr().err
    assert run_main(["--model=BPR", "--dataset=tiny", "--user_metrics=users.csv"]) == 2
    assert "'users.csv' must end in .npz, NumPy's format" in capsys.readouterr().err
    Path("results").mkdir()
    for key in ("output", "user_metrics"):
        assert run_main(["--model=BPR", "--dataset=tiny", f"--{key}=results"]) == 2
        said = capsys.readouterr()
        assert "'results' is a folder, where a file is to be written; " in said.err
        assert f"name another file with --{key}" in said.err
        assert not said.out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "random split (each user's interactions 80 : 10 : 10), all 60 items ranked"),
        ({"split": {"RS": [7, 1, 2]}, "order": "TO", "group_by": None},
         "split 70 : 10 : 20 of interactions in order of time, all 60 items ranked"),
        ({"split": {"LS": "valid_and_test"}, "order": "RO", "mode": "uni20"},
         "leave-one-out (each user's last two of a random order for valid and test), "
         "ranked among 20 sampled items for each one held out"),
        ({"mode": {"valid": "uni20", "test": "full"}},
         "random split (each user's interactions 80 : 10 : 10), ranked among 20 sampled items for "
         "each one held out on validation, all 60 items ranked on test"),
        # RecBole holds out each user's last interaction, whatever group_by is.
        ({"split": {"LS": "test_only"}, "order": "TO", "group_by": "none"},
         "leave-one-out (each user's last for test only), all 60 items ranked"),
    ],
)  # fmt: skip
def test_protocols_in_words(args: dict[str, Any], said: str) -> None:
    config = Config("BPR", "tiny", config_dict={"eval_args": args} if args else {})
    assert report.describe_protocol(config, create_dataset(config)) == said


@pytest.mark.parametrize(
    ("model", "times", "keys", "said"),
    [
        ("BPR", 2, {}, "2 of {} interactions are with an item that the user already has; "),
        ("BPR", 0, {}, ""),
        ("BPR", 2, {"rm_dup_inter": "first"}, ""),
        ("SASRec", 2, {}, ""),
        ("FM", 2, {"threshold": {"rating": 3}}, ""),
    ],
)
def test_repeats_are_told_where_they_are_easy_to_find(
    model: str, times: int, keys: dict[str, Any], said: str
) -> None:
    file = Path("dataset/tiny/tiny.inter")
    lines = file.read_text().splitlines()
    pairs = {tuple(line.split("\t")[:2]): line for line in lines}
    again = list(pairs.values())[1 : times + 1]
    file.write_text("\n".join([*pairs.values(), *again]) + "\n")
    config = Config(model, "tiny", config_dict=keys)
    found = describe_repeats(config, create_dataset(config))
    assert found.startswith(said.format(len(pairs) - 1 + times)) and bool(found) == bool(said)


@pytest.mark.parametrize(
    "keys", [{"eval_step": 0}, {"eval_args": {"split": {"LS": "test_only"}, "order": "TO"}}]
)
def test_without_validation_the_last_epoch_is_tested(
    keys: dict[str, Any], own_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_recbole_llm("BPR", "tiny", config_dict={"epochs": 2, **keys})
    assert "epoch     the last: nothing is validated\n" in capsys.readouterr().out
    assert load_checkpoint(result["checkpoint"])["epoch"] == 1

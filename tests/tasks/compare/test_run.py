"""A comparison from the command to its tables, tests, notes and next command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from recbole_llm.cli import main
from recbole_llm.tasks.compare import significance
from recbole_llm.tasks.compare.cells import Cell

MODELS = "SASRec; GRU4Rec"
COMMAND = ["compare", "--dataset=tiny", "--seeds=2", "--jobs=2"]


def compare(models: str = MODELS, *more: str) -> Result:
    return CliRunner().invoke(main, [*COMMAND, f"--models={models}", *more])


@pytest.mark.usefixtures("quick_runs")
def test_the_screen_has_an_aligned_table_and_a_next_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recbole_llm.tasks.compare.run.write_page", lambda *_: "none")
    compare()
    (best,) = Path("comparison/cells").glob("GRU4Rec-2020-*")
    (best / "saved").mkdir()
    (best / "saved" / "x.pth").touch()
    lines = compare().output.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("model    seeds  mrr@10  "))
    assert lines[at + 1].startswith("SASRec   2      .") and lines[at + 2][:12] == "GRU4Rec  2  "
    assert "**" not in "".join(lines) and "<u>" not in "".join(lines)
    assert any(line.startswith("tiny: 30 users, 20 items; leave-one-out. Means") for line in lines)
    command = f"recbole-llm recommend --checkpoint={best}/saved/x.pth --users=u0"
    assert lines[-1] == f"next     {command}"


@pytest.mark.usefixtures("quick_runs")
def test_the_next_command_has_what_no_checkpoint_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.pth").touch()
    monkeypatch.setattr(Cell, "checkpoint", "x.pth")
    model = "SASRec --item_init=llm --embedding_cache_dir='my cache'"
    done = compare(model, "--seeds=1", "--encoder=hash")
    command = "recbole-llm recommend --checkpoint=x.pth --users=u0"
    assert done.output.splitlines()[-1] == f"next     {command} '--embedding_cache_dir=my cache'"


@pytest.mark.usefixtures("quick_runs")
def test_ready_made_lists_have_no_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """`recommend` needs the interactions themselves."""
    Path("x.pth").touch()
    monkeypatch.setattr(Cell, "checkpoint", "x.pth")
    for part in ("train", "valid", "test"):
        rows = "user_id:token\titem_id:token\titem_id_list:token_seq\nu1\ti1\ti2 i3\n"
        Path(f"dataset/tiny/tiny.{part}.inter").write_text(rows)
    done = compare(
        "SASRec", "--seeds=1", "--benchmark_filename=['train','valid','test']",
        "--alias_of_item_id=['item_id_list']", "--train_level=prefix",
        "--load_col={'inter':['user_id','item_id','item_id_list']}",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "next  " not in done.output


def test_tested_differences_are_those_of_the_table() -> None:
    """This also holds if each seed tests other users, as with random splits."""

    def run(seed: int, users: str, values: list[float]) -> Any:
        columns = {"users": np.array(list(users)), "metric auc": np.array(values),
                   "tested": np.zeros(len(users))}  # fmt: skip
        return SimpleNamespace(seed=seed, users=columns, name=f"seed {seed}")

    base = [run(1, "abc", [0.1, 0.2, 0.3]), run(2, "cde", [0.5, 0.7, 0.9]), run(4, "f", [0.9])]
    ours = [run(1, "cba", [0.9, 0.4, 0.2]), run(2, "cd", [0.6, 0.9]), run(3, "f", [0.1])]
    (test,) = significance.compare_with_baseline(base, {"B": ours}, ["auc"])
    assert (test.seeds, test.left_out) == (2, 1)  # user e
    assert test.baseline == pytest.approx((0.2 + 0.6) / 2)
    assert test.difference.mean == pytest.approx((0.5 + 0.75) / 2 - (0.2 + 0.6) / 2)


@pytest.mark.usefixtures("quick_runs")
@pytest.mark.parametrize(
    ("models", "options", "note"),
    [
        ("GRU4Rec; BPR", ["--seeds=1", "--protocol=leave-one-out"], "- items of a user's history "),
        ("BPR; Pop", ["--protocol=random"], "- the split is random, and each"),
    ],
)
def test_notes_on_the_protocol_stand_under_the_table(
    models: str, options: list[str], note: str
) -> None:
    assert compare(models, *options).exit_code == 0
    assert note in Path("comparison/table.md").read_text()


@pytest.mark.usefixtures("quick_runs")
@pytest.mark.parametrize(
    ("models", "times"), [("BPR; wide: BPR --embedding_size=128", 1), ("SASRec; GRU4Rec", 0)]
)
def test_repeated_purchases_are_noted_once_under_the_table(models: str, times: int) -> None:
    assert compare(models).exit_code == 0
    assert Path("comparison/table.md").read_text().count("2 again") == times


@pytest.mark.usefixtures("quick_runs")
def test_users_that_one_model_was_not_tested_on_are_left_out_and_counted() -> None:
    """Leave-one-out tests users with two interactions only in general models, for example."""
    done = compare("SASRec; GRU4Rec", "--seeds=1")
    assert done.exit_code == 0 and "left out here" not in done.output
    (file,) = Path("comparison/cells").glob("GRU4Rec-*/users.npz")
    with np.load(file) as users:
        rows = {name: users[name] for name in users.files}
    for name in ("users", "tested", "metric mrr@10"):
        rows[name] = rows[name][::-1][4:]  # u0 to u25, backwards
    np.savez(file, **rows)
    again = compare("SASRec; GRU4Rec", "--seeds=1")
    assert again.exit_code == 0, again.output
    assert "4 users that one of the two was not tested on are left out here" in again.output
    (test,) = json.loads(Path("comparison/result.json").read_text())["tests"]
    assert test["difference"]["users"] == [26, 26] and test["left_out"] == 4


@pytest.mark.usefixtures("quick_runs")
def test_a_metric_without_a_value_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    means = significance._average_over_seeds
    monkeypatch.setattr(significance, "_average_over_seeds", lambda tables: means(tables) * np.nan)
    done = compare(MODELS)
    assert done.exit_code == 0 and "†" not in done.output
    assert json.loads(Path("comparison/result.json").read_text())["tests"] == []

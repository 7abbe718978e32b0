"""Runs from Python, and bad input to them: one clear error before any long work."""

from __future__ import annotations

import logging
import re
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.model.general_recommender import BPR

from recbole_llm import (
    hookimpl,
    load_data_and_model,
    objective_function,
    quick_start,
    run_recbole_llm,
)
from recbole_llm.core.config import Config
from recbole_llm.core.log import save_traceback
from recbole_llm.core.plugins import loading
from recbole_llm.core.plugins.stock import recbole_models
from recbole_llm.steps import build_model, build_trainer, load_data, start

pytestmark = pytest.mark.usefixtures("tiny")
QUIET = {"epochs": 1, "show_progress": False, "data_path": "dataset"}


def run(model: str = "BPR", dataset: str = "tiny", **config: Any) -> dict[str, Any]:
    return run_recbole_llm(model, dataset, config_dict={**QUIET, **config})


def test_the_result_has_recboles_keys() -> None:
    result = run()
    assert set(result) == {
        "best_valid_score", "valid_score_bigger", "best_valid_result", "test_result", "checkpoint",
    }  # fmt: skip
    assert result["best_valid_result"]["mrr@10"] == pytest.approx(result["best_valid_score"])


@pytest.mark.parametrize("fails", [False, True])
def test_tensorboards_thread_ends_with_its_run(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    def writers() -> set[threading.Thread]:
        threads = threading.enumerate()
        return {t for t in threads if type(t).__module__.startswith("tensorboard.")}

    if fails:
        monkeypatch.setattr(BPR, "calculate_loss", lambda *_: 1 / 0)
    before = writers()
    with pytest.raises(ZeroDivisionError) if fails else nullcontext():
        run()
    assert writers() <= before
    (events,) = Path("log_tensorboard").glob("*/events*")
    assert fails or b"Train" in events.read_bytes()  # the loss, beside the file's header


def test_numbers_are_as_rounded() -> None:
    result = run(metrics=["GAUC"], valid_metric="GAUC", metric_decimal_place=3)["test_result"]
    assert result["gauc"] == round(result["gauc"], 3)


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("LLMESR", "teacher", "oracle"),
        ("LLMESR", "views", "one"),
        ("LLMESR", "cross_heads", 7),
        ("AlphaRec", "tau", 0),
        ("AlphaRec", "text_map", "tree"),
        ("PAD", "train_level", "word"),
        ("PAD", "eval_groups", ["shops"]),
    ],
)
def test_bad_settings_are_named_before_texts_are_encoded(model: str, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):  # no error is about the encoder
        run(model, **{key: value, "encoder": "precomputed", "embedding_path": "none.npz"})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"topk": [100], "valid_metric": "MRR@100"},
            "topk: 100 is more than the 60 items .* set --topk=60 --valid_metric=MRR@60$",
        ),
        (
            {"topk": [5, 10, 100], "valid_metric": "MRR@5"},
            "topk: 100 is more than the 60 items .* set --topk=5,10,60$",
        ),
        (
            {"eval_args": {"mode": {"valid": "full", "test": "uni60"}}},
            "mode: 60 sampled negatives are more than the other items of a catalogue of 60",
        ),
        ({"eval_args": {"mode": "pop99999999999"}}, "set mode: full"),
    ],
)
def test_what_the_catalogue_is_too_small_for_is_named_before_texts_are_encoded(
    more: dict[str, Any], message: str
) -> None:
    nowhere = {"encoder": "precomputed", "embedding_path": "none.npz"}
    with pytest.raises(ValueError, match=message):
        run("PAD", **more, **nowhere)


def test_nothing_is_saved_unless_asked() -> None:
    result = run_recbole_llm("BPR", "tiny", config_dict=QUIET, saved=False)
    assert "checkpoint" not in result
    assert not list(Path("saved").glob("*.pth"))


def test_objective_function_has_recboles_signature_and_result() -> None:
    before = logging.getLogger().handlers[:]
    own = {**QUIET, "model": "BPR", "dataset": "tiny", "embedding_size": 8.0}  # from quniform
    trial = objective_function(own, None, saved=False)
    assert trial["model"] == "BPR" and "recall@10" in trial["test_result"]
    assert logging.getLogger().handlers == before  # a search has a log of its own


@pytest.mark.usefixtures("own_logging")
def test_a_run_takes_its_log_away_at_its_end() -> None:
    root = logging.getLogger()
    run()
    assert (root.handlers, root.level) == ([], logging.WARNING)
    root.warning("of the process")
    (file,) = Path("log").iterdir()
    assert "of the process" not in file.read_text()


def fails() -> None:
    raise ValueError("before the training")


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("trial", [False, True])
def test_a_run_that_fails_takes_its_log_away_too(
    monkeypatch: pytest.MonkeyPatch, trial: bool
) -> None:
    monkeypatch.setattr(quick_start, "load_data", lambda _: fails())
    with pytest.raises(ValueError, match="before the training"):
        if trial:
            objective_function({**QUIET, "model": "BPR", "dataset": "tiny"}, None, saved=False)
        else:
            run()
    root = logging.getLogger()
    assert (root.handlers, root.level) == ([], logging.WARNING)
    (file,) = Path("log").iterdir()
    try:
        fails()
    except ValueError as error:
        assert Path(save_traceback(error)) == file.resolve()
    assert "before the training" in file.read_text()


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("to_file", [False, True])
def test_a_run_in_a_process_with_its_own_log_names_its_curves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, to_file: bool
) -> None:
    host = logging.FileHandler("host.log") if to_file else logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [host, caplog.handler])
    caplog.set_level("INFO")
    for _ in range(2):
        run()
    told = re.findall(r"^tensorboard +(\S+)$", caplog.text, re.MULTILINE)
    assert len(set(told)) == 2 and sorted(told) == sorted(
        map(str, Path("log_tensorboard").iterdir())
    )
    assert all(Path(name).name.startswith("BPR-tiny-") for name in told)
    host.close()


@pytest.mark.usefixtures("own_logging")
def test_the_files_of_a_run_have_one_name() -> None:
    name = Path(run()["checkpoint"]).stem
    assert [file.stem for file in Path("log").iterdir()] == [name]
    assert [folder.name for folder in Path("log_tensorboard").iterdir()] == [name]


def test_two_trainers_of_a_run_write_to_two_checkpoints() -> None:
    config = Config("BPR", "tiny", config_dict=QUIET)
    start(config, trains=True)
    model = build_model(config, load_data(config).train_dataset)
    assert len({build_trainer(config, model).saved_model_file for _ in range(2)}) == 2


@pytest.mark.usefixtures("own_logging")
def test_a_search_names_a_misspelt_key(capsys: pytest.CaptureFixture[str]) -> None:
    keys = {**QUIET, "model": "BPR", "dataset": "tiny", "embeding_size": 8}
    objective_function(keys, None, saved=False)
    assert "unknown config key: 'embeding_size'" in capsys.readouterr().err
    assert (logging.getLogger().handlers, logging.getLogger().level) == ([], logging.WARNING)


def test_a_class_that_is_not_registered_is_trained_searched_and_loaded() -> None:
    class Mine(BPR):  # type: ignore[misc]
        pass

    keys = {**QUIET, "embedding_size": 8}
    file = run_recbole_llm(Mine, "tiny", config_dict=keys)["checkpoint"]
    trial = objective_function({**keys, "model": Mine, "dataset": "tiny"}, None, saved=False)
    assert trial["model"] == "Mine"
    assert type(load_data_and_model(file, config_dict={"model": Mine})[1]) is Mine
    with pytest.raises(ValueError, match="model 'Mine' is unknown"):
        load_data_and_model(file)


@pytest.mark.parametrize("step", ["__init__", "to"])
def test_a_model_too_large_is_named(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def allocate(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(BPR, step, allocate)
    with pytest.raises(ValueError, match=r"BPR does not fit into memory \(CUDA out of memory"):
        run_recbole_llm("BPR", "tiny", config_dict=QUIET, saved=False)


def test_what_a_model_prints_as_it_is_built_is_in_the_log(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output, to which `recommend` writes its lists, stays empty."""
    config = Config("FEARec", "tiny", config_dict=QUIET)
    data = load_data(config)
    with caplog.at_level("INFO"):
        build_model(config, data.train_dataset)
    assert "modes_q=" in caplog.text and capsys.readouterr().out == ""


@pytest.mark.skipif("SASRecCPR" not in recbole_models(), reason="came with RecBole 1.2.1")
def test_a_model_that_ends_the_process_is_an_error() -> None:
    said = "SASRecCPR cannot be built with these settings; it says: current softmax-cpr code does"
    with pytest.raises(ValueError, match=said):
        run("SASRecCPR", loss_type="BPR")


def test_on_result_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    class Listener:
        @hookimpl
        def on_result(self, config: Any, result: dict[str, Any]) -> None:
            seen.append(result)

    listener = Listener()
    manager = loading.get_plugin_manager()
    manager.register(listener)
    try:
        assert run() == seen[0]
    finally:
        manager.unregister(listener)


def test_a_second_thread_that_trains_is_refused() -> None:
    """Both threads would draw the process's random numbers, so neither would follow its seed."""
    said: list[str] = []

    def other() -> None:
        for train in (run_recbole_llm, objective_function):
            try:
                train(config_dict={**QUIET, "model": "BPR", "dataset": "tiny"})
            except ValueError as error:
                said.append(str(error))

    class Hook:
        @hookimpl
        def on_result(self, config: Any, result: Any) -> None:
            if threading.current_thread() is not threading.main_thread():
                return
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    hook, manager = Hook(), loading.get_plugin_manager()
    manager.register(hook)
    try:
        run()
    finally:
        manager.unregister(hook)
    assert len(said) == 2 and all(s.startswith("another thread of this proc") for s in said)


def test_an_unknown_data_set_lists_near_matches() -> None:
    with pytest.raises(ValueError, match="dataset 'tinny': the folder.*did you mean 'tiny'"):
        run(dataset="tinny")


@pytest.mark.parametrize(
    ("dataset", "data_path"),
    [("tiny", "dataset/tiny"), ("dataset/tiny", "dataset/"), ("dataset/tiny/", "elsewhere")],
)
def test_a_path_that_is_one_folder_too_deep(dataset: str, data_path: str) -> None:
    with pytest.raises(ValueError, match="is there: write --dataset=tiny --data_path=dataset$"):
        run(dataset=dataset, data_path=data_path)


def test_a_path_from_inside_the_data_sets_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path("dataset") / "tiny")
    with pytest.raises(ValueError, match=r"write --dataset=tiny --data_path=\.\.$"):
        run(dataset="tiny", data_path=".")


def test_files_are_no_data_sets_to_be_meant() -> None:
    (Path("dataset") / "tinny.txt").touch()
    with pytest.raises(ValueError, match="did you mean 'tiny'\\?"):
        run(dataset="tinny")


def test_a_data_set_without_its_file() -> None:
    (Path("dataset") / "tiny" / "tiny.inter").unlink()
    with pytest.raises(ValueError, match=r"tiny\.inter' does not exist"):
        run()


def test_a_sequential_model_without_time() -> None:
    file = Path("dataset") / "tiny" / "tiny.inter"
    file.write_text(file.read_text().replace("timestamp:float", "when:float"))
    with pytest.raises(
        ValueError, match=r"no column 'timestamp' \(TIME_FIELD\).*--TIME_FIELD=…, or .*AlphaRec"
    ):
        run("SASRec")


def test_a_split_that_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="no interactions are left"):
        run(user_inter_num_interval="[1000,inf)")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_or_missing_checkpoint(content: bytes | None) -> None:
    message = "does not exist"
    if content is not None:
        Path("x.pth").write_bytes(content)
        message = "cannot be read.*damaged"
    with pytest.raises(ValueError, match=f"checkpoint 'x.pth' {message}"):
        load_data_and_model("x.pth")


def test_a_checkpoint_of_something_else() -> None:
    torch.save({"weights": torch.zeros(1)}, "x.pth")
    with pytest.raises(ValueError, match="holds no configuration"):
        load_data_and_model("x.pth")


def test_a_truncated_checkpoint() -> None:
    file = Path(run()["checkpoint"])
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_data_and_model(str(file))


def test_an_unknown_key_warns_in_the_run(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run(lerning_rate=0.1)
    assert "did you mean 'learning_rate'" in caplog.text

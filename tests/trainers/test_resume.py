"""A stopped run resumes as if it had not been stopped; other settings or data are refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from made_pictures import picture
from recbole.model.general_recommender import BPR

from recbole_llm.core.checkpoints.checkpoint import STOPPED, load_checkpoint, write_checkpoint
from recbole_llm.core.plugins.loading import get_plugins, get_registry
from recbole_llm.core.plugins.registry import EncoderSpec, ModelSpec, Registered
from recbole_llm.quick_start import run_recbole_llm
from recbole_llm.tasks.compare.child import Scores
from recbole_llm.tasks.zero_shot.run import zero_shot
from recbole_llm.testing import write_tiny_dataset
from recbole_llm.trainers.engine import EngineMixin
from recbole_llm.trainers.resume_point import part_file
from recbole_llm.trainers.stock import NCLTrainer, Trainer, XGBoostTrainer

POINTS = Path(__file__).parents[1] / "campaigns" / "kill_points.py"
QUIET = {
    "data_path": "dataset",
    "epochs": 4,
    "train_batch_size": 128,
    "metrics": ["NDCG"],
    "valid_metric": "NDCG@10",
    "show_progress": False,
}
SetStop = Callable[[int | None], None]


class Stop(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture
def stop_at_batch(monkeypatch: pytest.MonkeyPatch) -> SetStop:
    """``stop_at_batch(n)`` makes BPR's n-th batch from now on raise `Stop`; None makes none."""
    write_tiny_dataset("dataset")
    loss = BPR.calculate_loss
    batches_to_stop: int | None = None

    def calculate_loss(self: Any, interaction: Any) -> Any:
        nonlocal batches_to_stop
        if batches_to_stop is not None:
            batches_to_stop -= 1
            if batches_to_stop == 0:
                raise Stop
        return loss(self, interaction)

    def set_stop(number: int | None) -> None:
        nonlocal batches_to_stop
        batches_to_stop = number

    monkeypatch.setattr(BPR, "calculate_loss", calculate_loss)
    return set_stop


def run(**changes: Any) -> dict[str, Any]:
    return run_recbole_llm("BPR", "tiny", config_dict={**QUIET, **changes})


def run_until_batch(stop_at_batch: SetStop, batch: int = 10, **changes: Any) -> str:
    """Stop a run at a batch, of which an epoch has four; return the file that the run leaves."""
    stop_at_batch(batch)
    with pytest.raises(Stop):
        run(checkpoint_dir="stopped", **changes)
    stop_at_batch(None)
    (last_file,) = Path("stopped").glob("*-last.pth")
    return str(last_file)


@pytest.fixture
def last_file(stop_at_batch: SetStop) -> str:
    return run_until_batch(stop_at_batch)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("batch", [2, 5, 10])  # in the first epoch, between epochs, in the third
def test_a_run_stopped_in_an_epoch_ends_as_the_whole_one(
    stop_at_batch: SetStop, batch: int
) -> None:
    whole = run()
    again = run(checkpoint_dir="stopped", resume=run_until_batch(stop_at_batch, batch))
    states = [load_checkpoint(result.pop("checkpoint")) for result in (whole, again)]
    assert again == whole
    assert same(states[0]["state_dict"], states[1]["state_dict"])
    assert "resume" not in states[1]["config"]
    assert [f.suffix for f in Path("stopped").iterdir()] == [".pth"]  # nothing else is left


@pytest.mark.parametrize("batch", [6, 10, 22])  # an epoch has four: in the 2nd, 3rd and 6th
def test_the_report_of_a_resumed_run_covers_the_epochs_before_the_stop(
    stop_at_batch: SetStop, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """The best epoch may be before the stop, and the stopped epoch may be without validation."""
    reports = []
    for resume in (False, True):
        scores = iter([0.2, 0.3, 0.1])
        monkeypatch.setattr(EngineMixin, "_validate", lambda *_, s=scores, **__: (next(s), {}))
        keys = {"epochs": 6, "eval_step": 2}
        last_file = run_until_batch(stop_at_batch, batch, **keys) if resume else None
        run(**keys, checkpoint_dir="stopped", resume=last_file, output="result.json")
        reports.append(json.loads(Path("result.json").read_text()))
    (whole,), (resumed,) = (report["trainings"] for report in reports)
    assert reports[1]["best_epoch"] == reports[0]["best_epoch"] == 4
    assert [(e, s) for e, _, s in resumed["curve"]] == [(2, 0.2), (4, 0.3), (6, 0.1)]
    assert len(whole["curve"]) == 3 and resumed["epochs"] == 6
    seconds = [seconds for _, seconds, _ in resumed["curve"]]
    assert seconds == sorted(seconds) and reports[1]["seconds"]["training"] > 0


class OwnLoop(Trainer):
    """A plugin's trainer with a loop of its own over batches."""

    trained: ClassVar[list[int]] = []  # epochs

    def train_batches(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> float:
        self.trained.append(epoch_idx)
        loss_of, total = self.shared(self.model.calculate_loss), 0.0
        for batch in train_data:
            self.optimizer.zero_grad()
            loss = loss_of(batch.to(self.device))
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total


def test_a_trainer_with_its_own_loop_is_resumed_and_reported_as_others(
    stop_at_batch: SetStop, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run()
    spec = ModelSpec("BPR", BPR, trainer=OwnLoop)
    monkeypatch.setitem(get_registry().tables[ModelSpec], "BPR", Registered(spec, "test"))
    again = run(
        checkpoint_dir="stopped", resume=run_until_batch(stop_at_batch), output="result.json"
    )
    states = [load_checkpoint(result.pop("checkpoint")) for result in (whole, again)]
    assert again == whole and same(states[0]["state_dict"], states[1]["state_dict"])
    report = json.loads(Path("result.json").read_text())
    assert OwnLoop.trained == [0, 1, 2, 2, 3]
    assert report["trainings"][0]["epochs"] == 4 and report["seconds"]["training"] > 0


def test_a_score_that_a_resumed_run_repeats_is_told_to_plugins_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run may be stopped after a validation, but before the run's state is saved."""
    write_tiny_dataset("dataset")

    def stop(self: EngineMixin) -> None:
        if self.progress.trainings[-1].best_epoch == 2:
            raise Stop

    keys = {"checkpoint_dir": "stopped", "epochs": 3, "learning_rate": 0.05}
    get_plugins().register(Scores("scores.txt"), "scores")
    try:
        with monkeypatch.context() as patch, pytest.raises(Stop):
            patch.setattr(EngineMixin, "on_improvement", stop)
            run(**keys)
        first = Path("scores.txt").read_text().splitlines()
        (last_file,) = Path("stopped").glob("*-last.pth")
        run(**keys, resume=str(last_file), output="result.json")
    finally:
        get_plugins().manager.unregister(name="scores")
    (training,) = json.loads(Path("result.json").read_text())["trainings"]
    scores = [float(line) for line in Path("scores.txt").read_text().splitlines()]
    assert len(first) == 2 and scores == [score for *_, score in training["curve"]]


def test_the_log_says_how_to_resume_and_from_where(
    stop_at_batch: SetStop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    last_file = run_until_batch(stop_at_batch)
    text = re.sub(r"\x1b\[[\d;]*m", "", caplog.text)
    assert text.count("If this run is stopped, the same command with --resume=" + last_file) == 1
    caplog.clear()
    run(checkpoint_dir="stopped", resume=last_file)
    text = re.sub(r"\x1b\[[\d;]*m", "", caplog.text)
    assert re.search(
        f"Resumed from {last_file}: epoch 3 is next, best so far NDCG@10 0.\\d+\n", text
    )


@pytest.mark.parametrize(("changes", "message"), [
    ({"learning_rate": 0.5}, r"learning_rate: 0.001 \(now 0.5\); repeat that run's command"),
    ({"seed": 1, "epochs": 9, "topk": [10, 5], "weight_decay": 1}, "epochs: 4 .* and 1 more"),
    ({"worker": 2}, r"is of a run with worker: 0 \(now 2\); repeat that run's command"),
    ({"model": "LightGCN"}, r"is of a run with model: 'BPR' \(now 'LightGCN'\); repeat"),
    ({"dataset": "ml-100k"}, r"is of a run with dataset: 'tiny' \(now 'ml-100k'\); repeat"),
])  # fmt: skip
def test_a_run_of_other_settings_is_refused_before_the_data_is_read(
    last_file: str, changes: dict[str, Any], message: str
) -> None:
    given = {"model": "BPR", "dataset": "tiny", **QUIET, "data_path": "none", **changes}
    with pytest.raises(ValueError, match=f"resume: '{last_file}'.*{message}"):
        run_recbole_llm(config_dict={**given, "resume": last_file})


def test_folders_and_what_is_shown_may_change(last_file: str) -> None:
    Path("dataset").rename("moved")
    Path("stopped").rename("kept")
    resume = last_file.replace("stopped", "kept")
    run(data_path="moved", checkpoint_dir="elsewhere", show_progress=True, resume=resume)
    assert list(Path("kept").glob("*-last.pth")) == []


def test_the_checkpoint_of_a_model_is_refused(last_file: str) -> None:
    with pytest.raises(ValueError, match="holds a model but not where its run stopped"):
        run(resume=last_file.replace("-last", ""))
    with pytest.raises(ValueError, match="checkpoint 'none.pth' does not exist"):
        run(resume="none.pth")


def test_a_file_without_its_best_weights_is_refused(last_file: str) -> None:
    Path(last_file.replace("-last", "")).unlink()
    with pytest.raises(ValueError, match="the best weights of '.*', is gone; start anew"):
        run(resume=last_file)


@pytest.mark.parametrize(("change", "message"), [
    ({"exp_avg": torch.zeros(1)}, r"exp_avg \(1,\) of a parameter \(41, 64\)"),
    ({"exp_avg_sq": "none"}, "'str' object has no attribute 'shape'"),
    (None, "'exp_avg'"),
])  # fmt: skip
def test_an_optimizers_state_that_does_not_fit_is_refused(
    last_file: str, change: dict[str, Any] | None, message: str
) -> None:
    """Torch's fused step would crash the process."""
    state = load_checkpoint(last_file)
    moments = state["optimizer"]["state"]
    moments[0] = {} if change is None else {**moments[0], **change}
    write_checkpoint(state, last_file)
    with pytest.raises(ValueError, match=f"^resume: '{last_file}' holds .*{message}.*start anew$"):
        run(resume=last_file)
    del state["optimizer"]["state"]
    write_checkpoint(state, last_file)
    with pytest.raises(ValueError, match=f"^resume: '{last_file}' holds an optimizer's state"):
        run(resume=last_file)


@pytest.mark.parametrize("change", ["row", "time", "rating", "new item"])
def test_a_run_on_other_data_is_refused(last_file: str, change: str) -> None:
    path = Path("dataset/tiny/tiny.inter")
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    values = [row.split("\t") for row in rows]
    names = [field.split(":")[0] for field in header.split("\t")]
    if change == "row":
        del values[-1]  # all ids stay
    elif change == "new item":  # the model's tables have another shape
        values[0][names.index("item_id")] = "new"
    else:
        column = names.index("timestamp" if change == "time" else "rating")
        values[0][column], values[1][column] = values[1][column], "7"
    text = "\n".join([header, *("\t".join(row) for row in values), ""])
    path.write_text(text, encoding="utf-8")
    message = f"resume: '{last_file}' is of a run on other data: files or"
    with pytest.raises(ValueError, match=message):
        run(resume=last_file)


class Seeing:
    """An encoder whose vectors are the pixels of pictures."""

    fingerprint, reads_text = "seeing", False

    def encode_contents(self, texts: Any, images: Any) -> Any:
        return np.stack([np.asarray(image, np.float32).ravel() for image in images])


def draw(seed: int) -> None:
    Path("dataset/tiny/images").mkdir(exist_ok=True)
    for i in range(60):
        picture(seed + i, size=(9, 9)).save(f"dataset/tiny/images/i{i}.png")


@pytest.mark.parametrize("reads", [{"item_init": "llm"}, {"metrics": ["NDCG", "Diversity"]}])
def test_a_run_on_other_pictures_is_refused(
    stop_at_batch: SetStop, monkeypatch: pytest.MonkeyPatch, reads: dict[str, Any]
) -> None:
    spec = EncoderSpec("seeing", lambda config: Seeing())
    monkeypatch.setitem(get_registry().tables[EncoderSpec], "seeing", Registered(spec, "test"))
    keys = {**reads, "encoder": "seeing", "item_feature": "item_image", "embedding_cache_dir": "c"}
    draw(0)
    last_file = run_until_batch(stop_at_batch, **keys)
    draw(100)
    message = f"resume: '{last_file}' is of a run on other data: files or"
    with pytest.raises(ValueError, match=message):
        run(resume=last_file, **keys)
    draw(0)
    assert run(resume=last_file, **keys)["checkpoint"]


def test_files_that_no_run_reads_may_change(last_file: str) -> None:
    Path("dataset/tiny/tiny.txt").write_text("a note")
    assert run(resume=last_file)["checkpoint"]


def test_a_resumed_run_writes_in_the_folder_of_its_file(last_file: str) -> None:
    content = load_checkpoint(last_file)
    content[STOPPED]["file"] = "../outside.pth"
    write_checkpoint(content, last_file)
    assert Path(run(resume=last_file)["checkpoint"]) == Path("stopped/outside.pth")


def test_the_time_before_the_stop_counts(last_file: str) -> None:
    content = load_checkpoint(last_file)
    content[STOPPED]["trainings"][-1]["valid_seconds"] = 1000.0
    write_checkpoint(content, last_file)
    run(resume=last_file, output="result.json")
    seconds = json.loads(Path("result.json").read_text())["seconds"]
    assert 1000 <= seconds["validation"] < seconds["all"] < 2000


def test_without_saving_no_file_to_resume_is_kept(stop_at_batch: SetStop) -> None:
    run_recbole_llm("BPR", "tiny", config_dict=QUIET, saved=False)
    assert list(Path("saved").iterdir()) == []


def test_runs_that_cannot_be_resumed_are_refused(last_file: str) -> None:
    with pytest.raises(ValueError, match="resume: zero-shot runs cannot be resumed"):
        zero_shot(["tiny"], "other", config_dict={**QUIET, "resume": last_file})
    trees = SimpleNamespace(config={"model": "XGBoost"})
    with pytest.raises(ValueError, match="resume: runs of XGBoost cannot be resumed"):
        XGBoostTrainer.resume_run(trees, last_file)
    assert NCLTrainer.keep_last_file(SimpleNamespace()) is None


# --- phases ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [("first", 0), ("first", 2), ("second", 0), ("second", 1)])
def test_phases_of_a_stopped_run_end_as_those_of_the_whole_one(
    stage: Any, at: tuple[str, int]
) -> None:
    """The run stops after an epoch, which may be the last one of the first phase."""
    run = stage()
    whole = run.trainer()
    expected = whole.fit(run.train, run.valid, verbose=False)
    run = stage()
    stopping = run.trainer()
    stopping.keep_last_file()

    def stop(epoch: int, score: float) -> None:
        if (stopping.model.phase, epoch) == at:
            raise Stop

    with pytest.raises(Stop):
        stopping.fit(run.train, run.valid, verbose=False, callback_fn=stop)
    torch.rand(7)  # other random numbers have been drawn in between
    run = stage()
    again = run.trainer(seed=9)
    again.resume_checkpoint(stopping.last_file)
    assert again.fit(run.train, run.valid, verbose=False) == expected
    assert same(again.model.state_dict(), whole.model.state_dict())
    saved = load_checkpoint(again.saved_model_file)["state_dict"]
    assert same(saved, load_checkpoint(part_file(again.saved_model_file, "second"))["state_dict"])


def test_what_a_model_counts_is_restored(stage: Any) -> None:
    """Such counts, the steps of a VAE for example, are in no state_dict."""
    run, seen = stage(), []
    stopping, again = run.trainer(), run.trainer()
    stopping.keep_last_file()
    stopping.model.counted = again.model.counted = 0

    def stop(epoch: int, score: float) -> None:
        stopping.model.counted += 1
        if epoch == 1:
            raise Stop

    with pytest.raises(Stop):
        stopping.fit(run.train, run.valid, verbose=False, callback_fn=stop)
    again.resume_run(str(stopping.last_file))
    again.fit(
        run.train, run.valid, verbose=False, callback_fn=lambda *_: seen.append(again.model.counted)
    )
    assert set(seen) == {1}  # the count after the epoch before the stopped one


# --- whole runs, killed ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("case", [
    "SASRec, sequences", "SASRec, prefixes", "PAD", "LLMESR, exact", "LLMESR, bank", "AlphaRec",
    "BPR", "DIN", "MultiVAE", "RecVAE",
])  # fmt: skip
def test_killed_runs_end_as_the_whole_one(case: str) -> None:
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(POINTS.parents[2])}
    command = [sys.executable, str(POINTS), case]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]

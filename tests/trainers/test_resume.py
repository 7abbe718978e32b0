"""A stopped run goes on as if it had not been stopped; what is not its own is refused."""

from __future__ import annotations

import json
import random
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
from torch import nn

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint, save_atomically
from recbole_llm.core.marks import STOPPED
from recbole_llm.core.plugins.loading import get_plugins, get_registry
from recbole_llm.core.plugins.registry import EncoderSpec, ModelSpec
from recbole_llm.quick_start import run_recbole_llm
from recbole_llm.tasks.compare.child import Scores
from recbole_llm.tasks.zero_shot import zero_shot
from recbole_llm.testing import write_tiny_dataset
from recbole_llm.trainers import run_state
from recbole_llm.trainers.engine import EngineMixin
from recbole_llm.trainers.resume import part_file
from recbole_llm.trainers.stock import NCLTrainer, Trainer, XGBoostTrainer

POINTS = Path(__file__).parents[1] / "campaigns" / "kill_points.py"
QUIET = {
    "data_path": "dataset",
    "epochs": 4,
    "train_batch_size": 128,
    "metrics": ["NDCG"],
    "valid_metric": "NDCG@10",
    "log_flops": False,
    "show_progress": False,
}
Break = Callable[[int | None], None]


class Stop(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture
def break_at(monkeypatch: pytest.MonkeyPatch) -> Break:
    """``break_at(n)``: the n-th batch of BPR from now on is not trained; None: all are."""
    write_tiny_dataset("dataset")
    loss, left = BPR.calculate_loss, [-1]

    def calculate_loss(self: Any, interaction: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Stop
        return loss(self, interaction)

    monkeypatch.setattr(BPR, "calculate_loss", calculate_loss)

    def set_number(number: int | None) -> None:
        left[0] = -1 if number is None else number

    return set_number


def run(**changes: Any) -> dict[str, Any]:
    return run_recbole_llm("BPR", "tiny", config_dict={**QUIET, **changes})


def stopped(break_at: Break, batch: int = 10, **changes: Any) -> str:
    """The file that a run leaves which is stopped at a batch; an epoch has four."""
    break_at(batch)
    with pytest.raises(Stop):
        run(checkpoint_dir="stopped", **changes)
    break_at(None)
    (file,) = Path("stopped").glob("*-last.pth")
    return str(file)


@pytest.fixture
def file(break_at: Break) -> str:
    return stopped(break_at)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("batch", [2, 5, 10])  # in the first epoch, at a boundary, inside
def test_a_run_stopped_in_an_epoch_ends_as_the_whole_one(break_at: Break, batch: int) -> None:
    whole = run()
    again = run(checkpoint_dir="stopped", resume=stopped(break_at, batch))
    states = [load_checkpoint(result.pop("checkpoint")) for result in (whole, again)]
    assert again == whole
    assert same(states[0]["state_dict"], states[1]["state_dict"])
    assert "resume" not in states[1]["config"]
    assert [f.suffix for f in Path("stopped").iterdir()] == [".pth"]  # nothing else is left


@pytest.mark.parametrize("batch", [6, 10, 22])  # an epoch has four: in the 2nd, 3rd and 6th
def test_what_is_said_of_a_resumed_run_is_of_the_whole(
    break_at: Break, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """The best epoch may be one before the stop, and the stop one without validation."""
    told = []
    for resume in (False, True):
        scores = iter([0.2, 0.3, 0.1])
        monkeypatch.setattr(EngineMixin, "_validate", lambda *_, s=scores, **__: (next(s), {}))
        keys = {"checkpoint_dir": "stopped", "epochs": 6, "eval_step": 2}
        file = stopped(break_at, batch, epochs=6, eval_step=2) if resume else None
        run(**keys, resume=file, output="result.json")
        told.append(json.loads(Path("result.json").read_text()))
    (straight,), (resumed,) = (result["trainings"] for result in told)
    assert told[1]["best_epoch"] == told[0]["best_epoch"] == 4
    assert [(e, s) for e, _, s in resumed["curve"]] == [(2, 0.2), (4, 0.3), (6, 0.1)]
    assert len(straight["curve"]) == 3 and resumed["epochs"] == 6
    seconds = [seconds for _, seconds, _ in resumed["curve"]]
    assert seconds == sorted(seconds) and told[1]["seconds"]["training"] > 0


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
    break_at: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run()
    own = ModelSpec("BPR", BPR, trainer=OwnLoop)
    monkeypatch.setitem(get_registry().models, "BPR", own)
    again = run(checkpoint_dir="stopped", resume=stopped(break_at), output="result.json")
    states = [load_checkpoint(result.pop("checkpoint")) for result in (whole, again)]
    assert again == whole and same(states[0]["state_dict"], states[1]["state_dict"])
    told = json.loads(Path("result.json").read_text())
    assert OwnLoop.trained == [0, 1, 2, 2, 3]
    assert told["trainings"][0]["epochs"] == 4 and told["seconds"]["training"] > 0


def test_a_score_that_a_resumed_run_gives_again_is_heard_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run may be stopped after a validation, but before its state is kept."""
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
        (file,) = Path("stopped").glob("*-last.pth")
        run(**keys, resume=str(file), output="result.json")
    finally:
        get_plugins().manager.unregister(name="scores")
    (training,) = json.loads(Path("result.json").read_text())["trainings"]
    scores = [float(line) for line in Path("scores.txt").read_text().splitlines()]
    assert len(first) == 2 and scores == [score for *_, score in training["curve"]]


def test_the_log_says_how_to_resume_and_from_where(
    break_at: Break, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = stopped(break_at)
    text = re.sub(r"\x1b\[[\d;]*m", "", caplog.text)
    assert text.count("If this run is stopped, the same command with --resume=" + file) == 1
    caplog.clear()
    run(checkpoint_dir="stopped", resume=file)
    text = re.sub(r"\x1b\[[\d;]*m", "", caplog.text)
    assert re.search(f"Resumed from {file}: epoch 3 is next, best so far NDCG@10 0.\\d+\n", text)


@pytest.mark.parametrize(("changes", "message"), [
    ({"learning_rate": 0.5}, r"learning_rate: 0.001 \(now 0.5\); repeat that run's command"),
    ({"seed": 1, "epochs": 9, "topk": [10, 5], "weight_decay": 1}, "epochs: 4 .* and 1 more"),
    ({"worker": 2}, r"is of a run with worker: 0 \(now 2\); repeat that run's command"),
    ({"model": "LightGCN"}, r"is of a run with model: 'BPR' \(now 'LightGCN'\); repeat"),
    ({"dataset": "ml-100k"}, r"is of a run with dataset: 'tiny' \(now 'ml-100k'\); repeat"),
])  # fmt: skip
def test_other_runs_are_refused_before_the_data_is_read(
    file: str, changes: dict[str, Any], message: str
) -> None:
    given = {"model": "BPR", "dataset": "tiny", **QUIET, "data_path": "none", **changes}
    with pytest.raises(ValueError, match=f"resume: '{file}'.*{message}"):
        run_recbole_llm(config_dict={**given, "resume": file})


def test_where_files_lie_and_what_is_shown_may_change(file: str) -> None:
    Path("dataset").rename("moved")
    Path("stopped").rename("kept")
    resume = file.replace("stopped", "kept")
    run(data_path="moved", checkpoint_dir="elsewhere", show_progress=True, resume=resume)
    assert list(Path("kept").glob("*-last.pth")) == []


def test_a_checkpoint_of_a_model_does_not_say_where_a_run_stood(file: str) -> None:
    with pytest.raises(ValueError, match="holds a model but not where its run stood"):
        run(resume=file.replace("-last", ""))
    with pytest.raises(ValueError, match="checkpoint 'none.pth' does not exist"):
        run(resume="none.pth")


def test_the_best_weights_belong_to_it(file: str) -> None:
    Path(file.replace("-last", "")).unlink()
    with pytest.raises(ValueError, match="the best weights of '.*', is gone; start anew"):
        run(resume=file)


@pytest.mark.parametrize("change", ["row", "time", "rating"])
def test_a_run_on_other_data_is_refused(file: str, change: str) -> None:
    path = Path("dataset/tiny/tiny.inter")
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    values = [row.split("\t") for row in rows]
    names = [field.split(":")[0] for field in header.split("\t")]
    if change == "row":
        del values[-1]  # all ids stay
    else:
        column = names.index("timestamp" if change == "time" else "rating")
        values[0][column], values[1][column] = values[1][column], "7"
    text = "\n".join([header, *("\t".join(row) for row in values), ""])
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"resume: '{file}' is of a run on other data, since the"):
        run(resume=file)


class Seeing:
    """Pixels of pictures."""

    fingerprint, reads_text = "seeing", False

    def encode_contents(self, texts: Any, images: Any) -> Any:
        return np.stack([np.asarray(image, np.float32).ravel() for image in images])


def draw(seed: int) -> None:
    Path("dataset/tiny/images").mkdir(exist_ok=True)
    for i in range(60):
        picture(seed + i, size=(9, 9)).save(f"dataset/tiny/images/i{i}.png")


@pytest.mark.parametrize("reads", [{"item_init": "llm"}, {"metrics": ["NDCG", "Diversity"]}])
def test_a_run_on_other_pictures_is_refused(
    break_at: Break, monkeypatch: pytest.MonkeyPatch, reads: dict[str, Any]
) -> None:
    spec = EncoderSpec("seeing", lambda config: Seeing())
    monkeypatch.setitem(get_registry().encoders, "seeing", spec)
    keys = {**reads, "encoder": "seeing", "item_feature": "item_image", "embedding_cache_dir": "c"}
    draw(0)
    file = stopped(break_at, **keys)
    draw(100)
    with pytest.raises(ValueError, match=f"resume: '{file}' is of a run on other data, since the"):
        run(resume=file, **keys)
    draw(0)
    assert run(resume=file, **keys)["checkpoint"]


def test_files_that_no_run_reads_may_change(file: str) -> None:
    Path("dataset/tiny/tiny.txt").write_text("a note")
    assert run(resume=file)["checkpoint"]


def test_it_names_no_file_outside_its_folder(file: str) -> None:
    content = load_checkpoint(file)
    content[STOPPED]["file"] = "../outside.pth"
    save_atomically(content, file)
    assert Path(run(resume=file)["checkpoint"]) == Path("stopped/outside.pth")


def test_the_time_before_the_stop_counts(file: str) -> None:
    content = load_checkpoint(file)
    content[STOPPED]["trainings"][-1]["valid_seconds"] = 1000.0
    save_atomically(content, file)
    run(resume=file, output="result.json")
    seconds = json.loads(Path("result.json").read_text())["seconds"]
    assert 1000 <= seconds["validation"] < seconds["all"] < 2000


def test_without_saving_nothing_is_kept(break_at: Break) -> None:
    run_recbole_llm("BPR", "tiny", config_dict=QUIET, saved=False)
    assert list(Path("saved").iterdir()) == []


def test_what_cannot_be_resumed_says_so(file: str) -> None:
    with pytest.raises(ValueError, match="resume: zero-shot runs cannot be resumed"):
        zero_shot(["tiny"], "other", config_dict={**QUIET, "resume": file})
    trees = SimpleNamespace(config={"model": "XGBoost"})
    with pytest.raises(ValueError, match="resume: runs of XGBoost cannot be resumed"):
        XGBoostTrainer.resume_run(trees, file)
    assert NCLTrainer.keep_last(SimpleNamespace()) is None


# --- phases ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [("first", 0), ("first", 2), ("second", 0), ("second", 1)])
def test_phases_end_as_those_of_the_whole_run(stage: Any, at: tuple[str, int]) -> None:
    """Stopped after an epoch; the first phase's last one is a phase's boundary."""
    run = stage()
    whole = run.trainer()
    expected = whole.fit(run.train, run.valid, verbose=False)
    run = stage()
    stopping = run.trainer()
    stopping.keep_last()

    def stop(epoch: int, score: float) -> None:
        if (stopping.model.phase, epoch) == at:
            raise Stop

    with pytest.raises(Stop):
        stopping.fit(run.train, run.valid, verbose=False, callback_fn=stop)
    torch.rand(7)  # whatever else has happened to the random numbers
    run = stage()
    again = run.trainer(seed=9)
    again.resume_checkpoint(stopping.last_file)
    assert again.fit(run.train, run.valid, verbose=False) == expected
    assert same(again.model.state_dict(), whole.model.state_dict())
    saved = load_checkpoint(again.saved_model_file)["state_dict"]
    assert same(saved, load_checkpoint(part_file(again.saved_model_file, "second"))["state_dict"])


def test_what_a_model_counts_comes_back(stage: Any) -> None:
    """In no state_dict, such as the steps of a VAE."""
    run, seen = stage(), []
    stopping, again = run.trainer(), run.trainer()
    stopping.keep_last()
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
    assert set(seen) == {1}  # of the epoch before the one that was stopped


# --- states ----------------------------------------------------------------------------------


def draws(loaders: list[Any]) -> list[float]:
    own = [torch.rand((), generator=loader.generator).item() for loader in loaders]
    gauss = [random.gauss(0, 1), np.random.standard_normal()]  # each keeps a second one
    return [*own, *gauss, random.random(), np.random.random(), torch.rand(()).item()]


def test_every_source_of_random_numbers_comes_back(tmp_path: Path) -> None:
    def loader(seed: int) -> Any:
        return SimpleNamespace(generator=torch.Generator().manual_seed(seed))

    parts = SimpleNamespace(general_dataloader=loader(1), kg_dataloader=loader(2))
    loaders = [parts, None, loader(3)]
    flat = [parts.general_dataloader, parts.kg_dataloader, loaders[2]]
    draws(flat)
    save_atomically(
        {"config": {}, "random": run_state.random_state(loaders)}, tmp_path / "state.pth"
    )
    expected = [draws(flat), draws(flat)]
    run_state.set_random_state(load_checkpoint(tmp_path / "state.pth")["random"], loaders)
    assert [draws(flat), draws(flat)] == expected


class Counting(nn.Module):
    other_parameter_name = ("kept",)

    def __init__(self) -> None:
        super().__init__()
        self.update, self.rate, self.kept = 0, 0.5, 1
        self.adjacency = torch.eye(2).to_sparse()
        self.order, self.names = np.arange(4), np.array(["a"])
        self.heat, self.wide, self.on = 1, np.zeros(2, np.longdouble), True
        self._cache = torch.zeros(2)
        self.inner = nn.Linear(2, 2)
        self.inner.register_buffer("bank", torch.zeros(3), persistent=False)
        self.inner.register_buffer("constant", torch.ones(3), persistent=False)


def test_what_training_changes_beyond_the_state_dict(tmp_path: Path) -> None:
    model, fresh = Counting(), Counting()
    before = run_state.marks(model)
    assert run_state.changed(model, before) == []
    model.update += 3
    model.kept, model._cache = 2, torch.ones(2)  # in other_parameter; made anew when needed
    model.adjacency = (2 * torch.eye(2)).to_sparse()
    model.order[:2], model.names[0] = [1, 0], "b"
    model.graph = torch.eye(2)  # made in training
    model.heat, model.on = np.float64(0.5), False
    model.wide[0] = 1
    model.inner.bank[1] = 7
    found = run_state.changed(model, before)
    own = [("", "update"), ("", "adjacency"), ("", "order"), ("", "heat"), ("inner", "bank")]
    assert [key[:2] for key in found] == own
    save_atomically({"config": {}, "found": found}, tmp_path / "state.pth")
    run_state.restore_changed(fresh, load_checkpoint(tmp_path / "state.pth")["found"])
    assert fresh.update == 3 and fresh.adjacency.to_dense()[0, 0] == 2
    assert fresh.heat == 0.5
    assert isinstance(fresh.order, np.ndarray) and fresh.order.tolist() == [1, 0, 2, 3]
    assert fresh.inner.bank.tolist() == [0, 7, 0] and "bank" in fresh.inner._buffers
    with pytest.raises(ValueError, match="resume: the model has no 'inner.weird' of this kind"):
        run_state.restore_changed(fresh, [("inner", "weird", 1)])


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

"""The trainer that ``get_trainer`` gives is the trainer that ``run`` uses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recbole.trainer
import torch
from recbole.utils import get_trainer as get_recbole_trainer
from torch.optim.optimizer import register_optimizer_step_post_hook

import recbole_llm
from recbole_llm import ModelSpec, get_trainer, load_data_and_model, run_recbole_llm
from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_model, get_registry, list_models
from recbole_llm.core.plugins.registry import Registered
from recbole_llm.core.plugins.stock import recbole_models
from recbole_llm.steps import build_model, build_trainer, load_data, start
from recbole_llm.trainers import replicas, stock
from recbole_llm.trainers.engine import EngineMixin
from recbole_llm.trainers.replicas import ReplicaTrainer

pytestmark = pytest.mark.usefixtures("tiny")
QUIET = {"epochs": 1, "show_progress": False, "data_path": "dataset"}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Classes of the trainers that train."""
    classes: list[type] = []
    fit = EngineMixin.fit

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        classes.append(type(self))
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(EngineMixin, "fit", watched)
    return classes


@pytest.mark.parametrize("name", ["BPR", "CKE", "Pop", "MKR", "RaCT"])
def test_run_uses_the_trainer_that_get_trainer_gives(name: str, used: list[type]) -> None:
    run_recbole_llm(name, "tiny", config_dict={**QUIET, "pretrain_epochs": 1, "save_step": 1})
    assert used == [get_trainer(name)]
    assert get_trainer(name).__module__.startswith("recbole_llm.trainers")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*recbole_models(), *list_models()}))
def test_every_model_has_an_explicit_subclass_of_recboles_trainer(name: str) -> None:
    try:
        model = get_model(name)
    except ValueError as error:
        assert "not installed here" in str(error)
        return
    trainer = get_trainer(name)
    assert trainer is getattr(__import__(trainer.__module__, fromlist=["x"]), trainer.__name__)
    assert issubclass(trainer, EngineMixin)
    assert issubclass(trainer, get_recbole_trainer(model.type, name))


def test_every_trainer_that_recbole_has_for_a_model_has_its_subclass() -> None:
    """This includes the trainers of models that cannot be imported here."""
    own = [getattr(recbole.trainer, f"{name}Trainer", None) for name in recbole_models()]
    theirs = {cls for cls in own if cls is not None}
    theirs |= {getattr(recbole.trainer, n) for n in ("Trainer", "KGTrainer", "TraditionalTrainer")}
    for base in theirs:
        trainer = getattr(stock, base.__name__)
        assert issubclass(trainer, base) and issubclass(trainer, EngineMixin)


class Noted:
    """A stand-in for the replicas that counts the batches whose loss it is given."""

    batches = 0

    def __call__(self, loss: Callable[..., Any], interaction: Any) -> Any:
        self.batches += 1
        return loss(interaction)


@pytest.mark.parametrize("name", ["BPR", "CKE", "MKR", "RecVAE", "NCL", "RaCT"])
def test_every_step_is_by_a_loss_that_processes_can_share(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some trainers of RecBole call their loop with several losses, others have their own loop."""
    keys = {**QUIET, "pretrain_epochs": 1, "save_step": 1, "num_clusters": 4}
    config = Config(name, "tiny", config_dict=keys)
    start(config, trains=True)
    train_data = load_data(config)[1]
    trainer: Any = build_trainer(config, build_model(config, train_data.dataset))
    monkeypatch.setattr(replicas, "_row_weight", lambda *_: 1)
    trainer._replicas, steps = Noted(), []
    noted = trainer._replicas
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    try:
        trainer.fit(train_data, saved=False)
    finally:
        hook.remove()
    assert noted.batches == len(steps) > 0
    assert trainer._replicas is None


def test_more_clusters_than_items_are_refused() -> None:
    with pytest.raises(
        ValueError, match="num_clusters: 1000 clusters are more than the 40 users or items; set --n"
    ):
        run_recbole_llm("NCL", "tiny", config_dict=QUIET)


def test_kgats_losses_can_be_shared() -> None:
    """KGAT's package is not installed for tests, so this test only reads the trainer's class."""
    bases = stock.KGATTrainer.__mro__
    assert bases.index(recbole.trainer.KGATTrainer) < bases.index(ReplicaTrainer)


S3REC = {
    **QUIET, "MAX_ITEM_LIST_LENGTH": 5, "hidden_size": 8, "n_layers": 1, "item_attribute": "genre",
}  # fmt: skip
RACT = {**QUIET, "mlp_hidden_size": [8], "latent_dimension": 4, "metrics_k": 5}


def test_a_pretraining_stage_leaves_plain_data_from_which_the_next_one_starts() -> None:
    keys = {**S3REC, "pretrain_epochs": 1}
    first = run_recbole_llm("S3Rec", "tiny", config_dict=keys)["checkpoint"]
    assert load_checkpoint(first)["epoch"] == 0
    keys |= {"train_stage": "finetune", "pre_model_path": first, "train_neg_sample_args": None}
    done = run_recbole_llm("S3Rec", "tiny", config_dict=keys)
    assert done["best_valid_result"]
    Path(first).unlink()  # a trained model no longer needs it
    _, again, *_ = load_data_and_model(done["checkpoint"])
    saved = load_checkpoint(done["checkpoint"])["state_dict"]
    assert all(torch.equal(saved[name], value) for name, value in again.state_dict().items())


def test_the_last_epoch_of_a_pretraining_stage_is_kept() -> None:
    """RecBole saves only every `save_step`-th epoch."""
    keys = {**S3REC, "pretrain_epochs": 3, "save_step": 2}
    last = Path(run_recbole_llm("S3Rec", "tiny", config_dict=keys)["checkpoint"])
    assert load_checkpoint(last)["epoch"] == 2
    second = last.with_name(f"{last.stem}-2.pth")
    assert sorted(Path("saved").iterdir()) == sorted([second, last])
    assert load_checkpoint(second)["epoch"] == 1


def test_no_stage_overwrites_another() -> None:
    """RecBole names the files of stages only by model, data set and epochs."""
    keys, files = {**RACT, "pretrain_epochs": 2}, []
    for stage in ("actor_pretrain", "critic_pretrain"):
        more = {"train_stage": stage, "pre_model_path": files[0] if files else ""}
        files.append(run_recbole_llm("RaCT", "tiny", config_dict={**keys, **more})["checkpoint"])
    then = [load_checkpoint(file)["config"]["train_stage"] for file in files]
    assert then == ["actor_pretrain", "critic_pretrain"]


def test_a_pretraining_stage_says_what_it_is_and_what_comes_next(
    own_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {**S3REC, "pretrain_epochs": 2}
    file = run_recbole_llm("S3Rec", "tiny", config_dict=keys)["checkpoint"]
    said = capsys.readouterr().out
    assert "epoch     the last of 2; train_stage=pretrain is without validation\n" in said
    on = f"--train_stage=finetune --pre_model_path={file}"
    assert f"next         the same command with {on}\n" in said


class Stopped(Exception):
    pass


@pytest.mark.parametrize(("name", "keys"), [("S3Rec", S3REC), ("RaCT", RACT)])
def test_a_stopped_pretraining_goes_on(
    name: str,
    keys: dict[str, Any],
    own_logging: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = {**keys, "pretrain_epochs": 3}
    whole = load_checkpoint(run_recbole_llm(name, "tiny", config_dict=keys)["checkpoint"])
    train = EngineMixin._train_epoch

    def stops(self: Any, data: Any, epoch: int, *args: Any, **kwargs: Any) -> Any:
        if epoch == 1:
            raise Stopped
        return train(self, data, epoch, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(EngineMixin, "_train_epoch", stops)
        run_recbole_llm(name, "tiny", config_dict=keys)
    (last,) = Path("saved").glob("*-last.pth")
    done = run_recbole_llm(name, "tiny", config_dict={**keys, "resume": str(last)})
    assert "the same command without --resume, with --train_stage=" in capsys.readouterr().out
    again = load_checkpoint(done["checkpoint"])
    assert again["epoch"] == 2 and not last.is_file()
    same = (torch.equal(whole["state_dict"][k], v) for k, v in again["state_dict"].items())
    assert all(same)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "epochs: train_stage=pretrain trains for pretrain_epochs, which is 500, and epochs "
         "is for the last stage; add --pretrain_epochs=1"),
        ({"pretrain_epochs": 0}, "pretrain_epochs: expected a whole number of at least 1, got 0"),
        ({"pretrain_epochs": 2, "save_step": 0},
         "save_step: expected a whole number of at least 1, got 0"),
    ],
)  # fmt: skip
def test_epochs_of_a_pretraining_stage(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Config("S3Rec", "tiny", config_dict={**QUIET, **keys})


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        ("S3Rec", {}, "pre_model_path: train_stage=finetune starts from a checkpoint of the "
         "previous stage; name it with --pre_model_path=…"),
        ("RaCT", {"pre_model_path": "x.pth"}, "pre_model_path 'x.pth' does not exist"),
    ],
)  # fmt: skip
def test_a_stage_without_the_one_before(model: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run_recbole_llm(model, "tiny", config_dict={**QUIET, "train_stage": "finetune", **keys})


class Trees(stock.DecisionTreeTrainer):
    """A decision tree's trainer without its library."""

    def _train_at_once(self, *args: Any) -> None:
        pass

    def _valid_epoch(self, *args: Any) -> tuple[float, dict[str, float]]:
        return 0.5, {"auc": 0.5}


class Booster:
    def save_model(self, file: str) -> None:
        Path(file).write_text("tree\n")


def test_a_decision_trees_checkpoint_is_plain_data() -> None:
    keys = {**QUIET, "metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}}
    keys |= {"threshold": {"rating": 3}, "eval_groups": ["users"]}
    config = recbole_llm.Config("DeepFM", "tiny", config_dict=keys)
    trainer = Trees(config, Booster())
    from recbole_llm.steps import load_data

    _, train, valid, _ = load_data(config)
    trainer.fit(train, valid, verbose=False)
    checkpoint = load_checkpoint(trainer.saved_model_file)
    assert bytes(checkpoint["state_dict"].numpy()) == b"tree\n"
    assert checkpoint["best_valid_score"] == 0.5 and checkpoint["other_parameter"] is None
    assert trainer.eval_collector.groups  # from the training data, for the test split


# --- trainers of plugins ---------------------------------------------------------------------


class Theirs(recbole.trainer.Trainer):  # type: ignore[misc]
    """A trainer by a project that knows only RecBole."""


class Ours(stock.Trainer):
    """A trainer that extends the class that this package's documentation names."""


class Epochs(stock.Trainer):
    """A trainer with its loop in `_train_epoch`, as RecBole's trainers have it."""

    def _train_epoch(self, *args: Any, **kwargs: Any) -> float:
        return 0.0


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, type], None]:
    tables = get_registry().tables
    monkeypatch.setitem(tables, ModelSpec, dict(tables[ModelSpec]))

    def add(name: str, trainer: type) -> None:
        model = "recbole.model.general_recommender:BPR"
        tables[ModelSpec][name] = Registered(ModelSpec(name, model, trainer=trainer), "test")

    return add


def test_a_plugins_trainer_is_used(register: Any, used: list[type]) -> None:
    register("WithOurs", Ours)
    run_recbole_llm("WithOurs", "tiny", config_dict={**QUIET, "embedding_size": 8})
    assert used == [Ours] and get_trainer("WithOurs") is Ours


def test_a_plugins_trainer_of_recboles_is_refused_before_the_data_is_loaded(
    register: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("WithTheirs", Theirs)
    monkeypatch.setattr("recbole_llm.steps.prepare_data", lambda *_: pytest.fail("loaded"))
    message = (
        "trainer 'Theirs' of model 'WithTheirs' lacks this.*"
        "let it extend Trainer .* of recbole_llm.trainers.stock in place of"
    )
    with pytest.raises(ValueError, match=message):
        run_recbole_llm("WithTheirs", "tiny", config_dict={**QUIET, "embedding_size": 8})


def test_a_plugins_trainer_that_takes_over_the_epoch_is_refused(register: Any) -> None:
    register("WithEpochs", type("Later", (Epochs,), {}))
    message = (
        "^trainer 'Later' of model 'WithEpochs' overrides _train_epoch, which resuming and reports "
        "depend on; name its method train_batches "
    )
    with pytest.raises(ValueError, match=message):
        get_trainer("WithEpochs")


@pytest.mark.parametrize(
    ("returned", "fault"),
    [
        (None, "returned None"),
        ([1], "returned [1]"),
        ((), "returned ()"),
        (torch.ones(2, requires_grad=True), "returned tensor([1., 1.], requires_grad=True)"),
        (torch.ones(1), "returned a loss without gradients"),
        ((torch.ones(1), torch.ones(())), "returned a loss without gradients"),
    ],
)
def test_what_is_no_loss_is_named(
    monkeypatch: pytest.MonkeyPatch, returned: object, fault: str
) -> None:
    monkeypatch.setattr(get_model("BPR"), "calculate_loss", lambda *_: returned)
    said = f"^{re.escape(f'calculate_loss of BPR {fault}; it is to return a tensor of one number')}"
    with pytest.raises(ValueError, match=said):
        run_recbole_llm("BPR", "tiny", config_dict=QUIET)


def test_a_loss_of_which_a_part_has_no_gradients_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = get_model("BPR").calculate_loss
    parts = lambda *given: (loss(*given), torch.ones(1))  # noqa: E731
    monkeypatch.setattr(get_model("BPR"), "calculate_loss", parts)
    assert "recall@10" in run_recbole_llm("BPR", "tiny", config_dict=QUIET)["test_result"]

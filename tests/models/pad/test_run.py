"""Whole runs of PAD on a tiny data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_llm import get_trainer
from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.config import Config
from recbole_llm.models.pad.settings import PHASES
from recbole_llm.quick_start import load_data_and_model, run_recbole_llm
from recbole_llm.steps import build_model, build_trainer, load_data

pytestmark = pytest.mark.usefixtures("tiny")
Log = Callable[[], str]
SMALL = {
    "encoder": "hash",
    "epochs": 2,
    "stopping_step": 1,
    "hidden_size": 8,
    "inner_size": 16,
    "n_bins": 3,
    "train_batch_size": 256,
    "metrics": ["NDCG"],
    "valid_metric": "NDCG@10",
    "show_progress": False,
}


def run(**changes: Any) -> dict[str, Any]:
    return run_recbole_llm("PAD", "tiny", config_dict={**SMALL, **changes})


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return a function that gives the lines logged since its last call, without colors."""
    caplog.set_level(logging.INFO)

    def read() -> str:
        text = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(r.getMessage() for r in caplog.records))
        caplog.clear()
        return text

    return read


def phases_of(text: str) -> list[str]:
    return re.findall(r"phase \d/3 (\w+):", text)


def test_one_command_runs_the_phases(log: Log) -> None:
    result = run()
    text = log()
    phases = re.findall(r"phase (\d)/3 (\w+): (.+)", text)
    assert [(number, name) for number, name, _ in phases] == list(zip("123", PHASES, strict=True))
    assert "the ID expert learns from CE" in phases[0][2]
    assert "CE + 0.2 * MK-MMD (gaussian)" in phases[1][2]
    assert set(result["test_result"]) == {"ndcg@10"}


def test_a_loaded_model_is_the_trained_one() -> None:
    result = run()
    config, model, _, _, valid, test = load_data_and_model(result["checkpoint"])
    assert model.phase == "disentangle"
    trainer = build_trainer(config, model)
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]
    best = trainer.evaluate(valid, load_best_model=False)
    assert best == result["best_valid_result"]


def test_a_loaded_checkpoint_of_a_phase_scores_as_that_phase() -> None:
    result = run()
    file = result["checkpoint"].replace(".pth", "-align.pth")
    model = load_data_and_model(file)[1].eval()
    assert model.phase == "align"
    assert model.item_vectors().shape[1] == SMALL["hidden_size"]


def test_phases_up_to_pad_pretrained_come_from_the_checkpoint(log: Log) -> None:
    first = run()["checkpoint"]
    log()
    pretrained = first.replace(".pth", "-pretrain.pth")
    again = run(pad_pretrained=pretrained, seed=7, learning_rate=1e-30)
    assert phases_of(log()) == ["align", "disentangle"]
    before = load_checkpoint(pretrained)["state_dict"]
    after = load_checkpoint(again["checkpoint"])["state_dict"]
    for name in before:
        if name.startswith("experts.id."):
            aligned = name.replace("experts.id.items", "experts.id.items.embedding")
            for other in (name, aligned.replace(".id.", ".aligned.")):
                # Steps of 1e-30 change only zeros.
                torch.testing.assert_close(before[name], after[other], rtol=0, atol=1e-20)


def test_a_start_of_items_in_another_order_is_refused_as_such() -> None:
    """The error does not blame the encoder's vectors."""
    pretrained = run()["checkpoint"].replace(".pth", "-pretrain.pth")
    file = Path("dataset/tiny/tiny.inter")
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header, *reversed(rows)]) + "\n")
    with pytest.raises(ValueError, match="pad_pretrained: '.*': the data set .* another order"):
        run(pad_pretrained=pretrained)


def test_what_pad_pretrained_did_not_train_starts_as_the_settings_say() -> None:
    pretrained = run()["checkpoint"].replace(".pth", "-pretrain.pth")
    rest = {"align_epochs": 0, "disentangle_epochs": 0}
    again = run(pad_pretrained=pretrained, seed=7, mo_dnn_layers=2, **rest)
    before, after = (load_checkpoint(f)["state_dict"] for f in (pretrained, again["checkpoint"]))
    assert torch.equal(before["experts.id.items.weight"], after["experts.id.items.weight"])
    backbones = [n for n in before if n.startswith("experts.llm.backbone") and "dense" in n]
    weights = [n for n in backbones if n.endswith("weight")]
    assert weights and not any(torch.equal(before[name], after[name]) for name in weights)


def test_a_model_loads_without_the_checkpoint_that_it_started_from() -> None:
    first = run()["checkpoint"].replace(".pth", "-pretrain.pth")
    start = Path("start.pth")
    Path(first).rename(start)
    result = run(pad_pretrained=str(start), seed=7)
    start.unlink()
    config, model, *_ = load_data_and_model(result["checkpoint"])
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    build_trainer(config, model)  # does not load the start again
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_settings_are_refused_before_anything_is_encoded() -> None:
    with pytest.raises(ValueError, match="mmd_kernel 'rbf' is unknown; choose from gaussian"):
        Config("PAD", "tiny", config_dict={**SMALL, "mmd_kernel": "rbf"})


def test_bins_are_of_training_interactions_only(tiny: Path) -> None:
    def bins() -> dict[str, int]:
        config = Config("PAD", "tiny", config_dict=SMALL)
        dataset, train, _, _ = load_data(config)
        tokens = dataset.field2id_token["item_id"].tolist()
        found = build_model(config, train.dataset).gate.bins.tolist()
        return dict(zip(tokens, found, strict=True))

    before = bins()
    assert set(before.values()) == {0, 1, 2, 3}
    file = tiny / "tiny.inter"
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    users = [row.split("\t")[0] for row in rows]
    for number, user in enumerate(users):
        if user not in users[number + 2 :]:  # all held-out interactions are of one item
            fields = rows[number].split("\t")
            rows[number] = "\t".join([user, "i7", *fields[2:]])
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    assert bins() == before


@pytest.mark.parametrize("loss_type", ["CE", "BCE"])
def test_trains_on_recboles_own_rows(loss_type: str) -> None:
    from recbole.data import create_dataset as stock_dataset
    from recbole.data import data_preparation as stock_preparation

    two = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 2}}
    changes = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "loss_type": loss_type}
    if loss_type != "CE":
        changes |= two
    config = Config("PAD", "tiny", config_dict={**SMALL, **changes})
    train, valid, _ = stock_preparation(config, stock_dataset(config))
    model = build_model(config, train.dataset)
    trainer = get_trainer("PAD")(config, model)
    losses: dict[str, list[float]] = {}

    def note(epoch: int, score: float) -> None:
        losses.setdefault(model.phase, []).append(trainer.train_loss_dict[epoch])

    trainer.fit(train, valid, verbose=False, saved=False, callback_fn=note)
    assert list(losses) == list(PHASES)
    for phase in ("pretrain", "disentangle"):
        assert losses[phase][-1] < losses[phase][0]


def test_both_kinds_of_rows_have_the_same_targets_and_loss() -> None:
    """Without dropout and with whole histories, each position's loss is that of RecBole's row."""
    config = Config("PAD", "tiny", config_dict={**SMALL, "MAX_ITEM_LIST_LENGTH": 30})
    from recbole.data import create_dataset as stock_dataset
    from recbole.data import data_preparation as stock_preparation

    config["train_batch_size"] = 100_000
    _, sequences, _, _ = load_data(config)
    model = build_model(config, sequences.dataset).eval()
    prefixes, _, _ = stock_preparation(config, stock_dataset(config))
    losses = []
    for loader in (sequences, prefixes):
        (rows,) = iter(loader)
        losses.append(model.calculate_loss(rows))
    torch.testing.assert_close(losses[0], losses[1])

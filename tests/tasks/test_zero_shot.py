"""A map of texts, trained on some data sets and applied to another."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import nn

from recbole_llm import get_model, testing
from recbole_llm.cli import main
from recbole_llm.core.config import Config
from recbole_llm.evaluation.references import RandomReference
from recbole_llm.models.alpharec.model import AlphaRec
from recbole_llm.tasks.recommend import recommend
from recbole_llm.tasks.zero_shot.run import Task, _make_configs, zero_shot
from recbole_llm.trainers.mixed import MixedBatch, MixedLoader, MixedModel, MixedTrainer

QUIET = {
    "show_progress": False,
    "data_path": "dataset",
    "encoder": "hash",
    "epochs": 2,
    "embedding_size": 8,
    "n_neg": 8,
    "train_batch_size": 100,
}


@pytest.fixture(autouse=True)
def _data() -> None:
    for seed, name in enumerate(("one", "two", "unseen")):
        testing.write_tiny_dataset("dataset", name, n_users=20 + 10 * seed, seed=seed)


def test_trains_on_two_and_recommends_on_a_third() -> None:
    result = zero_shot(["one", "two"], "unseen", config_dict=QUIET)
    assert set(result["best_valid_result"]) == {"one", "two"}
    scores = [r["ndcg@10"] for r in result["best_valid_result"].values()]
    assert result["best_valid_score"] == pytest.approx(np.mean(scores))
    assert set(result["references"]) == {"random", "popularity", "text similarity"}
    assert all("ndcg@10" in r for r in [result["test_result"], *result["references"].values()])
    # The checkpoint is the map on the unseen data set.
    assert len(recommend(result["checkpoint"], users="u1", k=3)) == 3


@pytest.mark.parametrize(
    ("shares", "name", "part"), [([8, 0, 2], "one", "valid"), ([8, 2, 0], "unseen", "test")]
)
def test_splits_without_a_part_that_is_needed_are_refused(
    shares: list[int], name: str, part: str
) -> None:
    keys = {**QUIET, "eval_args": {"split": {"RS": shares}}}
    with pytest.raises(ValueError, match=f"of data set '{name}' leaves nothing for {part}"):
        zero_shot(["one"], "unseen", config_dict=keys)


def test_a_catalogue_in_blocks_is_ranked_by_the_references_too() -> None:
    testing.write_tiny_dataset("dataset", "large", n_items=1500, n_users=300)
    whole = zero_shot(["one"], "large", config_dict=QUIET)
    blocks = zero_shot(["one"], "large", config_dict={**QUIET, "eval_memory_mib": 0.5})
    assert blocks["references"]["popularity"] == whole["references"]["popularity"]
    assert blocks["references"]["text similarity"] == whole["references"]["text similarity"]
    assert blocks["test_result"] == whole["test_result"]


def test_random_scores_are_where_the_model_is() -> None:
    rows = Interaction({"user_id": torch.arange(2)})
    made = RandomReference(3).to("meta")
    assert made.predict(rows).device.type == made.full_sort_predict(rows).device.type == "meta"


def test_no_writer_is_left_open() -> None:
    def writers() -> int:
        return sum("Writer" in type(thread).__name__ for thread in threading.enumerate())

    before = writers()
    zero_shot(["one"], "unseen", config_dict={**QUIET, "epochs": 1}, saved=False)
    assert writers() == before


def test_the_unseen_data_set_is_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the models of the data sets to train on compute a loss."""
    seen: list[str] = []
    original = Task.__init__

    def record(self: Any, config: Any) -> None:
        original(self, config)
        loss = self.model.calculate_loss
        self.model.calculate_loss = lambda batch: (seen.append(self.name), loss(batch))[1]

    monkeypatch.setattr(Task, "__init__", record)
    result = zero_shot(["one"], "unseen", config_dict=QUIET)
    assert set(seen) == {"one"}
    assert Path(result["checkpoint"]).is_file()


def test_a_trainer_keeps_its_model_whatever_was_evaluated() -> None:
    (config, _) = _make_configs(["one"], "unseen", None, dict(QUIET), [])
    with closing(Task(config)) as task:
        task.evaluate("test", RandomReference(task.dataset.item_num))
        assert task.trainer.model is task.model
        with pytest.raises(AttributeError):
            task.evaluate("test", nn.Identity())
        assert task.trainer.model is task.model


def test_the_result_is_that_of_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[torch.Tensor] = []
    scores = iter([0.1, 0.3, 0.2])

    def evaluate(self: Any, split: str, model: Any = None) -> dict[str, float]:
        if split == "valid":
            states.append(self.model.text_map.out.weight.detach().clone())
            return {"ndcg@10": next(scores)}
        states.append(self.model.text_map.out.weight.detach().clone())
        return {"ndcg@10": 0.0}

    monkeypatch.setattr(Task, "evaluate", evaluate)
    result = zero_shot(["one"], "unseen", config_dict={**QUIET, "epochs": 3}, saved=False)
    assert result["best_valid_score"] == 0.3
    assert torch.equal(states[3], states[1]) and not torch.equal(states[3], states[2])


def test_mixed_loss_is_the_mean_over_rows() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(1, 1, bias=False)

        def calculate_loss(self, rows: torch.Tensor) -> torch.Tensor:
            return self.part(rows.unsqueeze(1)).mean()

    model = MixedModel([Mean(), Mean()], "part")
    assert len(list(model.parameters())) == 1
    batch = MixedBatch([torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0])])
    weight = model.models[0].part.weight
    assert model.calculate_loss(batch).item() == pytest.approx(4.0 * weight.item())
    alone = MixedBatch([None, torch.tensor([10.0])])
    assert model.calculate_loss(alone).item() == pytest.approx(10.0 * weight.item())


def test_batches_mix_in_proportion() -> None:
    tasks = [
        Task(config)
        for config in _make_configs(["one", "two"], "unseen", None, dict(QUIET), ())[:2]
    ]
    sizes = [len(task.train.dataset) for task in tasks]
    shares = [round(100 * size / sum(sizes)) for size in sizes]
    loader = MixedLoader([t.loader(s) for t, s in zip(tasks, shares, strict=True)])
    batches = list(loader)
    assert len(batches) == len(loader)
    assert [len(rows) for rows in batches[0]] == shares
    for part, size in enumerate(sizes):
        assert sum(len(batch[part]) for batch in batches if batch[part] is not None) == size


@pytest.mark.parametrize(
    ("train", "test", "keys", "message"),
    [
        ([], "unseen", {}, "train: name at least one data set"),
        (["one", "unseen"], "unseen", {}, "test: 'unseen' is among the data sets to train on"),
        (["one", "one"], "unseen", {}, "train: 'one' is named twice"),
        (["one"], "unseen", {"dataset": "two"}, "dataset: name the data sets with train and test"),
        (
            ["one"],
            "unseen",
            {"model": "BPR"},
            "model: BPR has no part that fits an unseen data set",
        ),
    ],
)
def test_errors(train: list[str], test: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zero_shot(train, test, config_dict={**QUIET, **keys})


class WithBias(AlphaRec):
    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.item_bias = nn.Embedding(self.n_items, 8)


class Misnamed(AlphaRec):
    transferable = "map"


class Phased(get_model("PAD")):  # type: ignore[misc]
    transferable = "experts"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (WithBias, "WithBias has weights outside its .* 'text_map': 'item_bias.weight'; on an"),
        (Misnamed, "'transferable' of Misnamed names 'map', which is no submodule"),
        (Phased, "model: Phased is trained by PhasedTrainer, whose phases"),
    ],
)
def test_what_would_stay_untrained_is_refused(
    model: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MixedTrainer, "fit", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match=message):
        zero_shot(["one"], "unseen", config_dict={**QUIET, "model": model})


def test_the_unseen_data_set_is_checked_before_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MixedTrainer, "fit", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="dataset 'unsen'.*did you mean 'unseen'"):
        zero_shot(["one"], "unsen", config_dict=QUIET)


def test_all_data_sets_are_looked_for_before_any_text_is_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "recbole_llm.tasks.zero_shot.run.Task", lambda config: pytest.fail("too late")
    )
    with pytest.raises(ValueError, match="dataset 'tow': the folder .* did you mean 'two'"):
        zero_shot(["one", "tow"], "unseen", config_dict=QUIET)


def test_the_unseen_split_does_not_depend_on_the_training() -> None:
    references = [
        zero_shot(["one"], "unseen", config_dict={**QUIET, "epochs": n}, saved=False)["references"]
        for n in (1, 2)
    ]
    assert references[0]["popularity"] == references[1]["popularity"]


def test_sampled_candidates() -> None:
    keys = {**QUIET, "eval_args": {"mode": "uni20"}}
    result = zero_shot(["one"], "unseen", config_dict=keys, saved=False)
    assert {r["hit@10"] > 0 for r in result["references"].values()} == {True}


def test_a_config_file_names_the_model(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("model: BPR\n", encoding="utf-8")
    with pytest.raises(ValueError, match="model: BPR has no part that fits"):
        zero_shot(["one"], "unseen", [str(file)], QUIET)


def test_other_encoders_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = _make_configs(["one"], "unseen", None, dict(QUIET), ())
    configs[1]["encoder_dimensions"] = 8
    from recbole_llm.tasks.zero_shot.run import _check_same_encoder

    with pytest.raises(ValueError, match="encoder_dimensions: None for data set 'one', but 8 for"):
        _check_same_encoder(configs)


@pytest.mark.parametrize("shared", [True, False])
def test_one_file_of_vectors_for_items_of_equal_ids_is_warned_of(
    shared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    table = {f"i{i}": vector for i, vector in enumerate(np.random.default_rng(0).random((60, 8)))}
    lines = ["item_id:token\tvector:float_seq"]
    lines += [f"{name}\t{' '.join(map(str, vector))}" for name, vector in table.items()]
    files = (
        ["vectors.item"] if shared else ["dataset/one/vectors.item", "dataset/unseen/vectors.item"]
    )
    for file in files:
        Path(file).write_text("\n".join(lines))
    keys = {"encoder": "precomputed", "embedding_path": "vectors.item", "epochs": 1}
    zero_shot(["one"], "unseen", config_dict={**QUIET, **keys}, saved=False)
    said = "embedding_path: 'vectors.item' serves all data sets, and 60 ids of 'one' and 'unseen'"
    assert (said in caplog.text) == shared


def test_what_is_said_and_written(own_logging: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = zero_shot(
        ["one"], "unseen", config_dict={**QUIET, "show_progress": True, "output": "result.json"}
    )
    kept = json.loads(Path("result.json").read_text())
    assert {name: kept[name] for name in result} == result
    lines = capsys.readouterr().out.splitlines()
    count = len(Path("dataset/unseen/unseen.inter").read_text().splitlines()) - 1
    assert f"unseen   unseen: 40 users, 60 items, {count} interactions" in lines
    for name, metrics in (("zero-shot", result["test_result"]), *result["references"].items()):
        (row,) = (line for line in lines if line.startswith(f"{name}  "))
        assert f"{metrics['ndcg@10']:.4f}" in row.split()
    assert f"--checkpoint={result['checkpoint']} --users=" in lines[-1]


def test_the_command() -> None:
    keys = [f"--{key}={value}" for key, value in QUIET.items()]
    done = CliRunner().invoke(main, ["zero-shot", "--train=one,two", "--test=unseen", *keys])
    assert done.exit_code == 0, done.output
    bad = CliRunner().invoke(main, ["zero-shot", "--train=one", "--test=one", *keys])
    assert bad.exit_code == 2 and "error: test: 'one' is among" in bad.output

"""Rankings by blocks of items are those of whole rows, to the last place of each list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import ITEM_METRICS, TOPK_METRICS, evaluation, train_data
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_model
from recbole_llm.data.datasets.dataset import Dataset
from recbole_llm.data.loading import ranking_step as sizes
from recbole_llm.data.loading.ranking_step import (
    ENOUGH_ROWS,
    FactorModel,
    has_factors,
    ranking_step,
)
from recbole_llm.evaluation import ranking_blocks
from recbole_llm.evaluation.groups import Group
from recbole_llm.evaluation.ranking import RankingCollector
from recbole_llm.evaluation.ranking_blocks import BlockScores
from recbole_llm.evaluation.ties import shuffled_ties
from recbole_llm.steps import build_model, build_trainer, load_data, start
from recbole_llm.testing import write_tiny_dataset

CONFIG = evaluation([*TOPK_METRICS, *ITEM_METRICS], topk=(1, 3, 5))
Pairs = tuple[Tensor, Tensor]


def some_pairs(rng: torch.Generator, rows: int, n: int, share: float) -> Pairs:
    """Random pairs of rows and items, without the padding item."""
    chosen = torch.rand(rows, n, generator=rng) < share
    chosen[:, 0] = False
    row, item = chosen.nonzero(as_tuple=True)
    return row, item


def whole(rows: Tensor, items: Tensor, masked: Pairs | None) -> Tensor:
    """The scores as RecBole's trainer makes them."""
    scores = rows @ items.T
    scores[:, 0] = -torch.inf
    if masked is not None:
        scores[masked] = -torch.inf
    return scores


def collected(collector: RankingCollector, batches: list[Any]) -> dict[str, Any]:
    collector.data_collect(train_data(batches[0][0].shape[1]))
    for scores, positives in batches:
        users = Interaction({"user_id": torch.arange(len(scores))})
        collector.eval_batch_collect(scores, users, *positives)
    return dict(collector.get_data_struct()._data_dict)


@pytest.fixture(scope="module", autouse=True)
def _small_groups() -> Iterator[None]:
    """Make groups small, so that generated catalogues are read in groups too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking_blocks, "GROUP", 8)
        yield


@given(
    seed=st.integers(0, 10**6), users=st.integers(1, 9), levels=st.sampled_from([1, 2, 3, 5, 999]),
    n=st.integers(6, 60) | st.integers(900, 3000), seen=st.sampled_from([None, 0.0, 0.3, 0.9]),
    parts=st.integers(1, 12),
)  # fmt: skip
@settings(max_examples=80)
def test_blocks_collect_what_whole_rows_do(
    seed: int, users: int, levels: int, n: int, seen: float | None, parts: int
) -> None:
    """Scores are small integers, exact in any order of sums, with ties everywhere."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, levels, (users, 3), generator=rng).float()
    items = torch.randint(0, levels, (n, 3), generator=rng).float()
    batches: dict[str, list[Any]] = {"whole": [], "blocks": []}
    for part in rows.split(4):  # so that row numbers go beyond one batch
        masked = None if seen is None else some_pairs(rng, len(part), n, seen)
        positives = some_pairs(rng, len(part), n, 0.2)
        batches["whole"].append((whole(part, items, masked), positives))
        batches["blocks"].append((BlockScores(part, items, masked, -(-n // parts)), positives))
    one, two = (collected(RankingCollector(CONFIG), b) for b in batches.values())
    assert one.keys() == two.keys() and {"rec.items", "rec.topk"} <= one.keys()
    assert torch.equal(one["rec.items"], two["rec.items"])
    assert torch.equal(one["rec.topk"], two["rec.topk"])


def test_lists_by_hand() -> None:
    """Row 0 likes high numbers; item 5 is masked in it. Row 1 likes low ones; item 0 is padding."""
    rows = torch.tensor([[1.0], [-1.0]])
    scores = BlockScores(
        rows, torch.arange(7.0)[:, None], (torch.tensor([0]), torch.tensor([5])), 2
    )
    lists = scores.top_items(3, torch.arange(2), lambda: pytest.fail("nothing ties"))
    assert lists.tolist() == [[6, 4, 3], [1, 2, 3]]


def test_scores_that_are_no_numbers_come_last() -> None:
    items = torch.tensor([[0.0], [1.0], [torch.nan], [3.0], [torch.inf], [2.0]])
    scores = BlockScores(torch.ones(1, 1), items, None, 2)
    assert scores.top_items(4, torch.arange(1), lambda: torch.arange(6)).tolist() == [[4, 3, 5, 1]]
    positives = torch.tensor([0]), torch.tensor([3])
    found = collected(RankingCollector(CONFIG), [(items.T.clone(), positives)])
    assert found["rec.items"][0, :4].tolist() == [4, 3, 5, 1]  # whole rows give the same


@pytest.mark.parametrize("width", [2, 3, 6])
def test_scores_that_are_no_numbers_tie_with_masked_ones(width: int) -> None:
    rows, items = torch.ones(1, 1), torch.tensor([[0.0], [1.0], [torch.nan], [3.0], [4.0], [2.0]])
    masked, keys = (torch.tensor([0, 0]), torch.tensor([3, 5])), torch.arange(6)
    lists = BlockScores(rows, items, masked, width).top_items(5, torch.arange(1), lambda: keys)
    assert lists.equal(shuffled_ties(whole(rows, items, masked), 5, torch.arange(1), keys))


def test_groups_of_items_read_the_same_lists() -> None:
    rng = torch.Generator().manual_seed(0)
    rows, items = (torch.randint(0, 3, (m, 2), generator=rng).float() for m in (20, 50))
    positives = some_pairs(rng, 20, 50, 0.2)
    found = []
    for scores in (whole(rows, items, None), BlockScores(rows, items, None, 7)):
        collector = RankingCollector(_with_groups())
        collector.groups = [Group("even items", True, torch.arange(50) % 2 == 0)]
        collector.data_collect = lambda _: None  # type: ignore[method-assign]
        found.append(collected(collector, [(scores, positives)]))
    for key in ("rec.topk", "rec.topk (even items)", "group.users", "group.pairs"):
        assert torch.equal(found[0][key], found[1][key])


def _with_groups() -> Any:
    config = evaluation(TOPK_METRICS)
    config.update(eval_groups=["items"], USER_ID_FIELD="user_id")
    return config


def trained(model: str, **changes: Any) -> tuple[Any, Any]:
    config = Config(model, "tiny", config_dict={
        "data_path": "dataset", "show_progress": False, "MAX_ITEM_LIST_LENGTH": 10, "epochs": 1,
        "metric_decimal_place": 10, "metrics": TOPK_METRICS, **changes,
    })  # fmt: skip
    start(config, trains=True)
    train, _, test = load_data(config)[1:]
    trainer = build_trainer(config, build_model(config, train.dataset))
    trainer.fit(train, saved=False)
    return trainer, test


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "LightGCN", "AlphaRec"])
def test_models_get_the_same_metrics(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_dataset("dataset")
    monkeypatch.setattr(sizes, "LEAST_ITEMS", 7)
    results, blocks = [], []
    for budget in (512, 0.0005):
        trainer, test = trained(model, eval_memory_mib=budget)
        blocks.append(test.items_a_block)
        results.append(trainer.evaluate(test, load_best_model=False))
    assert blocks[0] is None and 7 <= blocks[1] < 61
    assert results[1] == pytest.approx(results[0], abs=1e-9)


def test_the_best_of_many_items_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item is the best once: the items of the 17 groups, and the three after the groups."""
    monkeypatch.setattr(ranking_blocks, "GROUP", 4)
    scores = torch.rand(71, 71) + 2 * torch.eye(71)
    values, places = ranking_blocks._fast_topk(scores, 2)
    expected = torch.topk(scores, 2, dim=1)
    assert values.equal(expected.values) and places.equal(expected.indices)


class TestStep:
    """The tiny data set has 61 items, and a general model's row takes 16 bytes for each item."""

    def step(self, model: str, budget: float, **changes: Any) -> tuple[int, int | None]:
        write_tiny_dataset("dataset")
        config = Config(model, "tiny", config_dict={"data_path": "dataset", **changes})
        dataset = Dataset(config)
        dataset.build()
        return ranking_step(config, dataset, budget)

    def test_blocks_are_for_catalogues_of_which_few_rows_fit(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sizes, "LEAST_ITEMS", 4)
        enough = ENOUGH_ROWS * 61 * 16
        assert self.step("LightGCN", 2 * enough) == (2 * ENOUGH_ROWS, None)
        assert self.step("LightGCN", enough) == (ENOUGH_ROWS, None)
        assert self.step("LightGCN", enough / 2) == (ENOUGH_ROWS, 30)
        assert self.step("LightGCN", 1) == (1, 4)

    @pytest.mark.parametrize(
        ("model", "metrics"), [("BPR", ["NDCG"]), ("LightGCN", ["NDCG", "GAUC"])]
    )
    def test_others_are_scored_whole(self, model: str, metrics: list[str]) -> None:
        """BPR is a model of RecBole without known vectors; GAUC is a metric of all ranks."""
        step = self.step(model, 10 * 61 * 16, metrics=metrics, valid_metric="NDCG@10")
        assert step == (10, None)

    def test_a_subclass_that_scores_otherwise_is_not_taken_for_its_base(self) -> None:
        sasrec, lightgcn = get_model("SASRec"), get_model("LightGCN")

        class Biased(sasrec):
            def full_sort_predict(self, interaction: Any) -> Tensor:
                return super().full_sort_predict(interaction) + 1

        class Deeper(lightgcn):
            n_layers = 9

        assert has_factors(sasrec) and has_factors(Deeper) and not has_factors(Biased)


class ThreeItems(FactorModel):
    """A model of three items, with the padding; `given` are its numbers of row and item vectors."""

    n_items = 3

    def __init__(self, *given: int) -> None:
        self.given = given

    def score_factors(self, interaction: Any) -> tuple[Tensor, Tensor]:
        rows, items = self.given
        return torch.ones(rows, 2), torch.ones(items, 2)


def test_factors_of_other_rows_or_items_are_refused() -> None:
    batch = Interaction({"user_id": torch.tensor([1, 2])})
    assert ThreeItems(2, 3).full_sort_predict(batch).tolist() == [[2.0] * 3] * 2
    for rows, items in ((40, 3), (2, 2)):
        said = f"^score_factors of ThreeItems returned {rows} and {items} vectors; .* of the 2 rows"
        with pytest.raises(ValueError, match=said):
            ThreeItems(rows, items).full_sort_predict(batch)

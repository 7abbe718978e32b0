"""Tied scores: item numbers do not matter, and metrics are the mean over all orders."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ranking_cases import METRICS, TOPK_METRICS, evaluation, masked, results, train_data
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.evaluation.groups import Group
from recbole_llm.evaluation.positives import FEW, Positives
from recbole_llm.evaluation.ranking import RankingCollector
from recbole_llm.evaluation.ties import shuffled_ties


def random_positives(users: int, n: int) -> list[tuple[int, int]]:
    """One to three positives a user."""
    rng = np.random.default_rng(1)
    chosen = [rng.choice(np.arange(1, n), u % 3 + 1, replace=False) for u in range(users)]
    return [(u, int(i)) for u, items in enumerate(chosen) for i in items]


class TestTies:
    n, users = 61, 200
    rng = np.random.default_rng(0)
    positives = random_positives(users, n)
    constant = masked(torch.zeros(users, n))

    def permuted(
        self, scores: Tensor, seed: int
    ) -> tuple[Tensor, list[tuple[int, int]], list[str]]:
        """The same case with the items renumbered; item 0 stays the padding."""
        rng = np.random.default_rng(seed)
        new = np.r_[0, rng.permutation(np.arange(1, self.n))]  # old id -> new id
        moved = scores[:, np.argsort(new)]
        names = ["[PAD]", *(f"i{i}" for i in range(1, self.n))]
        tokens = [names[old] for old in np.argsort(new)]
        return moved, [(u, int(new[i])) for u, i in self.positives], tokens

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("levels", [1, 2, 4, 30])
    def test_item_numbers_do_not_matter(self, seed: int, levels: int) -> None:
        scores = masked(
            torch.from_numpy(self.rng.integers(0, levels, (self.users, self.n))).float()
        )
        # Popularity and tail depend on items' counts, which are not renumbered here.
        metrics = [m for m in METRICS if m not in ("AveragePopularity", "TailPercentage")]
        config = evaluation(metrics)
        before = results(RankingCollector, scores, self.positives, config=config)
        moved, positives, tokens = self.permuted(scores, seed)
        after = results(RankingCollector, moved, positives, config=config, tokens=tokens)
        assert before == after

    @pytest.mark.parametrize("levels", [1, 3])
    def test_batch_size_does_not_matter(self, levels: int) -> None:
        scores = masked(
            torch.from_numpy(self.rng.integers(0, levels, (self.users, self.n))).float()
        )
        whole = results(RankingCollector, scores, self.positives)
        for batch in (1, 7, 64):
            assert results(RankingCollector, scores, self.positives, batch=batch) == whole

    def test_constant_scores_get_the_mean_over_all_orders(self) -> None:
        users = 20_000
        one = [(u, int(self.rng.integers(1, self.n))) for u in range(users)]
        got = results(RankingCollector, self.constant[:1].expand(users, -1), one)
        for k in (1, 3, 5):  # three standard deviations of the mean
            deviation = 3 * (k / 60 * (1 - k / 60) / users) ** 0.5
            assert got[f"recall@{k}"] == pytest.approx(k / 60, abs=deviation)
        assert got["gauc"] == pytest.approx(0.5)
        # torch.topk on its own gives the same few items to everybody.
        assert got["itemcoverage@5"] == 1

    @pytest.mark.parametrize("levels", [1, 2, 5])
    def test_places_of_all_positives_or_of_hits_only(self, levels: int) -> None:
        """With many positives per row, positives outside the list are left out first."""
        rng = np.random.default_rng(levels)
        scores = masked(torch.from_numpy(rng.integers(0, levels, (30, self.n))).float())
        many = [(u, int(i)) for u in range(30) for i in rng.choice(range(1, self.n), 20, False)]
        assert len(many) > FEW * 30
        hits_only = results(RankingCollector, scores, many, config=evaluation(TOPK_METRICS))
        everything = results(RankingCollector, scores, many)
        assert hits_only.items() <= everything.items()

    def test_batch_without_positives(self) -> None:
        collector = RankingCollector(evaluation(["Recall", "GAUC"]))
        none = torch.empty(0, dtype=torch.int64)
        collector.eval_batch_collect(self.constant[:2].clone(), None, none, none)
        assert collector.get_data_struct().get("rec.topk").tolist() == [[0] * 6] * 2

    def test_repeats_itself(self) -> None:
        collector = RankingCollector(evaluation())
        collector.data_collect(train_data(self.n))
        rows, items = torch.tensor(self.positives).T
        found = []
        for _ in range(2):
            collector.eval_batch_collect(self.constant.clone(), None, rows, items)
            found.append(collector.get_data_struct().get("rec.topk"))
        assert torch.equal(*found)

    def test_a_part_of_the_rows_is_drawn_as_within_the_whole(self) -> None:
        """A process whose rows begin at `first_row` draws as a process with all rows does."""
        rows, items = torch.tensor(self.positives).T
        found = []
        for first in (0, 120):
            collector, own = RankingCollector(evaluation(["Recall"])), rows >= first
            collector.begin(SimpleNamespace(dataset=train_data(self.n).dataset, first_row=first))
            scores = self.constant[first:].clone()
            collector.eval_batch_collect(scores, None, rows[own] - first, items[own])
            found.append(collector.get_data_struct().get("rec.topk"))
        assert torch.equal(found[0][120:], found[1])

    def test_only_the_tied_rows_are_drawn(self) -> None:
        scores = masked(torch.arange(61.0).repeat(4, 1))
        scores[2] = self.constant[0]
        positives = [(0, 60), (1, 58), (2, 5), (3, 1)]
        collector = RankingCollector(evaluation(["Recall"]))
        rows, items = torch.tensor(positives).T
        draw, drawn = collector._top_items, []
        collector._top_items = lambda *args: drawn.append(args[2].tolist()) or draw(*args)
        collector.eval_batch_collect(scores, None, rows, items)
        assert drawn == [[2]]
        topk = collector.get_data_struct().get("rec.topk")
        assert topk[[0, 1, 3]].tolist() == [
            [1, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1],
        ]  # fmt: skip


SCORES = st.integers(1, 4).flatmap(
    lambda levels: hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=6, max_side=12),
        elements=st.integers(0, levels).map(float),
    )
)  # fmt: skip


@given(scores=SCORES, wanted=st.data(), full=st.booleans())
@settings(max_examples=100)
def test_hits_are_read_off_the_collected_list(
    scores: np.ndarray, wanted: st.DataObject, full: bool
) -> None:
    """Hits agree place by place, for all items and for a group, with and without GAUC's ranks."""
    users, n = scores.shape
    positive = wanted.draw(hnp.arrays(bool, (users, n)))
    positive[:, 0], members = False, torch.arange(n) % 2 == 1
    rows, items = (torch.from_numpy(a) for a in np.nonzero(positive))
    config = evaluation(["Recall", "ItemCoverage", *(["GAUC"] if full else [])])
    config.update(eval_groups=["items"], eval_head_share=0.2, USER_ID_FIELD="user_id")
    collector = RankingCollector(config)
    collector.groups = [Group("odd items", True, members)]
    collector._item_keys = torch.arange(n) * 977
    batch = Interaction({"user_id": torch.arange(users)})
    collector.eval_batch_collect(masked(torch.from_numpy(scores)), batch, rows, items)
    collected = collector.get_data_struct()
    lists = collected.get("rec.items")
    assert all(len(set(own)) == 5 for own in lists.tolist())
    hits = torch.from_numpy(positive).gather(1, lists)  # [B, 5]
    assert collected.get("rec.topk")[:, :-1].bool().equal(hits)
    of_group = collected.get("rec.topk (odd items)")
    assert of_group[:, :-1].bool().equal(hits & members[lists])
    assert of_group[:, -1].tolist() == (positive & members.numpy()).sum(1).tolist()


def test_places_of_two_positives_of_a_row_before_a_row_without_any() -> None:
    scores = torch.tensor([[0.0, 3, 2, 1], [0, 5, 6, 7], [0, 1, 3, 2]])
    rows, items = torch.tensor([0, 0, 2]), torch.tensor([1, 2, 1])
    assert Positives.of(scores.shape, rows, items).rank(scores, None).above.tolist() == [0, 1, 2]


def test_every_order_is_as_likely() -> None:
    """The scores are 9, four times 5, and 1: the lists have 9 first, then the four in 24 orders."""
    scores = torch.tensor([[9.0, 5, 5, 1, 5, 5]]).expand(24_000, -1)
    keys = torch.tensor([3, 1, 4, 1 << 40, 5, 9])
    lists = shuffled_ties(scores, 5, torch.arange(24_000), keys)
    found = Counter(map(tuple, lists.tolist()))
    assert found.keys() == {(0, *order) for order in itertools.permutations((1, 2, 4, 5))}
    # Chi-square with 23 degrees of freedom: beyond 50 once in a thousand.
    assert sum((count - 1000) ** 2 / 1000 for count in found.values()) < 50


def test_scores_that_are_not_numbers_come_last() -> None:
    scores = torch.tensor([[torch.nan, 1.0, 1.0, -torch.inf, torch.nan]])
    lists = shuffled_ties(scores, 4, torch.tensor([0]), torch.arange(5))
    assert set(lists[0, :2].tolist()) == {1, 2}


@pytest.mark.parametrize("positives", [2, FEW + 1])  # ranks by counting, or after a top-k
def test_scores_that_are_not_numbers_hide_no_hits(positives: int) -> None:
    """The positives are the best of 50 items, and the last 8 items have NaN scores."""
    scores = torch.arange(50, 0, -1.0).masked_fill(torch.arange(50) >= 42, torch.nan)[None]
    rows, items = torch.zeros(positives).long(), torch.arange(positives)
    ranked = Positives.of(scores.shape, rows, items).rank(scores, 10)
    assert ranked.above.tolist() == list(range(positives))


def test_a_positive_that_is_not_a_number_is_as_low_as_masked_items() -> None:
    """Of 40 items, 20 have scores, 10 have NaN and 10 are masked. GAUC reads the mean rank."""
    collector = RankingCollector(evaluation(["Recall", "GAUC"]))
    scores = torch.full((1, 40), -torch.inf)
    scores[0, 1:21], scores[0, 21:31] = torch.arange(20.0), torch.nan
    row, user = torch.zeros(1, dtype=torch.long), Interaction({"user_id": torch.tensor([1])})
    collector.eval_batch_collect(scores, user, row, torch.tensor([21]))
    (found,) = collector.get_data_struct().get("rec.meanrank").tolist()
    assert found == [30.5, 20, 1]  # the mean of places 21 to 40


def test_scores_without_numbers_count_alike_whatever_else_is_collected() -> None:
    """Lists of items are kept for ItemCoverage; without it, only hits are kept."""
    scores = masked(torch.full((40, 30), torch.nan))
    positives = [(row, 1 + row % 29) for row in range(40)]
    some, more = (
        results(RankingCollector, scores, positives, config=evaluation(metrics))
        for metrics in (["MRR", "NDCG"], ["MRR", "NDCG", "ItemCoverage"])
    )
    assert some == {name: more[name] for name in some}


def test_a_stopped_evaluation_leaves_nothing_to_the_next() -> None:
    collector = RankingCollector(evaluation(["Recall"]))
    row, user = torch.zeros(1, dtype=torch.long), Interaction({"user_id": torch.tensor([1])})
    scores = torch.arange(40.0)[None]
    loader = SimpleNamespace(dataset=SimpleNamespace(field2id_token={"i": None}, iid_field="i"))
    for _ in range(2):  # the first one is stopped after its batch
        collector.begin(loader)
        collector.eval_batch_collect(scores, user, row, torch.tensor([39]))
    assert len(collector.get_data_struct().get("rec.topk")) == 1


def test_shuffled_ties_favor_no_item() -> None:
    scores = torch.zeros(4000, 12)
    scores[:, 3] = 1.0
    keys = torch.arange(12) * 977
    items = shuffled_ties(scores, 4, torch.arange(4000), keys)
    assert bool((items[:, 0] == 3).all())
    counts = torch.bincount(items[:, 1:].flatten(), minlength=12)
    others = counts[[i for i in range(12) if i != 3]].double()
    expected = 4000 * 3 / 11
    # Chi-square with 10 degrees of freedom: beyond 30 once in a thousand.
    assert float(((others - expected) ** 2 / expected).sum()) < 30

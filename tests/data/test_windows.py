"""Windows: every target once, enough context, little padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.core.processes import distributed
from recbole_llm.data.loading.loaders import OwnParts
from recbole_llm.data.rows.histories import SortedInteractions
from recbole_llm.data.rows.interaction import SequenceColumns
from recbole_llm.data.rows.windows import WindowBatches, Windows, cut_windows, default_stride


def rows_of(sizes: list[int], length: int, held_out: int = 0) -> SequenceColumns:
    """Users with `sizes` interactions; each user's last `held_out` are not in the split."""
    position = np.concatenate([np.arange(n) for n in sizes]).astype(np.int32)
    ends = np.cumsum(sizes)
    last = np.concatenate(
        [np.arange(max(e - held_out, e - n + 1), e) for e, n in zip(ends, sizes, strict=True)]
    )
    rows = np.setdiff1d(np.flatnonzero(position), last)
    source = SortedInteractions({}, torch.from_numpy(position), length)
    return SequenceColumns(source, torch.from_numpy(rows), {})


def windows_of(windows: Windows) -> list[tuple[int, int, int]]:
    columns = (windows.start, windows.first, windows.end)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def test_by_hand() -> None:
    # One user, 12 interactions 0…11, L = 4, stride 3: targets 1…11.
    # From the end: 9 10 11 (inputs 7…10), 6 7 8 (inputs 4…7), 3 4 5 (inputs 1…4), then what is
    # left, 1 2 (inputs 0 1).
    windows = cut_windows(rows_of([12], 4), stride=3)
    assert windows_of(windows) == [(0, 1, 2), (1, 3, 5), (4, 6, 8), (7, 9, 11)]
    assert (windows.end - windows.start).tolist() == [2, 4, 4, 4]
    assert windows.targets.tolist() == [2, 3, 3, 3]


def test_short_histories_are_one_window() -> None:
    windows = cut_windows(rows_of([1, 5, 2], 4), stride=3)
    assert windows_of(windows) == [(1, 2, 5), (6, 7, 7)]


def test_stride_one_is_recboles_context() -> None:
    columns = rows_of([9], 3)
    windows = cut_windows(columns, stride=1)
    context = {e: e - s for s, f, e in windows_of(windows) for _ in [f] if f == e}
    assert all(context[t] == min(t, 3) for t in context)
    assert windows.targets.sum() == 8


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    length=st.integers(1, 12),
    held_out=st.integers(0, 3),
    data=st.data(),
)
@settings(max_examples=200)
def test_each_target_once_with_context(
    sizes: list[int], length: int, held_out: int, data: st.DataObject
) -> None:
    columns = rows_of(sizes, length, held_out)
    stride = data.draw(st.integers(1, length))
    ends = np.cumsum(sizes)
    seen: list[int] = []
    for start, first, end in windows_of(cut_windows(columns, stride)):
        user = int(np.searchsorted(ends, end, side="right"))
        begin = int(ends[user] - sizes[user])
        assert begin <= start < first <= end < ends[user]  # one user, inputs before targets
        assert end - start <= length
        for target in range(first, end + 1):
            seen.append(target)
            assert target - start >= min(target - begin, length - stride + 1)
    assert sorted(seen) == columns.rows.tolist()


@pytest.mark.parametrize("length", range(1, 60))
def test_default_context_is_three_quarters_of_a_window(length: int) -> None:
    """The default is the largest stride that leaves every target that much context."""
    stride = default_stride(length)
    assert length - stride + 1 >= 3 * length / 4 > length - stride
    assert 1 <= stride <= length


def test_targets_anywhere() -> None:
    # Rows that are no prefix of the history: 2, 3, 7, 8 of 0…8.
    columns = SequenceColumns(rows_of([9], 4).source, torch.tensor([8, 2, 7, 3]), {})
    assert windows_of(cut_windows(columns, 3)) == [(0, 2, 3), (4, 7, 8)]


def batches_of(windows: Windows, size: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    batches = WindowBatches(windows, size, True, generator)
    result = [b.tolist() for b in batches]
    assert len(result) == len(batches)
    return result


class TestBatches:
    windows = cut_windows(rows_of([2, 3, 5, 8, 13, 21, 34, 55] * 40, 20), 11)
    total = int(windows.targets.sum())

    @pytest.mark.parametrize("size", [1, 20, 64, 500, 10**6])
    def test_sizes(self, size: int) -> None:
        batches = batches_of(self.windows, size)
        assert sorted(w for b in batches for w in b) == list(range(len(self.windows)))
        widest = int(self.windows.targets.max())
        assert len(batches) == max(min(-(-self.total // size), self.total // widest), 1)
        targets = [int(self.windows.targets[b].sum()) for b in batches]
        assert max(targets) - min(targets) <= 2 * widest

    def test_reproducible_and_new_each_epoch(self) -> None:
        assert batches_of(self.windows, 64, 1) == batches_of(self.windows, 64, 1)
        assert batches_of(self.windows, 64, 1) != batches_of(self.windows, 64, 2)
        generator = torch.Generator().manual_seed(0)
        batches = WindowBatches(self.windows, 64, True, generator)
        first, second = ([set(b.tolist()) for b in batches] for _ in range(2))
        assert all(b not in second for b in first)

    def test_windows_of_all_lengths_meet(self) -> None:
        lengths = (self.windows.end - self.windows.start).double()
        means = torch.stack([lengths[b].mean() for b in batches_of(self.windows, 500)])
        assert (means - lengths.mean()).abs().max() < 0.3 * lengths.std()

    def test_unshuffled(self) -> None:
        batches = WindowBatches(self.windows, 64, False, None)
        assert [b.tolist() for b in batches] == [b.tolist() for b in batches]

    def test_processes_share_a_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = batches_of(self.windows, 64)
        parts = []
        for rank in range(3):
            monkeypatch.setattr(distributed, "_here", distributed.ProcessRank(rank, rank, 3))
            generator = torch.Generator().manual_seed(0)
            own = OwnParts(WindowBatches(self.windows, 64, True, generator))
            parts.append([batch.tolist() for batch in own])
        for batch, *shares in zip(whole, *parts, strict=True):
            assert sorted(batch) == sorted(w for share in shares for w in share)

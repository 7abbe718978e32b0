"""Windows over whole histories, and batches of windows.

Legend: L ``MAX_ITEM_LIST_LENGTH``, S stride, W windows, T training targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbole_llm.data.rows.interaction import SequenceColumns
from recbole_llm.data.rows.split import ranges
from recbole_llm.data.rows.target_ranges import TargetRanges

_AT_ONCE = 2**18  # runs of targets to cut at once, which keeps temporary arrays small


@dataclass(frozen=True)
class Windows:
    """Windows of histories, as positions in the sorted interactions."""

    start: Tensor  # first input of each window, int64 [W]
    end: Tensor  # last target, one past the last input, int64 [W]
    first: Tensor  # first supervised target, int64 [W]; start < first <= end

    @property
    def targets(self) -> Tensor:
        """Supervised targets of each window, int64 [W]."""
        return self.end - self.first + 1

    def __len__(self) -> int:
        return len(self.start)


def default_stride(max_length: int) -> int:
    """The largest stride that leaves every target at least 3L/4 items of context."""
    return max_length // 4 + 1


def cut_windows(columns: SequenceColumns, stride: int) -> Windows:
    """Cover the targets of a train split with windows, each target supervised in exactly one.

    Windows come in order of user and time, and are laid from the latest target backwards. A window
    that does not reach the start of the history has L inputs and supervises its last S targets (S
    is `stride`), which thus see L-S+1…L items. The window that reaches the start supervises all
    remaining targets, each of which sees its full history. So with S = L//4 + 1 every target has
    at least 3L/4 items of context if the history has them, 7L/8 on average in long histories, at 4
    computed positions per target. S = 1 gives every target RecBole's context, at L positions per
    target. S = L//2 + 1, at 2 positions, ranked worse on ml-100k (results/quality.md). The short
    window is the oldest one: this costs less than laying windows from the start, which makes one
    more full window, and keeps the latest targets, closest to those evaluated, in full windows.
    """
    length = columns.source.max_length
    parts = [
        _lay_windows(targets, length, stride) for targets in columns.target_ranges().parts(_AT_ONCE)
    ]
    joined = (torch.cat([part[i] for part in parts]) for i in range(3))
    return Windows(*joined)


def _lay_windows(targets: TargetRanges, length: int, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """The windows' starts, ends and first targets, int64 [W] each."""
    # Window j of a run, counted from its end, has its last target at high - j·S. The first `inner`
    # windows have L inputs each; if targets are left, one more reaches the start of the history.
    by_history = np.maximum(-(-(targets.high - targets.begin - length) // stride), 0)
    by_targets = (targets.high - targets.low) // stride + 1
    inner = np.minimum(by_history, by_targets)
    windows = inner + (inner < by_targets)
    of_runs = (targets.begin, targets.low, targets.high, inner, windows)
    begin, low, high, inner, count = (np.repeat(values, windows) for values in of_runs)  # [W]
    j = count - 1 - ranges(np.zeros_like(windows), windows)  # the latest window comes last
    end = high - j * stride
    start = np.where(j < inner, end - length, begin)
    first = np.where(j < inner, np.maximum(end - stride + 1, low), low)
    return torch.from_numpy(start), torch.from_numpy(end), torch.from_numpy(first)


class WindowBatches:
    """Batches of windows with about equal numbers of targets, drawn from all users alike.

    A batch is padded to its longest window. Batches of windows of similar length would pad less
    and save an eighth of an epoch's time (the backbones pack what they can). But each step would
    follow one kind of user: on prime-pantry validation was worse with each of three seeds
    (results/performance.md).

    Args:
        batch_targets: targets per batch, on average; a window is never cut.
        shuffle: whether the order is random; otherwise windows keep theirs.
    """

    def __init__(
        self,
        windows: Windows,
        batch_targets: int,
        shuffle: bool,
        generator: torch.Generator | None,
    ) -> None:
        self.targets = windows.targets
        self.shuffle, self.generator = shuffle, generator
        self.total = int(self.targets.sum())
        # Not so many batches that one could be left without a window.
        most = self.total // int(self.targets.max())
        self.count = min(-(-self.total // batch_targets), most)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        size = len(self.targets)
        order = torch.arange(size)
        if self.shuffle:
            order = torch.randperm(size, generator=self.generator)
        targets = self.targets[order]
        # Batches are equal parts of the targets; a window goes to the one that its middle is in.
        middle = 2 * targets.cumsum(0) - targets  # in half targets
        sizes = torch.bincount(middle * self.count // (2 * self.total), minlength=self.count)
        yield from torch.split(order, sizes.tolist())

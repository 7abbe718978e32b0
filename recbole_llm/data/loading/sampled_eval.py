"""Evaluation loader with sampled negatives, or with labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import (
    NegSampleEvalDataLoader as RecBoleNegSampleEvalDataLoader,
)
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.core.processes import distributed
from recbole_llm.data.loading.loaders import IndexDataLoader, own_rows
from recbole_llm.data.loading.ranking_step import FLOAT_BYTES, SCORE_COPIES
from recbole_llm.data.rows.interaction import take
from recbole_llm.data.rows.split import ranges
from recbole_llm.data.settings import EngineSettings


class NegSampleEvalDataLoader(RecBoleNegSampleEvalDataLoader, IndexDataLoader):  # type: ignore[misc]
    """RecBole's evaluation batches; the rows of all users of a batch are gathered together.

    A user's negatives depend only on the user and the phase, so that every epoch, model and seed
    is judged on the same candidates. With a transform they depend on the batch's first user. With
    ``eval_candidates: drawn`` they come user by user from the run's random numbers, as in RecBole,
    and are the same under the same seed. This also holds with several processes, each of which
    draws all negatives and scores its own batches.
    """

    sample_size: int
    draws_alike = True

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        budget = EngineSettings.of(self.config).eval_memory_mib * 2**20
        if self._draws and budget:  # RecBole's trainer holds a row of the whole catalogue per user
            users = budget // (SCORE_COPIES * FLOAT_BYTES * self._dataset.item_num)
            self.step = max(min(self.step, int(users)), 1)

    @property
    def _index_sampler(self) -> Any:
        return self._all_batches() if self._in_turn else own_rows(self.sample_size, self.step)

    @property
    def _draws(self) -> bool:
        return bool(self.neg_sample_args["distribution"] != "none")  # none with labels

    @cached_property
    def _in_turn(self) -> bool:
        """Whether a batch's negatives depend on what was drawn before it."""
        return self._draws and EngineSettings.of(self.config).eval_candidates == "drawn"

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        own = self._own_batches()
        yield from batches if own is None else islice(batches, own.start, own.stop)
        for _ in batches:  # so that all processes draw the same amount
            pass

    @property
    def first_row(self) -> int:
        """Number of evaluation rows before those of this process."""
        own = self._own_batches()
        if own is None:
            return distributed.own_range(self.sample_size).start
        return own.start * self.step

    def _own_batches(self) -> range | None:
        """This process's part of the batches that all draw; None if each draws its own."""
        return distributed.own_range(len(self)) if self._in_turn else None

    def collate_fn(self, index: Tensor) -> Any:
        """Rows, each row's user in the batch, and the positives' users and items."""
        if not self._draws:
            rows = self.transform(self._dataset, self._dataset[index])
            return self._neg_sampling(rows), None, None, None
        if self.config["transform"] is not None:
            # A transform may also draw random numbers, so the batch has one seed.
            with self._isolated_numpy_randomness():
                self._begin(self.uid_list[int(index[0])])
                return super().collate_fn(index)
        users = self.uid_list[index.numpy()]
        starts = np.array([self.uid2index[user].start for user in users])
        sizes = self.uid2items_num[users]
        positives = self._dataset[torch.from_numpy(ranges(starts, sizes))]
        owner = torch.from_numpy(np.repeat(np.arange(len(users)), sizes))
        rows = self._with_negatives(positives, sizes)
        owners = torch.from_numpy(np.repeat(np.arange(len(users)), sizes * self.times))
        return rows, owners, owner, positives[self.iid_field]

    def _with_negatives(self, positives: Interaction, sizes: Any) -> Interaction:
        """Each user's positives, then the same rows repeated with negatives as items."""
        begins = np.cumsum(sizes) - sizes
        place = ranges(np.zeros_like(sizes), sizes * self.times)
        size, begin = (np.repeat(a, sizes * self.times) for a in (sizes, begins))
        rows = take(positives, torch.from_numpy(begin + place % size))
        negative = torch.from_numpy(place >= size)
        rows[self.iid_field][negative] = self._draw(positives, begins, sizes)
        rows = self._dataset.join(rows)
        rows.update(Interaction({self.label_field: (~negative).float()}))
        return rows

    def _draw(self, positives: Interaction, begins: Any, sizes: Any) -> Tensor:
        users, items = (positives[f].numpy() for f in (self.uid_field, self.iid_field))
        num, drawn = self.neg_sample_num, []
        with self._isolated_numpy_randomness():
            for begin, size in zip(begins, sizes, strict=True):
                self._begin(users[begin])
                rows = slice(begin, begin + size)
                drawn.append(self._sampler.sample_by_user_ids(users[rows], items[rows], num))
        return torch.cat(drawn)

    @contextmanager
    def _isolated_numpy_randomness(self) -> Iterator[None]:
        """Restore NumPy's random state, which samplers draw from, at the end of the block."""
        before = None if self._in_turn else np.random.get_state()
        try:
            yield
        finally:
            if before is not None:
                np.random.set_state(before)

    def _begin(self, user: int) -> None:
        """Seed the draws that follow by the user, unless users draw from one stream in turn."""
        if not self._in_turn:
            np.random.seed(2 * int(user) + (self._sampler.phase == "test"))

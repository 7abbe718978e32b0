"""Evaluation loader with sampled negatives, or with labels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import (
    NegSampleEvalDataLoader as RecBoleNegSampleEvalDataLoader,
)
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.core import distributed
from recbole_llm.data.interaction import take
from recbole_llm.data.loaders import IndexDataLoader, own_rows
from recbole_llm.data.split import ranges


class NegSampleEvalDataLoader(RecBoleNegSampleEvalDataLoader, IndexDataLoader):  # type: ignore[misc]
    """RecBole's evaluation batches; the rows of all users of a batch are gathered together.

    Negatives are drawn user by user as RecBole does, hence the same under the same seed; also in
    several processes, of which each draws all and scores its own batches.
    """

    sample_size: int

    @property
    def _index_sampler(self) -> Any:
        return self._all_batches() if self._draws else own_rows(self.sample_size, self.step)

    @property
    def _draws(self) -> bool:
        return "none" not in (
            self.neg_sample_args["distribution"],
            self.neg_sample_args["sample_num"],
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        own = self._own_batches()
        yield from batches if own is None else islice(batches, own.start, own.stop)
        for _ in batches:  # so that all processes have drawn as much
            pass

    @property
    def first_row(self) -> int:
        """Rows of the evaluation before those of this process."""
        own = self._own_batches()
        if own is None:
            return distributed.own_range(self.sample_size).start
        return own.start * self.step

    def _own_batches(self) -> range | None:
        """Of the batches that all processes draw; None where they draw none."""
        return distributed.own_range(len(self)) if self._draws else None

    def collate_fn(self, index: Tensor) -> Any:
        """Rows, row -> user of the batch, and the positives' users and items."""
        if not self._draws:
            rows = self.transform(self._dataset, self._dataset[index])
            return self._neg_sampling(rows), None, None, None
        if self.config["transform"] is not None or self.neg_sample_args.get("dynamic", False):
            return super().collate_fn(index)  # may draw random numbers user by user
        users = self.uid_list[index.numpy()]
        starts = np.array([self.uid2index[user].start for user in users])
        sizes = self.uid2items_num[users]
        positives = self._dataset[torch.from_numpy(ranges(starts, sizes))]
        owner = torch.from_numpy(np.repeat(np.arange(len(users)), sizes))
        rows = self._with_negatives(positives, sizes)
        owners = torch.from_numpy(np.repeat(np.arange(len(users)), sizes * self.times))
        return rows, owners, owner, positives[self.iid_field]

    def _with_negatives(self, positives: Interaction, sizes: Any) -> Interaction:
        """Each user's positives, then the same rows with one negative after the other."""
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
        own = [slice(a, a + n) for a, n in zip(begins, sizes, strict=True)]
        num, draw = self.neg_sample_num, self._sampler.sample_by_user_ids
        return torch.cat([draw(users[rows], items[rows], num) for rows in own])

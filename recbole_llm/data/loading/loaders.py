"""RecBole's loaders, with batches of index tensors in place of lists of Python integers.

Where several processes train, all draw the same batches, and each takes its part of every one; in
evaluation each takes a stretch of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from logging import getLogger
from typing import Any

import torch
from recbole.data.dataloader import KGDataLoader as RecBoleKGDataLoader
from recbole.data.dataloader import KnowledgeBasedDataLoader as RecBoleKnowledgeBasedDataLoader
from recbole.data.dataloader import TrainDataLoader as RecBoleTrainDataLoader
from recbole.data.dataloader import UserDataLoader as RecBoleUserDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.sampler.sampler import AbstractSampler
from recbole.utils import ModelType
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from recbole_llm.core.compat import worker_start
from recbole_llm.core.processes import distributed, randomness


class Positions:
    """The numbers 0…size-1 as a torch data set that hands a batch's numbers on as they are."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, index: Tensor) -> Tensor:
        return index


class IndexBatches:
    """A torch batch sampler: the order of the sampler that torch makes, in index tensors."""

    def __init__(self, sampler: Any, size: int) -> None:
        self.sampler = sampler
        self.size = size

    def __iter__(self) -> Iterator[Tensor]:
        if isinstance(self.sampler, RandomSampler):
            # As torch's sampler draws: the permutation at the first batch (the loader takes its
            # base seed from the generator before), and at the end one of which it uses nothing.
            yield from torch.split(self._permutation(), self.size)
            self._permutation()
        else:
            yield from torch.split(torch.arange(len(self.sampler)), self.size)

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.size)

    def _permutation(self) -> Tensor:
        return torch.randperm(len(self.sampler), generator=self.sampler.generator)


def own_rows(count: int, size: int) -> Sequence[Tensor]:
    """Batches for torch: this process's stretch of `count` rows, in index tensors of ``size``; the
    processes' stretches, in order of rank, are all rows.

    Raises:
        ValueError: there are fewer rows than processes; RecBole takes no empty stretch.
    """
    if 0 < count < distributed.world_size():
        raise ValueError(
            f"{count} rows cannot be evaluated by {distributed.world_size()} processes; start fewer"
        )
    own = distributed.own_range(count)
    return torch.split(torch.arange(own.start, own.stop), size) if own else ()


class OwnParts:
    """A torch batch sampler: this process's part of each batch that all have."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return map(distributed.part_of_batch, self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class IndexDataLoader(DataLoader[Any]):
    """Stands between RecBole's loaders and torch's, in ``class X(RecBoleX, IndexDataLoader)``.

    ``collate_fn`` gets an index tensor. Order, generator use and workers stay torch's.
    """

    config: Any
    step: int  # rows of all processes, which follows update_config (torch's batch_size cannot)
    collate_fn: Callable[[Any], Any]
    row_count: int | None = None  # None: of the list of numbers that RecBole makes
    draws_alike = False  # whether the workers of all processes draw the same numbers

    def __init__(self, dataset: Sequence[int], *args: Any, **kwargs: Any) -> None:
        rows = len(dataset) if self.row_count is None else self.row_count
        kwargs["worker_init_fn"] = None if self.draws_alike else randomness.seed_worker
        kwargs["multiprocessing_context"] = worker_start(kwargs["num_workers"])
        super().__init__(Positions(rows), *args, **kwargs)  # type: ignore[arg-type]

    @property
    def _index_sampler(self) -> Any:
        batches = self._all_batches()
        # Models that count must see every row.
        counts = self.config["MODEL_TYPE"] == ModelType.TRADITIONAL
        return batches if counts else OwnParts(batches)

    def _all_batches(self) -> Any:
        """The batches of all processes together."""
        return IndexBatches(self.sampler, self.step)


class TrainDataLoader(RecBoleTrainDataLoader, IndexDataLoader):  # type: ignore[misc]
    """RecBole's training batches, the same in the same order under the same seed."""

    def __init__(
        self, config: Any, dataset: Dataset, sampler: AbstractSampler, shuffle: bool = False
    ) -> None:
        self.logger = getLogger()
        args = config["MODEL_INPUT_TYPE"], config["train_neg_sample_args"]
        self._set_neg_sample_args(config, dataset, *args)
        # Past RecBole's own __init__, whose list of all rows' numbers takes 36 bytes each.
        self.sample_size, self.row_count = 0, len(dataset)
        super(RecBoleTrainDataLoader, self).__init__(config, dataset, sampler, shuffle=shuffle)
        self.sample_size = self.row_count

    def collate_fn(self, index: Tensor) -> Interaction:
        """The rows at index, transformed, with negatives."""
        rows = self.transform(self._dataset, self._dataset[index])
        return self._neg_sampling(rows)


class UserDataLoader(RecBoleUserDataLoader, IndexDataLoader):  # type: ignore[misc]
    """RecBole's batches of users."""


class KGDataLoader(RecBoleKGDataLoader, IndexDataLoader):  # type: ignore[misc]
    """RecBole's batches of triplets."""


class KnowledgeBasedDataLoader(RecBoleKnowledgeBasedDataLoader):  # type: ignore[misc]
    """RecBole's batches of interactions, of triplets, or of both."""

    def __init__(
        self, config: Any, dataset: Dataset, sampler: Any, kg_sampler: Any, shuffle: bool = False
    ) -> None:
        # Past RecBole's own __init__, which makes both loaders of its own.
        self.logger, self._dataset = getLogger(), dataset
        self.shuffle, self.state, self.kg_iter, self.gen_iter = False, None, None, None
        self.general_dataloader = TrainDataLoader(config, dataset, sampler, shuffle=shuffle)
        self.kg_dataloader = KGDataLoader(config, dataset, kg_sampler, True)

    @property
    def dataset(self) -> Dataset:
        """The training data, which RecBole's collectors read of every training loader."""
        return self._dataset

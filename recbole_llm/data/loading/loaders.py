"""RecBole's loaders, with index tensors for batches in place of lists of Python integers.

In training with several processes, all draw the same batches, and each takes its part of every
batch. In evaluation each takes a contiguous range of the rows.
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
    """Torch data set of the numbers 0…size-1, which returns a batch's index tensor unchanged."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, index: Tensor) -> Tensor:
        return index


class IndexBatches:
    """Torch batch sampler that yields index tensors in the order of torch's own sampler."""

    def __init__(self, sampler: Any, size: int) -> None:
        self.sampler = sampler
        self.size = size

    def __iter__(self) -> Iterator[Tensor]:
        if not isinstance(self.sampler, RandomSampler):
            yield from torch.split(torch.arange(len(self.sampler)), self.size)
            return
        # Draw as torch's sampler does: a permutation at the first batch (after the loader drew its
        # base seed from the generator), and another one, left unused, when a batch needs a row more
        # than there are: before a last batch that is not full, and else when a batch more is asked
        # for, which RecBole does not do with the graph of its knowledge-based models.
        *full, last = torch.split(self._permutation(), self.size)
        yield from full
        if len(last) < self.size:
            self._permutation()
            yield last
        else:
            yield last
            self._permutation()

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.size)

    def _permutation(self) -> Tensor:
        return torch.randperm(len(self.sampler), generator=self.sampler.generator)


def own_rows(count: int, size: int) -> Sequence[Tensor]:
    """This process's range of `count` rows, as batches of `size` indices; the ranges of all
    processes, in order of rank, cover all rows.

    Raises:
        ValueError: there are fewer rows than processes; RecBole cannot evaluate an empty range.
    """
    if 0 < count < distributed.world_size():
        raise ValueError(
            f"{count} rows cannot be evaluated by {distributed.world_size()} processes; start fewer"
        )
    own = distributed.own_range(count)
    return torch.split(torch.arange(own.start, own.stop), size) if own else ()


class OwnParts:
    """Torch batch sampler that yields this process's part of each batch."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return map(distributed.part_of_batch, self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class IndexDataLoader(DataLoader[Any]):
    """Base between RecBole's loaders and torch's: ``class X(RecBoleX, IndexDataLoader)``.

    ``collate_fn`` gets an index tensor. Order, use of the generator and workers are torch's.
    """

    config: Any
    step: int  # rows over all processes; follows update_config, as torch's batch_size cannot
    collate_fn: Callable[[Any], Any]
    row_count: int | None = None  # None: the length of RecBole's list of row numbers
    draws_alike = False  # whether the workers of all processes draw the same numbers

    def __init__(self, dataset: Sequence[int], *args: Any, **kwargs: Any) -> None:
        rows = len(dataset) if self.row_count is None else self.row_count
        kwargs["worker_init_fn"] = None if self.draws_alike else randomness.seed_worker
        kwargs["multiprocessing_context"] = worker_start(kwargs["num_workers"])
        super().__init__(Positions(rows), *args, **kwargs)  # type: ignore[arg-type]

    @property
    def _index_sampler(self) -> Any:
        batches = self._all_batches()
        # Models that train by counting must see every row.
        counts = self.config["MODEL_TYPE"] == ModelType.TRADITIONAL
        return batches if counts else OwnParts(batches)

    def _all_batches(self) -> Any:
        """The batches of all processes together."""
        return IndexBatches(self.sampler, self.step)


class TrainDataLoader(RecBoleTrainDataLoader, IndexDataLoader):  # type: ignore[misc]
    """RecBole's training batches, in the same order under the same seed."""

    def __init__(
        self, config: Any, dataset: Dataset, sampler: AbstractSampler, shuffle: bool = False
    ) -> None:
        self.logger = getLogger()
        args = config["MODEL_INPUT_TYPE"], config["train_neg_sample_args"]
        self._set_neg_sample_args(config, dataset, *args)
        # Skip RecBole's own __init__, whose list of row numbers takes 36 bytes per row.
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
        # Skip RecBole's own __init__, which makes both loaders from its own classes.
        self.logger, self._dataset = getLogger(), dataset
        self.shuffle, self.state, self.kg_iter, self.gen_iter = False, None, None, None
        self.general_dataloader = TrainDataLoader(config, dataset, sampler, shuffle=shuffle)
        self.kg_dataloader = KGDataLoader(config, dataset, kg_sampler, True)

    @property
    def dataset(self) -> Dataset:
        """The training data, which RecBole's collectors read from every training loader."""
        return self._dataset

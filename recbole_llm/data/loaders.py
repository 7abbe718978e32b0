"""RecBole's loaders, with batches of index tensors in place of lists of Python integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from recbole.data.dataloader import TrainDataLoader as RecBoleTrainDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset
    from recbole.sampler import AbstractSampler


class Positions:
    """The numbers 0…size-1 as a torch data set that hands a batch's numbers on as they are."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index

    def __getitems__(self, index: Tensor) -> Tensor:
        return index


class IndexBatches:
    """A torch batch sampler: the sampler's order, in index tensors of ``size``."""

    def __init__(self, sampler: AbstractSampler, size: int) -> None:
        self.sampler = sampler
        self.size = size

    def __iter__(self) -> Iterator[Tensor]:
        sampler = self.sampler
        if type(sampler) is SequentialSampler:
            yield from torch.split(torch.arange(len(sampler)), self.size)
        elif type(sampler) is RandomSampler and sampler.generator is not None:
            # As torch's sampler draws: the permutation at the first batch (the loader takes its
            # base seed from the generator before), and at the end one of which it uses nothing.
            yield from torch.split(self._permutation(), self.size)
            self._permutation()
        else:
            yield from torch.split(torch.tensor(list(sampler), dtype=torch.int64), self.size)

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.size)

    def _permutation(self) -> Tensor:
        return torch.randperm(len(self.sampler), generator=self.sampler.generator)


class IndexDataLoader(DataLoader[Any]):
    """Stands between RecBole's loaders and torch's, in ``class X(RecBoleX, IndexDataLoader)``.

    ``collate_fn`` gets an index tensor. Order, generator use and workers stay torch's.
    """

    step: int
    config: Any
    collate_fn: Callable[[Any], Any]

    def __init__(self, dataset: Dataset, *args: object, **kwargs: object) -> None:
        super().__init__(Positions(len(dataset)), *args, **kwargs)  # type: ignore[arg-type]

    @property
    def _index_sampler(self) -> Any:
        return IndexBatches(self.sampler, self.batch_rows)

    @property
    def batch_rows(self) -> int:
        """Rows a step of this process."""
        # `step` follows update_config (torch's batch_size cannot), but is only at first divided
        # by the number of processes.
        return self.step if self.config["single_spec"] else int(self.batch_size or 1)


class TrainDataLoader(RecBoleTrainDataLoader, IndexDataLoader):  # type: ignore[misc]
    """RecBole's training batches, the same in the same order under the same seed."""

    def collate_fn(self, index: Tensor) -> Interaction:
        """The rows at index, transformed, with negatives."""
        rows = self.transform(self._dataset, self._dataset[index])
        return self._neg_sampling(rows)

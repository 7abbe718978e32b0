"""The training interactions themselves, from any train split: RecBole's or this package's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from recbole.data.dataset import Dataset

from recbole_llm.core.arrays import IntArray
from recbole_llm.data.rows.interaction import SequenceInteraction, order_key
from recbole_llm.data.rows.split import ranges, stable_order, user_time_order

_USERS = 2**16  # users whose interactions are read from disk at a time


def training_interactions(dataset: Dataset) -> tuple[IntArray, IntArray]:
    """Every training interaction once, in user-time order.

    RecBole's sequential train split has one row per *target*, so a user's first interaction is
    only in the item lists. It is put back here, taken from the shortest list of each user.
    An interaction of a user without any training row is not a training interaction.

    Args:
        dataset: a train split (``train_data.dataset``), sequential or general.

    Returns:
        users int [N] and items int [N], internal ids; sorted by user, then time.

    Raises:
        ValueError: the data set is not split yet, so that its interactions include the test set.
    """
    if isinstance(dataset.inter_feat, SequenceInteraction):
        parts = list(training_parts(dataset))
        users, items = (np.concatenate(part) for part in zip(*parts, strict=True))
        return users, items
    users, items = _user_item_columns(dataset)
    inter, time = dataset.inter_feat, dataset.time_field
    timed = time in inter
    order = user_time_order(users, order_key(inter, time)) if timed else stable_order(users)
    users, items = users[order], items[order]
    if not (_has_lists(dataset) and len(users)):
        return users, items
    return _with_first_lists(dataset, order, users, items)


def _user_item_columns(dataset: Dataset) -> tuple[IntArray, IntArray]:
    """Users and items of a split's rows, in their order."""
    inter = dataset.inter_feat
    if not hasattr(inter, "interaction"):
        raise ValueError(
            f"dataset '{dataset.dataset_name}' is not split yet: pass train_data.dataset, "
            f"which holds training interactions only"
        )
    return inter[dataset.uid_field].numpy(), inter[dataset.iid_field].numpy()


def _has_lists(dataset: Dataset) -> bool:
    """Whether rows have item lists, which hold interactions without a row of their own."""
    field = getattr(dataset, f"{dataset.iid_field}_list_field", None)
    return field is not None and field in dataset.inter_feat


def training_histories(dataset: Dataset) -> Iterator[tuple[int, IntArray]]:
    """Each user with training interactions, and the user's items in order of time."""
    users, items = training_interactions(dataset)
    ids, starts = np.unique(users, return_index=True)
    return zip(ids.tolist(), np.split(items, starts[1:]))


def training_parts(dataset: Dataset) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield every training interaction once, as parts of (users, items) in any order; a
    `SequenceInteraction` is read some users at a time."""
    inter = dataset.inter_feat
    if isinstance(inter, SequenceInteraction):  # histories up to the last targets
        columns = inter.interaction.source.columns
        users, items = columns[dataset.uid_field], columns[dataset.iid_field]
        for part in inter.interaction.target_ranges().parts(_USERS):
            rows = torch.from_numpy(ranges(part.begin, part.high - part.begin + 1))
            yield users[rows].numpy(), items[rows].numpy()
    elif _has_lists(dataset):  # RecBole's own
        yield training_interactions(dataset)
    else:
        yield _user_item_columns(dataset)


def training_digest(dataset: Dataset) -> str:
    """Digest of the training interactions in 16 hex digits, whatever their order."""
    total = 0
    for users, items in training_parts(dataset):
        mixed = (users * dataset.item_num + items).astype(np.uint64)
        for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):  # of splitmix64
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(factor)
        total += int(mixed.sum(dtype=np.uint64))
    return f"{total % 2**64:016x}"


def item_counts(dataset: Dataset) -> IntArray:
    """Training interactions of each item, int [n_items]; row 0 (padding) is 0."""
    return _counts((items for _, items in training_parts(dataset)), dataset.item_num)


def user_counts(dataset: Dataset) -> IntArray:
    """Training interactions of each user, int [n_users]; row 0 (padding) is 0."""
    return _counts((users for users, _ in training_parts(dataset)), dataset.user_num)


def _counts(parts: Iterable[IntArray], size: int) -> IntArray:
    counts = np.zeros(size, np.int64)
    for ids in parts:
        counts += np.bincount(ids, minlength=size)
    return counts


def _with_first_lists(
    dataset: Dataset, order: IntArray, users: IntArray, items: IntArray
) -> tuple[IntArray, IntArray]:
    """Put each user's shortest item list before the user's targets."""
    inter, list_field = dataset.inter_feat, getattr(dataset, f"{dataset.iid_field}_list_field")
    lengths = inter[dataset.item_list_length_field].numpy()[order]
    by_length = np.lexsort((lengths, users))
    first = by_length[np.r_[True, users[1:] != users[:-1]]]  # rows of `order`, one per user
    heads = inter[order[first]][list_field].numpy()  # [U, L]
    real = np.arange(heads.shape[1]) < lengths[first][:, None]  # [U, L]
    head_users = np.repeat(users[first], lengths[first])
    all_users = np.concatenate([head_users, users])
    all_items = np.concatenate([heads[real], items])
    order = np.argsort(all_users, kind="stable")
    return all_users[order], all_items[order]

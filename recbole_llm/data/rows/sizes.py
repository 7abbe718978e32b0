"""Size of a data set, after filters."""

from __future__ import annotations

import numpy as np
import torch
from recbole.data.dataset import Dataset

from recbole_llm.core.lines import plural
from recbole_llm.data.rows.interaction import SequenceInteraction
from recbole_llm.data.rows.split import sorted_unique


def data_line(dataset: Dataset) -> str:
    """Name and size of a data set."""
    counts = ", ".join(plural(number, what[:-1]) for what, number in count_rows(dataset).items())
    return f"{dataset.dataset_name}: {counts}"


def count_rows(dataset: Dataset) -> dict[str, int]:
    """Users, items and interactions of a loaded data set."""
    users, items, inter = _count_users(dataset), dataset.item_num - 1, dataset.inter_feat
    if isinstance(inter, SequenceInteraction):  # it has one row per target
        interactions = len(inter.interaction.source.position)
    else:
        interactions = len(inter)
        histories = getattr(dataset, "item_list_length_field", None)  # as in DIEN's data set
        if histories in inter and not dataset.config["benchmark_filename"]:
            interactions += len(torch.unique(inter[dataset.uid_field]))  # first ones have no row
    return {"users": users, "items": int(items), "interactions": interactions}


def _count_users(dataset: Dataset) -> int:
    """Number of users with interactions; a ``.user`` file that is loaded may have more."""
    if dataset.user_feat is None:
        return int(dataset.user_num - 1)
    inter = dataset.inter_feat
    rows = inter.interaction.source.columns if isinstance(inter, SequenceInteraction) else inter
    users = np.asarray(rows[dataset.uid_field])
    return len(sorted_unique(users[users > 0]))

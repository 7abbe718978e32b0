"""Which items there are: those with interactions, and those that the ``.item`` file adds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.data.files import Table, read_types, written

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

    from recbole_llm.core.settings import ConfigLike


def listed_items(config: ConfigLike, dataset: Dataset) -> list[str] | None:
    """The tokens of a data set's ``.item`` file in its order; None without such a file or column.

    Raises:
        ValueError: the file is malformed.
    """
    field = dataset.iid_field
    file = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if not file.is_file() or field not in read_types(file, *written(config)):
        return None
    tokens = Table.read(file, *written(config)).columns[field]
    return [token for token in dict.fromkeys(tokens) if token]


def new_items(config: ConfigLike, dataset: Dataset) -> list[str]:
    """Items of the ``.item`` file that have no id: without interactions after the filters, or
    unknown to the checkpoint that the data set is numbered by."""
    known = dataset.field2token_id[dataset.iid_field]
    return [token for token in listed_items(config, dataset) or () if token not in known]

"""``item_init: llm``: a stock model's item embedding table starts from the item vectors.

Not in `models`, because it serves any of them, RecBole's and plugins', from the outside.
"""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING

import torch
from torch import nn

from recbole_llm.core.run_settings import RunSettings
from recbole_llm.features.table import Matrix

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

    from recbole_llm.core.config import Config

# FPMC's item tables, the only ones in RecBole without "item" in their names.
_NAMES = ("IU_emb", "IL_emb", "LI_emb")


def initialise_items(config: Config, model: nn.Module, dataset: Dataset) -> list[str]:
    """Replace the rows of the item embedding tables according to ``item_init``.

    Args:
        config: its keys ``item_init`` (None: nothing happens; ``llm``: principal components of
            the item vectors), ``item_init_std`` and ``item_init_whitening``.
        model: freshly built; its tables keep row 0 (padding), rows beyond the items (BERT4Rec's
            mask token), and columns that the vectors cannot fill.
        dataset: whose item ids the tables have.

    Returns:
        Names of the tables.

    Raises:
        ValueError: a key out of its range, or a model without an item embedding table.
    """
    settings = RunSettings.of(config)
    if settings.item_init is None:
        return []
    n_items = int(dataset.num(dataset.iid_field))
    tables = item_tables(model, n_items)
    if not tables:
        raise ValueError(
            f"item_init: {config['model']} has no item embedding table to start from the item "
            f"vectors: looked for a trainable torch.nn.Embedding with 'item' in its name and "
            f"{n_items} or {n_items + 1} rows; leave item_init unset for this model"
        )
    from recbole_llm.features.attach import item_embeddings
    from recbole_llm.features.reduce import whitened

    matrix = whitened(item_embeddings(config, dataset).matrix, settings.item_init_whitening)
    for name, table in tables.items():
        width = fill_table(table, matrix, std=settings.item_init_std)
        getLogger().info(
            f"item_init: {name} [{table.num_embeddings}, {table.embedding_dim}] starts from "
            f"{width} principal components of the item vectors"
        )
    return list(tables)


def item_tables(model: nn.Module, n_items: int) -> dict[str, nn.Embedding]:
    """The trainable embedding tables of a model that have a row for each item, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and _names_items(name.rpartition(".")[2])
        and module.num_embeddings in (n_items, n_items + 1)
        and module.embedding_dim > 1  # one number an item is a bias
        and module.weight.requires_grad
    }


def _names_items(name: str) -> bool:
    return "item" in name.lower() or name in _NAMES


@torch.no_grad()
def fill_table(
    table: nn.Embedding, matrix: Matrix, key: str = "item_init", std: float | None = None
) -> int:
    """Put principal components of ``matrix`` into a table.

    Args:
        table: [n or n + 1, H].
        matrix: [n, D]; row 0, the padding item, is zero, and so are items without a vector,
            which start at the mean, 0.
        key: the configuration's, for messages.
        std: standard deviation of what is put in; None: the table's own.

    Returns:
        The number of columns that were filled, H where the vectors have as many components.
    """
    from recbole_llm.features.reduce import pca

    components = pca(matrix, table.embedding_dim)
    width: int = components.axes.shape[1]
    rows = table.weight[1 : len(matrix), :width]
    spread = components.spread()
    wanted = float(rows.std()) if std is None else std
    scale = wanted / spread if spread else 0.0
    if not 0.0 < scale < float("inf"):
        raise ValueError(
            f"{key}: the item vectors vary by {spread:.3g} and the table by "
            f"{wanted:.3g} (standard deviations), so one cannot be scaled to the other"
        )
    rows.copy_(torch.from_numpy(components.coordinates[1:]) * scale)
    return width

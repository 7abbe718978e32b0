"""``item_init: llm``: a stock model's item embedding table starts from the item vectors.

It is not in `models`, because it works on any model, RecBole's and plugins' included.
"""

from __future__ import annotations

from collections.abc import Iterator
from logging import getLogger
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.model.layers import FMEmbedding
from torch import Tensor, nn

from recbole_llm.core.config import Config
from recbole_llm.core.keys.run import RunSettings
from recbole_llm.features.attach import item_embeddings
from recbole_llm.features.tables.reduce import Whitener, expected_rows, pca
from recbole_llm.features.tables.table import Matrix
from recbole_llm.layers.embedding import FrozenEmbedding

# FPMC's item tables, the only ones in RecBole without "item" in their names.
_NAMES = ("IU_emb", "IL_emb", "LI_emb")


def initialize_items(config: Config, model: nn.Module, dataset: Dataset) -> list[str]:
    """Replace the rows of the item embedding tables according to ``item_init``.

    Args:
        config: its keys ``item_init`` (None: nothing happens; ``llm``: principal components of
            the item vectors), ``item_init_std`` and ``item_init_whitening``.
        model: freshly built; its tables keep row 0 (padding), rows beyond the items (BERT4Rec's
            mask token), and columns that the vectors cannot fill.

    Returns:
        Names of the tables.

    Raises:
        ValueError: a key out of its range, or a model without an item embedding table.
    """
    settings = RunSettings.of(config)
    if settings.item_init is None:
        return []
    n_items = int(dataset.num(dataset.iid_field))
    tables = item_tables(model, dataset.iid_field, n_items)
    if not tables:
        raise ValueError(
            f"item_init: {config['model']} has no item embedding table to start from the item "
            f"vectors: looked for a trainable torch.nn.Embedding with 'item' in its name and "
            f"{n_items} or {n_items + 1} rows, or RecBole's table of fields; leave item_init "
            f"unset for this model"
        )
    vectors = item_embeddings(config, dataset).matrix
    matrix = Whitener(vectors, settings.item_init_whitening)(vectors)
    for name, table in tables.items():
        width = fill_table(table, matrix, std=settings.item_init_std)
        getLogger().info(
            f"item_init: {name} [{', '.join(map(str, table.shape))}] starts from "
            f"{width} principal components of the item vectors"
        )
    return list(tables)


def item_tables(model: nn.Module, field: str, n_items: int) -> dict[str, Tensor]:
    """The trainable rows of a model that embed each item, [n or n + 1, H], by name.

    Args:
        model: its item tables are taken, and from the tables for all fields, which RecBole's
            context-aware models and DIN have, the items' rows.
        n_items: n, including padding.
    """
    own = {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and ("item" in name.rpartition(".")[2].lower() or name.rpartition(".")[2] in _NAMES)
        and module.num_embeddings in (n_items, n_items + 1)
    }
    tables = {**own, **_rows_of_field(model, field, n_items)}
    # A table with one number per item is a bias.
    return {n: rows for n, rows in tables.items() if rows.shape[1] > 1 and rows.requires_grad}


def _rows_of_field(model: nn.Module, field: str, count: int) -> dict[str, Tensor]:
    rows = {}
    for path, side, fields, table in _field_tables(model):
        if field in fields:
            first = int(table.offsets[fields.index(field)])
            name = ".".join(part for part in (path, side, field) if part)
            rows[name] = table.embedding.weight[first : first + count]
    return rows


def _field_tables(model: nn.Module) -> Iterator[tuple[str, str, list[str], Any]]:
    """RecBole's tables for several fields: module, side (user or item), fields, table."""
    for path, module in model.named_modules():
        tables: Any = getattr(module, "token_embedding_table", None)
        fields: Any = getattr(module, "token_field_names", None)
        if isinstance(tables, FMEmbedding):  # of both sides
            yield path, "", fields, tables
        elif isinstance(tables, nn.ModuleDict):
            yield from ((path, side, fields[side], table) for side, table in tables.items())


@torch.no_grad()
def append_items(vectors: FrozenEmbedding, later: Tensor, *tables: nn.Embedding) -> None:
    """Append items that were added after training.

    Args:
        vectors: of the known items, [n, D].
        later: vectors of the new items, [m, D].
        tables: trained, [n, H]; a new row is the least-squares prediction from the item's vector.
    """
    known = vectors.weight
    vectors.append(later)
    for table in tables:
        parts = (table.weight, known, vectors.weight[len(known) :])
        rows = torch.from_numpy(expected_rows(*(p.cpu().numpy() for p in parts))).to(table.weight)
        table.weight = nn.Parameter(torch.cat([table.weight, rows]), table.weight.requires_grad)
        table.num_embeddings = len(table.weight)


@torch.no_grad()
def fill_table(
    table: Tensor, matrix: Matrix, key: str = "item_init", std: float | None = None
) -> int:
    """Put principal components of ``matrix`` into a table.

    Args:
        table: [n or n + 1, H].
        matrix: [n, D]; row 0, the padding item, is zero, and so are items without a vector,
            which start at the mean, 0.
        std: standard deviation of the new values; None: that of the table's old ones.

    Returns:
        The number of columns that were filled: H if the vectors have as many components.
    """
    components = pca(matrix, table.shape[1])
    width: int = components.axes.shape[1]
    rows = table[1 : len(matrix), :width]
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

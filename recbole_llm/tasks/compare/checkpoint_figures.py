"""Figures of a comparison that are read from its checkpoints: item maps, and models' own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.checkpoints.tokens import unpack
from recbole_llm.core.digest import short_digests
from recbole_llm.core.errors import named_error
from recbole_llm.features.attach import item_embeddings, reads_items
from recbole_llm.tasks.compare.catalogue import Catalogue
from recbole_llm.tasks.compare.cells import Cell
from recbole_llm.tasks.compare.figures import COLORS, Figure, make_figure, wrap_label

_ITEMS = 1000  # items in a map
_TITLE, _WIDE = 200, 40  # characters of a title at a point, and of each of its lines


def model_figures(cells: Sequence[Cell]) -> Iterator[Figure]:
    """Draw the figures that models define in `page_figures` (models/README.md)."""
    for cell in cells:
        model, label = cell.seeded.config.model_class, cell.entry.label
        if hasattr(model, "page_figures") and (checkpoint := _load(cell)) is not None:
            try:
                yield from [
                    make_figure(**{**own, "title": f"{own['title']} of {label}"}, colorway=COLORS)
                    for own in model.page_figures(checkpoint["state_dict"])
                ]
            except Exception as error:  # of a plugin, or of a subclass with other parameters
                getLogger("recbole_llm").warning(
                    f"{cell.name}: no figures of its own, since page_figures of {model.__name__} "
                    f"failed: {named_error(error)}"
                )


def item_maps(cells: Sequence[Cell], catalogue: Catalogue) -> Iterator[Figure]:
    """Draw the item vectors of each model that has a table of them, and of the texts, in 2-D."""
    names = np.array(catalogue.items[1:])
    digests = short_digests(name.encode() for name in names)
    chosen = set(names[digests.argsort()[:_ITEMS]].tolist())
    if reads_items(catalogue.config):
        table = item_embeddings(catalogue.config, catalogue.dataset)
        if table.dimension > 1:
            yield _draw_map("what the texts say", table.matrix, table.tokens, chosen, catalogue)
    for cell in cells:
        if (checkpoint := _load(cell)) is None:
            continue
        items = unpack(checkpoint["tokens"])[catalogue.dataset.iid_field]
        vectors = _item_table(checkpoint["state_dict"], len(items))
        if vectors is not None:
            yield _draw_map(cell.entry.label, vectors, items, chosen, catalogue)


def _load(cell: Cell) -> dict[str, Any] | None:
    """The checkpoint of a cell; None if it was removed or is damaged."""
    if Path(cell.checkpoint).is_file():
        try:
            return load_checkpoint(cell.checkpoint)
        except ValueError as error:
            getLogger("recbole_llm").warning(f"{cell.name} is left out of maps: {error}")
    return None


def _item_table(state: Mapping[str, Any], n_items: int) -> Any:
    tables = (value for name, value in state.items() if "item" in name.lower() and value.dim() == 2)
    for table in tables:
        fits = len(table) in (n_items, n_items + 1) and table.shape[1] > 1
        if fits and table.isfinite().all():  # not if it diverged
            return table[:n_items].float().numpy()
    return None


def _draw_map(
    name: str, vectors: Any, tokens: Iterable[object], chosen: set[str], catalogue: Catalogue
) -> Figure:
    rows_of = {str(token): row for row, token in enumerate(tokens) if str(token) in chosen}
    items, rows = list(rows_of), list(rows_of.values())
    points = vectors[rows] - vectors[rows].mean(0)
    left, sizes, _ = np.linalg.svd(points, full_matrices=False)
    x, y = (left[:, :2] * sizes[:2]).T.astype(float).round(4)
    share = np.square(sizes[:2]).sum() / max(np.square(sizes).sum(), 1e-12)
    count = dict(zip(catalogue.items, catalogue.counts))
    trace = {
        "type": "scatter", "mode": "markers", "x": x.tolist(), "y": y.tolist(),
        "text": [wrap_label(catalogue.title(token)[:_TITLE], _WIDE) for token in items],
        "hoverinfo": "text",
        "marker": {
            "size": 5, "color": [round(float(np.log10(1 + count[t])), 2) for t in items],
            "colorscale": "Viridis",
            "colorbar": {"title": {"text": "log10 of interactions", "side": "right"}},
        },
    }  # fmt: skip
    note = f"Two principal components of {len(items):,} items ({share:.0%} of the variance)."
    return make_figure(f"Item vectors: {name}", note, [trace])

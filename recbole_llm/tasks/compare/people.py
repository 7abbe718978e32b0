"""Items and users of a comparison, for its page: maps of item vectors, gates, who is shown what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.checkpoints.tokens import unpack
from recbole_llm.core.config import Config
from recbole_llm.core.digest import short_digests
from recbole_llm.features.attach import item_embeddings, reads_items
from recbole_llm.features.prompts import titles_if_any
from recbole_llm.models.pad.gate import EXPERTS, gate_weights
from recbole_llm.offline.run import load_dataset
from recbole_llm.tasks.compare.cells import Cell
from recbole_llm.tasks.compare.figures import Figure, colour, figure, lines

_ITEMS = 1000  # of a map
_TITLE, _WIDE = 200, 40  # characters of a title beside a point, and of a line of it
_HISTORY = 20  # last items of a user
_USERS = 50


class Catalogue:
    """The data set of a comparison, by name.

    Args:
        config: of one of its models.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.dataset = config, load_dataset(config)
        self.items = [str(token) for token in self.dataset.field2id_token[self.dataset.iid_field]]
        self.users = [str(token) for token in self.dataset.field2id_token[self.dataset.uid_field]]
        inter, time = self.dataset.inter_feat, self.dataset.time_field
        order = np.argsort(np.asarray(inter[time]), kind="stable") if time in inter else slice(None)
        self._users = np.asarray(inter[self.dataset.uid_field])[order]
        self._items = np.asarray(inter[self.dataset.iid_field])[order]
        self.counts = np.bincount(self._items, minlength=len(self.items))
        self.titles = titles_if_any(config, self.dataset)

    def title(self, item: str) -> str:
        """What it is called."""
        return self.titles.get(item) or item

    def history(self, user: str, held: Iterable[str]) -> list[str]:
        """A user's last items, in order of time, without the interactions that are held out: the
        last with each of these items, since a user may have had them before."""
        left, names = Counter(held), []
        for i in self._items[self._users == self.users.index(user)][::-1]:
            name = self.items[i]
            if left[name] > 0:
                left[name] -= 1
            else:
                names.append(name)
        return names[:_HISTORY][::-1]


def browser(cells: Sequence[Cell], catalogue: Catalogue) -> list[dict[str, Any]]:
    """A few users: history, held-out items, and what each model recommends, by titles."""
    shown = {cell.entry.label: cell.users for cell in cells}
    first = next(iter(shown.values()))
    found = []
    # A model that reads fields of users may lack those without a row there.
    known = np.isin(first["shown_users"], catalogue.users)
    for user in first["shown_users"][known][:_USERS]:
        held = _held(first, user)
        lists = [
            {"label": label, "items": _listed(users, user, catalogue)}
            for label, users in shown.items()
            if (users["shown_users"] == user).any()
        ]
        history = [catalogue.title(item) for item in catalogue.history(str(user), held)]
        targets = [catalogue.title(item) for item in sorted(set(held))]
        found.append({"user": str(user), "history": history, "held": targets, "lists": lists})
    return found


def _held(users: Mapping[str, Any], user: str) -> list[str]:
    """The items that a run holds out of a user's."""
    return list(users["target_items"][users["target_users"] == user].tolist())


def _listed(users: Mapping[str, Any], user: str, catalogue: Catalogue) -> list[dict[str, Any]]:
    """What a run recommends to a user, and whether it holds that out: each may have its split."""
    held, items = _held(users, user), users["shown_items"][users["shown_users"] == user][0]
    return [{"title": catalogue.title(item), "held": item in held} for item in items.tolist()]


def maps(cells: Sequence[Cell], catalogue: Catalogue) -> Iterator[Figure]:
    """The item vectors of each model that has a table of them, and those of the texts, in 2-D."""
    names = np.array(catalogue.items[1:])
    digests = short_digests(name.encode() for name in names)
    chosen = set(names[digests.argsort()[:_ITEMS]].tolist())
    if reads_items(catalogue.config):
        table = item_embeddings(catalogue.config, catalogue.dataset)
        yield _map("what the texts say", table.matrix, table.tokens, chosen, catalogue)
    for cell, checkpoint in _kept(cells):
        items = unpack(checkpoint["tokens"])[catalogue.dataset.iid_field]
        vectors = _item_table(checkpoint["state_dict"], len(items))
        if vectors is not None:
            yield _map(cell.entry.label, vectors, items, chosen, catalogue)


def _kept(cells: Sequence[Cell]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Those whose checkpoint nobody has removed or damaged, with it."""
    for cell in cells:
        if Path(cell.checkpoint).is_file():
            try:
                yield cell, load_checkpoint(cell.checkpoint)
            except ValueError as error:
                getLogger("recbole_llm").warning(f"{cell.name} is left out of maps: {error}")


def _item_table(state: Mapping[str, Any], n_items: int) -> Any:
    tables = (value for name, value in state.items() if "item" in name.lower() and value.dim() == 2)
    for table in tables:
        fits = len(table) in (n_items, n_items + 1) and table.shape[1] > 1
        if fits and table.isfinite().all():  # not one that diverged
            return table[:n_items].float().numpy()
    return None


def _map(
    name: str, vectors: Any, tokens: Iterable[object], chosen: set[str], catalogue: Catalogue
) -> Figure:
    own_rows = {str(token): row for row, token in enumerate(tokens) if str(token) in chosen}
    own, rows = list(own_rows), list(own_rows.values())
    points = vectors[rows] - vectors[rows].mean(0)
    left, sizes, _ = np.linalg.svd(points, full_matrices=False)
    x, y = (left[:, :2] * sizes[:2]).T.astype(float).round(4)
    share = np.square(sizes[:2]).sum() / max(np.square(sizes).sum(), 1e-12)
    count = dict(zip(catalogue.items, catalogue.counts))
    trace = {
        "type": "scatter", "mode": "markers", "x": x.tolist(), "y": y.tolist(),
        "text": [lines(catalogue.title(token)[:_TITLE], _WIDE) for token in own],
        "hoverinfo": "text",
        "marker": {
            "size": 5, "color": [round(float(np.log10(1 + count[t])), 2) for t in own],
            "colorscale": "Viridis",
            "colorbar": {"title": {"text": "log10 of interactions", "side": "right"}},
        },
    }  # fmt: skip
    note = f"Two principal components of {len(own):,} items ({share:.0%} of the variance)."
    return figure(f"Item vectors: {name}", note, [trace])


def gates(cells: Sequence[Cell]) -> Iterator[Figure]:
    """How much PAD's experts count, by how often an item was bought."""
    of_pad = [cell for cell in cells if cell.seeded.config["model"] == "PAD"]
    for cell, checkpoint in _kept(of_pad):
        alpha = checkpoint["state_dict"]["gate.alpha"]  # [3, bins + 1]
        share = gate_weights(alpha)[:, 1:].numpy()
        traces = [
            {"type": "bar", "name": expert, "x": list(range(1, share.shape[1] + 1)),
             "y": share[i].round(4).tolist(), "marker": {"color": colour(i)}}
            for i, expert in enumerate(EXPERTS)
        ]  # fmt: skip
        note = (
            "Weight of each expert's part, by bins of near-equal interactions, popular items first."
        )
        title = f"Gates of {cell.entry.label}"
        yield figure(title, note, traces, "frequency bin", "weight", barmode="stack")

"""The data set of a comparison, for its page: titles of items, and what some users had and get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from recbole_llm.core.config import Config
from recbole_llm.features.contents.prompts import titles_if_any
from recbole_llm.offline.run import load_dataset
from recbole_llm.tasks.compare.cells import Cell

_HISTORY = 20  # latest items of a user
_USERS = 50


class Catalogue:
    """The data set of a comparison, with users and items by name.

    Args:
        config: configuration of one of the comparison's models.
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
        """The title of an item, or its id where it has none."""
        return self.titles.get(item) or item

    def history(self, user: str, held: Iterable[str]) -> list[str]:
        """A user's latest items, in order of time, without held-out interactions. For each held-out
        item, its last interaction is left out, since earlier ones belong to the history."""
        held_out, names = Counter(held), []
        for i in self._items[self._users == self.users.index(user)][::-1]:
            name = self.items[i]
            if held_out[name] > 0:
                held_out[name] -= 1
            else:
                names.append(name)
        return names[:_HISTORY][::-1]


def describe_users(cells: Sequence[Cell], catalogue: Catalogue) -> list[dict[str, Any]]:
    """Describe a few users: history, held-out items and each model's recommendations, by title."""
    shown = {cell.entry.label: cell.users for cell in cells}
    first = next(iter(shown.values()))
    described = []
    # A catalogue whose model reads users' fields lacks users without a row in the .user file.
    known = np.isin(first["shown_users"], catalogue.users)
    for user in first["shown_users"][known][:_USERS]:
        held = _held_out(first, user)
        lists = [
            {"label": label, "items": _recommended_items(users, user, catalogue)}
            for label, users in shown.items()
            if (users["shown_users"] == user).any()
        ]
        history = [catalogue.title(item) for item in catalogue.history(str(user), held)]
        targets = [catalogue.title(item) for item in sorted(set(held))]
        described.append({"user": str(user), "history": history, "held": targets, "lists": lists})
    return described


def _held_out(users: Mapping[str, Any], user: str) -> list[str]:
    """The items that a run holds out of a user's interactions."""
    return list(users["target_items"][users["target_users"] == user].tolist())


def _recommended_items(
    users: Mapping[str, Any], user: str, catalogue: Catalogue
) -> list[dict[str, Any]]:
    """A run's recommendations, each with whether it holds them out: runs may split differently."""
    held, items = _held_out(users, user), users["shown_items"][users["shown_users"] == user][0]
    return [{"title": catalogue.title(item), "held": item in held} for item in items.tolist()]

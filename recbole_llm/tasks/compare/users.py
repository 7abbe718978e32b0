"""Some users of a comparison, for its page: histories, held-out items, and recommendations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recbole_llm.tasks.compare.catalogue import Catalogue
from recbole_llm.tasks.compare.cells import Cell

_USERS = 50


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

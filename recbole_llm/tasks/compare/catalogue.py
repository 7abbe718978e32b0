"""The data set of a comparison, for its page: items, their titles, and users' histories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from recbole_llm.core.config import Config
from recbole_llm.features.contents.prompts import titles_if_any
from recbole_llm.offline.run import load_dataset

_HISTORY = 20  # latest items of a user


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

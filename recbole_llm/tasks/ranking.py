"""What every recommender does with scores: who is asked for, which items may be, the best of them.

No torch and no RecBole are needed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pandas import DataFrame, concat

from recbole_llm.core.checkpoints.tokens import PADDING
from recbole_llm.core.errors import and_more, near_matches
from recbole_llm.tasks.top import Scores, top
from recbole_llm.tasks.where import matching
from recbole_llm.tasks.whom import NEW_USER, Histories, Ids, Wanted, check_whom

_COMPARED = 20_000  # ids that a misspelt one is compared with
_LISTED = 5  # unknown ids in a message
Batch = tuple[list[str], list[Ids], Scores]  # names, items that each has, scores [B, n]


class Ranker:
    """Base of the recommenders; a subclass gives the attributes, `batches`, `known_ids`.

    Attributes:
        name: of the model, for messages.
        item_tokens: external ids by internal id, object [n]; 0 is the padding.
        item_ids, user_ids: {external id: internal id}.
        titles: {item: title}; empty where there are none.
        fields: {field: value of each item by internal id}, for `where`.
    """

    name: str
    item_tokens: Any
    item_ids: Mapping[str, int]
    user_ids: Mapping[str, int]
    titles: Mapping[str, str] = {}
    fields: Mapping[str, Sequence[str]] = {}

    def known_ids(self, users: Iterable[Any] | None, asked: bool = False) -> Ids:
        """Internal ids of users; None: of all that can be scored, or that ask for something."""
        raise NotImplementedError

    def batches(self, wanted: Wanted) -> Iterator[Batch]:
        """Scores of users, some at a time."""
        raise NotImplementedError

    def recommend(
        self,
        users: str | Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        k: int = 10,
        mask_history: bool = True,
        query: str | None = None,
        query_weight: float | None = None,
        histories: Histories | None = None,
        candidates: Iterable[Any] | None = None,
        exclude: Iterable[Any] | None = None,
        where: str | None = None,
    ) -> DataFrame:
        """The best items for users: see `recbole_llm.tasks.recommend.recommend`."""
        wanted = self.wanted(users, items, histories, query, query_weight)
        allowed = self.allowed(candidates, exclude, where)
        return concat(self.stream(wanted, k, mask_history, allowed), ignore_index=True)

    def wanted(
        self,
        users: str | Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        histories: Histories | None = None,
        query: str | None = None,
        query_weight: float | None = None,
    ) -> Wanted:
        """For whom, with all ids known; ValueError for nobody, several ways at once, unknown ids,
        or what the model cannot take."""
        check_whom(users, items, histories, query, query_weight)
        asked = None if query is None else (query, query_weight)
        known, new = None, {NEW_USER: np.zeros(0, np.int64)}  # with nobody but a query
        if users is not None:
            everyone = isinstance(users, str) and users == "all"
            known = self.known_ids(None if everyone else _listed(users), query is not None)
        elif items is not None:
            new = {NEW_USER: self.ids("item", items)}
        elif histories is not None:
            _check_histories(histories)
            new = {str(name): self._history(name, own) for name, own in histories.items()}
        return self.accepted(Wanted(known, new, asked))

    def accepted(self, wanted: Wanted) -> Wanted:
        """The same, as the model takes it; ValueError for what it cannot take."""
        return wanted

    def _history(self, user: object, items: Iterable[Any]) -> Ids:
        try:
            return self.ids("item", items)
        except ValueError as error:  # whose it is, among thousands
            raise ValueError(f"histories: of '{user}': {error}") from None

    def allowed(
        self,
        candidates: Iterable[Any] | None = None,
        exclude: Iterable[Any] | None = None,
        where: str | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Which items may be recommended, bool [n].

        Raises:
            ValueError: unknown ids or fields, or no item that may be.
        """
        allowed = np.ones(len(self.item_tokens), bool)
        if candidates is not None:
            allowed[:] = False
            allowed[self.ids("candidate", candidates)] = True
        never = [] if exclude is None else list(_listed(exclude))
        if never:
            allowed[self.ids("excluded item", never)] = False
        if where is not None:
            if not self.fields:
                raise ValueError("where: nothing is known about the items but their ids")
            allowed &= matching(where, self.fields)
        allowed[0] = False
        if not allowed.any():
            given = {"candidates": candidates, "exclude": exclude, "where": where}
            named = " and ".join(name for name, value in given.items() if value is not None)
            raise ValueError(f"{named}: no item is left to recommend")
        return allowed

    def where_ids(self, kind: str) -> str:
        """What ids of a kind (user, item …) are, for messages."""
        return f"those of the {'users' if kind == 'user' else 'items'} that the model knows"

    def ids(self, kind: str, tokens: Iterable[Any]) -> Ids:
        """Internal ids of external ones.

        Raises:
            ValueError: no id, or unknown ones; near matches are listed.
        """
        known = self.user_ids if kind == "user" else self.item_ids
        given = list(_listed(tokens))
        if not given or any(token is None for token in given):
            raise ValueError(f"{kind}s: {'None is no id' if given else 'no id given'}")
        names = [str(token) for token in given]
        unknown = [name for name in names if not known.get(name)]  # 0 is the padding
        if unknown:
            near = [f" '{name}' is unknown{_near(name, known)}" for name in unknown[:_LISTED]]
            shown = ";".join(near) + and_more(unknown, _LISTED)
            share = f"; {len(names) - len(unknown):,} of {len(names):,} are known"
            share = share if len(names) > 1 else ""
            raise ValueError(f"{kind}s:{shown}{share}; ids are {self.where_ids(kind)}")
        return np.array([known[name] for name in names], dtype=np.int64)

    def stream(
        self, wanted: Wanted, k: int, mask: bool, allowed: npt.NDArray[np.bool_]
    ) -> Iterator[DataFrame]:
        """The recommendations, some users at a time: columns user, rank, item, title, score."""
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"k: expected a positive int, got {k!r}")
        for names, own, scores in self.batches(wanted):
            scores[:, ~allowed] = -np.inf
            if mask:
                rows = np.repeat(np.arange(len(own)), [len(items) for items in own])
                scores[rows, np.concatenate(own)] = -np.inf
            yield self._frame(names, *self._top_finite(scores, min(k, scores.shape[1])))

    def _top_finite(self, scores: Scores, k: int) -> tuple[Scores, Ids]:
        """The k best, where a score that is none is the lowest, as in evaluation."""
        best, ids = top(scores, k)
        if not (np.isnan(best) | (best == np.inf)).any():  # they would be first
            return best, ids
        largest = float(np.finfo(scores.dtype).max)
        np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=largest, neginf=-np.inf)
        return top(scores, k)

    def _frame(self, names: list[str], best: Scores, ids: Ids) -> DataFrame:
        kept = np.isfinite(best)
        ranks = np.broadcast_to(np.arange(1, kept.shape[1] + 1), kept.shape)[kept]
        tokens = self.item_tokens[ids[kept]]
        users = np.repeat(np.array(names, dtype=object), kept.sum(1))
        columns = {"user": users, "rank": ranks, "item": tokens}
        if self.titles:
            columns["title"] = np.array([self.titles.get(str(t), "") for t in tokens], dtype=object)
        return DataFrame({**columns, "score": best[kept]})


def _check_histories(histories: object) -> None:
    if not isinstance(histories, Mapping):
        raise ValueError(f"histories: expected {{name: items}}, got {histories!r}")
    if not histories:
        raise ValueError("histories: no user given")
    if len({str(name) for name in histories}) < len(histories):
        raise ValueError("histories: two names are the same as texts, such as 1 and '1'")
    for name, own in histories.items():
        if isinstance(own, str) or not isinstance(own, Iterable):
            raise ValueError(f"histories: of '{name}' expected a list of items, got {own!r}")


def _listed(tokens: Any) -> Iterable[Any]:
    single = isinstance(tokens, str) or not isinstance(tokens, Iterable)
    return [tokens] if single else tokens


def _near(name: str, known: Iterable[str]) -> str:
    """Near matches of an id; among ids that start alike where there are too many."""
    pool = [other for other in known if other != PADDING]
    for length in range(1, len(name)):
        if len(pool) <= _COMPARED:
            break
        pool = [other for other in pool if other[:length].lower() == name[:length].lower()]
    near = near_matches(name, pool[:_COMPARED])
    return f" (near: {' or '.join(map(repr, near))})" if near else ""

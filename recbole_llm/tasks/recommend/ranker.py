"""The base of all recommenders: ids of users and items, allowed items, the best scores.

No torch and no RecBole are needed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pandas import DataFrame, concat

from recbole_llm.core.arrays import BoolArray, IntArray
from recbole_llm.core.checkpoints.tokens import PADDING
from recbole_llm.core.errors import and_more, near_matches
from recbole_llm.tasks.recommend.request import NEW_USER, Histories, Request, ResolvedRequest
from recbole_llm.tasks.recommend.top import Scores, top_k
from recbole_llm.tasks.recommend.where import match_items

_MAX_COMPARED = 20_000  # ids that a misspelled one is compared with
_MAX_NAMED = 5  # unknown ids in a message


class ScoredUsers(NamedTuple):
    """A batch of B users."""

    names: list[str]
    seen_items: list[IntArray]
    scores: Scores  # [B, n]


class Ranker:
    """Base of the recommenders; subclasses define the attributes, `find_users`, `score_users`.

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

    def find_users(self, users: Iterable[Any] | None, has_query: bool = False) -> IntArray:
        """Internal ids of known users; None: of all that can be scored, alone or with a query."""
        raise NotImplementedError

    def score_users(self, request: ResolvedRequest) -> Iterator[ScoredUsers]:
        """Score all items for the users of a request, some users at a time."""
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
        request = Request(
            users=users, items=items, histories=histories, query=query, query_weight=query_weight,
            k=k, mask_history=mask_history, candidates=candidates, exclude=exclude, where=where,
        )  # fmt: skip
        return concat(self.stream(self.resolve(request)), ignore_index=True)

    def resolve(self, request: Request) -> ResolvedRequest:
        """Translate a request into internal ids.

        Raises:
            ValueError: an unclear request, unknown ids, or what the model cannot do.
        """
        request.check()
        known_users, new_users = None, {NEW_USER: np.zeros(0, np.int64)}  # for a query alone
        if request.users is not None:
            is_all = isinstance(request.users, str) and request.users == "all"
            users = None if is_all else _as_list(request.users)
            known_users = self.find_users(users, request.query is not None)
        elif request.items is not None:
            new_users = {NEW_USER: self.ids("item", request.items)}
        elif request.histories is not None:
            histories = request.histories.items()
            new_users = {str(name): self._resolve_history(name, own) for name, own in histories}
        return ResolvedRequest(
            known_users, new_users, request.query, request.query_weight,
            self._find_allowed_items(request), request.k, request.mask_history,
        )  # fmt: skip

    def _resolve_history(self, user: object, items: Iterable[Any]) -> IntArray:
        try:
            return self.ids("item", items)
        except ValueError as error:  # name one user among thousands
            raise ValueError(f"histories: of '{user}': {error}") from None

    def _find_allowed_items(self, request: Request) -> BoolArray:
        """The mask of items that may be recommended, bool [n]."""
        allowed = np.ones(len(self.item_tokens), bool)
        if request.candidates is not None:
            allowed[:] = False
            allowed[self.ids("candidate", request.candidates)] = True
        excluded = [] if request.exclude is None else _as_list(request.exclude)
        if excluded:
            allowed[self.ids("excluded item", excluded)] = False
        if request.where is not None:
            if not self.fields:
                raise ValueError("where: nothing is known about the items but their ids")
            allowed &= match_items(request.where, self.fields)
        allowed[0] = False
        if not allowed.any():
            limits = [
                ("candidates", request.candidates), ("exclude", request.exclude),
                ("where", request.where),
            ]  # fmt: skip
            given = " and ".join(name for name, value in limits if value is not None)
            raise ValueError(f"{given}: no item is left to recommend")
        return allowed

    def describe_ids(self, kind: str) -> str:
        """Say which ids of a kind (user, item …) are known, for messages."""
        return f"those of the {'users' if kind == 'user' else 'items'} that the model knows"

    def ids(self, kind: str, tokens: Iterable[Any]) -> IntArray:
        """Internal ids of external ones.

        Raises:
            ValueError: no id, or unknown ones; near matches are listed.
        """
        known = self.user_ids if kind == "user" else self.item_ids
        given = _as_list(tokens)
        if not given or any(token is None for token in given):
            raise ValueError(f"{kind}s: {'None is no id' if given else 'no id given'}")
        names = [str(token) for token in given]
        unknown = [name for name in names if not known.get(name)]  # 0 is the padding
        if unknown:
            near = [f" '{name}' is unknown{_suggest(name, known)}" for name in unknown[:_MAX_NAMED]]
            shown = ";".join(near) + and_more(unknown, _MAX_NAMED)
            share = f"; {len(names) - len(unknown):,} of {len(names):,} are known"
            share = share if len(names) > 1 else ""
            raise ValueError(f"{kind}s:{shown}{share}; ids are {self.describe_ids(kind)}")
        return np.array([known[name] for name in names], dtype=np.int64)

    def stream(self, request: ResolvedRequest) -> Iterator[DataFrame]:
        """The recommendations, some users at a time: columns user, rank, item, title, score."""
        for names, seen_items, scores in self.score_users(request):
            scores[:, ~request.allowed_items] = -np.inf
            if request.mask_history:
                rows = np.repeat(np.arange(len(names)), [len(items) for items in seen_items])
                scores[rows, np.concatenate(seen_items)] = -np.inf
            yield self._as_frame(names, *_top_k_finite(scores, min(request.k, scores.shape[1])))

    def _as_frame(self, names: list[str], best: Scores, ids: IntArray) -> DataFrame:
        kept = np.isfinite(best)
        ranks = np.broadcast_to(np.arange(1, kept.shape[1] + 1), kept.shape)[kept]
        tokens = self.item_tokens[ids[kept]]
        users = np.repeat(np.array(names, dtype=object), kept.sum(1))
        columns = {"user": users, "rank": ranks, "item": tokens}
        if self.titles:
            columns["title"] = np.array([self.titles.get(str(t), "") for t in tokens], dtype=object)
        return DataFrame({**columns, "score": best[kept]})


def _top_k_finite(scores: Scores, k: int) -> tuple[Scores, IntArray]:
    """The k best, where NaN counts as the lowest score and infinity as the highest finite one, as
    in evaluation."""
    best, ids = top_k(scores, k)
    if not (np.isnan(best) | (best == np.inf)).any():  # they would be first
        return best, ids
    largest = float(np.finfo(scores.dtype).max)
    np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=largest, neginf=-np.inf)
    return top_k(scores, k)


def _as_list(tokens: Any) -> list[Any]:
    is_single = isinstance(tokens, str) or not isinstance(tokens, Iterable)
    return [tokens] if is_single else list(tokens)


def _suggest(name: str, known: Iterable[str]) -> str:
    """Near matches of an id; with too many ids, only those with the same beginning."""
    pool = [other for other in known if other != PADDING]
    for length in range(1, len(name)):
        if len(pool) <= _MAX_COMPARED:
            break
        pool = [other for other in pool if other[:length].lower() == name[:length].lower()]
    near = near_matches(name, pool[:_MAX_COMPARED])
    return f" (near: {' or '.join(map(repr, near))})" if near else ""

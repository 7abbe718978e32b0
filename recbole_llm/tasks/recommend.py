"""Recommendations in external ids, from a trained model of any kind.

>>> from recbole_llm.tasks.recommend import recommend
>>> recommend("saved/SASRec.pth", users=["u1", "u2"], k=5)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recbole_llm.core.errors import near_matches
from recbole_llm.data.eval_loader import user_bytes
from recbole_llm.data.settings import EngineSettings
from recbole_llm.data.split import IntArray
from recbole_llm.tasks.scoring import make_scorer

if TYPE_CHECKING:
    from pandas import DataFrame
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_llm.core.config import Config

NEW_USER = ""  # how the results name a user given by items or by a query alone
_COMPARED = 20_000  # ids that a misspelt one is compared with
_LISTED = 5  # unknown ids in a message


def recommend(
    source: str | Path | tuple[Any, Any, Any] | Recommender,
    users: str | Iterable[Any] | None = None,
    items: Iterable[Any] | None = None,
    k: int = 10,
    mask_history: bool = True,
    query: str | None = None,
    query_weight: float | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
) -> DataFrame:
    """The best items for users, from everything known of them (training, validation and test).

    Args:
        source: a checkpoint; or (config, model, dataset) as `load_data_and_model` returns them; or
            a `Recommender`, which loads once for many calls.
        users: external ids, or ``"all"``: everyone whom the model can score.
        items: external ids of a new user's history, oldest first, in place of `users`.
        k: items a user, fewer where not so many are left.
        mask_history: whether items that the user has are left out.
        query: what the user is looking for, in words; alone, or with `users` or `items`; for
            models that know users by text.
        query_weight: of the query against the user's own text, 0 to 1; None: the model's
            configuration says.
        config_file_list, config_dict, argv: settings that beat a checkpoint's, as of
            `load_data_and_model`.

    Returns:
        Columns user, rank (from 1), item, title (where the data set has titles), score.

    Raises:
        ValueError: unknown ids (with near matches), or what the model cannot do.
    """
    if not isinstance(source, Recommender):
        source = Recommender.of(source, config_file_list, config_dict, argv)
    return source.recommend(users, items, k, mask_history, query, query_weight)


class Recommender:
    """A trained model with its data, ready to recommend.

    Args:
        config, model, dataset: as `load_data_and_model` returns them.
    """

    def __init__(self, config: Config, model: AbstractRecommender, dataset: Dataset) -> None:
        self.config = config
        self.scorer = make_scorer(config, model, dataset)
        self.dataset = dataset = self.scorer.dataset  # with new items, where the model takes them
        self.user_tokens: Any = dataset.field2id_token[dataset.uid_field]
        self.item_tokens: Any = dataset.field2id_token[dataset.iid_field]

    @classmethod
    def of(
        cls,
        source: str | Path | tuple[Any, Any, Any],
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
    ) -> Recommender:
        """From a checkpoint file, under settings that beat its own, or from (config, model,
        dataset)."""
        if isinstance(source, tuple):
            return cls(*source)
        from recbole_llm.quick_start import load_data_and_model

        loaded = load_data_and_model(str(source), config_file_list, config_dict, argv)
        return cls(*loaded[:3])

    def recommend(
        self,
        users: str | Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        k: int = 10,
        mask_history: bool = True,
        query: str | None = None,
        query_weight: float | None = None,
    ) -> DataFrame:
        """See :func:`recommend`."""
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k: expected a positive int, got {k!r}")
        if users is not None and items is not None:
            raise ValueError("give users or items (a new user's history), not both")
        if users is None and items is None and query is None:
            raise ValueError("say for whom: users (ids, or 'all'), items, or a query")
        histories = None if items is None else [self._ids("item", items)]
        known = None if users is None else self._known(users)
        moved = self._query(query, query_weight)
        parts = list(self._scores(known, histories, moved))
        return self._frame([self._best(*part, k, mask_history) for part in parts])

    def _known(self, users: str | Iterable[Any]) -> IntArray:
        every = isinstance(users, str) and users == "all"
        ids = np.arange(1, len(self.user_tokens)) if every else self._ids("user", users)
        if not self.scorer.needs_history:
            return ids
        empty = self.scorer.histories.counts()[ids] == 0
        if empty.any() and not every:
            raise ValueError(
                f"users: {', '.join(map(str, self.user_tokens[ids[empty]][:_LISTED]))} have no "
                f"interactions, from which {self.config['model']} recommends"
            )
        known: IntArray = ids[~empty]
        return known

    def _ids(self, kind: str, tokens: object) -> IntArray:
        if isinstance(tokens, str) or not isinstance(tokens, Iterable):
            tokens = [tokens]  # a single id
        field = self.dataset.uid_field if kind == "user" else self.dataset.iid_field
        ids = self.dataset.field2token_id[field]
        names = [str(token) for token in tokens]
        if not names:
            raise ValueError(f"{kind}s: no id given")
        unknown = [name for name in names if not ids.get(name)]  # 0 is the padding
        if unknown:
            near = ";".join(f" '{name}' is unknown{_near(name, ids)}" for name in unknown[:_LISTED])
            more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
            raise ValueError(
                f"{kind}s:{near}{more}; ids are those of {field} in data set "
                f"'{self.dataset.dataset_name}' after its filters, and known to the model"
            )
        return np.array([ids[name] for name in names], dtype=np.int64)

    def _query(self, query: str | None, weight: float | None) -> tuple[Tensor, float] | None:
        if query is None:
            if weight is not None:
                raise ValueError("query_weight: there is no query to weigh")
            return None
        if not query.strip():
            raise ValueError("query: is empty")
        value = self.config["query_weight"] if weight is None else weight
        value = 0.5 if value is None else float(value)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"query_weight: expected a number from 0 to 1, got {value}")
        self.scorer.require_query()
        return torch.from_numpy(_encode(self.config, query)), value

    def _scores(
        self,
        known: IntArray | None,
        histories: list[IntArray] | None,
        query: tuple[Tensor, float] | None,
    ) -> Iterator[tuple[list[str], list[IntArray], Tensor]]:
        """Names, histories and scores [B, n] of users, some at a time."""
        if known is None:
            own = histories or [np.zeros(0, np.int64)]
            scores = self.scorer.query(own, *query) if query else self.scorer.new(own[0])
            yield [NEW_USER], own, scores
            return
        budget = EngineSettings.of(self.config).eval_memory_mib or EngineSettings().eval_memory_mib
        step = max(1, int(budget * 2**20 // user_bytes(self.config, self.dataset)))
        for start in range(0, len(known), step):
            batch = known[start : start + step]
            own = [self.scorer.histories[user].numpy() for user in batch]
            scores = self.scorer.query(own, *query) if query else self.scorer.known(batch)
            yield [str(name) for name in self.user_tokens[batch]], own, scores

    def _best(
        self, names: list[str], own: list[IntArray], scores: Tensor, k: int, mask: bool
    ) -> tuple[IntArray, ...]:
        """Users, ranks, item ids and scores of the recommendations, [R] each."""
        scores[:, 0] = -torch.inf
        if mask:
            rows = np.repeat(np.arange(len(own)), [len(items) for items in own])
            scores[torch.from_numpy(rows), torch.from_numpy(np.concatenate(own))] = -torch.inf
        top, ids = torch.topk(scores, min(k, scores.shape[1]), dim=1)
        kept = torch.isfinite(top).cpu().numpy()
        users = np.repeat(np.array(names, dtype=object), kept.sum(1))
        ranks = np.broadcast_to(np.arange(1, kept.shape[1] + 1), kept.shape)[kept]
        return users, ranks, ids.cpu().numpy()[kept], top.cpu().numpy()[kept]

    def _frame(self, parts: Sequence[tuple[IntArray, ...]]) -> DataFrame:
        from pandas import DataFrame

        users, ranks, ids, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        tokens = self.item_tokens[ids]
        columns = {"user": users, "rank": ranks, "item": tokens}
        if self.titles:
            columns["title"] = np.array([self.titles.get(str(t), "") for t in tokens], dtype=object)
        return DataFrame({**columns, "score": scores})

    @cached_property
    def titles(self) -> dict[str, str]:
        """Titles by item token; none where the data set describes no items."""
        from recbole_llm.features.prompts import item_titles
        from recbole_llm.features.templates import PromptError

        try:
            return item_titles(self.config, self.dataset)
        except PromptError:
            return {}


def _encode(config: Config, query: str) -> Any:
    """The query's vector, from the encoder of the item texts, float32 [D]."""
    from recbole_llm.features.encoders.base import TableSource, create_encoder

    encoder = create_encoder(config)
    if isinstance(encoder, TableSource):
        raise ValueError(  # noqa: TRY004
            f"query: encoder: {config['encoder']} reads ready-made vectors, so it cannot encode it"
        )
    return np.asarray(encoder.encode([query]), np.float32)[0]


def _near(name: str, known: Iterable[str]) -> str:
    """Near matches of an id; among ids that start alike where there are too many."""
    pool = [other for other in known if other != "[PAD]"]
    for length in range(1, len(name)):
        if len(pool) <= _COMPARED:
            break
        pool = [other for other in pool if other[:length].lower() == name[:length].lower()]
    near = near_matches(name, pool[:_COMPARED])
    return f" (near: {' or '.join(map(repr, near))})" if near else ""

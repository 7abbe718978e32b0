"""Recommendations in external ids, from a trained model of any kind with its data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_llm.core.arrays import BoolArray, IntArray
from recbole_llm.core.checkpoints.tokens import vocabulary_of
from recbole_llm.core.config import Config
from recbole_llm.core.errors import first_names
from recbole_llm.core.lines import is_utf8
from recbole_llm.data.loading.ranking_step import user_bytes
from recbole_llm.data.rows.interaction import SequenceInteraction
from recbole_llm.data.settings import EngineSettings
from recbole_llm.features.contents.prompts import item_rows, titles_if_any
from recbole_llm.features.encoders.base import Encoder, TableSource, create_encoder, holds_table
from recbole_llm.models.base import TextItemModel, TextUserModel
from recbole_llm.offline.run import load_dataset
from recbole_llm.quick_start import load_data_and_model
from recbole_llm.tasks.recommend.new_items import add_new_items, gone_items
from recbole_llm.tasks.recommend.ranker import Ranker, ScoredUsers
from recbole_llm.tasks.recommend.request import Histories, Request, ResolvedRequest
from recbole_llm.tasks.recommend.scorer import Query, Scorer, TextUserScorer, check_class_can_answer
from recbole_llm.tasks.recommend.sequential import SequentialScorer
from recbole_llm.tasks.recommend.standalone import Standalone

_LATER_ITEMS = " (models that know items by text, such as PAD, also rank later items)"


def recommend(
    source: str | Path | tuple[Any, Any, Any] | Ranker,
    users: str | Iterable[Any] | None = None,
    items: Iterable[Any] | None = None,
    k: int = 10,
    mask_history: bool = True,
    query: str | None = None,
    query_weight: float | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    histories: Histories | None = None,
    candidates: Iterable[Any] | None = None,
    exclude: Iterable[Any] | None = None,
    where: str | None = None,
) -> DataFrame:
    """The best items for users, from all their interactions (training, validation and test).

    Args:
        source: a checkpoint; or (config, model, dataset) as `load_data_and_model` returns them; or
            a `Recommender`, which loads once for many calls.
        users: external ids, or ``"all"``: all users that the model can score.
        items: external ids of a new user's history, oldest first, in place of `users`.
        k: items per user, fewer where not so many are left.
        mask_history: whether items that the user has seen are left out.
        query: words, for models that know users by text; alone or with users, items or histories.
        query_weight: weight of the query against the user's own text, 0 to 1; None: that of the
            model's configuration.
        config_file_list, config_dict, argv: settings that override a checkpoint's, as in
            `load_data_and_model`.
        histories: many new users, {name: external ids, oldest first}, or a Series of such lists.
        candidates: the only items that may be recommended; None: all.
        exclude: items that may not be recommended.
        where: a condition on fields of the ``.item`` file, as in
            `recbole_llm.tasks.recommend.where`.

    Returns:
        Columns user, rank (from 1), item, title (where the data set has titles), score.

    Raises:
        ValueError: unknown ids (with near matches), or what the model cannot do.
    """
    if not isinstance(source, Ranker):
        source = Recommender.of(source, config_file_list, config_dict, argv)
    return source.recommend(
        users, items, k, mask_history, query, query_weight, histories, candidates, exclude, where
    )


class Recommender(Ranker):
    """A trained model with its data, as `load_data_and_model` returns them, ready to recommend."""

    def __init__(self, config: Config, model: AbstractRecommender, dataset: Dataset) -> None:
        self.config, self.name = config, str(config["model"])
        self.scorer = make_scorer(config, model, dataset)
        self.dataset = dataset = self.scorer.dataset  # with new items, where the model takes them
        # Titles and fields are read later, perhaps from another working directory.
        dataset.dataset_path = os.path.abspath(dataset.dataset_path)
        self.user_tokens: Any = dataset.field2id_token[dataset.uid_field]
        self.item_tokens = dataset.field2id_token[dataset.iid_field]
        self.user_ids = dataset.field2token_id[dataset.uid_field]
        self.item_ids = dataset.field2token_id[dataset.iid_field]
        self.gone = [self.item_ids[token] for token in gone_items(config, dataset)]

    def describe_ids(self, kind: str) -> str:
        field, hint = self.dataset.iid_field, ""
        if kind == "user":
            field = self.dataset.uid_field
            hint = "; a new user is given by items, or in a file of histories"
        elif not isinstance(self.scorer.model, TextItemModel):
            hint = _LATER_ITEMS
        return (
            f"those of {field} in data set '{self.dataset.dataset_name}' after its filters, and "
            f"known to the model{hint}"
        )

    @classmethod
    def of(
        cls,
        source: str | Path | tuple[Any, Any, Any],
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
    ) -> Recommender:
        """Load a checkpoint file, with settings that override its own, or take (config, model,
        dataset)."""
        if isinstance(source, tuple):
            return cls(*source)
        return cls(*load_data_and_model(str(source), config_file_list, config_dict, argv)[:3])

    @staticmethod
    def load(folder: str | Path) -> Standalone:
        """Load an exported model (``recbole-llm export``), which needs no data set."""
        return Standalone(folder)

    def find_users(self, users: Iterable[Any] | None, has_query: bool = False) -> IntArray:
        ids = np.arange(1, len(self.user_tokens)) if users is None else self.ids("user", users)
        if has_query or not self.scorer.needs_history:
            return ids
        is_empty = self.scorer.histories.counts()[ids] == 0
        if is_empty.any() and users is not None:
            names = first_names(self.user_tokens[ids[is_empty]])
            raise ValueError(f"users: {names} have no interactions, which {self.name} reads")
        return ids[~is_empty]

    def _find_allowed_items(self, request: Request) -> BoolArray:
        allowed = super()._find_allowed_items(request)
        allowed[self.gone] = False
        return allowed

    def resolve(self, request: Request) -> ResolvedRequest:
        resolved, query = super().resolve(request), request.query
        if resolved.known_users is None or query is not None:
            check_class_can_answer(self.name, type(self.scorer.model), query is not None)
        if query is None:
            return resolved
        weight = choose_query_weight(self.config, query, request.query_weight)
        return replace(resolved, query_weight=weight)

    def score_users(self, request: ResolvedRequest) -> Iterator[ScoredUsers]:
        """Score all items for the users of a request, as many at a time as ``eval_memory_mib``
        holds."""
        scorer, query = self.scorer, None
        if request.query is not None and request.query_weight is not None:
            query = Query(self.encode(request.query).to(scorer.device), request.query_weight)
        budget = EngineSettings.of(self.config).ranking_bytes
        step = max(1, budget // user_bytes(self.config, self.dataset))
        new_names, new_histories = list(request.new_users), list(request.new_users.values())
        for start in range(0, request.n_users, step):
            part = slice(start, start + step)
            if request.known_users is None:
                names, seen_items = new_names[part], new_histories[part]
                scores = scorer.score_new_users(seen_items, query)
            else:
                users = request.known_users[part]
                names = [str(name) for name in self.user_tokens[users]]
                seen_items = [scorer.seen_items[user].numpy() for user in users]
                scores = scorer.score_known_users(users, query)
            yield ScoredUsers(names, seen_items, scores.detach().cpu().numpy())

    def encode(self, query: str) -> Tensor:
        """Encode a query in the same way as the item texts: float32 [D]."""
        if holds_table(self._encoder):
            raise ValueError(  # noqa: TRY004
                f"query: encoder: {self.config['encoder']} reads ready-made vectors, so it cannot "
                f"encode words"
            )
        return torch.from_numpy(np.asarray(self._encoder.encode([query]), np.float32)[0])

    @cached_property
    def _encoder(self) -> Encoder | TableSource:
        return create_encoder(self.config)

    @cached_property
    def titles(self) -> Mapping[str, str]:  # type: ignore[override]
        """Titles by item token; none where the data set describes no items."""
        return titles_if_any(self.config, self.dataset)

    @cached_property
    def fields(self) -> Mapping[str, Sequence[str]]:  # type: ignore[override]
        """The columns of the ``.item`` file, by internal id."""
        rows = item_rows(self.config, self.dataset)
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        by_id = [rows.get(str(token), {}) for token in self.item_tokens]
        return {name: [row.get(name, "") for row in by_id] for name in names}


def make_scorer(config: Config, model: AbstractRecommender, dataset: Dataset) -> Scorer:
    """Make the scorer for a trained model; `dataset` is the whole one, before or after the split.

    Raises:
        ValueError: the model is a decision tree, which cannot rank all items.
    """
    model.eval()
    kind = config["MODEL_TYPE"]
    if kind == ModelType.DECISIONTREE:
        raise ValueError(f"{config['model']} is a decision tree, which cannot recommend from here")
    model, dataset, source = add_new_items(config, model, dataset)
    if isinstance(model, TextUserModel):
        return TextUserScorer(config, model, dataset)
    if kind != ModelType.SEQUENTIAL:
        return Scorer(config, model, dataset)
    if source is None and isinstance(dataset.inter_feat, SequenceInteraction):
        source = dataset
    elif source is None:  # RecBole's split replaces the interactions by rows with lists
        source = load_dataset(config, vocabulary=vocabulary_of(dataset))
    return SequentialScorer(config, model, dataset, source)


def choose_query_weight(config: Config, query: str, weight: float | None) -> float:
    """Return the given weight of a query, else the configured one.

    Raises:
        ValueError: a query that is empty or not UTF-8, or a weight outside 0 to 1.
    """
    if not isinstance(query, str) or not query.strip() or not is_utf8(query):
        raise ValueError(f"query: expected words, got {query!r}")
    value = config["query_weight"] if weight is None else weight
    value = 0.5 if value is None else float(value)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"query_weight: expected a number from 0 to 1, got {value}")
    return value

"""Sizes of steps in full ranking: how many rows and how many items to score at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.evaluator.register import Register
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.core.errors import missing_method_error
from recbole_llm.layers.matmul import scores

FLOAT_BYTES = 4
SCORE_COPIES = 4  # a step's scores: the model's, a copy, and a comparison's temporaries
HIDDEN_COPIES = 16  # live [L, H] blocks of a transformer layer without gradients: q, k, v, 4H, …
ENOUGH_ROWS = 64  # from here on, products take longer than reading the item vectors
LEAST_ITEMS = 1024  # per block
WHOLE = ("rec.meanrank", "rec.score")  # metric inputs that need more than the first k places


class FactorModel:
    """A model whose scores are products of vectors, so that a catalogue can be scored in blocks.
    List it before a RecBole model class among the bases."""

    def score_factors(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Vectors of the rows [B, D] and of the catalogue [n, D], whose products are the scores of
        `full_sort_predict`; computed without gradients."""
        raise missing_method_error(self, "score_factors(interaction)")

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of the whole catalogue, [B, n]."""
        return scores(*factors(self, interaction))


def factors(model: Any, interaction: Interaction) -> tuple[Tensor, Tensor]:
    """What a model's `score_factors` returns; ValueError if the number of vectors is wrong."""
    rows, items = model.score_factors(interaction)
    wanted = len(interaction), model.n_items
    if (len(rows), len(items)) != wanted:
        raise ValueError(
            f"score_factors of {type(model).__name__} returned {len(rows)} and {len(items)} "
            f"vectors; it is to return one for each of the {wanted[0]} rows in the batch, and one "
            f"for each of the {wanted[1]} items, the padding included"
        )
    return rows, items


def ranking_step(config: Config, dataset: Dataset, budget: float) -> tuple[int, int | None]:
    """Rows per step within a budget of bytes, at least one, and items per block, if all items
    would leave room for few rows; None: all items at once."""
    row, item = _row_and_item_bytes(config, dataset)
    rows = max(int(budget // (row + item * dataset.item_num)), 1)
    if rows >= ENOUGH_ROWS or not _ranks_by_blocks(config):
        return rows, None
    rows = min(max(int(budget // max(row, 1)), 1), ENOUGH_ROWS)
    items = max(int(budget // (rows * item)), LEAST_ITEMS)  # hidden states are freed by then
    return rows, items if items < dataset.item_num else None


def _ranks_by_blocks(config: Config) -> bool:
    register = Register(config)
    return has_factors(config.model_class) and not any(map(register.need, WHOLE))


def has_factors(model: type) -> bool:
    """Whether a model class scores by `score_factors`, not by a subclass's own scoring method."""
    given = [{"score_factors", "full_sort_predict"} & vars(base).keys() for base in model.__mro__]
    return "score_factors" in next(filter(None, given), ())


def user_bytes(config: Config, dataset: Dataset) -> int:
    """Estimated bytes for ranking the whole catalogue for one user (one sequence)."""
    row, item = _row_and_item_bytes(config, dataset)
    return row + item * int(dataset.item_num)


def _row_and_item_bytes(config: Config, dataset: Dataset) -> tuple[int, int]:
    """Estimated bytes of a row's hidden states, and of its score for one item."""
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    if config.model_class.full_sort_predict is AbstractRecommender.full_sort_predict:
        # RecBole then repeats the user's row, lists and all, for every item, on the device.
        pair = _row_bytes(dataset.get_item_feature())
        pair += _row_bytes(dataset[0:1] if sequential else dataset.get_user_feature())
        return 0, 2 * pair + SCORE_COPIES * FLOAT_BYTES
    if not sequential:
        return 0, SCORE_COPIES * FLOAT_BYTES
    length: int = config["MAX_ITEM_LIST_LENGTH"]
    width = max(_number(config[key]) for key in ("hidden_size", "embedding_size")) or 64
    heads = _number(config["n_heads"]) or 1
    floats = length * (HIDDEN_COPIES * width + 3 * heads * length)
    return FLOAT_BYTES * floats, SCORE_COPIES * FLOAT_BYTES


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0  # some models have lists of layer sizes


def _row_bytes(interaction: Interaction) -> int:
    columns: Iterable[Tensor] = interaction.interaction.values()
    return sum(v.numel() * v.element_size() for v in columns) // max(len(interaction), 1)

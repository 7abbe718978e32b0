"""The training interactions that chains of thought are about, and that are put into contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from recbole.utils import InputType

from recbole_llm.data.interaction import take
from recbole_llm.data.split import IntArray
from recbole_llm.data.training import training_interactions
from recbole_llm.models.base import negatives_of_a_target
from recbole_llm.models.llmcf.settings import ThoughtSettings

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset

MIN_LIKED = 0.5  # labels are 0 or 1


class Examples(NamedTuple):
    """E training examples; those with label 1 come first.

    Args:
        names: unique, in terms of tokens.
        users: int [E].
        histories: items before the target, padded with 0 on the right, int [E, L].
        items: the targets, int [E].
        labels: whether they were chosen, int [E].
    """

    names: list[str]
    users: IntArray
    histories: IntArray
    items: IntArray
    labels: IntArray

    def of(self, rows: Any) -> Examples:
        """Some of them, int [E']."""
        names = [self.names[row] for row in rows]
        return Examples(names, *(array[rows] for array in self[1:]))


def training_examples(
    config: Config, dataset: Dataset, count: int | None = None, seed: int | None = None
) -> Examples:
    """Draw some of the training interactions that have a history.

    Of labelled data half have either label, as far as there are enough. A model of clicks that
    trains on drawn negatives has examples of these: half of the targets are items that the user
    has no training interaction with. A model that ranks a catalogue has targets that were chosen.

    Args:
        config: the configuration.
        dataset: the training split.
        count, seed: how many, and how they are drawn; None: `thought_examples`, `thought_seed`.
    """
    settings = ThoughtSettings.of(config)
    rng = np.random.default_rng(settings.thought_seed if seed is None else seed)
    inter = dataset.inter_feat
    order, count = rng.permutation(len(inter)), min(count or settings.thought_examples, len(inter))
    pointwise = config["MODEL_INPUT_TYPE"] == InputType.POINTWISE
    if pointwise and not negatives_of_a_target(config) and config["LABEL_FIELD"] in inter:
        liked = inter[config["LABEL_FIELD"]].numpy()[order] > MIN_LIKED
        rows = _half_of_each(order[liked], order[~liked], count)
    else:
        rows = order[:count]
    batch = take(inter, rows)
    list_field = getattr(dataset, f"{dataset.iid_field}_list_field")
    users, items, histories = (
        batch[field].numpy() for field in (dataset.uid_field, dataset.iid_field, list_field)
    )
    labels = np.ones(len(rows), np.int64)
    if pointwise and negatives_of_a_target(config):
        labels[len(rows) // 2 :] = 0
        drawn = _not_chosen(dataset, users[labels == 0], rng)
        items = np.concatenate([items[labels == 1], drawn])
    elif pointwise and config["LABEL_FIELD"] in batch:
        labels = (batch[config["LABEL_FIELD"]].numpy() > MIN_LIKED).astype(np.int64)
    user_tokens, item_tokens = (
        dataset.field2id_token[field] for field in (dataset.uid_field, dataset.iid_field)
    )
    names = [
        f"{user_tokens[u]}\t{item_tokens[i]}\t{row}"
        for u, i, row in zip(users, items, rows, strict=True)
    ]
    made = Examples(names, users, histories, items, labels)
    return made.of(np.argsort(-labels, kind="stable"))


def _half_of_each(liked: IntArray, others: IntArray, count: int) -> IntArray:
    few = min(len(others), count // 2)
    many = min(len(liked), count - few)
    return np.concatenate([liked[:many], others[: count - many]])


def _not_chosen(dataset: Dataset, users: IntArray, rng: np.random.Generator) -> IntArray:
    """An item for each user that is in none of the user's training interactions, int [U]."""
    known_users, known_items = training_interactions(dataset)
    known = np.unique(known_users * dataset.item_num + known_items)
    items = np.zeros_like(users)
    left = np.arange(len(users))
    for _ in range(100):  # users of nearly all items keep what was drawn last
        items[left] = rng.integers(1, dataset.item_num, len(left))
        left = left[np.isin(users[left] * dataset.item_num + items[left], known)]
    return items

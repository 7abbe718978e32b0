"""The training interactions that chains of thought are about, and that are put into contexts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import InputType

from recbole_llm.core.arrays import IntArray
from recbole_llm.data.rows.interaction import take
from recbole_llm.data.rows.split import sorted_unique
from recbole_llm.data.rows.training import training_interactions
from recbole_llm.models.base import count_negatives
from recbole_llm.models.llmcf.settings import ThoughtSettings

MIN_LIKED = 0.5  # labels are 0 or 1


class Examples(NamedTuple):
    """E training examples; those with label 1 come first."""

    names: list[str]  # unique, made of tokens
    users: IntArray  # int [E]
    histories: IntArray  # items before the target, padded with 0 on the right, int [E, L]
    items: IntArray  # the targets, int [E]
    labels: IntArray  # whether they were chosen, int [E]
    chosen: IntArray  # the histories with 0 for items that labels say were not chosen, int [E, L]

    def select(self, rows: Any) -> Examples:
        """The examples of some rows, int [E']."""
        names = [self.names[row] for row in rows]
        return Examples(names, *(array[rows] for array in self[1:]))


def training_examples(
    config: Config, dataset: Dataset, count: int | None = None, seed: int | None = None
) -> Examples:
    """Draw some of the training interactions that have a history.

    With labeled data, half of the examples have each label, as far as there are enough. If a click
    model trains on drawn negatives, half of the targets are items with which the user has no
    training interaction. If a model ranks a catalogue, all targets were chosen.

    Args:
        dataset: the training split.
        count, seed: number of examples and seed; None: `thought_examples`, `thought_seed`.
    """
    settings = ThoughtSettings.of(config)
    rng = np.random.default_rng(settings.thought_seed if seed is None else seed)
    rows = _draw_rows(config, dataset.inter_feat, count or settings.thought_examples, rng)
    batch = take(dataset.inter_feat, rows)
    users = batch[dataset.uid_field].numpy()
    histories = batch[getattr(dataset, f"{dataset.iid_field}_list_field")].numpy()
    chosen, past_labels = histories, f"{config['LABEL_FIELD']}{config['LIST_SUFFIX']}"
    if _is_labeled(config, batch) and past_labels in batch:  # ready-made histories may lack them
        chosen = np.where(batch[past_labels].numpy() > MIN_LIKED, histories, 0)
    items, labels = _targets_and_labels(config, dataset, batch, rng)
    user_tokens, item_tokens = (
        dataset.field2id_token[field] for field in (dataset.uid_field, dataset.iid_field)
    )
    names = [
        f"{user_tokens[u]}\t{item_tokens[i]}\t{row}"
        for u, i, row in zip(users, items, rows, strict=True)
    ]
    examples = Examples(names, users, histories, items, labels, chosen)
    return examples.select(np.flatnonzero(items))


def _is_labeled(config: Config, interactions: Interaction) -> bool:
    """Whether the model learns labels of the data."""
    pointwise = config["MODEL_INPUT_TYPE"] == InputType.POINTWISE
    drawn = count_negatives(config) > 0
    return pointwise and not drawn and config["LABEL_FIELD"] in interactions


def _draw_rows(
    config: Config, inter: Interaction, count: int, rng: np.random.Generator
) -> IntArray:
    """Row numbers of `count` interactions, or of all if there are fewer; half of each label."""
    order, count = rng.permutation(len(inter)), min(count, len(inter))
    if not _is_labeled(config, inter):
        return order[:count]
    liked = inter[config["LABEL_FIELD"]].numpy()[order] > MIN_LIKED
    n_zeros = min(int((~liked).sum()), count // 2)
    ones = order[liked][: count - n_zeros]
    return np.concatenate([ones, order[~liked][: count - len(ones)]])


def _targets_and_labels(
    config: Config, dataset: Dataset, batch: Interaction, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Targets and labels of interactions, int [E] each; drawn targets are the last half."""
    items: IntArray = batch[dataset.iid_field].numpy()
    labels = np.ones(len(items), np.int64)
    if config["MODEL_INPUT_TYPE"] != InputType.POINTWISE:
        return items, labels
    if count_negatives(config):
        labels[len(items) // 2 :] = 0
        drawn = _draw_unknown_items(dataset, batch[dataset.uid_field].numpy()[labels == 0], rng)
        items = np.concatenate([items[labels == 1], drawn])
    elif _is_labeled(config, batch):
        labels = (batch[config["LABEL_FIELD"]].numpy() > MIN_LIKED).astype(np.int64)
    return items, labels


def _draw_unknown_items(dataset: Dataset, users: IntArray, rng: np.random.Generator) -> IntArray:
    """Draw an item for each user from those without a training interaction of the user, int [U]; 0
    for a user of (nearly) all items."""
    known_users, known_items = training_interactions(dataset)
    known = sorted_unique(known_users * dataset.item_num + known_items)
    items = np.zeros_like(users)
    rejected = np.arange(len(users))
    for _ in range(100):
        items[rejected] = rng.integers(1, dataset.item_num, len(rejected))
        pairs = users[rejected] * dataset.item_num + items[rejected]
        rejected = rejected[np.isin(pairs, known)]
    items[rejected] = 0
    return items

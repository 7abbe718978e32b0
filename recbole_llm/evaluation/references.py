"""References that any recommender should beat: chance, popularity, and similar texts."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm.core.config import Config
from recbole_llm.data.rows.training import item_counts, training_interactions
from recbole_llm.features.tables.feature_tables import attached_features
from recbole_llm.layers.matmul import scores


class RandomReference(nn.Module):
    """Scores drawn anew for every user, from a fixed seed."""

    place: Tensor  # empty; shows the model's device

    def __init__(self, n_items: int, seed: int = 0) -> None:
        super().__init__()
        self.n_items = n_items
        self.generator = torch.Generator().manual_seed(seed)
        self.register_buffer("place", torch.empty(0), persistent=False)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores, [B, n]."""
        return self._draw(len(interaction), self.n_items)

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores, [B]."""
        return self._draw(len(interaction))

    def _draw(self, *shape: int) -> Tensor:
        """Draw on the CPU, so that every device gets the same numbers."""
        return torch.rand(*shape, generator=self.generator).to(self.place.device)


class PopularityReference(nn.Module):
    """An item's score is its number of training interactions, for everyone."""

    counts: Tensor  # [n]

    def __init__(self, train_dataset: Dataset) -> None:
        super().__init__()
        self.item_field = train_dataset.iid_field
        self.register_buffer("counts", torch.from_numpy(item_counts(train_dataset)).float())

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores, [B, n]."""
        return self.counts.expand(len(interaction), -1).clone()

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores, [B]."""
        return self.counts[interaction[self.item_field]]


class TextReference(nn.Module):
    """Cosine of an item's text vector and the mean text vector of the user's training items; text
    vectors are the rows of `matrix` [n, D]."""

    users: Tensor  # [n_users, D], unit vectors
    items: Tensor  # [n, D], unit vectors

    def __init__(self, matrix: np.ndarray, train_dataset: Dataset) -> None:
        super().__init__()
        self.user_field, self.item_field = train_dataset.uid_field, train_dataset.iid_field
        users, items = training_interactions(train_dataset)  # sorted by user
        starts = np.searchsorted(users, np.arange(train_dataset.user_num))
        vectors = torch.from_numpy(matrix)
        ids, offsets = torch.from_numpy(items), torch.from_numpy(starts)
        sums = F.embedding_bag(ids, vectors, offsets, mode="sum")  # no vector per interaction
        self.register_buffer("users", F.normalize(sums, dim=1))
        self.register_buffer("items", F.normalize(vectors, dim=1))

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores, [B, n]."""
        return scores(self.users[interaction[self.user_field]], self.items)

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores, [B]."""
        users, items = interaction[self.user_field], interaction[self.item_field]
        return (self.users[users] * self.items[items]).sum(1)


def make_references(config: Config, train_dataset: Dataset) -> dict[str, nn.Module]:
    """The references for a data set, by name, on the device; text only if vectors are attached.

    Args:
        train_dataset: a train split of a general model.
    """
    found: dict[str, nn.Module] = {
        "random": RandomReference(train_dataset.item_num, config["seed"]),
        "popularity": PopularityReference(train_dataset),
    }
    table = attached_features(train_dataset).get("item_text")
    if table is not None:
        found["text similarity"] = TextReference(table.matrix, train_dataset)
    return {name: model.to(config["device"]) for name, model in found.items()}

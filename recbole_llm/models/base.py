"""Base class of the sequential recommenders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.core.arrays import IntArray
from recbole_llm.core.config import Config
from recbole_llm.core.errors import check_choice, missing_method_error
from recbole_llm.core.settings import ConfigLike
from recbole_llm.data.loading.ranking_step import FactorModel
from recbole_llm.layers import losses
from recbole_llm.layers.backbones.base import scale_scores
from recbole_llm.layers.embedding import map_distinct_rows
from recbole_llm.layers.packing import select_last
from recbole_llm.models.item_cache import ItemCache
from recbole_llm.models.shapes import checked_items, checked_states

SAMPLED_LOSSES = {"BCE": losses.bce, "BPR": losses.bpr, "SSM": losses.sampled_softmax}
LOSS_TYPES = ("CE", *SAMPLED_LOSSES)


@runtime_checkable
class TextItemModel(Protocol):
    """A model that knows items by text, and so takes items that came after training."""

    def add_items(self, text: Tensor) -> None:
        """Add m items, which get the ids n … n + m - 1 and have no training interactions.

        From then on the model reads them in histories and scores them; other items keep their
        scores. Call it on a copy that is not trained further, and not if the model has an attribute
        `takes_items` that is false.

        Args:
            text: the items' vectors of the feature ``item_text``, [m, D].
        """


@runtime_checkable
class TextUserModel(Protocol):
    """A model that can score users whom it was not trained on, and take a text query."""

    def set_interactions(self, users: IntArray, items: IntArray) -> None:
        """Replace the interactions that the model knows."""

    def score_users(
        self, histories: Sequence[Tensor], query: Tensor | None = None, query_weight: float = 0.5
    ) -> Tensor:
        """Return scores [B, n] from each user's item ids and a query vector [D]."""


class TrainingRows(NamedTuple):
    """The supervised positions of a batch: T of them."""

    states: Tensor  # [T, D]
    targets: Tensor  # int [T]
    negatives: Tensor | None  # int [T, k]


def count_negatives(config: ConfigLike) -> int:
    """Return the number of negatives that training draws for each target, 0 for none."""
    args = config["train_neg_sample_args"] or {"distribution": "none"}
    return 0 if args["distribution"] == "none" else int(args["sample_num"])


class SequenceTraining(FactorModel):
    """Losses over both kinds of training rows: RecBole's prefixes, and whole sequences with a
    target at every position.

    A mixin for a `SequentialRecommender` that scores by <user state, item vector> and defines
    `user_states` and `item_vectors`.
    """

    loss_type: str
    reads_history_alone = True  # whether a user's state depends on the history alone
    softmax_over_padding = False  # whether CE's softmax runs over the padding item too
    item_embedding: nn.Embedding
    ITEM_ID: str
    ITEM_SEQ: str
    ITEM_SEQ_LEN: str
    POS_ITEM_ID: str
    NEG_ITEM_ID: str
    POS_ITEM_SEQ: str
    NEG_ITEM_SEQ: str
    n_negatives: int  # per target

    def output_norm(self) -> nn.Module | None:
        """Return the last norm before user states, by which `item_init` scales scores, or None."""
        return None

    def scale_first_scores(self, std: float) -> None:
        """Scale the scores before training to a root mean square of `std`, in a model whose item
        table starts from texts."""
        norm = self.output_norm()
        if norm is not None:
            scale_scores(norm, self.item_vectors(), std)

    def name_sequence_fields(self, config: Config) -> None:
        """Set the names of the fields that sequence rows add."""
        self.POS_ITEM_SEQ = "pos_" + self.ITEM_SEQ
        self.NEG_ITEM_SEQ = config["NEG_PREFIX"] + self.ITEM_SEQ
        self.n_negatives = max(count_negatives(config), 1)

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """States after every position: item_seq int [B, L], mask bool [B, L] -> [B, L, D]."""
        raise missing_method_error(self, "user_states(item_seq, mask)")

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """Return the vectors that states are scored against: ids int [*] -> [*, D]; None: the whole
        catalogue with the padding item, [n, D]. By default the rows of `item_embedding`."""
        if not hasattr(self, "item_embedding"):
            raise missing_method_error(self, "item_vectors(ids=None)")
        return self.item_embedding.weight if ids is None else self.item_embedding(ids)

    def last_states(self, item_seq: Tensor) -> Tensor:
        """Return the state after the last real item: int [B, L] -> [B, D]. Override it where this
        costs less than all states."""
        mask = item_seq != 0
        return select_last(checked_states(self, item_seq, mask), mask)

    def states_at(self, item_seq: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Return the states after some real items, row by row: item_seq int [B, L], masks bool
        [B, L] -> [T, D]. Override it where this costs less than all states."""
        return checked_states(self, item_seq, mask)[wanted]

    # The next three methods read an Interaction. A model that reads more of it than the items
    # overrides them.

    def row_states(self, interaction: Interaction) -> Tensor:
        """State after the last real item of each row, [B, D]."""
        return self.last_states(interaction[self.ITEM_SEQ])

    def states_of_pairs(self, interaction: Interaction) -> Tensor:
        """Return the same as `row_states`, but read equal histories once: a user's sampled
        candidates share one history."""
        if not self.reads_history_alone:
            return self.row_states(interaction)
        return map_distinct_rows(self.last_states, interaction[self.ITEM_SEQ])

    def supervised_states(self, interaction: Interaction, supervised: Tensor) -> Tensor:
        """States at some positions of each row: bool [B, L] -> [T, D], row by row."""
        item_seq = interaction[self.ITEM_SEQ]
        return self.states_at(item_seq, item_seq != 0, supervised)

    def training_rows(self, interaction: Interaction) -> TrainingRows:
        """States, targets and negatives at the supervised positions of either kind of batch."""
        if self.POS_ITEM_SEQ not in interaction:
            targets, negatives = interaction[self.POS_ITEM_ID], None
            if self.NEG_ITEM_ID in interaction:
                # RecBole's loader repeats the whole batch for each further negative.
                negatives = interaction[self.NEG_ITEM_ID].view(self.n_negatives, -1).t()
                interaction, targets = interaction[: len(negatives)], targets[: len(negatives)]
            return TrainingRows(self.row_states(interaction), targets, negatives)
        targets = interaction[self.POS_ITEM_SEQ]
        supervised = targets != 0  # [B, L]
        states = self.supervised_states(interaction, supervised)
        negatives = None
        if self.NEG_ITEM_SEQ in interaction:
            negatives = interaction[self.NEG_ITEM_SEQ][supervised].view(len(states), -1)
        return TrainingRows(states, targets[supervised], negatives)

    def recommendation_loss(self, rows: TrainingRows) -> Tensor:
        """Loss that `loss_type` names on the rows, scalar."""
        if self.loss_type == "CE":
            return losses.cross_entropy(
                rows.states,
                checked_items(self, rows.states),
                rows.targets,
                padding_item=self.softmax_over_padding,
            )
        if rows.negatives is None:
            raise ValueError(
                f"loss_type={self.loss_type} needs negatives: set train_neg_sample_args"
            )
        pos = (rows.states * checked_items(self, rows.states, rows.targets)).sum(-1)  # [T]
        neg = torch.einsum("td,tkd->tk", rows.states, self.item_vectors(rows.negatives))
        return SAMPLED_LOSSES[self.loss_type](pos, neg)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Mean loss over the supervised positions of a batch, scalar."""
        return self.recommendation_loss(self.training_rows(interaction))


class SequenceRecommender(ItemCache, SequenceTraining, SequentialRecommender):  # type: ignore[misc]
    """A sequential recommender whose score is <user state, item vector>.

    A subclass defines `user_states` and `item_vectors`. This class provides prediction, and the
    loss (`loss_type` CE, BCE, BPR or SSM, sampled softmax) over both kinds of training rows.
    """

    input_type = InputType.PAIRWISE
    loss_types: Sequence[str] = LOSS_TYPES  # a subclass may have more
    default_loss = "CE"  # if no file, settings class or user sets `loss_type`

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.loss_type = config["loss_type"]
        check_choice("loss_type", self.loss_type, self.loss_types)
        self.name_sequence_fields(config)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """State after the last real item: int [B, L], int [B] -> [B, D]."""
        return self.last_states(item_seq)

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of each row's `item_id`, [B]."""
        state = self.states_of_pairs(interaction)
        return (state * self.cached_items(self.item_vectors)[interaction[self.ITEM_ID]]).sum(-1)

    @torch.no_grad()
    def score_factors(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """States [B, D] and item vectors [n, D], see `FactorModel`."""
        return self.row_states(interaction), self.cached_items(self.item_vectors)

    def last_rows(self, interaction: Interaction, rows: TrainingRows) -> tuple[Tensor, Tensor]:
        """The training row of each history's last state, and its user: int [B] each."""
        users = interaction[self.USER_ID]
        if self.POS_ITEM_SEQ in interaction:
            return self._row_counts(interaction).cumsum(0) - 1, users
        users = self.row_users(interaction, rows)
        return torch.arange(len(users), device=users.device), users

    def row_users(self, interaction: Interaction, rows: TrainingRows) -> Tensor:
        """The user of each training row, int [T]."""
        users = interaction[self.USER_ID]
        if self.POS_ITEM_SEQ in interaction:
            return users.repeat_interleave(self._row_counts(interaction))
        return users[: len(rows.states)]  # RecBole's loader repeats the batch for each negative

    def _row_counts(self, interaction: Interaction) -> Tensor:
        return (interaction[self.POS_ITEM_SEQ] != 0).sum(1)  # [B]

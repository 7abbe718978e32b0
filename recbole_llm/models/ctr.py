"""Base class of the pointwise models, which predict the probability of a click (CTR)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor

from recbole_llm.core.errors import not_given
from recbole_llm.data.ranking_step import FLOAT_BYTES
from recbole_llm.data.settings import EngineSettings
from recbole_llm.layers.embedding import of_distinct_rows
from recbole_llm.layers.packing import last_of
from recbole_llm.models.base import negatives_of_a_target
from recbole_llm.models.ctr_layers import CTRHead

PAIR_COPIES = 3  # live copies of a pair's activations: a layer's input, its output, a temporary


class LabelledPairs(NamedTuple):
    """The labelled (user, item) pairs of a batch; leading dimensions broadcast to N pairs."""

    states: Tensor  # [N, *], of the user before the item
    users: Tensor  # int [N]
    items: Tensor  # int [N]
    labels: Tensor  # float [N]


class CTRRecommender(SequentialRecommender):  # type: ignore[misc]
    """A sequential model that predicts, pair by pair, the probability of a positive label.

    A subclass gives `logits` and one of the two:

    - `user_states(item_seq, mask)`, the user's state after every position of what `history` gives,
      int [B, L], bool [B, L] -> [B, L, *]. It must be causal. Such a model also trains on whole
      sequences (``train_level: sequence``).
    - `user_vectors(interaction)`, what is read of the user before the target, [B, *]. For models
      without states at every position, such as attention from the target to the history, whose
      "vector" may be the history itself.

    This class gives the loss (binary cross-entropy, mean over pairs) on both kinds of training
    rows, `predict`, and `full_sort_predict`. Labels are RecBole's: a column ``LABEL_FIELD``, or
    ``threshold`` on ratings; where ``train_neg_sample_args`` draws negatives, every interaction is
    positive, whatever its rating.
    """

    input_type = InputType.POINTWISE
    learns_labels = True  # the data must have labels, or negatives must be drawn
    sequence_fields: tuple[str, ...] = ()  # further columns of a history that `history` reads
    reads_users = True  # False where `logits` ignores users: new users can then be scored
    user_states: Callable[[Tensor, Tensor], Tensor]

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        suffix, negative = config["LIST_SUFFIX"], config["NEG_PREFIX"]
        self.LABEL: str = config["LABEL_FIELD"]
        self.POS_ITEM_SEQ = f"pos_{self.ITEM_SEQ}"
        self.POS_LABEL_SEQ = f"pos_{self.LABEL}{suffix}"
        self.NEG_ITEM_SEQ = f"{negative}{self.ITEM_SEQ}"
        self.n_negatives = negatives_of_a_target(config)
        self.block_bytes = EngineSettings.of(config).ranking_bytes

    def logits(self, states: Tensor, users: Tensor, items: Tensor) -> Tensor:
        """Logits of (user, item) pairs.

        Args:
            states: the users' states before the items, [*, D].
            users: int [*].
            items: int [*].

        Returns:
            [*]; the leading dimensions broadcast, so that a user's states [B, 1, D] meet the items
            [1, n] of a catalogue.
        """
        raise not_given(self, "logits(states, users, items)")

    def history(self, interaction: Interaction) -> Tensor:
        """What the users did before their targets, by number, int [B, L]; 0 is padding. Items; a
        model that reads more of the interactions names its columns in ``sequence_fields``."""
        return interaction[self.ITEM_SEQ]

    def user_vectors(self, interaction: Interaction) -> Tensor:
        """States after the last behaviour, [B, *]; of nothing but the columns before the target."""
        item_seq = self.history(interaction)  # [B, L]
        if self.training:
            return self._last_states(item_seq)
        # Candidates of sampled evaluation repeat their user's history, which is encoded once.
        return of_distinct_rows(self._last_states, item_seq)

    def _last_states(self, item_seq: Tensor) -> Tensor:
        if not hasattr(self, "user_states"):
            raise not_given(self, "user_states(item_seq, mask) or user_vectors(interaction)")
        mask = item_seq != 0
        return last_of(self.user_states(item_seq, mask), mask)

    def labelled_pairs(self, interaction: Interaction) -> LabelledPairs:
        """States, users, items and labels of either kind of training batch."""
        if self.POS_ITEM_SEQ in interaction:
            return self._sequence_pairs(interaction)
        labels = self._labels(interaction, self.LABEL)
        # RecBole's loader repeats the whole batch for each negative; a history is encoded once.
        size = len(labels) // (1 + self.n_negatives)
        rows = interaction[:size]
        return LabelledPairs(
            self.user_vectors(rows)[None],  # [1, B, *]
            rows[self.USER_ID][None],
            interaction[self.ITEM_ID].view(-1, size),  # [1 + k, B]
            labels.view(-1, size),
        )

    def _sequence_pairs(self, interaction: Interaction) -> LabelledPairs:
        item_seq, targets = self.history(interaction), interaction[self.POS_ITEM_SEQ]
        supervised = targets != 0  # [B, L]
        states = self.user_states(item_seq, item_seq != 0)[supervised]  # [T, *]
        users = interaction[self.USER_ID][:, None].expand_as(targets)[supervised]  # [T]
        items = targets[supervised]
        if self.NEG_ITEM_SEQ not in interaction:
            labels = self._labels(interaction, self.POS_LABEL_SEQ)[supervised]
            return LabelledPairs(states, users, items, labels)
        items = torch.cat([items[:, None], interaction[self.NEG_ITEM_SEQ][supervised]], dim=1)
        labels = torch.zeros_like(items, dtype=states.dtype)  # [T, 1 + k]
        labels[:, 0] = 1
        return LabelledPairs(states[:, None], users[:, None], items, labels)

    def _labels(self, interaction: Interaction, field: str) -> Tensor:
        if field not in interaction:
            raise ValueError(
                f"{type(self).__name__}: the data has no labels ('{self.LABEL}'): make them of "
                f"ratings (threshold), name their column (LABEL_FIELD), or draw negatives "
                f"(train_neg_sample_args)"
            )
        return interaction[field].float()

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Binary cross-entropy, mean over the labelled pairs of a batch, scalar."""
        states, users, items, labels = self.labelled_pairs(interaction)
        return F.binary_cross_entropy_with_logits(self.logits(states, users, items), labels)

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> Tensor:
        """Probability of each row's item, [B]."""
        states, users = self.user_vectors(interaction), self._users(interaction)
        return torch.sigmoid(self.logits(states, users, interaction[self.ITEM_ID]))

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Probabilities of the whole catalogue, [B, n], in blocks within ``eval_memory_mib``."""
        states, users = self.user_vectors(interaction), self._users(interaction)
        out = states.new_empty((len(users), self.n_items), dtype=torch.float32)
        pair_bytes = FLOAT_BYTES * (states[0].numel() + PAIR_COPIES * self.pair_floats())
        pairs = max(self.block_bytes // pair_bytes, 1)
        catalogue = torch.arange(self.n_items, device=users.device)
        for start in range(0, len(users), pairs):  # seldom more than once
            some = slice(start, start + pairs)
            for items in torch.split(catalogue, max(pairs // len(users[some]), 1)):
                logits = self.logits(states[some, None], users[some, None], items[None])
                out[some, items] = torch.sigmoid(logits)
        return out

    def _users(self, interaction: Interaction) -> Tensor:
        """Users of the rows, int [B]; 0 for new ones."""
        if self.reads_users or self.USER_ID in interaction:
            return interaction[self.USER_ID]
        return torch.zeros_like(interaction[self.ITEM_SEQ_LEN])

    def pair_floats(self) -> int:
        """Widest layer, in floats, on a pair's way to its logit: sizes the blocks of full ranking.
        To be overridden where the way is not a `CTRHead`."""
        return max((m.width for m in self.modules() if isinstance(m, CTRHead)), default=0)

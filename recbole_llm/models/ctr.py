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

from recbole_llm.core.errors import missing_method_error
from recbole_llm.data.loading.ranking_step import FLOAT_BYTES
from recbole_llm.data.settings import EngineSettings
from recbole_llm.layers.embedding import map_distinct_rows
from recbole_llm.layers.packing import select_last
from recbole_llm.models.base import count_negatives
from recbole_llm.models.ctr_layers import CTRHead

Index = slice | tuple[slice | None, ...] | None
PAIR_COPIES = 3  # live copies of a pair's activations: a layer's input, its output, a temporary


class UserContext(NamedTuple):
    """What `logits` reads of users: states and histories before their target items."""

    states: Tensor  # [*, D]; D is 0 where the model has no states
    histories: Tensor  # int [*, L]; L is 0 where the model does not read them

    @classmethod
    def without_states(cls, histories: Tensor) -> UserContext:
        """Return the context of a model that reads only histories, int [*, L]."""
        return cls(histories.new_empty((*histories.shape[:-1], 0), dtype=torch.float32), histories)

    def select(self, index: Index) -> UserContext:
        """Index the leading dimensions of both parts; None adds a dimension."""
        return UserContext(self.states[index], self.histories[index])


class LabeledPairs(NamedTuple):
    """The labeled (user, item) pairs of a batch; leading dimensions broadcast to N pairs."""

    context: UserContext  # [N, *] each, of the user before the item
    users: Tensor  # int [N]
    items: Tensor  # int [N]
    labels: Tensor  # float [N]


class CTRRecommender(SequentialRecommender):  # type: ignore[misc]
    """A sequential model that predicts, pair by pair, the probability of a positive label.

    A subclass defines `logits` and one of these two:

    - `user_states(item_seq, mask)`, the user's state after every position of `history`'s
      result, int [B, L], bool [B, L] -> [B, L, D]. It must be causal. Such a model also trains on
      whole sequences (``train_level: sequence``).
    - `user_context(interaction)`, what the model reads of the user before the target, if it has no
      state per position. A model that attends from the target to the history returns
      `UserContext.without_states(history)`.

    This class provides the loss (binary cross-entropy, mean over pairs) on both kinds of training
    rows, `predict`, and `full_sort_predict`. Labels are RecBole's: a column ``LABEL_FIELD``, or
    ``threshold`` on ratings; where ``train_neg_sample_args`` draws negatives, every interaction is
    positive, whatever its rating.
    """

    input_type = InputType.POINTWISE
    learns_labels = True  # the data must have labels, or negatives must be drawn
    sequence_fields: tuple[str, ...] = ()  # further interaction columns that `history` reads
    reads_users = True  # False where `logits` ignores users: new users can then be scored
    reads_histories = False  # whether `logits` reads histories besides `user_states`
    user_states: Callable[[Tensor, Tensor], Tensor]

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        suffix, negative = config["LIST_SUFFIX"], config["NEG_PREFIX"]
        self.LABEL: str = config["LABEL_FIELD"]
        self.POS_ITEM_SEQ = f"pos_{self.ITEM_SEQ}"
        self.POS_LABEL_SEQ = f"pos_{self.LABEL}{suffix}"
        self.NEG_ITEM_SEQ = f"{negative}{self.ITEM_SEQ}"
        self.n_negatives = count_negatives(config)
        self.block_bytes = EngineSettings.of(config).ranking_bytes

    def logits(self, context: UserContext, users: Tensor, items: Tensor) -> Tensor:
        """Logits of (user, item) pairs.

        Args:
            context: the users before the items, [*, D] and [*, L].
            users: int [*].
            items: int [*].

        Returns:
            [*]; the leading dimensions broadcast, so that users' states [B, 1, D] meet the items
            [1, n] of a catalogue.
        """
        raise missing_method_error(self, "logits(context, users, items)")

    def history(self, interaction: Interaction) -> Tensor:
        """Return behaviors before the targets, int [B, L]; 0 is padding. By default they are items;
        a model that reads further interaction columns names these in ``sequence_fields``."""
        return interaction[self.ITEM_SEQ]

    def user_context(self, interaction: Interaction) -> UserContext:
        """Return the users after their last behaviors, [B, D] and [B, L], without their targets."""
        item_seq = self.history(interaction)  # [B, L]
        # Candidates of sampled evaluation repeat their user's history, which is encoded once.
        encode = self._last_states
        states = encode(item_seq) if self.training else map_distinct_rows(encode, item_seq)
        return UserContext(states, item_seq if self.reads_histories else item_seq[:, :0])

    def _last_states(self, item_seq: Tensor) -> Tensor:
        if not hasattr(self, "user_states"):
            raise missing_method_error(
                self, "user_states(item_seq, mask) or user_context(interaction)"
            )
        mask = item_seq != 0
        return select_last(self.user_states(item_seq, mask), mask)

    def _context_at(self, item_seq: Tensor, wanted: Tensor) -> UserContext:
        """The users after some of their behaviors: int [B, L], bool [B, L] -> [T, D], [T, L]."""
        states = self.user_states(item_seq, item_seq != 0)[wanted]
        if not self.reads_histories:
            return UserContext(states, item_seq.new_empty((len(states), 0)))
        up_to = item_seq[:, None].expand(-1, item_seq.shape[1], -1).tril()  # [B, L, L]
        return UserContext(states, up_to[wanted])

    def labeled_pairs(self, interaction: Interaction) -> LabeledPairs:
        """Return contexts, users, items and labels of either kind of training batch."""
        if self.POS_ITEM_SEQ in interaction:
            return self._sequence_pairs(interaction)
        labels = self._labels(interaction, self.LABEL)
        # RecBole's loader repeats the whole batch for each negative; a history is encoded once.
        size = len(labels) // (1 + self.n_negatives)
        rows = interaction[:size]
        return LabeledPairs(
            self.user_context(rows).select(None),  # [1, B, *]
            rows[self.USER_ID][None],
            interaction[self.ITEM_ID].view(-1, size),  # [1 + k, B]
            labels.view(-1, size),
        )

    def _sequence_pairs(self, interaction: Interaction) -> LabeledPairs:
        item_seq, targets = self.history(interaction), interaction[self.POS_ITEM_SEQ]
        supervised = targets != 0  # [B, L]
        context = self._context_at(item_seq, supervised)  # [T, *]
        users = interaction[self.USER_ID][:, None].expand_as(targets)[supervised]  # [T]
        items = targets[supervised]
        if self.NEG_ITEM_SEQ not in interaction:
            labels = self._labels(interaction, self.POS_LABEL_SEQ)[supervised]
            return LabeledPairs(context, users, items, labels)
        items = torch.cat([items[:, None], interaction[self.NEG_ITEM_SEQ][supervised]], dim=1)
        labels = torch.zeros_like(items, dtype=context.states.dtype)  # [T, 1 + k]
        labels[:, 0] = 1
        return LabeledPairs(context.select((slice(None), None)), users[:, None], items, labels)

    def _labels(self, interaction: Interaction, field: str) -> Tensor:
        if field not in interaction:
            raise ValueError(
                f"{type(self).__name__}: the data has no labels ('{self.LABEL}'): make them from "
                f"ratings (threshold), name their column (LABEL_FIELD), or draw negatives "
                f"(train_neg_sample_args)"
            )
        return interaction[field].float()

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Binary cross-entropy, mean over the labeled pairs of a batch, scalar."""
        context, users, items, labels = self.labeled_pairs(interaction)
        return F.binary_cross_entropy_with_logits(self.logits(context, users, items), labels)

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> Tensor:
        """Probability of each row's item, [B]."""
        context, users = self.user_context(interaction), self._users(interaction)
        return torch.sigmoid(self.logits(context, users, interaction[self.ITEM_ID]))

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Probabilities of the whole catalogue, [B, n], in blocks within ``eval_memory_mib``."""
        context, users = self.user_context(interaction), self._users(interaction)
        out = context.states.new_empty((len(users), self.n_items), dtype=torch.float32)
        read = sum(part[0].numel() for part in context)
        pair_bytes = FLOAT_BYTES * (read + PAIR_COPIES * self.pair_floats())
        pairs = max(self.block_bytes // pair_bytes, 1)
        catalogue = torch.arange(self.n_items, device=users.device)
        for start in range(0, len(users), pairs):  # usually a single pass
            some = slice(start, start + pairs)
            for items in torch.split(catalogue, max(pairs // len(users[some]), 1)):
                logits = self.logits(context.select((some, None)), users[some, None], items[None])
                out[some, items] = torch.sigmoid(logits)
        return out

    def _users(self, interaction: Interaction) -> Tensor:
        """Return the users of the rows, int [B]; 0 for new users."""
        if self.reads_users or self.USER_ID in interaction:
            return interaction[self.USER_ID]
        return torch.zeros_like(interaction[self.ITEM_SEQ_LEN])

    def pair_floats(self) -> int:
        """Return the width, in floats, of the widest layer for a pair, which sets the block size of
        full ranking. Override it in a model whose head is not a `CTRHead`."""
        return max((m.width for m in self.modules() if isinstance(m, CTRHead)), default=0)

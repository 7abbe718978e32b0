"""Small pointwise models: three sound ones, and variants that break one contract each."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm.features.attach import item_embeddings
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.models.ctr import CTRRecommender, UserContext
from recbole_llm.models.ctr_layers import CTRHead, FieldEmbedding
from recbole_llm.models.settings import CTRSettings


class _Example(CTRRecommender):
    """The parts of all examples: frozen text vectors behind a linear layer, fields and a head."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = CTRSettings.of(config)
        size, device = settings.embedding_size, config["device"]
        table = item_embeddings(config, dataset)
        self.text = self.table(table.matrix, table.fingerprint)
        self.adapter = nn.Linear(table.matrix.shape[1], size)
        fields = (dataset, size, settings.pooling_mode, device)
        self.user_fields = FieldEmbedding("user", *fields)
        self.item_fields = FieldEmbedding("item", *fields)
        self.head = CTRHead(
            size,
            settings.mlp_hidden_size,
            self.user_fields.width + self.item_fields.width,
            settings.dropout_prob,
            settings.activation,
            settings.batch_norm,
        )

    def table(self, matrix: Any, fingerprint: str) -> nn.Module:
        return FrozenEmbedding(matrix, fingerprint)

    def items(self, ids: Tensor) -> Tensor:
        """Map item ids [*] to vectors [*, H]."""
        vectors: Tensor = self.adapter(self.text(ids))
        return vectors

    def score(self, user: Tensor, users: Tensor, items: Tensor) -> Tensor:
        fields = self.user_fields(users), self.item_fields(items)
        logits: Tensor = self.head(user, self.items(items), *fields)
        return logits


class MeanBehavior(_Example):
    """The state is the mean of the behaviors so far."""

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        sums = (self.items(item_seq) * mask[..., None]).cumsum(1)
        return sums / mask.cumsum(1).clamp(min=1)[..., None]

    def logits(self, context: UserContext, users: Tensor, items: Tensor) -> Tensor:
        return self.score(context.states, users, items)


class UserFree(MeanBehavior):
    """A model that knows nothing of users but their behaviors."""

    reads_users = False

    def logits(self, context: UserContext, users: Tensor, items: Tensor) -> Tensor:
        return super().logits(context, torch.zeros_like(users), items)


class TargetAttention(_Example):
    """The target attends to the history, so there is no state without the target."""

    def user_context(self, interaction: Interaction) -> UserContext:
        return UserContext.without_states(interaction[self.ITEM_SEQ])

    def logits(self, context: UserContext, users: Tensor, items: Tensor) -> Tensor:
        history = self.items(context.histories)  # [*, L, H]
        weights = (history @ self.items(items)[..., None]).squeeze(-1)  # [*, L]
        weights = weights.masked_fill(context.histories == 0, -torch.inf).softmax(-1)
        user = (weights[..., None] * history).sum(-2)
        return self.score(user, users, items)


class Leaking(MeanBehavior):
    """The mean at every position is over the whole window, later items included."""

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        states = super().user_states(item_seq, mask)
        last = mask.sum(1) - 1
        return states[torch.arange(len(last)), last][:, None].expand_as(states).contiguous()


class LeakingTarget(MeanBehavior):
    """The state contains the target."""

    def user_context(self, interaction: Interaction) -> UserContext:
        states, histories = super().user_context(interaction)
        return UserContext(states + self.items(interaction[self.ITEM_ID]), histories)


class LeakingLabel(MeanBehavior):
    """The state contains the label."""

    def user_context(self, interaction: Interaction) -> UserContext:
        states, histories = super().user_context(interaction)
        return UserContext(states + interaction[self.LABEL][:, None], histories)


class TrainedTable(MeanBehavior):
    """The text vectors are trained, and stored."""

    def table(self, matrix: Any, fingerprint: str) -> nn.Module:
        table = nn.Embedding.from_pretrained(torch.from_numpy(matrix).clone(), freeze=False)
        table.fingerprint = fingerprint  # type: ignore[assignment]
        return table


class CountedPadding(MeanBehavior):
    """The mean's denominator counts the whole window."""

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        return (self.items(item_seq) * mask[..., None]).cumsum(1) / mask.shape[1]


class Unbounded(MeanBehavior):
    """Predictions are logits."""

    def predict(self, interaction: Interaction) -> Tensor:
        return torch.logit(super().predict(interaction))


class OtherCatalogue(MeanBehavior):
    """Full ranking shifts the scores by one item."""

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        return super().full_sort_predict(interaction).roll(1, 1)


class Untrainable(MeanBehavior):
    """Training fits the negated logits, so it makes predictions worse."""

    def logits(self, context: UserContext, users: Tensor, items: Tensor) -> Tensor:
        logits = super().logits(context, users, items)
        return -logits if self.training else logits


EXAMPLES = (
    MeanBehavior, UserFree, TargetAttention, Leaking, LeakingTarget, LeakingLabel, TrainedTable,
    CountedPadding, Unbounded, OtherCatalogue, Untrainable,
)  # fmt: skip

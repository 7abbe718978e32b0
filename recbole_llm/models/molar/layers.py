"""Molar's item vectors, its causal network over a history of them, and its authors' loss."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.features.item_init import append_items
from recbole_llm.features.tables.reduce import pca
from recbole_llm.layers.backbones.base import SequenceBackbone
from recbole_llm.layers.dropout import Dropout
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.layers.losses import unit_rows
from recbole_llm.layers.packing import run_left_aligned
from recbole_llm.models.molar.codes import ProductCodes

_MAX_LOG_SCALE = math.log(100)


class DUEG(SequenceBackbone):
    """Dynamic User Embedding Generator: a decoder as a sequence backbone.

    Args:
        decoder: (vectors [B, L, H], padded on the right) -> states [B, L, H].
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def output_norm(self) -> nn.Module | None:
        """Return the decoder's last norm, named as in GPT-2 or Llama; None if it has none."""
        model = self.decoder.model
        return getattr(model, "ln_f", None) or getattr(model, "norm", None)

    def forward(self, emb: Tensor, mask: Tensor) -> Tensor:
        """emb [B, L, H], mask bool [B, L] -> states [B, L, H], zeros at padding."""
        lengths = mask.sum(1)
        return run_left_aligned(lambda aligned: self.decoder(aligned, lengths), emb, mask)


class ContentItems(nn.Module):
    """Content vectors W T_i + b + net(T_i) + codes(T_i); in early fusion plus an ID embedding.

    Args:
        vectors: T, frozen, [n, D].
        size: H, of the result.
        std: standard deviation of W T + b at the start, when W projects on the principal components
            of T; outputs beyond the components are random.
        hidden_size: of the net, which has one hidden layer of GELUs; 0: no net.
        dropout: on the hidden layer.
        codes: number of codes of an item, see `ProductCodes`; 0: none.
        code_dropout: on the codes.
        fused: whether to add an ID embedding (early fusion).
    """

    def __init__(
        self,
        vectors: FrozenEmbedding,
        size: int,
        std: float,
        hidden_size: int = 0,
        dropout: float = 0.0,
        codes: int = 0,
        code_dropout: float = 0.0,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.vectors = vectors
        self.projection = nn.Linear(vectors.dimension, size)
        components = pca(vectors.weight.numpy(), size)
        if not components.spread() > 0:
            raise ValueError("Molar: all item vectors are the same; check item_prompt and encoder")
        nn.init.zeros_(self.projection.bias)
        components.project(self.projection, std / components.spread())
        self.net = _zero_net(vectors, hidden_size, size, dropout) if hidden_size else None
        self.codes = ProductCodes(vectors.weight, size, codes, code_dropout) if codes else None
        self.ids = nn.Embedding(len(vectors.weight), size, padding_idx=0) if fused else None
        if self.ids is not None:
            nn.init.zeros_(self.ids.weight)  # so the sum starts from the text, as with `item_init`

    def forward(self, ids: Tensor) -> Tensor:
        """int [*] -> [*, size]."""
        content = self.vectors(ids)
        vectors: Tensor = self.projection(content)
        if self.net is not None:
            vectors = vectors + self.net(content)
        if self.codes is not None:
            vectors = vectors + self.codes(ids)
        return vectors if self.ids is None else vectors + self.ids(ids)

    def append(self, vectors: Tensor) -> None:
        """Add items that came after training, [m, D]."""
        append_items(self.vectors, vectors, *([] if self.ids is None else [self.ids]))
        if self.codes is not None:
            self.codes.append(self.vectors.weight[-len(vectors) :])


@torch.no_grad()
def _zero_net(vectors: FrozenEmbedding, hidden_size: int, size: int, dropout: float) -> nn.Module:
    """Build the net beside the projection: zero at the start, scaled to its inputs' spread."""
    first, last = nn.Linear(vectors.dimension, hidden_size), nn.Linear(hidden_size, size)
    first.weight /= vectors.weight.std()
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(first, nn.GELU(), Dropout(dropout), last)


class PooledNCE(nn.Module):
    """The loss of the authors' code: each target against all negatives of the batch, by cosine.

    A negative is dropped where its cosine to the target, not to the state, is above
    `same_item`: it is then taken for the target itself. Logits are multiplied by exp(log_scale),
    which is learned and at most 100.
    """

    def __init__(self, same_item: float = 0.99) -> None:
        super().__init__()
        self.same_item = same_item
        self.log_scale = nn.Parameter(torch.empty(()))
        self.reset()

    def reset(self) -> None:
        """Reset the scale to the authors' initial one."""
        nn.init.constant_(self.log_scale, math.log(1 / 0.07))

    def forward(self, states: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
        """States [T, D], vectors of the targets [T, D] and of the pool [M, D] -> scalar."""
        logits = self.logits(states, targets, negatives)
        return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))

    def logits(self, states: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
        """Logits of the target, then of the pool, [T, 1 + M]; -inf where a negative is dropped."""
        with torch.no_grad():
            self.log_scale.clamp_(0, _MAX_LOG_SCALE)
        with torch.autocast(states.device.type, enabled=False):
            states, targets, negatives = unit_rows(states, targets, negatives)
            target = (states * targets).sum(-1, keepdim=True)
            pool = states @ negatives.t()
            same = targets.detach() @ negatives.detach().t() > self.same_item
        scaled = torch.cat([target, pool], dim=1) * self.log_scale.exp()
        return scaled.masked_fill(F.pad(same, (1, 0)), -torch.inf)

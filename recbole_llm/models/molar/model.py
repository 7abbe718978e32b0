"""Molar (Luo et al. 2024, arXiv 2412.18176).

README.md in this folder says where this differs from the authors' code, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm.core.config import Config
from recbole_llm.features.attach import item_embeddings
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.stored.store import cache_dir
from recbole_llm.features.tables.reduce import WhitenedEmbedding
from recbole_llm.layers.backbones import backbone_from_settings
from recbole_llm.layers.backbones.base import Expert, scale_scores
from recbole_llm.layers.decoder import CausalDecoder, depth_of, small_decoder
from recbole_llm.layers.losses import info_nce
from recbole_llm.models.base import LOSS_TYPES, TrainingRows
from recbole_llm.models.molar.layers import DUEG, ContentItems, PooledNCE
from recbole_llm.models.molar.settings import PHASES, MolarSettings
from recbole_llm.models.phased import PhasedRecommender


class Molar(PhasedRecommender):
    """A decoder over content vectors of items (DUEG), whose user states follow an ID model's.

    Phase id: only the ID model learns, from the recommendation loss. Phase content: the content
    model learns from that loss plus alignment_weight * InfoNCE between both models' user states.
    The content model alone gives the scores.
    """

    phases, start_key = PHASES, "id_pretrained"
    loss_types = (*LOSS_TYPES, "NCE")

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.settings = settings = MolarSettings.of(config)
        self.aligned, self.joint = settings.fusion == "post_alignment", settings.id_model == "joint"
        table = item_embeddings(config, dataset)
        vectors = WhitenedEmbedding(table, settings.vector_whitening)
        decoder = _build_decoder(config, settings)
        items = ContentItems(
            vectors,
            decoder.width,
            settings.item_std,
            hidden_size=settings.item_hidden_size,
            dropout=settings.decoder_dropout_prob,
            codes=settings.item_codes,
            code_dropout=settings.item_code_dropout_prob,
            fused=settings.fusion == "early_fusion",
        )
        content = Expert(items, DUEG(decoder), settings.item_dropout_prob)
        if settings.score_std:
            vectors_of_all = items(torch.arange(self.n_items))
            scale_scores(content.backbone.output_norm(), vectors_of_all, settings.score_std)
        self.towers: Any = nn.ModuleDict({"content": content})
        if self.aligned:
            self.towers["id"] = _build_id_model(settings, self.n_items)
            self.to_ids = nn.Linear(decoder.width, settings.hidden_size, bias=False)
        self.nce = PooledNCE(settings.same_item) if self.loss_type == "NCE" else None
        self.phase = PHASES[-1]

    def begin_phase(self, name: str) -> None:
        """Enter a phase at its start: the scale of NCE is learned anew for each model."""
        super().begin_phase(name)
        if self.nce is not None:
            self.nce.reset()

    def phase_summaries(self) -> dict[str, str]:
        """The ID model, where one is to be frozen, then the content model."""
        s = self.settings
        aligned = f" + {s.alignment_weight:g} * InfoNCE to the {s.id_model} {s.backbone}"
        how = aligned if self.aligned else f" ({s.fusion})"
        content = f"the decoder over content vectors learns from {s.loss_type}{how}"
        id_phase = {"id": f"{s.backbone} over item ids learns from {s.loss_type}"}
        return {**(id_phase if s.has_id_phase else {}), "content": content}

    def phase_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the present phase trains."""
        for name, parameter in self.named_parameters():
            in_id_model = name.startswith("towers.id.")
            if self.phase == "id" and (in_id_model or name.startswith("nce.")):
                yield parameter
            if self.phase == "content" and (self.joint or not in_id_model):
                yield parameter

    def train(self, mode: bool = True) -> Self:
        """Torch's method, but a frozen ID model stays in eval mode, without dropout."""
        super().train(mode)
        if self.aligned and not self.joint and self.phase == "content":
            self.towers["id"].eval()
        return self

    def scale_first_scores(self, std: float) -> None:
        """Scale the scores of the ID model alone, whose table `item_init` starts from texts."""
        if self.aligned:
            ids = self.towers["id"]
            scale_scores(ids.backbone.output_norm(), ids.items.weight, std)

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """int [B, L], bool [B, L] -> [B, L, H], of the phase's model."""
        return self._unit_for_nce(self.towers[self.phase](item_seq, mask))

    def last_states(self, item_seq: Tensor) -> Tensor:
        """int [B, L] -> [B, H], of the phase's model."""
        return self._unit_for_nce(self.towers[self.phase].last(item_seq))

    def phase_items(self, ids: Tensor) -> Tensor:
        """int [*] -> [*, H], of the phase's model."""
        return self._unit_for_nce(self.towers[self.phase].items(ids))

    def _unit_for_nce(self, vectors: Tensor) -> Tensor:
        """Vectors of length 1 for NCE, which scores by cosine; for other losses as they are."""
        return vectors if self.nce is None else F.normalize(vectors, dim=-1)

    def calculate_loss(self, interaction: Interaction) -> Tensor | tuple[Tensor, ...]:  # type: ignore[override]
        """Recommendation loss; in the content phase also that of a joint ID model and the weighted
        alignment loss (RecBole sums them)."""
        rows = self.training_rows(interaction)
        loss = self.recommendation_loss(rows)
        if self.phase == "id" or not self.aligned:
            return loss
        with self._as_phase("id"), torch.set_grad_enabled(self.joint):
            id_rows = self.training_rows(interaction)
            parts = (loss, self.recommendation_loss(id_rows)) if self.joint else (loss,)
        content, ids, users = rows.states, id_rows.states, self.row_users(interaction, rows)
        if self.settings.alignment_positions == "last":
            last, users = self.last_rows(interaction, rows)
            content, ids = content[last], ids[last]
        aligned = info_nce(self.to_ids(content), ids, self.settings.temperature, users)
        return (*parts, self.settings.alignment_weight * aligned)

    def recommendation_loss(self, rows: TrainingRows) -> Tensor:
        """Loss of `loss_type` on the rows, scalar."""
        if self.nce is None or rows.negatives is None:
            return super().recommendation_loss(rows)
        targets, pool = rows.targets, rows.negatives.flatten()
        return self.nce(rows.states, self.item_vectors(targets), self.item_vectors(pool))

    @contextmanager
    def _as_phase(self, name: str) -> Iterator[None]:
        present, self._phase = self._phase, name
        try:
            yield
        finally:
            self._phase = present

    def add_items(self, text: Tensor) -> None:
        """Add items after training; see `TextItemModel`."""
        self.towers["content"].items.append(text)
        self.items_added(len(text))


def _build_decoder(config: Config, s: MolarSettings) -> CausalDecoder:
    if s.decoder_model is None:
        small = small_decoder(
            width=s.decoder_size,
            depth=s.decoder_layers,
            heads=s.decoder_heads,
            inner=s.decoder_inner,
            positions=s.MAX_ITEM_LIST_LENGTH,
            dropout=s.decoder_dropout_prob,
        )
        return CausalDecoder(small, checkpointing=s.gradient_checkpointing)
    source = Source.of(s.decoder_model, None, cache_dir(config), "decoder_model")
    try:
        model = source.model(torch.float32)
        first = max(depth_of(model) - s.decoder_blocks, 0) if s.decoder_blocks else 0
        return CausalDecoder(
            model,
            first,
            s.decoder_blocks,
            tuning=s.tuning,
            rank=s.lora_rank,
            checkpointing=s.gradient_checkpointing,
        )
    except ValueError as error:
        raise ValueError(f"decoder_model: {error}") from error


def _build_id_model(settings: MolarSettings, n_items: int) -> Expert:
    items = nn.Embedding(n_items, settings.hidden_size, padding_idx=0)
    nn.init.normal_(items.weight[1:], std=settings.initializer_range)
    backbone = backbone_from_settings(settings, settings.MAX_ITEM_LIST_LENGTH)
    return Expert(items, backbone)

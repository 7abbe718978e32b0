"""PAD: pre-train, align and disentangle an ID space and an LLM's item space.

Yuhao Wang et al., "Pre-train, Align, and Disentangle: Empowering Sequential Recommendation with
Large Language Models", SIGIR 2025 (arXiv 2412.04107). README.md in this folder says where this
differs from the authors' code, and why.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm.core.config import Config
from recbole_llm.data.rows.training import item_counts
from recbole_llm.features.attach import item_embeddings
from recbole_llm.features.item_init import append_items, fill_table
from recbole_llm.layers.backbones import backbone_from_settings
from recbole_llm.layers.backbones.base import Expert, scale_scores
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.models.pad.experts import AlignedItems, gelu_net, id_embedding
from recbole_llm.models.pad.gate import EXPERTS, FrequencyGate, frequency_bins, gate_weights
from recbole_llm.models.pad.mmd import alignment_loss
from recbole_llm.models.pad.settings import PHASES, PADSettings
from recbole_llm.models.phased import PhasedRecommender

_ACTIVE = {"pretrain": ("id",), "align": ("aligned",), "disentangle": EXPERTS}


class PAD(PhasedRecommender):
    """Three experts; ``phase`` says which of them are trained and give scores.

    pretrain: the ID expert. align: the aligned expert, which starts as a copy of it, with
    gamma * MK-MMD between its two sides added to the loss. disentangle: all three, their scores
    summed with weights that depend on the frequency of the scored item.
    """

    phases, start_key = PHASES, "pad_pretrained"

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        settings = PADSettings.of(config)
        self.gamma, self.mmd_kernel = settings.gamma, settings.mmd_kernel
        self.mmd_max_items = settings.mmd_max_items
        table = item_embeddings(config, dataset)
        text = FrozenEmbedding(table.matrix, table.fingerprint)
        self.experts: Any = nn.ModuleDict(_build_experts(settings, self.n_items, text))
        bins = frequency_bins(item_counts(dataset), settings.n_bins)
        self.gate = FrequencyGate(bins, settings.n_bins, settings.gamma_2)
        self.phase = PHASES[-1]

    def begin_phase(self, name: str) -> None:
        """Enter a phase at its start: the aligned expert starts from the pre-trained one, the
        gates from their initial weights."""
        last = name == PHASES[-1]
        untouched = last and self.phase != "align"  # the align phase was left out
        self.phase = name
        if last:
            self.gate.reset()
        if name == "align" or untouched:
            source, aligned = self.experts["id"], self.experts["aligned"]
            aligned.items.embedding.load_state_dict(source.items.state_dict())
            aligned.backbone.load_state_dict(source.backbone.state_dict())

    def phase_summaries(self) -> dict[str, str]:
        """Pre-train, align, disentangle."""
        loss = self.loss_type
        return {
            "pretrain": f"the ID expert learns from {loss}",
            "align": f"the aligned expert, which starts as a copy of it, learns from {loss} + "
            f"{self.gamma:g} * MK-MMD ({self.mmd_kernel}) between its IDs and the text",
            "disentangle": f"all three experts and their gates learn from {loss} of the gated sum",
        }

    def phase_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the present phase trains."""
        for expert in self._active_experts():
            yield from expert.parameters()
        if self._is_gated():
            yield from self.gate.parameters()

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """int [B, L], bool [B, L] -> states of the active experts side by side, [B, L, D]."""
        return torch.cat([expert(item_seq, mask) for expert in self._active_experts()], dim=-1)

    def states_at(self, item_seq: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """item_seq int [B, L], masks bool [B, L] -> states of the active experts, [T, D]."""
        return torch.cat([e.at(item_seq, mask, wanted) for e in self._active_experts()], dim=-1)

    def last_states(self, item_seq: Tensor) -> Tensor:
        """int [B, L] -> states of the active experts after the last real item, [B, D]."""
        return torch.cat([expert.last(item_seq) for expert in self._active_experts()], dim=-1)

    def phase_items(self, ids: Tensor) -> Tensor:
        """int [*] -> [*, D]; in the last phase each expert's part is multiplied by its gate, so
        that the dot product with the states is the sum over k of w_k <u_k, item_k>."""
        parts = [expert.items(ids) for expert in self._active_experts()]
        if self._is_gated():
            gates = self.gate(ids).unbind(-1)
            parts = [part * gate.unsqueeze(-1) for part, gate in zip(parts, gates, strict=True)]
        return torch.cat(parts, dim=-1)

    def add_items(self, text: Tensor) -> None:
        """Add items after training; see `TextItemModel`.

        Their rows of the ID tables come from a least-squares map of texts to trained rows; before
        training it is the projection of `pca_init`. Zeros would not do: training shifts the whole
        table, and the ID expert would score zeros above or below all items that it knows.
        """
        ids, aligned, llm = (self.experts[name].items for name in EXPERTS)
        append_items(llm[0].text, text, ids, aligned.embedding)  # the experts share the text
        self.gate.append(len(text))
        self.items_added(len(text))

    def calculate_loss(self, interaction: Interaction) -> Tensor | tuple[Tensor, ...]:  # type: ignore[override]
        """Recommendation loss; in the align phase also gamma * MK-MMD (RecBole sums them)."""
        loss = super().calculate_loss(interaction)
        if self.phase != "align" or self.gamma == 0:
            return loss
        return loss, self.gamma * self.alignment(self.batch_items(interaction))

    def alignment(self, ids: Tensor) -> Tensor:
        """Distance between the aligned expert's two sides of these items, int [m] -> scalar."""
        embedding, content = self.experts["aligned"].items.sides(ids)
        return alignment_loss(content, embedding, self.mmd_kernel)

    def batch_items(self, interaction: Interaction) -> Tensor:
        """Distinct real items of a batch, inputs and targets; ``mmd_max_items`` of them at most."""
        fields = (self.ITEM_SEQ, self.POS_ITEM_SEQ, self.POS_ITEM_ID)
        slots = torch.cat([interaction[f].flatten() for f in fields if f in interaction])
        seen: Tensor = torch.unique(slots[slots != 0])
        if len(seen) > self.mmd_max_items:
            seen = seen[torch.randperm(len(seen), device=seen.device)[: self.mmd_max_items]]
        return seen

    @staticmethod
    def page_figures(state: Mapping[str, Tensor]) -> Iterator[dict[str, Any]]:
        """Figure of the experts' weights by item frequency: see models/README.md."""
        weights = gate_weights(state["gate.alpha"])[:, 1:].numpy()  # [3, bins]
        bins = list(range(1, weights.shape[1] + 1))
        yield {
            "title": "Gates",
            "note": "Weight of each expert's part, by bins of near-equal interactions, popular "
            "items first.",
            "traces": [
                {"type": "bar", "name": expert, "x": bins, "y": of_expert.round(4).tolist()}
                for expert, of_expert in zip(EXPERTS, weights)
            ],
            "x": "frequency bin",
            "y": "weight",
            "barmode": "stack",
        }

    def _active_experts(self) -> list[Any]:
        return [self.experts[name] for name in _ACTIVE[self.phase]]

    def _is_gated(self) -> bool:
        return self.phase == "disentangle"


def _build_experts(settings: PADSettings, n_items: int, text: FrozenEmbedding) -> dict[str, Expert]:
    size, dropout = settings.hidden_size, settings.item_dropout_prob

    def build_content() -> nn.Module:  # turn(T)
        widths = [text.dimension, size, *[size] * settings.mo_dnn_layers]
        return nn.Sequential(OrderedDict(text=text, turn=gelu_net(widths, dropout)))

    net_widths = [size] * settings.dnn_layers

    ids, aligned = (id_embedding(n_items, size, settings.item_std) for _ in range(2))
    if settings.pca_init:
        # The aligned expert's table becomes a copy of it in its phase.
        fill_table(ids.weight, text.weight.numpy(), "pca_init")
    fusion = gelu_net([2 * size, size, *net_widths], dropout)
    items = {
        "id": ids,
        "aligned": AlignedItems(aligned, build_content(), fusion),
        "llm": nn.Sequential(build_content(), gelu_net([size, *net_widths], dropout)),
    }
    length = settings.MAX_ITEM_LIST_LENGTH
    backbones = {name: backbone_from_settings(settings, length) for name in EXPERTS}
    experts = {name: Expert(items[name], backbones[name]) for name in EXPERTS}
    if settings.score_std:
        all_ids = torch.arange(n_items, device=ids.weight.device)
        for name in ("id", "llm"):  # the aligned expert's norm becomes a copy
            vectors = items[name].eval()(all_ids)  # without dropout, as scores are
            scale_scores(backbones[name].output_norm(), vectors, settings.score_std)
            items[name].train()
    return experts

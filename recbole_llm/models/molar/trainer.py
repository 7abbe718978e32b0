"""Molar's phases on the staged trainer."""

from __future__ import annotations

from recbole.model.abstract_recommender import AbstractRecommender

from recbole_llm.core.config import Config
from recbole_llm.models.molar.settings import PHASES, MolarSettings
from recbole_llm.trainers.staged import Phase, StagedTrainer


class MolarTrainer(StagedTrainer):
    """The ID model, where one is to be frozen, then the content model."""

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        settings = MolarSettings.of(config)
        loss, backbone = settings.loss_type, settings.backbone
        aligned = (
            f" + {settings.alignment_weight:g} * InfoNCE to the {settings.id_model} {backbone}"
        )
        summaries = {
            "id": f"{backbone} over item ids learns from {loss}",
            "content": f"the decoder over content vectors learns from {loss}"
            + (aligned if settings.fusion == "post_alignment" else f" ({settings.fusion})"),
        }
        names = PHASES if settings.has_id_phase else PHASES[1:]
        phases = [Phase.from_config(config, name, summaries[name]) for name in names]
        super().__init__(config, model, phases, "id_pretrained")

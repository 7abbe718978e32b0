"""Molar's phases on the staged trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole_llm.models.molar.settings import PHASES, MolarSettings
from recbole_llm.trainers.phase import Phase
from recbole_llm.trainers.staged import StagedTrainer

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_llm.core.config import Config


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
        super().__init__(config, model, [Phase.from_config(config, n, summaries[n]) for n in names])
        if settings.id_pretrained is not None:
            self.start_after(settings.id_pretrained)
            # Checkpoints from here on are past that start, and load without its file.
            config["id_pretrained"] = None

"""PAD's phases on the staged trainer, and the table of gates at the end."""

from __future__ import annotations

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import set_color

from recbole_llm.core.config import Config
from recbole_llm.models.pad.gate import EXPERTS, FrequencyGate
from recbole_llm.models.pad.settings import PHASES, PADSettings
from recbole_llm.trainers.staged import Phase, StagedTrainer


class PADTrainer(StagedTrainer):
    """Pre-train, align, disentangle; after ``pad_pretrained``'s phase where given."""

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        settings = PADSettings.of(config)
        loss, gamma, kernel = settings.loss_type, settings.gamma, settings.mmd_kernel
        summaries = {
            "pretrain": f"the ID expert learns from {loss}",
            "align": f"the aligned expert, which starts as a copy of it, learns from {loss} + "
            f"{gamma:g} * MK-MMD ({kernel}) between its IDs and the text",
            "disentangle": f"all three experts and their gates learn from {loss} of the gated sum",
        }
        phases = [Phase.from_config(config, name, summaries[name]) for name in PHASES]
        super().__init__(config, model, phases, "pad_pretrained")

    def _end(self, phase: Phase) -> None:
        super()._end(phase)
        if phase.name == PHASES[-1]:
            counts = torch.as_tensor(self.model.item_counts)
            self.logger.info(gate_table(self.model.gate, counts))


def gate_table(gate: FrequencyGate, counts: torch.Tensor) -> str:
    """Gates per frequency bin, as lines of text.

    Args:
        gate: the model's.
        counts: training interactions of each item, int [n].
    """
    weights = gate.weights().detach().cpu()  # [3, bins + 1]
    bins = gate.bins.cpu()
    lines = [set_color("gates", "blue") + " of the experts by frequency bin (1: the most popular)"]
    lines.append(f"{'bin':>4} {'items':>8} {'bought':>15}" + "".join(f" {e:>8}" for e in EXPERTS))
    for number in range(1, weights.shape[1]):
        inside = counts[1:][bins[1:] == number]
        times = f"{int(inside.min())}-{int(inside.max())} times" if len(inside) else "-"
        row = "".join(f" {float(w):8.3f}" for w in weights[:, number])
        lines.append(f"{number:>4} {len(inside):>8} {times:>15}{row}")
    return "\n".join(lines)

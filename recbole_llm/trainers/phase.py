"""A phase of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_llm.core.config import Config


@dataclass(frozen=True)
class Phase:
    """One phase of a training.

    Args:
        name: what the model's ``begin_phase`` and ``phase`` know it by.
        epochs: at most; 0 leaves the phase out.
        learning_rate: of its optimizer.
        stopping_step: evaluations without improvement on validation that it goes on for.
        summary: what the phase does, one line for the log.
    """

    name: str
    epochs: int
    learning_rate: float
    stopping_step: int
    summary: str = ""

    @classmethod
    def from_config(cls, config: Config, name: str, summary: str = "") -> Phase:
        """Read ``<name>_epochs``, ``<name>_learning_rate`` and ``<name>_stopping_step``; a key
        that is None stands for the plain ``epochs``, ``learning_rate`` and ``stopping_step``."""

        def value(key: str) -> Any:
            own = config[f"{name}_{key}"]
            return config[key] if own is None else own

        return cls(name, value("epochs"), value("learning_rate"), value("stopping_step"), summary)

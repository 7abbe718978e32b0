"""The settings that text encoders share, read from the configuration once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recbole_llm.features.settings import choice, count, flag, integer, text

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Options:
    """Config keys `encoder_*`; None leaves the choice to the model.

    Args:
        model: local path or hub name.
        revision: commit, tag or branch at the hub.
        prefix: goes before every text.
        normalize: whether vectors are scaled to length 1.
        max_length: tokens a text is cut to.
        dtype: of the computation.
        device: such as ``cpu`` or ``cuda:0``.
        batch_tokens: tokens of a forward pass.
    """

    model: str | None = None
    revision: str | None = None
    prefix: str | None = None
    normalize: bool | None = None
    max_length: int | None = None
    dtype: str = "float32"
    device: str = "cpu"
    batch_tokens: int = 4096

    @classmethod
    def read(cls, config: Any) -> Options:
        """The options of a configuration.

        Raises:
            ValueError: a value of a wrong type.
        """
        return cls(
            model=text(config, "encoder_model"),
            revision=text(config, "encoder_revision"),
            prefix=text(config, "encoder_prefix"),
            normalize=flag(config, "encoder_normalize"),
            max_length=integer(config, "encoder_max_length"),
            dtype=choice(config, "encoder_dtype", DTYPES),
            device=str(text(config, "encoder_device") or config["device"] or "cpu"),
            batch_tokens=count(config, "encoder_batch_tokens", 4096),
        )

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch's."""
        import torch

        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
            self.dtype
        ]

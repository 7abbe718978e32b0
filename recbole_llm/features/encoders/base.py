"""What an encoder is, and how one is made from a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from recbole_llm.core.errors import check_takes, install_command
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import EncoderSpec, resolve
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.tables.table import EmbeddingTable, Matrix

if TYPE_CHECKING:
    from PIL.Image import Image
    from typing_extensions import TypeIs

# From 5.25 on, transformers otherwise replaces layers by code that it downloads from the hub.
NO_HUB_KERNELS = {"use_kernels": False}


class EncoderError(ValueError):
    """An encoder that cannot be loaded, or that failed."""


class Encoder(Protocol):
    """Turns texts into vectors. Creating one is cheap: the first ``encode`` loads the model."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever any vector could change."""

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D]; a text's vector does not depend on the texts beside it."""


@runtime_checkable
class PictureEncoder(Protocol):
    """An encoder that also reads pictures, or reads them alone."""

    reads_text: bool

    @property
    def fingerprint(self) -> str:
        """Changes whenever any vector could change."""

    def encode_contents(
        self, texts: Sequence[str | None], images: Sequence[Image | None]
    ) -> Matrix:
        """Vectors of items, float32 [n, D], from a text, a picture (RGB) or both. Each item has at
        least one of the two, and always a picture if `reads_text` is False."""


class TableSource(Protocol):
    """An encoder kind that holds vectors by token instead of encoding texts."""

    def table(self, kind: str) -> EmbeddingTable:
        """All its vectors for ``item`` or ``user``, in any order."""


@runtime_checkable
class TokenLimited(Protocol):
    """An encoder that knows how many tokens of a text it reads; it cuts the rest."""

    @property
    def max_tokens(self) -> int | None:
        """The limit, including tokens that are added around a text; None if it is not known."""

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, uncut, including those that are added around it."""


_PARTS = ("fingerprint", "encode")


def create_encoder(config: ConfigLike) -> Encoder | TableSource:
    """The encoder that `encoder` names.

    Raises:
        ValueError: unknown kind (near matches are listed), or a key of a wrong type.
        EncoderError: it cannot be loaded; the message says why, and which ones may be available.
    """
    spec = encoder_spec(config)
    missing = spec.missing()
    if missing:
        raise _unavailable(spec, f"it needs a package: {install_command(*missing)}")
    what = f"encoder '{spec.name}'"
    try:
        check_takes(what, factory := resolve(spec.factory, what), "config")
        encoder: Encoder | TableSource = factory(config)
    except ImportError as error:
        raise _unavailable(spec, str(error)) from error
    except EncoderError as error:
        raise EncoderError(f"{what} cannot be loaded: {error}") from error
    parts = set(dir(encoder))
    of_pictures = "encode_contents" if getattr(encoder, "reads_text", True) is False else "encode"
    kinds = (_PARTS, ("fingerprint", of_pictures), ("table",))
    if not any(parts.issuperset(kind) for kind in kinds):
        lacking = ", ".join(sorted(set(_PARTS) - parts))
        raise EncoderError(
            f"{what}: {type(encoder).__name__} has no {lacking}, which an encoder needs "
            f"(docs/plugins.md)"
        )
    if not holds_table(encoder):
        _check_fingerprint(spec, encoder.fingerprint)
    return encoder


def holds_table(encoder: object) -> TypeIs[TableSource]:
    """Whether an encoder holds vectors by token, and encodes nothing."""
    encodes = hasattr(encoder, "encode") or hasattr(encoder, "encode_contents")
    return hasattr(encoder, "table") and not encodes


def _check_fingerprint(spec: EncoderSpec, fingerprint: object) -> None:
    if not isinstance(fingerprint, str) or not fingerprint:
        raise EncoderError(
            f"encoder '{spec.name}': its fingerprint is {fingerprint!r}; stored vectors are found "
            f"by it, so make it a string that changes with the vectors (docs/plugins.md)"
        )


def encoder_spec(config: ConfigLike) -> EncoderSpec:
    """The kind that `encoder` names; ValueError with near matches if there is none."""
    return get_registry().find(EncoderSpec, EncoderSettings.of(config).encoder)


def _unavailable(spec: EncoderSpec, reason: str) -> EncoderError:
    others = sorted(
        s.name
        for s in get_registry().specs(EncoderSpec).values()
        if s.name != spec.name and not s.missing()
    )
    return EncoderError(
        f"encoder '{spec.name}' cannot be loaded: {reason}; encoders whose packages are installed "
        f"here: {', '.join(others) or 'none'}"
    )

"""Pictures as vectors: the bundled EfficientNet-lite0, or any vision model of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm.core.digest import digest
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.encoders import efficientnet
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.locate import log_source
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.tables.table import Matrix

if TYPE_CHECKING:
    from PIL.Image import Image


Vision = Callable[[Sequence["Image"]], Tensor]  # pictures to vectors, [B, D]


def create(config: ConfigLike) -> VisionEncoder:
    """Factory of the encoder kind ``image``.

    Raises:
        EncoderError: the model cannot be found, or is not the pinned one.
    """
    settings = EncoderSettings.placed(config)
    name = settings.encoder_model or efficientnet.NAME
    if name == efficientnet.NAME:
        file = efficientnet.weights_file()
        log_source("image", name, f"the package {efficientnet.PACKAGE} ({file})")
        return VisionEncoder(efficientnet.SHA256, settings, lambda: _bundled(settings))
    source = Source.of_encoder(config, "image", name)
    return VisionEncoder(
        source.digest, settings, lambda: _load_transformers_model(source, settings)
    )


class VisionEncoder:
    """Vectors of pictures; `weights` is the model's digest."""

    reads_text = False

    def __init__(self, weights: str, settings: EncoderSettings, load: Callable[[], Vision]) -> None:
        self._load, self._normalize = load, bool(settings.encoder_normalize)
        self.fingerprint = digest("image", weights, self._normalize, settings.encoder_dtype)

    @cached_property
    def _model(self) -> Vision:
        return self._load()

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Raise EncoderError: this encoder reads no texts."""
        raise EncoderError("this encoder reads pictures, not texts; set item_feature: item_image")

    def encode_contents(
        self, texts: Sequence[str | None], images: Sequence[Image | None]
    ) -> Matrix:
        """Float32 [n, D]."""
        pictures = [image for image in images if image is not None]
        with torch.inference_mode():
            vectors = self._model(pictures).float()
        vectors = F.normalize(vectors, dim=1) if self._normalize else vectors
        return vectors.cpu().numpy()


def _bundled(settings: EncoderSettings) -> Vision:
    device, dtype = settings.encoder_device, settings.torch_dtype
    network = efficientnet.load_efficientnet().to(device, dtype)
    return lambda images: network(efficientnet.preprocess(images).to(device, dtype))


def _load_transformers_model(source: Source, settings: EncoderSettings) -> Vision:
    model: Any = source.model(settings.torch_dtype).to(settings.encoder_device).eval()
    processor = source.part("AutoImageProcessor")

    def run(images: Sequence[Image]) -> Tensor:
        inputs = processor(images=list(images), return_tensors="pt")
        pixels = inputs["pixel_values"].to(settings.encoder_device, settings.torch_dtype)
        if hasattr(model, "get_text_features"):  # the vision side of a dual encoder
            return pooled(model.get_image_features(pixel_values=pixels))
        return pooled(model(pixel_values=pixels))

    return run


def pooled(output: object) -> Tensor:
    """Pooled vectors, [B, D]: the model's own pooling, else the state of the first token, or the
    mean over a feature map."""
    if isinstance(output, Tensor):
        return output
    vectors: Tensor | None = getattr(output, "pooler_output", None)
    if vectors is None:
        states: Tensor = output.last_hidden_state  # type: ignore[attr-defined]
        vectors = states[:, 0] if states.dim() == 3 else states.mean((2, 3))
    return vectors.flatten(1)

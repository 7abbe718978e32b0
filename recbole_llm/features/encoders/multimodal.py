"""Text and picture together as one vector, by image-text chat models or dual encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm.core.digest import digest
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.encoders.adapters import adapter_digest, with_adapter
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.batching import Message, join_messages, message_batches
from recbole_llm.features.encoders.decoders import Source, lacks_special, without_special
from recbole_llm.features.encoders.settings import MultimodalSettings
from recbole_llm.features.encoders.vision import pooled
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.tables.table import Matrix

if TYPE_CHECKING:
    from PIL.Image import Image


PROMPT = "Compress the following sentence and picture into embedding: "  # by Molar's authors
Texts: TypeAlias = Sequence[str | None]
Images: TypeAlias = "Sequence[Image | None]"
Network = Callable[[Texts, Images], Tensor]  # -> vectors, [n, D]


def create(config: ConfigLike) -> MultimodalEncoder:
    """Factory of the encoder kind ``multimodal``.

    Raises:
        EncoderError: no model is named, or it cannot be found.
    """
    settings = EncoderSettings.placed(config)
    if settings.encoder_model is None:
        raise EncoderError(
            "set encoder_model to an image-text model such as Qwen/Qwen2-VL-2B-Instruct, or a dual "
            "encoder such as openai/clip-vit-base-patch32"
        )
    source = Source.of_encoder(config, "multimodal", settings.encoder_model)
    return MultimodalEncoder(source, settings, MultimodalSettings.of(config))


class MultimodalEncoder:
    """Vectors of texts, pictures, or both."""

    reads_text = True

    def __init__(self, source: Source, settings: EncoderSettings, own: MultimodalSettings) -> None:
        self._source, self._settings, self._own = source, settings, own
        self.fingerprint = digest(
            "multimodal 2", source.digest, own.encoder_fusion, own.encoder_token,
            settings.encoder_prefix, bool(settings.encoder_normalize), settings.encoder_max_length,
            settings.encoder_dtype, adapter_digest(own.encoder_adapter),
        )  # fmt: skip

    @cached_property
    def _network(self) -> Network:
        settings, own = self._settings, self._own
        model: Any = with_adapter(self._source, settings.torch_dtype, own.encoder_adapter)
        model.to(settings.encoder_device).eval()
        processor = self._source.part("AutoProcessor")
        if hasattr(model, "get_text_features"):
            return DualEncoder(model, processor, settings, own.encoder_fusion)
        return ChatEncoder(model, processor, settings, own.encoder_token)

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D], of texts alone."""
        return self.encode_contents(texts, [None] * len(texts))

    def encode_contents(self, texts: Texts, images: Images) -> Matrix:
        """Float32 [n, D]."""
        with torch.inference_mode():
            vectors = self._network(texts, images).float()
        vectors = F.normalize(vectors, dim=1) if self._settings.encoder_normalize else vectors
        return vectors.cpu().numpy()


class ChatEncoder:
    """The hidden state at the end of a message with picture and text, or at an appended token.

    Args:
        model: a base model of image and text, such as Qwen2-VL's.
        processor: the model's, with a chat template.
        token: appended to the text; its state is the vector. None: the state of the last token.
    """

    def __init__(
        self, model: Any, processor: Any, settings: EncoderSettings, token: str | None
    ) -> None:
        self._model, self._processor, self._settings = model, processor, settings
        self._token = token
        if processor.chat_template is None:
            raise EncoderError(
                "encoder_model: its processor has no chat template, so it is probably no chat "
                "model; name an instruct model such as Qwen/Qwen2-VL-2B-Instruct"
            )
        if token is not None and token not in processor.tokenizer.get_vocab():
            raise EncoderError(f"encoder_token: the model's tokenizer has no token '{token}'")

    def __call__(self, texts: Texts, images: Images) -> Tensor:
        """[n, D]."""
        # A picture's size determines its number of tokens.
        order = sorted(range(len(texts)), key=lambda i: (_area(images[i]), len(texts[i] or "")))
        messages = (self._message(texts[i], images[i]) for i in order)
        batches = message_batches(messages, self._settings.encoder_batch_tokens)
        vectors = torch.cat([self._states(batch) for batch in batches])
        return vectors[torch.tensor(order, device=vectors.device).argsort()]

    def _message(self, text: str | None, image: Image | None) -> Message:
        settings, tokenizer = self._settings, self._processor.tokenizer
        prefix = PROMPT if settings.encoder_prefix is None else settings.encoder_prefix
        said = without_special(tokenizer, text or "")  # no title can stand for a picture
        words = tokenizer(said, add_special_tokens=False)["input_ids"]
        cut = tokenizer.decode(words[: settings.encoder_max_length or 512])
        content = [{"type": "text", "text": f"{prefix}{cut}{self._token or ''}"}]
        if image is not None:
            content.insert(0, {"type": "image"})
        prompt = self._processor.apply_chat_template([{"role": "user", "content": content}])
        message: Message = self._processor(
            text=[prompt],
            images=None if image is None else [image],
            return_tensors="pt",
            add_special_tokens=lacks_special(tokenizer, prompt),
        )
        return message

    def _states(self, batch: list[Message]) -> Tensor:
        """[B, D]."""
        from transformers import BatchFeature

        inputs = BatchFeature(dict(join_messages(batch))).to(self._settings.encoder_device)
        states: Tensor = self._model(**inputs, use_cache=False).last_hidden_state  # [B, L, D]
        places = [self._place(message["input_ids"][0]) for message in batch]
        return states[torch.arange(len(batch)), places]

    def _place(self, ids: Tensor) -> int:
        """Position of the token whose state is the vector."""
        if self._token is None:
            return len(ids) - 1
        number = self._processor.tokenizer.convert_tokens_to_ids(self._token)
        return int((ids == number).nonzero()[-1])


def _area(image: Image | None) -> int:
    return 0 if image is None else image.width * image.height


class DualEncoder:
    """A text and a picture encoder into a shared space (CLIP, SigLIP); vectors have length 1.

    Args:
        model: has ``get_text_features`` and ``get_image_features``.
        fusion: ``concatenate``: text, then picture, with zeros for a missing one; ``average``: the
            mean of those that an item has.
    """

    def __init__(self, model: Any, processor: Any, settings: EncoderSettings, fusion: str) -> None:
        self._model, self._processor, self._settings = model, processor, settings
        self._concatenates = fusion == "concatenate"

    def __call__(self, texts: Texts, images: Images) -> Tensor:
        """[n, D] or [n, 2 D]."""
        of_texts = _spread([text is not None for text in texts], self._texts(texts))
        of_images = _spread([image is not None for image in images], self._images(images))
        if self._concatenates:
            return torch.cat([of_texts, of_images], dim=1)
        there = of_texts.any(1).to(of_texts) + of_images.any(1).to(of_texts)
        return (of_texts + of_images) / there[:, None]

    def _texts(self, texts: Texts) -> Tensor:
        """Vectors of the texts that are not None, [m, D]."""
        some = [text for text in texts if text is not None]
        tokenizer = self._processor.tokenizer
        settings = self._settings
        # SigLIP was trained on texts padded to its limit, and takes no mask.
        own = self._model.config.text_config.max_position_embeddings
        limit = min(own, settings.encoder_max_length or own)
        inputs = tokenizer(
            [f"{settings.encoder_prefix or ''}{text}" for text in some or [""]],
            padding="max_length", truncation=True, max_length=limit, return_tensors="pt",
        ).to(settings.encoder_device)  # fmt: skip
        return self._unit(self._model.get_text_features(**inputs))[: len(some)]

    def _images(self, images: Images) -> Tensor:
        """Vectors of the pictures that are not None, [m, D]."""
        from PIL import Image

        some = [image for image in images if image is not None]
        inputs = self._processor.image_processor(
            images=some or [Image.new("RGB", (32, 32))], return_tensors="pt"
        ).to(self._settings.encoder_device)
        pixels = inputs["pixel_values"].to(self._settings.torch_dtype)
        return self._unit(self._model.get_image_features(pixel_values=pixels))[: len(some)]

    def _unit(self, output: object) -> Tensor:
        return F.normalize(pooled(output).float(), dim=1)


def _spread(there: list[bool], vectors: Tensor) -> Tensor:
    """Put vectors [m, D] into the rows that are `there`, and zeros into the others: [n, D]."""
    rows = vectors.new_zeros(len(there), vectors.shape[1])
    rows[torch.tensor(there, device=vectors.device)] = vectors
    return rows

"""Pictures, and tiny random models of the real classes with their real processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

_WORDS = [
    *["<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"],
    *["<|image_pad|>", "<|video_pad|>", "<emb>", "user", "red", "blue", "the", "story"],
]
_TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m.role }} {% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|> "
    "{% else %}{{ c.text }}{% endif %}{% endfor %} <|im_end|> {% endfor %}"
)


def picture(seed: int = 0, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Image.Image:
    """Make a picture of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(noise, "RGBA").convert(mode)


def tiny_vit(folder: Path) -> Path:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(image_size=32, patch_size=16, **_sizes())
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def tiny_resnet(folder: Path) -> Path:
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1])
    ResNetModel(config).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)
    return folder


def tiny_dual(folder: Path, kind: str) -> Path:
    """Write a tiny CLIP (``kind`` "clip") or SigLIP."""
    import transformers as t

    torch.manual_seed(0)
    text = {"vocab_size": len(_WORDS), "max_position_embeddings": 12, **_sizes()}
    text |= {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vision = {"image_size": 32, "patch_size": 16, **_sizes()}
    if kind == "clip":
        config: Any = t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        t.CLIPModel(config).save_pretrained(folder)
        images: Any = t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
        t.CLIPProcessor(images, _tokenizer()).save_pretrained(folder)
    else:
        config = t.SiglipConfig(text_config=text, vision_config=vision)
        t.SiglipModel(config).save_pretrained(folder)
        images = t.SiglipImageProcessor(size={"height": 32, "width": 32})
        t.SiglipProcessor(images, _tokenizer()).save_pretrained(folder)
    return folder


def tiny_qwen2_vl(folder: Path) -> Path:
    import transformers as t

    torch.manual_seed(0)
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 1}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2]}
    text = {"vocab_size": len(_WORDS), "num_key_value_heads": 2, "rope_parameters": rope}
    text |= {**_sizes(32), "bos_token_id": 2, "eos_token_id": 3}
    config = t.Qwen2VLConfig(
        text_config=text, vision_config=vision, image_token_id=6, video_token_id=7,
        vision_start_token_id=4, vision_end_token_id=5,
    )  # fmt: skip
    t.Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    t.Qwen2VLProcessor(
        t.Qwen2VLImageProcessor(), _tokenizer(), t.Qwen2VLVideoProcessor(), _TEMPLATE
    ).save_pretrained(folder)
    return folder


def _sizes(width: int = 16) -> dict[str, int]:
    return {
        "hidden_size": width, "intermediate_size": width, "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }  # fmt: skip


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    table = {word: number for number, word in enumerate(_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<|im_end|>",
        additional_special_tokens=_WORDS[2:9],
    )  # fmt: skip

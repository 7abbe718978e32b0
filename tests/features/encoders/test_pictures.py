"""The encoders of pictures, compared with transformers itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_pictures import picture, tiny_dual, tiny_qwen2_vl, tiny_resnet, tiny_vit
from made_texts import PlainConfig

from recbole_llm.features.encoders import efficientnet, multimodal, vision
from recbole_llm.features.encoders.base import EncoderError, PictureEncoder
from recbole_llm.features.tables.table import Matrix

IMAGES = [picture(0), picture(1, (64, 50))]


def config(folder: Path | None = None, **keys: Any) -> Any:
    model = None if folder is None else str(folder)
    return PlainConfig(encoder_model=model, **{f"encoder_{k}": v for k, v in keys.items()})


def unit(vectors: Any) -> Matrix:
    rows = np.asarray(vectors)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("make", [tiny_vit, tiny_resnet])
def test_vision_models(make: Callable[[Path], Path], tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoModel

    folder = make(tmp_path / "model")
    encoder = vision.create(config(folder))
    assert isinstance(encoder, PictureEncoder) and not encoder.reads_text
    inputs = AutoImageProcessor.from_pretrained(folder)(images=IMAGES, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder).eval()(**inputs).pooler_output.flatten(1)
    actual = encoder.encode_contents([None, None], IMAGES)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    normal = vision.create(config(folder, normalize=True))
    np.testing.assert_allclose(
        normal.encode_contents([None] * 2, IMAGES), unit(actual), rtol=1e-5, atol=1e-6
    )
    assert normal.fingerprint != encoder.fingerprint


def test_a_classifier_which_has_no_pooling_gives_its_first_tokens_states(tmp_path: Path) -> None:
    """A pooling layer drawn at random would differ in each process."""
    from transformers import AutoImageProcessor, ViTForImageClassification, ViTModel

    folder = tiny_vit(tmp_path / "model")
    ViTForImageClassification.from_pretrained(folder).save_pretrained(folder)
    inputs = AutoImageProcessor.from_pretrained(folder)(images=IMAGES, return_tensors="pt")
    with torch.no_grad():
        bare = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
        expected = bare(**inputs).last_hidden_state[:, 0]
    actual = vision.create(config(folder)).encode_contents([None, None], IMAGES)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_a_vision_model_reads_no_text(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="set item_feature: item_image"):
        vision.create(config(tiny_vit(tmp_path))).encode(["a"])


def test_efficientnet_knows_a_daisy_and_a_palace() -> None:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    network = efficientnet.load_efficientnet()
    images = [Image.fromarray(load_sample_image(n)) for n in ("flower.jpg", "china.jpg")]
    with torch.no_grad():
        classes = network._fc(network(efficientnet.preprocess(images))).argmax(1)
    assert classes.tolist() == [985, 698]  # ImageNet classes
    encoder = vision.create(config())
    vectors = encoder.encode_contents([None, None], images)
    assert vectors.shape == (2, efficientnet.WIDTH)
    np.testing.assert_allclose(
        encoder.encode_contents([None], images[:1])[0], vectors[0], atol=1e-4
    )


def test_same_padding_puts_an_odd_pixel_right_and_below() -> None:
    conv = efficientnet.SameConv(1, 1, 3, 2)
    torch.nn.init.ones_(conv.weight)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    expected = [[0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10, 2 + 3 + 6 + 7 + 10 + 11]]
    assert conv(x)[0, 0, :1].tolist() == expected


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="is not the pinned file"):
        vision.create(config())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_dual_encoders(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoProcessor

    folder = tiny_dual(tmp_path / "model", kind)
    processor = AutoProcessor.from_pretrained(folder)
    texts = ["the red story <|im_end|>", "blue <|im_end|>"]
    inputs = processor(
        text=texts, images=IMAGES, padding="max_length", max_length=12, return_tensors="pt"
    )
    with torch.no_grad():
        output = AutoModel.from_pretrained(folder).eval()(**inputs)
    of_texts, of_images = unit(output.text_embeds), unit(output.image_embeds)
    both = multimodal.create(config(folder)).encode_contents([*texts, None], [*IMAGES, IMAGES[0]])
    size = of_texts.shape[1]
    np.testing.assert_allclose(both[:2, :size], of_texts, atol=1e-5)
    np.testing.assert_allclose(both[:2, size:], of_images, atol=1e-5)
    assert not both[2, :size].any(), "what is missing is zeros"
    averaged = multimodal.create(config(folder, fusion="average"))
    means = averaged.encode_contents([*texts, texts[0]], [*IMAGES, None])
    np.testing.assert_allclose(means[:2], (of_texts + of_images) / 2, atol=1e-5)
    np.testing.assert_allclose(means[2], of_texts[0], atol=1e-5)


def test_a_chat_model_reads_the_end_of_its_message(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoProcessor

    folder = tiny_qwen2_vl(tmp_path / "model")
    encoder = multimodal.create(config(folder, prefix=""))
    vectors = encoder.encode_contents(["the red story", None], [IMAGES[0], None])
    assert vectors.shape == (2, 32)
    text = "<|im_start|> user <|vision_start|><|image_pad|><|vision_end|> the red story <|im_end|> "
    inputs = AutoProcessor.from_pretrained(folder)(
        text=[text], images=IMAGES[:1], return_tensors="pt"
    )
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    np.testing.assert_allclose(vectors[0], states[0, -1], atol=1e-5)
    other = encoder.encode_contents(["the red story"], [IMAGES[1]])
    assert np.abs(other[0] - vectors[0]).max() > 1e-3, "the picture counts"
    alone = encoder.encode_contents(["the red story"], [None])
    np.testing.assert_allclose(alone, encoder.encode(["the red story"]), atol=1e-6)
    marked = encoder.encode(["the red <|image_pad|>story"])  # a title has no pictures
    np.testing.assert_allclose(marked, alone, atol=1e-6)


@pytest.mark.parametrize("token", [None, "<emb>", "<pad>"])
def test_a_chat_models_vectors_do_not_depend_on_those_beside(
    token: str | None, tmp_path: Path
) -> None:
    folder = tiny_qwen2_vl(tmp_path / "model")
    encoder = multimodal.create(config(folder, prefix="", token=token, batch_tokens=64))
    texts = ["the red story", None, "blue", "red " * 9, "the", "red " * 99, None]
    sizes = [(60, 50), (90, 120), None, (60, 60), None, None, (40, 30)]
    images = [size and picture(i, size) for i, size in enumerate(sizes)]
    alone = [encoder.encode_contents([t], [i])[0] for t, i in zip(texts, images, strict=True)]
    network: Any = encoder._network
    rows, model = [], network._model

    def run(**inputs: Any) -> Any:
        rows.append(len(inputs["input_ids"]))
        return model(**inputs)

    network._model = run
    together = encoder.encode_contents(texts, images)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    assert rows == [2, 1, 3, 1], "texts, one of 100 tokens, pictures, the largest"


def test_a_chat_model_reads_a_token_of_its_own(tmp_path: Path) -> None:
    folder = tiny_qwen2_vl(tmp_path / "model")
    chosen = multimodal.create(config(folder, token=" <emb>", prefix=""))
    with pytest.raises(EncoderError, match="encoder_token"):
        chosen.encode(["red"])
    encoder = multimodal.create(config(folder, token="<emb>", prefix=""))
    last = multimodal.create(config(folder, prefix=""))
    assert encoder.fingerprint != last.fingerprint
    at_token, at_end = encoder.encode(["red"]), last.encode(["red"])
    assert np.abs(at_token - at_end).max() > 1e-3


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = tiny_qwen2_vl(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(EncoderError, match="encoder_model: its processor has no chat template"):
        multimodal.create(config(folder)).encode(["red"])


def test_a_multimodal_model_has_to_be_named() -> None:
    with pytest.raises(EncoderError, match="set encoder_model"):
        multimodal.create(config())


def test_a_chat_template_that_begins_with_a_first_token_gets_no_second(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    folder = tiny_qwen2_vl(tmp_path / "model")
    network: Any = multimodal.create(config(folder, prefix=""))._network
    tokenizer = network._processor.tokenizer
    first = tokenizer.all_special_tokens[0]
    number = tokenizer.convert_tokens_to_ids(first)
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, number)]
    )
    tokenizer.bos_token = first
    seen = []
    model, template = network._model, network._processor.apply_chat_template

    def run(**inputs: Any) -> Any:
        seen.append(inputs["input_ids"][0].tolist())
        return model(**inputs)

    network._model = run
    network(["red story"], [None])
    network._processor.apply_chat_template = lambda chat: first + " " + template(chat)
    network(["red story"], [None])
    assert seen[0] == seen[1] and seen[1][:2].count(number) == 1

"""Low-rank adapters of every kind that peft writes, compared with peft's own merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_texts import WORDS
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from recbole_llm.features.encoders.adapters import with_adapter
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.decoders import Source

peft = pytest.importorskip("peft")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny Llama, whose linear maps have biases."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_attention_heads=4,
        num_hidden_layers=2, initializer_range=0.5, attention_bias=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def write_adapter(base: Path, folder: Path, kind: Any = AutoModelForCausalLM, **keys: Any) -> Any:
    """Write an adapter, all of whose weights are moved, and return peft's merged model."""
    wanted = peft.LoraConfig(r=2, **{"target_modules": ["q_proj", "v_proj"], **keys})
    model = peft.get_peft_model(kind.from_pretrained(base), wanted)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_pretrained(folder)
    return model.merge_and_unload()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "recbole_llm"]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"use_dora": True},
        {"use_rslora": True},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"bias": "lora_only"},
        {"kind": AutoModel, "task_type": "FEATURE_EXTRACTION"},
    ],
)
def test_adapters_are_merged_as_peft_merges_them(
    base: Path, tmp_path: Path, keys: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    merged = write_adapter(base, tmp_path / "adapter", **keys)
    own = with_adapter(Source(base), torch.float32, str(tmp_path / "adapter"))
    ids = torch.tensor([[4, 6, 9]])
    with torch.no_grad():
        expected = getattr(merged, "model", merged)(ids).last_hidden_state
        states = own(ids).last_hidden_state
        plain = AutoModel.from_pretrained(base)(ids).last_hidden_state
    torch.testing.assert_close(states, expected)
    assert (states - plain).abs().max() > 0.01
    assert not said(caplog)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(x=torch.zeros(1)), "names 1 parts that the model does not have"),
        (lambda w: w.popitem(), "lacks weights of 1 parts"),
    ],
)
def test_weights_too_many_or_too_few(base: Path, tmp_path: Path, change: Any, message: str) -> None:
    from safetensors.torch import load_file, save_file

    write_adapter(base, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    with pytest.raises(EncoderError, match=f"encoder_adapter: '.*' does not fit .*{message}"):
        with_adapter(Source(base), torch.float32, str(tmp_path / "adapter"))


@pytest.mark.parametrize(
    ("place", "other"),
    [
        ("other", True),
        ("hub/models--a--other/snapshots/0", True),
        ("hub/models--a--base/snapshots/0", False),
        ("elsewhere/base", False),
    ],
)
def test_an_adapter_of_another_model_is_told_of(
    base: Path, tmp_path: Path, place: str, other: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(base, tmp_path / "adapter")
    folder = tmp_path / place
    folder.parent.mkdir(parents=True, exist_ok=True)
    base.rename(folder)
    with_adapter(Source(folder), torch.float32, str(tmp_path / "adapter"))
    told = ["was made for the model base but is applied to other"] if other else []
    assert [line.partition("' ")[2] for line in said(caplog)] == told

"""User encoders as ONNX."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbole_llm.tasks.export import onnx_encoder
from recbole_llm.tasks.export.onnx_encoder import export_encoder


class _Branching(torch.nn.Module):
    n_items = 9

    def last_states(self, items: torch.Tensor) -> torch.Tensor:
        return items.float() if items.sum().item() > 3 else -items.float()


class _Causal(torch.nn.Module):
    """PyTorch's encoder with a causal mask, with or without ``is_causal=True``."""

    n_items = 9

    def __init__(self, told: bool) -> None:
        super().__init__()
        self.told = {"is_causal": True} if told else {}
        self.items = torch.nn.Embedding(9, 8)
        layer = torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 1)

    def last_states(self, items: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(items.shape[1], items.shape[1], dtype=torch.bool).triu(1)
        return self.encoder(self.items(items), mask=mask, **self.told)[:, -1]


def test_an_untraceable_mask_is_named_and_nothing_else_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"nn.TransformerEncoder without is_causal=True\)"):
            export_encoder(_Causal(False).eval(), 8)
        assert capfd.readouterr().err == ""
        assert export_encoder(_Causal(True).eval(), 8)


def test_an_untraceable_model_is_refused_with_a_reason() -> None:
    said = r"_Branching cannot be written as ONNX \(\w+: .+\); its user_states must be traceable"
    with pytest.raises(ValueError, match=said) as caught:
        export_encoder(_Branching(), 8)
    assert "\n" not in str(caught.value)


def test_states_of_nan_fail_the_check_of_an_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Model(torch.nn.Module):
        def last_states(self, items: torch.Tensor) -> torch.Tensor:
            return torch.full((1, 4), torch.nan if items.shape[1] == 1 else 1.0)

    written = SimpleNamespace(states=lambda items: np.ones((1, 4), np.float32))
    monkeypatch.setattr(onnx_encoder, "Standalone", lambda folder: written)
    histories = [np.array([1, 2]), np.array([1]), np.array([2, 1])]
    with pytest.raises(ValueError, match="differs from the model by nan; not usable"):
        onnx_encoder.measure_disagreement(Path("x"), Model(), histories, 50)
    assert onnx_encoder.measure_disagreement(Path("x"), Model(), histories[:1], 50) == 0


def test_rounding_is_accepted_and_a_wrong_encoder_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model(torch.nn.Module):
        def last_states(self, items: torch.Tensor) -> torch.Tensor:
            return torch.ones(1, 4)

    def measure(difference: float) -> float:
        states = np.full((1, 4), 1 + difference, np.float32)
        written = SimpleNamespace(states=lambda items: states)
        monkeypatch.setattr(onnx_encoder, "Standalone", lambda folder: written)
        return onnx_encoder.measure_disagreement(Path("x"), Model(), [np.array([1])], 50)

    assert 1.9e-5 < measure(2e-5) < 2.1e-5  # AlphaRec's, where texts have much in common
    with pytest.raises(ValueError, match="differs from the model by 5.0e-04; not usable"):
        measure(5e-4)

"""What trainers gain: a fused optimizer with the same steps, no anomaly detection."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
import torch

from recbole_llm.trainers.engine import EngineMixin, with_engine


class Base:
    """As RecBole's trainer builds its optimizer."""

    FILE = "saved/Base-Nov-25-2026_12-00-00.pth"

    def __init__(self, config: Any, model: Any) -> None:
        self.config, self.model = config, model
        self.optimizer = self._build_optimizer()
        self.saved_model_file = self.FILE

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        params = kwargs.pop("params", self.model.parameters())
        return self.config["optimizer"](params, lr=0.01)

    def fit(self, train_data: Any) -> bool:
        return torch.is_anomaly_enabled()


def trainer(monkeypatch: pytest.MonkeyPatch, **config: Any) -> Any:
    monkeypatch.setattr(
        "recbole_llm.evaluation.group_metrics.evaluation_parts", lambda config: (Mock(), None)
    )
    defaults = {"optimizer": torch.optim.Adam, "fused_optimizer": True, "detect_anomaly": False}
    defaults["single_spec"] = True
    torch.manual_seed(0)
    return with_engine(Base)({**defaults, **config}, torch.nn.Linear(5, 3))


def weights_after(one: Any, steps: int = 5) -> torch.Tensor:
    inputs = torch.arange(10.0).view(2, 5)
    for _ in range(steps):
        one.optimizer.zero_grad()
        one.model(inputs).square().sum().backward()
        one.optimizer.step()
    return one.model.weight.detach()


def test_a_fused_step_is_the_same_up_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = trainer(monkeypatch)
    plain = trainer(monkeypatch, fused_optimizer=False)
    assert fused.optimizer.param_groups[0]["fused"] is True
    assert not plain.optimizer.param_groups[0].get("fused")
    assert torch.allclose(weights_after(fused), weights_after(plain), atol=1e-6)


def test_a_fused_optimizers_state_is_saved_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, halves = trainer(monkeypatch), trainer(monkeypatch)
    expected = weights_after(whole, 6)
    weights_after(halves, 3)
    again = trainer(monkeypatch)
    again.model.load_state_dict(halves.model.state_dict())
    again.optimizer.load_state_dict(halves.optimizer.state_dict())
    assert torch.allclose(weights_after(again, 3), expected, atol=1e-7)


def test_other_optimizers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        not trainer(monkeypatch, optimizer=torch.optim.SGD).optimizer.param_groups[0].get("fused")
    )


@pytest.mark.parametrize("wanted", [False, True])
def test_anomaly_detection_is_as_configured(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    with torch.autograd.set_detect_anomaly(not wanted):
        assert trainer(monkeypatch, detect_anomaly=wanted).fit(None) is wanted


def test_the_engine_is_added_once() -> None:
    engined = with_engine(Base)
    assert issubclass(engined, EngineMixin) and with_engine(engined) is engined
    assert engined.__name__ == "Base"


def test_runs_of_the_same_second_have_files_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1_700_000_000_123_456_789, 1_700_000_000_004_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    files = [trainer(monkeypatch).saved_model_file for _ in range(2)]
    assert files == [f"saved/Base-Nov-25-2026_12-00-00-{ms}.pth" for ms in ("123", "004")]
    # Processes of one run have to agree on the name.
    assert trainer(monkeypatch, single_spec=False).saved_model_file == Base.FILE

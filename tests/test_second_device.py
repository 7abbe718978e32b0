"""The emulated second device refuses what a GPU refuses; RecBole's models run on it."""

from __future__ import annotations

import pytest
import torch

from recbole_llm import testing
from recbole_llm.core.config import Config
from recbole_llm.steps import build_model, build_trainer, load_data
from recbole_llm.testing.device import second_device


def test_devices_do_not_mix() -> None:
    with second_device() as device:
        there = torch.ones(2, 3).to(device)
        assert (there @ torch.zeros(3, 4, device=device)).device.type == device.type
        assert there.sum().item() == 6
        assert (there * torch.tensor(2.0)).cpu().tolist() == [[2.0] * 3] * 2  # CPU scalars may mix
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
            _ = there + torch.ones(2, 3)
        with pytest.raises(RuntimeError):
            there.numpy()
    assert torch.ones(2).device.type == "cpu"


def test_gradients_and_changes_in_place_stay_there() -> None:
    with second_device() as device:
        layer = torch.nn.Linear(3, 2).to(device)
        before = layer.weight.detach().cpu().clone()
        layer(torch.ones(4, 3, device=device)).sum().backward()
        assert layer.weight.grad is not None and layer.weight.grad.device.type == device.type
        torch.optim.SGD(layer.parameters(), lr=1.0).step()
        torch.testing.assert_close(layer.weight.detach().cpu(), before - 4.0)


@pytest.mark.parametrize("model", ["SASRec", "BERT4Rec", "BPR", "LightGCN", "DIN", "DeepFM"])
def test_baselines_run_there(model: str) -> None:
    testing.write_tiny_dataset("dataset")
    quiet = {"show_progress": False, "epochs": 1, "encoder": "hash", "data_path": "dataset"}
    config = Config(model, "tiny", config_dict={**quiet, "threshold": {"rating": 3}})
    _, train, valid, test = load_data(config)
    with second_device() as device:
        config["device"] = device
        trainer = build_trainer(config, build_model(config, train.dataset))
        trainer.fit(train, valid, verbose=False, saved=False)
        result = trainer.evaluate(test, load_best_model=False)
    assert all(0 <= value <= 1 for name, value in result.items() if name != "logloss")

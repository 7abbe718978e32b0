"""RecBole's mends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from recbole_llm.core import checkpoint


def save_and_load(state: dict, path: Path) -> dict:  # type: ignore[type-arg]
    from recbole.trainer import trainer

    trainer.torch.save(state, str(path), pickle_protocol=4)
    loaded = torch.load(path, weights_only=True)
    return checkpoint.decode(loaded)  # type: ignore[no-any-return]


def test_arrays_and_sparse_matrices_survive_a_checkpoint(tmp_path: Path) -> None:
    matrix = sparse.csr_matrix(np.array([[0, 2.5], [1, 0]]))
    state = {
        "csr": matrix,
        "csc": matrix.tocsc(),
        "array": np.arange(3),
        "matrix": np.matrix([[1.0, 2.0]]),
        "scalar": np.float64(0.1),
        "nested": [{1: np.ones(2)}, torch.zeros(1)],
    }
    back = save_and_load(state, tmp_path / "x.pth")
    assert back["csr"].format == "csr" and (back["csr"] != matrix).nnz == 0
    assert back["csc"].format == "csc"
    assert isinstance(back["matrix"], np.matrix) and back["matrix"].shape == (1, 2)
    assert back["array"].tolist() == [0, 1, 2] and back["scalar"] == 0.1
    assert back["nested"][0][1].tolist() == [1.0, 1.0]


def test_a_checkpoint_is_replaced_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recbole.trainer import trainer

    file = tmp_path / "x.pth"
    save_and_load({"a": 1}, file)

    def die_midway(state: object, part: str) -> None:
        Path(part).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.torch._torch, "save", die_midway)
    with pytest.raises(KeyboardInterrupt):
        trainer.torch.save({"a": 2}, str(file))
    assert torch.load(file, weights_only=True) == {"a": 1}


def test_what_lies_beside_the_weights_goes_to_the_models_device() -> None:
    from recbole_llm.core import compat

    class Model(torch.nn.Module):
        device = "meta"  # stands for a GPU

    found: dict[str, Any] = {}
    load = compat._decoded(lambda self, para: found.update(para))
    load(Model(), {"users": torch.zeros(2), "parts": [torch.zeros(1), 3]})
    assert found["users"].device.type == found["parts"][0].device.type == "meta"
    assert found["parts"][1] == 3


def test_changed_vectors_are_noticed() -> None:
    class Frozen(torch.nn.Module):
        def __init__(self, fingerprint: str) -> None:
            super().__init__()
            self.fingerprint = fingerprint

    model = torch.nn.ModuleDict({"text": Frozen("new")})
    checkpoint.check_fingerprints(model, {"text": "new"})
    with pytest.raises(ValueError, match="trained on other text embeddings"):
        checkpoint.check_fingerprints(model, {"text": "old"})


def test_importing_recboles_models_leaves_anomaly_detection_off() -> None:
    from recbole_llm.core.plugins import get_model

    get_model("SINE")
    assert not torch.is_anomaly_enabled()


def test_nothing_is_mended_by_importing_alone() -> None:
    code = (
        "import numpy as np; before = set(vars(np)); import recbole_llm.core.compat as compat;"
        "print(sorted(set(compat._NUMPY_NAMES) & (set(vars(np)) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_plain_configuration_holds_no_objects() -> None:
    from recbole.utils import ModelType

    config = SimpleNamespace(
        final_config_dict={
            "device": torch.device("cpu"), "MODEL_TYPE": ModelType.GENERAL, "a": (1, {"b": None}),
            "path": Path("x"), "n": np.int64(3),
        }
    )  # fmt: skip
    plain = checkpoint.plain_config(config)
    assert plain == {"MODEL_TYPE": "GENERAL", "a": [1, {"b": None}], "path": "x", "n": 3}
    assert checkpoint.restore_enums(plain)["MODEL_TYPE"] is ModelType.GENERAL

"""Patches of RecBole, and the states that checkpoints hold."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from scipy import sparse

from recbole_llm.core.checkpoints import checkpoint, plain
from recbole_llm.core.checkpoints.fingerprints import check_fingerprints


def save_and_load(state: dict, path: Path) -> dict:  # type: ignore[type-arg]
    checkpoint.write_checkpoint(state, path)
    loaded = torch.load(path, weights_only=True)
    return plain.decode(loaded)  # type: ignore[no-any-return]


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


@pytest.mark.parametrize(
    ("form", "rows", "said"),
    [("dia", 9, "of an unknown form"), ("lil", 20_000, "larger"), ("csr", 10**7, "larger")],
)
def test_a_matrix_that_grows_as_it_is_read_is_refused(
    tmp_path: Path, form: str, rows: int, said: str
) -> None:
    numbers = torch.arange(5)
    matrix = {"__sparse__": [numbers] * 3, "shape": [rows, 9], "format": form}
    torch.save({"config": {}, "other_parameter": {"w": matrix}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="it is damaged") as caught:
        checkpoint.load_checkpoint(tmp_path / "x.pth")
    assert said in str(caught.value.__cause__)


def test_what_lies_beside_the_weights_goes_to_the_models_device() -> None:
    class Model(AbstractRecommender):  # type: ignore[misc]
        device = "meta"  # stands for a GPU
        other_parameter_name = ("users", "parts")

    model = Model()
    other = {"users": torch.zeros(2), "parts": [torch.zeros(1), 3]}
    checkpoint.load_model_state(model, {"state_dict": {}, "other_parameter": other}, "x.pth")
    assert model.users.device.type == model.parts[0].device.type == "meta"
    assert model.parts[1] == 3


def test_a_models_state_holds_no_modules_and_names_its_vectors() -> None:
    class Model(AbstractRecommender):  # type: ignore[misc]
        other_parameter_name = ("layer", "counts")  # DIN and FDSA name a module

        def __init__(self, fingerprint: str) -> None:
            super().__init__()
            self.layer, self.counts = torch.nn.Linear(1, 1), np.arange(3)
            self.layer.fingerprint = fingerprint

    state = checkpoint.model_state(Model("old"))
    assert set(state["state_dict"]) == {"layer.weight", "layer.bias"}
    assert state["other_parameter"].keys() == {"counts", "__embeddings__"}
    checkpoint.write_checkpoint({"config": {}, **state}, "x.pth")
    loaded = checkpoint.load_checkpoint("x.pth")
    same = Model("old")
    same.counts = None
    checkpoint.load_model_state(same, loaded, "x.pth")
    assert same.counts.tolist() == [0, 1, 2] and torch.equal(
        same.layer.weight, state["state_dict"]["layer.weight"]
    )
    with pytest.raises(ValueError, match="trained on other vectors"):
        checkpoint.load_model_state(Model("new"), loaded, "x.pth")


def test_changed_vectors_are_noticed() -> None:
    class Frozen(torch.nn.Module):
        def __init__(self, fingerprint: str) -> None:
            super().__init__()
            self.fingerprint = fingerprint

    model = torch.nn.ModuleDict({"text": Frozen("new")})
    check_fingerprints(model, {"text": "new"})
    with pytest.raises(ValueError, match="trained on other vectors"):
        check_fingerprints(model, {"text": "old"})
    check_fingerprints(model, {"text": "old"}, {"new"})  # compared row by row
    with pytest.raises(ValueError, match="whitened differently .'text': 0.5, now none.; set"):
        check_fingerprints(model, {"text": "old whitened by 0.5"}, {"new"})


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """A call of RecBole's download of a data set, with a local file in place of the network."""
    from recbole.data.dataset import Dataset, dataset

    def fetch(url: str, folder: str) -> str:
        with zipfile.ZipFile(Path(folder) / "x.zip", "w") as archive:
            archive.writestr("x.inter", url)
        return f"{folder}/x.zip"

    monkeypatch.setattr(dataset, "decide_download", lambda url: True)
    monkeypatch.setattr(dataset, "download_url", fetch)
    own = SimpleNamespace(
        config={"local_rank": 0}, dataset_path="tiny", dataset_name="tiny", logger=getLogger(),
        _get_download_url=lambda kind: "somewhere",
    )  # fmt: skip
    return lambda: Dataset._download(own)


def test_a_data_set_is_downloaded_in_a_single_process(download: Callable[[], Any]) -> None:
    download()
    assert Path("tiny/tiny.inter").read_text() == "somewhere"


def test_a_failing_download_is_an_error(
    download: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recbole.data.dataset import dataset

    def fail(*args: Any) -> None:
        raise ValueError("not a zip file")

    monkeypatch.setattr(dataset, "extract_zip", fail)
    with pytest.raises(ValueError, match="not a zip file"):
        download()


def test_importing_recboles_models_leaves_anomaly_detection_off() -> None:
    from recbole_llm.core.plugins.loading import get_model

    get_model("SINE")
    assert not torch.is_anomaly_enabled()


def test_nothing_is_mended_by_importing_alone() -> None:
    code = (
        "import numpy as np; before = set(vars(np)); import recbole_llm.core.compat as compat;"
        "print(sorted(set(compat._NUMPY_NAMES) & (set(vars(np)) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_recboles_quick_start_is_imported_after_a_model_of_ours() -> None:
    """RecBole's quick_start imports ray, which uses np.bool8 on Python 3.11."""
    pytest.importorskip("ray", exc_type=ImportError)
    code = "import recbole_llm; recbole_llm.get_model('BPR'); import recbole.quick_start"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_recbole_is_mended_without_setuptools() -> None:
    """Environments of newer Pythons lack setuptools, and with it distutils."""
    code = (
        "import sys; sys.modules |= dict.fromkeys(['setuptools', 'distutils']);"
        "from recbole_llm.core import compat; compat.apply(); import recbole.trainer"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Exports: their files, and folders that cannot be written."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recbole.utils import ModelType

import recbole_llm
from recbole_llm import Recommender
from recbole_llm.core.files import _suffix
from recbole_llm.tasks.export import run
from recbole_llm.tasks.export.onnx_encoder import check_exportable


def test_the_files_of_an_export_hold_the_same_vectors(checkpoints: dict[str, str]) -> None:
    import faiss
    from safetensors.numpy import load_file

    recbole_llm.export(checkpoints["SASRec"], "e", histories=False)
    items = json.loads(Path("e/items.json").read_text())
    with np.load("e/items.npz", allow_pickle=False) as arrays:
        assert arrays["tokens"].tolist() == items["tokens"]
        vectors = arrays["vectors"]
    np.testing.assert_array_equal(load_file("e/items.safetensors")["vectors"], vectors)
    assert faiss.read_index("e/items.faiss").reconstruct(3).tolist() == vectors[3].tolist()
    weights = load_file("e/weights.safetensors")["item_embedding.weight"]
    np.testing.assert_array_equal(weights[1:], vectors)


def test_an_export_holds_the_settings_without_paths(checkpoints: dict[str, str]) -> None:
    recbole_llm.export(checkpoints["SASRec"], "e", histories=False)
    settings = json.loads(Path("e/settings.json").read_text())
    assert settings["model"] == "SASRec" and settings["settings"]["MAX_ITEM_LIST_LENGTH"] == 8
    assert not any(str(Path.cwd()) in path.read_text() for path in Path("e").glob("*.json"))
    assert "SASRec, trained on tiny" in Path("e/README.md").read_text()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("BPR", "BPR cannot be exported: its score is no product"),
        ("LLMCFRetrieval", "LLMCFRetrieval cannot be exported: a user's state depends on more"),
    ],
)
def test_models_whose_score_is_no_product_are_refused(
    checkpoints: dict[str, str], model: str, message: str
) -> None:
    instead = r"; recommend from the checkpoint \(.*\), or train a model that can be: PAD, LLM-ESR"
    with pytest.raises(ValueError, match=f"{message}.*{instead}"):
        recbole_llm.export(checkpoints[model], "b")
    assert not Path("b").exists()


def test_a_decision_tree_is_not_sent_to_recommend_which_refuses_it() -> None:
    trees = type("Trees", (), {"type": ModelType.DECISIONTREE})
    with pytest.raises(ValueError, match="of a history's vector and an item's; train a model"):
        check_exportable("Trees", trees)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("SASRec", "the oldest first. L is at most 8. There is no padding"),
        ("AlphaRec", "each once. L is any number"),
    ],
)
def test_the_readme_describes_the_input_of_the_encoder(
    checkpoints: dict[str, str], model: str, said: str
) -> None:
    recbole_llm.export(checkpoints[model], f"readme-{model}")
    text = Path(f"readme-{model}/README.md").read_text()
    assert said in text and 'pip install "recbole-llm' not in text


def test_a_model_is_exported_into_the_current_folder(
    checkpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Path(checkpoints["SASRec"]).resolve()
    (tmp_path / "mine").mkdir()
    data = Path("dataset").resolve()
    monkeypatch.chdir(tmp_path / "mine")
    recbole_llm.export(checkpoint, ".", config_dict={"data_path": str(data)})
    assert Recommender.load(".").name == "SASRec"
    assert "mine" in Path("README.md").read_text()


@pytest.mark.parametrize("named", [True, False])
def test_unexportable_classes_are_refused_before_data_is_loaded(
    checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("the class alone tells")

    monkeypatch.setattr(Recommender, "of", loaded)
    given = {} if named else {"model": recbole_llm.get_model("BPR")}  # an unregistered class
    with pytest.raises(ValueError, match="BPR cannot be exported: its score is no product"):
        recbole_llm.export(checkpoints["BPR"], "b", config_dict=given)


def test_a_full_disk_leaves_no_folder_of_an_export(checkpoints: dict[str, str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))  # as on a full disk
    try:
        with pytest.raises(ValueError, match="full/.* cannot be written .*; name another folder"):
            recbole_llm.export(checkpoints["SASRec"], "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not Path("full").exists()


def test_an_export_that_is_cut_off_leaves_the_model_that_was_there(
    checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recbole_llm.export(checkpoints["AlphaRec"], "cut")
    names = sorted(os.listdir("cut"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("write_weights", "measure_disagreement"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(run, step, interrupt)
            recbole_llm.export(checkpoints["SASRec"], "cut", histories=False)
        assert Recommender.load("cut").name == "AlphaRec" and sorted(os.listdir("cut")) == names


@pytest.mark.parametrize("name", ["README.md", "settings.json", "items.json", "PAD-shop.pth"])
def test_a_folder_of_other_files_is_refused(name: str) -> None:
    Path(f"p-{name}").mkdir()
    Path(f"p-{name}", name).write_text("mine")
    with pytest.raises(ValueError, match=f"has a {name} already, and holds no exported model; na"):
        recbole_llm.export("none.pth", f"p-{name}")
    assert [file.read_text() for file in Path(f"p-{name}").iterdir()] == ["mine"]


def test_half_written_and_hidden_files_do_not_block_an_export() -> None:
    Path("h").mkdir()
    Path("h/.gitkeep").touch()
    Path(f"h/items.json{_suffix(2**22)}").touch()  # of a process that does not exist
    with pytest.raises(ValueError, match=r"checkpoint 'none\.pth' does not exist"):
        recbole_llm.export("none.pth", "h")


def test_the_summary_names_only_files_of_the_export() -> None:
    Path("o").mkdir()
    for name in ("items.json", "settings.json", "notes.txt"):
        Path("o", name).touch()
    source: Any = SimpleNamespace(name="PAD", item_tokens=["", "i1"], user_tokens=["", "u1"])
    line = next(run._summarize(Path("o"), source, 0.0, True))
    assert line == "PAD with 1 item in o/: items.json, settings.json"

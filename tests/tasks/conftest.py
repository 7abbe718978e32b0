"""Trained models for the tests of exports and recommendations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recbole_llm import run_recbole_llm, testing

_OWN_KEYS: dict[str, dict[str, Any]] = {
    "SASRec": {}, "PAD": {"hidden_size": 16}, "AlphaRec": {}, "BPR": {},
    "LLMESR": {"hidden_size": 16}, "GRU4Rec": {},
    "Molar": {"decoder_size": 16, "decoder_inner": 16, "hidden_size": 16},
    "LLMCFRetrieval": {"hidden_size": 16, "thoughts": "item_text", "thought_examples": 20},
}  # fmt: skip


@pytest.fixture(scope="session")
def quiet_keys() -> dict[str, Any]:
    """Keys of a short training without output."""
    return {
        "data_path": "dataset", "epochs": 1, "show_progress": False,
        "encoder": "hash", "MAX_ITEM_LIST_LENGTH": 8, "embedding_cache_dir": "cache",
    }  # fmt: skip


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, quiet_keys: dict[str, Any]
) -> tuple[Path, dict[str, str]]:
    """A folder, and the checkpoints of models trained in it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        testing.write_tiny_dataset("dataset")
        return folder, {
            model: run_recbole_llm(model, "tiny", config_dict={**quiet_keys, **keys})["checkpoint"]
            for model, keys in _OWN_KEYS.items()
        }


@pytest.fixture
def checkpoints(
    trained: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Checkpoints by model, in the folder of their data."""
    folder, by_model = trained
    monkeypatch.chdir(folder)
    return by_model

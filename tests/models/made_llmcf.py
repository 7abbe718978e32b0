"""LLM-CF on a small data set: configurations and their training split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_llm import Config, testing
from recbole_llm.data.create import create_dataset
from recbole_llm.data.prepare import data_preparation

LABELED = {
    "threshold": {"rating": 3},
    "train_neg_sample_args": None,
    "eval_args": {"split": {"RS": [6, 2, 2]}, "order": "TO", "mode": "labeled"},
}


def config(model: str = "LLMCF", **keys: Any) -> Config:
    if not Path("dataset").is_dir():
        testing.write_tiny_dataset("dataset")
    cache = {"embedding_cache_dir": "cache", "thought_examples": 30}
    quiet = {"data_path": "dataset", "encoder": "hash", "show_progress": False}
    return Config(model, "tiny", config_dict={**quiet, **cache, **keys})


def training_split(made: Config) -> Any:
    return data_preparation(made, create_dataset(made))[0].dataset

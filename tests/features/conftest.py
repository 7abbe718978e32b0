"""A configuration, a data set and encoders small enough for unit tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_texts import ITEMS, CountingEncoder, PlainConfig

from recbole_llm.core.plugins.registry import EncoderSpec, Registry
from recbole_llm.features.contents import prompts
from recbole_llm.features.encoders import base, register_encoders
from recbole_llm.features.stored.vectors import EmbeddingStore


@pytest.fixture
def config(tmp_path: Path) -> PlainConfig:
    return PlainConfig(
        dataset="small", data_path=str(tmp_path / "small"), embedding_cache_dir=str(tmp_path / "c"),
        encoder="counting",
    )  # fmt: skip


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Any]:
    """A stand-in for a RecBole data set whose atomic files have the given content."""

    def make(
        items: str | None = ITEMS, tokens: Sequence[str] = ("10", "20", "30"), **files: str
    ) -> Any:
        folder = tmp_path / "small"
        folder.mkdir(exist_ok=True)
        for suffix, content in {"item": items, **files}.items():
            if content is not None:
                (folder / f"small.{suffix}").write_text(content, encoding="utf-8")
        return SimpleNamespace(
            dataset_name="small",
            dataset_path=str(folder),
            iid_field="item_id",
            uid_field="user_id",
            field2id_token={
                "item_id": np.array(["[PAD]", *tokens]),
                "user_id": np.array(["[PAD]", "u1", "u2", "u3"]),
            },
            _preloaded_weight={},
        )

    return make


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    """Register an encoder of the kind ``counting`` beside the built-in kinds and return it."""
    registry = Registry()
    specs: list[EncoderSpec] = []
    register_encoders(specs.append)
    counting = CountingEncoder()
    registry.add([*specs, EncoderSpec("counting", lambda config: counting)], "test")
    monkeypatch.setattr(base, "get_registry", lambda: registry)
    return counting


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddingStore]:
    with closing(EmbeddingStore(tmp_path)) as opened:
        yield opened


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the hooks by which plugins write texts of their own."""
    monkeypatch.setattr(prompts, "ask_plugins", lambda hook, config, dataset: None)

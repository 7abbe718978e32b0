"""The offline work of a model, done before its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from made_decoder import write_decoder

from recbole_llm import run_recbole_llm
from recbole_llm.tasks.prepare import prepare
from recbole_llm.testing.encoder import HashEncoder

_KEYS = {"encoder": "hash", "epochs": 1, "show_progress": False, "embedding_cache_dir": "cache"}


@pytest.mark.parametrize(
    ("model", "own"),
    [
        pytest.param("LLMESR", {"hidden_size": 16}, id="texts of users"),
        pytest.param(
            "BAHE",
            {
                "behavior_prompt": "{{ rating | int }} of 5: {{ item }}",
                "decoder_model": "decoder",
                "high_layers": 1,
            },
            id="texts of behaviors",
        ),
    ],
)
def test_a_run_after_prepare_encodes_nothing(
    tiny: object, monkeypatch: pytest.MonkeyPatch, model: str, own: dict[str, Any]
) -> None:
    write_decoder()
    prepare(model, "tiny", config_dict={**_KEYS, **own})

    def refuse(self: HashEncoder, texts: Sequence[str]) -> np.ndarray:
        raise AssertionError(f"encoded again: {texts[:3]}")

    monkeypatch.setattr(HashEncoder, "encode", refuse)
    run_recbole_llm(model, "tiny", config_dict={**_KEYS, **own})

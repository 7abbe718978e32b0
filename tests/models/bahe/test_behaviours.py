"""Behaviours of files that change, and that say nothing in places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_decoder import write_decoder

from recbole_llm import load_data_and_model, run_recbole_llm
from recbole_llm.testing import write_tiny_dataset

QUIET: dict[str, Any] = {"data_path": "dataset", "show_progress": False, "decoder_model": "decoder"}
SMALL: dict[str, Any] = {"encoder": "hash", "high_layers": 1, "mlp_hidden_size": [16]}
INTER = Path("dataset/own/own.inter")


@pytest.fixture(autouse=True)
def decoder() -> None:
    write_decoder()


def write(*columns: str, rows: list[str]) -> None:
    """The interactions of the data set `own`, one row each."""
    header = ("user_id:token", "item_id:token", "timestamp:float", *columns)
    INTER.write_text("\n".join(["\t".join(header), *rows]) + "\n")


def interactions() -> list[str]:
    """User, item and time of each interaction of the tiny data set, as `own` gets it."""
    write_tiny_dataset("dataset", "own")
    rows = [row.split("\t") for row in INTER.read_text().splitlines()[1:]]
    return [f"{user}\t{item}\t{time}" for user, item, _, time in rows]


@pytest.mark.parametrize("keys", [{}, {"behaviour_field": "action"}])
def test_a_checkpoint_outlives_new_and_reordered_behaviours(keys: dict[str, Any]) -> None:
    rows = [f"{row}\t{('view', 'buy')[i % 2]}" for i, row in enumerate(interactions())]
    write("action:token", rows=rows)
    keys = {**keys, "behaviour_prompt": "{{ action }}: {{ item }}"}
    settings = {**QUIET, **SMALL, **keys, "epochs": 1}
    result = run_recbole_llm("BAHE", "own", config_dict=settings)
    file = result["checkpoint"]
    acted = {tuple(row.split("\t")[1::2]) for row in rows}
    new = next(item for item, _ in sorted(acted) if (item, "buy") not in acted)
    counts = []
    for changed in (rows[::-1], [*rows, f"u1\t{new}\t99999\tbuy"]):
        write("action:token", rows=changed)
        _, model, _, train, _, _ = load_data_and_model(file, config_dict=QUIET)
        counts.append(len(train._dataset.behaviours))
        assert len(model.behaviours.weight) == counts[-1] + 1
    assert counts == [len(acted), len(acted) + 1]

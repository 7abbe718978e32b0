"""Behaviors in files that change or that have missing values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_decoder import write_decoder

from recbole_llm import Config, load_data_and_model, run_recbole_llm
from recbole_llm.steps import build_model, load_data
from recbole_llm.testing import write_tiny_dataset

QUIET: dict[str, Any] = {"data_path": "dataset", "show_progress": False, "decoder_model": "decoder"}
SMALL: dict[str, Any] = {"encoder": "hash", "high_layers": 1, "mlp_hidden_size": [16]}
INTER = Path("dataset/own/own.inter")


@pytest.fixture(autouse=True)
def decoder() -> None:
    write_decoder()


def write(*columns: str, rows: list[str]) -> None:
    """Write the interactions of the data set `own`, one per row."""
    header = ("user_id:token", "item_id:token", "timestamp:float", *columns)
    INTER.write_text("\n".join(["\t".join(header), *rows]) + "\n")


def interactions() -> list[str]:
    """Write the tiny data set as `own`; return user, item and time of each interaction."""
    write_tiny_dataset("dataset", "own")
    rows = [row.split("\t") for row in INTER.read_text().splitlines()[1:]]
    return [f"{user}\t{item}\t{time}" for user, item, _, time in rows]


@pytest.mark.parametrize("keys", [{}, {"behavior_field": "action"}])
def test_a_checkpoint_outlives_new_and_reordered_behaviors(keys: dict[str, Any]) -> None:
    rows = [f"{row}\t{('view', 'buy')[i % 2]}" for i, row in enumerate(interactions())]
    write("action:token", rows=rows)
    keys = {**keys, "behavior_prompt": "{{ action }}: {{ item }}"}
    settings = {**QUIET, **SMALL, **keys, "epochs": 1}
    result = run_recbole_llm("BAHE", "own", config_dict=settings)
    file = result["checkpoint"]
    acted = {tuple(row.split("\t")[1::2]) for row in rows}
    new = next(item for item, _ in sorted(acted) if (item, "buy") not in acted)
    counts = []
    for changed in (rows[::-1], [*rows, f"u1\t{new}\t99999\tbuy"]):
        write("action:token", rows=changed)
        _, model, _, train, _, _ = load_data_and_model(file, config_dict=QUIET)
        counts.append(len(train.dataset.behaviors))
        assert len(model.behaviors.weight) == counts[-1] + 1
    assert counts == [len(acted), len(acted) + 1]


def missing(*columns: str, rows: list[str], **keys: Any) -> Any:
    """Write the given rows; return a model and its training data."""
    write(*columns, rows=rows)
    config = Config("BAHE", "own", config_dict={**QUIET, **SMALL, **keys})
    _, train, _, _ = load_data(config)
    return build_model(config, train.dataset).eval(), train.dataset


def test_missing_values_are_empty_texts() -> None:
    """They are not filled with a mean, which would include held-out interactions."""
    rows = [
        f"{row}\t{('', 'buy')[i % 2]}\t{('', '5')[i % 2]}" for i, row in enumerate(interactions())
    ]
    keys = {"behavior_prompt": "{{ action }}|{{ stars }}|{{ item }}"}
    _, dataset = missing("action:token", "stars:float", rows=rows, **keys)
    assert {tuple(text.split("|")[:2]) for _, text in dataset.behaviors} == {
        ("", ""),
        ("buy", "5.0"),
    }


@pytest.mark.parametrize(
    ("column", "keys", "said"),
    [("action:token", {"behavior_field": "action"}, "no interaction has a value of 'action'"),
     ("action:float", {"behavior_field": "action"}, "no interaction has a value of 'action'"),
     ("action:token", {"behavior_prompt": "{{ action }}"}, "every behavior is empty")],
)  # fmt: skip
def test_behaviors_that_are_none_are_refused(column: str, keys: dict[str, Any], said: str) -> None:
    rows = [f"{row}\t" for row in interactions()]
    with pytest.raises(ValueError, match=said):
        missing(column, rows=rows, **keys)


@pytest.mark.parametrize(
    ("column", "actions"), [("action:token", ("buy", "view")), ("action:float", ("1.0", "2.0"))]
)
def test_an_interaction_without_a_behavior_field_is_of_none(
    column: str, actions: tuple[str, str]
) -> None:
    rows = [f"{row}\t{(*actions, '')[i % 3]}" for i, row in enumerate(interactions())]
    model, dataset = missing(column, rows=rows, behavior_field="action")
    assert dataset.behavior_fields == actions
    assert {b.field for b in dataset.behaviors} == set(actions)
    assert (dataset.inter_feat["behavior_id"] == 0).any()
    known = torch.tensor([[-1, -2, -3]])
    some = torch.tensor([[-1, 5, -2, -3]])  # item 5 stands for one without a field
    with torch.no_grad():
        states = model.user_states(some, some != 0)[:, [0, 2, 3]]
        torch.testing.assert_close(states, model.user_states(known, known != 0))

"""The search spaces of RecBole's models leave out values that cannot be trained."""

from __future__ import annotations

from typing import Any

import click
import pytest

from recbole_llm import run_recbole_llm
from recbole_llm.core.keys.stock import FIT, StockSettings
from recbole_llm.tasks.compare.entries import parse_models
from recbole_llm.tasks.compare.space import resolve_space
from recbole_llm.tasks.models import describe

pytestmark = pytest.mark.usefixtures("tiny")
CHOICES = [(model, key) for model, space in FIT.items() for key in space]


def space(model: str) -> dict[str, Any]:
    (entry,) = parse_models(model, ["--dataset=tiny"])
    return dict(resolve_space(entry))


def trained(model: str, key: str, value: Any) -> None:
    keys = {"epochs": 1, "show_progress": False, "cor_batch_size": 10}
    changes = {**keys, "data_path": "dataset", "train_batch_size": 128, key: value}
    run_recbole_llm(model, "tiny", saved=False, config_dict=changes)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "key"), CHOICES)
def test_a_models_own_choices_are_those_that_it_can_be_trained_with(model: str, key: str) -> None:
    offered = space(model)[key]
    for value in offered:
        trained(model, key, value)
    for value in set(StockSettings.search_space[key]) - set(offered):
        with pytest.raises((RuntimeError, AssertionError, ZeroDivisionError, ValueError)):
            trained(model, key, value)


def test_the_choices_that_a_model_cannot_be_trained_with_are_left_out() -> None:
    assert space("DGCF")["embedding_size"] == (16, 32, 64, 128)
    assert space("LightGCN")["embedding_size"] == (10, 16, 32, 64, 128)
    assert "  embedding_size: 16, 32, 64, 128" in list(describe("DGCF"))


@pytest.mark.parametrize("model", ["ADMMSLIM", "ItemKNN", "Pop", "Random", "SLIMElastic"])
def test_where_nothing_is_trained_by_steps_nothing_is_searched(model: str) -> None:
    with pytest.raises(ValueError, match=f"^{model}: nothing to search; name keys: --search="):
        space(model)
    (entry,) = parse_models(model, ["--dataset=tiny"])
    assert resolve_space(entry, "epochs=[1,2]") == {"epochs": (1, 2)}
    said = [click.unstyle(line) for line in describe(model)]
    assert said[said.index("searched by tune") + 1] == ""


@pytest.mark.parametrize("model", ["EASE", "NCEPLRec"])
def test_a_model_in_closed_form_is_searched_without_a_learning_rate(model: str) -> None:
    assert set(space(model)) == {"reg_weight"}

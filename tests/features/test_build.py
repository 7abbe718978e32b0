"""A plugin's tables are checked before a model trains on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_texts import PlainConfig

from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import FeatureSpec, Registered
from recbole_llm.features.attach import features_of
from recbole_llm.features.tables.table import EmbeddingTable

ITEMS = ("[PAD]", "10", "20", "30", "40")


def rows(n: int = 5) -> np.ndarray:
    return np.pad(np.ones((n - 1, 2), np.float32), ((1, 0), (0, 0)))


def built(tokens: tuple[str, ...] = ITEMS, matrix: np.ndarray | None = None) -> EmbeddingTable:
    return EmbeddingTable(rows(len(tokens)) if matrix is None else matrix, tokens, "f")


pytestmark = pytest.mark.usefixtures("encoder")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (rows(), r"returned a ndarray; return EmbeddingTable\(matrix, tokens, fingerprint\)"),
        (built((*ITEMS[1:], "[PAD]")), "row 0 is for padding, .* must be '.PAD.', not '10'"),
        (built(matrix=rows() + 1), "row 0 is for padding and must be zero"),
        (built(matrix=rows() * np.float32([[0], [1], [1], [np.nan], [1]])), "not finite numbers"),
        (built(("[PAD]", "20", "10", "30", "40")), r"in another order: .*id_token\['item_id'\]"),
        (built(ITEMS[:-1]), r"lacks items \('40'\): give a row for each"),
        (built(("[PAD]", "30")), r"lacks items \('10', '20', '40'\): give"),
        (built((*ITEMS, "50")), r"has rows of unknown items \('50'\): give"),
        (built(("[PAD]", "u1", "u2", "u3")), r"lacks items .*has rows of unknown items \('u1'"),
    ],
)
def test_a_table_that_would_train_silently_is_refused(
    config: PlainConfig, make_dataset: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    table: Any, said: str,
) -> None:  # fmt: skip
    read = of_plugin(config, make_dataset, monkeypatch)
    with pytest.raises(ValueError, match=f"^feature 'mine' of plugin 'acme'.*{said}"):
        read(table)


@pytest.mark.parametrize(
    ("of", "tokens"),
    [
        ("items", ITEMS),
        ("users", ("[PAD]", "u1", "u2", "u3")),
        ("other", ("[PAD]", "30")),
        ("other", ("[PAD]", "x", "10")),
    ],
)
def test_rows_of_items_users_and_other_things(
    config: PlainConfig, make_dataset: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    of: Any, tokens: tuple[str, ...],
) -> None:  # fmt: skip
    table = built(tokens)
    assert of_plugin(config, make_dataset, monkeypatch, of)(table) is table


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda config: built(), r"build: is called with \(config, dataset\): too many positional"),
        ("sys:path", r"build: \[.* cannot be called"),
        (lambda config, dataset: built(ITEMS[1:]), "row 0 is for padding"),
        (lambda config, dataset: EmbeddingTable(np.ones((5, 2)), ITEMS, "f"), ".* needs a float32"),  # type: ignore[arg-type]
    ],
)
def test_the_faults_of_a_builder_name_it(
    config: PlainConfig, make_dataset: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    build: Any, said: str,
) -> None:  # fmt: skip
    registry = get_registry()
    mine = Registered(FeatureSpec("mine", build), "acme")
    monkeypatch.setitem(registry.tables[FeatureSpec], "mine", mine)
    with pytest.raises(ValueError, match=f"^feature 'mine' of plugin 'acme': {said}"):
        features_of(make_dataset(tokens=ITEMS[1:]), config)["mine"]


def of_plugin(
    config: PlainConfig, make_dataset: Any, monkeypatch: pytest.MonkeyPatch, of: Any = "items"
) -> Any:
    registry = get_registry()
    dataset = make_dataset(tokens=ITEMS[1:])

    def read(table: Any) -> Any:
        spec = FeatureSpec("mine", lambda config, dataset: table, rows=of)
        monkeypatch.setitem(registry.tables[FeatureSpec], "mine", Registered(spec, "acme"))
        return features_of(dataset, config)["mine"]

    return read

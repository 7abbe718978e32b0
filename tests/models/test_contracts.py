"""The shared model tests for PAD and Molar; other models run them beside their own tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recbole_llm.testing import SequentialModelTests


class TestPAD(SequentialModelTests):
    model = "PAD"


class TestPADWithGRU4RecAndNegatives(SequentialModelTests):
    model = "PAD"
    emulated = False
    config = {
        "backbone": "GRU4Rec",
        "loss_type": "BCE",
        "train_neg_sample_args": {"sample_num": 2, "distribution": "uniform"},
    }


class TestMolar(SequentialModelTests):
    model = "Molar"


class TestMolarWithPooledNCE(SequentialModelTests):
    model = "Molar"
    emulated = False
    config = {"loss_type": "NCE", "id_model": "joint", "backbone": "GRU4Rec"}


class TestMolarWithCodes(SequentialModelTests):
    model = "Molar"
    config = {"item_codes": 8, "item_hidden_size": 0, "score_std": 1, "item_init": "llm"}


class _LLMESR(SequentialModelTests):
    """Provides `make` and runs no tests."""

    __test__ = False
    model = "LLMESR"
    config = {"alpha": 0}


@pytest.mark.parametrize("made", [TestPAD, TestMolar, _LLMESR])
def test_items_that_come_later_are_ranked_at_once(made: type[SequentialModelTests]) -> None:
    """They are ranked although evaluation caches the vectors of the other items."""
    _, model, loaders = made().make()
    rows = next(iter(loaders[2]))[0]
    before = model.full_sort_predict(rows)
    text = loaders[0].dataset.features["item_text"].matrix[[3, 5]]
    model.add_items(torch.from_numpy(text))
    after = model.full_sort_predict(rows)
    torch.testing.assert_close(after[:, : before.shape[1]], before)
    assert after.shape[1] == before.shape[1] + 2 and after.isfinite().all()


@pytest.mark.parametrize(
    ("rows", "shape", "message"),
    [
        (9, (2, 3, 4), r"item_vectors\(\) of 9 items and the padding is \[9, 4\]; .* \[10, 4\]"),
        (10, (2, 4), r"user_states\(.* of items \[2, 3\] is \[2, 4\]; it is to be \[2, 3, 4\]"),
    ],
)
def test_a_method_that_gives_another_shape_is_named(
    rows: int, shape: tuple[int, ...], message: str
) -> None:
    vectors = torch.zeros(rows, 4)
    model = SimpleNamespace(
        n_items=10,
        item_vectors=lambda ids=None: vectors if ids is None else vectors[ids],
        user_states=lambda items, mask: torch.zeros(shape),
    )

    class Broken(SequentialModelTests):
        def make(self, **more: Any) -> Any:
            return None, model, ()

    with pytest.raises(AssertionError, match=message):
        Broken().test_states_and_vectors_have_their_shapes()

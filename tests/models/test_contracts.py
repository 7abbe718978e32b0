"""The batteries of contracts over PAD and Molar; other models have theirs beside their tests."""

from __future__ import annotations

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
    """For its `make` alone."""

    __test__ = False
    model = "LLMESR"
    config = {"alpha": 0}


@pytest.mark.parametrize("made", [TestPAD, TestMolar, _LLMESR])
def test_items_that_come_later_are_ranked_at_once(made: type[SequentialModelTests]) -> None:
    """Though the vectors of the others are kept while a model is evaluated."""
    _, model, loaders = made().make()
    rows = next(iter(loaders[2]))[0]
    before = model.full_sort_predict(rows)
    text = loaders[0]._dataset.features["item_text"].matrix[[3, 5]]
    model.add_items(torch.from_numpy(text))
    after = model.full_sort_predict(rows)
    torch.testing.assert_close(after[:, : before.shape[1]], before)
    assert after.shape[1] == before.shape[1] + 2 and after.isfinite().all()

"""The batteries of contracts over PAD and Molar; other models have theirs beside their tests."""

from __future__ import annotations

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

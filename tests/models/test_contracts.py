"""The batteries of contracts, over every model of this package."""

from __future__ import annotations

from recbole_llm.testing import ModelTests, SequentialModelTests


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


class TestLLMESR(SequentialModelTests):
    model = "LLMESR"


class TestAlphaRec(ModelTests):
    model = "AlphaRec"


class TestMolar(SequentialModelTests):
    model = "Molar"


class TestMolarWithPooledNCE(SequentialModelTests):
    model = "Molar"
    emulated = False
    config = {"loss_type": "NCE", "id_model": "joint", "backbone": "GRU4Rec"}

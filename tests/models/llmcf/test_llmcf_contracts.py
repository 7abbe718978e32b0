"""The batteries of contracts over both models and all backbones."""

from __future__ import annotations

import pytest

from recbole_llm.testing import CTRModelTests, SequentialModelTests


class TestDIN(CTRModelTests):
    model = "LLMCF"
    config = {"mlp_hidden_size": [16, 8], "thought_examples": 20, "context_size": 16}


class TestDeepFM(TestDIN):
    config = {**TestDIN.config, "backbone": "DeepFM"}


class TestDCN(TestDIN):
    config = {**TestDIN.config, "backbone": "DCN", "reg_weight": 0.01}


class TestAutoInt(TestDIN):
    config = {**TestDIN.config, "backbone": "AutoInt", "dropout_probs": [0.0] * 3, "n_layers": 1}


class TestOddAndRandom(TestDIN):
    config = {**TestDIN.config, "n_examples": 3, "retrieval": "random", "thoughts": "none"}


class TestRetrieval(SequentialModelTests):
    model = "LLMCFRetrieval"
    config = {"hidden_size": 16, "thought_examples": 20, "thoughts": "item_text"}


class TestRetrievalOnGRU4Rec(TestRetrieval):
    emulated = False
    config = {"hidden_size": 16, "thought_examples": 20, "backbone": "GRU4Rec", "n_examples": 7}


@pytest.mark.parametrize(
    ("model", "backbone", "message"),
    [
        ("LLMCF", "SASRec", "backbone: SASRec ranks a catalogue; use --model=LLMCFRetrieval"),
        ("LLMCFRetrieval", "DIN", "backbone: DIN predicts clicks; use --model=LLMCF"),
        ("LLMCF", "DINN", "backbone 'DINN' is unknown; did you mean 'DIN'"),
    ],
)
def test_a_backbone_of_the_other_task(model: str, backbone: str, message: str) -> None:
    from recbole_llm.core.config import Config

    with pytest.raises(ValueError, match=message):
        Config(model, "ml-100k", config_dict={"backbone": backbone})

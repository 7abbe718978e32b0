"""The shared model tests, for both models and all backbones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_llm.models.llmcf.memory import NONE
from recbole_llm.testing import CTRModelTests, ModelTests, SequentialModelTests


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


@pytest.mark.parametrize("made", [TestDCN, TestRetrieval])
def test_reconstruction_and_regularization_have_their_weights(
    made: type[ModelTests], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, (train, *_) = made().make(reconstruction_weight=0.3)
    batch = next(iter(train))

    def loss() -> float:
        torch.manual_seed(0)
        return float(model.train().calculate_loss(batch))

    weighted, reconstruction = loss(), float(model.network.reconstruction)
    assert reconstruction > 0.1
    monkeypatch.setattr(model, "weight", 0.0)
    assert weighted - loss() == pytest.approx(0.3 * reconstruction, rel=1e-3)
    if made is TestDCN:
        monkeypatch.setattr(model, "weight", 0.3)
        own = float(model.tower.regularization())
        monkeypatch.setattr(model.tower, "regularization", lambda: 0.0)
        assert weighted - loss() == pytest.approx(own, rel=1e-3)


@torch.no_grad()
def test_the_feature_has_its_weight_in_the_state() -> None:
    _, model, loaders = TestRetrieval().make(feature_weight=0.5)
    rows = next(iter(loaders[2]))[0]
    half = model.row_states(rows)
    model.feature_weight = 1.0
    whole = model.row_states(rows)
    items = rows["item_id_list"]
    plain = model.backbone.last(model.item_embedding(items), items != 0)
    assert not whole.allclose(plain, atol=1e-3)
    torch.testing.assert_close(half, (plain + whole) / 2)


@torch.no_grad()
def test_training_rows_see_no_later_example_of_their_user() -> None:
    _, model, (train, *_) = TestRetrieval().make(thought_examples=300)
    rows = next(iter(train))
    items = rows["item_id_list"]
    where = torch.zeros_like(items, dtype=torch.bool)
    where[:, 1] = items[:, 1] != 0
    states, without = model.supervised_states(rows, where), model.user_states(items, where)[where]
    rows = rows[where[:, 1]]
    rows["item_id_list"][:, 2:] = 0
    torch.testing.assert_close(states, model.row_states(rows))
    assert not states.allclose(without, atol=1e-3)


def test_there_is_no_example_where_the_only_one_is_later() -> None:
    _, model, _ = TestRetrieval().make(thought_examples=1)
    memory = model.memory
    found = model.search.find(memory.users, memory.lengths, memory.history_text)
    assert len(memory.users) == 1 and (found == NONE).all()


@torch.no_grad()
def test_the_query_does_not_know_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, loaders = TestDIN().make()
    rows, queries, encode_context = next(iter(loaders[2]))[0], [], model.network.encode_context

    def noted(query: Any, *rest: Any) -> Any:
        queries.append(query)
        return encode_context(query, *rest)

    monkeypatch.setattr(model.network, "encode_context", noted)
    scores = []
    for item in (3, 8):
        rows.update(Interaction({"item_id": torch.full((len(rows),), item)}))
        scores.append(model.predict(rows))
    assert queries[0].equal(queries[1]) and not scores[0].equal(scores[1])


@torch.no_grad()
def test_behaviors_read_the_mean_of_the_real_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two padding slots do not count, and a masked target has a vector of zeros."""
    _, model, _ = TestDIN().make()
    parts: list[torch.Tensor] = []
    monkeypatch.setattr(model.network, "behaviors", lambda *given: parts.extend(given))
    model._behaviors(torch.tensor([1]), torch.tensor([[3, 5, 0, 0]]), torch.tensor([0]))
    vectors = model.tower.item_vectors(torch.tensor([3, 5, 0]))
    torch.testing.assert_close(parts[1], vectors[:2].mean(0, keepdim=True))
    assert vectors[2].any() and not parts[3].any()


@torch.no_grad()
def test_retrieval_reads_the_mean_text_of_the_items_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, loaders = TestRetrieval().make()
    rows, behaviors, texts = next(iter(loaders[2]))[0], model.network.behaviors, []

    def noted(user: Any, history: Any, text: Any, *rest: Any) -> Any:
        texts.append(text)
        return behaviors(user, history, text, *rest)

    monkeypatch.setattr(model.network, "behaviors", noted)
    model.row_states(rows)
    torch.testing.assert_close(texts[0], model.memory.mean_text(rows["item_id_list"]))

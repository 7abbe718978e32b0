"""Recommendations for known and new users, of every kind of model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_llm.core.config import Config
from recbole_llm.features.encoders.base import create_encoder
from recbole_llm.quick_start import load_data_and_model, run_recbole_llm
from recbole_llm.steps import build_model, load_data
from recbole_llm.tasks.recommend import Recommender, recommend

pytestmark = pytest.mark.usefixtures("tiny")
QUIET = {
    "show_progress": False,
    "data_path": "dataset",
    "encoder": "hash",
    "MAX_ITEM_LIST_LENGTH": 8,
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
}
CONTEXT = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"],
                        "user": ["user_id", "age"], "item": ["item_id", "genre", "price"]},
           "numerical_features": ["price"], "threshold": {"rating": 3}}  # fmt: skip
SEQUENTIAL = {"loss_type": "CE", "train_neg_sample_args": None}


def _untrained(model: str, **keys: Any) -> tuple[Any, Any, Any]:
    config = Config(model, "tiny", config_dict={**QUIET, **keys})
    dataset, train, _, _ = load_data(config)
    return config, build_model(config, train.dataset).eval(), dataset


def _histories() -> dict[str, list[str]]:
    table = pd.read_csv("dataset/tiny/tiny.inter", sep="\t", dtype=str)
    return {str(user): list(rows["item_id:token"]) for user, rows in table.groupby("user_id:token")}


def _own_scores(source: tuple[Any, Any, Any], history: list[str]) -> np.ndarray:
    """The scores of a sequential model for a history, from the model itself."""
    config, model, dataset = source
    ids = dataset.token2id("item_id", history[-config["MAX_ITEM_LIST_LENGTH"] :])
    row = Interaction({
        "item_id_list": torch.tensor([[*ids, *[0] * (config["MAX_ITEM_LIST_LENGTH"] - len(ids))]]),
        "item_length": torch.tensor([len(ids)]),
    })  # fmt: skip
    with torch.no_grad():
        return model.full_sort_predict(row).view(-1).numpy()


def test_times_that_are_numerical_features_order_the_history() -> None:
    plain, numbers = (
        _untrained("SASRec", **SEQUENTIAL, numerical_features=fields)
        for fields in ([], ["timestamp"])
    )
    found, same = (recommend(source, users=["u3"], k=5) for source in (numbers, plain))
    assert list(found["item"]) == list(same["item"])
    new, same = (recommend(source, items=["i1", "i2"], k=5) for source in (numbers, plain))
    assert list(new["item"]) == list(same["item"])


def test_a_feature_of_interactions_that_a_recommendation_lacks() -> None:
    source = _untrained("FM", threshold={"rating": 3}, numerical_features=["timestamp"])
    assert "FM reads 'timestamp' of each interaction" in _error(source, users="u1")


def test_a_model_that_reads_its_users_says_so_of_a_new_one() -> None:
    source = _untrained("DIN", threshold={"rating": 3})
    assert "DIN reads 'user_id' of its users, which a new" in _error(source, items=["i1"])


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "NARM"])
def test_sequential_models_see_the_full_history(model: str) -> None:
    source = _untrained(model, **SEQUENTIAL)
    histories = _histories()
    found = recommend(source, users=["u3", "u0"], k=5)
    assert list(found["user"]) == ["u3"] * 5 + ["u0"] * 5
    assert list(found["rank"]) == [1, 2, 3, 4, 5] * 2
    for user in ("u3", "u0"):
        scores = _own_scores(source, histories[user])
        scores[[0, *source[2].token2id("item_id", histories[user])]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:5]
        rows = found[found["user"] == user]
        assert list(rows["item"]) == list(source[2].id2token("item_id", best))
        np.testing.assert_allclose(rows["score"], scores[best], rtol=1e-5)
        assert not set(rows["item"]) & set(histories[user])


def test_titles_come_from_the_item_file() -> None:
    found = recommend(_untrained("BPR"), users="u1", k=3)
    table = pd.read_csv("dataset/tiny/tiny.item", sep="\t", dtype=str).set_index("item_id:token")
    assert list(found["title"]) == list(table.loc[found["item"], "title:token_seq"])


def test_without_an_item_file_there_are_no_titles() -> None:
    source = _untrained("BPR")
    Path("dataset/tiny/tiny.item").unlink()
    assert list(recommend(source, users="u1")) == ["user", "rank", "item", "score"]


def test_a_general_model_masks_training_validation_and_test_items() -> None:
    source = _untrained("BPR")
    _, model, dataset = source
    every = recommend(source, users="u5", k=1000)
    known = set(_histories()["u5"])
    assert set(every["item"]) == set(dataset.field2id_token["item_id"][1:]) - known
    with_history = recommend(source, users="u5", k=1000, mask_history=False)
    assert set(with_history["item"]) == set(dataset.field2id_token["item_id"][1:])
    ids = dataset.token2id("item_id", list(with_history["item"]))
    user = Interaction({"user_id": torch.tensor([dataset.token2id("user_id", "u5")])})
    with torch.no_grad():
        scores = model.full_sort_predict(user).view(-1)[torch.from_numpy(ids)]
    np.testing.assert_allclose(with_history["score"], scores.numpy(), rtol=1e-5)
    assert (np.diff(with_history["score"]) <= 0).all()


def test_all_users_in_batches_are_each_user_alone() -> None:
    source = _untrained("SASRec", **SEQUENTIAL, eval_memory_mib=1e-9)  # one user per batch
    everyone = recommend(source, users="all", k=2)
    assert everyone["user"].nunique() == 40
    source[0]["eval_memory_mib"] = 512
    together = recommend(source, users="all", k=2)
    pd.testing.assert_frame_equal(everyone, together, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("LightGCN", {}), ("NeuMF", {}), ("ItemKNN", {}), ("EASE", {}), ("MultiVAE", {}),
        ("DeepFM", CONTEXT), ("FM", CONTEXT), ("CKE", {}), ("CFKG", {}), ("BERT4Rec", SEQUENTIAL),
        ("SHAN", SEQUENTIAL), ("FPMC", {}), ("Caser", SEQUENTIAL), ("DIN", CONTEXT),
        ("DIEN", CONTEXT), ("GRU4RecF", {**SEQUENTIAL, "selected_features": ["genre"], **CONTEXT}),
        ("AlphaRec", {"train_neg_sample_args": None}),
    ],
)  # fmt: skip
def test_every_kind_of_model(model: str, keys: dict[str, Any]) -> None:
    found = recommend(_untrained(model, **keys), users=["u2", "u7"], k=4)
    assert list(found["user"]) == ["u2"] * 4 + ["u7"] * 4
    assert np.isfinite(found["score"]).all()
    for user, rows in found.groupby("user"):
        assert not set(rows["item"]) & set(_histories()[str(user)])


def test_context_models_score_each_pair_as_predict_does() -> None:
    _, model, dataset = source = _untrained("DeepFM", **CONTEXT)
    found = recommend(source, users="u2", k=3)
    items = torch.from_numpy(dataset.token2id("item_id", list(found["item"])))
    users = torch.full_like(items, dataset.token2id("user_id", "u2"))
    rows = dataset.join(Interaction({"user_id": users, "item_id": items}))
    with torch.no_grad():
        np.testing.assert_allclose(found["score"], model.predict(rows).numpy(), rtol=1e-5)


@pytest.mark.parametrize("model", ["SASRec", "AlphaRec"])
def test_a_new_user_with_a_known_users_items_gets_the_same(model: str) -> None:
    keys = SEQUENTIAL if model == "SASRec" else {"train_neg_sample_args": None}
    recommender = Recommender.of(_untrained(model, **keys))
    known = recommend(recommender, users="u4", k=6)
    new = recommend(recommender, items=_histories()["u4"], k=6)
    assert set(new["user"]) == {""}
    assert list(new["item"]) == list(known["item"])
    np.testing.assert_allclose(new["score"], known["score"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["SASRec", "AlphaRec"])
def test_new_users_are_scored_together_each_as_alone(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = SEQUENTIAL if model == "SASRec" else {"train_neg_sample_args": None}
    recommender = Recommender.of(_untrained(model, **keys))
    alone = [recommend(recommender, items=own, k=6) for own in _histories().values()]
    scorer: Any = recommender.scorer
    asked = []
    score = scorer.score_new_users
    monkeypatch.setattr(
        scorer, "score_new_users", lambda owns, query: asked.append(owns) or score(owns, query)
    )
    together = recommend(recommender, histories=_histories(), k=6)
    assert [len(owns) for owns in asked] == [len(_histories())]
    for name, one in zip(_histories(), alone, strict=True):
        rows = together[together["user"] == name]
        assert list(rows["item"]) == list(one["item"])
        np.testing.assert_allclose(rows["score"], one["score"], rtol=1e-4, atol=1e-6)


def test_a_query_moves_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "recbole_llm.tasks.recommend.recommender.create_encoder",
        lambda config: made.append(config) or create_encoder(config),
    )
    recommender = Recommender.of(_untrained("AlphaRec", train_neg_sample_args=None))
    plain = recommend(recommender, users="u4", k=60)
    same = recommend(recommender, users="u4", k=60, query="horror castle", query_weight=0.0)
    np.testing.assert_allclose(same["score"], plain["score"], rtol=1e-5, atol=1e-6)
    moved = recommend(recommender, users="u4", k=60, query="horror castle", query_weight=1.0)
    assert not np.allclose(moved["score"], plain["score"])
    alone = recommend(recommender, query="The horror castle 3", k=3)
    assert len(alone) == 3 and set(alone["user"]) == {""}
    assert len(made) == 1  # one for all queries, since it may be a large model


@pytest.mark.parametrize(("width", "said"), [(60, False), (61, True)])
def test_few_items_for_wide_vectors(
    width: int, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """60 items do not span 61 dimensions, and later texts are read within their span."""
    with caplog.at_level("INFO"):
        _untrained("AlphaRec", train_neg_sample_args=None, encoder_dimensions=width)
    assert ("text_whitening: the texts of 60 items span less than" in caplog.text) is said


def _error(source: Any, **keys: Any) -> str:
    with pytest.raises(ValueError) as caught:
        recommend(source, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_callers_model_is_left_as_it_was() -> None:
    source = _untrained("AlphaRec", train_neg_sample_args=None)
    edges = source[1].graph.user_items.clone()
    recommend(source, users="u1")
    assert torch.equal(source[1].graph.user_items, edges)  # still without test interactions


def test_interactions_that_are_loaded_are_not_read_again() -> None:
    source, history = _untrained("SASRec", **SEQUENTIAL), _histories()["u1"]
    Path("dataset/tiny/tiny.inter").unlink()
    scores = _own_scores(source, history)[1:]
    assert recommend(source, "u1", mask_history=False).score[0] == pytest.approx(scores.max())


def test_a_single_id_is_one_id() -> None:
    source = Recommender.of(_untrained("SASRec", **SEQUENTIAL))
    pd.testing.assert_frame_equal(recommend(source, items="i12"), recommend(source, items=["i12"]))
    pd.testing.assert_frame_equal(recommend(source, users="u12"), recommend(source, users=["u12"]))


def test_users_without_interactions() -> None:
    """They are only in the .user file, so that a sequential model has no history to read."""
    with Path("dataset/tiny/tiny.user").open("a", encoding="utf-8") as file:
        file.write("nobody\t30\tF\n")
    load = {"load_col": {**CONTEXT["load_col"]}}
    sequential = Recommender.of(_untrained("SASRec", **SEQUENTIAL, **load))
    assert "users: 'nobody' have no interactions" in _error(sequential, users=["u1", "nobody"])
    assert "nobody" not in set(recommend(sequential, users="all", k=1)["user"])
    general = _untrained("BPR", **load)
    assert "nobody" in set(recommend(general, users="all", k=1)["user"])


def test_unknown_ids_are_named_with_the_way_out() -> None:
    bpr = Recommender.of(_untrained("BPR"))
    message = _error(bpr, users=["u1", "u400", "[PAD]"])
    assert "users: 'u400' is unknown (near: 'u4' or 'u0'); '[PAD]' is unknown;" in message
    assert "ids are those of user_id" in message and "after its filters" in message
    assert "such as PAD" not in message  # that hint is for items
    unknown = _error(bpr, users=["u1"], candidates=["i400"])
    assert "ids are those of item_id" in unknown and "also rank later items" in unknown
    assert "users: no id given" in _error(bpr, users=[])
    assert "users: None is no id" in _error(bpr, users=["u1", None])


def test_unclear_requests_are_refused() -> None:
    bpr = Recommender.of(_untrained("BPR"))
    assert "say for whom" in _error(bpr)
    assert "give one of users, items" in _error(bpr, users="u1", items=["i1"])
    assert "k: expected a positive int, got 0" in _error(bpr, users="u1", k=0)


def test_a_general_model_takes_neither_new_users_nor_queries() -> None:
    bpr = Recommender.of(_untrained("BPR"))
    assert "BPR learns about each user in training" in _error(bpr, items=["i1"])
    assert "query: BPR reads no text of its users" in _error(bpr, users="u1", query="tea")


def test_a_sequential_model_of_user_ids_takes_no_new_users() -> None:
    caser = _untrained("Caser", **SEQUENTIAL)
    assert "Caser reads 'user_id' of its users" in _error(caser, items=["i1"])


def test_malformed_queries_are_refused() -> None:
    alpha = Recommender.of(_untrained("AlphaRec", train_neg_sample_args=None))
    assert "query_weight: expected a number from 0 to 1" in _error(alpha, query="x", query_weight=2)
    for query in (" ", 5, "\ud800"):
        assert f"query: expected words, got {query!r}" in _error(alpha, users="u1", query=query)
    assert "items: 'i1000' is unknown" in _error(alpha, items=["i1", "i1000"])


def test_state_beside_the_weights_is_loaded_too() -> None:
    result = run_recbole_llm("Pop", "tiny", config_dict={**QUIET, "epochs": 1})
    found = recommend(result["checkpoint"], users="u1", k=60, mask_history=False)
    _, model, dataset, *_ = load_data_and_model(result["checkpoint"])
    ids = torch.from_numpy(dataset.token2id("item_id", list(found["item"])))
    scores = model.eval().full_sort_predict(Interaction({"user_id": torch.tensor([1])})).view(-1)
    np.testing.assert_allclose(found["score"], scores[ids].numpy(), rtol=1e-6)

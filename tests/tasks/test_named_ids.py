"""A checkpoint knows users and items by name, so that changed files do not mix them up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import Tensor, nn

from recbole_llm import EmbeddingTable, FeatureSpec, ModelSpec, features_of, hookimpl
from recbole_llm.core.checkpoints.tokens import check_numbers
from recbole_llm.core.plugins import loading
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.models.base import SequenceRecommender
from recbole_llm.quick_start import load_data_and_model, run_recbole_llm
from recbole_llm.tasks.recommend import recommend

pytestmark = pytest.mark.usefixtures("tiny")
TIMED = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}}
QUIET = {
    "show_progress": False, "data_path": "dataset", "encoder": "hash",
    "epochs": 1, "MAX_ITEM_LIST_LENGTH": 8, "embedding_size": 8, "hidden_size": 8, "n_layers": 1,
    "n_heads": 1, **TIMED,
}  # fmt: skip
CONTEXT = {
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"],
                 "user": ["user_id", "age"], "item": ["item_id", "genre", "price"]},
    "numerical_features": ["price"], "threshold": {"rating": 3}, "metrics": ["AUC"],
    "valid_metric": "AUC", "eval_args": {**TIMED["eval_args"], "mode": "labeled"},
}  # fmt: skip
ITEM_FILE = Path("dataset/tiny/tiny.item")
INTER = Path("dataset/tiny/tiny.inter")
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("SASRec", {}), ("BPR", {}), ("LightGCN", {}), ("AlphaRec", {}), ("PAD", {}),
    ("DeepFM", CONTEXT), ("DIN", CONTEXT), ("CKE", {}), ("CFKG", {"kg_reverse_r": True}),
    ("ItemKNN", {}),
]  # fmt: skip


def trained(model: str = "SASRec", **keys: Any) -> str:
    result = run_recbole_llm(model, "tiny", config_dict={**QUIET, **keys})
    return str(result["checkpoint"])


def scores(checkpoint: str, **keys: Any) -> pd.DataFrame:
    found = recommend(checkpoint, "all", k=1000, mask_history=False, **keys)
    return found.sort_values(["user", "item"], ignore_index=True)[["user", "item", "score"]]


def sort_rows(file: Path, by: Callable[[str], Any]) -> None:
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([header, *sorted(rows, key=by)]) + "\n", encoding="utf-8")


def change(file: Path, edit: Callable[[list[str]], list[str]]) -> None:
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([header, *edit(rows)]) + "\n", encoding="utf-8")


@pytest.mark.parametrize(("model", "keys"), KINDS, ids=[model for model, _ in KINDS])
def test_a_reordered_file_changes_nothing(model: str, keys: dict[str, Any]) -> None:
    checkpoint = trained(model, **keys)
    expected = scores(checkpoint)
    for file in Path("dataset/tiny").iterdir():
        sort_rows(file, lambda row: row.split("\t")[1][::-1])
    pd.testing.assert_frame_equal(scores(checkpoint), expected, rtol=1e-5)


@pytest.mark.parametrize("model", ["SASRec", "BPR", "DeepFM", "CKE"])
def test_gained_users_and_items_are_left_out_by_name(
    model: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = CONTEXT if model == "DeepFM" else {}
    checkpoint = trained(model, **keys)
    expected = scores(checkpoint)
    # At the front, where ids by position would shift those of all other rows.
    change(INTER, lambda rows: ["u0\tnew1\t5\t1", "u1\tnew2\t5\t1", "newcomer\ti5\t5\t1", *rows])
    new = [f"new{i}\tThe new {i}\topera\t2020\t1.5" for i in (1, 2)]
    change(ITEM_FILE, lambda rows: new + rows)
    change(Path("dataset/tiny/tiny.user"), lambda rows: ["newcomer\t99\tF", *rows])
    kg, link = Path("dataset/tiny/tiny.kg"), Path("dataset/tiny/tiny.link")
    change(kg, lambda rows: ["e_new\thas_genre\tg_opera", *rows])
    change(link, lambda rows: ["new1\te_new", *rows])
    with caplog.at_level(logging.WARNING):
        present = scores(checkpoint)
    pd.testing.assert_frame_equal(present, expected, rtol=1e-5)
    said = [r.getMessage() for r in caplog.records if "new since the checkpoint" in r.getMessage()]
    items = "'new1'" if model == "CKE" else "2 new since the checkpoint ('new1', 'new2');"
    assert sum(items in line for line in said) == 1
    assert any("user_id: 1 new since the checkpoint ('newcomer')" in line for line in said)
    with pytest.raises(ValueError, match="'newcomer' is unknown.*known to the model"):
        recommend(checkpoint, "newcomer")


@pytest.mark.parametrize("model", ["SASRec", "BPR", "CKE"])
def test_lost_users_and_items_keep_their_row(model: str, caplog: pytest.LogCaptureFixture) -> None:
    table = pd.read_csv(INTER, sep="\t", dtype=str)
    had_it = set(table[table["item_id:token"] == "i7"]["user_id:token"]) | {"u4"}
    checkpoint = trained(model)
    expected = scores(checkpoint)
    change(INTER, lambda rows: [r for r in rows if "\ti7\t" not in r and r[:3] != "u4\t"])
    with caplog.at_level(logging.WARNING):
        present = scores(checkpoint)
    assert "item_id: 1 gone since the checkpoint ('i7')" in caplog.text
    assert "user_id: 1 gone since the checkpoint ('u4')" in caplog.text
    assert "i7" in set(present["item"])
    if model == "SASRec":  # its scores depend on the history, which changed for them
        present, expected = (t[~t["user"].isin(had_it)] for t in (present, expected))
    frames = (t.reset_index(drop=True) for t in (present, expected))
    pd.testing.assert_frame_equal(*frames, rtol=1e-5)


def test_items_that_lost_their_entities_are_named() -> None:
    checkpoint = trained("CKE")
    change(Path("dataset/tiny/tiny.link"), lambda rows: [r for r in rows if r[:3] != "i7\t"])
    with pytest.raises(ValueError, match=r"^'tiny.link': items 'i7' had other entities, or none"):
        recommend(checkpoint, "u1")


def test_a_lost_user_of_a_text_model_gets_recommendations_for_a_query_alone() -> None:
    checkpoint = trained("AlphaRec")
    change(INTER, lambda rows: [r for r in rows if r[:3] != "u4\t"])
    with pytest.raises(ValueError, match="users: 'u4' have no interactions, which AlphaRec"):
        recommend(checkpoint, ["u4"])
    assert "u4" not in set(recommend(checkpoint, "all", k=1)["user"])
    assert len(recommend(checkpoint, ["u4"], k=3, query="drama")) == 3


@pytest.mark.parametrize(("order", "warned"), [("TO", False), ("RO", True)])
def test_a_split_by_the_order_of_the_file_is_said(
    order: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = trained("LightGCN", eval_args={**TIMED["eval_args"], "order": order})
    load_data_and_model(checkpoint)
    assert "training interactions" not in caplog.text
    change(INTER, lambda rows: sorted(rows, key=lambda row: row[::-1]))
    load_data_and_model(checkpoint)
    assert ("the training interactions are not those of the checkpoint" in caplog.text) is warned


def test_a_gained_category_is_missing_and_costs_no_row() -> None:
    checkpoint = trained("DeepFM", **CONTEXT)
    expected = scores(checkpoint)
    change(ITEM_FILE, lambda rows: [r.replace("\taction\t", "\topera\t", 1) if r.startswith("i0\t")
                                    else r for r in rows])  # fmt: skip
    present = scores(checkpoint)
    moved = present["score"] != expected["score"]
    assert set(present.loc[moved, "item"]) == {"i0"}


def test_a_ready_made_split_leaves_gained_items_out() -> None:
    header, *rows = INTER.read_text(encoding="utf-8").splitlines()
    for part, own in (("train", rows[:300]), ("valid", rows[300:350]), ("test", rows[350:])):
        Path(f"dataset/tiny/tiny.{part}.inter").write_text("\n".join([header, *own]) + "\n")
    checkpoint = trained("BPR", benchmark_filename=["train", "valid", "test"])
    _, _, _, *before = load_data_and_model(checkpoint)
    file = Path("dataset/tiny/tiny.valid.inter")
    change(file, lambda rows: ["u0\tnew1\t5\t1", *rows, "u0\tnew2\t5\t1"])
    _, _, _, *after = load_data_and_model(checkpoint)
    for want, have in zip(before, after, strict=True):
        np.testing.assert_array_equal(
            have.dataset.inter_feat["item_id"], want.dataset.inter_feat["item_id"]
        )


# --- texts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["PAD", "AlphaRec", "LLMESR"])
def test_a_corrected_title_is_a_warning(model: str, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = trained(model)
    change(ITEM_FILE, lambda rows: [r.replace("robot 2\t", "robot two\t") for r in rows])
    with caplog.at_level(logging.WARNING):
        recommend(checkpoint, "u1")
    assert caplog.text.count("item_text: 1 of 60 items have other texts") == 1
    assert "('i2'); the new ones are used" in caplog.text


def test_another_encoder_is_refused() -> None:
    checkpoint = trained("PAD")
    with pytest.raises(ValueError, match="the encoder changed; set encoder, encoder_model"):
        recommend(checkpoint, "u1", config_dict={"encoder_dimensions": 17})
    with pytest.raises(ValueError, match="the text or vector of every item changed"):
        recommend(checkpoint, "u1", config_dict={"item_prompt": "{{ title }} again"})


def test_a_setting_that_no_checkpoint_keeps_is_asked_for_before_anything_is_encoded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Path("mine.jinja").write_text("{{ title }}, once more")
    checkpoint = trained("PAD", item_prompt="./mine.jinja", embedding_cache_dir="vectors")
    caplog.clear()
    with pytest.raises(ValueError, match="trained with item_prompt, .* give --item_prompt=…"):
        recommend(checkpoint, "u1")
    assert "item_text" not in caplog.text
    assert len(recommend(checkpoint, "u1", config_dict={"item_prompt": "./mine.jinja"}))


# --- trainers --------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [{"user_id": {}}, {"user_id": "x"}, ["user_id"]])
def test_damaged_tokens_of_a_checkpoint_are_named(stored: object) -> None:
    present = {"user_id": np.array(["[PAD]", "u1"], dtype=object)}
    with pytest.raises(ValueError, match="the checkpoint holds (damaged|no) tokens of"):
        check_numbers(present, stored)
    check_numbers(present, None)


@pytest.mark.parametrize("call", ["evaluate", "resume"])
def test_a_trainer_refuses_data_that_is_numbered_otherwise(call: str) -> None:
    from recbole_llm.core.config import Config
    from recbole_llm.steps import build_model, build_trainer, load_data

    checkpoint = trained("BPR")
    sort_rows(INTER, lambda row: row.split("\t")[1][::-1])
    config = Config("BPR", "tiny", config_dict=QUIET)
    _, train, valid, test = load_data(config)
    trainer = build_trainer(config, build_model(config, train.dataset))
    with pytest.raises(ValueError, match="than the checkpoint, or has them in another order"):
        if call == "evaluate":
            trainer.evaluate(test, model_file=checkpoint)
        else:
            trainer.resume_checkpoint(checkpoint)
            trainer.fit(train, valid)


@pytest.mark.parametrize(("model", "keys"), [
    ("PAD", {"n_bins": 3}),
    ("LLMCF", {"thoughts": "item_text", "thought_examples": 30, "metrics": ["NDCG"],
               "valid_metric": "NDCG@10"}),
    ("LLMCFRetrieval", {"thoughts": "item_text", "thought_examples": 30}),
])  # fmt: skip
def test_interactions_of_others_move_no_score(model: str, keys: dict[str, Any]) -> None:
    """The frequency bins of PAD and the examples of LLM-CF are those of training."""
    checkpoint = trained(model, **keys)
    expected = scores(checkpoint)
    change(
        INTER,
        lambda rows: [
            *rows,
            *(f"u{u}\ti{i}\t5\t9{i:03d}" for u in range(20, 40) for i in range(4)),
        ],
    )
    present = scores(checkpoint)
    others = [t[t["user"].isin(["u1", "u2"])].reset_index(drop=True) for t in (present, expected)]
    pd.testing.assert_frame_equal(*others, rtol=1e-5)


def test_other_vectors_of_a_plugin_are_refused_beside_texts_that_are_the_same(
    request: pytest.FixtureRequest,
) -> None:
    value = 1.0

    def reviews(config: Any, dataset: Any) -> EmbeddingTable:
        matrix = np.full((dataset.item_num, 2), value, np.float32)
        matrix[0] = 0
        return EmbeddingTable(matrix, list(dataset.field2id_token["item_id"]), f"made of {value}")

    class TwoTexts(SequenceRecommender):
        def __init__(self, config: Any, dataset: Any) -> None:
            super().__init__(config, dataset)
            tables = [features_of(dataset, config)[name] for name in ("item_text", "reviews")]
            self.texts = nn.ModuleList([FrozenEmbedding(t.matrix, t.fingerprint) for t in tables])
            self.item_embedding = nn.Embedding(dataset.item_num, 8)

        def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
            return self.item_embedding(item_seq)

    spec = ModelSpec("TwoTexts", TwoTexts, reads=("item_text", "reviews"))
    hooks = {
        "register_models": staticmethod(hookimpl(lambda register: register(spec))),
        "register_features": staticmethod(
            hookimpl(lambda register: register(FeatureSpec("reviews", reviews)))
        ),
    }
    loading.get_plugins().register(type("Plugin", (), hooks)(), "of reviews")
    request.addfinalizer(lambda: loading.get_plugin_manager().unregister(name="of reviews"))
    checkpoint = trained("TwoTexts")
    load_data_and_model(checkpoint)
    value = 2.0
    with pytest.raises(ValueError, match="other vectors .'texts.1': made of 1.0, now"):
        load_data_and_model(checkpoint)


def test_another_whitening_is_refused() -> None:
    checkpoint = trained("LLMESR", text_whitening=0.5)
    load_data_and_model(checkpoint)
    with pytest.raises(ValueError, match="whitened differently .*: 0.5, now 0.; set text_whiten"):
        load_data_and_model(checkpoint, config_dict={"text_whitening": 0.0})

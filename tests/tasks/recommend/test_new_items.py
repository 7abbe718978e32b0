"""Items that came after training: only models that know items by text recommend them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from recbole_llm.quick_start import load_data_and_model, run_recbole_llm
from recbole_llm.tasks.recommend import Recommender, recommend

pytestmark = pytest.mark.usefixtures("tiny")
QUIET = {
    "show_progress": False, "data_path": "dataset", "encoder": "hash",
    "epochs": 1, "MAX_ITEM_LIST_LENGTH": 8, "embedding_size": 8, "hidden_size": 8, "n_layers": 1,
    "n_heads": 1,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
}  # fmt: skip
TEXT_MODELS = ["AlphaRec", "PAD", "LLMESR"]
FOLDER = Path("dataset/tiny")


def trained(model: str, **keys: Any) -> dict[str, Any]:
    return run_recbole_llm(model, "tiny", config_dict={**QUIET, **keys})


def add(file: str, *rows: str) -> None:
    """Add rows at the front, where ids by position would shift those of all other rows."""
    path = FOLDER / file
    header, *old = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, *rows, *old]) + "\n", encoding="utf-8")


def add_twins() -> None:
    """Add a new item for each item, with almost the same text."""
    rows = (FOLDER / "tiny.item").read_text(encoding="utf-8").splitlines()[1:]
    add("tiny.item", *(f"twin-{row}".replace("\tThe ", "\tA ") for row in rows))


def scores(checkpoint: str, users: Any = "all", **keys: Any) -> pd.DataFrame:
    found = recommend(checkpoint, users, k=1000, mask_history=False, **keys)
    return found.pivot(index="user", columns="item", values="score").sort_index(axis=1)


@pytest.mark.parametrize("model", TEXT_MODELS)
def test_a_twin_of_a_good_item_is_among_the_best(model: str) -> None:
    keys = {"epochs": 30, "embedding_size": 64} if model == "AlphaRec" else {"epochs": 10}
    checkpoint = trained(model, **keys)["checkpoint"]
    before = scores(checkpoint)
    add_twins()
    after = scores(checkpoint)
    pd.testing.assert_frame_equal(after[before.columns], before, rtol=1e-6)
    assert after.shape == (40, 120)
    best = [f"twin-{item}" for item in before.idxmax(axis=1)]
    # In AlphaRec, a new item has no edges, so that it is less like the users than its twin.
    for table, most in ((after, 25), (after.drop(columns=before.columns), 10)):
        places = table.rank(axis=1, ascending=False).to_numpy()
        found = places[np.arange(40), table.columns.get_indexer(best)]
        assert found.mean() < most  # by chance 60 and 30


@pytest.mark.parametrize("model", ["AlphaRec", "PAD"])
def test_items_that_a_bound_kept_out_of_training_stay_in_histories(model: str) -> None:
    """They are recommended as new items, but not to users who have them."""
    checkpoint = trained(model, item_inter_num_interval="[5,inf)")["checkpoint"]
    found = recommend(checkpoint, "all", k=1000)
    rows = pd.read_csv(FOLDER / "tiny.inter", sep="\t", dtype=str)
    has = set(zip(rows.iloc[:, 0], rows.iloc[:, 1], strict=True))
    rare = rows.iloc[:, 1].value_counts().loc[lambda count: count < 5].index
    assert len(rare) and set(rare) & set(found["item"])
    assert not has & set(zip(found["user"], found["item"], strict=True))


def test_new_items_have_titles_and_can_be_left_out() -> None:
    checkpoint = trained("PAD")["checkpoint"]
    add("tiny.item", "late\tThe comedy opera\tcomedy\t2020\t1.5")
    found = recommend(checkpoint, "u1", k=1000).set_index("item")
    assert found.loc["late", "title"] == "The comedy opera"
    found = recommend(checkpoint, "u1", k=1000, config_dict={"recommend_new_items": False})
    assert "late" not in set(found["item"])


def test_a_model_of_ids_says_what_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = trained("SASRec")["checkpoint"]
    expected = scores(checkpoint)
    add_twins()
    with caplog.at_level(logging.INFO):
        pd.testing.assert_frame_equal(scores(checkpoint), expected)
    line = (
        "60 new items of the item file ('twin-i0', 'twin-i1', 'twin-i2', 'twin-i3', 'twin-i4', …)"
    )
    assert f"{line}: not recommended: SASRec knows no item that it was not" in caplog.text


def test_an_item_that_is_gone_from_all_files_is_not_recommended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    checkpoint = trained("SASRec")["checkpoint"]
    for file in ("tiny.inter", "tiny.item"):
        path = FOLDER / file
        rows = path.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if not {"i7", "i8"} & set(row.split("\t")[:2])]
        path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    add("tiny.item", "i8\tThe quiet opera\tdrama\t2020\t1")  # still offered
    with caplog.at_level(logging.INFO):
        found = scores(checkpoint)
    assert "i7" not in found and "i8" in found
    assert "1 item gone from the data set ('i7'): not recommended" in caplog.text


def test_an_item_without_text_is_left_out_by_name(caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = trained("PAD", item_prompt="{{ title }}")["checkpoint"]
    add("tiny.item", "late\tThe comedy opera\tcomedy\t2020\t1", "mute\t\tdrama\t2020\t1")
    with caplog.at_level(logging.INFO):
        found = scores(checkpoint, "u1")
    assert found.shape == (1, 61) and "late" in found
    assert "1 new item of the item file ('mute'): not recommended: no text" in caplog.text
    assert "1 new item of the item file ('late'): scored by text" in caplog.text


@pytest.mark.parametrize("model", TEXT_MODELS)
def test_histories_with_new_items_are_read(model: str) -> None:
    checkpoint = trained(model, load_col={
        "inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "genre"],
    })["checkpoint"]  # fmt: skip
    add("tiny.item", "late\tThe horror opera\thorror\t2020\t1.5")
    before = scores(checkpoint, ["u0", "u1"])
    add("tiny.inter", "u0\tlate\t5\t99999", "u1\tunheard-of\t5\t99999")
    after = scores(checkpoint, ["u0", "u1"])
    assert list(after.columns) == list(before.columns)
    assert not np.allclose(after.loc["u0"], before.loc["u0"], rtol=1e-3)
    if model != "AlphaRec":  # its graph joins the users
        np.testing.assert_allclose(after.loc["u1"], before.loc["u1"], rtol=1e-6)
    assert "late" not in set(recommend(checkpoint, "u0", k=1000)["item"])  # u0 has it
    new_user = recommend(checkpoint, items=["i3", "late"], k=1000)
    assert len(new_user) == 59 and not {"i3", "late"} & set(new_user["item"])


def test_alpharec_scores_a_new_item_by_its_mapped_text() -> None:
    loaded = load_data_and_model(trained("AlphaRec")["checkpoint"])
    add("tiny.item", "late\tThe comedy opera\tcomedy\t2020\t1.5")
    recommender = Recommender(*loaded[:3])
    model = recommender.scorer.model
    with torch.no_grad():
        users, _ = model.forward()
        new = model.text_map(model.text.weight[-1])
    want = F.cosine_similarity(users, new.expand_as(users))
    found = recommender.recommend("all", k=1000, mask_history=False)
    late = found[found["item"] == "late"].set_index("user")["score"]
    ids = loaded[2].token2id("user_id", list(late.index))
    np.testing.assert_allclose(late, want[ids], rtol=1e-5)
    assert loaded[1].n_items == loaded[2].item_num == 61  # the caller's model is as it was


@pytest.mark.parametrize("model", TEXT_MODELS)
def test_rows_without_interactions_change_no_result(
    model: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = trained(model)
    add_twins()
    with caplog.at_level(logging.INFO):
        found = trained(model)
    assert {**found, "checkpoint": ""} == {**expected, "checkpoint": ""}
    assert "60 more items without interactions in the item file: models that know" in caplog.text
    own, other = (torch.load(r["checkpoint"])["state_dict"] for r in (expected, found))
    assert all(torch.equal(own[name], other[name]) for name in own)


@pytest.mark.parametrize("model", ["PAD", "BPR", "CKE"])
def test_the_item_file_as_catalogue(model: str) -> None:
    from recbole_llm.core.config import Config
    from recbole_llm.steps import load_data

    known = load_data(Config(model, "tiny", config_dict=QUIET))[0].field2id_token["item_id"]
    add_twins()
    keys = {**QUIET, "item_catalogue": "item_file"}
    checkpoint = trained(model, **keys)["checkpoint"]
    assert scores(checkpoint).shape == (40, 120)
    dataset = load_data(Config(model, "tiny", config_dict=keys))[0]
    tokens = dataset.field2id_token["item_id"]
    assert dataset.item_num == len(tokens) == 121
    if model != "CKE":  # it puts items without an entity first
        assert list(tokens[:61]) == list(known)
    add("tiny.item", "late\tThe comedy opera\tcomedy\t2020\t1.5")
    assert scores(checkpoint).shape == (40, 121 if model == "PAD" else 120)


@pytest.mark.parametrize("columns", [{}, {"item": ["item_id", "genre"]}])
def test_all_models_rank_the_items_with_interactions(
    columns: dict[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """RecBole would rank all items of the file once a model loads one of its columns."""
    add_twins()
    columns = {"inter": ["user_id", "item_id", "timestamp"], **columns}
    checkpoint = trained("BPR", load_col=columns)["checkpoint"]
    assert scores(checkpoint).shape == (40, 60)
    assert "since the checkpoint" not in caplog.text


def test_items_of_a_catalogue_are_not_called_lost(caplog: pytest.LogCaptureFixture) -> None:
    add_twins()
    checkpoint = trained("BPR", item_catalogue="item_file")["checkpoint"]
    with caplog.at_level(logging.WARNING):
        load_data_and_model(checkpoint)
    assert "since the checkpoint" not in caplog.text


def test_no_item_file_to_take_as_catalogue() -> None:
    (FOLDER / "tiny.item").unlink()
    with pytest.raises(ValueError, match="item_catalogue: item_file: .* has no .item file"):
        trained("BPR", item_catalogue="item_file")

"""Items that a user has seen, and folders that change under a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import recbole_llm
from recbole_llm import Recommender, run_recbole_llm, testing


@pytest.mark.parametrize("model", ["SASRec", "AlphaRec", "BPR"])
def test_items_of_interactions_that_a_filter_left_out_are_not_recommended(
    quiet_keys: dict[str, Any], model: str
) -> None:
    testing.write_tiny_dataset("dataset")
    keys = {**quiet_keys, "val_interval": {"rating": "[3,inf)"}}
    checkpoint = run_recbole_llm(model, "tiny", config_dict=keys)["checkpoint"]
    rows = pd.read_csv("dataset/tiny/tiny.inter", sep="\t")
    had = set(zip(rows["user_id:token"], rows["item_id:token"]))
    known = Recommender.of(checkpoint)
    recommenders: list[Any] = [known]
    if model != "BPR":
        recbole_llm.export(checkpoint, "folder")
        recommenders.append(Recommender.load("folder"))
    for recommender in recommenders:
        found = recommender.recommend("all", k=100)
        assert not had & set(zip(found["user"], found["item"]))
        kept = recommender.recommend("all", k=100, mask_history=False)
        assert had <= set(zip(kept["user"], kept["item"]))
    liked = rows[rows["rating:float"] >= 3].drop_duplicates(["user_id:token", "item_id:token"])
    read = [len(known.scorer.histories[user]) for user in range(1, len(known.user_tokens))]
    assert sum(read) == len(liked) < len(had)


def test_a_loaded_model_works_after_a_change_of_folder(
    quiet_keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testing.write_tiny_dataset("dataset")
    keys = {**quiet_keys, "val_interval": {"rating": "[3,inf)"}}
    checkpoint = Path(run_recbole_llm("SASRec", "tiny", config_dict=keys)["checkpoint"]).resolve()
    rows = pd.read_csv("dataset/tiny/tiny.inter", sep="\t")
    known = Recommender.of(checkpoint)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = known.recommend("all", k=100)
    had = set(zip(rows["user_id:token"], rows["item_id:token"]))
    assert not had & set(zip(found["user"], found["item"]))


def test_titles_are_read_after_a_change_of_folder(
    checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = Recommender.of(checkpoints["SASRec"])
    monkeypatch.chdir(tmp_path)
    assert "title" in source.recommend("u1", where="genre == 'horror'")

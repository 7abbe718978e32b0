"""Features of data sets that RecBole loads and splits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llm import hookimpl, testing
from recbole_llm.core.config import Config
from recbole_llm.core.plugins import loading
from recbole_llm.data.create import create_dataset
from recbole_llm.data.prepare import data_preparation
from recbole_llm.features.attach import encode_dataset, features_of, item_embeddings
from recbole_llm.features.contents.prompts import item_texts, user_texts

pytestmark = pytest.mark.usefixtures("tiny")


def configure(model: str = "BPR", **keys: Any) -> Config:
    quiet = {"show_progress": False, "encoder": "hash", "state": "WARNING"}
    return Config(model, "tiny", config_dict={**quiet, **keys})


def test_rows_are_those_of_recboles_ids() -> None:
    config = configure()
    dataset = create_dataset(config)
    table = item_embeddings(config, dataset)
    assert dataset.get_preload_weight("item_id") is table.matrix
    assert table.matrix.shape == (dataset.item_num, 16)
    assert not table.matrix[0].any()
    for item in (1, 7, dataset.item_num - 1):
        number = int(dataset.id2token("item_id", item)[1:])
        genre = ("action", "drama", "comedy", "horror")[number % 4]
        noun = ("river", "castle", "robot", "garden", "planet", "detective", "violin", "storm")
        text = (
            f"title: The {genre} {noun[number % 8]} {number}; genre: {genre}; "
            f"release year: {1990 + number % 20}"
        )
        np.testing.assert_array_equal(table.matrix[item], testing.HashEncoder().encode([text])[0])


def test_a_second_run_encodes_nothing() -> None:
    config = configure()
    first = encode_dataset(config, create_dataset(config))
    second = encode_dataset(config, create_dataset(config))
    assert first.encoding is not None
    assert second.encoding is not None
    assert second.encoding.encoded == 0
    assert first.table.fingerprint == second.table.fingerprint
    np.testing.assert_array_equal(first.table.matrix, second.table.matrix)


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_user_texts_tell_training_items_alone(model: str) -> None:
    config = configure(
        model, user_prompt="{{ titles | join(';') }}", user_prompt_max_items=100,
        eval_args={"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user",
                   "mode": "full"},
    )  # fmt: skip
    train = data_preparation(config, create_dataset(config))[0].dataset
    texts = user_texts(config, train)
    histories = read_histories(Path("dataset/tiny/tiny.inter"))
    assert set(texts) == set(histories)
    for user, history in histories.items():
        numbers = [int(n) for n in re.findall(r"(\d+)(?:;|$)", texts[user])]
        assert numbers == history[:-2]  # the last two are for validation and test


def read_histories(file: Path) -> dict[str, list[int]]:
    histories: dict[str, list[int]] = {}
    for line in file.read_text().splitlines()[1:]:
        user, item = line.split("\t")[:2]
        histories.setdefault(user, []).append(int(item[1:]))
    return histories


def test_users_follow_recboles_ids() -> None:
    config = configure()
    train = data_preparation(config, create_dataset(config))[0].dataset
    table = features_of(train, config)["user_text"]
    assert table.matrix.shape == (train.user_num, 16)
    texts = user_texts(config, train)
    token = str(train.id2token("user_id", 5))
    np.testing.assert_array_equal(table.matrix[5], testing.HashEncoder().encode([texts[token]])[0])


def test_a_data_set_that_is_not_split_has_no_user_texts() -> None:
    config = configure()
    with pytest.raises(
        ValueError, match="dataset 'tiny' is not split yet: pass train_data.dataset"
    ):
        features_of(create_dataset(config), config)["user_text"]


class _Texts:
    @hookimpl
    def item_texts(self, config: Any, dataset: Any) -> dict[str, str]:
        return {f"i{i}": f"item {i}" for i in range(60)}

    @hookimpl
    def user_texts(self, config: Any, dataset: Any) -> dict[str, str]:
        return {"u1": "the first user"}


@pytest.fixture
def _plugin() -> Iterator[None]:
    manager = loading.get_plugin_manager()
    own = _Texts()
    manager.register(own)
    yield
    manager.unregister(own)


@pytest.mark.usefixtures("_plugin")
def test_a_plugins_texts_replace_the_prompts() -> None:
    config = configure()
    dataset = create_dataset(config)
    assert item_texts(config, dataset)["i3"] == "item 3"
    assert user_texts(config, dataset) == {"u1": "the first user"}
    matrix = item_embeddings(config, dataset).matrix
    row = dataset.token2id("item_id", "i3")
    np.testing.assert_array_equal(matrix[row], testing.HashEncoder().encode(["item 3"])[0])


@pytest.mark.usefixtures("_plugin")
def test_texts_that_a_plugin_does_not_give_are_asked_of_it() -> None:
    config = configure()
    dataset = create_dataset(config)
    dataset.field2id_token["item_id"][3] = "i99"
    with pytest.raises(ValueError, match="'i99'; complete what item_texts of plugin '.*' returns"):
        item_embeddings(config, dataset)

from __future__ import annotations

import copy
import logging
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_texts import ITEMS, CountingEncoder, PlainConfig

from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import EncoderSpec, FeatureSpec, ModelSpec, Registered
from recbole_llm.data.rows import training
from recbole_llm.features import attach, text
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.stored.store import StoreError
from recbole_llm.features.tables.table import EmbeddingTable, TableError
from recbole_llm.testing import HashEncoder

pytestmark = pytest.mark.usefixtures("no_plugins")
Make = Callable[..., Any]
BABE, HEAT = "movie title: Babe", "movie title: Heat; genre: crime"
TOY = "movie title: Toy Story; genre: comedy"


@pytest.fixture(autouse=True)
def _histories(monkeypatch: pytest.MonkeyPatch) -> None:
    history = np.array([1, 1, 3]), np.array([1, 2, 2])
    monkeypatch.setattr(training, "training_interactions", lambda dataset: history)


def test_item_embeddings_follow_recboles_ids(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    dataset = make_dataset(tokens=("30", "10", "20"))
    table = attach.item_embeddings(config, dataset)
    expected = HashEncoder(8).encode([BABE, TOY, HEAT])
    np.testing.assert_array_equal(table.matrix, np.vstack([np.zeros(8), expected]))
    assert table.tokens == ["[PAD]", "30", "10", "20"]
    assert dataset._preloaded_weight["item_id"] is table.matrix
    assert "movie title: Unseen; genre: drama" not in encoder.seen


def test_an_encoder_may_draw_random_numbers(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The split that follows must not depend on whether texts are encoded or already stored."""

    def create(config: Any) -> HashEncoder:
        random.random(), np.random.random(), torch.rand(1)
        return HashEncoder(8)

    def draws() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(1))]

    def seed() -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    seed()
    expected = draws()
    monkeypatch.setattr(text, "create_encoder", create)
    seed()
    attach.item_embeddings(config, make_dataset())
    assert draws() == expected


def test_the_table_stays_on_the_data_set_and_its_copies(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    dataset = make_dataset()
    table = attach.item_embeddings(config, dataset)
    assert dataset.features["item_text"] is table
    assert attach.item_embeddings(config, dataset) is table
    assert attach.item_embeddings(config, copy.copy(dataset)) is table
    loaded = pickle.loads(pickle.dumps(dataset))
    assert attach.item_embeddings(config, loaded) is loaded.features["item_text"]
    assert len(encoder.seen) == 3


def test_tables_are_put_by_hand_beside_those_that_are_built(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    dataset = make_dataset()
    by_hand = EmbeddingTable.build(np.ones((4, 2)), ["[PAD]", "u1", "u2", "u3"])
    dataset.features = {"user_text": by_hand}
    built = attach.features_of(dataset, config).build_all(["item_text", "user_text"])
    assert built["user_text"] is by_hand
    assert dataset.features == built
    assert [dataset.features.is_put_by_hand(n) for n in ("user_text", "item_text", "x")] == [
        True, False, False,
    ]  # fmt: skip
    dataset.features["other"] = by_hand
    assert attach.features_of(dataset, config)["other"] is by_hand


def test_other_settings_make_another_table(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    dataset = make_dataset()
    first = attach.item_embeddings(config, dataset)
    config["item_prompt"] = "{{ movie_title }}"
    second = attach.item_embeddings(config, dataset)
    assert second.fingerprint != first.fingerprint
    np.testing.assert_array_equal(
        second.matrix[1:], HashEncoder(8).encode(["Toy Story", "Heat", "Babe"])
    )


def test_a_feature_of_the_split_is_made_anew_for_any_other_setting(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    dataset = make_dataset()
    first = attach.features_of(dataset, config)["user_text"]
    assert attach.features_of(dataset, config)["user_text"] is first
    config["thought_examples"] = 7  # a generator's key, which no encoder reads
    assert attach.features_of(dataset, config)["user_text"] is not first
    items = attach.item_embeddings(config, dataset)
    config["thought_examples"] = 8
    assert attach.item_embeddings(config, dataset) is items


def test_a_table_put_there_by_hand_stays(config: PlainConfig, make_dataset: Make) -> None:
    dataset = make_dataset()
    table = EmbeddingTable.build(np.ones((4, 2)), ["[PAD]", "10", "20", "30"])
    dataset.features = {"item_text": table}
    assert attach.item_embeddings(config, dataset) is table
    assert attach.features_of(dataset, config)["item_text"] is table
    assert attach.encode_dataset(config, dataset).table is table  # the stage that runs first


def test_the_fingerprint_changes_with_texts_and_encoder_alone(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    first = attach.encode_dataset(config, make_dataset()).table.fingerprint
    config["encoder_batch_size"] = 1
    assert attach.encode_dataset(config, make_dataset()).table.fingerprint == first
    changed = make_dataset(ITEMS.replace("Heat", "Heat 2"))
    second = attach.encode_dataset(config, changed).table.fingerprint
    encoder.fingerprint = "another"
    assert len({first, second, attach.encode_dataset(config, changed).table.fingerprint}) == 3


def test_the_report_counts(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with caplog.at_level(logging.INFO):
        report = attach.encode_dataset(config, make_dataset())
    assert report.encoding is not None
    assert (report.encoding.encoded, report.encoding.cached) == (3, 0)
    assert "item embeddings: 3 texts, 3 unique, 0 cached, 3 encoded in 0." in caplog.text
    assert "item embeddings cover 3 of 3" in caplog.text
    again = attach.encode_dataset(config, make_dataset())
    assert again.encoding is not None
    assert (again.encoding.encoded, again.encoding.cached) == (0, 3)
    assert again.table.fingerprint == report.table.fingerprint
    assert len(encoder.seen) == 3


def test_data_sets_share_the_vectors_of_the_same_text(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    attach.item_embeddings(config, make_dataset(tokens=("10", "20")))
    attach.item_embeddings(config, make_dataset(ITEMS.replace("20\t", "99\t"), ("99", "30")))
    assert sorted(encoder.seen) == [BABE, HEAT, TOY]


@pytest.fixture
def read(config: PlainConfig, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the features that the model reads and registers builders."""

    def set_reads(*names: str, **build: Any) -> None:
        config["model"] = "Mine"
        registry = get_registry()
        mine = Registered(ModelSpec("Mine", "x:Y", reads=names), "recbole_llm.test")
        monkeypatch.setitem(registry.tables[ModelSpec], "Mine", mine)
        for name, function in build.items():
            feature = Registered(FeatureSpec(name, function), "recbole_llm.test")
            monkeypatch.setitem(registry.tables[FeatureSpec], name, feature)

    return set_reads


def test_features_of_the_loaded_data_set_are_attached_where_the_model_reads_them(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder, read: Callable[..., None]
) -> None:
    dataset = make_dataset()
    attach.attach_features(config, dataset)
    assert dict(attach.attached_features(dataset)) == {}
    read("user_text", "item_text")
    attach.attach_features(config, dataset)
    assert list(attach.attached_features(dataset)) == ["item_text"]  # users have no history yet


def test_item_init_reads_item_text_for_any_model(
    config: PlainConfig, read: Callable[..., None]
) -> None:
    assert attach.model_reads(config) == ()
    config["item_init"] = "llm"
    assert attach.model_reads(config) == ("item_text",)
    read("mine", "item_text")
    assert attach.model_reads(config) == ("mine", "item_text")


def test_an_unknown_feature_lists_near_matches(
    config: PlainConfig, make_dataset: Make, read: Callable[..., None]
) -> None:
    read("item_txt")
    with pytest.raises(ValueError, match="feature 'item_txt' is unknown; did you mean 'item_text'"):
        attach.attach_features(config, make_dataset())
    with pytest.raises(ValueError, match="feature 'user_txt' is unknown; did you mean 'user_text'"):
        attach.features_of(make_dataset(), config)["user_txt"]


def test_another_kind_of_feature_needs_no_change_here(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder, read: Callable[..., None]
) -> None:
    """A method that reads pictures registers ``item_image`` in this way."""
    table = EmbeddingTable.build(np.ones((4, 2)), ["[PAD]", "10", "20", "30"], "pictures")
    calls: list[Any] = []

    def build(config: Any, dataset: Any) -> EmbeddingTable:
        calls.append(dataset)
        return table

    read("item_image", item_image=build)
    dataset = make_dataset()
    attach.attach_features(config, dataset)
    assert attach.features_of(copy.copy(dataset), config)["item_image"] is table
    assert calls == [dataset]
    assert "item_id" not in dataset._preloaded_weight
    assert encoder.seen == []


def test_a_feature_put_on_a_split_is_not_seen_by_the_others(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    whole = make_dataset()
    attach.item_embeddings(config, whole)
    train = copy.copy(whole)
    attach.features_of(train, config)["user_text"]
    assert list(attach.attached_features(train)) == ["item_text", "user_text"]
    assert list(attach.attached_features(whole)) == ["item_text"]
    assert list(train._preloaded_weight) == ["item_id", "user_id"]
    assert list(whole._preloaded_weight) == ["item_id"]


def test_hidden_states_are_a_decoders(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    dataset = make_dataset()
    states = attach.features_of(dataset, config)["item_states"]
    np.testing.assert_array_equal(states.matrix, attach.item_embeddings(config, dataset).matrix)
    del encoder.layer
    with pytest.raises(ValueError, match="encoder: 'counting' has no hidden states.*causal_lm"):
        attach.features_of(make_dataset(), config)["item_states"]


def test_a_preload_weight_of_the_users_stays(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    dataset = make_dataset()
    own = dataset._preloaded_weight["item_id"] = np.ones((4, 2))
    config["preload_weight"] = {"item_id": "item_emb"}
    attach.item_embeddings(config, dataset)
    assert dataset._preloaded_weight["item_id"] is own


@pytest.mark.parametrize("policy", ["zeros", "mean"])
def test_items_without_text(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder, policy: str
) -> None:
    dataset = make_dataset(tokens=("10", "77", "20"))
    with pytest.raises(TableError, match="1 of 3 items have no text: '77'; complete the item file"):
        attach.item_embeddings(config, dataset)
    assert encoder.seen == []
    config["missing_embedding"] = policy
    matrix = attach.item_embeddings(config, dataset).matrix
    filled = matrix[[1, 3]].mean(axis=0) if policy == "mean" else np.zeros(8)
    np.testing.assert_allclose(matrix[2], filled, atol=1e-7)


def test_user_embeddings_are_of_training_histories(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder
) -> None:
    dataset = make_dataset()
    table = attach.features_of(dataset, config)["user_text"]
    texts = [f"The user's items, oldest first: {t}" for t in ("Toy Story; Heat", "Heat")]
    first, third = HashEncoder(8).encode(texts)
    np.testing.assert_array_equal(table.matrix, [np.zeros(8), first, np.zeros(8), third])
    assert table.tokens == ["[PAD]", "u1", "u2", "u3"]
    assert attach.features_of(dataset, config)["user_text"] is table
    config["missing_user_embedding"] = "error"
    with pytest.raises(TableError, match="1 of 3 users have no text: 'u2'; .*missing_user_embeddi"):
        attach.features_of(dataset, config)["user_text"]


def test_precomputed_vectors_by_token(
    config: PlainConfig, make_dataset: Make, tmp_path: Path
) -> None:
    dataset = make_dataset(itememb="iid:token\temb:float_seq\n20\t1 2\n30\t3 4\n10\t5 6\n99\t0 1\n")
    config.update(encoder="precomputed", embedding_path="small.itememb")
    report = attach.encode_dataset(config, dataset)
    np.testing.assert_array_equal(report.table.matrix, [[0, 0], [5, 6], [1, 2], [3, 4]])
    assert report.encoding is None
    with pytest.raises(EncoderError, match="has no user vectors: set user_embedding_path"):
        attach.features_of(dataset, config)["user_text"]
    (tmp_path / "u.csv").write_text("token,x\nu1,1\nu2,2\nu3,3\n")
    config["user_embedding_path"] = str(tmp_path / "u.csv")
    np.testing.assert_array_equal(
        attach.features_of(dataset, config)["user_text"].matrix, [[0], [1], [2], [3]]
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"encoder": "coutning"}, ValueError, "encoder 'coutning' is unknown; did you mean"),
        ({"missing_embedding": "zero"}, ValueError, "missing_embedding 'zero' is"),
        ({"item_prompt": "{{ year }}"}, ValueError, "uses the field 'year'"),
        ({"embedding_store_dtype": "int8"}, ValueError, "embedding_store_dtype 'int8' is unknown"),
        ({"encoder_batch_size": 0}, ValueError, "encoder_batch_size: expected an integer of"),
        ({"embedding_cache_dir": "/dev/null/x"}, StoreError, "'/dev/null/x/embeddings.sqlite' ca"),
        ({"encoder": "openai"}, EncoderError, "cannot be loaded: set encoder_model to the model's"),
    ],
)  # fmt: skip
def test_bad_settings_end_before_encoding(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder, change: dict[str, Any],
    error: type[Exception], message: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=message):
        attach.item_embeddings(PlainConfig({**config, **change}), make_dataset())
    assert encoder.seen == []


def test_the_plugin_of_an_encoder_that_fails_is_named(
    config: PlainConfig, make_dataset: Make, encoder: CountingEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fails(texts: list[str]) -> np.ndarray:
        raise EncoderError("gone")

    monkeypatch.setattr(encoder, "encode", fails)
    with pytest.raises(EncoderError, match="^gone$"):
        attach.item_embeddings(config, make_dataset())
    counting = Registered(EncoderSpec("counting", lambda config: encoder), "acme")
    monkeypatch.setitem(get_registry().tables[EncoderSpec], "counting", counting)
    with pytest.raises(EncoderError, match="^encoder 'counting' of plugin 'acme': gone$"):
        attach.item_embeddings(config, make_dataset())

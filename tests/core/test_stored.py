"""What a checkpoint stores of a configuration, and what loading accepts of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from recbole.config import Config as RecBoleConfig

from recbole_llm.core.checkpoints.stored import (
    NEVER_STORED,
    arguments_for_reload,
    check_required_keys,
    keys_required_for_vectors,
    plain_config,
    trusted_settings,
)
from recbole_llm.core.checks import key_marks
from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import default_config_files, get_model, list_models
from recbole_llm.core.plugins.registry import ModelSpec
from recbole_llm.core.settings import defaults
from recbole_llm.models.pad.settings import PADSettings

OF_RECBOLE = ("SASRecF", "DIN", "DIEN", "FM", "CKE", "KGAT", "MultiVAE", "EASE", "Pop", "S3Rec")


def test_a_plain_configuration_holds_no_objects() -> None:
    from recbole.utils import ModelType

    values = {
        "device": torch.device("cpu"), "MODEL_TYPE": ModelType.GENERAL, "a": (1, {"b": None}),
        "path": Path("x"), "n": np.int64(3), "encoder_base_url": "http://here",
    }  # fmt: skip
    plain = plain_config(cast(Any, SimpleNamespace(final_config_dict=values)))
    assert plain == {"MODEL_TYPE": "GENERAL", "a": [1, {"b": None}], "path": "x", "n": 3}


@pytest.mark.parametrize("model", sorted({*list_models(), *OF_RECBOLE}))
def test_a_configuration_comes_back_as_it_was(model: str) -> None:
    given = {"topk": [5, 10], "data_path": "there", "learning_rate": 0.5, "seed": 7}
    config = Config(model, "shop", config_dict=given)
    again = Config(stored=trusted_settings(plain_config(config), "x.pth"))
    for values in (again.final_config_dict, config.final_config_dict):
        # Tuples come back as lists.
        values.update({k: list(v) for k, v in values.items() if isinstance(v, tuple)})
    assert again.final_config_dict == config.final_config_dict
    assert again.model_class is config.model_class


def test_what_a_run_shows_is_not_what_loading_shows() -> None:
    """A run that hid warnings would hide those of its checkpoint: "titles have changed"."""
    shown = {"verbose": True, "state": "ERROR", "show_progress": False}
    config = Config("BPR", "shop", config_dict={"data_path": "there", **shown})
    again = Config(stored=trusted_settings({**plain_config(config), **shown}, "x.pth"))
    assert (again["verbose"], again["state"].upper(), again["show_progress"]) == (
        False,
        "INFO",
        True,
    )


def stored(model: str = "SASRec", **changes: Any) -> dict[str, Any]:
    config = Config(model, "shop", config_dict={"data_path": "there"})
    return {**plain_config(config), **changes}


def test_the_users_own_settings_beat_the_stored_ones() -> None:
    Path("a.yaml").write_text("data_path: mine\nseed: 3")
    own = trusted_settings(stored(seed=1, epochs=2, topk=[7]), "x.pth")
    config = Config(None, None, ["a.yaml"], {"epochs": 9}, ["--topk=[10]"], stored=own)
    assert (config["seed"], config["epochs"], config["topk"]) == (3, 9, [10])
    assert config["data_path"] == str(Path("mine/shop"))


@pytest.mark.parametrize(("loss", "drawn"), [("CE", False), ("BPR", True)])
def test_negatives_that_recboles_config_drew_beside_cross_entropy_are_not_taken(
    monkeypatch: pytest.MonkeyPatch, loss: str, drawn: bool
) -> None:
    """RecBole's configuration refuses such negatives only for RecBole's own models."""
    monkeypatch.setattr("sys.argv", ["x"])
    given = {**defaults(PADSettings), "loss_type": loss, "data_path": "there"}
    config = RecBoleConfig(get_model("PAD"), "shop", default_config_files("PAD"), given)
    assert config["train_neg_sample_args"]["distribution"] == "uniform"
    again = Config(stored=trusted_settings(plain_config(config), "x.pth"))
    assert (again["train_neg_sample_args"]["distribution"] == "uniform") == drawn


def test_the_loss_of_a_plugin_without_settings_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec("Mine", "recbole_llm.models.stock.sasrec:SASRec")
    monkeypatch.setattr("recbole_llm.core.checkpoints.stored.spec_by_name", lambda name: spec)
    given = {"model": "Mine", "dataset": "x", "data_path": "d/x", "loss_type": "BCE", "own": 3}
    assert trusted_settings(given, "f")["loss_type"] == "BCE" and "own" not in trusted_settings(
        given, "f"
    )


@pytest.mark.parametrize("key", [key for key, mark in key_marks().items() if mark & NEVER_STORED])
def test_keys_that_are_never_taken(key: str) -> None:
    assert key not in trusted_settings(stored("PAD", **{key: "/elsewhere"}), "x.pth")


@pytest.mark.parametrize(
    ("model", "given", "found"),
    [
        ("RaCT", {"train_stage": "finetune"}, {"pre_model_path": "x.pth"}),
        ("S3Rec", {"train_stage": "pretrain"}, {"pre_model_path": None}),
        ("KD_DAGFM", {"phase": "distillation"}, {"warm_up": "x.pth"}),
        ("ConvNCF", {"train_method": "after_pretrain"}, {"train_method": "no_pretrain"}),
        ("NeuMF", {"use_pretrain": True}, {"use_pretrain": False}),
    ],
)
def test_a_model_that_began_with_weights_of_a_file_is_built_without_it(
    model: str, given: dict[str, Any], found: dict[str, Any]
) -> None:
    own = trusted_settings(
        stored(model, **given, pre_model_path="/elsewhere", warm_up="/elsewhere"), "x.pth"
    )
    assert {key: own.get(key) for key in found} == found


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("KD_DAGFM", "teacher", "__import__('os').system('touch executed')"),
        ("KD_DAGFM", "teacher", "quit"),
        ("PAD", "encoder_model", "/home/me/model"),
        ("PAD", "encoder_model", "../model"),
        ("PAD", "item_prompt", "/etc/passwd.jinja"),
        ("PAD", "user_prompt", "a/b.jinja"),
        ("BAHE", "behavior_prompt", "a/b.jinja"),
        ("PAD", "item_prompt", "{{ 'x' * 10**9 }}"),
        ("PAD", "item_prompt", "{{ title | center(10**9) }}"),
        ("PAD", "item_prompt", "{% for a in range(10**9) %}x{% endfor %}{{ title }}"),
        ("PAD", "item_prompt", "{{ title }}{{ title.__class__.mro() }}"),
        ("PAD", "item_prompt", "{{ title }}" * 100),
        ("LLMCF", "thought_prompt", "a/b.jinja"),
        ("LLMCF", "generator_model", "/home/me/model"),
        ("LLMCF", "generator_base_url", "http://elsewhere/v1"),
        ("LLMCF", "generator_api_key_env", "AWS_SECRET_ACCESS_KEY"),
        ("Molar", "tune_model", "/home/me/model"),
        ("BPR", "benchmark_filename", ["../../x"]),
        ("BPR", "additional_feat_suffix", "../x"),
        ("BPR", "MODEL_TYPE", "SEQUENTIAL"),
        ("BPR", "no_such_key", 1),
        ("NeuMF", "mf_train", "a b; c"),
    ],
)
def test_values_that_are_not_taken(model: str, key: str, value: Any) -> None:
    assert key not in trusted_settings(stored(model, **{key: value}), "x.pth")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder_model", "sentence-transformers/all-MiniLM-L6-v2"),
        ("item_prompt", "{{ title }} / {{ brand }}"),
        ("item_prompt", "{{ titles[0] }}, {{ item.brand }}: {{ rating | int }} of 5"),
        ("item_prompt", "title"),
        ("teacher", "mean"),
    ],
)
def test_values_that_are_taken(key: str, value: str) -> None:
    assert trusted_settings(stored("LLMESR", **{key: value}), "x.pth")[key] == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "does not say its model"),
        ({"dataset": ["shop"]}, "does not say its dataset"),
        ({"data_path": ""}, "does not say its data_path"),
        ({"dataset": "../../etc"}, "'../../etc' is no name of a data set"),
        ({"model": "PDA"}, "model 'PDA' is unknown; did you mean 'PAD'"),
        ({"encoder": "no_such"}, "encoder 'no_such' is unknown"),
        ({3: 4}, "holds no configuration of a trained model"),
    ],
)
def test_what_cannot_be_used_at_all(changes: dict[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trusted_settings({**stored(), **changes}, "x.pth")


def test_what_the_loading_of_a_checkpoint_needs_again() -> None:
    given = {
        "item_prompt": "./mine.jinja", "user_prompt": "{{ titles[0] }}", "encoder_model": "./model",
        "embedding_cache_dir": "cache", "encoder_device": "cpu", "gamma": 0.5,
    }  # fmt: skip
    Path("mine.jinja").write_text("{{ title }}")
    # A key that PAD does not read needs no repetition.
    of_others = {"decoder_model": "./other"}
    config = Config("PAD", "shop", config_dict={**given, **of_others, "data_path": "there"})
    said = ["embedding_cache_dir=cache", "encoder_model=./model", "item_prompt=./mine.jinja"]
    assert sorted(arguments_for_reload(config)) == [f"--{pair}" for pair in said]
    config.external_config_dict["plugins"] = ["one.py", "two.py"]
    assert "--plugins=one.py,two.py" in arguments_for_reload(config)
    config.external_config_dict["plugins"] = [1, 2]  # a plugin's key may hold such a list
    assert "--plugins=[1, 2]" in arguments_for_reload(config)
    del config.external_config_dict["plugins"]
    assert sorted(keys_required_for_vectors(config)) == ["encoder_model", "item_prompt"]


def test_loading_needs_nothing_that_wrote_chains_of_thought() -> None:
    """The checkpoint holds what was made of them."""
    Path("mine.jinja").write_text("{{ history }} {{ target }}")
    given = {
        "generator_model": "./model", "tune_model": "./model", "thought_prompt": "./mine.jinja",
        "data_path": "there",
    }  # fmt: skip
    for model in ("LLMCF", "LLMCFRetrieval"):
        config = Config(model, "shop", config_dict=given)
        assert arguments_for_reload(config) == keys_required_for_vectors(config) == []
    check_required_keys(config, ["generator_model", "thought_prompt"], "an_older.pth")


def test_what_a_checkpoint_needs_and_is_not_given() -> None:
    given = {"data_path": "there", "encoder_model": "./elsewhere", "encoder_adapter": None}
    config = Config("PAD", "shop", config_dict=given)
    check_required_keys(config, ["encoder_model", "encoder_adapter", "gamma", 3], "x.pth")
    check_required_keys(config, None, "x.pth")
    message = "with item_prompt and embedding_path, .* give --item_prompt=… --embedding_path=… as"
    with pytest.raises(ValueError, match=message):
        check_required_keys(config, ["item_prompt", "encoder_model", "embedding_path"], "x.pth")


def test_stored_values_pass_the_checks_of_any_configuration() -> None:
    with pytest.raises(ValueError, match="hidden_size: expected an integer of at least 1, got 'x'"):
        Config(stored=trusted_settings(stored(hidden_size="x"), "x.pth"))

"""Classes that extend a registered model, whether they are registered themselves or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recbole.config import Config as RecBoleConfig
from recbole.model.abstract_recommender import GeneralRecommender

from recbole_llm import default_config_files, get_model, load_data_and_model, run_recbole_llm
from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import find_model, get_registry
from recbole_llm.core.plugins.registry import ModelSpec, Registered
from recbole_llm.core.plugins.specs import model_defaults, spec_by_name, spec_of, spec_of_class
from recbole_llm.core.settings import Count, Settings
from recbole_llm.features.attach import model_reads
from recbole_llm.models.pad.settings import PADSettings
from recbole_llm.offline.run import stages_of
from recbole_llm.trainers.stock import get_trainer, trainer_of

MODELS = ("SASRec", "PAD", "LLMCF", "AlphaRec", "BPR", "S3Rec", "BERT4Rec")
QUIET = {"epochs": 1, "show_progress": False, "data_path": "dataset"}


def mine(model: str) -> type[Any]:
    return type("Mine", (get_model(model),), {})


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("model", MODELS)
def test_a_class_has_keys_parts_and_trainer_of_the_model_that_it_extends(model: str) -> None:
    own, theirs = Config(mine(model), "tiny"), Config(model, "tiny")
    named = {"model": "Mine"}
    assert own.final_config_dict == {**theirs.final_config_dict, **named}
    assert (model_reads(own), stages_of(own)) == (
        model_reads(theirs),
        stages_of(theirs),
    )
    assert trainer_of(mine(model), own.spec) is trainer_of(get_model(model), theirs.spec)


def registered(monkeypatch: pytest.MonkeyPatch, extended: str, **parts: Any) -> ModelSpec:
    """Register the model 'Mine' of a plugin, whose class extends another model's."""
    spec = ModelSpec("Mine", mine(extended), **parts)
    monkeypatch.setitem(get_registry().tables[ModelSpec], "Mine", Registered(spec, "test"))
    return spec


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("model", MODELS)
def test_a_registered_model_takes_what_it_leaves_out_from_the_model_that_it_extends(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(monkeypatch, model)
    own, theirs = Config("Mine", "tiny"), Config(model, "tiny")
    assert own.final_config_dict == {**theirs.final_config_dict, "model": "Mine"}
    assert (model_reads(own), stages_of(own)) == (
        model_reads(theirs),
        stages_of(theirs),
    )
    assert get_trainer("Mine") is get_trainer(model)
    assert own.spec.name == spec_by_name("Mine").name == "Mine"


@pytest.mark.usefixtures("tiny")
def test_a_registered_model_keeps_what_it_has_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(PADSettings):
        hidden_size: int = 256

    registered(monkeypatch, "PAD", settings=Wide, reads=("user_text",))
    config = Config("Mine", "tiny")
    assert (config["hidden_size"], config["gamma"]) == (256, 0.2)
    assert model_reads(config) == ("user_text",)
    assert get_trainer("Mine") is get_trainer("PAD")


@pytest.mark.usefixtures("tiny")
def test_a_checkpoint_of_a_registered_model_has_the_keys_of_the_model_that_it_extends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered(monkeypatch, "SASRec")
    result = run_recbole_llm("Mine", "tiny", config_dict={**QUIET, "hidden_size": 32})
    assert load_data_and_model(result["checkpoint"])[1].hidden_size == 32


def test_phases_want_a_trainer_of_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, "PAD", trainer="recbole_llm.trainers.stock:Trainer")
    with pytest.raises(ValueError, match="trainer 'Trainer' of model 'Mine' trains no phases"):
        get_trainer("Mine")


def test_a_trainer_of_phases_wants_a_model_of_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = "recbole_llm.trainers.phased:PhasedTrainer"
    registered(monkeypatch, "SASRec", trainer=trainer)
    with pytest.raises(ValueError, match="trains phases, but the model has none; let the model"):
        get_trainer("Mine")


@pytest.mark.usefixtures("tiny")
def test_a_class_that_extends_a_model_trains_as_it() -> None:
    extended = mine("SASRec")
    result = run_recbole_llm(extended, "tiny", config_dict=QUIET)
    plain = run_recbole_llm("SASRec", "tiny", config_dict=QUIET)
    assert result["test_result"] == plain["test_result"]
    loaded = load_data_and_model(result["checkpoint"], config_dict={"model": extended})[1]
    assert type(loaded) is extended and loaded.hidden_size == 64


def test_a_class_of_a_class_and_one_that_extends_no_model() -> None:
    further, alone = type("Further", (mine("PAD"),), {}), type("Alone", (), {})
    assert spec_of_class(further).reads == spec_of_class(get_model("PAD")).reads
    assert spec_of_class(further).model is further
    assert spec_of_class(alone) == ModelSpec("Alone", alone)


def test_the_trainer_of_a_class() -> None:
    alone = type("Alone", (GeneralRecommender,), {})
    assert get_trainer(mine("PAD")) is get_trainer("PAD")
    assert get_trainer(alone) is get_trainer("BPR")


@pytest.mark.usefixtures("tiny")
def test_recboles_own_configuration_has_the_spec_of_its_class() -> None:
    model = get_model("PAD")
    config = RecBoleConfig(model, "tiny", default_config_files("PAD"), {"data_path": "dataset"})
    assert spec_of(config).name == "PAD"


def test_a_class_of_a_plugins_model_has_the_spec_of_its_class_by_whatever_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = type("Net", (get_model("LightGCN"),), {})
    spec = ModelSpec("mynet", net, reads=("item_text",))
    monkeypatch.setitem(get_registry().tables[ModelSpec], "mynet", Registered(spec, "test"))
    assert spec_of_class(net) == replace(spec, base="LightGCN")
    further = spec_of_class(type("Further", (net,), {}))
    assert (further.name, further.reads) == ("mynet", ("item_text",))


@pytest.mark.usefixtures("tiny")
def test_a_class_that_extends_a_model_and_has_the_name_of_another_is_the_first() -> None:
    own = type("PAD", (get_model("BPR"),), {})
    config = Config(own, "tiny", config_dict=QUIET)
    assert (config.spec.name, spec_of(config).name) == ("BPR", "BPR")
    assert (model_reads(config), stages_of(config)) == ((), [])
    assert spec_of_class(type("PAD", (), {})) == find_model("PAD")  # PAD's module run as a script


def test_a_plugin_that_registers_recboles_class_takes_nobody_elses_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = ModelSpec("OfMine", get_model("BPR"), reads=("item_text",))
    monkeypatch.setitem(get_registry().tables[ModelSpec], "OfMine", Registered(spec, "test"))
    assert spec_of_class(type("X", (get_model("BPR"),), {})).name == "BPR"


@pytest.mark.usefixtures("tiny")
def test_a_class_that_extends_recboles_own_sasrec_trains_as_recboles() -> None:
    # An import would switch on torch's detection of anomalies.
    stock = next(c for c in get_model("SASRec").__mro__ if c.__module__.startswith("recbole."))
    own = type("Mine", (stock,), {})
    assert "recall@10" in run_recbole_llm(own, "tiny", config_dict=QUIET)["test_result"]


class Wide(Settings):
    """Keys of a plugin's model."""

    width: Count = 32
    """Width."""
    depth: Count = 2
    """Depth."""


def test_a_yaml_file_of_some_keys_beats_the_settings_class() -> None:
    Path("wide.yaml").write_text("depth: 3\n")
    spec = ModelSpec("Wide", get_model("BPR"), settings=Wide, config="wide.yaml")
    assert model_defaults(spec) == {"width": 32, "depth": 3}
    assert model_defaults(ModelSpec("Plain", get_model("BPR"))) == {}

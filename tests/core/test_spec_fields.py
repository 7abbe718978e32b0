"""Plugins with faulty modules or specs are named and left out, and other plugins still work."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from recbole_llm import EncoderSpec, FeatureSpec, ModelSpec, StageSpec
from recbole_llm.core.checks import parts_of
from recbole_llm.core.config import Config
from recbole_llm.core.plugins import loading
from recbole_llm.core.plugins.spec_fields import check_spec
from recbole_llm.data.create import create_dataset
from recbole_llm.trainers.stock import trainer_of

BPR = "recbole.model.general_recommender:BPR"
NAME = "which is no name: take letters"
TARGET = "expected 'package.module:Name', got"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ModelSpec(3, BPR), f"plugin 'acme' registers the model 3, {NAME}"),  # type: ignore[arg-type]
        (ModelSpec(["a"], BPR), f"registers the model .'a'., {NAME}"),  # type: ignore[arg-type]
        (ModelSpec("a/b", BPR), f"registers the model 'a/b', {NAME}"),
        (ModelSpec("..", BPR), f"registers the model '..', {NAME}"),
        (StageSpec("-x", "x:s"), f"registers the stage '-x', {NAME}"),
        (EncoderSpec("", "x:e"), f"registers the encoder '', {NAME}"),
        (ModelSpec("M", 5), "^model 'M' of plugin 'acme': model: expected a class, or 'package"),  # type: ignore[arg-type]
        (ModelSpec("M", "module"), f"model: {TARGET} 'module'"),
        (ModelSpec("M", ""), f"model: {TARGET} ''"),
        (ModelSpec("M", ".module:M"), f"model: {TARGET} '.module:M'"),
        (ModelSpec("M", BPR, trainer=len), "trainer: expected a class"),  # type: ignore[arg-type]
        (ModelSpec("M", BPR, dataset="x.M"), f"dataset: {TARGET} 'x.M'"),
        (ModelSpec("M", BPR, reads=None), "reads: expected a tuple of names, got None"),  # type: ignore[arg-type]
        (ModelSpec("M", BPR, stages=(1,)), "stages: expected a tuple of names"),  # type: ignore[arg-type]
        (EncoderSpec("e", 4), "factory: expected a function or class"),  # type: ignore[arg-type]
        (FeatureSpec("f", "x:b", settings="s"), f"settings: {TARGET} 's'"),
        (FeatureSpec("f", None), "build: expected a function or class, .* got None"),  # type: ignore[arg-type]
        (ModelSpec("M", None), "model: expected a class, .* got None"),  # type: ignore[arg-type]
        (ModelSpec("M", BPR, summary=None), "summary: expected a text, got None"),  # type: ignore[arg-type]
        (ModelSpec("M", BPR, config=5), "config: expected a YAML file, got 5"),  # type: ignore[arg-type]
        (StageSpec("s", "x"), f"stage 's' of plugin 'acme': stage: {TARGET} 'x'"),
    ],
)  # fmt: skip
def test_a_field_of_another_kind_is_refused(spec: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_spec(spec, "acme")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit('no license')", "SystemExit: no license"),
        (
            "from recbole_llm import hookimpl\n\n@hookimpl\ndef register_models(register):\n"
            "    raise SystemExit(3)",
            "SystemExit: 3",
        ),
        ("def register_models(register):\n    pass", "plugin 'acme' implements no hook: put @ho"),
        ("raise ValueError('a\\nb')", "ValueError: a b"),
    ],
)
def test_a_plugin_that_ends_the_process_or_does_nothing_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    (tmp_path / "acme_at_fault.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("acme", "acme_at_fault", loading.ENTRY_POINT_GROUP)
    monkeypatch.setattr(loading, "entry_points", lambda group: [point])
    monkeypatch.delitem(sys.modules, "acme_at_fault", raising=False)
    loaded = loading.build_plugins()
    assert said in loaded.failed["acme"] and "PAD" in loaded.registry.tables[ModelSpec]
    assert not loaded.manager.has_plugin("acme")


def with_models(monkeypatch: pytest.MonkeyPatch, *specs: ModelSpec) -> None:
    loaded = loading.build_plugins()
    loaded.registry.add(specs, origin="acme")
    monkeypatch.setattr(loading, "get_plugins", lambda: loaded)


def test_a_model_that_is_no_model_is_named_with_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    with_models(monkeypatch, ModelSpec("M", "json:dumps"), ModelSpec("N", dict))
    for name in "MN":
        with pytest.raises(
            ValueError, match=f"^model '{name}' of plugin 'acme': .* is no class of"
        ):
            loading.get_model(name)


@pytest.mark.usefixtures("tiny")
def test_parts_that_are_not_there_are_named_with_their_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = ModelSpec("D", BPR, dataset="json:JSONDecoder")
    with_models(monkeypatch, dataset)
    with pytest.raises(ValueError, match="^model 'M': feature 'item_txt' is unknown; did you mean"):
        parts_of(ModelSpec("M", BPR, reads=("item_txt",)))
    model = loading.get_model("BPR")
    with pytest.raises(ValueError, match="^trainer of model 'M' names 'nosuch:T'"):
        trainer_of(model, ModelSpec("M", BPR, trainer="nosuch:T"))
    with pytest.raises(ValueError, match="^trainer 'dumps' of model 'M' lacks"):
        trainer_of(model, ModelSpec("M", BPR, trainer="json:dumps"))
    with pytest.raises(ValueError, match="^data set of model 'D': .* extends no data set class of"):
        create_dataset(Config("D", "tiny", config_dict={"data_path": "dataset"}))

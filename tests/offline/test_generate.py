"""Stages whose texts language models write, and the feature made of these texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_generators import Echo, Priced

from recbole_llm import Config, features_of, prepare, testing
from recbole_llm.core.plugins import loading
from recbole_llm.core.plugins.registry import ModelSpec, Registered, StageSpec
from recbole_llm.data.rows.training import training_interactions
from recbole_llm.offline.generate import GenerateStage
from recbole_llm.offline.generators import Generator
from recbole_llm.offline.run import prepare_data, stages_of
from recbole_llm.offline.stage import StageError
from recbole_llm.testing import HashEncoder

ECHO = Echo()


class Opinions(GenerateStage):
    """A text for the first training interaction of each of three users."""

    name = "opinions"

    def prompts(self) -> Mapping[str, str]:
        users, items = training_interactions(self.dataset)
        _, first = np.unique(users, return_index=True)
        tokens = self.dataset.field2id_token
        pairs = [(tokens["user_id"][users[i]], tokens["item_id"][items[i]]) for i in first[:3]]
        return {f"{user}\t{item}": f"Why does {user} like {item}?" for user, item in pairs}

    def generators(self) -> list[Echo]:
        return [ECHO]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The configuration of a model that reads item texts and texts about examples."""
    testing.write_tiny_dataset("dataset")
    registry = loading.get_registry()
    spec = ModelSpec(
        "Opinionated", "recbole.model.general_recommender:BPR",
        reads=("item_text", "example_text"), stages=("opinions",),
    )  # fmt: skip
    monkeypatch.setitem(registry.tables[ModelSpec], "Opinionated", Registered(spec, "test"))
    monkeypatch.setitem(
        registry.tables[StageSpec], "opinions", Registered(StageSpec("opinions", Opinions), "test")
    )
    ECHO.asked.clear()
    return Config("Opinionated", "tiny", config_dict=keys(tmp_path))


def keys(folder: Path) -> dict[str, Any]:
    cache = {"embedding_cache_dir": str(folder / "cache")}
    return {"data_path": "dataset", "encoder": "hash", "show_progress": False, **cache}


def test_stages_of_a_model_are_done_once_in_order(config: Config, tmp_path: Path) -> None:
    assert [spec.name for spec in stages_of(config)] == ["encode", "opinions"]
    first = prepare("Opinionated", "tiny", config_dict=keys(tmp_path))
    assert [(r.name, r.units_before, r.units_done) for r in first] == [
        ("encode", 0, 60),
        ("opinions", 0, 3),
    ]
    again = prepare("Opinionated", "tiny", config_dict=keys(tmp_path))
    assert [str(report) for report in again] == [
        "encode: there already (60 texts)",
        "opinions: there already (3 texts)",
    ]
    assert len(ECHO.asked) == 3


def test_examples_that_share_a_prompt_count_once(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Opinions, "prompts", lambda _: {"a": "Why?", "b": "Why?", "c": "How?"})
    report = prepare("Opinionated", "tiny", config_dict=keys(tmp_path))[1]
    assert (report.units_before, report.units_done) == (0, 2)


def test_the_cost_is_logged_before_the_first_text(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    class Noting(Priced):
        def cost(self, prompts: Sequence[str]) -> str:
            counts.append(len(prompts))
            return super().cost(prompts)

        def generate(self, prompts: Sequence[str]) -> Sequence[str]:
            assert counts == [1, 1, 1, 9]  # one prompt each to compare prices, then all
            return super().generate(prompts)

    monkeypatch.setattr(Opinions, "generators", lambda self: [Noting(n, "a") for n in range(3)])
    prepare_data(config)
    assert counts == [1, 1, 1, 9]


def test_generated_texts_are_a_feature(config: Config) -> None:
    train = prepare_data(config)[1].dataset
    table = features_of(train)["example_text"]
    asked = Opinions(config, train).prompts()
    assert table.tokens == ["[PAD]", *asked]
    expected = HashEncoder().encode([f"about {prompt}" for prompt in asked.values()])
    np.testing.assert_array_equal(table.matrix, np.vstack([np.zeros(16), expected]))
    assert features_of(train)["example_text"] is table


def test_other_training_interactions_make_another_artifact(config: Config, tmp_path: Path) -> None:
    stage = Opinions(config, prepare_data(config)[1].dataset)
    other = {**keys(tmp_path), "eval_args": {"split": {"RS": [5, 3, 2]}, "order": "RO"}}
    changed = Config("Opinionated", "tiny", config_dict=other)
    assert Opinions(changed, prepare_data(changed)[1].dataset).fingerprint != stage.fingerprint


class Unnamed(Generator):
    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        return prompts


@pytest.mark.parametrize(
    ("generators", "message"),
    [
        (ECHO, r"generators\(\) returned a Echo; it must return a list of generators"),
        ([object()], "object must extend recbole_llm.offline.generators.Generator"),
        ([Unnamed()], "Unnamed has no fingerprint, which a generator needs"),
    ],
)
def test_objects_that_are_no_generators_are_refused(
    config: Config, monkeypatch: pytest.MonkeyPatch, generators: object, message: str
) -> None:
    monkeypatch.setattr(Opinions, "generators", lambda _: generators)
    with pytest.raises(StageError, match=f"^stage opinions: {message}"):
        prepare_data(config)


@pytest.mark.parametrize("content", ["", "[]\n", '["a", 1]\n', "{\n", "\x00"])
def test_a_damaged_artifact_names_what_to_delete(config: Config, content: str) -> None:
    stage = Opinions(config, prepare_data(config)[1].dataset)
    stage.complete()
    (stage.path / "texts.jsonl").write_text(content)
    with pytest.raises(StageError, match=f"is damaged .*delete '{stage.path}'"):
        stage.texts()


def test_an_artifact_that_lost_its_last_lines_is_damaged(config: Config) -> None:
    stage = Opinions(config, prepare_data(config)[1].dataset)
    stage.complete()
    file = stage.path / "texts.jsonl"
    file.write_text(file.read_text().splitlines(keepends=True)[0])
    with pytest.raises(StageError, match=r"is damaged \(2 of 3 examples are not in it\); delete '"):
        stage.texts()


def test_the_artifact_has_a_pair_per_line(config: Config) -> None:
    stage = Opinions(config, prepare_data(config)[1].dataset)
    stage.complete()
    lines = (stage.path / "texts.jsonl").read_text().splitlines()
    assert dict(json.loads(line) for line in lines) == stage.texts()


def test_a_model_without_a_text_stage_is_named(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = prepare_data(config)[1].dataset
    spec = ModelSpec("Opinionated", "x:Y", reads=("example_text",))
    monkeypatch.setattr(train.config, "spec", spec)
    with pytest.raises(ValueError, match="'example_text': Opinionated has no stage that generates"):
        features_of(train)["example_text"]


@pytest.mark.parametrize(("part", "name"), [("reads", "item_txt"), ("stages", "encod")])
def test_unknown_features_and_stages_are_refused(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str, name: str
) -> None:
    spec = ModelSpec("Opinionated", "recbole.model.general_recommender:BPR", **{part: (name,)})
    monkeypatch.setitem(
        loading.get_registry().tables[ModelSpec], "Opinionated", Registered(spec, "test")
    )
    with pytest.raises(ValueError, match=f"'{name}' is unknown; did you mean"):
        Config("Opinionated", "tiny", config_dict=keys(tmp_path))

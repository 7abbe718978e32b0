"""Generated texts: asked for once, kept as they come, cleaned, and read as a feature."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llm import Config, features_of, prepare, testing
from recbole_llm.core.plugins import loading
from recbole_llm.core.plugins.registry import ModelSpec, Registered, StageSpec
from recbole_llm.data.training import training_interactions
from recbole_llm.features.generated_texts import TextStore
from recbole_llm.offline.ask import generate_texts, tell_cost
from recbole_llm.offline.generate import GenerateStage
from recbole_llm.offline.run import prepare_data, stages_of
from recbole_llm.offline.stage import StageError
from recbole_llm.testing import HashEncoder


class Echo:
    """Says what it was asked; it may break down at a prompt."""

    fingerprint = "echo-1"
    batch_size = 3

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.breaks_at: int | None = None

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        if self.breaks_at is not None and len(self.asked) >= self.breaks_at:
            raise KeyboardInterrupt
        self.asked += prompts
        return [f"about\x00 {p}" for p in prompts]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TextStore]:
    with closing(TextStore(tmp_path / "cache")) as opened:
        yield opened


def test_each_prompt_is_asked_once(store: TextStore) -> None:
    echo = Echo()
    texts, done = generate_texts(echo, store, ["b", "a", "b"], progress=False)
    assert (texts, done, echo.asked) == (["about b", "about a", "about b"], 2, ["b", "a"])
    texts, done = generate_texts(echo, store, ["a", "c"], progress=False)
    assert (texts, done, echo.asked) == (["about a", "about c"], 1, ["b", "a", "c"])


def test_empty_texts_are_counted(store: TextStore, caplog: pytest.LogCaptureFixture) -> None:
    class Refuses(Echo):
        def generate(self, prompts: Sequence[str]) -> Sequence[str]:
            return ["" if p < "c" else p for p in prompts]

    generate_texts(Refuses(), store, ["a", "b", "b", "c"], progress=False)
    (record,) = caplog.records
    assert "2 of 3 texts are empty" in record.getMessage()


def test_where_all_texts_are_empty_none_is_kept(store: TextStore) -> None:
    """So that a generator that has been put right is asked."""

    class Empty(Echo):
        def generate(self, prompts: Sequence[str]) -> Sequence[str]:
            return ["" for _ in prompts]

    prompts = ["a", "b", "c", "d", "e"]
    with pytest.raises(StageError, match="^Generating: the language model wrote nothing .* of 5 p"):
        generate_texts(Empty(), store, prompts, progress=False)
    assert len(store) == 0
    echo = Echo()
    assert generate_texts(echo, store, prompts, progress=False)[1] == 5

    class Late(Echo):
        fingerprint = "late"

        def generate(self, prompts: Sequence[str]) -> Sequence[str]:
            return [p if p == "d" else "" for p in prompts]

    assert generate_texts(Late(), store, prompts, progress=False) == (["", "", "", "d", ""], 5)
    assert len(store) == 10


class Priced(Echo):
    def __init__(self, number: int, price: str) -> None:
        super().__init__()
        self.fingerprint, self.price = f"priced-{number}", price

    def cost(self, prompts: Sequence[str]) -> str:
        return f"{len(prompts)} prompts at {self.price}"


def test_the_cost_of_all_generators_is_on_the_screen(
    store: TextStore, caplog: pytest.LogCaptureFixture
) -> None:
    priced = [Priced(number, price) for number, price in enumerate("aaba")]
    generate_texts(priced[1], store, ["x"], progress=False)
    generate_texts(priced[3], store, ["x", "y"], progress=False)
    with caplog.at_level("INFO", "recbole_llm"):
        tell_cost([*priced, Echo()], store, ["x", "y", "x"], "thoughts")
    said = [record.getMessage() for record in caplog.records]
    assert said == ["thoughts: 3 prompts at a", "thoughts: 2 prompts at b"]
    assert all(hasattr(record, "shown") for record in caplog.records)


def test_a_generator_may_hand_over_texts_as_they_come(store: TextStore) -> None:
    class Eager(Echo):
        def write(self, prompts: Sequence[str], keep: Callable[[Mapping[str, str]], None]) -> None:
            for number, prompt in enumerate(reversed(prompts), 1):
                keep({prompt: f"about {prompt}"})
                assert len(store) == number

    echo = Eager()
    texts, done = generate_texts(echo, store, ["a", "b", "c", "d"], progress=False)
    assert (texts, done) == ([f"about {p}" for p in "abcd"], 4) and not echo.asked


def test_a_broken_run_goes_on_where_it_was(store: TextStore) -> None:
    echo, prompts = Echo(), [f"p{i}" for i in range(10)]
    echo.breaks_at = 6
    with pytest.raises(KeyboardInterrupt):
        generate_texts(echo, store, prompts, progress=False)
    assert len(store) == 6
    echo.breaks_at = None
    texts, done = generate_texts(echo, store, prompts, progress=False)
    assert (done, len(echo.asked)) == (4, 10)
    assert texts == [f"about {p}" for p in prompts]


class Chorus(Echo):
    """Its texts depend on the prompts beside them."""

    together = True

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        return [f"{text} of {prompts}" for text in super().generate(prompts)]


@pytest.mark.parametrize("before", [[], ["p1"], ["p0", "p1"], ["p0", "p1", "p2"]])
def test_what_was_stored_before_changes_no_text(store: TextStore, before: list[str]) -> None:
    prompts = [f"p{i}" for i in range(8)]
    generate_texts(Chorus(), store, before, progress=False)
    chorus = Chorus()
    texts, done = generate_texts(chorus, store, prompts, progress=False)
    batches = [prompts[:3], prompts[3:6], prompts[6:]]
    assert texts == [f"about {p} of {batch}" for batch in batches for p in batch]
    assert done == len(chorus.asked) == (5 if len(before) == 3 else 8)


def test_another_generator_is_not_served_these_texts(store: TextStore) -> None:
    generate_texts(Echo(), store, ["a"], progress=False)
    other = Echo()
    other.fingerprint = "echo-2"
    assert generate_texts(other, store, ["a"], progress=False)[1] == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (["one"], "gave 1 texts for 2 prompts"),
        ("ab", "gave 2 texts for 2 prompts"),
        (["a", None], "gave a NoneType in place of a text"),
        (None, "gave a NoneType in place of texts"),
    ],
)
def test_a_bad_generator_is_found_out_and_nothing_stored(
    store: TextStore, answer: Any, message: str
) -> None:
    echo = Echo()
    echo.generate = lambda prompts: answer  # type: ignore[method-assign]
    with pytest.raises(StageError, match=message):
        generate_texts(echo, store, ["a", "b"], progress=False)
    assert len(store) == 0


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
    """Of a model that reads item texts and texts about examples."""
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


def test_a_models_stages_are_done_in_order_and_once(config: Config, tmp_path: Path) -> None:
    assert [spec.name for spec in stages_of(config)] == ["encode", "opinions"]
    first = prepare("Opinionated", "tiny", config_dict=keys(tmp_path))
    assert [(r.name, r.there, r.done) for r in first] == [("encode", 0, 60), ("opinions", 0, 3)]
    again = prepare("Opinionated", "tiny", config_dict=keys(tmp_path))
    assert [str(report) for report in again] == [
        "encode: there already (60 texts)",
        "opinions: there already (3 texts)",
    ]
    assert len(ECHO.asked) == 3


def test_the_cost_of_a_stage_is_told_before_its_first_text(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    class Telling(Priced):
        def cost(self, prompts: Sequence[str]) -> str:
            told.append(len(prompts))
            return super().cost(prompts)

        def generate(self, prompts: Sequence[str]) -> Sequence[str]:
            assert told == [1, 1, 1, 9]  # whether they are alike, then the sum
            return super().generate(prompts)

    monkeypatch.setattr(Opinions, "generators", lambda self: [Telling(n, "a") for n in range(3)])
    prepare_data(config)
    assert told == [1, 1, 1, 9]


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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ECHO, r"generators\(\) returned a Echo; it is to return a list of generators"),
        ([object()], r"object is no generator, which has a fingerprint and generate\(prompts\)"),
    ],
)
def test_what_is_no_generator_is_named(
    config: Config, monkeypatch: pytest.MonkeyPatch, given: object, message: str
) -> None:
    monkeypatch.setattr(Opinions, "generators", lambda _: given)
    with pytest.raises(StageError, match=f"^stage opinions: {message}"):
        prepare_data(config)


@pytest.mark.parametrize("content", ["", "[]\n", '["a", 1]\n', "{\n", "\x00"])
def test_a_damaged_artifact_names_what_to_delete(config: Config, content: str) -> None:
    stage = Opinions(config, prepare_data(config)[1].dataset)
    stage.complete()
    (stage.path / "texts.jsonl").write_text(content)
    if content:
        with pytest.raises(StageError, match=f"is damaged .*delete '{stage.path}'"):
            stage.texts()
    else:
        assert stage.texts() == {}


def test_lines_of_the_artifact_are_pairs(config: Config) -> None:
    stage = Opinions(config, prepare_data(config)[1].dataset)
    stage.complete()
    lines = (stage.path / "texts.jsonl").read_text().splitlines()
    assert dict(json.loads(line) for line in lines) == stage.texts()


def test_a_model_without_such_a_stage(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    train = prepare_data(config)[1].dataset
    spec = ModelSpec("Opinionated", "x:Y", reads=("example_text",))
    monkeypatch.setattr(train.config, "spec", spec)
    with pytest.raises(ValueError, match="'example_text': Opinionated has no stage that generates"):
        features_of(train)["example_text"]


@pytest.mark.parametrize(("part", "name"), [("reads", "item_txt"), ("stages", "encod")])
def test_unknown_names_are_refused_with_the_configuration(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str, name: str
) -> None:
    spec = ModelSpec("Opinionated", "recbole.model.general_recommender:BPR", **{part: (name,)})
    monkeypatch.setitem(
        loading.get_registry().tables[ModelSpec], "Opinionated", Registered(spec, "test")
    )
    with pytest.raises(ValueError, match=f"'{name}' is unknown; did you mean"):
        Config("Opinionated", "tiny", config_dict=keys(tmp_path))

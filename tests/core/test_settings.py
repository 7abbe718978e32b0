"""Settings classes: types, ranges and choices, in one-line errors; listings; YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import pytest
from pydantic import model_validator
from pydantic.fields import FieldInfo

from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import ModelSpec, resolve
from recbole_llm.core.settings import (
    Count,
    Dropout,
    Flag,
    Names,
    Nested,
    Settings,
    Text,
    defaults,
    key_infos,
)
from recbole_llm.core.type_names import type_name
from recbole_llm.core.yaml_files import property_files, read_yaml, render


class Sampling(Nested):
    """Inside."""

    kind: Literal["uniform", "popularity"] = "uniform"
    """Kind."""
    number: Count = 1
    """Number."""


class Example(Settings):
    """An example."""

    dropout: Dropout = 0.5
    """On the
    inputs."""
    layers: Count = 2
    """Layers."""
    shuffle: Flag = True
    """Whether."""
    revision: Text | None = None
    """Revision."""
    parts: Names | None = None
    """Parts."""
    groups: list[Literal["items", "users"]] = []
    """Groups."""
    sampling: Sampling | None = None
    """Sampling."""

    @model_validator(mode="after")
    def _even(self) -> Self:
        if self.layers == 13:
            raise ValueError("layers: 13 brings bad luck")
        return self


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": 1.5}, "dropout: expected a number of at least 0 and below 1, got 1.5"),
        (
            {"dropout": float("nan")},
            "dropout: expected a number of at least 0 and below 1, got nan",
        ),
        ({"layers": 0}, "layers: expected an integer of at least 1, got 0"),
        ({"layers": True}, "layers: expected an integer of at least 1, got True"),
        ({"layers": 2.0}, "layers: expected an integer of at least 1, got 2.0"),
        ({"layers": 13}, "layers: 13 brings bad luck"),
        ({"shuffle": 2}, "shuffle: expected True or False, got 2"),
        ({"revision": [1]}, "revision: expected a text or None, got [1]"),
        ({"parts": ["a", [2]]}, "parts: expected a list, each a text or None, got ['a', [2]]"),
        (
            {"groups": ["itms"]},
            "groups 'itms' is unknown; did you mean 'items'? choose from items, users",
        ),
        ({"sampling": 3}, "sampling: expected a dict or None, got 3"),
        (
            {"sampling": {"kind": "unifrm"}},
            "sampling: kind 'unifrm' is unknown; did you mean 'uniform'? choose from uniform, "
            "popularity",
        ),
        ({"sampling": {"number": 0}}, "sampling: number: expected an integer of at least 1, got 0"),
        (
            {"sampling": {"numbr": 1}},
            "sampling: the key 'numbr' is unknown; did you mean 'number'? choose from kind, number",
        ),
    ],
)
def test_a_value_that_cannot_be_ends_in_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Example.of(values)
    assert str(error.value) == message


def test_a_single_choice_is_its_own_name() -> None:
    of_recbole = dict[str, int] | Literal["None"] | None
    words = "a dict, each value an integer or None"
    assert type_name(FieldInfo.from_annotation(of_recbole)) == words
    assert type_name(FieldInfo.from_annotation(Literal["a", "b"])) == "one of a, b"


def test_a_key_without_default_must_be_set() -> None:
    class Demanding(Settings):
        """Demanding."""

        width: Count
        """Width."""
        depth: Count = 2
        """Depth."""

    assert defaults(Demanding) == {"depth": 2}
    assert [info.default for info in key_infos(Demanding)] == ["…", 2]
    with pytest.raises(ValueError) as error:
        Demanding.of({"depth": 1})
    assert str(error.value) == "width: has no default: set --width, an integer of at least 1"
    assert Demanding.of({"width": 3}).width == 3


def test_other_keys_are_left_alone_and_literals_get_their_type() -> None:
    made = Example.of({"other": 1, "shuffle": 1, "revision": 12, "parts": ("a", 5), "dropout": 0})
    assert (made.shuffle, made.revision, made.parts, made.dropout) == (True, "12", ["a", "5"], 0.0)
    with pytest.raises(ValueError, match="frozen"):
        made.layers = 3  # type: ignore[misc]


def test_keys_are_listed_with_type_default_and_meaning() -> None:
    first = next(iter(key_infos(Example)))
    assert (first.key, first.default, first.meaning) == ("dropout", 0.5, "On the inputs.")
    assert first.type == "a number of at least 0 and below 1"
    assert defaults(Example)["sampling"] is None


def test_a_rendered_file_holds_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(render(Example))
    assert read_yaml(file) == defaults(Example)
    assert "# (a number of at least 0 and below 1) On the inputs.\ndropout: 0.5" in render(Example)


def test_the_files_of_properties_are_those_of_the_classes() -> None:
    for file, text in property_files().items():
        assert file.read_text(encoding="utf-8") == text, (
            f"{file.name} differs from its class: python -m recbole_llm.core.yaml_files"
        )


def test_every_key_of_every_class_has_a_meaning() -> None:
    registry = get_registry()
    classes = [
        *registry.settings,
        *(s.settings for s in registry.specs(ModelSpec).values() if s.settings),
    ]
    for settings in map(resolve, classes):
        for info in key_infos(settings):
            assert info.meaning, f"{settings.__name__}.{info.key}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "the key 'a' is given twice"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("[1, 2]", "must hold 'key: value' lines"),
        ("a: [1", "is not valid YAML"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_yaml(file)
    assert "\n" not in str(error.value)


def test_mappings_may_share_their_keys(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: &all {x: 1, y: 1}\nb: {<<: *all, y: 2}")
    assert read_yaml(file)["b"] == {"x": 1, "y": 2}


def test_floats_are_recboles(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: 1e-3\nb: 1.5\nc: 12\nd: 1e3\ne: .5\nf: 1.e-2")
    assert read_yaml(file) == {"a": 0.001, "b": 1.5, "c": 12, "d": 1000.0, "e": 0.5, "f": 0.01}


def test_a_search_space_that_is_no_mapping_is_refused_with_its_class() -> None:
    with pytest.raises(ValueError, match=r"^Wrong: search_space: expected \{key: \(a, b\)\}$"):

        class Wrong(Settings):
            search_space = ("width", (32, 64))  # type: ignore[assignment]


@pytest.mark.parametrize("name", ["check", "search_space"])
def test_a_key_that_would_hide_a_part_of_settings_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^Own: '{name}' is a name of Settings itself; rename"):
        type("Own", (Settings,), {"__annotations__": {name: int}, name: 3, "__module__": __name__})

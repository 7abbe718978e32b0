"""Marks of keys: what they do, and that no key lacks a mark that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from recbole_llm.core.checkpoints.stored import NEVER_STORED, plain_config, trusted_settings
from recbole_llm.core.checks import key_marks
from recbole_llm.core.config import Config
from recbole_llm.core.keys.run import RunSettings
from recbole_llm.core.marks import Local, Mark, NoEffectOnResults
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import EncoderSpec, Registered, resolve
from recbole_llm.core.settings import Count, Settings, Text
from recbole_llm.tasks.zero_shot.run import _check_same_encoder

# Texts that are no file or address: names of fields, metrics, kinds, tokens, revisions; a prefix.
PLAIN = {
    "valid_metric", "metrics", "eval_args", "encoder", "encoder_revision", "encoder_prefix",
    "encoder_token", "generator_revision", "item_title_field", "item_image_field",
    "mirm_description_field", "behavior_field",
}  # fmt: skip


def own_classes() -> Iterator[type[Settings]]:
    """This package's settings classes, except those of RecBole's keys."""
    registry = get_registry()
    named = {part.spec.settings for _, part in registry.all_registered()} - {None}
    yield from map(resolve, {RunSettings, *registry.settings, *named})


def takes_any_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return False
    return annotation in (str, Any) or any(map(takes_any_text, get_args(annotation)))


def test_a_key_whose_text_may_be_a_file_or_an_address_is_marked() -> None:
    marks = key_marks()
    texts = {
        key: settings.__name__
        for settings in own_classes()
        for key, field in settings.model_fields.items()
        if takes_any_text(field.annotation)
    }
    assert PLAIN <= texts.keys()
    bounded = NEVER_STORED | Mark.MODEL_NAME | Mark.TEMPLATE
    unmarked = {key: name for key, name in texts.items() if not marks[key] & bounded}
    assert not unmarked.keys() - PLAIN, (
        f"{unmarked}: mark them, such as Local[Text | None] (core/marks.py), or, if no text leads "
        "to a file or an address, name them here in PLAIN"
    )


@pytest.mark.parametrize("ending", ["_url", "_key_env", "_path", "_dir", "_folder", "_pretrained"])
def test_names_of_places_are_local(ending: str) -> None:
    found = [key for s in own_classes() for key in s.model_fields if key.endswith(ending)]
    assert found and all(key_marks()[key] & Mark.LOCAL for key in found)


class LetterSettings(Settings):
    """A plugin's encoder."""

    encoder_letters: Count = 26
    """Letters that count."""
    encoder_letters_file: Local[Text | None] = None
    """File of them."""
    encoder_letters_at_once: NoEffectOnResults[Count] = 8
    """Texts at once."""


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EncoderSpec("letters", "acme:Letters", settings=LetterSettings)
    monkeypatch.setitem(get_registry().tables[EncoderSpec], "letters", Registered(spec, "test"))


@pytest.mark.usefixtures("letters")
def test_a_plugins_marks_count() -> None:
    given = {"encoder": "letters", "encoder_letters": 3, "encoder_letters_file": "/home/me",
             "encoder_letters_at_once": 4}  # fmt: skip
    config = Config("PAD", "shop", config_dict=given)
    stored = plain_config(config)
    assert stored["encoder_letters"] == 3 and stored["encoder_letters_at_once"] == 4
    assert "encoder_letters_file" not in stored
    back = trusted_settings({**stored, "encoder_letters_file": "/elsewhere"}, "x.pth")
    assert back["encoder_letters"] == 3 and "encoder_letters_file" not in back
    assert "encoder_letters_at_once" not in plain_config(
        config, NEVER_STORED | Mark.NO_EFFECT_ON_RESULTS
    )
    other = Config("PAD", "shop", config_dict={**given, "encoder_letters_at_once": 5})
    _check_same_encoder([config, other])
    other = Config("PAD", "shop", config_dict={**given, "encoder_letters": 4})
    with pytest.raises(ValueError, match="^encoder_letters: 3 for data set 'shop', but 4"):
        _check_same_encoder([config, other])


def test_a_plugin_that_lacks_a_package_leaves_the_other_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = key_marks()
    spec = EncoderSpec("letters", "acme:Letters", settings="no_such_package:Settings")
    monkeypatch.setitem(get_registry().tables[EncoderSpec], "letters", Registered(spec, "test"))
    assert key_marks() == before


def test_a_mark_changes_neither_type_nor_check() -> None:
    field: FieldInfo = LetterSettings.model_fields["encoder_letters_at_once"]
    assert field.annotation is int and Mark.NO_EFFECT_ON_RESULTS in field.metadata
    with pytest.raises(ValueError, match="at_once: expected an integer of at least 1, got 0"):
        LetterSettings.of({"encoder_letters_at_once": 0})

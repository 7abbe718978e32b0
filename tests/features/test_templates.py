from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llm.features.templates import PromptError, Template, find_template


def template(source: str) -> Template:
    return Template(source, f"the template '{source}'", "item_prompt")


def test_rendering_strips_and_does_not_escape() -> None:
    assert (
        template("  {{ a }} & {{ item['b-c'] }}\n").render({"a": "<x>", "item": {"b-c": "y"}})
        == "<x> & y"
    )


def test_names_that_a_template_needs() -> None:
    source = "{{ a }}{% if b is defined %}{{ b }}{% endif %}{{ c | default('') }}"
    assert template(source).variables() == {"a"}


def test_an_unknown_field_is_named_with_the_template_and_the_fields_there_are() -> None:
    expected = (
        r"item_prompt: the template '\{\{ titel \}\}' uses the field 'titel', which is not there; "
        r"did you mean 'title'\? there are: genre, title"
    )
    with pytest.raises(PromptError, match=expected):
        template("{{ titel }}").check({"title", "genre"})


@pytest.mark.parametrize(
    "source",
    [
        "{{ item.titel }}",
        "{{ item['titel'] }}",
        "{% for x in item.titel %}{% endfor %}",
        "{% if item.titel %}{% endif %}",
        "{{ item.titel + 'x' }}",
        "{{ item.titel | upper }}",
        "{{ item.titel | length }}",
        "{{ item.titel == 'x' }}",
        "{{ item.titel.part }}",
        "{{ item.titel() }}",
    ],
)
def test_an_unknown_field_of_item_is_named_however_it_is_used(source: str) -> None:
    with pytest.raises(PromptError, match="uses the field 'titel', which is not there; did you"):
        template(source).render({"item": {"title": "x"}})


def test_other_failures_name_the_template() -> None:
    with pytest.raises(PromptError, match="item_prompt: the template '.*' fails: .*zero"):
        template("{{ 1 / 0 }}").render({})
    with pytest.raises(PromptError, match="is not a valid template: "):
        template("{{ a ")


def test_the_sandbox_holds() -> None:
    with pytest.raises(PromptError):
        template("{{ ''.__class__.__mro__ }}").render({})


def test_defaults_are_found_by_data_set() -> None:
    assert "movie_title" in find_template(None, "k", "item", "ml-100k").variables()
    assert find_template(None, "k", "item", "other").variables() == {"fields"}
    assert find_template(None, "k", "user", "other").variables() == {"titles"}


def test_a_template_a_path_or_a_name(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{{ a }}!")
    assert find_template(str(file), "k", "item", "x").render({"a": 1}) == "1!"
    assert find_template("{{ a }}?", "k", "item", "x").render({"a": 1}) == "1?"
    assert find_template("ml-100k.item", "k", "item", "x").variables() >= {"movie_title"}


@pytest.mark.parametrize("value", ["mlk-100k.item", "none.jinja", "title"])
def test_anything_else_lists_the_names(value: str) -> None:
    with pytest.raises(PromptError, match=rf"k: '{value}' is neither a template .*names: item, ml"):
        find_template(value, "k", "item", "x")

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llm.features.contents.templates import PromptError, Template, find_template


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
    assert template("{{ c | d('') }}{% if b is undefined %}-{% endif %}").variables() == set()


def test_long_texts_are_rendered() -> None:
    text = "word " * 100_000
    assert template("{{ text }}").render({"text": text}) == text.strip()


def test_an_unknown_field_is_named_with_the_template_and_the_fields_there_are() -> None:
    expected = (
        r"item_prompt: the template '\{\{ titel \}\}' uses the field 'titel', which is not there; "
        r"did you mean 'title'\? the fields are: genre, title"
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


@pytest.mark.parametrize(
    ("source", "values", "there"),
    [
        ("{{ item.title }}", {"item": "Dark tea"}, "item"),  # a method of str
        ("{{ item.items }}", {"item": {"title": "x"}}, "item, title"),  # a method of dict
        ("{{ item.rating.x }}", {"item": "Dark tea", "rating": 3}, "item, rating"),
    ],
)
def test_a_method_or_an_attribute_of_a_text_is_no_field(
    source: str, values: dict[str, object], there: str
) -> None:
    with pytest.raises(PromptError, match=f"uses the field .*, which is not there; .*: {there}$"):
        template(source).render(values)


def test_fields_named_as_methods_are_fields_and_methods_can_be_called() -> None:
    item = {"values": "many", "copy": "no"}
    assert template("{{ item.values }}, {{ item.copy }}").render({"item": item}) == "many, no"
    listed = "{% for name, value in item.items() %}{{ name.upper() }}: {{ value }}; {% endfor %}"
    assert template(listed).render({"item": item}) == "VALUES: many; COPY: no;"


def test_other_failures_name_the_template() -> None:
    with pytest.raises(PromptError, match="item_prompt: the template '.*' fails: .*zero"):
        template("{{ 1 / 0 }}").render({})
    with pytest.raises(PromptError, match="is not a valid template: "):
        template("{{ a ")


def test_the_sandbox_holds() -> None:
    with pytest.raises(PromptError):
        template("{{ ''.__class__.__mro__ }}").render({})


def test_the_sandbox_allows_what_prompts_use() -> None:
    source = (
        "{% macro named(x) %}{{ x.title | upper | replace('A', 'b') }}{% endmacro %}"
        "{% set n = namespace(total=0) %}{% for x in items %}{% set n.total = n.total + 1 %}"
        "{{ loop.index }}/{{ loop.length }} {{ named(x) }}{{ ', ' if not loop.last }}{% endfor %} "
        "{{ n.total }} {{ 'ab' * 2 }} {{ items | map(attribute='title') | join('; ') | title }} "
        "{{ 'a' ~ 1 ~ none }} {{ 7 % 4 }} {{ 2 ** 3 }} {{ ['x', 'y'] | reverse | list }} "
        "{{ text | truncate(9) }} {{ 'x y' | wordwrap(1) | indent(2) }} {{ 1.25 | round(1) }}"
    )
    values = {"items": [{"title": "alpha"}, {"title": "beta"}], "text": "word " * 4000}
    expected = "1/2 bLPHb, 2/2 BETb 2 abab Alpha; Beta a1None 3 8 ['y', 'x'] word... x\n  y 1.2"
    assert template(source).render(values) == expected


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
def test_an_unknown_template_lists_the_names(value: str) -> None:
    with pytest.raises(PromptError, match=rf"k: '{value}' is neither a template .*names: item, ml"):
        find_template(value, "k", "item", "x")


def test_a_template_that_is_not_closed_names_the_key_and_the_way_out() -> None:
    said = r"^item_prompt: .* is not a valid template: .*'; close each \{\{ by \}\} and each "
    for text in ("{{ title", "{% if title %}x"):
        with pytest.raises(PromptError, match=said):
            find_template(text, "item_prompt", "item", "tiny")


def test_a_long_text_is_no_name_of_a_file() -> None:
    with pytest.raises(PromptError, match="item_prompt: 'aaa.* is neither a template"):
        find_template("a" * 300, "item_prompt", "item", "tiny")


@pytest.mark.parametrize("name", ["~nobody-of-this-name/a.jinja", "b.jinja"])
def test_a_file_that_cannot_be_read_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b.jinja").write_bytes(b"\xff")
    with pytest.raises(PromptError, match="item_prompt: '.*(cannot be read|is neither)"):
        find_template(name, "item_prompt", "item", "tiny")

from __future__ import annotations

import json
import os
import subprocess
import sys
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


DOUBLED = 60  # doublings: nothing that doubles so often can be held
HOSTILE = {
    "string times": "{{ 'x' * 10**9 }}",
    "list times": "{{ ['x' * 9999] * 9999 }}",
    "a long range": "{% for i in range(10**9) %}x{% endfor %}",
    "nested ranges": "{% for i in range(9999) %}" * 3 + "x" + "{% endfor %}" * 3,
    "nested loops over data": "{% for a in titles %}" * 12 + "x" + "{% endfor %}" * 12,
    "an inner loop without output": "{% for a in titles %}" * 9 + "{% endfor %}" * 9,
    "power": "{{ 2 ** (10**9) }}",
    "products of numbers": "{{ 10**2000 * 10**2000 }}",
    "center": "{{ 'x' | center(10**9) }}",
    "indent": "{{ 'x\ny' | indent(10**9) }}",
    "wordwrap": "{{ ('x ' * 9000) | wordwrap(1, wrapstring='y' * 90000) }}",
    "rounding": "{{ 1.5 | round(10**9) }}",
    "rounding up": "{{ 15 | round(2000000, 'ceil') }}",
    "tojson": "{{ titles | tojson(indent=10**9) }}",
    "a filter over many": "{{ titles | map('center', 10**6) | join }}",
    "a long separator": "{{ titles | join('x' * 100000) }}",
    "sum of lists": "{{ range(9999) | sum(start=[]) }}",
    "method": "{{ 'x'.ljust(10**9) }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent filter": "{{ '%1000000000d' | format(1) }}",
    "lipsum": "{{ lipsum(n=10**6) }}",
    "strip": "{{ ('a' * 90000).strip('b' * 90000 ~ 'a') }}",
    "tilde": "{% set x = 'xx' %}" + "{% set x = x ~ x %}" * DOUBLED + "{{ x }}",
    "plus": "{% set x = 'xx' %}" + "{% set x = x + x %}" * DOUBLED + "{{ x }}",
    "join": "{% set x = 'xx' %}" + "{% set x = [x, x] | join %}" * DOUBLED + "{{ x }}",
    "replace": "{% set x = 'xx' %}" + "{% set x = x | replace('x', 'xx') %}" * DOUBLED,
    "block set": "{% set x = 'xx' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * DOUBLED,
    "nested lists": "{% set x = [1] %}" + "{% set x = [x, x] %}" * DOUBLED + "{{ x }}",
    "comparison": "{% set x = [1] %}{% set y = [1] %}"
    + "{% set x = [x, x] %}{% set y = [y, y] %}" * DOUBLED
    + "{{ x == y }}",
    "a namespace": "{% set n = namespace(x='a') %}{% for i in range(99) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a macro that calls itself": "{% macro a() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
    "a block that calls itself": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "a loop that calls itself": "{% for a in titles recursive %}{{ loop(titles) }}"
    "{{ loop(titles) }}{% endfor %}",
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep blocks": "{% if a %}" * 300 + "{% endif %}" * 300,
    "a long template": "x" * 20_001,
    "a random text": "{{ titles | random }}",
    "another file": "{% include '/etc/passwd' %}",
}
RENDER = """
import json, resource, sys
from recbole_llm.features.templates import PromptError, Template
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for name, source in json.load(sys.stdin).items():
    try:
        Template(source, "the template", "item_prompt").render({"titles": list("abcdefghij")})
        print(name, "passed")
    except PromptError as error:
        if not str(error).startswith("item_prompt: the template ") or "\\n" in str(error):
            print(name, error)
print("end")
"""


def test_hostile_templates_end_soon_in_one_line_that_names_the_key() -> None:
    """In a process of its own, with a deadline for all of them and 2 GiB of memory."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", RENDER], input=json.dumps(HOSTILE), capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("end\n", 0), done.stderr[-2000:]


def test_what_prompts_need_is_within_the_bounds() -> None:
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
    made = template(source)
    assert made.render(values) == expected
    assert made.render(values) == expected  # the budget is each rendering's own


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


def test_a_template_that_is_not_closed_names_the_key_and_the_way_out() -> None:
    said = r"^item_prompt: .* is not a valid template: .*'; close each \{\{ by \}\} and each "
    for text in ("{{ title", "{% if title %}x"):
        with pytest.raises(PromptError, match=said):
            find_template(text, "item_prompt", "item", "tiny")

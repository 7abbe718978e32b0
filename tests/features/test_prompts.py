from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pluggy
import pytest
from made_texts import PlainConfig

from recbole_llm import hookimpl, hookspecs
from recbole_llm.data.rows import training
from recbole_llm.features.contents import plugin_texts, prompts
from recbole_llm.features.contents.templates import PromptError

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def manager(monkeypatch: pytest.MonkeyPatch) -> pluggy.PluginManager:
    """A plugin manager without plugins except those that a test registers."""
    found = pluggy.PluginManager(hookspecs.PROJECT)
    found.add_hookspecs(hookspecs)
    monkeypatch.setattr(plugin_texts, "get_plugin_manager", lambda: found)
    return found


class Giving:
    """A plugin that gives texts."""

    def __init__(self, **texts: Any) -> None:
        self.texts = texts

    @hookimpl
    def item_texts(self, config: Any, dataset: Any) -> Any:
        return self.texts.get("item_texts")

    @hookimpl
    def user_texts(self, config: Any, dataset: Any) -> Any:
        return self.texts.get("user_texts")


@pytest.fixture
def histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """u1 has the items 10, 20, 30 and 10, u3 has 20, and u2 has no training interaction."""
    users, items = np.array([1, 1, 1, 1, 3]), np.array([1, 2, 3, 1, 2])
    monkeypatch.setattr(training, "training_interactions", lambda dataset: (users, items))


def test_default_item_texts(config: PlainConfig, make_dataset: Make) -> None:
    assert prompts.item_texts(config, make_dataset()) == {
        "10": "movie title: Toy Story; genre: comedy",
        "20": "movie title: Heat; genre: crime",
        "30": "movie title: Babe",
    }


def test_a_keyword_is_told_without_its_underscore(config: PlainConfig, make_dataset: Make) -> None:
    items = "item_id:token\tclass_:token\tin:token\tin_:token\n1\ta\tb\tc\n"
    texts = prompts.item_texts(config, make_dataset(items, tokens=("1",)))
    assert texts == {"1": "class: a; in: b; in : c"}


def test_the_column_of_pictures_is_not_told(config: PlainConfig, make_dataset: Make) -> None:
    config["item_image_field"] = "genre"
    assert prompts.item_texts(config, make_dataset())["20"] == "movie title: Heat"


def test_a_template_sees_every_column_as_text(config: PlainConfig, make_dataset: Make) -> None:
    config["item_prompt"] = "{{ movie_title }} costs {{ price }} ({{ item['item_id'] }})"
    assert prompts.item_texts(config, make_dataset())["10"] == "Toy Story costs 1.5 (10)"


def test_items_without_row_or_text_are_left_out(config: PlainConfig, make_dataset: Make) -> None:
    config["item_prompt"] = "{{ genre }}"
    texts = prompts.item_texts(config, make_dataset(tokens=("10", "30", "99")))
    assert texts == {"10": "comedy"}


def test_sequences_of_other_separators(config: PlainConfig, make_dataset: Make) -> None:
    config.update(field_separator=",", seq_separator="|")
    items = "item_id:token,genre:token_seq\n1,a b|c\n"
    assert prompts.item_texts(config, make_dataset(items, tokens=("1",))) == {"1": "genre: a b, c"}


def test_ml_100k_default(config: PlainConfig, make_dataset: Make) -> None:
    items = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    items += "1\tToy Story\t1995\tAnimation Children's Comedy\n267\tunknown\t\tunknown\n"
    config["dataset"] = "ml-100k"
    assert prompts.item_texts(config, make_dataset(items, tokens=("1", "267"))) == {
        "1": "Toy Story (1995). Genres: Animation, Children's, Comedy",
        "267": "unknown. Genres: unknown",
    }


def test_a_missing_item_file_is_named(config: PlainConfig, make_dataset: Make) -> None:
    with pytest.raises(PromptError, match=r"dataset 'small' has no file '.*small\.item' to make"):
        prompts.item_texts(config, make_dataset(items=None))


@pytest.mark.parametrize(
    ("field", "near"), [("movie_titel", "did you mean 'movie_title'? it has"), ("zzz", "it has")]
)
def test_an_unknown_title_field_is_refused(
    config: PlainConfig, make_dataset: Make, field: str, near: str
) -> None:
    config["item_title_field"] = field
    with pytest.raises(PromptError, match=re.escape(f"has no field '{field}'; {near} ")):
        prompts.titles_if_any(config, make_dataset())


def test_an_item_file_without_text_fields(config: PlainConfig, make_dataset: Make) -> None:
    dataset = make_dataset("item_id:token\tprice:float\n10\t1\n", tokens=("10",))
    with pytest.raises(PromptError, match=r"has no text field .* it has item_id:token, price:floa"):
        prompts.item_texts(config, dataset)
    assert prompts.titles_if_any(config, dataset) == {}
    config["item_prompt"] = "price {{ price }}"
    assert prompts.item_texts(config, dataset) == {"10": "price 1"}


def test_an_unknown_field_of_a_template(config: PlainConfig, make_dataset: Make) -> None:
    config["item_prompt"] = "{{ title }}"
    with pytest.raises(PromptError, match="uses the field 'title'.*the fields are: .*genre"):
        prompts.item_texts(config, make_dataset())


@pytest.mark.usefixtures("histories")
def test_default_user_texts_are_titles_in_order(config: PlainConfig, make_dataset: Make) -> None:
    assert prompts.user_texts(config, make_dataset()) == {
        "u1": "The user's items, oldest first: Toy Story; Heat; Babe; Toy Story",
        "u3": "The user's items, oldest first: Heat",
    }


@pytest.mark.usefixtures("histories")
def test_the_last_items_of_a_history(config: PlainConfig, make_dataset: Make) -> None:
    config["user_prompt_max_items"] = 2
    config["user_prompt"] = "{{ titles | join(',') }}/{{ items[-1].genre }}"
    assert prompts.user_texts(config, make_dataset()) == {
        "u1": "Babe,Toy Story/comedy",
        "u3": "Heat/crime",
    }


@pytest.mark.usefixtures("histories")
def test_user_fields(config: PlainConfig, make_dataset: Make) -> None:
    config["user_prompt"] = "{{ user.age }}: {{ titles[0] }}"
    dataset = make_dataset(user="user_id:token\tage:token\nu1\t24\nu3\t53\n")
    assert prompts.user_texts(config, dataset) == {"u1": "24: Toy Story", "u3": "53: Heat"}


@pytest.mark.usefixtures("histories")
def test_the_title_field_can_be_chosen(config: PlainConfig, make_dataset: Make) -> None:
    config["user_prompt"] = "{{ titles | join(',') }}"
    config["item_title_field"] = "genre"
    assert prompts.user_texts(config, make_dataset())["u1"] == "comedy,crime,comedy"
    config["item_title_field"] = "gender"
    with pytest.raises(PromptError, match="item_title_field: .* has no field 'gender'; did you me"):
        prompts.user_texts(config, make_dataset())


@pytest.mark.parametrize(
    ("others", "title"),
    [
        (["brand_name", "subtitle"], "title"),
        (["category_name", "title_de"], "name"),
        (["brand_name", "supplier_name"], "Product_Name"),
        (["brand_name", "class"], "book_title"),
        (["class", "genre"], "nickname"),
        ([], "class"),
    ],
)
def test_the_title_is_the_field_whose_name_fits_best(
    config: PlainConfig, make_dataset: Make, others: list[str], title: str
) -> None:
    fields = [*others, title]
    header = "".join(f"\t{name}:token" for name in fields)
    row = "".join(f"\tthe {name}" for name in fields)
    dataset = make_dataset(f"item_id:token{header}\n10{row}\n", tokens=("10",))
    assert prompts.item_titles(config, dataset) == {"10": f"the {title}"}


@pytest.mark.usefixtures("histories")
def test_texts_of_plugins_replace_both(
    config: PlainConfig, make_dataset: Make, manager: pluggy.PluginManager
) -> None:
    given = {"item_texts": {"10": "ten", "20": "", "x": "y"}, "user_texts": {"u1": "first"}}
    plugin = Giving(**given)
    manager.register(plugin, "acme")
    dataset = make_dataset(items=None)
    assert prompts.item_texts(config, dataset) == {"10": "ten"}
    assert prompts.user_texts(config, dataset) == {"u1": "first"}
    del plugin.texts["user_texts"]
    assert prompts.user_texts(config, dataset) == {"u1": "The user's items, oldest first: ten; ten"}


@pytest.mark.usefixtures("histories")
@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan"), pd.NA])
def test_texts_that_a_plugin_lacks_are_missing(
    config: PlainConfig, make_dataset: Make, manager: pluggy.PluginManager, missing: object
) -> None:
    manager.register(Giving(item_texts={"10": "ten", "20": missing}), "acme")
    dataset = make_dataset(items=None)
    assert prompts.item_texts(config, dataset) == {"10": "ten"}
    assert prompts.user_texts(config, dataset) == {"u1": "The user's items, oldest first: ten; ten"}


@pytest.mark.parametrize("hook", ["item_texts", "user_texts"])
@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"10": "ten", "20": 7}, "the text of '20' is of type int, not str"),
        ({10: "ten", 20: "x"}, "not one key is a token of the data set: keys are like 10, tokens"),
    ],
)
def test_texts_of_a_plugin_that_cannot_be_used_are_refused_with_its_name(
    config: PlainConfig,
    make_dataset: Make,
    manager: pluggy.PluginManager,
    hook: str,
    texts: dict[Any, Any],
    said: str,
) -> None:
    manager.register(Giving(**{hook: texts}), "acme")
    dataset = make_dataset(items=None)
    with pytest.raises(PromptError, match=f"^{hook} of plugin 'acme': {said}"):
        getattr(prompts, hook)(config, dataset)
    if hook == "item_texts" and 10 in texts:  # for items that came later
        assert prompts.item_texts(config, dataset, ["40"]) == {}

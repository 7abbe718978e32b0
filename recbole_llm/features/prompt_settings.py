"""Settings of the prompts. Light on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole_llm.core.settings import ConfigLike, Count, FieldName, Prompt, Settings

if TYPE_CHECKING:
    from recbole_llm.features.templates import Template


class PromptSettings(Settings):
    """Prompts: jinja2 templates over the fields of the .item file.

    Fields are read as text, whatever load_col says. A value is a template, the path of a .jinja
    file, or a name in properties/prompt.
    """

    item_prompt: Prompt = None
    """Template of an item's text, over its fields; besides these, `item` holds all of them and
    `fields` the named text and categorical ones but the id. None: the data set's in
    properties/prompt, else all text and categorical fields, named."""

    user_prompt: Prompt = None
    """Template of a user's text over `titles`, `items` and `user`, of training interactions alone.
    None: the data set's in properties/prompt, else the titles."""

    user_prompt_max_items: Count = 20
    """Items of a user's training history that the prompt sees: the last ones, and of these so many
    as fit the encoder's limit of tokens."""

    item_title_field: FieldName | None = None
    """Field that `titles` are read from; None: the first called title or name, else the first text
    field."""

    def check(self, config: ConfigLike) -> None:
        """Raise PromptError for a template that cannot be found, parsed or filled."""
        self.item_template(str(config["dataset"]))
        self.user_template(str(config["dataset"]))

    def item_template(self, dataset: str) -> Template:
        """The template of the items' texts; ValueError where it cannot be found or read."""
        from recbole_llm.features.templates import find_template

        return find_template(self.item_prompt, "item_prompt", "item", dataset)

    def user_template(self, dataset: str) -> Template:
        """The template of the users' texts; ValueError as above, or where it asks for more."""
        from recbole_llm.features.templates import find_template

        template = find_template(self.user_prompt, "user_prompt", "user", dataset)
        template.check({"titles", "items", "user"})
        return template

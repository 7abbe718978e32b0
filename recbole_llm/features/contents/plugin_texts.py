"""Texts that plugins provide through the hooks ``item_texts`` and ``user_texts``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pandas import isna
from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_plugin_manager
from recbole_llm.features.contents.templates import PromptError


def ask_plugins(hook: str, config: Config, dataset: Dataset) -> dict[str, str] | None:
    """The texts that a plugin's hook gives, without missing ones; None if no plugin gives any.

    Raises:
        PromptError: the hook returned anything else.
    """
    texts = getattr(get_plugin_manager().hook, hook)(config=config, dataset=dataset)
    if texts is None:
        return None
    if not isinstance(texts, Mapping):
        raise PromptError(
            f"{_hook_and_plugin(hook)} returned a {type(texts).__name__}; it must return "
            f"{{token: text}}, or None to pass"
        )
    # NaN and NA stand for texts that a data frame lacks; isna of a list is an array.
    present = {token: text for token, text in texts.items() if isna(text) is not True}
    for token, text in present.items():
        if not isinstance(text, str):
            raise PromptError(
                f"{_hook_and_plugin(hook)}: the text of {token!r} is of type "
                f"{type(text).__name__}, not str; None stands for a missing text"
            )
    return present


def check_tokens(hook: str, texts: Mapping[str, str], tokens: Sequence[str]) -> None:
    """Refuse texts whose keys include none of these tokens, such as texts by row number."""
    if texts and tokens and not any(token in texts for token in tokens):
        raise PromptError(
            f"{_hook_and_plugin(hook)}: not one key is a token of the data set: keys are like "
            f"{next(iter(texts))!r}, tokens like {tokens[0]!r}"
        )


def name_source(hook: str, file: str) -> str:
    """Name what to complete if texts are missing: the file, or what a plugin's hook returns."""
    hooked = getattr(get_plugin_manager().hook, hook).get_hookimpls()
    return f"what {_hook_and_plugin(hook)} returns, or the {file}" if hooked else f"the {file}"


def _hook_and_plugin(hook: str) -> str:
    """A hook with all its plugins, such as ``item_texts of plugin 'acme'``: pluggy does not say
    which one answered."""
    caller = getattr(get_plugin_manager().hook, hook)
    plugins = " or ".join(f"'{hookimpl.plugin_name}'" for hookimpl in caller.get_hookimpls())
    return f"{hook} of plugin {plugins}"

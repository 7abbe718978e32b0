"""Texts that plugins give by the hooks ``item_texts`` and ``user_texts``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pandas import isna
from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_plugin_manager
from recbole_llm.features.templates import PromptError


def given_texts(hook: str, config: Config, dataset: Dataset) -> dict[str, str] | None:
    """What a plugin's hook gives, without missing texts; ValueError for what are no texts."""
    texts = getattr(get_plugin_manager().hook, hook)(config=config, dataset=dataset)
    if texts is None:
        return None
    if not isinstance(texts, Mapping):
        raise PromptError(
            f"{_named(hook)} returned a {type(texts).__name__}; it is to return {{token: text}}, "
            f"or None to pass"
        )
    # NaN and NA stand for texts that a data frame lacks; of a list isna gives an array.
    given = {token: text for token, text in texts.items() if isna(text) is not True}
    for token, text in given.items():
        if not isinstance(text, str):
            raise PromptError(
                f"{_named(hook)}: the text of {token!r} is of type "
                f"{type(text).__name__}, not str; None stands for a missing text"
            )
    return given


def check_tokens(hook: str, texts: Mapping[str, str], tokens: Sequence[str]) -> None:
    """Refuse texts of which not one is of a token, such as those by number."""
    if texts and tokens and not any(token in texts for token in tokens):
        raise PromptError(
            f"{_named(hook)}: not one key is a token of the data set: keys are like "
            f"{next(iter(texts))!r}, tokens like {tokens[0]!r}"
        )


def _named(hook: str) -> str:
    """``item_texts of plugin 'acme'``: pluggy does not say whose answer it took."""
    caller = getattr(get_plugin_manager().hook, hook)
    plugins = " or ".join(f"'{own.plugin_name}'" for own in caller.get_hookimpls())
    return f"{hook} of plugin {plugins}"

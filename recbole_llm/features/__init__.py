"""From the fields of items and users to vectors in the order of RecBole's ids.

``attach`` is the entry point: it returns features by name. ``text`` builds the features made of
texts: ``contents`` makes the texts, ``encoders`` turns them into vectors, ``stored`` caches the
vectors, and ``tables`` puts them into the order of the ids.
"""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import FeatureSpec
from recbole_llm.hookspecs import hookimpl

_HERE = "recbole_llm.features"
_ITEM_FEATURES = {
    "item_text": "vectors of the items' texts",
    "item_image": "vectors of the items' pictures",
    "item_multimodal": "vectors of the items' texts and pictures together",
    "item_states": "hidden states of a decoder's layer over the items' texts",
}
ENCODED = (*_ITEM_FEATURES, "user_text")  # features that the configured encoder makes


@hookimpl
def register_features(register: Callable[[FeatureSpec], None]) -> None:
    """Register the features made of texts and pictures."""
    for name, content in _ITEM_FEATURES.items():
        register(FeatureSpec(name, f"{_HERE}.text:{name}", "loaded", content))
    content = "vectors of users' training histories as text"
    register(FeatureSpec("user_text", f"{_HERE}.text:user_text", "split", content, rows="users"))


@hookimpl
def register_settings(register: Callable[[str | type], None]) -> None:
    """Register the settings that every run checks; a kind of encoder has its own in addition."""
    for name in ("PromptSettings", "EncoderSettings", "StoreSettings", "ItemSettings"):
        register(f"{_HERE}.settings:{name}")

"""Sequence backbones behind one interface.

`backbone(emb [B, L, H], mask [B, L] bool, True = real) -> [B, L, H]`, where output t depends on
inputs <= t only; `backbone.last(emb, mask) -> [B, H]` is the output at the last real slot alone,
`backbone.at(emb, mask, wanted [B, L] bool) -> [T, H]` those at some real slots, row by row.
Rows may be right-padded (RecBole's layout, the fast one) or left-padded; what padded slots hold is
finite and of no meaning.
"""

from __future__ import annotations

import inspect
from typing import Any

from recbole_llm.core.errors import check_choice
from recbole_llm.layers.backbones.base import SequenceBackbone
from recbole_llm.layers.backbones.bert4rec import BERT4RecBackbone
from recbole_llm.layers.backbones.caser import CaserBackbone
from recbole_llm.layers.backbones.gru import GRU4RecBackbone
from recbole_llm.layers.backbones.settings import BackboneSettings
from recbole_llm.layers.backbones.transformer import TransformerBackbone

BACKBONES: dict[str, type[SequenceBackbone]] = {
    "SASRec": TransformerBackbone,
    "GRU4Rec": GRU4RecBackbone,
    "BERT4Rec": BERT4RecBackbone,
    "Caser": CaserBackbone,
}


def build_backbone(
    name: str, hidden_size: int, max_length: int, **options: Any
) -> SequenceBackbone:
    """The backbone called `name`, one of `BACKBONES`, with options of its constructor."""
    check_choice("backbone", name, BACKBONES)
    factory = BACKBONES[name]
    known = _options(factory)
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(f"backbone {name} has no option {unknown}; it has {sorted(known)}")
    return factory(hidden_size, max_length, **options)


def backbone_from_settings(
    settings: BackboneSettings, max_length: int, **options: Any
) -> SequenceBackbone:
    """The backbone that settings name, for histories of at most ``max_length`` items.

    Args:
        settings: keys that are None are left to the backbone.
        max_length: longest L.
        options: further arguments of its constructor, which go first.
    """
    values = {
        key: getattr(settings, key)
        for key in _options(BACKBONES[settings.backbone])
        if getattr(settings, key, None) is not None
    }
    return build_backbone(
        settings.backbone, settings.hidden_size, max_length, **{**values, **options}
    )


def _options(factory: type[SequenceBackbone]) -> set[str]:
    return set(inspect.signature(factory).parameters) - {"hidden_size", "max_length"}

"""Sequence backbones behind one interface.

`backbone(emb [B, L, H], mask [B, L] bool, True = real) -> [B, L, H]`, where output t depends on
inputs <= t only; `backbone.last(emb, mask) -> [B, H]` is the output at the last real slot alone,
`backbone.at(emb, mask, wanted [B, L] bool) -> [T, H]` those at some real slots, row by row.
Rows may be right-padded (RecBole's layout, the fast one) or left-padded; what padded slots hold is
finite and of no meaning.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from recbole_llm.layers.backbones.base import SequenceBackbone
from recbole_llm.layers.backbones.caser import CaserBackbone
from recbole_llm.layers.backbones.gru import GRU4RecBackbone
from recbole_llm.layers.backbones.settings import BackboneSettings
from recbole_llm.layers.backbones.transformer import TransformerBackbone

BACKBONES: dict[str, Callable[..., SequenceBackbone]] = {
    "SASRec": TransformerBackbone,
    "GRU4Rec": GRU4RecBackbone,
    "BERT4Rec": partial(TransformerBackbone, output_net=True),
    "Caser": CaserBackbone,
}


def backbone_from_settings(
    settings: BackboneSettings, max_length: int, **options: Any
) -> SequenceBackbone:
    """The backbone that settings name, for histories of at most ``max_length`` items.

    Args:
        settings: keys that are None are left to the backbone.
        max_length: longest L.
        options: further arguments of its constructor, which go first.
    """
    factory = BACKBONES[settings.backbone]
    values = {key: getattr(settings, key, None) for key in inspect.signature(factory).parameters}
    arguments = {key: value for key, value in values.items() if value is not None}
    return factory(max_length=max_length, **arguments | options)

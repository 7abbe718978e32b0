"""Sequence backbones behind one interface.

`backbone(emb [B, L, H], mask [B, L] bool, True = real) -> [B, L, H]`: output t depends only on
inputs <= t. `backbone.last(emb, mask) -> [B, H]` gives only the output at the last real slot, and
`backbone.at(emb, mask, wanted [B, L] bool) -> [T, H]` the outputs at some real slots, row by row.
Rows may be right-padded (RecBole's layout, which is faster) or left-padded. Outputs at padding are
finite but meaningless.
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
    """Build the backbone that `settings` names, for histories of at most ``max_length`` items.

    Args:
        settings: a key that is None keeps the backbone's own default.
        max_length: longest L.
        options: further constructor arguments, which override the settings.
    """
    factory = BACKBONES[settings.backbone]
    values = {key: getattr(settings, key, None) for key in inspect.signature(factory).parameters}
    arguments = {key: value for key, value in values.items() if value is not None}
    return factory(max_length=max_length, **arguments | options)

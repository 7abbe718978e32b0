"""Sequence backbones behind one interface.

`backbone(emb [B, L, H], mask [B, L] bool, True = real) -> [B, L, H]`, where output t depends on
inputs <= t only. Rows may be right-padded (RecBole's layout, the fast one) or left-padded; what
padded slots hold is finite and of no meaning.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from recbole_llm.core.errors import check_choice
from recbole_llm.layers.backbones.caser import CaserBackbone
from recbole_llm.layers.backbones.gru import GRU4RecBackbone
from recbole_llm.layers.backbones.transformer import BERT4RecBackbone, TransformerBackbone

BACKBONES: dict[str, type[nn.Module]] = {
    "SASRec": TransformerBackbone,
    "GRU4Rec": GRU4RecBackbone,
    "BERT4Rec": BERT4RecBackbone,
    "Caser": CaserBackbone,
}

# Options that are config keys; the others (norm_order, position, ...) are a method's own choice.
CONFIG_KEYS = (
    "n_layers",
    "n_heads",
    "inner_size",
    "hidden_dropout_prob",
    "attn_dropout_prob",
    "hidden_act",
    "layer_norm_eps",
    "initializer_range",
    "gru_hidden_size",
    "caser_window",
    "nv",
    "nh",
)


def build_backbone(name: str, hidden_size: int, max_length: int, **options: Any) -> nn.Module:
    """The backbone called `name`, one of `BACKBONES`, with options of its constructor."""
    check_choice("backbone", name, BACKBONES)
    factory = BACKBONES[name]
    known = _options(factory)
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(f"backbone {name} has no option {unknown}; it has {sorted(known)}")
    return factory(hidden_size, max_length, **options)


def backbone_from_config(config: Any, name: str | None = None, **options: Any) -> nn.Module:
    """The backbone of a config: `backbone` (or `name`), `hidden_size`, MAX_ITEM_LIST_LENGTH and
    those of `CONFIG_KEYS` that it has; `options` go first."""
    name = name or config["backbone"]
    accepted = _options(BACKBONES[name]) if name in BACKBONES else set()
    for key in CONFIG_KEYS:
        if key in accepted and key in config and config[key] is not None:
            options.setdefault(key, config[key])
    length = config["MAX_ITEM_LIST_LENGTH"]
    return build_backbone(name, config["hidden_size"], length, **options)


def _options(factory: type[nn.Module]) -> set[str]:
    return set(inspect.signature(factory).parameters) - {"hidden_size", "max_length"}

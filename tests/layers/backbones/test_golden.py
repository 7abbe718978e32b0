"""The transformer against the encoders of two papers' authors, on the authors' numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from authors_transformer import AuthorsTransformer
from torch import Tensor, nn

from recbole_llm.layers.backbones import BACKBONES


def _weights(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _pad_encoder(weights: dict[str, Tensor], config: dict) -> nn.Module:
    backbone = BACKBONES["SASRec"](
        config["embedding_dim"],
        config["max_seq_len"],
        n_layers=config["transformer_block"],
        n_heads=config["num_attention_heads"],
        hidden_act="relu",
        layer_norm_eps=1e-6,
        attention_bias=False,
    ).double()
    names = {
        "position_embedding.": "position_embedding.",
        "layer_norm.": "input_norm.",
    }
    for i in range(config["transformer_block"]):
        theirs, ours = f"transformer_blocks.{i}.", f"blocks.{i}."
        attention, forward = theirs + "multi_head_attention.", theirs + "feed_forward."
        names |= {
            attention + "w_Q.": ours + "attention.query.",
            attention + "w_K.": ours + "attention.key.",
            attention + "w_V.": ours + "attention.value.",
            attention + "fc.": ours + "attention.out.",
            attention + "layer_norm.": ours + "attention_norm.",
            forward + "w_1.": ours + "dense_1.",
            forward + "w_2.": ours + "dense_2.",
            forward + "layer_norm.": ours + "feed_forward_norm.",
        }
    state = {}
    for name, weight in weights.items():
        prefix = next(p for p in sorted(names, key=len, reverse=True) if name.startswith(p))
        state[names[prefix] + name.removeprefix(prefix)] = weight
    backbone.load_state_dict(state)
    return backbone.eval()


def test_post_norm_block_is_the_pad_authors_encoder(golden) -> None:
    arrays, meta = golden("pad_tripleexpert")
    weights = _weights(arrays, "param.user_encoder.transformer_encoder.")
    backbone = _pad_encoder(weights, meta["config"])
    items = torch.from_numpy(arrays["sample_items_id"])[:, :-1, 0]
    mask = torch.from_numpy(arrays["log_mask"]) == 1
    emb = torch.from_numpy(arrays["param.id_embedding.weight"])[items]
    ours, theirs = backbone(emb, mask), torch.from_numpy(arrays["user_vec_1"])
    torch.testing.assert_close(ours[mask], theirs[mask], rtol=0, atol=1e-12)


def _llmesr_state(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    state = {f"last_norm.{k}": weights[f"last_layernorm.{k}"] for k in ("weight", "bias")}
    for i in range(layers):
        ours = f"blocks.{i}."
        for kind in ("weight", "bias"):
            parts = weights[f"attention_layers.{i}.in_proj_{kind}"].chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                state[f"{ours}attention.{name}.{kind}"] = part
            state[f"{ours}attention.out.{kind}"] = weights[f"attention_layers.{i}.out_proj.{kind}"]
            state[f"{ours}attention_norm.{kind}"] = weights[f"attention_layernorms.{i}.{kind}"]
            state[f"{ours}feed_forward_norm.{kind}"] = weights[f"forward_layernorms.{i}.{kind}"]
            for conv in (1, 2):
                weight = weights[f"forward_layers.{i}.conv{conv}.{kind}"]
                state[f"{ours}dense_{conv}.{kind}"] = weight.squeeze(-1)
    return state


# The versions "official" and "causal" share their cross-attention, which the backbone follows.
@pytest.mark.parametrize(
    ("version", "inputs"), [("causal", "official"), ("fullcausal", "fullcausal")]
)
def test_original_block_is_the_llmesr_authors_sasrec(golden, version: str, inputs: str) -> None:
    arrays, meta = golden("llmesr_dualview")
    config = meta["config"]
    backbone = AuthorsTransformer(
        config["hidden_size"],
        config["max_len"],
        n_layers=config["trm_num"],
        n_heads=config["num_heads"],
        inner_size=config["hidden_size"],
        hidden_act="relu",
        layer_norm_eps=1e-8,
        original=True,
        position=False,
        input_norm=False,
    ).double()
    backbone.load_state_dict(_llmesr_state(_weights(arrays, "param.backbone."), config["trm_num"]))
    mask = torch.from_numpy(arrays["seq"]) != 0
    streams = (torch.from_numpy(arrays[f"{inputs}.cross_{kind}"]) for kind in ("id", "llm"))
    ours = torch.cat([backbone.eval()(stream, mask) for stream in streams], dim=2)
    theirs = torch.from_numpy(arrays[f"{version}.log_feats"])
    torch.testing.assert_close(ours[mask], theirs[mask], rtol=0, atol=1e-12)

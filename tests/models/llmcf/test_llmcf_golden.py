"""Golden parity with the LLM-CF authors' decoder, in-context feature and losses, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from authors_transformer import AuthorsTransformer
from torch import Tensor

from recbole_llm.models.llmcf.context import InContext
from recbole_llm.models.llmcf.decoder import Decoder, rotary_table

Arrays = dict[str, Tensor]


def _tensors(arrays: dict[str, np.ndarray]) -> Arrays:
    return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


def _close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def _decoder_state(arrays: Arrays, prefix: str) -> Arrays:
    """The authors' decoder weights under our names."""
    state = {"norm.weight": arrays[f"{prefix}norm.weight"]}
    for layer in range(2):
        theirs, ours = f"{prefix}layers.{layer}.", f"blocks.{layer}."
        qkv = [arrays[f"{theirs}attention.w{part}.weight"] for part in "qkv"]
        up = [arrays[f"{theirs}feed_forward.w{part}.weight"] for part in "13"]
        state |= {
            f"{ours}qkv.weight": torch.cat(qkv),
            f"{ours}out.weight": arrays[f"{theirs}attention.wo.weight"],
            f"{ours}gate_up.weight": torch.cat(up),
            f"{ours}down.weight": arrays[f"{theirs}feed_forward.w2.weight"],
            f"{ours}attention_norm.weight": arrays[f"{theirs}attention_norm.weight"],
            f"{ours}feed_forward_norm.weight": arrays[f"{theirs}ffn_norm.weight"],
        }
    return state


def test_decoder(golden: Any) -> None:
    arrays = _tensors(golden("llmcf_transformer")[0])
    decoder = Decoder(8).double()
    decoder.load_state_dict(_decoder_state(arrays, "param."))
    turns = rotary_table(13, 4)
    _close(turns.real, arrays["rope_cos"])
    _close(turns.imag, arrays["rope_sin"])
    x = arrays["x"].requires_grad_()
    _close(decoder.blocks[0](x, turns, None), arrays["layer0_out"])
    states = decoder(x)
    _close(states, arrays["y"])
    (arrays["grad_weight"] * states).sum().backward()
    assert x.grad is not None
    _close(x.grad, arrays["grad_x"])
    everyone = torch.ones(3, 1, 13, 13, dtype=torch.bool)
    for block in decoder.blocks:
        x = block(x, turns, everyone)
    _close(decoder.norm(x), arrays["y_nocausal"])
    assert Decoder(64).blocks[0].down.in_features == 96  # two thirds of 128, rounded up


class _OnSASRec(NamedTuple):
    """The authors' numbers on SASRec, and what our users' vectors are made of."""

    arrays: Arrays
    config: dict[str, Any]
    context: InContext
    user_state: Tensor  # [B, H]
    feature: Tensor  # w, [B, H]
    items: Tensor  # the table of item vectors

    @property
    def user(self) -> Tensor:
        """The users' vectors, [B, H]."""
        return self.user_state + self.config["icl_weight"] * self.feature

    def sampled_softmax(self) -> Tensor:
        """The recommendation loss, scalar."""
        targets, negatives = self.arrays["orig.target"], self.arrays["neg_ids"]
        scores = self.user @ self.items[negatives].t()
        scores = scores.masked_fill(negatives == targets[:, None], -torch.inf)
        positive = (self.user * self.items[targets]).sum(1, keepdim=True)
        return -torch.cat([positive, scores], 1).log_softmax(1)[:, 0].mean()


@pytest.fixture
def on_sasrec(golden: Any) -> _OnSASRec:
    numpy_arrays, meta = golden("llmcf_sasrec_aug")
    arrays, config = _tensors(numpy_arrays), meta["config"]
    context = _in_context(arrays, config)
    tokens = _token_function(arrays, config, context)
    query, user_state = tokens("orig", masked=True)
    parts = [f"aug{k}" for k in range(config["num_aug"])]
    behaviors = torch.cat([tokens(part, masked=False)[0] for part in parts])
    thoughts = torch.cat([arrays["cot_raw"][arrays[f"{part}.cot"]] for part in parts])
    labels = torch.cat([arrays[f"{part}.label"] for part in parts])
    chosen = torch.arange(config["batch"] * len(parts)).view(len(parts), -1).t()
    feature = context(query, behaviors, thoughts, labels, chosen)
    items = arrays["param.emb_tab_dict.item_id_emb_tab.weight"]
    return _OnSASRec(arrays, config, context, user_state, feature, items)


def test_feature_on_sasrec(on_sasrec: _OnSASRec) -> None:
    _close(on_sasrec.user_state, on_sasrec.arrays["sasrec_user"])
    _close(on_sasrec.feature, on_sasrec.arrays["icl_feature"])
    _close(on_sasrec.user, on_sasrec.arrays["user_emb"])


def test_scores_on_sasrec(on_sasrec: _OnSASRec) -> None:
    catalogue = on_sasrec.items[1 : on_sasrec.config["n_items"] + 1]
    _close(on_sasrec.user @ catalogue.t(), on_sasrec.arrays["full_logits"])


def test_losses_on_sasrec(on_sasrec: _OnSASRec) -> None:
    arrays, reconstruction = on_sasrec.arrays, on_sasrec.context.reconstruction
    loss = on_sasrec.sampled_softmax()
    _close(reconstruction, arrays["recon_loss"])
    _close(loss, arrays["sampled_softmax"])
    total = loss + on_sasrec.config["reconstruct_weight"] * reconstruction
    _close(total, arrays["total_loss"])


def _in_context(arrays: Arrays, config: dict[str, Any]) -> InContext:
    """Return our context with the authors' weights."""
    size, width = config["hidden"], config["text_dim"]
    context = InContext(3 * size, [width, size]).double()
    state = {
        f"{ours}.mlp_layers.1.{kind}": arrays[f"param.{theirs}.mlp_layers.1.{kind}"]
        for ours, theirs in (
            ("text_map", "bge_emb_mapping"),
            ("behavior_map", "history_mlp"),
            ("reconstruct", "cot_emb_reconstruct_mapping"),
        )
        for kind in ("weight", "bias")
    }
    decoder = _decoder_state(arrays, "param.context_transformer.")
    state |= {f"decoder.{name}": weight for name, weight in decoder.items()}
    state["label.weight"] = arrays["param.emb_tab_dict.label_id_emb_tab.weight"]
    context.load_state_dict(state)
    return context


def _token_function(
    arrays: Arrays, config: dict[str, Any], context: InContext
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a function: (part of the arrays, mask its items?) -> behavior tokens, states u(H)."""
    users, items, texts = (
        arrays[f"param.emb_tab_dict.{name}_id_emb_tab.weight"]
        for name in ("user", "item", "item_text")
    )
    backbone = _sasrec(arrays, config)

    def tokens(part: str, masked: bool) -> tuple[Tensor, Tensor]:
        history = arrays[f"{part}.history"]
        mask = history != 0
        states = backbone(config["hidden"] ** 0.5 * items[history], mask)
        state = states[torch.arange(len(history)), mask.sum(1) - 1]
        text = texts[history].sum(1) / mask.sum(1, keepdim=True)
        target = arrays["orig.user"] * 0 if masked else arrays[f"{part}.item"]
        user = users[arrays[f"{part}.user"]]
        return context.behaviors(user, state, text, items[target], texts[target]), state

    return tokens


def _sasrec(arrays: Arrays, config: dict[str, Any]) -> torch.nn.Module:
    """Return our SASRec with the authors' weights, with positions but without an input norm."""
    size = config["hidden"]
    backbone = AuthorsTransformer(
        size, config["max_len"], n_layers=config["num_blocks"],
        n_heads=config["num_heads"], inner_size=size, hidden_act="relu", layer_norm_eps=1e-8,
        original=True, input_norm=False,
    ).double()  # fmt: skip
    names = {
        "attention_layernorms.0": "blocks.0.attention_norm",
        "forward_layernorms.0": "blocks.0.feed_forward_norm",
        "forward_layers.0.conv1": "blocks.0.dense_1",
        "forward_layers.0.conv2": "blocks.0.dense_2",
        "attention_layers.0.out_proj": "blocks.0.attention.out",
        "last_layernorm": "last_norm",
    }
    state = {"position_embedding.weight": arrays["param.pos_emb.weight"]}
    for theirs, ours in names.items():
        for kind in ("weight", "bias"):
            weight = arrays[f"param.{theirs}.{kind}"]
            state[f"{ours}.{kind}"] = weight.squeeze(-1) if "conv" in theirs else weight
    for kind in ("weight", "bias"):
        projections = arrays[f"param.attention_layers.0.in_proj_{kind}"].chunk(3)
        for part, weight in zip(("query", "key", "value"), projections, strict=True):
            state[f"blocks.0.attention.{part}.{kind}"] = weight
    backbone.load_state_dict(state)
    return backbone.eval()

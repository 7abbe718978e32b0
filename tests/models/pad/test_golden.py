"""The align and disentangle phases compared with numbers from the authors' code, in float64."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.layers.losses import bce
from recbole_llm.models.pad.model import PAD

ENCODERS = {"user_encoder": "id", "user_enc_2": "aligned", "user_enc_3": "llm"}
# (their module, the place of its first layer in our gelu_net, our module). In their MLPs as in
# ours, the k-th linear layer has the number 3k + 1, after a dropout.
NETS = [
    (r"turn_dim1\.fc", 0, "experts.aligned.items.content.turn"),
    (r"turn_dim1\.mlp_layers\.mlp_layers\.(\d+)", 1, "experts.aligned.items.content.turn"),
    (r"turn_dim3\.fc", 0, "experts.llm.items.0.turn"),
    (r"turn_dim3\.mlp_layers\.mlp_layers\.(\d+)", 1, "experts.llm.items.0.turn"),
    (r"fc\.mlp_layers\.(\d+)", 0, "experts.aligned.items.fusion"),
    (r"mlp_layers\.mlp_layers\.(\d+)", 1, "experts.aligned.items.fusion"),
    (r"mlp_layer_3\.mlp_layers\.(\d+)", 0, "experts.llm.items.1"),
]
BLOCK = {
    "multi_head_attention.w_Q": "attention.query",
    "multi_head_attention.w_K": "attention.key",
    "multi_head_attention.w_V": "attention.value",
    "multi_head_attention.fc": "attention.out",
    "multi_head_attention.layer_norm": "attention_norm",
    "feed_forward.w_1": "dense_1",
    "feed_forward.w_2": "dense_2",
    "feed_forward.layer_norm": "feed_forward_norm",
}
TABLES = {
    "id_embedding.weight": "experts.id.items.weight",
    "other_embedding.weight": "experts.aligned.items.embedding.weight",
}


def our_name(theirs: str) -> str:
    """Return our name of one of the authors' parameters, except the gate's logits."""
    if theirs in TABLES:
        return TABLES[theirs]
    module, _, kind = theirs.rpartition(".")
    encoder, _, rest = module.partition(".transformer_encoder.")
    if encoder in ENCODERS:
        return f"experts.{ENCODERS[encoder]}.backbone.{_encoder_part(rest)}.{kind}"
    for pattern, first, ours in NETS:
        match = re.fullmatch(pattern, module)
        if match:
            layer = first + (int(match[1]) // 3 if match.groups() else 0)
            return f"{ours}.{3 * layer + 1}.{kind}"
    raise AssertionError(f"no counterpart of {theirs}")


def _encoder_part(name: str) -> str:
    block = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", name)
    if block:
        return f"blocks.{block[1]}.{BLOCK[block[2]]}"
    return {"position_embedding": "position_embedding", "layer_norm": "input_norm"}[name]


def official_pad(make_pad: Any, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> PAD:
    """Return our model with the authors' sizes, options and parameters."""
    sizes = meta["config"]
    model: PAD = make_pad(
        matrix=arrays["content"],
        counts=arrays.get("item_frequency", np.ones(len(arrays["content"]), int)),
        hidden_size=sizes["embedding_dim"],
        inner_size=4 * sizes["embedding_dim"],
        n_layers=sizes["transformer_block"],
        n_heads=sizes["num_attention_heads"],
        mo_dnn_layers=sizes["mo_dnn_layers"],
        dnn_layers=sizes["dnn_layers"],
        MAX_ITEM_LIST_LENGTH=sizes["max_seq_len"],
        attention_bias=False,
        hidden_act="relu",
        layer_norm_eps=1e-6,
        gamma=sizes["mmd_weight"] if "mmd_weight" in sizes else sizes["gamma"],
        loss_type="BCE",
        gamma_2=sizes.get("gamma2", 0.0),
    ).double()
    state = model.state_dict()
    alphas = [f"param.{name}" for name in ("alpha", "alpha2", "alpha3")]
    for key, value in arrays.items():
        if key.startswith("param.") and key not in alphas:
            ours = our_name(key.removeprefix("param."))
            assert state[ours].shape == value.shape, key
            state[ours] = torch.tensor(value)
    if alphas[0] in arrays:
        state["gate.alpha"] = torch.tensor(np.stack([arrays[name] for name in alphas]))
        state["gate.bins"] = torch.tensor(arrays["item_bin"])  # the authors chose the ranks
    model.load_state_dict(state)
    return model


def close(ours: Tensor, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs, atol=1e-6, rtol=0)


class Batch:
    """The authors' batch in our layout: inputs, and targets and negatives of the real steps."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        items = torch.tensor(arrays["sample_items_id"])  # [B, L + 1, 2]
        self.slots = items.flatten()
        self.inputs = items[:, :-1, 0]
        self.mask = torch.tensor(arrays["log_mask"]) == 1  # [B, L]
        self.targets, self.negatives = items[:, 1:, 0][self.mask], items[:, :-1, 1][self.mask]

    def scores(self, model: PAD) -> tuple[Tensor, Tensor, Tensor]:
        states = model.user_states(self.inputs, self.mask)[self.mask]  # [T, D]
        both = (model.item_vectors(ids) for ids in (self.targets, self.negatives))
        positive, negative = ((states * vectors).sum(-1) for vectors in both)
        return states, positive, negative


def test_alignment_phase(golden: Any, make_pad: Any) -> None:
    arrays, meta = golden("pad_alignment")
    model, batch = official_pad(make_pad, arrays, meta), Batch(arrays)
    model.phase = "align"
    states, positive, negative = batch.scores(model)
    real = arrays["log_mask"] == 1
    close(model.item_vectors(), arrays["item_vec"])
    close(states, arrays["user_vec"][real])
    close(positive, arrays["pos_score"][real])
    close(negative, arrays["neg_score"][real])
    # Their alignment is over every slot with padding and repeats, ours over distinct real items.
    embedding, content = model.experts["aligned"].items.sides(batch.slots)
    close(content, arrays["mmd_input_content"])
    close(embedding, arrays["mmd_input_id"])
    mmd = model.alignment(batch.slots)
    close(mmd, arrays["mmd"])
    loss = bce(positive, negative)
    close(loss, arrays["bce"])
    loss = loss + model.gamma * mmd
    close(loss, arrays["loss"])
    loss.backward()
    check_gradients(model, arrays)


def check_gradients(model: PAD, arrays: dict[str, np.ndarray]) -> None:
    parameters = dict(model.named_parameters())
    names = [k.removeprefix("grad.") for k in arrays if k.startswith("grad.")]
    assert names
    for number, name in enumerate(n for n in names if n.startswith("alpha")):
        close(model.gate.alpha.grad[number], arrays[f"grad.{name}"])
    for name in names:
        if not name.startswith("alpha"):
            close(parameters[our_name(name)].grad, arrays[f"grad.{name}"])


def test_triple_expert_phase(golden: Any, make_pad: Any) -> None:
    arrays, meta = golden("pad_tripleexpert")
    model, batch = official_pad(make_pad, arrays, meta), Batch(arrays)
    real = arrays["log_mask"] == 1
    close(model.gate.weights(), arrays["gate_per_bin"])
    for number, expert in enumerate(model.experts.values(), 1):
        states = expert(batch.inputs, batch.mask)[batch.mask]
        close(expert.items(torch.arange(model.n_items)), arrays[f"item_vec_{number}"])
        close(states, arrays[f"user_vec_{number}"][real])
        close((states * expert.items(batch.targets)).sum(-1), arrays[f"pos_score_{number}"][real])
        close((states * expert.items(batch.negatives)).sum(-1), arrays[f"neg_score_{number}"][real])
    _, positive, negative = batch.scores(model)
    close(positive, arrays["pos_score"][real])
    close(negative, arrays["neg_score"][real])
    loss = bce(positive, negative)
    close(loss, arrays["loss"])
    close(loss, arrays["bce_pos"] + arrays["bce_neg"])
    loss.backward()
    check_gradients(model, arrays)


def test_loss_of_a_batch_is_the_authors(golden: Any, make_pad: Any) -> None:
    """`calculate_loss` gets rows as our loaders make them, right-padded or not."""
    arrays, meta = golden("pad_tripleexpert")
    model, batch = official_pad(make_pad, arrays, meta), Batch(arrays)
    targets, negatives = torch.zeros_like(batch.inputs), torch.zeros_like(batch.inputs)
    targets[batch.mask], negatives[batch.mask] = batch.targets, batch.negatives
    loss = model.calculate_loss(
        {
            "item_id_list": batch.inputs,
            "pos_item_id_list": targets,
            "neg_item_id_list": negatives.unsqueeze(-1),
        }
    )
    close(loss, arrays["loss"])


def test_evaluation(golden: Any, make_pad: Any) -> None:
    arrays, meta = golden("pad_tripleexpert")
    model = official_pad(make_pad, arrays, meta)
    history, target = torch.tensor(arrays["eval.history"]), torch.tensor(arrays["eval.target"])
    scores = model.full_sort_predict(Interaction({"item_id_list": history}))
    seen = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, history, True)
    scores = scores.masked_fill(seen, -torch.inf)[:, 1:]
    close(scores, arrays["eval.scores"])
    k = meta["config"]["eval_topk"]
    rank = 1 + (scores > scores.gather(1, target[:, None] - 1)).sum(1)
    hit = (rank <= k).double()
    close(hit, arrays["eval.hit"])
    close(hit / torch.log2(rank + 1.0), arrays["eval.ndcg"])


def test_initial_gates(golden: Any, make_pad: Any) -> None:
    arrays, meta = golden("pad_tripleexpert")
    model = make_pad(gamma_2=meta["config"]["gamma2"], n_bins=len(arrays["init.alpha"]) - 1)
    for ours, name in zip(model.gate.alpha, ("alpha", "alpha2", "alpha3"), strict=True):
        close(ours, arrays[f"init.{name}"])


@pytest.mark.parametrize("fixture", ["pad_alignment", "pad_tripleexpert"])
def test_every_parameter_of_the_authors_has_its_own_counterpart(fixture: str, golden: Any) -> None:
    arrays, _ = golden(fixture)
    names = [k.removeprefix("param.") for k in arrays if k.startswith("param.")]
    ours = [our_name(n) for n in names if not n.startswith("alpha")]
    assert len(set(ours)) == len(ours)

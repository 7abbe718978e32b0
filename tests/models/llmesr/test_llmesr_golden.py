"""Golden parity with the LLM-ESR authors' code, both as it leaks and with our causal masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from authors_transformer import AuthorsTransformer
from torch import Tensor

from recbole_llm.layers import losses
from recbole_llm.layers.backbones import BACKBONES
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.models.llmesr.layers import DualView
from recbole_llm.models.llmesr.settings import LLMESRSettings

VERSIONS = ("official", "causal", "fullcausal")
Arrays = dict[str, Tensor]


def _tensors(arrays: dict[str, np.ndarray]) -> Arrays:
    return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


def _network(arrays: Arrays, config: dict[str, Any], version: str) -> DualView:
    """Return our network with the authors' weights; `version` says which causal masks are on."""
    size, length = config["hidden_size"], config["max_len"]
    settings = LLMESRSettings(
        hidden_size=size, inner_size=size, n_layers=config["trm_num"], n_heads=config["num_heads"],
        cross_heads=config["cross_att_heads"], MAX_ITEM_LIST_LENGTH=length,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "SASRec", AuthorsTransformer)
        network = DualView(settings, FrozenEmbedding(arrays["param.llm_item_emb.weight"])).double()
    (backbone,) = network.backbones
    backbone.causal = version != "official"
    network.causal = version == "fullcausal"
    network.load_state_dict(_state(arrays, config["trm_num"], length))
    return network.eval()


def _state(arrays: Arrays, layers: int, length: int) -> Arrays:
    weights = {k.removeprefix("param."): v for k, v in arrays.items() if k.startswith("param.")}
    state = {
        "item_embedding.weight": weights["id_item_emb.weight"],
        "position_embedding.weight": weights["pos_emb.weight"][: length + 1],
    }
    names = {"linear_q": "query", "linear_k": "key", "linear_v": "value", "linear_output": "out"}
    for name, weight in weights.items():
        part, *rest = name.split(".")
        if part == "adapter":
            state[f"adapter.{'inner' if rest[0] == '0' else 'outer'}.{rest[1]}"] = weight
        if part in ("llm2id", "id2llm"):
            ours = "to_collaborative" if part == "llm2id" else "to_semantic"
            state[f"{ours}.{names[rest[0]]}.{rest[1]}"] = weight
        if part == "backbone":
            state |= _backbone_state(rest, weight)
    return state


def _backbone_state(path: list[str], weight: Tensor) -> Arrays:
    """One weight of the authors' SASRec under our names."""
    name, kind = path[0], path[-1]
    if name == "last_layernorm":
        return {f"backbones.0.last_norm.{kind}": weight}
    block = f"backbones.0.blocks.{path[1]}."
    if name == "attention_layers" and kind.startswith("in_proj"):
        ours = [
            f"{block}attention.{p}.{kind[len('in_proj_') :]}" for p in ("query", "key", "value")
        ]
        return dict(zip(ours, weight.chunk(3), strict=True))
    if name == "attention_layers":
        return {f"{block}attention.out.{kind}": weight}
    if name == "forward_layers":
        return {f"{block}dense_{path[2][-1]}.{kind}": weight.squeeze(-1)}
    norm = {"attention_layernorms": "attention_norm", "forward_layernorms": "feed_forward_norm"}
    return {f"{block}{norm[name]}.{kind}": weight}


def _close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("version", VERSIONS)
def test_states_scores_losses_and_gradients(golden: Any, version: str) -> None:
    numpy_arrays, meta = golden("llmesr_dualview")
    arrays, config = _tensors(numpy_arrays), meta["config"]
    theirs = {k.removeprefix(f"{version}."): v for k, v in arrays.items()}
    network = _network(arrays, config, version)
    seq, sim_seq = arrays["seq"], arrays["sim_seq"]
    mask, real = seq != 0, arrays["pos"] != 0

    states = network.states(seq, mask)
    _close(states[mask], theirs["log_feats"][mask])
    pos, neg = ((states * network.item_vectors(arrays[k])).sum(2) for k in ("pos", "neg"))
    _close(pos[real], theirs["pos_logits"][real])
    _close(neg[real], theirs["neg_logits"][real])
    rec = losses.bce(pos[real], neg[real])
    _close(rec, theirs["rec_loss"])

    student = states[:, -1]  # left-padded: the last slot is the last position
    _close(student, theirs["kd_student"])
    flat = sim_seq.flatten(0, 1)
    teacher = network.states(flat, flat != 0)[:, -1].view(*sim_seq.shape[:2], -1).mean(1).detach()
    _close(teacher, theirs["kd_teacher"])
    distillation = (student - teacher).square().mean()
    _close(distillation, theirs["kd_loss"])
    total = rec + config["alpha"] * distillation
    _close(total, theirs["total_loss"])
    catalogue = network.item_vectors()[1 : config["item_num"] + 1]
    _close(student @ catalogue.t(), theirs["all_item_scores"])

    total.backward()  # type: ignore[no-untyped-call]
    assert network.item_embedding.weight.grad is not None
    _close(network.item_embedding.weight.grad, theirs["grad.id_item_emb.weight"])
    assert network.adapter.inner is not None and network.adapter.inner.weight.grad is not None
    _close(network.adapter.inner.weight.grad, theirs["grad.adapter.0.weight"])


@pytest.mark.parametrize(("version", "leaks"), zip(VERSIONS, (True, True, False), strict=True))
def test_leak_of_the_authors_versions(golden: Any, version: str, leaks: bool) -> None:
    """Changing the last input moves earlier states in the authors' versions, not in ours."""
    numpy_arrays, meta = golden("llmesr_dualview")
    arrays = _tensors(numpy_arrays)
    network = _network(arrays, meta["config"], version)
    seq = arrays["seq"]
    changed = seq.clone()
    changed[:, -1] = seq[:, -1] % meta["config"]["item_num"] + 1
    mask = seq != 0
    with torch.no_grad():
        moved = (network.states(seq, mask) - network.states(changed, mask)).abs().amax(2)
    earlier = mask.clone()
    earlier[:, -1] = False
    largest = float(moved[earlier].max())
    assert largest > 0.1 if leaks else largest == 0

"""Molar's losses and trained parameters in each phase, and leaks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from probes import future_leak
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm import load_data_and_model, run_recbole_llm
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.layers.losses import info_nce
from recbole_llm.models.molar.layers import ContentItems

pytestmark = pytest.mark.usefixtures("tiny")
SEQUENCES = Interaction(
    {
        "user_id": torch.tensor([1, 2, 1]),
        "item_id_list": torch.tensor([[3, 5, 7], [2, 9, 0], [4, 0, 0]]),
        "pos_item_id_list": torch.tensor([[5, 7, 1], [9, 6, 0], [8, 0, 0]]),
        "neg_item_id_list": torch.tensor([[[2], [4], [6]], [[8], [10], [0]], [[12], [0], [0]]]),
    }
)
TINY = {
    "encoder": "hash", "data_path": "dataset", "epochs": 2, "show_progress": False,
    "MAX_ITEM_LIST_LENGTH": 10,
}  # fmt: skip


def parts(loss: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return loss if isinstance(loss, tuple) else (loss,)


@pytest.mark.parametrize("phase", ["id", "content"])
@pytest.mark.parametrize("backbone", ["SASRec", "GRU4Rec"])
def test_no_leak(phase: str, backbone: str, make_molar: Any) -> None:
    tower = make_molar(backbone=backbone).eval().towers[phase]
    emb = torch.randn(3, 6, 12 if phase == "content" else 8)
    mask = torch.arange(6) < torch.tensor([[6], [4], [1]])
    assert future_leak(tower.backbone, emb, mask) == 0
    assert future_leak(tower.backbone, emb, mask.flip(1)) == 0


def test_a_history_padded_on_the_left_has_the_same_state(make_molar: Any) -> None:
    model = make_molar().eval()
    right, left = torch.tensor([[3, 5, 7, 0, 0]]), torch.tensor([[0, 0, 3, 5, 7]])
    torch.testing.assert_close(model.last_states(right), model.last_states(left))


@pytest.mark.parametrize("phase", ["id", "content"])
def test_items_are_where_the_weights_are(phase: str, make_molar: Any) -> None:
    """An export moves a model from the GPU, while its attribute `device` stays."""
    model = make_molar().eval()
    model.phase, model.device = phase, torch.device("meta")
    read: list[Tensor] = []
    model.towers[phase].items.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    model.item_vectors()
    assert [ids.device.type for ids in read] == ["cpu"]


def test_the_content_model_starts_at_the_components_of_the_vectors(make_molar: Any) -> None:
    """Projected vectors are uncorrelated and have the standard deviation `item_std`."""
    items = make_molar(item_std=0.5, vector_whitening=0).towers["content"].items
    vectors = items(torch.arange(1, 21)).detach()
    covariance = vectors.T.cov()
    assert vectors.std().item() == pytest.approx(0.5, abs=1e-5)
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-5


@torch.no_grad()
def test_a_net_learns_what_the_projection_cannot(make_molar: Any) -> None:
    """v = W T + b + W2 gelu(W1 T + b1) + b2, where the net's part is zero at the start."""
    items = make_molar(item_hidden_size=5).towers["content"].items
    content = items.vectors.weight
    projected = content @ items.projection.weight.t() + items.projection.bias
    assert items(torch.arange(len(content))).allclose(projected, atol=1e-6)
    first, _, _, last = items.net
    hidden = content[1:] @ first.weight.t()
    assert first.weight.shape[0] == 5 and 0.2 < hidden.std() < 2  # not in GELU's linear part
    last.weight.normal_()
    last.bias.normal_()
    hidden = content @ first.weight.t() + first.bias
    made = projected + torch.nn.functional.gelu(hidden) @ last.weight.t() + last.bias
    assert items.eval()(torch.arange(len(content))).allclose(made, atol=1e-5)
    assert make_molar(item_hidden_size=0).towers["content"].items.net is None


def test_a_net_is_made_for_vectors_of_any_spread() -> None:
    vectors, spreads = torch.randn(20, 16, generator=torch.Generator().manual_seed(0)), []
    for spread in (1.0, 0.01):
        torch.manual_seed(0)
        items = ContentItems(FrozenEmbedding(spread * vectors), size=4, std=0.1, hidden_size=5)
        first: Any = items.net[0]
        spreads.append((items.vectors.weight @ first.weight.t()).std().item())
    assert spreads[1] == pytest.approx(spreads[0], rel=1e-4)


@pytest.mark.parametrize("positions", ["all", "last"])
def test_losses_of_each_phase(positions: str, make_molar: Any) -> None:
    """Each position counts as the history that ends there."""
    histories, users = SEQUENCES["item_id_list"], SEQUENCES["user_id"]
    if positions == "all":
        histories = torch.tensor([[3, 0, 0], [3, 5, 0], [3, 5, 7], [2, 0, 0], [2, 9, 0], [4, 0, 0]])
        users = torch.tensor([1, 1, 1, 2, 2, 1])
    given = {"alignment_weight": 0.5, "temperature": 0.2, "alignment_positions": positions}
    model = make_molar(**given).eval()
    model.begin_phase("id")
    assert len(parts(model.calculate_loss(SEQUENCES))) == 1
    id_states = model.last_states(histories)
    model.begin_phase("content")
    loss, aligned = parts(model.calculate_loss(SEQUENCES))
    expected = info_nce(model.to_ids(model.last_states(histories)), id_states, 0.2, users)
    torch.testing.assert_close(aligned, 0.5 * expected)
    alone = make_molar(fusion="no_alignment").eval()
    torch.testing.assert_close(parts(alone.calculate_loss(SEQUENCES)), (loss,))


def test_prefixes_are_aligned_too(make_molar: Any) -> None:
    """RecBole's loader repeats the batch for each negative, but each row counts once."""
    columns = {
        "user_id": torch.tensor([1, 2]).repeat(2), "item_id": torch.tensor([4, 6]).repeat(2),
        "item_id_list": torch.tensor([[3, 5], [2, 0]]).repeat(2, 1),
        "neg_item_id": torch.tensor([7, 8, 9, 10]),
    }  # fmt: skip
    sampled = {"sample_num": 2, "distribution": "uniform"}
    model = make_molar(train_neg_sample_args=sampled, alignment_weight=1).eval()
    _, aligned = model.calculate_loss(Interaction(columns))
    once = Interaction({k: v[:2] for k, v in columns.items() if k != "neg_item_id"})
    ce = make_molar(loss_type="CE", alignment_weight=1).eval()
    torch.testing.assert_close(aligned, ce.calculate_loss(once)[1])


@pytest.mark.parametrize("joint", [False, True])
def test_a_frozen_id_model_gets_no_gradient(joint: bool, make_molar: Any) -> None:
    model = make_molar(id_model="joint" if joint else "frozen").train()
    model.begin_phase("content")
    model.train()
    assert model.towers["id"].training is joint
    losses = parts(model.calculate_loss(SEQUENCES))
    assert len(losses) == 2 + joint
    sum(losses).backward()  # type: ignore[union-attr]
    of_ids = [p.grad is not None for p in model.towers["id"].parameters()]
    assert all(of_ids) if joint else not any(of_ids)
    trained = {id(p) for p in model.phase_parameters()}
    assert all(id(p) in trained for p in model.towers["content"].parameters() if p.requires_grad)
    assert all((id(p) in trained) is joint for p in model.towers["id"].parameters())


def test_early_fusion_adds_ids_to_the_content(make_molar: Any) -> None:
    model, ids = make_molar(fusion="early_fusion").eval(), torch.arange(21)
    plain = make_molar(fusion="no_alignment").eval()
    torch.testing.assert_close(model.item_vectors(), plain.item_vectors())
    table = model.towers["content"].items.ids
    torch.nn.init.normal_(table.weight)
    torch.testing.assert_close(model.item_vectors(), plain.item_vectors() + table(ids))
    assert len(parts(model.calculate_loss(SEQUENCES))) == 1


def test_each_phase_starts_at_the_authors_scale_and_learns_it(make_molar: Any) -> None:
    model = make_molar(loss_type="NCE")
    for phase in ("id", "content"):
        model.begin_phase(phase)
        assert model.nce.log_scale.item() == pytest.approx(math.log(1 / 0.07))
        assert any(model.nce.log_scale is parameter for parameter in model.phase_parameters())
        torch.nn.init.constant_(model.nce.log_scale, 4.0)  # stands for what the phase learns


def test_nce_scores_by_cosine(make_molar: Any) -> None:
    model = make_molar(loss_type="NCE").eval()
    scores = model.full_sort_predict(Interaction({"item_id_list": SEQUENCES["item_id_list"]}))
    assert scores.abs().max() <= 1 + 1e-5
    for vectors in (model.item_vectors()[1:], model.last_states(SEQUENCES["item_id_list"])):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    rows = model.training_rows(SEQUENCES)
    pool = model.item_vectors(rows.negatives.flatten())
    expected = model.nce(rows.states, model.item_vectors(rows.targets), pool)
    torch.testing.assert_close(parts(model.calculate_loss(SEQUENCES))[0], expected)


def test_new_items_are_scored_by_their_vectors(make_molar: Any) -> None:
    for fusion in ("post_alignment", "early_fusion"):
        model = make_molar(fusion=fusion, vector_whitening=0).eval()
        known = model.towers["content"].items.vectors.weight[3:5].clone()
        before = model.item_vectors()
        model.add_items(known)
        after = model.item_vectors()
        torch.testing.assert_close(after[:21], before)
        torch.testing.assert_close(after[21:], before[3:5], atol=1e-5, rtol=1e-5)


def test_a_run_keeps_the_pretrained_id_model_bit_equal() -> None:
    result = run_recbole_llm("Molar", "tiny", config_dict=TINY)
    content = Path(result["checkpoint"])
    first = content.with_name(f"{content.stem}-id.pth")
    pretrained = torch.load(first, weights_only=True)["state_dict"]
    model = load_data_and_model(str(content))[1]
    own = {n: v for n, v in model.state_dict().items() if n.startswith("towers.id.")}
    assert own and all(pretrained[name].equal(value) for name, value in own.items())
    trained = model.state_dict()["towers.content.items.projection.weight"]
    assert not trained.equal(pretrained["towers.content.items.projection.weight"])


def test_an_id_model_of_another_run_is_used() -> None:
    first = Path(run_recbole_llm("Molar", "tiny", config_dict=TINY)["checkpoint"])
    of_ids = str(first.with_name(f"{first.stem}-id.pth"))
    second = run_recbole_llm("Molar", "tiny", config_dict={**TINY, "id_pretrained": of_ids})
    one, two = (load_data_and_model(str(f))[1].state_dict() for f in (first, second["checkpoint"]))
    of_ids_ = [name for name in one if name.startswith("towers.id.")]
    assert of_ids_ and all(one[name].equal(two[name]) for name in of_ids_)
    other = {**TINY, "id_pretrained": of_ids, "item_codes": 4}  # another content model
    third = load_data_and_model(run_recbole_llm("Molar", "tiny", config_dict=other)["checkpoint"])
    assert all(one[name].equal(third[1].state_dict()[name]) for name in of_ids_)
    deeper = {**TINY, "id_pretrained": of_ids, "n_layers": 1}
    with pytest.raises(ValueError, match="of another shape .towers.id.* is only in the file"):
        run_recbole_llm("Molar", "tiny", config_dict=deeper)


def test_an_id_model_that_has_seen_what_is_held_out_is_refused() -> None:
    first = Path(run_recbole_llm("Molar", "tiny", config_dict=TINY)["checkpoint"])
    of_ids = str(first.with_name(f"{first.stem}-id.pth"))
    ratio = {"split": {"RS": [0.5, 0.25, 0.25]}, "order": "TO", "group_by": "user"}
    other = {**TINY, "id_pretrained": of_ids, "eval_args": ratio}
    with pytest.raises(ValueError, match=r"trained on another split \(eval_args: .* now .*0.25"):
        run_recbole_llm("Molar", "tiny", config_dict=other)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"decoder_heads": 5}, "decoder_heads: 5 does not divide decoder_size 192"),
        ({"tuning": "frozen"}, "tuning: frozen is for a pre-trained decoder; set decoder_model"),
        ({"decoder_blocks": 2}, "decoder_blocks: .* set decoder_model, or decoder_layers for"),
        ({"id_pretrained": "nothing.pth"}, "id_pretrained: checkpoint 'nothing.pth' does not"),
        ({"fusion": "none"}, "fusion 'none' is unknown"),
        ({"temperature": 0}, "temperature: expected a number above 0"),
        ({"decoder_model": "./nowhere"}, "decoder_model './nowhere' does not exist"),
        ({"item_prompt": "{{ 'the same' }}", "vector_whitening": 0}, "all item vectors are the"),
    ],
)
def test_settings_that_cannot_work(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_recbole_llm("Molar", "tiny", config_dict={**TINY, **keys})


@pytest.mark.parametrize("tuning", ["full", "lora", "frozen"])
def test_the_top_of_a_pretrained_decoder(tuning: str, tmp_path: Path, make_molar: Any) -> None:
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=9, hidden_size=16, intermediate_size=16, num_hidden_layers=3,
        num_attention_heads=2,
    )  # fmt: skip
    torch.manual_seed(1)
    source = LlamaModel(config)
    source.save_pretrained(tmp_path / "llm")
    model = make_molar(decoder_model=str(tmp_path / "llm"), decoder_blocks=2, tuning=tuning)
    decoder = model.towers["content"].backbone.decoder
    assert decoder.width == 16
    trained = [n for n, p in decoder.named_parameters() if p.requires_grad]
    assert {"full": "norm.weight", "lora": "lora_A", "frozen": ""}[tuning] in " ".join(trained)
    assert bool(trained) is (tuning != "frozen")
    weights = [p for n, p in decoder.named_parameters() if n.endswith("q_proj.weight")]
    weights += [p for n, p in decoder.named_parameters() if "q_proj.base_layer.weight" in n]
    own = [block.self_attn.q_proj.weight for block in source.layers[1:]]
    assert len(weights) == 2 and all(a.equal(b) for a, b in zip(weights, own, strict=True))
    losses = model.calculate_loss(SEQUENCES)
    sum(losses).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("id_model", ["frozen", "joint"])
def test_trains_in_bfloat16(id_model: str) -> None:
    keys = {**TINY, "enable_amp": True, "id_model": id_model}
    result = run_recbole_llm("Molar", "tiny", config_dict=keys, saved=False)
    assert 0 < result["test_result"]["ndcg@10"] < 1

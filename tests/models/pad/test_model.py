"""PAD's computation in each phase, leaks, and padding that stays zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.models.pad.model import PAD
from recbole_llm.models.pad.settings import PHASES

BACKBONES = ("SASRec", "GRU4Rec", "Caser", "BERT4Rec")


def batch(model: PAD, seed: int = 0, rows: int = 4, length: int = 6) -> dict[str, Tensor]:
    """Return right-padded rows of different lengths, with one negative per target."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(1, model.n_items, (rows, length + 1), generator=generator)
    real = torch.arange(length) < torch.arange(length, length - rows, -1)[:, None]
    negatives = torch.randint(1, model.n_items, (rows, length, 1), generator=generator)
    return {
        "item_id_list": items[:, :-1] * real,
        "pos_item_id_list": items[:, 1:] * real,
        "neg_item_id_list": negatives * real[..., None],
    }


def total(loss: Any) -> Tensor:
    return sum(loss) if isinstance(loss, tuple) else loss


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_position_sees_a_later_item(phase: str, backbone: str, make_pad: Any) -> None:
    model = make_pad(backbone=backbone)
    model.phase = phase
    items = batch(model)["item_id_list"]
    mask = items != 0
    states = model.user_states(items, mask)
    for cut in range(1, items.shape[1]):
        changed = items.clone()
        changed[:, cut:] = changed[:, cut:] % (model.n_items - 1) + mask[:, cut:].long()
        early = mask.clone()
        early[:, cut:] = False
        moved = (model.user_states(changed, mask) - states)[early]
        assert moved.abs().max() == 0
    assert (model.user_states(changed, mask) != states).any()


@pytest.mark.parametrize("phase", PHASES)
def test_scores_do_not_depend_on_padding(phase: str, make_pad: Any) -> None:
    model = make_pad()
    model.phase = phase
    items = batch(model)["item_id_list"]
    scores = model.full_sort_predict(Interaction({"item_id_list": items}))
    wider = torch.nn.functional.pad(items, (0, 3))
    torch.testing.assert_close(
        model.full_sort_predict(Interaction({"item_id_list": wider})), scores
    )


@pytest.mark.parametrize("phase", PHASES)
def test_predict_is_full_sort_predict_of_one_item(phase: str, make_pad: Any) -> None:
    model = make_pad()
    model.phase = phase
    rows = {"item_id_list": batch(model)["item_id_list"], "item_id": torch.tensor([3, 9, 1, 20])}
    scores = model.full_sort_predict(Interaction(rows))
    chosen = scores.gather(1, rows["item_id"][:, None]).squeeze(1)
    torch.testing.assert_close(model.predict(rows), chosen)


def test_the_last_phase_scores_by_the_gated_sum_over_the_experts(make_pad: Any) -> None:
    model = make_pad(n_items=5)
    items = torch.tensor([[2, 4, 1], [3, 5, 0]])
    mask, ids = items != 0, torch.arange(6)
    scores = torch.zeros(2, 6)
    for number, expert in enumerate(model.experts.values()):
        states = expert(items, mask)[torch.arange(2), mask.sum(1) - 1]  # [2, H]
        scores += model.gate.weights()[number, model.gate.bins] * (states @ expert.items(ids).T)
    torch.testing.assert_close(
        model.full_sort_predict(Interaction({"item_id_list": items})), scores
    )


@pytest.mark.parametrize(("phase", "trained"), [
    ("pretrain", {"experts.id"}),
    ("align", {"experts.aligned"}),
    ("disentangle", {"experts.id", "experts.aligned", "experts.llm", "gate"}),
])  # fmt: skip
@pytest.mark.parametrize("loss_type", ["CE", "BCE"])
def test_each_phase_trains_its_own_parameters(
    phase: str, trained: set[str], loss_type: str, make_pad: Any
) -> None:
    model = make_pad(loss_type=loss_type).train()
    model.begin_phase(phase)
    total(model.calculate_loss(batch(model))).backward()
    names = {id(p): name for name, p in model.named_parameters()}
    given = {names[id(p)] for p in model.phase_parameters()}
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert given == with_gradient
    parts = {".".join(name.split(".")[:2]) if "experts" in name else "gate" for name in given}
    assert parts == trained


def test_the_aligned_expert_starts_from_the_pretrained_one(make_pad: Any) -> None:
    model = make_pad()
    source, aligned = model.experts["id"], model.experts["aligned"]
    assert not torch.equal(source.items.weight, aligned.items.embedding.weight)
    model.begin_phase("align")
    assert torch.equal(source.items.weight, aligned.items.embedding.weight)
    for ours, theirs in zip(
        aligned.backbone.parameters(), source.backbone.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs) and ours is not theirs
    before = aligned.items.embedding.weight.clone()
    source.items.weight.data += 1
    model.begin_phase("disentangle")
    assert torch.equal(aligned.items.embedding.weight, before)


def test_the_id_embedding_starts_from_the_text_or_at_random(make_pad: Any) -> None:
    rng = np.random.default_rng(1)
    matrix = np.r_[np.zeros((1, 3)), rng.normal(size=(50, 3))].astype(np.float32)
    start = make_pad(matrix=matrix, item_std=0.5).experts["id"].items.weight.detach()
    assert not start[0].any()
    assert start[1:].std() == pytest.approx(0.5, rel=0.1)
    centered = torch.from_numpy(matrix[1:] - matrix[1:].mean(0))
    # All 3 components fit, so distances are those of the texts up to scale; 5 columns are random.
    ratio = torch.pdist(start[1:, :3]) / torch.pdist(centered)
    assert ratio.std() < 1e-4
    random = make_pad(matrix=matrix, item_std=0.5, pca_init=False).experts["id"].items.weight
    assert (torch.pdist(random[1:, :3]) / torch.pdist(centered)).std() > 0.05


def test_items_without_text_have_no_say_in_the_start(make_pad: Any) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 12)).astype(np.float32) + 3
    with_gaps = np.concatenate([np.zeros((51, 12), np.float32), vectors])
    start = make_pad(matrix=with_gaps).experts["id"].items.weight.detach()
    alone = make_pad(matrix=with_gaps[50:]).experts["id"].items.weight.detach()
    assert not start[:51].any()
    rows, expected = start[51:], alone[1:]
    torch.testing.assert_close(rows / rows.std(), expected / expected.std())


def test_alignment_is_over_the_distinct_real_items_of_the_batch(make_pad: Any) -> None:
    model = make_pad()
    rows = batch(model)
    seen = {int(i) for f in ("item_id_list", "pos_item_id_list") for i in rows[f].flatten()} - {0}
    assert model.batch_items(rows).tolist() == sorted(seen)
    prefix = {"item_id_list": torch.tensor([[3, 3, 0]]), "item_id": torch.tensor([7])}
    assert model.batch_items(prefix).tolist() == [3, 7]


def test_alignment_is_over_a_sample_where_there_are_too_many(make_pad: Any) -> None:
    model = make_pad(mmd_max_items=5)
    rows = batch(model)
    sample = model.batch_items(rows).tolist()
    assert len(set(sample)) == 5
    everything = make_pad().batch_items(rows).tolist()
    assert set(sample) < set(everything)
    assert {i for _ in range(40) for i in model.batch_items(rows).tolist()} == set(everything)


def test_align_loss_is_recommendation_and_gamma_times_mmd(make_pad: Any) -> None:
    model = make_pad(gamma=0.5)
    model.phase = "align"
    rows = batch(model)
    recommendation, alignment = model.calculate_loss(rows)
    expected = 0.5 * model.alignment(model.batch_items(rows))
    torch.testing.assert_close(alignment, expected)
    plain = make_pad(gamma=0.0)
    plain.phase = "align"
    torch.testing.assert_close(plain.calculate_loss(rows), recommendation)


def test_a_batch_of_one_item_trains(make_pad: Any) -> None:
    model = make_pad().train()
    model.begin_phase("align")
    rows = {"item_id_list": torch.tensor([[4]]), "pos_item_id_list": torch.tensor([[4]])}
    loss = total(model.calculate_loss(rows))
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("loss_type", ["CE", "BCE", "BPR", "SSM"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_training_moves_neither_padding_rows_nor_frozen_vectors(
    loss_type: str, weight_decay: float, make_pad: Any
) -> None:
    model = make_pad(loss_type=loss_type)
    text = model.experts["llm"].items[0].text.weight.clone()
    for phase in PHASES:
        model.begin_phase(phase)
        model.train()
        optimizer = torch.optim.Adam(model.phase_parameters(), 0.1, weight_decay=weight_decay)
        for seed in range(3):
            optimizer.zero_grad()
            total(model.calculate_loss(batch(model, seed))).backward()
            optimizer.step()
    assert torch.equal(model.experts["llm"].items[0].text.weight, text)
    assert not text[0].any()
    assert not model.experts["id"].items.weight[0].any()
    assert not model.experts["aligned"].items.embedding.weight[0].any()


def test_a_phase_change_drops_the_table_kept_for_evaluation(make_pad: Any) -> None:
    model = make_pad()
    rows = {"item_id_list": torch.tensor([[3, 1]])}
    scores = [model.full_sort_predict(rows)]
    for phase in ("pretrain", "align"):
        model.phase = phase
        scores.append(model.full_sort_predict(rows))
    assert not torch.allclose(scores[0], scores[1])
    assert not torch.allclose(scores[1], scores[2])


def test_phase_is_saved_with_the_model(make_pad: Any) -> None:
    model, other = make_pad(), make_pad()
    model.phase = "align"
    other.load_other_parameter(model.other_parameter())
    assert other.phase == "align"
    with pytest.raises(ValueError, match="phase 'alining' is not one of pretrain, align"):
        model.phase = "alining"


def test_without_the_align_phase_the_aligned_expert_is_the_pre_trained_one(make_pad: Any) -> None:
    model = make_pad()
    model.begin_phase("pretrain")
    with torch.no_grad():
        model.experts["id"].items.weight.add_(1)
        model.gate.alpha.add_(1)
    model.begin_phase("disentangle")
    aligned = model.experts["aligned"].items.embedding.weight
    assert torch.equal(aligned, model.experts["id"].items.weight)
    assert torch.equal(model.gate.alpha[0], torch.linspace(1, 0, 11))  # as configured


def test_after_the_align_phase_the_aligned_expert_is_left_alone(make_pad: Any) -> None:
    model = make_pad()
    model.begin_phase("align")
    with torch.no_grad():
        model.experts["aligned"].items.embedding.weight.add_(1)
    before = model.experts["aligned"].items.embedding.weight.clone()
    model.begin_phase("disentangle")
    assert torch.equal(model.experts["aligned"].items.embedding.weight, before)


def test_bins_are_of_the_given_counts(make_pad: Any) -> None:
    model = make_pad(n_items=4, counts=[0, 2, 4, 3, 0], n_bins=3)
    assert model.gate.bins.tolist() == [0, 3, 1, 2, 3]
    assert model.gate.alpha.shape == (3, 4)


def test_other_numbers_of_layers(make_pad: Any) -> None:
    model = make_pad(mo_dnn_layers=2, dnn_layers=2, hidden_size=6, n_heads=3)
    assert np.prod(model.item_vectors().shape) == 21 * 18
    assert torch.isfinite(total(model.calculate_loss(batch(model))))


def test_every_layer_of_the_item_nets_drops_out(make_pad: Any) -> None:
    nets = make_pad(item_dropout_prob=0.3).experts
    rates = {
        name: [part.p for part in expert.items.modules() if isinstance(part, torch.nn.Dropout)]
        for name, expert in nets.items()
    }
    layers = {
        name: sum(isinstance(part, torch.nn.Linear) for part in expert.items.modules())
        for name, expert in nets.items()
    }
    assert rates == {name: [0.3] * count for name, count in layers.items()}
    assert layers["id"] == 0 < layers["llm"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"mmd_kernel": "gausian"}, "mmd_kernel 'gausian' is unknown; did you mean 'gaussian'"),
    ({"backbone": "SASrek"}, "backbone 'SASrek' is unknown; did you mean 'SASRec'"),
    ({"loss_type": "BCEE"}, "loss_type 'BCEE' is unknown; did you mean 'BCE'"),
    ({"item_std": 0}, "item_std: expected a number above 0, got 0"),
    ({"n_bins": 0}, "n_bins: expected an integer of at least 1, got 0"),
    ({"mmd_max_items": 1}, "mmd_max_items: expected an integer of at least 2, got 1"),
    ({"gamma": "much"}, "gamma: expected a number of at least 0, got 'much'"),
    ({"pad_pretrained": "none.pth"}, "pad_pretrained: checkpoint 'none.pth' does not exist"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(
    changes: dict[str, Any], message: str, make_pad: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        make_pad(**changes)


@pytest.mark.parametrize("phase", PHASES)
def test_vectors_of_repeated_items_are_computed_once(phase: str, make_pad: Any) -> None:
    model = make_pad()
    model.phase = phase
    seen: list[int] = []
    content = model.experts["llm"].items
    content.register_forward_pre_hook(lambda _, given: seen.append(given[0].numel()))
    ids = torch.tensor([[3, 1, 3], [1, 1, 3]])
    with torch.no_grad():
        torch.testing.assert_close(model.item_vectors(ids), model.item_vectors()[ids])
    assert seen[:1] == ([2] if phase == "disentangle" else [])

"""LLM-ESR on a tiny data set: causality, ablations, distillation and leaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recbole_llm.features.tables.reduce import Whitener
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.layers.packing import Layout
from recbole_llm.models.llmesr.initial import initialize
from recbole_llm.models.llmesr.layers import Adapter, DualView
from recbole_llm.models.llmesr.settings import LLMESRSettings
from recbole_llm.steps import build_trainer
from recbole_llm.testing import SequentialModelTests

ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "semantic alone": {"views": "semantic"},
    "collaborative alone": {"views": "collaborative"},
    "no cross-attention": {"cross_attention": False},
    "two backbones": {"share_backbone": False},
    "one adapter layer": {"adapter_layers": 1},
    "no PCA": {"pca_init": False},
    "nothing aligned": {"aligned_init": False},
    "no distillation": {"alpha": 0.0},
}
SMALL: dict[str, Any] = {"hidden_size": 8, "inner_size": 8}
BANK: dict[str, Any] = {**SMALL, "teacher": "bank", "loss_type": "BCE"}


class TestLLMESR(SequentialModelTests):
    model = "LLMESR"
    config = SMALL


class TestLLMESRWithBank(SequentialModelTests):
    model = "LLMESR"
    config = BANK


@pytest.fixture
def make() -> Any:
    def build(**config: Any) -> tuple[Any, Any]:
        """Return an untrained model in eval mode and its training loader."""
        _, model, loaders = TestLLMESR().make(**config)
        model.before_training(loaders[0])
        return model, loaders[0]

    return build


def _leak(model: Any) -> float:
    """Return the largest change of a state by a change of a later item, over ragged rows."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([10, 7, 3, 2])
    items = torch.randint(1, 60, (4, 10), generator=generator)
    mask = torch.arange(10) < lengths[:, None]
    items = items * mask
    before = model.user_states(items, mask)
    largest = 0.0
    for slot in range(1, 10):
        changed = items.clone()
        changed[:, slot] = (changed[:, slot] % 60 + 1) * mask[:, slot]
        moved = (model.user_states(changed, mask) - before).abs().amax(2)
        largest = max(largest, float(moved[:, :slot][mask[:, :slot]].max()))
        assert moved[0, slot] > 0
    return largest


@pytest.mark.parametrize("ablation", ABLATIONS)
@torch.no_grad()
def test_no_leak_in_any_ablation(make: Any, ablation: str) -> None:
    model, _ = make(**ABLATIONS[ablation])
    assert _leak(model) == 0


@pytest.mark.parametrize("backbone", ["SASRec", "GRU4Rec", "BERT4Rec", "Caser"])
@torch.no_grad()
def test_no_leak_with_any_backbone(make: Any, backbone: str) -> None:
    model, _ = make(backbone=backbone)
    assert _leak(model) == 0
    positions = [name for name, _ in model.named_parameters() if "position" in name]
    assert positions == ["network.position_embedding.weight"]  # which all backbones read


@torch.no_grad()
def test_training_without_dropout_is_inference(make: Any) -> None:
    rates = ("stream_dropout_prob", "hidden_dropout_prob", "attn_dropout_prob")
    model, loader = make(**dict.fromkeys(rates, 0.0))
    items = next(iter(loader))["item_id_list"]
    expected = model.user_states(items, items != 0)
    torch.testing.assert_close(model.train().user_states(items, items != 0), expected)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("level", ["sequence", "prefix"])
def test_every_parameter_is_trained(make: Any, ablation: str, level: str) -> None:
    model, loader = make(**ABLATIONS[ablation], train_level=level)
    model.train()
    model.calculate_loss(next(iter(loader))).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    unused = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    # The bias of the keys shifts all logits of a query equally, which changes nothing.
    assert [name for name in unused if not name.endswith("attention.key.bias")] == []
    views = ABLATIONS[ablation].get("views")
    assert ("network.item_embedding.weight" in trained) == (views != "semantic")
    assert ("network.adapter.outer.weight" in trained) == (views != "collaborative")


def test_collaborative_embeddings_start_from_principal_components(make: Any) -> None:
    model, loader = make(item_std=0.3, text_whitening=0.0)
    table = model.network.item_embedding.weight.detach()
    text = torch.from_numpy(loader.dataset.features["item_text"].matrix)
    centered = text[1:] - text[1:].mean(0)
    directions = torch.linalg.svd(centered, full_matrices=False)[2][:8]
    expected = centered @ directions.t()
    expected = expected * (0.3 / expected.std())
    torch.testing.assert_close(table[1:].abs(), expected.abs(), rtol=1e-3, atol=1e-3)
    assert not table[0].any()


@torch.no_grad()
def test_training_drops_half_of_what_the_streams_hold(make: Any) -> None:
    network, items = make(stream_dropout_prob=0.5)[0].network, torch.arange(1, 11)[None]
    layout = Layout(items != 0)
    whole = network.eval()._streams(layout, items)
    for stream, some in zip(whole, network.train()._streams(layout, items), strict=True):
        kept = some != 0
        assert 0.2 < kept.double().mean() < 0.8
        torch.testing.assert_close(some[kept], 2 * stream[kept])


@pytest.mark.parametrize("whitening", [0.0, 0.5])
def test_items_without_text_have_no_say_in_the_start(whitening: float) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 12)).astype(np.float32) + 3
    with_gaps = np.concatenate([np.zeros((51, 12), np.float32), vectors])
    starts = []
    for matrix in (with_gaps, with_gaps[50:]):
        text = Whitener(matrix, whitening)(matrix)
        settings = LLMESRSettings(item_std=0.3, hidden_size=8, backbone="GRU4Rec")
        network = DualView(settings, FrozenEmbedding(text))
        initialize(network, settings)
        starts.append(network)
    table, alone = (network.item_embedding.weight.detach() for network in starts)
    assert not table[:51].any()
    torch.testing.assert_close(table[51:], alone[1:])
    for ours, theirs in zip(starts[0].adapter.parameters(), starts[1].adapter.parameters()):
        torch.testing.assert_close(ours[:4], theirs[:4])  # the rest is random


def test_whitened_text_is_what_both_views_see(make: Any) -> None:
    """With power 1, the components that the item table starts from are equally strong."""
    model, _ = make(text_whitening=1.0)
    deviations = model.network.item_embedding.weight.detach()[1:].std(0)
    torch.testing.assert_close(deviations, deviations[:1].expand(8), rtol=1e-3, atol=0.0)
    text = model.network.text.weight
    assert not text[0].any()
    assert text[1:].mean(0).abs().max() < 1e-6


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_views_start_equal(make: Any, layers: int) -> None:
    model, loader = make(adapter_layers=layers)
    collaborative, semantic = model.item_vectors()[1:].chunk(2, dim=1)
    torch.testing.assert_close(semantic, collaborative, rtol=1e-4, atol=1e-5)
    items = next(iter(loader))["item_id_list"]
    collaborative, semantic = model.user_states(items, items != 0).chunk(2, dim=2)
    torch.testing.assert_close(semantic, collaborative, rtol=1e-3, atol=1e-4)


def test_attention_starts_as_a_multiple_of_the_identity(make: Any) -> None:
    network = make(initializer_range=0.1)[0].network
    positions, attention = network.position_embedding.weight, network.to_semantic
    assert positions.std().item() == pytest.approx(0.1, rel=0.3)
    for part, scale in (("query", 2.0), ("key", 2.0), ("value", 1.0), ("out", 1.0)):
        assert torch.equal(getattr(attention, part).weight.detach(), scale * torch.eye(8))


def test_fewer_components_than_columns(make: Any) -> None:
    model, _ = make(hidden_size=32, inner_size=8)  # the hash encoder has 16 dimensions
    table = model.network.item_embedding.weight
    assert (table[1:].std(0) > 0).all() and not table[0].any()


def test_the_loss_is_its_two_parts(make: Any) -> None:
    model, loader = make(alpha=0.5)
    batch = next(iter(loader))
    rows = model.training_rows(batch)
    parts = model.recommendation_loss(rows) + 0.5 * model.distillation_loss(batch, rows)
    torch.testing.assert_close(model.calculate_loss(batch), parts)


def test_distillation_by_hand(make: Any) -> None:
    """The loss equals that of a loop over users, each once, at the last training position."""
    model, loader = make(train_batch_size=10_000)
    (batch,) = loader
    histories, similar = _histories(loader), model.distillation.neighbors
    squares = []
    for user, history in histories.items():
        teachers = [_state(model, histories[v]) for v in similar[user].tolist()]
        difference = _state(model, history) - torch.stack(teachers).mean(0)
        squares.append(difference.square().mean())
    assert len(batch) > len(squares) == 40  # long histories have several windows
    loss = model.distillation_loss(batch, model.training_rows(batch))
    assert loss.item() == pytest.approx(torch.stack(squares).mean().item(), rel=1e-4)


def _histories(loader: Any) -> dict[int, list[int]]:
    from recbole_llm.data.rows.training import training_interactions

    users, items = training_interactions(loader.dataset)
    return {u: items[users == u].tolist() for u in set(users.tolist())}


@torch.no_grad()
def _state(model: Any, history: list[int]) -> Tensor:
    """Return the state that predicts the last training item."""
    items = torch.tensor([history[-11:-1]])
    return model.user_states(items, items != 0)[0, -1]


def test_prefix_and_sequence_rows_distil_alike(make: Any) -> None:
    losses = []
    for level in ("sequence", "prefix"):
        model, loader = make(train_level=level, train_batch_size=10_000)
        batch = next(iter(loader))
        losses.append(float(model.distillation_loss(batch, model.training_rows(batch))))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_prefix_rows_with_several_negatives_distil_alike(make: Any) -> None:
    negatives = {"distribution": "uniform", "sample_num": 3}
    losses = []
    for options in ({}, {"loss_type": "BCE", "train_neg_sample_args": negatives}):
        model, loader = make(train_level="prefix", train_batch_size=10_000, **options)
        batch = next(iter(loader))
        losses.append(float(model.distillation_loss(batch, model.training_rows(batch))))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def _corrupt_held_out(folder: Path) -> None:
    """Change the items of every user's last two interactions, which leave-one-out holds out."""
    file = folder / "tiny.inter"
    header, *lines = file.read_text().splitlines()
    last = {}
    for number, line in enumerate(lines):
        last.setdefault(line.split("\t")[0], []).append(number)
    for numbers in last.values():
        for number in numbers[-2:]:
            user, item, *rest = lines[number].split("\t")
            other = f"i{(int(item[1:]) + 17) % 60}"
            lines[number] = "\t".join([user, other, *rest])
    file.write_text("\n".join([header, *lines]) + "\n")


def test_neighbors_and_histories_come_from_training_interactions(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recbole_llm import testing

    def derived() -> tuple[Any, ...]:
        model, loader = make(user_prompt="{{ titles | join(', ') }}")
        distillation = model.distillation
        ids = loader.dataset.field2id_token
        similar = {
            token: [ids["user_id"][v] for v in distillation.neighbors[u].tolist() if v >= 0]
            for u, token in enumerate(ids["user_id"])
        }
        items = [ids["item_id"][i] for i in distillation.histories.items.tolist()]
        vectors = loader.dataset.features["user_text"].matrix
        return similar, items, {t: v.tolist() for t, v in zip(ids["user_id"], vectors, strict=True)}

    before = derived()
    original = testing.write_tiny_dataset

    def corrupted(*args: Any, **kwargs: Any) -> Path:
        folder = original(*args, **kwargs)
        _corrupt_held_out(folder)
        return folder

    monkeypatch.setattr(testing, "write_tiny_dataset", corrupted)
    assert derived() == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"views": "semantics"}, "views 'semantics' is unknown; did you mean 'semantic'"),
        ({"teacher": "banks"}, "teacher 'banks' is unknown; did you mean 'bank'"),
        ({"backbone": "SASrec"}, "backbone 'SASrec'.* did you mean 'SASRec'"),
        ({"adapter_layers": 3}, "adapter_layers: expected one of 1, 2, got 3"),
        ({"cross_heads": 3}, "cross_heads: 3 does not divide hidden_size"),
        ({"item_prompt": "{{ 'the same' }}"}, "all item vectors are the same"),
    ],
)
def test_settings_are_checked(make: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**config)


def test_similar_users_are_sought_before_the_training(caplog: pytest.LogCaptureFixture) -> None:
    config, model, (train, valid, _) = TestLLMESR().make()
    batch = next(iter(train))
    with pytest.raises(ValueError, match=r"LLMESR: call before_training\(train_data\)"):
        model.calculate_loss(batch)
    with caplog.at_level("INFO"):
        build_trainer(config, model).fit(train, valid, saved=False)
    lines = [record.getMessage() for record in caplog.records]
    (found,) = (n for n, line in enumerate(lines) if line.startswith("similar users: 10 for each"))
    assert found < next(n for n, line in enumerate(lines) if "training" in line and "epoch" in line)


def test_without_distillation_no_similar_users_are_sought() -> None:
    _, model, (train, _, _) = TestLLMESR().make(alpha=0)
    model.before_training(train)
    assert model.distillation is None
    assert model.calculate_loss(next(iter(train))) > 0


def test_the_adapter_of_vectors_of_one_number() -> None:
    assert Adapter(1, 4)(torch.ones(2, 1)).shape == (2, 4)
    assert Adapter(1, 4).inner is not None and Adapter(1, 4).outer.in_features == 1

"""Contracts of every backbone (causality, padding, options), and each one's arithmetic."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
import torch
from probes import future_leak, padding_effect
from torch import Tensor, nn

from recbole_llm.layers import attention, dropout
from recbole_llm.layers.backbones import BACKBONES, backbone_from_settings
from recbole_llm.layers.backbones.base import Expert, SequenceBackbone
from recbole_llm.layers.backbones.settings import Activation, Backbone, BackboneSettings
from recbole_llm.layers.backbones.transformer import ACTIVATIONS

HIDDEN, LENGTH = 8, 6
LENGTHS = torch.tensor([6, 1, 3, 5])
RIGHT = torch.arange(LENGTH) < LENGTHS.unsqueeze(1)
ORIGINAL = {"original": True, "input_norm": False}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in BACKBONES),
    ("SASRec", ORIGINAL),
    ("SASRec", {"attention_bias": False, "position": False, "hidden_act": "relu"}),
    ("GRU4Rec", {"n_layers": 2, "gru_hidden_size": 5}),
    ("Caser", {"caser_window": 3}),
]


def make(name: str, options: dict[str, Any], length: int = LENGTH) -> nn.Module:
    torch.manual_seed(3)
    backbone = BACKBONES[name](HIDDEN, length, **options)
    for parameter in backbone.parameters():  # biases and gains included
        nn.init.normal_(parameter, std=0.5)
    return backbone.double().eval()


def inputs(length: int = LENGTH) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(len(LENGTHS), length, HIDDEN, dtype=torch.double, generator=generator)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("mask", [RIGHT, RIGHT.flip(1)], ids=["right", "left"])
def test_looks_neither_ahead_nor_at_padding(name: str, options: dict, mask: Tensor) -> None:
    backbone = make(name, options)
    assert backbone(inputs(), mask).isfinite().all()
    assert future_leak(backbone, inputs(), mask) == 0
    assert padding_effect(backbone, inputs(), mask) == 0


EVERY = [
    *VARIANTS,
    ("SASRec", {"n_layers": 1}),
]


@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize("mask", [RIGHT, RIGHT.flip(1)], ids=["right", "left"])
@pytest.mark.parametrize("times", [1, 20])  # 80 rows are more than a tile, and no multiple of it
def test_the_last_output_alone_is_the_same(
    name: str, options: dict, mask: Tensor, times: int
) -> None:
    backbone, mask = make(name, options), mask.repeat(times, 1)
    last = torch.where(mask, torch.arange(LENGTH), 0).amax(1)
    outputs, gradients = [], []
    for run in (lambda x: backbone(x, mask)[torch.arange(len(x)), last], None):
        emb = inputs().repeat(times, 1, 1).requires_grad_()
        output = backbone.last(emb, mask) if run is None else run(emb)
        output.square().sum().backward()
        outputs.append(output)
        gradients.append(emb.grad * mask.unsqueeze(2))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize("mask", [RIGHT, RIGHT.flip(1)], ids=["right", "left"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_some_outputs_alone_are_the_same(
    name: str, options: dict, mask: Tensor, share: float
) -> None:
    backbone, mask = make(name, options), mask.repeat(20, 1)
    wanted = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(7)) < share)
    outputs, gradients = [], []
    for some in (False, True):
        emb = inputs().repeat(20, 1, 1).requires_grad_()
        output = backbone.at(emb, mask, wanted) if some else backbone(emb, mask)[wanted]
        by = torch.autograd.grad(output.square().sum(), [emb, *backbone.parameters()])
        outputs.append(output)
        gradients.append([by[0] * mask.unsqueeze(2), *by[1:]])
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-9)


def test_a_row_without_items_has_a_finite_last_output() -> None:
    mask = torch.zeros_like(RIGHT)
    assert make("SASRec", {}).last(inputs(), mask).isfinite().all()


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_the_last_output_of_a_row_without_items_is_no_other_rows(name: str, options: dict) -> None:
    backbone, mask = make(name, options).eval(), RIGHT.clone()
    mask[2] = False
    emb = inputs() * mask.unsqueeze(2)
    torch.testing.assert_close(backbone.last(emb, mask)[2:3], backbone.last(emb[2:3], mask[2:3]))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_outputs_depend_on_every_earlier_input(name: str, options: dict) -> None:
    emb = inputs().requires_grad_()
    window = options.get("caser_window", LENGTH)
    # The square keeps layer norms from canceling the sum.
    make(name, options)(emb, RIGHT)[0, -1].square().sum().backward()
    assert emb.grad is not None
    assert (emb.grad[0].abs().amax(1) > 0).tolist() == [t >= LENGTH - window for t in range(LENGTH)]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_more_padding_changes_nothing(name: str, options: dict) -> None:
    emb, more = inputs(), 3
    options = {"caser_window": 3, **options} if name == "Caser" else options
    backbone = make(name, options, LENGTH + more)
    longer = torch.cat([emb, torch.ones(len(emb), more, HIDDEN, dtype=emb.dtype)], 1)
    mask = torch.cat([RIGHT, torch.zeros(len(emb), more, dtype=torch.bool)], 1)
    short, long = backbone(emb, RIGHT), backbone(longer, mask)
    torch.testing.assert_close(short[RIGHT], long[mask], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["GRU4Rec", "Caser"])
def test_padding_side_does_not_matter_without_positions(name: str) -> None:
    backbone, emb = make(name, {}), inputs()
    left = torch.zeros_like(emb)
    left[RIGHT.flip(1)] = emb[RIGHT]
    torch.testing.assert_close(
        backbone(emb, RIGHT)[RIGHT], backbone(left, RIGHT.flip(1))[RIGHT.flip(1)]
    )


@pytest.mark.parametrize("options", [{}, ORIGINAL])
def test_training_without_dropout_is_inference(options: dict) -> None:
    """Attention is computed in two ways: one for training on a CPU, torch's fused one otherwise."""
    off = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
    backbone = make("SASRec", {**options, **off}).train()
    for mask in (RIGHT, RIGHT.flip(1), RIGHT[:1]):
        emb = inputs()[: len(mask)]
        trained = backbone(emb, mask)
        assert trained.requires_grad
        with torch.no_grad():
            torch.testing.assert_close(backbone(emb, mask), trained)


@pytest.mark.parametrize("options", [{}, ORIGINAL])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_by_differences(options: dict, dropout: float) -> None:
    rates = {"hidden_dropout_prob": dropout, "attn_dropout_prob": dropout, "n_layers": 1}
    backbone = make("SASRec", {**options, **rates}).train()

    def states(x: Tensor, mask: Tensor) -> Tensor:
        torch.manual_seed(1)  # the same elements are dropped each time
        return backbone(x, mask)[mask]

    for mask in (RIGHT[1:3], RIGHT[1:3].flip(1)):
        emb = inputs()[1:3].requires_grad_()
        assert torch.autograd.gradcheck(lambda x, m=mask: states(x, m), emb)


@pytest.mark.parametrize(
    ("name", "options", "rates"),
    [
        ("SASRec", {}, [0.1, *[0.2, 0.1, 0.1] * 2]),  # inputs; attention and both sums of a block
        ("SASRec", ORIGINAL, [0.1, *[0.2, 0.1, 0.1] * 2]),
        ("GRU4Rec", {}, [0.1]),
        ("Caser", {}, [0.1]),
    ],
)
def test_training_alone_drops_out(
    name: str, options: dict, rates: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []

    def keep_nothing(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
        drawn.append(p)
        return torch.zeros(shape, dtype=dtype)

    for module in (attention, dropout):
        monkeypatch.setattr(module, "keep_mask", keep_nothing)
    given = {"hidden_dropout_prob": 0.1, "attn_dropout_prob": 0.2}
    known = inspect.signature(BACKBONES[name]).parameters
    backbone = make(name, {**options, **{key: given[key] for key in given if key in known}})
    expected = backbone(inputs(), RIGHT)
    assert drawn == [] and not backbone.train()(inputs(), RIGHT).equal(expected)
    assert drawn == rates


class _Same(SequenceBackbone):
    def forward(self, emb: Tensor, mask: Tensor) -> Tensor:
        return emb


def test_training_drops_what_an_expert_reads_of_items() -> None:
    expert, ids = Expert(nn.Embedding(9, 50), _Same(), 0.5), torch.arange(1, 9)[None]
    whole = expert.eval()(ids, ids != 0)
    assert whole.equal(expert.items(ids))
    some = expert.train()(ids, ids != 0)
    kept = some != 0
    assert 0.2 < kept.double().mean() < 0.8
    torch.testing.assert_close(some[kept], 2 * whole[kept])


@pytest.mark.parametrize("options", [{}, ORIGINAL])
def test_padding_adds_nothing_to_the_gradients_of_weights(options: dict) -> None:
    off = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
    backbone = make("SASRec", {**options, **off}).train()
    backbone(inputs(), RIGHT)[RIGHT].square().sum().backward()
    together = {name: p.grad.clone() for name, p in backbone.named_parameters()}
    backbone.zero_grad()
    for row, length in zip(inputs(), LENGTHS.tolist(), strict=True):
        whole = torch.ones(1, length, dtype=torch.bool)
        backbone(row[None, :length], whole).square().sum().backward()
    for name, parameter in backbone.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, rtol=1e-8, atol=1e-8)


def test_gradients_flow_in_training_mode() -> None:
    for name in BACKBONES:
        backbone = BACKBONES[name](HIDDEN, LENGTH).train()
        emb = inputs().float().requires_grad_()
        backbone(emb, RIGHT)[RIGHT].square().sum().backward()
        assert emb.grad is not None and emb.grad.isfinite().all()
        assert emb.grad[~RIGHT].abs().sum() == 0
        for parameter in backbone.parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all()


def test_caser_by_hand() -> None:
    """One dimension, window 2: a vertical filter (3, 5) and horizontal ones of height 1 and 2."""
    backbone = BACKBONES["Caser"](1, 4, caser_window=2, nv=1, nh=1).eval()
    one, two = backbone.horizontal
    with torch.no_grad():
        backbone.vertical.weight.copy_(torch.tensor([[3.0, 5.0]]))
        one.weight.fill_(2.0)
        two.weight.copy_(torch.tensor([[[1.0, -1.0]]]))
        for bias in (backbone.vertical.bias, one.bias, two.bias):
            bias.zero_()
        backbone.dense.weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]))
    emb = torch.tensor([[[1.0], [4.0], [2.0]]])
    # Windows (0, 1), (1, 4), (4, 2): 3a + 5b; max relu(2 item); relu(a - b).
    expected = [5 + 10 * 2 + 0, 23 + 10 * 8 + 0, 22 + 10 * 8 + 100 * 2]
    states = backbone(emb, torch.ones(1, 3, dtype=torch.bool))
    assert states.flatten().tolist() == pytest.approx(expected)


def test_unknown_names_and_options() -> None:
    with pytest.raises(ValueError, match="n_heads=3 does not divide hidden_size=8"):
        BACKBONES["SASRec"](8, 6, n_heads=3)


def test_batches_longer_than_the_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="max_length is 4"):
        BACKBONES["SASRec"](HIDDEN, 4)(inputs().float(), RIGHT)


def test_from_settings() -> None:
    settings = BackboneSettings(hidden_size=8, n_layers=3, n_heads=4, nv=9)
    backbone = backbone_from_settings(settings, 6)
    assert len(backbone.blocks) == 3
    assert backbone.blocks[0].attention.n_heads == 4
    assert backbone.blocks[0].dense_1.out_features == 32
    original = backbone_from_settings(settings, 6, n_layers=1, original=True)
    assert original.last_norm and len(original.blocks) == 1
    caser = settings.model_copy(update={"backbone": "Caser"})
    assert backbone_from_settings(caser, 6).vertical.out_features == 9
    assert [backbone_from_settings(caser, length).window for length in (6, 50)] == [6, 10]
    gru = settings.model_copy(update={"backbone": "GRU4Rec"})
    weights = backbone_from_settings(gru, 6).gru
    assert weights.hidden_size == 16
    for weight in weights.parameters():  # Xavier's uniform ones
        assert 0.9 < weight.abs().max() / (6 / sum(weight.shape)) ** 0.5 <= 1


def test_weights_of_a_transformer_start_as_far_apart_as_asked() -> None:
    settings = BackboneSettings(hidden_size=32, initializer_range=0.5, backbone="BERT4Rec")
    for part in backbone_from_settings(settings, 50).modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            assert part.weight.std().item() == pytest.approx(0.5, rel=0.15)
        if isinstance(part, nn.Linear):
            assert not part.bias.any()


def test_settings_know_every_backbone_and_activation() -> None:
    assert set(get_args(Backbone)) == set(BACKBONES)
    assert set(get_args(Activation)) == set(ACTIVATIONS)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="n_heads: 3 does not divide hidden_size 64"):
        BackboneSettings.of({"n_heads": 3})
    assert BackboneSettings.of({"n_heads": 3, "backbone": "GRU4Rec"}).n_heads == 3


def test_settings_know_what_each_backbone_reads() -> None:
    keys = set(BackboneSettings.model_fields) - {"backbone"}
    for name, factory in BACKBONES.items():
        unread = set(BackboneSettings.unread({"backbone": name}))
        assert keys - unread == keys & set(inspect.signature(factory).parameters), name

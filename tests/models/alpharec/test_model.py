"""AlphaRec on a tiny data set: model tests, sampling, leaks and scores from texts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recbole_llm.data.rows.training import training_interactions
from recbole_llm.models.alpharec.query import mix_with_similarity, query_from_nearest_texts
from recbole_llm.models.alpharec.text_map import MLPMap, TextLinear
from recbole_llm.testing import ModelTests

SPLIT = {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO", "group_by": "user"}}


class TestAlphaRec(ModelTests):
    model = "AlphaRec"
    config: ClassVar[dict[str, Any]] = {
        "embedding_size": 8, "n_neg": 16, "train_batch_size": 64, "text_whitening": 0.0
    }  # fmt: skip


class TestLinear(TestAlphaRec):
    config: ClassVar[dict[str, Any]] = {**TestAlphaRec.config, "text_map": "linear"}


class TestWhitened(TestAlphaRec):
    config: ClassVar[dict[str, Any]] = {**TestAlphaRec.config, "text_whitening": 0.75}


class TestInBatch(TestAlphaRec):
    config: ClassVar[dict[str, Any]] = {
        **TestAlphaRec.config,
        "negatives": "in_batch",
        "sample_by": "user",
    }


class TestMixedPrecision(TestAlphaRec):
    config: ClassVar[dict[str, Any]] = {
        **TestAlphaRec.config, "enable_amp": True, "embedding_size": 32, "map_hidden_size": 8
    }  # fmt: skip


class TestRecBolesSampler(TestAlphaRec):
    config: ClassVar[dict[str, Any]] = {
        **TestAlphaRec.config,
        "train_neg_sample_args": {"distribution": "popularity", "sample_num": 4, "alpha": 1.0},
    }


def _make(**keys: Any) -> tuple[Any, Any, Any]:
    return TestAlphaRec().make(**{**SPLIT, **keys})


def test_a_checkpoint_holds_the_map_alone() -> None:
    _, model, _ = _make()
    layers = [f"text_map.{layer}" for layer in ("hidden", "out")]
    assert set(model.state_dict()) == {f"{x}.{y}" for x in layers for y in ("weight", "bias")}


def test_graph_and_user_means_hold_training_interactions_alone() -> None:
    _, model, loaders = _make()
    users, items = training_interactions(loaders[0].dataset)
    pairs = sorted({(int(u), int(i)) for u, i in zip(users, items, strict=True)})
    graph = model.graph
    of_graph = torch.repeat_interleave(torch.arange(graph.n_users), graph.user_degrees)
    assert sorted(zip(of_graph.tolist(), graph.user_items.tolist(), strict=True)) == pairs
    held_out = {
        (int(u), int(i))
        for loader in loaders[1:]
        for u, i in zip(
            *(loader.dataset.inter_feat[f] for f in ("user_id", "item_id")), strict=True
        )
    }
    assert held_out and not (held_out - set(pairs)) & set(pairs)
    text = model.text.weight
    user = pairs[0][0]
    own = [i for u, i in pairs if u == user]
    torch.testing.assert_close(graph.user_means(text)[user], text[own].mean(0))


def test_a_user_without_training_items_moves_no_other_row() -> None:
    _, model, loaders = _make()
    users, items = training_interactions(loaders[0].dataset)
    kept = users != 5
    with torch.no_grad():
        before, _ = model()
        model.set_interactions(users[kept], items[kept])
        after, _ = model()
    assert torch.isfinite(after).all()
    torch.testing.assert_close(after[5], model.text_map(torch.zeros(16)).detach() / 3)
    assert float((after[4] - before[4]).norm()) < float(before[4].norm()) / 2
    assert 5 not in model.graph.draw(2000)[0]


def test_in_batch_loss_by_hand() -> None:
    _, model, loaders = _make(negatives="in_batch")
    batch = next(iter(loaders[0]))[:6]
    users, items = batch["user_id"], batch["item_id"]
    loss = model.calculate_loss(batch)
    all_users, all_items = model()
    z = F.normalize(all_users, dim=1)[users] @ F.normalize(all_items, dim=1)[items].T / model.tau
    own = {u: set(model.graph.user_items[s : s + d].tolist())
           for u, s, d in zip(range(model.n_users), model.graph.user_starts.tolist(),
                              model.graph.user_degrees.tolist(), strict=True)}  # fmt: skip
    rows = []
    for b in range(6):
        others = [j for j in range(6) if int(items[j]) not in own[int(users[b])]]
        logits = torch.stack([z[b, b], *(z[b, j] for j in others)])
        rows.append(torch.logsumexp(logits, 0) - z[b, b])
    torch.testing.assert_close(loss, torch.stack(rows).mean())


def test_in_batch_cosines_stay_in_single_precision() -> None:
    _, model, loaders = _make(negatives="in_batch")
    batch = next(iter(loaders[0]))
    users, items = batch["user_id"], batch["item_id"]
    vectors = F.normalize(torch.randn(2, len(batch), 8), dim=-1)
    losses = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses.append(model._in_batch_loss(*vectors, users, items))
    assert losses[0].equal(losses[1])


def test_sampled_negatives_are_not_the_users() -> None:
    _, model, loaders = _make()
    users, items, negatives = model.training_pairs(next(iter(loaders[0])))
    own = {
        (int(u), int(i)) for u, i in zip(*training_interactions(loaders[0].dataset), strict=True)
    }
    drawn = {(int(u), int(j)) for u, row in zip(users, negatives, strict=True) for j in row}
    assert negatives.shape == (len(users), 16) and not drawn & own
    assert {(int(u), int(i)) for u, i in zip(users, items, strict=True)} <= own


def test_score_users_is_the_convolution() -> None:
    _, model, _ = _make()
    model.eval()
    graph = model.graph
    histories = [graph.user_items[s : s + d] for s, d in
                 zip(graph.user_starts[1:6], graph.user_degrees[1:6], strict=True)]  # fmt: skip
    scores = model.score_users(histories)
    expected = model._normalized()[0][1:6] @ model._normalized()[1].T
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(model.score_users([h.repeat(2) for h in histories]), expected)
    query = torch.randn(16)
    model.query_neighbors, model.query_share = 0, 0.0  # as in the authors' code
    moved = model.score_users(histories, query, 0.25)
    text = graph.user_means(model.text.weight)[1:6]
    f = model.text_map
    final = model()[0][1:6] + (f(0.75 * text + 0.25 * query) - f(text)) / (model.n_layers + 1)
    torch.testing.assert_close(moved, F.normalize(final, dim=1) @ model._normalized()[1].T)
    alone = model.score_users([torch.tensor([], dtype=torch.long)], query, 0.25)
    torch.testing.assert_close(alone[0], F.normalize(f(query), dim=0) @ model._normalized()[1].T)
    model.query_share = 0.5
    shares = (model.score_users([torch.tensor([], dtype=torch.long)], query, a) for a in (0.1, 0.9))
    torch.testing.assert_close(*shares)


def test_similarity_of_texts_has_a_share_of_a_querys_scores() -> None:
    """Cosines 1, 0.6 and 0 have the mean 8/15 and the deviation sqrt(0.2533); the scores 1, 2 and
    3 have the mean 2 and the deviation 1."""
    texts = torch.tensor([[0.0, 0.0], [2.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    found, query = torch.tensor([[9.0, 1.0, 2.0, 3.0]] * 3), torch.tensor([5.0, 0.0])
    mixed = mix_with_similarity(found, texts, query, torch.tensor([0.0, 0.25, 0.5]))
    assert torch.equal(mixed[0], found[0])
    like = 2 + (np.array([1, 0.6, 0]) - 8 / 15) / np.sqrt(0.76 / 3)
    for row, share in ((1, 0.25), (2, 0.5)):
        wanted = (1 - share) * np.array([1, 2, 3]) + share * like
        np.testing.assert_allclose(mixed[row, 1:].numpy(), wanted, rtol=1e-5)


@pytest.mark.parametrize("texts", [[[1.0, 1.0]], [[0.1, 0.3]] * 5], ids=["one item", "one text"])
def test_texts_that_are_all_as_near_to_a_query_leave_the_order_to_the_scores(
    texts: list[list[float]],
) -> None:
    found = torch.tensor([[0.0, *range(len(texts))]])
    query = torch.tensor([1.0, 0.2])
    mixed = mix_with_similarity(
        found, torch.tensor([[0.0, 0.0], *texts]), query, torch.tensor([0.5])
    )
    halfway = (found[:, 1:] + found[:, 1:].mean()) / 2
    torch.testing.assert_close(mixed[:, 1:], halfway)


def test_a_query_is_read_as_the_texts_of_the_items_nearest_to_it() -> None:
    """Three items have the cosines 1, 0.6 and 0; the two nearest count."""
    texts = torch.tensor([[0.0, 0.0], [2.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    query = torch.tensor([5.0, 0.0])
    weight = 1 / (1 + np.exp((0.6 - 1) / 0.05))
    wanted = [2 * weight + 3 * (1 - weight), 4 * (1 - weight)]
    found = query_from_nearest_texts(query, texts, 2)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float32))
    # With more neighbors than items, all items count, but not the padding.
    all_items = query_from_nearest_texts(-query, texts, 99)
    torch.testing.assert_close(all_items, texts[3], rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("part", ["text_map", None], ids=["the map, as zero-shot does", "all"])
def test_cached_vectors_follow_the_weights(part: str | None) -> None:
    _, model, _ = _make()
    before, layers = model.ranked_vectors(), model._item_layers()
    assert model.ranked_vectors().data_ptr() == before.data_ptr()
    assert model._item_layers() is layers
    loaded = getattr(model, part) if part else model
    loaded.load_state_dict({k: 1 - v for k, v in loaded.state_dict().items()})
    if part:
        model.eval()
    assert not torch.equal(model.ranked_vectors(), before)
    torch.testing.assert_close(model.ranked_vectors(), F.normalize(model()[1], dim=1))
    torch.testing.assert_close(model._item_layers(), model._sum_layers())
    assert not torch.equal(model._item_layers(), layers)


@pytest.mark.parametrize("fused", [False, True])
def test_cached_vectors_follow_training(fused: bool) -> None:
    _, model, loaders = _make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=fused)
    seen = []
    for _ in range(3):
        model.eval()
        seen.append(model._normalized()[1])
        torch.testing.assert_close(seen[-1], F.normalize(model()[1].detach(), dim=1))
        model.train()
        model.calculate_loss(next(iter(loaders[0]))).backward()
        optimizer.step()
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"text_map": "mpl"}, "text_map 'mpl' is unknown; did you mean 'mlp'"),
        ({"negatives": "batch"}, "negatives 'batch' is unknown.*choose from sampled, in_batch"),
        (
            {"text_whitening": 2.0},
            "text_whitening: expected a number of at least 0 and at most 1, got 2.0",
        ),
        ({"tau": 0.0}, "tau: expected a number above 0, got 0.0"),
        (
            {
                "sample_by": "user",
                "train_neg_sample_args": {"distribution": "uniform", "sample_num": 2},
            },
            "train_neg_sample_args: RecBole's sampler draws interactions",
        ),
    ],
)
def test_bad_values(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _make(**keys)


def test_repeated_pairs_weigh_one() -> None:
    _, model, loaders = _make()
    users, items = training_interactions(loaders[0].dataset)
    before = model()[0]
    model.set_interactions(np.tile(users, 2), np.tile(items, 2))
    torch.testing.assert_close(model()[0], before)


@torch.no_grad()
def test_cached_vectors_follow_the_interactions() -> None:
    _, model, loaders = _make()
    model.ranked_vectors(), model._item_layers()
    users, items = training_interactions(loaders[0].dataset)
    model.set_interactions(users[::2], items[::2])
    torch.testing.assert_close(model.ranked_vectors(), F.normalize(model()[1], dim=1))
    torch.testing.assert_close(model._item_layers(), model._sum_layers())


def test_vectors_of_one_number_go_through_the_map() -> None:
    text = np.arange(5, dtype=np.float32)[:, None]
    made = MLPMap(text, None, 3, 0.5)
    assert {p.shape[0] for p in made.parameters() if p.dim() == 2} == {1, 3}


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_whitened_texts_go_through_the_map_alike_under_autocast(bias: bool) -> None:
    text = np.random.default_rng(0).normal(3, 1, (40, 6)).astype(np.float32)
    layer, x = TextLinear(text, 5, 0.5, bias), torch.from_numpy(text)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x).float(), expected, rtol=0.02, atol=0.02)
    assert bool(layer.center.any()) == bias  # a layer without bias could not undo it

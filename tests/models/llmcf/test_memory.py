"""Which examples enter the context of which query."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recbole_llm.data.rows.interaction import take
from recbole_llm.models.llmcf.context import InContext
from recbole_llm.models.llmcf.decoder import Decoder
from recbole_llm.models.llmcf.memory import NONE, ExampleStore
from recbole_llm.models.llmcf.model import CONTEXT
from recbole_llm.models.llmcf.search import ExampleSearch
from recbole_llm.testing import CTRModelTests, ModelTests

SMALL = {"mlp_hidden_size": [8], "thought_examples": 60, "context_size": 8}


class _Made(CTRModelTests):
    """Provides `make` and runs no tests."""

    __test__ = False
    model = "LLMCF"
    config = SMALL


class _MadeRetrieval(ModelTests):
    __test__ = False
    model = "LLMCFRetrieval"
    config = {"hidden_size": 8, "thought_examples": 60}


def find_examples(model: Any, rows: Any) -> torch.Tensor:
    """Return the contexts of rows with a target."""
    found: torch.Tensor = model.find_examples(
        rows["user_id"], rows["item_id_list"], rows["item_id"]
    )
    return found


def brute_force(search: ExampleSearch, row: Any, item: int | None) -> list[tuple[int, float]]:
    """Return labels and similarities of a query's context, found by comparing all examples."""
    memory = search.store
    history = row["item_id_list"][row["item_id_list"] != 0]
    text = memory.text.weight[history].mean(0)
    scores: dict[int, list[float]] = {0: [], 1: []}
    for e in range(len(memory.users)):
        earlier = memory.histories[e][memory.histories[e] != 0]
        if memory.users[e] == row["user_id"] and len(earlier) >= len(history):
            continue
        score = text @ memory.text.weight[earlier].mean(0)
        if item is not None:
            score = score + memory.text.weight[item] @ memory.text.weight[memory.items[e]]
        scores[int(memory.labels[e])].append(float(score))
    few = search.n_examples // 2 if search.both_labels else 0
    return [
        (label, score)
        for label, count in ((1, search.n_examples - few), (0, few))
        for score in sorted(scores[label], reverse=True)[:count]
    ]


def labels_and_similarities(
    memory: ExampleStore, row: Any, item: int | None, found: torch.Tensor
) -> list[tuple[int, float]]:
    history = row["item_id_list"][row["item_id_list"] != 0]
    text = memory.text.weight[history].mean(0)
    out = []
    for e in found[found != NONE].tolist():
        score = text @ memory.history_text[e]
        if item is not None:
            score = score + memory.text.weight[item] @ memory.text.weight[memory.items[e]]
        out.append((int(memory.labels[e]), float(score)))
    return out


def check(search: ExampleSearch, row: Any, item: int | None, found: torch.Tensor) -> None:
    expected = brute_force(search, row, item)
    actual = labels_and_similarities(search.store, row, item, found)
    assert [label for label, _ in actual] == [label for label, _ in expected]
    np.testing.assert_allclose([s for _, s in actual], [s for _, s in expected], atol=1e-6)
    assert len(set(found[found != NONE].tolist())) == len(expected)


@pytest.mark.parametrize("count", [1, 4, 7])
def test_half_of_each_label_by_both_texts(count: int) -> None:
    _, model, loaders = _Made().make(n_examples=count)
    for name in model.memory.columns._fields:  # fewer of label 0, which come last
        setattr(model.memory, name, getattr(model.memory, name)[:-10])
    model.memory._derive()
    for loader in (loaders[0], loaders[2]):
        rows = take(loader.dataset.inter_feat, np.arange(40))
        found = find_examples(model, rows)
        for i in range(len(rows)):
            check(model.search, rows[i], int(rows["item_id"][i]), found[i])


def test_retrieval_is_by_the_history_and_never_by_the_target() -> None:
    _, model, loaders = _MadeRetrieval().make()
    rows = take(loaders[0].dataset.inter_feat, np.arange(40))
    lengths = (rows["item_id_list"] != 0).sum(1)
    text = model.memory.mean_text(rows["item_id_list"])
    found = model.search.find(rows["user_id"], lengths, text)
    for i in range(len(rows)):
        check(model.search, rows[i], None, found[i])


def test_many_histories_are_sought_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, loaders = _MadeRetrieval().make()
    rows = take(loaders[0].dataset.inter_feat, np.arange(40))
    history, search = rows["item_id_list"], model.search
    query = rows["user_id"], (history != 0).sum(1), model.memory.mean_text(history)
    whole, similar, sizes = search.find(*query), search._similarities, []
    name = "recbole_llm.models.llmcf.search.FLOATS"
    monkeypatch.setattr(name, 7 * len(model.memory.users))
    monkeypatch.setattr(search, "_similarities", lambda *q: sizes.append(len(q[0])) or similar(*q))
    assert search.find(*query).equal(whole)
    assert sizes == [7, 7, 7, 7, 7, 5]


@pytest.mark.parametrize("made", [_Made, _MadeRetrieval])
def test_the_search_is_exact_under_autocast(made: type[ModelTests]) -> None:
    """Training under enable_amp finds the same contexts as evaluation in single precision."""
    _, model, loaders = made().make()
    rows = take(loaders[0].dataset.inter_feat, np.arange(40))
    history = rows["item_id_list"]
    targets = rows["item_id"] if model.search.both_labels else None
    query = rows["user_id"], (history != 0).sum(1), model.memory.mean_text(history), targets
    expected = model.search.find(*query)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.search.find(*query).equal(expected)


@pytest.mark.parametrize("retrieval", ["nearest", "random"])
@pytest.mark.parametrize("length", [10, 3])  # 3 cuts histories, which hides positions
def test_no_context_holds_the_query_or_a_later_one_of_its_user(retrieval: str, length: int) -> None:
    config = {"n_examples": 40, "retrieval": retrieval, "MAX_ITEM_LIST_LENGTH": length}
    _, model, loaders = _Made().make(thought_examples=10_000, **config)
    inter, memory = loaders[0].dataset.inter_feat, model.memory
    rows = take(inter, np.arange(len(inter)))
    place = {}  # row of each interaction; rows are by user, in order of time
    for i in range(len(rows)):
        key = (int(rows["user_id"][i]), int(rows["item_id"][i]), int(rows["label"][i]))
        place.setdefault((*key, tuple(rows["item_id_list"][i].tolist())), i)
    examples = [
        place[int(u), int(i), int(y), tuple(h.tolist())]
        for u, i, y, h in zip(memory.users, memory.items, memory.labels, memory.histories)
    ]
    found, own = find_examples(model, rows), 0
    for i in range(len(rows)):
        for e in found[i][found[i] != NONE].tolist():
            if memory.users[e] == rows["user_id"][i]:
                own += 1
                assert examples[e] < i
    assert own, "no query has an earlier example of its user: the test tests nothing"


def test_random_contexts_are_the_same_each_time_and_differ_between_queries() -> None:
    _, model, loaders = _Made().make(retrieval="random")
    rows = take(loaders[0].dataset.inter_feat, np.arange(40))
    found = find_examples(model, rows)
    assert found.equal(find_examples(model, rows))
    assert len(found.unique(dim=0)) > 30
    rows["user_id"] = rows["user_id"].flip(0)
    assert (found != find_examples(model, rows)).any(1).sum() > 30  # users differ, too


def test_contexts_of_training_rows_are_found_once_before_training() -> None:
    _, model, loaders = _Made().make()
    batch = next(iter(loaders[0]))
    with torch.no_grad():
        before = model.calculate_loss(batch)
        model.before_training(loaders[0])
        known = loaders[0].dataset.inter_feat[CONTEXT]
        assert known.shape == (len(loaders[0].dataset), 4)
        rows = loaders[0].collate_fn(torch.arange(7))
        assert rows[CONTEXT].equal(find_examples(model, rows))
        batch.update(type(batch)({CONTEXT: find_examples(model, batch)}))
        assert model.calculate_loss(batch).allclose(before)


def test_contexts_of_negatives_that_are_drawn_later_are_not_found_before() -> None:
    negatives = {"distribution": "uniform", "sample_num": 1}
    _, model, loaders = _Made().make(train_neg_sample_args=negatives)
    model.before_training(loaders[0])
    assert CONTEXT not in next(iter(loaders[0]))


@pytest.mark.parametrize(
    ("name", "value"), [("users", 999), ("histories", -1), ("items", 61), ("labels", 2)]
)
def test_examples_of_a_checkpoint_are_checked(name: str, value: int) -> None:
    _, model, _ = _Made().make()
    state = model.state_dict()
    state[f"memory.{name}"] = torch.full_like(state[f"memory.{name}"], value)
    with pytest.raises(ValueError, match=f"examples are damaged: memory.{name} does not fit"):
        model.load_state_dict(state)


@pytest.mark.parametrize("name", ["items", "thoughts", "histories"])
def test_example_columns_of_unequal_lengths_are_refused(name: str) -> None:
    _, model, _ = _Made().make()
    state = model.state_dict()
    state[f"memory.{name}"] = state[f"memory.{name}"][1:]
    with pytest.raises(ValueError, match=f"examples are damaged: memory.{name} does not fit"):
        model.load_state_dict(state)


def test_absent_examples_do_not_count() -> None:
    """The feature depends only on the examples that are present."""
    torch.manual_seed(0)
    network = InContext(3, [5, 8])
    query, made, cot = torch.randn(1, 8), torch.randn(2, 8), torch.randn(2, 5)
    labels = torch.tensor([1, 0])
    with torch.no_grad():
        whole = network(query, made, cot, labels, torch.tensor([[NONE, NONE]]))
        other = network(query, made + 1, cot, labels, torch.tensor([[NONE, NONE]]))
        assert whole.equal(other) and network.reconstruction == 0
        one = network(query, made, cot, labels, torch.tensor([[0, NONE]]))
        moved = network(query, made * torch.tensor([[1.0], [9.0]]), cot, labels,
                        torch.tensor([[0, NONE]]))  # fmt: skip
        assert one.equal(moved) and not one.allclose(whole)


@torch.no_grad()
def test_no_token_sees_an_absent_one() -> None:
    torch.manual_seed(0)
    decoder, tokens = Decoder(8), torch.randn(1, 4, 8)
    moved, present = tokens.clone(), torch.tensor([[True, False, True, True]])
    moved[:, 1] += 1
    assert decoder(tokens, present)[:, 2:].equal(decoder(moved, present)[:, 2:])
    assert not decoder(tokens)[:, 2:].allclose(decoder(moved)[:, 2:])


def test_evaluation_leaves_out_what_only_training_needs() -> None:
    torch.manual_seed(0)
    network = InContext(3, [5, 8])
    given = torch.randn(1, 8), torch.randn(2, 8), torch.randn(2, 5), torch.tensor([1, 0])
    chosen = torch.tensor([[0, 1]])
    with torch.no_grad():
        learned = network(*given, chosen)
        assert network.reconstruction > 0
        network.eval()
        assert network(*given, chosen).allclose(learned, atol=1e-6)
        assert network.reconstruction == 0


def test_without_thoughts_there_is_no_such_token_and_no_reconstruction() -> None:
    network = InContext(3, [5, 8], with_thoughts=False)
    chosen = torch.tensor([[0, 1]])
    labels = torch.tensor([1, 0])
    query, made = torch.randn(1, 8), torch.randn(2, 8)
    with torch.no_grad():
        one = network(query, made, torch.randn(2, 5), labels, chosen)
        assert one.equal(network(query, made, torch.randn(2, 5), labels, chosen))
    assert network.reconstruction == 0


def test_a_user_without_items_has_no_other_users_state() -> None:
    _, model, loaders = _MadeRetrieval().make()
    assert not any(t.weight[0].any() for t in (model.item_embedding, model.user_embedding))
    rows = next(iter(loaders[2]))[0][:2]
    rows["item_id_list"][0] = 0
    rows["item_id_list"][1, 2:] = 0  # as many items as there are rows
    together = model.full_sort_predict(rows)
    for row in range(2):
        alone = model.full_sort_predict(rows[torch.tensor([row])])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_a_batch_whose_queries_have_no_examples() -> None:
    """The only example is a later interaction of the same user."""
    _, model, loaders = _MadeRetrieval().make(thought_examples=1)
    rows = next(iter(loaders[2]))[0]
    own = rows[(rows["user_id"] == model.memory.users[0]).nonzero().view(-1)]
    own["item_id_list"][:, model.memory.lengths[0] :] = 0
    assert model.full_sort_predict(own).isfinite().all()


def test_equal_histories_of_one_user_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, loaders = _MadeRetrieval().make()
    rows = next(iter(loaders[2]))[0][:2]
    rows["item_id_list"][1] = rows["item_id_list"][0]  # two users, who are told apart
    expected = model.full_sort_predict(rows)
    read: list[int] = []
    states = model._encode_at
    monkeypatch.setattr(
        model, "_encode_at", lambda users, *rest: (read.append(len(users)), states(users, *rest))[1]
    )
    candidates = take(rows, torch.tensor([0, 1, 0, 1, 0]))
    candidates["item_id"] = torch.tensor([1, 2, 3, 4, 5])
    found = model.predict(candidates)
    torch.testing.assert_close(found, expected[[0, 1, 0, 1, 0], [1, 2, 3, 4, 5]])
    assert read == [2] and not expected[0].equal(expected[1])

"""Histories and self-distillation on small numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recbole_llm.data.rows.training import training_interactions
from recbole_llm.features.tables.checkpointed import feature_state
from recbole_llm.models.llmesr.distillation import Histories, SelfDistillation
from recbole_llm.testing import SequentialModelTests

# Users 1: 5 6 7; 2: 8; 3: 1 2 3 4; user 4 has no history.
USERS = np.array([1, 1, 1, 2, 3, 3, 3, 3])
ITEMS = np.array([5, 6, 7, 8, 1, 2, 3, 4])


@pytest.fixture
def histories() -> Histories:
    return Histories(USERS, ITEMS, 5)


def _made(histories: Histories, neighbors: list[list[int]], teacher: str) -> SelfDistillation:
    table = np.array(neighbors, dtype=np.int32)
    return SelfDistillation(histories, table, 2, max_length=2, teacher=teacher)


def sums(items: Tensor) -> Tensor:
    """A stand-in for the network: [sum of the items, 1]."""
    return torch.stack([items.sum(1).float(), torch.ones(len(items))], dim=1)


def test_histories(histories: Histories) -> None:
    assert histories.lengths.tolist() == [0, 3, 1, 4, 0]
    assert histories.last(torch.tensor([3, 1])).tolist() == [4, 7]
    rows = histories.before_last(torch.tensor([1, 2, 3]), 2)
    assert rows.tolist() == [[5, 6], [0, 0], [2, 3]]
    assert histories.before_last(torch.tensor([1]), 9).tolist() == [[5, 6]]
    assert not list(histories.parameters()) and not histories.state_dict()


def test_rows_that_end_a_history(histories: Histories) -> None:
    made = _made(histories, [[-1]] * 5, "exact")
    users = torch.tensor([1, 1, 3, 3, 3])
    rows = torch.tensor([[5, 6, 0], [5, 0, 0], [2, 3, 0], [3, 0, 0], [2, 3, 0]])
    targets = torch.tensor([7, 6, 4, 4, 9])
    assert made.is_history_end(users, rows, targets).tolist() == [True, False, True, False, False]


def test_exact_by_hand(histories: Histories) -> None:
    made = _made(histories, [[-1, -1], [3, 2], [1, -1], [1, 2], [-1, -1]], "exact")
    seen = []

    def encode(items: Tensor) -> Tensor:
        seen.append(items.tolist())
        return sums(items)

    states = torch.tensor([[1.0, 0.0], [10.0, 1.0]], requires_grad=True)
    loss = made(states, torch.tensor([1, 2]), encode)
    # Teachers of user 1: the mean of users 3 (2 + 3) and 2 (nothing); of user 2: user 1 (5 + 6).
    expected = ((1 - 2.5) ** 2 + (0 - 1) ** 2 + (10 - 11) ** 2 + 0) / 4
    assert loss.item() == pytest.approx(expected)
    assert seen == [[[0, 0], [5, 6], [2, 3]]], "each distinct user once, by length"
    loss.backward()  # type: ignore[no-untyped-call]
    assert states.grad is not None and states.grad.tolist() == [[-0.75, -0.5], [-0.5, 0.0]]


def test_users_in_several_parts(histories: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _made(histories, [[-1, -1], [3, 2], [1, 3], [1, 2], [-1, -1]], "exact")
    states, users = torch.rand(3, 2), torch.tensor([3, 1, 2])
    whole = made(states, users, sums)
    monkeypatch.setattr("recbole_llm.models.llmesr.distillation.USERS_AT_ONCE", 1)
    torch.testing.assert_close(made(states, users, sums), whole)


def test_no_teacher_no_loss(histories: Histories) -> None:
    made = _made(histories, [[-1]] * 5, "exact")
    loss = made(torch.ones(1, 2), torch.tensor([1]), _never)
    assert float(loss) == 0
    assert float(made(torch.ones(0, 2), torch.tensor([], dtype=torch.long), _never)) == 0


def test_bank_teaches_what_it_has_seen(histories: Histories) -> None:
    made = _made(histories, [[-1, -1], [3, 2], [1, 3], [1, 2], [-1, -1]], "bank")
    one, three = torch.tensor([1]), torch.tensor([3])
    assert float(made(torch.tensor([[2.0, 4.0]]), one, _never)) == 0  # nobody is known yet
    assert float(made(torch.tensor([[3.0, 4.0]]), three, _never)) == pytest.approx(0.5)
    # User 2 has had no state so far, so user 3 alone teaches user 1.
    assert float(made(torch.tensor([[3.0, 6.0]]), one, _never)) == pytest.approx(2.0)
    assert made.bank[1].tolist() == [3.0, 6.0]
    assert not made.state_dict()


def _never(items: Tensor) -> Tensor:
    raise AssertionError("nothing is encoded")


def test_golden(golden: Callable[[str], Any]) -> None:
    """The authors' distillation loss, from their states."""
    numpy_arrays, _ = golden("llmesr_dualview")
    arrays = {k: torch.from_numpy(np.asarray(v)) for k, v in numpy_arrays.items()}
    similar, students = arrays["sim_seq"].flatten(0, 1), arrays["fullcausal.kd_student"]
    # Users 1, 2, … are the similar users of each row in turn; their states are looked up here.
    count, size = arrays["sim_seq"].shape[1], students.shape[1]
    states = arrays["fullcausal.kd_teacher"].repeat_interleave(count, 0)
    noise = torch.randn(len(students), count, size, dtype=states.dtype)
    states = states + (noise - noise.mean(1, keepdim=True)).flatten(0, 1)
    users = np.repeat(np.arange(1, len(similar) + 1), 2)
    items = np.repeat(np.arange(1, len(similar) + 1), 2)
    neighbors = np.full((len(similar) + len(students) + 1, count), -1, dtype=np.int32)
    neighbors[len(similar) + 1 :] = np.arange(1, len(similar) + 1).reshape(-1, count)
    histories = Histories(users, items, len(neighbors))
    made = SelfDistillation(histories, neighbors, size, 4, "exact")
    rows = torch.arange(len(similar) + 1, len(neighbors))
    loss = made(students, rows, lambda seq: states[seq[:, 0] - 1])
    torch.testing.assert_close(loss, arrays["fullcausal.kd_loss"], rtol=1e-6, atol=1e-6)


def test_half_precision_loses_no_difference(histories: Histories) -> None:
    made = _made(histories, [[-1, -1], [3, -1], [-1, -1], [-1, -1], [-1, -1]], "exact")
    own, teacher = torch.tensor([[3e-4, 1.0]]), torch.tensor([[0.0, 1.0]])
    state = own.half().requires_grad_()
    loss = made(state, torch.tensor([1]), lambda items: teacher.half().expand(len(items), -1))
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(own.half()[0, 0]) ** 2 / 2)
    (gradient,) = torch.autograd.grad(loss, state)
    assert float(gradient[0, 0]) > 0


def test_teachers_get_no_gradient(histories: Histories) -> None:
    made = _made(histories, [[-1, -1], [3, 2], [1, 3], [1, 2], [-1, -1]], "exact")
    weight, states = torch.ones(2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    loss = made(states, torch.tensor([1]), lambda items: sums(items) * weight)
    loss.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is None and states.grad is not None and states.grad.any()


class _Made(SequentialModelTests):
    """Provides `make` and runs no tests."""

    __test__ = False
    model = "LLMESR"
    config = {"hidden_size": 8, "inner_size": 8}


def test_teachers_are_without_dropout_and_students_learn_from_them() -> None:
    _, model, (train, *_) = _Made().make(hidden_dropout_prob=0.5)
    model.before_training(train)
    batch = next(iter(train))
    expected = model.last_states(batch["item_id_list"])
    model.train()
    torch.testing.assert_close(model._encode_teachers(batch["item_id_list"]), expected)
    assert model.network.training
    rows = model.training_rows(batch)
    (gradient,) = torch.autograd.grad(model.distillation_loss(batch, rows), rows.states)
    assert gradient.any()


def test_users_of_one_training_interaction_neither_teach_nor_learn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shortened(dataset: Any) -> tuple[Any, Any]:
        users, items = training_interactions(dataset)
        kept = (users != 1) | (np.arange(len(users)) == np.flatnonzero(users == 1)[0])
        return users[kept], items[kept]

    monkeypatch.setattr("recbole_llm.models.llmesr.model.training_interactions", shortened)
    _, model, (train, *_) = _Made().make(n_similar_users=50)  # more than there are users
    model.before_training(train)
    assert set(feature_state(train.dataset)) == {"item_text"}  # users' texts are of the split
    similar = model.distillation.neighbors
    assert (similar[1] == -1).all() and not (similar == 1).any()
    assert (similar[2] != -1).sum() == 38  # all 40 but users 1 and 2

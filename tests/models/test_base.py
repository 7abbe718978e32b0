"""The base class, on a toy model whose numbers are computed by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm.models.base import SequenceRecommender

CONFIG = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "item_length",
    "NEG_PREFIX": "neg_",
    "MAX_ITEM_LIST_LENGTH": 3,
    "device": torch.device("cpu"),
    "loss_type": "CE",
    "train_neg_sample_args": None,
}


class Running(SequenceRecommender):
    """The state is the running sum of the items' vectors; item i has the vector (i, 1)."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config, SimpleNamespace(num=lambda field: 5))
        self.table = nn.Parameter(torch.stack([torch.arange(5.0), torch.ones(5)], 1))
        self.calls = 0

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        return (self.table[item_seq] * mask.unsqueeze(2)).cumsum(1)

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        self.calls += 1
        return self.table if ids is None else self.table[ids]


def model(**changes: Any) -> Running:
    return Running({**CONFIG, **changes})


# The histories are (1, 2) and (3); their last states are (3, 2) and (3, 1).
PREFIX = Interaction(
    {
        "item_id_list": torch.tensor([[1, 2, 0], [3, 0, 0]]),
        "item_length": torch.tensor([2, 1]),
        "item_id": torch.tensor([2, 4]),
        "neg_item_id": torch.tensor([1, 2]),
    }
)
# States at the supervised positions: (1, 1), (3, 2), (3, 1).
SEQUENCE = Interaction(
    {
        "item_id_list": torch.tensor([[1, 2, 0], [3, 0, 0]]),
        "item_length": torch.tensor([2, 1]),
        "pos_item_id_list": torch.tensor([[2, 3, 0], [4, 0, 0]]),
        "neg_item_id_list": torch.tensor([[[1, 3], [4, 1], [0, 0]], [[1, 2], [0, 0], [0, 0]]]),
    }
)


def log_softmax(state: tuple[float, float], item: int) -> float:
    scores = {i: state[0] * i + state[1] for i in range(1, 5)}
    return scores[item] - math.log(sum(math.exp(s) for s in scores.values()))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_cross_entropy_of_prefix_rows() -> None:
    expected = -(log_softmax((3, 2), 2) + log_softmax((3, 1), 4)) / 2
    assert model().calculate_loss(PREFIX).item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_of_sequence_rows() -> None:
    picks = [((1, 1), 2), ((3, 2), 3), ((3, 1), 4)]
    expected = -sum(log_softmax(state, item) for state, item in picks) / 3
    assert model().calculate_loss(SEQUENCE).item() == pytest.approx(expected, rel=1e-5)


def test_bpr_of_prefix_rows() -> None:
    # Scores: 3*2+2, 3*4+1 against 3*1+2, 3*2+1.
    expected = (softplus(5 - 8) + softplus(7 - 13)) / 2
    loss = model(loss_type="BPR").calculate_loss(PREFIX)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_bce_of_sequence_rows() -> None:
    positives = [3, 11, 13]
    negatives = [2, 4, 14, 5, 4, 7]
    expected = sum(softplus(-p) for p in positives) / 3 + sum(softplus(n) for n in negatives) / 6
    loss = model(loss_type="BCE").calculate_loss(SEQUENCE)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_sampled_softmax_of_sequence_rows() -> None:
    rows = [(3, (2, 4)), (11, (14, 5)), (13, (4, 7))]
    logs = [math.log(math.exp(p) + sum(math.exp(n) for n in ns)) - p for p, ns in rows]
    loss = model(loss_type="SSM").calculate_loss(SEQUENCE)
    assert loss.item() == pytest.approx(sum(logs) / 3, rel=1e-5)


def test_sampled_softmax_of_prefix_rows() -> None:
    """RecBole's loader repeats the batch for each of a row's negatives."""
    twice = PREFIX.repeat(2)
    twice.update(Interaction({"neg_item_id": torch.tensor([1, 2, 3, 1])}))  # 1 and 3 for row 0
    rows = [(8, (5, 11)), (13, (7, 4))]
    logs = [math.log(math.exp(p) + sum(math.exp(n) for n in ns)) - p for p, ns in rows]
    two = {"distribution": "uniform", "sample_num": 2}
    loss = model(loss_type="SSM", train_neg_sample_args=two).calculate_loss(twice)
    assert loss.item() == pytest.approx(sum(logs) / 2, rel=1e-5)


def test_predictions() -> None:
    network = model().eval()
    assert network.predict(PREFIX).tolist() == [8, 13]
    scores = network.full_sort_predict(PREFIX)
    assert scores.tolist() == [[2, 5, 8, 11, 14], [1, 4, 7, 10, 13]]


@pytest.mark.parametrize(("alone", "read"), [(True, [2]), (False, [6])])
def test_histories_of_sampled_candidates_are_read_once(alone: bool, read: list[int]) -> None:
    network, rows = model().eval(), []
    user_states = network.user_states
    network.user_states = lambda seq, mask: (rows.append(len(seq)), user_states(seq, mask))[1]
    network.reads_history_alone = alone
    candidates = Interaction({**PREFIX.interaction, "item_id": torch.tensor([2, 4])}).repeat(3)
    candidates["item_id"] = torch.tensor([2, 4, 1, 3, 0, 2])
    assert network.predict(candidates).tolist() == [8, 13, 5, 10, 2, 7]
    assert rows == read


def test_left_padded_rows_predict_from_their_last_item() -> None:
    rows = Interaction(
        {
            "item_id_list": torch.tensor([[0, 1, 2]]),
            "item_length": torch.tensor([2]),
            "item_id": torch.tensor([2]),
        }
    )
    assert model().eval().predict(rows).tolist() == [8]


def test_item_vectors_are_kept_in_eval_mode_only() -> None:
    network = model().eval()
    network.full_sort_predict(PREFIX)
    network.predict(PREFIX)
    assert network.calls == 1
    network.train()
    with torch.no_grad():
        network.table += 1
    network.eval()
    assert network.predict(PREFIX).tolist() == [(5 * 3) + (4 * 2), (4 * 5) + (2 * 2)]
    assert network.calls == 2


def test_loading_weights_in_eval_mode_drops_the_kept_vectors() -> None:
    network = model().eval()
    network.predict(PREFIX)
    network.load_state_dict({"table": torch.zeros(5, 2)})
    assert network.predict(PREFIX).tolist() == [0, 0]


def test_errors_name_the_key() -> None:
    with pytest.raises(
        ValueError, match="loss_type 'XE' is unknown; choose from CE, BCE, BPR, SSM"
    ):
        model(loss_type="XE")
    rows = Interaction({k: v for k, v in PREFIX.interaction.items() if k != "neg_item_id"})
    with pytest.raises(ValueError, match="set train_neg_sample_args"):
        model(loss_type="BPR").calculate_loss(rows)


def test_a_method_that_is_not_given_is_named() -> None:
    class Bare(SequenceRecommender):
        pass

    bare = Bare(CONFIG, SimpleNamespace(num=lambda field: 5))
    with pytest.raises(NotImplementedError, match=r"^Bare has no user_states\(.*docs/plugins.md"):
        bare.calculate_loss(PREFIX)
    with pytest.raises(NotImplementedError, match=r"^Bare has no item_vectors\(.*docs/plugins.md"):
        bare.item_vectors()


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (lambda all: None, "returned None; it is to return a tensor [2, 3, D]: a state after each"),
        (lambda all: all[:, -1], "returned a tensor [2, 2]; "),  # the last states alone
        (lambda all: all.detach().numpy(), "returned an object of type ndarray; "),
        (lambda all: all[:, 1:], "returned a tensor [2, 2, 2]; "),
    ],
)
@pytest.mark.parametrize("rows", [PREFIX, SEQUENCE], ids=["prefix", "sequence"])
def test_states_of_a_wrong_shape_are_named(
    states: Callable[[Tensor], Any], said: str, rows: Interaction
) -> None:
    class Odd(Running):
        def user_states(self, item_seq: Tensor, mask: Tensor) -> Any:
            return states(super().user_states(item_seq, mask))

    with pytest.raises(ValueError, match=re.escape(f"user_states of Odd {said}")):
        Odd(CONFIG).calculate_loss(rows)
    with pytest.raises(ValueError, match=re.escape(f"user_states of Odd {said}")):
        Odd(CONFIG).eval().predict(rows)


@pytest.mark.parametrize(
    ("loss", "cut", "said"),
    [
        ("CE", lambda all: all[1:], "() of Odd returned a tensor [4, 2]; it is to return a tensor"
         " [5, 2]: all 5 items, the padding included, as wide as the states"),
        ("CE", lambda all: all[..., :1], "() of Odd returned a tensor [5, 1]; "),
        ("BPR", lambda all: all[..., :1], "(ids) of Odd returned a tensor [3, 1]; it is to return a"
         " tensor [3, 2]: as wide as the states"),
    ],
)  # fmt: skip
def test_item_vectors_of_a_wrong_shape_are_named(
    loss: str, cut: Callable[[Tensor], Tensor], said: str
) -> None:
    class Odd(Running):
        def item_vectors(self, ids: Tensor | None = None) -> Tensor:
            return cut(super().item_vectors(ids))

    with pytest.raises(ValueError, match=re.escape(f"item_vectors{said}")):
        Odd({**CONFIG, "loss_type": loss}).calculate_loss(SEQUENCE)

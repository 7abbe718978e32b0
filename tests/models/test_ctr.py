"""The base of the pointwise models, by hand and by the shared tests; and the tests themselves."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ctr_example import EXAMPLES
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm import Config, ModelSpec, recommend
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import Registered
from recbole_llm.data.create import create_dataset
from recbole_llm.data.prepare import data_preparation
from recbole_llm.models.ctr import CTRRecommender, UserContext
from recbole_llm.models.ctr_layers import CTRHead, FieldEmbedding, without_batch_of_one
from recbole_llm.models.settings import CTRSettings
from recbole_llm.testing import CTRModelTests, write_tiny_dataset

CONFIG = {
    "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "item_length", "NEG_PREFIX": "neg_", "LABEL_FIELD": "label",
    "MAX_ITEM_LIST_LENGTH": 3, "device": torch.device("cpu"), "train_neg_sample_args": None,
    "eval_memory_mib": 1,
}  # fmt: skip
TWO = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 2}}


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in EXAMPLES:
        spec = ModelSpec(cls.__name__, cls, settings=CTRSettings, reads=("item_text",))
        monkeypatch.setitem(
            get_registry().tables[ModelSpec], cls.__name__, Registered(spec, "test")
        )


class TestMeanBehavior(CTRModelTests):
    model = "MeanBehavior"


class TestMeanBehaviorWithFields(CTRModelTests):
    model = "MeanBehavior"
    config = {
        "load_col": None, "activation": "ReLU", "batch_norm": False, "dropout_prob": 0.1,
        "numerical_features": ["price"],
    }  # fmt: skip


class TestTargetAttention(CTRModelTests):
    model = "TargetAttention"


class TestTheBatteryCatches:
    """Each contract fails on a model that breaks it."""

    @pytest.mark.parametrize(
        ("model", "contract"),
        [
            ("Leaking", "test_no_state_sees_a_later_item"),
            ("LeakingTarget", "test_nothing_of_the_target_is_in_the_users_state"),
            ("LeakingLabel", "test_nothing_of_the_target_is_in_the_users_state"),
            ("TrainedTable", "test_frozen_vectors_are_neither_trained_nor_stored"),
            ("CountedPadding", "test_padding_does_not_count"),
            ("CountedPadding", "test_prefix_and_sequence_rows_have_the_same_loss"),
            ("Leaking", "test_prefix_and_sequence_rows_have_the_same_loss"),
            ("Unbounded", "test_predictions_are_probabilities"),
            ("OtherCatalogue", "test_full_ranking_agrees_with_single_predictions"),
            ("Untrainable", "test_learns"),
        ],
    )
    def test_a_broken_model(self, model: str, contract: str) -> None:
        battery = CTRModelTests()
        battery.model = model
        with pytest.raises(AssertionError):
            getattr(battery, contract)()


@pytest.mark.usefixtures("as_new")
def test_the_battery_runs_on_a_file_of_ones_own(tmp_path: Path) -> None:
    """No checkpoint names the file, so the battery gives it again."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from recbole_llm import ModelSpec, get_model, hookimpl\n"
        "class OwnDIN(get_model('DIN')):\n"
        "    pass\n"
        "@hookimpl\n"
        "def register_models(register):\n"
        "    register(ModelSpec('OwnDIN', OwnDIN, reads=('item_text',)))\n"
    )
    battery = CTRModelTests()
    battery.model, battery.config = "OwnDIN", {"plugins": [str(file)], "mlp_hidden_size": [8]}
    battery.test_learns_is_saved_and_comes_back_with_the_same_scores()


class Running(CTRRecommender):
    """The state is the running sum of item ids, the logit (state + user) * (item - 2) / 10."""

    def __init__(self, **changes: Any) -> None:
        super().__init__({**CONFIG, **changes}, SimpleNamespace(num=lambda field: 5))  # type: ignore[arg-type]
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.encoded: list[int] = []
        self.pairs: list[int] = []

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        self.encoded.append(len(item_seq))
        return (item_seq * mask).cumsum(1)[..., None].float()

    def logits(self, context: UserContext, users: Tensor, items: Tensor) -> Tensor:
        logits: Tensor = (context.states[..., 0] + users) * (items - 2) * self.scale
        self.pairs.append(logits.numel())
        return logits


HISTORIES = {
    "user_id": torch.tensor([1, 2]),
    "item_id_list": torch.tensor([[1, 2, 0], [3, 0, 0]]),
    "item_length": torch.tensor([2, 1]),
}
# The states are 3 and 3, and 4 and 5 with the users added.
PREFIX = Interaction(
    {**HISTORIES, "item_id": torch.tensor([3, 4]), "label": torch.tensor([1.0, 0.0])}
)
# The first target of user 1 follows item 1, so its state is 1, and 2 with the user added.
SEQUENCE = Interaction(
    {
        **HISTORIES,
        "pos_item_id_list": torch.tensor([[4, 3, 0], [4, 0, 0]]),
        "pos_label_list": torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]),
    }
)


def bce(*pairs: tuple[float, int]) -> float:
    return sum(math.log1p(math.exp(-x if label else x)) for x, label in pairs) / len(pairs)


def test_loss_of_prefix_rows() -> None:
    expected = bce((0.4, 1), (1.0, 0))
    assert Running().calculate_loss(PREFIX).item() == pytest.approx(expected)


def test_loss_of_sequence_rows() -> None:
    expected = bce((0.4, 0), (0.4, 1), (1.0, 0))
    assert Running().calculate_loss(SEQUENCE).item() == pytest.approx(expected)


def test_loss_of_prefix_rows_with_negatives() -> None:
    """RecBole's loader repeats the batch for each negative; a history is encoded once."""
    rows = PREFIX.repeat(3)
    rows.update(
        Interaction(
            {
                "item_id": torch.tensor([3, 4, 1, 3, 4, 1]),
                "label": torch.tensor([1.0, 1, 0, 0, 0, 0]),
            }
        )
    )
    model = Running(**TWO)
    expected = bce((0.4, 1), (1.0, 1), (-0.4, 0), (0.5, 0), (0.8, 0), (-0.5, 0))
    assert model.calculate_loss(rows).item() == pytest.approx(expected)
    assert model.encoded == [2]


def test_loss_of_sequence_rows_with_negatives() -> None:
    columns = {k: v for k, v in SEQUENCE.interaction.items() if k != "pos_label_list"}
    negatives = torch.tensor([[[1, 3], [1, 4], [0, 0]], [[1, 3], [0, 0], [0, 0]]])
    rows = Interaction({**columns, "neg_item_id_list": negatives})
    expected = bce(
        (0.4, 1), (0.4, 1), (1.0, 1), (-0.2, 0), (0.2, 0), (-0.4, 0), (0.8, 0), (-0.5, 0), (0.5, 0)
    )
    assert Running(**TWO).calculate_loss(rows).item() == pytest.approx(expected)


def test_data_without_labels_say_so() -> None:
    columns = {k: v for k, v in PREFIX.interaction.items() if k != "label"}
    with pytest.raises(ValueError, match=r"Running: the data has no labels \('label'\).*threshold"):
        Running().calculate_loss(Interaction(columns))


def test_predictions() -> None:
    model = Running().eval()
    assert model.predict(PREFIX).tolist() == pytest.approx(
        [1 / (1 + math.exp(-x)) for x in (0.4, 1)]
    )
    logits = torch.outer(torch.tensor([0.4, 0.5]), torch.arange(-2.0, 3.0))
    assert model.full_sort_predict(PREFIX).allclose(logits.sigmoid())


def test_candidates_share_their_history_in_evaluation() -> None:
    model = Running().eval()
    model.predict(PREFIX.repeat_interleave(50))
    assert model.encoded == [2]


@pytest.mark.parametrize(("floats", "most"), [(0, 10), (2**17 // 3, 2), (2**20, 1)])
def test_blocks_of_the_catalogue_fit_the_memory(floats: int, most: int) -> None:
    model = Running().eval()
    whole = model.full_sort_predict(PREFIX)
    model.pairs.clear()
    model.pair_floats = lambda: floats  # type: ignore[method-assign]
    assert model.full_sort_predict(PREFIX).equal(whole)
    assert max(model.pairs) == most
    assert sum(model.pairs) == 10


def test_head_by_hand() -> None:
    head = CTRHead(1, [2], context=1, activation="ReLU", batch_norm=False)
    with torch.no_grad():
        head.mlp[1].mlp_layers[1].weight.copy_(torch.tensor([[1.0, 2, 3, 4], [-1, 0, 0, 0]]))
        head.output.weight.copy_(torch.tensor([[1.0, 1]]))
        users, items = torch.tensor([[[1.0]], [[2.0]]]), torch.tensor([[[3.0], [5.0]]])
        logits = head(users, items, torch.tensor([[[1.0]]]))
    # u + 2 i + 3 u i + 4
    assert logits.tolist() == [[1 + 6 + 9 + 4, 1 + 10 + 15 + 4], [2 + 6 + 18 + 4, 2 + 10 + 30 + 4]]


def test_head_learns_from_a_batch_of_one_row() -> None:
    head = CTRHead(2, [4])
    before = [norm.running_mean.clone() for norm in (head.mlp[0], head.mlp[1].mlp_layers[2])]
    head(torch.ones(1, 2), torch.ones(1, 2)).sum().backward()
    assert head.output.weight.grad is not None
    assert head.training and head.mlp.training
    after = [head.mlp[0].running_mean, head.mlp[1].mlp_layers[2].running_mean]
    assert all(a.equal(b) for a, b in zip(after, before, strict=True))


def test_statistics_of_all_processes_count_a_batch_of_one_row() -> None:
    """Other processes wait for the row's statistics, so the norm stays in training mode."""
    norm, training = nn.SyncBatchNorm(2), []
    norm.forward = lambda inputs: training.append(norm.training) or inputs  # it needs GPUs
    without_batch_of_one(norm, torch.ones(1, 2))
    assert training == [True]


def test_head_hears_all_inputs_whatever_their_scale() -> None:
    torch.manual_seed(0)
    head = CTRHead(2, [4])
    users, items = torch.randn(2, 50, 2)
    scaled = head(100 * users, items / 10)
    torch.testing.assert_close(head(users, items), scaled, rtol=1e-2, atol=1e-2)


def test_field_embeddings_are_recboles() -> None:
    """DIN's layer gives the same with the same weights, for ids of any shape."""
    from recbole.model.layers import ContextSeqEmbLayer

    battery = CTRModelTests()
    battery.model = "MeanBehavior"
    _, _, loaders = battery.make(load_col=None, numerical_features=["price"])
    dataset = loaders[0].dataset
    stock = ContextSeqEmbLayer(dataset, 4, "mean", torch.device("cpu"))
    users, items = torch.tensor([3, 1]), torch.tensor([[5, 7, 1], [2, 2, 9]])
    sparse, dense = stock(users, items)
    for side, ids in (("user", users), ("item", items)):
        ours = FieldEmbedding(side, dataset, 4, "mean", torch.device("cpu"))  # type: ignore[arg-type]
        ours.load_state_dict({k: v for k, v in stock.state_dict().items() if f".{side}." in k})
        parts = [part for part in (sparse[side], dense[side]) if part is not None]
        expected = torch.cat(parts, -2).flatten(-2)
        assert ours(ids).equal(expected)
        assert ours.width == expected.shape[-1]


@pytest.mark.parametrize("more", [0, 1, 2])
def test_each_of_several_numbers_has_its_own_embedding(more: int) -> None:
    """RecBole joins the fields of an item to one, and fails if there are two of them or more."""
    from recbole.model.layers import ContextSeqEmbLayer

    write_tiny_dataset("dataset")
    file = Path("dataset/tiny/tiny.item")
    head, *rows = file.read_text().splitlines()
    names = [f"more{i}" for i in range(more)]
    lines = [head + "".join(f"\t{name}:float" for name in names)]
    lines += [row + "".join(f"\t{k}.{i}" for i in range(more)) for k, row in enumerate(rows)]
    file.write_text("\n".join(lines) + "\n")
    fields = ["price", *names]
    given = {"load_col": None, "numerical_features": fields}
    config = Config("DIN", "tiny", config_dict=given)
    dataset = data_preparation(config, create_dataset(config))[0].dataset
    layer = ContextSeqEmbLayer(dataset, 4, "mean", torch.device("cpu"))
    users, items = torch.tensor([3, 1]), torch.tensor([[5, 7, 1], [2, 2, 9]])
    numbers = layer(users, items)[1]["item"]
    vectors = layer.float_embedding_table["item"].embedding.weight.view(1 + more, 2, 4)[:, 1]
    values = torch.stack([dataset.item_feat[field][items][..., 0] for field in fields], -1)
    torch.testing.assert_close(numbers, values[..., None] * vectors)


def test_settings_are_checked_in_one_line() -> None:
    assert CTRSettings.of({}).mlp_hidden_size == [256, 256, 256]
    assert CTRSettings.of({"mlp_hidden_size": (8, 4)}).mlp_hidden_size == [8, 4]
    with pytest.raises(ValueError, match="mlp_hidden_size: expected a list that is not empty"):
        CTRSettings.of({"mlp_hidden_size": []})
    with pytest.raises(ValueError, match="activation 'Dyce' is unknown; did you mean 'Dice'"):
        CTRSettings.of({"activation": "Dyce"})


@pytest.mark.parametrize("model", ["UserFree", "TargetAttention"])
def test_recommends(model: str) -> None:
    battery = CTRModelTests()
    battery.model = model
    config, network, loaders = battery.make()
    parts = config, network, loaders[0].dataset
    table = recommend(parts, users=["u3", "u5"], k=4, mask_history=False)
    assert list(table["user"]) == ["u3"] * 4 + ["u5"] * 4
    assert table["score"].between(0, 1).all()
    if network.reads_users:
        with pytest.raises(ValueError, match="reads 'user_id' of its users, which a new user"):
            recommend(parts, items=["i3", "i7"])
    else:
        assert len(recommend(parts, items=["i3", "i7"], k=4)) == 4


def test_label_column_is_loaded() -> None:
    write_tiny_dataset("dataset", "other")
    config = Config("MeanBehavior", "other", config_dict={"data_path": "dataset"})
    assert config["load_col"]["inter"] == ["user_id", "item_id", "rating", "timestamp", "label"]


def test_labels_must_be_there_before_anything_long() -> None:
    battery = CTRModelTests()
    battery.model = "MeanBehavior"
    with pytest.raises(ValueError, match="no column 'label' .LABEL_FIELD., which MeanBehavior"):
        battery.make(threshold=None)


def test_a_method_that_is_not_given_is_named() -> None:
    class Bare(CTRRecommender):
        pass

    bare = Bare(CONFIG, SimpleNamespace(num=lambda field: 5))  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="^Bare has no user_states.* or user_context"):
        bare.calculate_loss(PREFIX)
    bare.user_states = lambda item_seq, mask: item_seq[..., None].float()
    with pytest.raises(NotImplementedError, match="^Bare has no logits.*docs/plugins.md"):
        bare.calculate_loss(PREFIX)

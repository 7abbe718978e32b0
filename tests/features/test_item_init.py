"""Item tables that start from item vectors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from recbole.model.layers import FMEmbedding
from recbole.utils import ModelType
from torch import nn

from recbole_llm import testing
from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.config import Config
from recbole_llm.features.item_init import fill_table, initialize_items, item_tables
from recbole_llm.features.tables.reduce import pca
from recbole_llm.quick_start import load_data_and_model, run_recbole_llm
from recbole_llm.steps import build_model, load_data


@pytest.fixture
def matrix() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(21, 6)).astype(np.float32) * [9, 5, 3, 2, 1, 0.1]
    rows[0] = 0
    return rows.astype(np.float32)


class Dataset:
    iid_field = "item_id"

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def num(self, field: str) -> int:
        return self.n_items


def test_a_table_gets_scaled_components_and_keeps_the_rest(matrix: np.ndarray) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(22, 4)  # the last row is for a mask token
    nn.init.normal_(table.weight, std=0.02)
    before = table.weight.detach().clone()
    assert fill_table(table.weight, matrix) == 4
    after = table.weight.detach()
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[21], before[21])
    torch.testing.assert_close(after[1:21].std(), before[1:21].std())
    components = torch.from_numpy(pca(matrix, 4).coordinates[1:])
    ratio = after[1:21] / components
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))  # one scale for all


def test_a_table_gets_the_spread_that_is_asked_for(matrix: np.ndarray) -> None:
    table = nn.Embedding(21, 4)
    nn.init.normal_(table.weight, std=0.02)
    fill_table(table.weight, matrix, std=0.3)
    assert float(table.weight[1:].std()) == pytest.approx(0.3)


def test_a_table_wider_than_the_vectors_keeps_its_last_columns(matrix: np.ndarray) -> None:
    table = nn.Embedding(21, 10)
    before = table.weight.detach().clone()
    assert fill_table(table.weight, matrix) == 6
    assert torch.equal(table.weight[:, 6:], before[:, 6:])
    assert not torch.equal(table.weight[1:, :6], before[1:, :6])


def test_items_without_a_vector_do_not_change_the_others(matrix: np.ndarray) -> None:
    """Items without a vector start at the mean, 0; the others as they would alone, up to scale."""
    with_gaps = np.concatenate([matrix, np.zeros_like(matrix)])
    with_gaps[1:] += np.where(with_gaps[1:].any(1, keepdims=True), 20, 0)
    torch.manual_seed(0)
    table, alone = nn.Embedding(42, 4), nn.Embedding(21, 4)
    fill_table(table.weight, with_gaps)
    fill_table(alone.weight, with_gaps[:21])
    rows, expected = table.weight.detach()[1:21], alone.weight.detach()[1:]
    assert not table.weight[21:].any()
    torch.testing.assert_close(rows / rows.std(), expected / expected.std())


def test_constant_vectors_are_an_error() -> None:
    with pytest.raises(ValueError, match="item_init: the item vectors vary by 0"):
        fill_table(nn.Embedding(5, 2).weight, np.ones((5, 3), np.float32))


def test_trainable_item_tables_are_found() -> None:
    model = nn.Module()
    model.item_embedding = nn.Embedding(11, 4)
    model.item_mask_embedding = nn.Embedding(12, 4)
    model.item_bias = nn.Embedding(11, 1)
    model.user_embedding = nn.Embedding(11, 4)
    model.item_feature_embedding = nn.Embedding(7, 4)
    model.frozen_items = nn.Embedding(11, 4).requires_grad_(False)
    model.LI_emb = nn.Embedding(11, 4)
    model.inner = nn.Module()
    model.inner.item_emb = nn.Embedding(11, 4)
    expected = {"item_embedding", "item_mask_embedding", "LI_emb", "inner.item_emb"}
    assert set(item_tables(model, "item_id", 11)) == expected


def test_item_rows_of_shared_field_tables_are_found() -> None:
    """DIN has a table per side; DeepFM has one for all fields and one of first-order weights."""
    model = nn.Module()
    model.sides, model.all = nn.Module(), nn.Module()
    model.sides.token_field_names = {"user": ["user_id"], "item": ["genre", "item_id"]}
    tables = {"user": FMEmbedding([5], [0], 4), "item": FMEmbedding([3, 11], [0, 3], 4)}
    model.sides.token_embedding_table = nn.ModuleDict(tables)
    model.all.token_field_names = ["item_id", "genre"]
    model.all.token_embedding_table = FMEmbedding([11, 3], [0, 11], 4)
    found = item_tables(model, "item_id", 11)
    assert set(found) == {"sides.item.item_id", "all.item_id"}
    with torch.no_grad():
        for rows in found.values():
            rows.fill_(7)
    assert tables["item"].embedding.weight.eq(7).all(1).tolist() == [False] * 3 + [True] * 11
    whole = model.all.token_embedding_table.embedding.weight
    assert whole.eq(7).all(1).tolist() == [True] * 11 + [False] * 3


def _config(**keys: Any) -> dict[str, Any]:
    return {"model": "Toy", "item_init": "llm", **keys}


def test_initialize(matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "recbole_llm.features.item_init.item_embeddings",
        lambda c, d: SimpleNamespace(matrix=matrix),
    )
    model = nn.Module()
    model.item_embedding = nn.Embedding(21, 3)
    before = model.item_embedding.weight.detach().clone()
    assert initialize_items(_config(item_init=None), model, Dataset(21)) == []
    assert torch.equal(model.item_embedding.weight, before)
    assert initialize_items(_config(), model, Dataset(21)) == ["item_embedding"]
    assert not torch.equal(model.item_embedding.weight, before)


def test_the_configuration_says_spread_and_whitening(
    matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix[1:] *= np.arange(1, 7)  # directions of unlike strength
    monkeypatch.setattr(
        "recbole_llm.features.item_init.item_embeddings",
        lambda c, d: SimpleNamespace(matrix=matrix),
    )
    spreads = {}
    for power in (0, 1):
        model = nn.Module()
        model.item_embedding = nn.Embedding(21, 3)
        keys = {"item_init_std": 0.3, "item_init_whitening": power}
        initialize_items(_config(**keys), model, Dataset(21))
        rows = model.item_embedding.weight[1:]
        assert float(rows.std()) == pytest.approx(0.3)
        spreads[power] = rows.std(0)
    assert spreads[0].max() / spreads[0].min() > 1.2
    torch.testing.assert_close(spreads[1], spreads[1].mean().expand(3))


def test_a_model_without_an_item_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="Toy has no item embedding table.*'item'.*21 or 22 rows"):
        initialize_items(_config(), nn.Linear(2, 2), Dataset(21))


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="item_init 'lmm' is unknown; did you mean 'llm'"):
        initialize_items(_config(item_init="lmm"), nn.Linear(2, 2), Dataset(21))


@pytest.mark.parametrize(
    ("name", "table"),
    [("SASRec", "item_embedding"), ("BERT4Rec", "item_embedding"), ("GRU4Rec", "item_embedding"),
     ("DIN", "embedding_layer.item.item_id"), ("DeepFM", "item_id"), ("BPR", "item_embedding"),
     ("LightGCN", "item_embedding"), ("NeuMF", "item_mf_embedding")],
)  # fmt: skip
def test_stock_models_start_from_the_items_texts(name: str, table: str) -> None:
    testing.write_tiny_dataset("dataset")
    keys: dict[str, Any] = {"data_path": "dataset", "encoder": "hash", "show_progress": False}
    if name in ("SASRec", "BERT4Rec", "GRU4Rec"):
        keys |= {"loss_type": "CE", "train_neg_sample_args": None}
    if name == "DeepFM":
        keys |= {"threshold": {"rating": 3}}
    built = []
    for kind in (None, "llm"):
        config = Config(name, "tiny", config_dict={**keys, "item_init": kind})
        dataset, train, _, _ = load_data(config)
        model = build_model(config, train.dataset)
        built.append(item_tables(model, "item_id", dataset.item_num)[table].detach())
    before, after = built
    width = min(16, before.shape[1])
    components = torch.from_numpy(pca(dataset.features["item_text"].matrix, width).coordinates[1:])
    rows = after[1:61, :width]
    cosine = torch.nn.functional.cosine_similarity(rows.flatten(), components.flatten(), dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-5)
    own = before[1:61, :width].std()
    wide = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    torch.testing.assert_close(rows.std(), torch.tensor(0.1) if wide else own)
    assert torch.equal(after[0], before[0]) and torch.equal(after[61:], before[61:])


def test_models_without_a_table_say_so_before_training() -> None:
    testing.write_tiny_dataset("dataset")
    config = {"data_path": "dataset", "encoder": "hash", "item_init": "llm"}
    with pytest.raises(ValueError, match="item_init: EASE has no item embedding table"):
        run_recbole_llm("EASE", "tiny", config_dict=config)


def test_a_trained_model_loads_without_the_vectors() -> None:
    testing.write_tiny_dataset("dataset")
    tokens = [f"i{i}" for i in range(60)]
    np.savez("vectors.npz", tokens=tokens, vectors=np.random.default_rng(0).random((60, 8)))
    config = {"data_path": "dataset", "encoder": "precomputed", "embedding_path": "vectors.npz"}
    config |= {"item_init": "llm", "epochs": 1, "show_progress": False}
    result = run_recbole_llm("BPR", "tiny", config_dict=config)
    Path("vectors.npz").unlink()
    model = load_data_and_model(result["checkpoint"])[1]
    saved = load_checkpoint(result["checkpoint"])["state_dict"]
    assert torch.equal(model.item_embedding.weight, saved["item_embedding.weight"])

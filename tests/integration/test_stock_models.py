"""RecBole's own models run through the same call, are evaluated, saved and loaded again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_llm import load_data_and_model, run_recbole_llm
from recbole_llm.core.errors import TREES
from recbole_llm.core.plugins.loading import get_model
from recbole_llm.core.plugins.stock import recbole_models
from recbole_llm.testing import write_tiny_dataset

DEFAULT = ("SASRec", "LightGCN", "BPR", "GRU4Rec", "DIN", "DeepFM")
CTR = {"threshold": {"rating": 3}}
SMALL: dict[str, dict[str, Any]] = {
    "GRU4RecF": {"selected_features": ["genre"]},
    "SASRecF": {"selected_features": ["genre"]},
    "FDSA": {"selected_features": ["genre"]},
    "S3Rec": {"item_attribute": "genre", "train_stage": "pretrain", "pretrain_epochs": 1},
    "RaCT": {"pretrain_epochs": 1},
    "NCL": {"num_clusters": 4, "warm_up_step": 1},
    "DGCF": {"cor_batch_size": 10, "train_batch_size": 128},
    "SASRecCPR": {"reranker_CAN_NUM": 10},
    "GRU4RecCPR": {"reranker_CAN_NUM": 10},
}
# Models that need more than this package installs, and what they need.
NEEDS = {"KGIN": "torch_scatter", "MCCLK": "torch_scatter", "KGAT": "dgl"}
NEEDS |= {"LightGBM": "lightgbm", "XGBoost": "lightgbm"}
NEEDS |= {"KSR": "entity embeddings", "GRU4RecKG": "entity embeddings"}


def settings(model: str) -> dict[str, Any]:
    base = {
        "epochs": 1, "show_progress": False, "MAX_ITEM_LIST_LENGTH": 10, "data_path": "dataset",
    }  # fmt: skip
    module = recbole_models()[model]
    if "context_aware" in module or model in ("DIN", "DIEN"):
        base |= CTR
    return base | SMALL.get(model, {})


def train_and_reload(model: str) -> None:
    write_tiny_dataset("dataset")
    result = run_recbole_llm(model, "tiny", config_dict=settings(model))
    assert result["test_result"], result
    assert all(0 <= value for value in result["test_result"].values())
    if model == "S3Rec":  # its first stage pre-trains only
        return
    config, again, _, _, _, test_data = load_data_and_model(result["checkpoint"])
    from recbole_llm.steps import build_trainer

    trainer = build_trainer(config, again)
    saved = torch.load(result["checkpoint"], weights_only=True)["state_dict"]
    assert all(torch.equal(saved[name], value) for name, value in again.state_dict().items())
    tested = trainer.evaluate(test_data, load_best_model=False, show_progress=False)
    ranks_all = config["eval_args"]["mode"]["test"] in ("full", "labeled")
    drawn_anew = model == "Random" or not ranks_all
    if not drawn_anew:
        assert tested == pytest.approx(result["test_result"], abs=1e-3), "another result"


@pytest.mark.parametrize("model", DEFAULT)
def test_named_models(model: str) -> None:
    train_and_reload(model)
    assert not torch.is_anomaly_enabled()


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(set(recbole_models()) - set(DEFAULT) - set(NEEDS)))
def test_every_other_model(model: str) -> None:
    train_and_reload(model)


@pytest.mark.parametrize(
    ("model", "packages"),
    [
        ("LightGBM", TREES),
        ("XGBoost", TREES),
        ("KGAT", ["dgl"]),
        ("KGIN", ["torch_scatter"]),
        ("MCCLK", ["torch_scatter"]),
    ],
)
def test_a_model_that_needs_further_libraries_says_which(
    model: str, packages: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_dataset("dataset")
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    installed = " ".join(packages).replace("_", "-")
    said = f"'{model}' needs {' and '.join(packages)}, .*: pip install {installed}$"
    with pytest.raises(ValueError, match=said):
        run_recbole_llm(model, "tiny", config_dict=settings(model))


@pytest.mark.parametrize(
    ("model", "key", "value", "said"),
    [
        ("Caser", "nh", 0, r"TypeError: .*\), perhaps because of nh=0 \(default 8\)$"),  # training
        ("ConvNCF", "cnn_channels", [1], r".*\), perhaps because of cnn_channels=\[1\] \(default"),
    ],
)
def test_a_value_that_a_model_of_recbole_cannot_use_is_suspected(
    model: str, key: str, value: object, said: str
) -> None:
    write_tiny_dataset("dataset")
    with pytest.raises(ValueError, match=rf"^{model} fails \({said}"):
        run_recbole_llm(model, "tiny", config_dict={**settings(model), key: value})


def _fails(error: Exception) -> Callable[..., None]:
    """A function that fails as if the error were raised in the code of RecBole's Caser."""
    names: dict[str, Any] = {"__name__": get_model("Caser").__module__, "error": error}
    exec("def fail(*arguments): raise error", names)  # noqa: S102
    return names["fail"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("Tried to allocate 20.00 GiB")]
)
def test_no_value_is_suspected_if_memory_is_too_small(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_dataset("dataset")
    monkeypatch.setattr(get_model("Caser"), "calculate_loss", _fails(error))
    with pytest.raises(ValueError, match=r"^a training step of Caser does not fit into memory"):
        run_recbole_llm("Caser", "tiny", config_dict={**settings("Caser"), "nh": 4})


def test_no_value_is_suspected_in_a_class_of_the_users_own() -> None:
    write_tiny_dataset("dataset")
    own = type("Caser", (get_model("Caser"),), {"calculate_loss": _fails(KeyError("a"))})
    with pytest.raises(KeyError, match=r"^'a'$"):
        run_recbole_llm(own, "tiny", config_dict={**settings("Caser"), "nh": 4})


def test_ripplenet_ranks_for_users_without_training_interactions() -> None:
    file = write_tiny_dataset("dataset") / "tiny.inter"
    header, *rows = (line.split("\t") for line in file.read_text().splitlines())
    late = [[*row[:3], "9000"] if row[0] in ("u3", "u7") else row for row in rows]
    file.write_text("\n".join("\t".join(row) for row in [header, *late]) + "\n")
    args = {"split": {"RS": [8, 1, 1]}, "order": "TO", "group_by": "none", "mode": "full"}
    changes = {**settings("RippleNet"), "eval_args": args}
    result = run_recbole_llm("RippleNet", "tiny", config_dict=changes)
    _, model, _, train, _, test = load_data_and_model(result["checkpoint"])
    trained = set(train.dataset.inter_feat["user_id"].tolist())
    new = set(test.dataset.inter_feat["user_id"].tolist()) - trained
    assert new
    users = torch.tensor(sorted(new))
    scores = model.full_sort_predict(Interaction({"user_id": users}))
    assert scores.isfinite().all()


def test_ktups_scores_of_a_user_do_not_depend_on_who_else_is_asked_about() -> None:
    write_tiny_dataset("dataset")
    result = run_recbole_llm("KTUP", "tiny", config_dict=settings("KTUP"))
    model = load_data_and_model(result["checkpoint"])[1].eval()
    same = Interaction({key: torch.ones(50, dtype=torch.long) for key in ("user_id", "item_id")})
    assert len(model.predict(same).unique()) == 1
    assert len(model.train().predict(same).unique()) > 1


def test_groups_and_counts_of_items_are_known_in_a_pretraining_stage() -> None:
    write_tiny_dataset("dataset")
    changes = {"metrics": ["MRR", "ItemCoverage"], "eval_groups": ["items"]}
    result = run_recbole_llm("RaCT", "tiny", config_dict={**settings("RaCT"), **changes})
    assert {"itemcoverage@10", "users (head items)"} <= set(result["test_result"])


def test_a_checkpoint_loads_with_weights_only(tmp_path: Path) -> None:
    write_tiny_dataset("dataset")
    result = run_recbole_llm("BPR", "tiny", config_dict=settings("BPR"))
    checkpoint = torch.load(result["checkpoint"], weights_only=True)
    assert checkpoint["config"]["model"] == "BPR"
    assert checkpoint["config"]["MODEL_TYPE"] == "GENERAL"

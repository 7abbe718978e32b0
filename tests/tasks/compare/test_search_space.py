"""Search spaces: the models' own, and those that a user names."""

from __future__ import annotations

from typing import Any

import pytest

from recbole_llm.core.settings import Between
from recbole_llm.models.stock.settings import SASRecSettings
from recbole_llm.tasks.compare.entries import parse_models
from recbole_llm.tasks.compare.space import (
    defaults,
    describe_untried_defaults,
    distributions,
    resolve_space,
)
from recbole_llm.tasks.models import describe

pytest.importorskip("optuna")

pytestmark = pytest.mark.usefixtures("tiny")
OURS = ["PAD", "LLMESR", "AlphaRec", "Molar", "BAHE", "LLMCF", "LLMCFRetrieval"]
STOCK = ["SASRec", "GRU4Rec", "LightGCN", "DIN", "DeepFM", "DCN", "NeuMF", "Caser", "WideDeep",
         "SpectralCF", "PNN"]  # fmt: skip


@pytest.mark.parametrize("model", [*OURS, *STOCK, "SASRec --item_init=llm"])
def test_every_method_has_a_space_of_its_own_keys_that_contains_the_defaults(model: str) -> None:
    (entry,) = parse_models(model, ["--dataset=tiny"])
    space = resolve_space(entry)
    assert "learning_rate" in space and len(space) >= 3
    assert ("item_init_std" in space) == ("item_init" in model)
    for key, where in space.items():
        default = entry.config[key]
        ends = (where.low, where.high) if isinstance(where, Between) else where
        for value in ends:
            assert entry.with_own({key: value}).config[key] == value
        if default is not None:
            inside = where.low <= default <= where.high if isinstance(where, Between) else (
                default in where
            )  # fmt: skip
            assert inside, (key, default)


def test_choices_are_tried_as_texts_the_defaults_first() -> None:
    (entry,) = parse_models("NeuMF", ["--dataset=tiny"])
    space = resolve_space(entry)
    assert space["mlp_hidden_size"][0] == [128, 64] and space["dropout_prob"][0] == 0.1
    first = defaults(space, entry.config)
    assert first["mlp_hidden_size"] == "[128, 64]" and set(first) == set(space)


def test_a_default_of_0_is_the_choice_of_0_point_0() -> None:
    assert defaults({"dropout_prob": (0.0, 0.2)}, {"dropout_prob": 0}) == {"dropout_prob": "0.0"}


def test_a_default_inside_a_range_is_tried_first() -> None:
    (entry,) = parse_models("SASRec --item_init=llm", ["--dataset=tiny"])
    assert defaults(resolve_space(entry), entry.config)["item_init_std"] == 0.1


def test_a_default_that_no_trial_has_is_named() -> None:
    space = {"size": (32, 128), "x": Between(1.0, 2.0), "depth": (1, 2)}
    (said,) = describe_untried_defaults(space, {"size": 64, "x": 0.5, "depth": 1})
    assert said == "size: its value 64 is not among 32, 128; no trial has it"


def test_a_range_without_a_default_starts_in_its_middle() -> None:
    assert defaults({"x": Between(0.25, 4.0)}, {"x": None})["x"] == pytest.approx(1.0)


def test_keys_that_are_set_are_not_searched() -> None:
    (entry,) = parse_models("SASRec --n_layers=1", ["--dataset=tiny", "--learning_rate=0.01"])
    assert not {"n_layers", "learning_rate"} & set(resolve_space(entry))


def test_keys_that_the_model_does_not_read_are_not_searched() -> None:
    (entry,) = parse_models("LLMCF --backbone=AutoInt", ["--dataset=tiny", "--encoder=bundled"])
    assert "context_size" in resolve_space(entry) and "dropout_prob" not in resolve_space(entry)


def test_a_search_of_named_keys_is_of_them_alone() -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    own = resolve_space(entry)
    space = resolve_space(entry, "learning_rate; n_layers=[1, 3];attn_dropout_prob = 0.05..0.5;")
    assert space == {
        "learning_rate": own["learning_rate"],
        "n_layers": (1, 3),
        "attn_dropout_prob": Between(0.05, 0.5),
    }


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"hidden_size": Between(8, 64)},
            "hidden_size: expected an integer .*; list whole numbers",
        ),
        ({"hidden_size": (8, 0)}, "hidden_size: expected an integer of at least 1, got 0"),
        (
            {"hidden_size": 8},
            r"hidden_size: expected \(a, b\) or Between, the lower end first, got 8",
        ),
        ({"learning_rate": Between(0.1, 0.1)}, r"learning_rate: .* got Between\(low=0.1, high=0.1"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_models_own_space_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, space: Any, message: str, named: bool
) -> None:
    monkeypatch.setattr(SASRecSettings, "search_space", space)
    monkeypatch.setattr(SASRecSettings, "__module__", "theirs.settings")  # a plugin's
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    with pytest.raises(ValueError, match=f"^search_space: SASRec: {message}"):
        resolve_space(entry, next(iter(space)) if named else None)


def test_the_list_of_keys_refuses_a_space_of_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SASRecSettings, "search_space", {"hidden_size": 8})
    with pytest.raises(ValueError, match=r"^search_space: SASRec: hidden_size: expected \(a, b\)"):
        list(describe("SASRec"))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("valid_metric=['NDCG@10','MRR@10']", "valid_metric says how models are judged, and on wh"),
        ("eval_args=[{'mode':'full'},{'mode':'uni100'}]", "eval_args says how models are judged"),
        ("protocol=['leave-one-out','random']", "protocol says how models are judged"),
        ("split_seed=1..9", "split_seed says how models are judged"),
        ("repeatable=[True,False]", "repeatable says how models are judged"),
        ("eval_step=[1,5]", "eval_step says how models are judged"),
        ("seed=[1,2]", "seed says where and how a run is done, and is no setting"),
        ("resume=['a','b']", "resume says where and how a run is done, and is no setting"),
        ("checkpoint_dir=['a','b']", "checkpoint_dir says where and how"),
        ("output=['a','b']", "output says where and how"),
        ("data_path=['a','b']", "data_path says where and how"),
    ],
)
def test_keys_that_are_no_settings_of_a_model_are_not_searched(
    monkeypatch: pytest.MonkeyPatch, key: str, message: str
) -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    with pytest.raises(ValueError, match=f"^search: {message}"):
        resolve_space(entry, key)
    monkeypatch.setattr(SASRecSettings, "search_space", {key.partition("=")[0]: ("a", "b")})
    monkeypatch.setattr(SASRecSettings, "__module__", "theirs.settings")  # a plugin's
    with pytest.raises(ValueError, match=f"^search_space: {message}"):
        resolve_space(entry)


def test_files_that_numbers_depend_on_may_be_searched() -> None:
    (entry,) = parse_models("PAD", ["--dataset=tiny", "--encoder=precomputed"])
    space = resolve_space(entry, "embedding_path=['a.npz','b.npz']")
    assert space == {"embedding_path": ("a.npz", "b.npz")}


def test_ranges_are_searched_on_a_scale_of_logarithms() -> None:
    found = distributions({"learning_rate": Between(1e-4, 1e-2), "n_layers": (1, 2)})
    rate, layers = found["learning_rate"], found["n_layers"]
    assert (rate.low, rate.high, rate.log) == (1e-4, 1e-2, True) and layers.choices == ("1", "2")

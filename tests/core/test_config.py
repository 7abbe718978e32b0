"""Configuration: precedence, literals, types and unknown keys."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from recbole_llm import load_data_and_model
from recbole_llm.core.checkpoints.stored import plain_config
from recbole_llm.core.config import Config
from recbole_llm.core.keys.stock import StockSettings
from recbole_llm.core.like_defaults import check_like_defaults
from recbole_llm.core.plugins.loading import get_model
from recbole_llm.core.plugins.stock import recbole_models
from recbole_llm.core.processes import torchrun
from recbole_llm.core.schema import (
    RECBOLE,
    parse_command_line,
    parse_literal,
    recbole_modules,
    recbole_readers,
)
from recbole_llm.core.yaml_files import read_yaml


def test_precedence_is_command_line_then_dict_then_files(tmp_path: Path) -> None:
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("epochs: 1\nlearning_rate: 0.1\ntrain_batch_size: 11\neval_step: 7")
    second.write_text("learning_rate: 0.2")
    config = Config(
        "BPR", "ml-100k", [str(first), str(second)], {"epochs": 2, "eval_step": 8}, ["--epochs=3"]
    )
    got = [config[k] for k in ("epochs", "eval_step", "learning_rate", "train_batch_size")]
    assert got == [3, 8, 0.2, 11]


def test_the_models_yaml_beats_its_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_llm.core.plugins import loading
    from recbole_llm.core.plugins.registry import ModelSpec, Registered

    file = tmp_path / "Mine.yaml"
    file.write_text("repeatable: True\neval_args: {split: {RS: [7, 2, 1]}, order: TO, mode: full}")
    spec = ModelSpec("Mine", "recbole.model.sequential_recommender.gru4rec:GRU4Rec", config=file)
    monkeypatch.setitem(loading.get_registry().tables[ModelSpec], "Mine", Registered(spec, "test"))
    config = Config("Mine", config_dict={"loss_type": "CE"})
    assert config["eval_args"]["split"] == {"RS": [7, 2, 1]}  # sequential.yaml says LS


def test_ce_needs_no_explicit_absence_of_negatives() -> None:
    assert Config("SASRec")["train_neg_sample_args"]["distribution"] == "none"
    assert Config("BPR")["train_neg_sample_args"]["distribution"] == "uniform"


def test_sys_argv_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--epochs=77", "-q"])
    assert Config("BPR")["epochs"] == 300


def test_an_argument_beyond_the_locale_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    said = r"argument '--dataset=l\\udcc3\\udca4dchen' cannot be read as ascii; use a UTF-8 locale"
    with pytest.raises(ValueError, match=said):
        parse_command_line(["--dataset=l\udcc3\udca4dchen"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("1e-3", 0.001), ("[1, 2]", [1, 2]), ("{'a': 1}", {"a": 1}), ("None", None),
        ("true", True), ("False", False), ("CE", "CE"), ("2 * 3", "2 * 3"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"), ("a/b.yaml", "a/b.yaml"),
        ("[NDCG, Recall]", ["NDCG", "Recall"]), ("{mode: uni100}", {"mode": "uni100"}),
        ("{rating:3}", {"rating": 3}), ('{a: "x,b:c"}', {"a": "x,b:c"}),
        ("{inter:[user_id,item_id:token]}", "{inter:[user_id,item_id:token]}"),
        ("{split:{LS:valid_only},order:TO}", {"split": {"LS": "valid_only"}, "order": "TO"}),
        ("{RS: [8, 1, 1]}", {"RS": [8, 1, 1]}), ("[a", "[a"), ("{{ title }}", "{{ title }}"),
        ("[012, 12:30, yes, 1e3, None]", ["012", "12:30", "yes", 1000.0, None]),
        ("{i: [2024-01-01, '7', true]}", {"i": ["2024-01-01", "7", True]}),
        ("{a: 1, a: 2}", "{a: 1, a: 2}"), ("[!!python/name:os.a]", "[!!python/name:os.a]"),
    ],
)  # fmt: skip
def test_literals_are_parsed_and_nothing_is_evaluated(text: str, value: object) -> None:
    assert parse_literal(text) == value


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_a_literals_repr_comes_back(value: object) -> None:
    assert parse_literal(repr(value)) == value


def test_the_command_line_takes_spaces_flags_and_later_values() -> None:
    argv = ["--model", "PAD", "--verbose", "--epochs=3", "--epochs", "4", "--verbose"]
    assert parse_command_line(argv) == {"model": "PAD", "verbose": "True", "epochs": "4"}


def test_lists_need_no_brackets_on_the_command_line() -> None:
    argv = ["--topk=5,10", "--metrics=NDCG, Recall", "--valid_metric=NDCG@5", "--seed=1"]
    config = Config("BPR", argv=argv)
    assert (config["topk"], config["metrics"]) == ([5, 10], ["NDCG", "Recall"])
    assert Config("BPR", argv=["--topk=5", "--valid_metric=MRR@5"])["topk"] == [5]


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("DeepFM", "normalize_field"),
        ("DeepFM", "numerical_features"),
        ("BPR", "alias_of_item_id"),
        ("SASRecF", "selected_features"),
    ],
)
def test_one_name_stands_for_a_list_of_one(model: str, key: str) -> None:
    own = ["--normalize_all=False"]  # ml-100k's file sets normalize_all
    assert Config(model, argv=[f"--{key}=price", *own])[key] == ["price"]
    assert Config(model, argv=[f"--{key}=price, age", *own])[key] == ["price", "age"]
    for value in (("price", "age"), ["price", "age"], "price,age"):
        assert Config(model, config_dict={key: value}, argv=own)[key] == ["price", "age"]


@pytest.mark.parametrize("model", ["BPR", "AlphaRec", "SASRec"])
def test_one_key_puts_models_on_the_same_protocol(model: str) -> None:
    config = Config(model, argv=["--protocol=leave-one-out"])
    args = config["eval_args"]
    assert args["split"] == {"LS": "valid_and_test"} and args["order"] == "TO"
    if model != "SASRec":
        assert Config(model, argv=["--protocol=random"])["eval_args"]["order"] == "RO"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--protocol=random"], "protocol: random takes items out of the middle of a history"),
        (["--protocol=leave_one_out"], "protocol 'leave_one_out' is unknown; did you mean"),
        (["--protocol=leave-one-out", "--eval_args={'order': 'TO'}"], "give one of the two"),
    ],
)
def test_protocols_that_cannot_be(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config("SASRec", argv=argv)


def test_wandb_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_llm.core.keys.training.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="log_wandb: the package 'wandb' is not installed: pip"):
        Config("BPR", argv=["--log_wandb=True"])


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_command_line(["--item_prompt=a=b"]) == {"item_prompt": "a=b"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nproc": "two"}, "nproc: this command does not start processes"),
        ({"model": 5}, "model '5' is unknown"),
        ({"val_interval": {"rating": 5}}, r"val_interval.*'5' is not an interval such as \[5,i"),
    ],
)
def test_values_of_another_kind(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**{"config_dict": {"model": "BPR", **settings}})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["epochs=3"], "argument 'epochs=3' is not of the form --key=value"),
        (["--epochs"], "argument '--epochs' has no value; write --epochs=value"),
        (["--epochs", "--verbose"], "argument '--epochs' has no value"),
    ],
)
def test_malformed_arguments(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config("BPR", argv=argv)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--learning_rate=fast", "learning_rate: expected a number above 0, got 'fast'"),
        ("--epochs=1.5", "epochs: expected an integer of at least 1, got 1.5"),
        ("--epochs=True", "epochs: expected an integer of at least 1, got True"),
        ("--show_progress=2", "show_progress: expected True or False, got 2"),
        ("--eval_args=full", "eval_args: expected a dict, got 'full'"),
        (
            "--threshold={rating: 4, timestamp: 3}",
            "threshold: expected a dict that is not empty and no longer than 1, each value a "
            "number or None, got {'rating': 4, 'timestamp': 3}",
        ),
        ("--metrics={}", "metrics: expected a list that is not empty, each a text, got {}"),
        ("--benchmark_filename=[a,b]", "benchmark_filename: expected a list of 3, each"),
        ("--metrics=[]", "metrics: expected a list that is not empty, each a text, got \\[\\]"),
        ("--valid_metric=[5]", "valid_metric '\\[5\\]' is not computed"),
        ("--learner=foo", "learner 'foo' is unknown; choose from adam, adamw"),
        ("--weight_decay=nan", "weight_decay: expected a number of at least 0, got 'nan'"),
        (
            "--train_neg_sample_args={'distribution': 'unifrom'}",
            "train_neg_sample_args: distribution 'unifrom' is unknown; did you mean 'uniform'",
        ),
        (
            "--eval_args={'modes': 'full'}",
            "eval_args: the key 'modes' is unknown; did you mean 'mo",
        ),
        ("--eval_args={'mode': 'uni0'}", "eval_args: mode 'uni0' is unknown; choose full"),
        ("--reg_weight=-1", "reg_weight: expected a number of at least 0"),
        ("--user_inter_num_interval=5", "user_inter_num_interval: .5. is not an interval"),
        ("--embedding_size=0", "embedding_size: expected an integer of at least 1 or None, got 0"),
    ],
)
def test_a_value_of_a_wrong_type_names_the_key(argument: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config("BPR", argv=[argument])


@pytest.mark.parametrize("key", ["nproc", "world_size", "local_rank"])
def test_torchrun_starts_processes(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key}: this command does not start processes"):
        Config("BPR", argv=[f"--{key}=2"])
    Config("BPR", argv=["--nproc=1", "--world_size=-1"])


@pytest.mark.parametrize(
    ("model", "argument"),
    [
        ("BPR", "--gpu_id=0,1"),
        ("BPR", "--user_inter_num_interval=[5,100]"),
        ("DiffRec", "--noise_scale=0.01"),
        ("KGIN", "--ind=distance"),
        ("BPR", "--topk=10"),
        ("BPR", "--learner=Adam"),
    ],
)
def test_recboles_own_forms_are_taken(model: str, argument: str) -> None:
    Config(model, argv=[argument])


@pytest.mark.parametrize(
    ("argument", "visible"),
    [("--gpu_id=0,1", "0,1"), ("--gpu_id=[1]", "1"), ("--gpu_id=2", "2"), ("--use_gpu=False", "")],
)
def test_gpus_that_are_seen(argument: str, visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "of somebody else")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    device = Config("BPR", argv=[argument])["device"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert device.type == ("cuda" if visible else "cpu")


@pytest.mark.parametrize(("given", "gpus"), [(None, "0"), ("3,1", "3,1"), ("", "")])
def test_gpus_that_the_environment_names(
    given: str | None, gpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchrun, "VISIBLE_GPUS", given)
    assert Config("BPR")["gpu_id"] == gpus
    assert Config("BPR", argv=["--gpu_id=2"])["gpu_id"] == "2"


def test_part_of_eval_args_leaves_the_rest_to_the_models_type() -> None:
    config = Config("SASRec", config_dict={"eval_args": {"mode": "uni5"}})
    assert config["eval_args"]["order"] == "TO"
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["eval_args"]["mode"] == {"valid": "uni5", "test": "uni5"}


@pytest.mark.parametrize("model", ["GRU4RecKG", "KSR"])
def test_sequential_models_that_recbole_gives_no_order_leave_one_out(model: str) -> None:
    args = Config(model, "ml-100k")["eval_args"]
    assert (args["order"], args["split"]) == ("TO", {"LS": "valid_and_test"})


def test_a_protocol_beats_a_checkpoints_split_and_not_a_given_one() -> None:
    stored = {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO"}}
    keys = {"protocol": "leave-one-out"}
    assert Config("BPR", config_dict=keys, stored=stored)["eval_args"]["order"] == "TO"
    with pytest.raises(ValueError, match="protocol: stands for eval_args"):
        Config("BPR", config_dict={**keys, "eval_args": {"order": "TO"}}, stored=stored)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train_neg_sample_args": None}, "BPR compares each item with a negative one, and none"),
        ({"train_neg_sample_args": {"dynamic": True}}, "dynamic: takes the hardest of candidate"),
        ({"eval_args": {"split": {"RS": [8, 2]}}}, "three ratios, of training, validation and"),
        ({"eval_args": {"split": {"TS": [8, 2]}, "order": "TO"}}, "three ratios, of training"),
        ({"eval_args": {"split": {"RS": [8, 1, 1], "LS": "valid_only"}}}, "one of RS, LS and TS"),
        ({"benchmark_filename": ["train", "test"]}, "benchmark_filename: "),
        ({"learner": "sparse_adam"}, "learner 'sparse_adam' is unknown"),
    ],
)
def test_what_would_break_in_the_run_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config("BPR", config_dict=keys)


@pytest.mark.parametrize(
    ("model", "loss", "known"),
    [("STAMP", "XYZ", "CE or BPR"), ("NARM", "BCE", "CE or BPR"), ("CORE", "BPR", "CE")],
)
def test_a_loss_that_a_model_of_recbole_lacks_is_refused(model: str, loss: str, known: str) -> None:
    with pytest.raises(
        ValueError, match=f"^loss_type: expected {known} with {model}, got '{loss}'"
    ):
        Config(model, config_dict={"loss_type": loss})


def test_losses_that_models_of_recbole_have_are_taken() -> None:
    for model in ("STAMP", "SASRec", "SINE"):
        assert Config(model, config_dict={"loss_type": "BPR"})["loss_type"] == "BPR"
    assert Config("SASRec", config_dict={"loss_type": "BCE"})["loss_type"] == "BCE"
    assert Config("SINE", config_dict={"loss_type": "NLL"})["loss_type"] == "NLL"


@pytest.mark.skipif("SASRecCPR" not in recbole_models(), reason="came with RecBole 1.2.1")
@pytest.mark.parametrize("model", ["SASRecCPR", "GRU4RecCPR"])
@pytest.mark.parametrize("mode", ["uni20", {"valid": "full", "test": "pop20"}])
def test_sampled_candidates_for_a_model_that_cannot_score_them(model: str, mode: Any) -> None:
    Config(model)
    with pytest.raises(ValueError, match=f"^eval_args: {model} scores all items at once"):
        Config(model, config_dict={"eval_args": {"mode": mode}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("val_interval", {"rating": "[4,inf)"}),
        ("rm_dup_inter", "last"),
        ("user_inter_num_interval", "[5,inf)"),
        ("item_inter_num_interval", [5, 100]),
    ],
)
def test_filters_of_ready_made_splits(key: str, value: Any) -> None:
    """RecBole ignores such filters. A stored configuration may have filters that keep all rows."""
    split = {"benchmark_filename": ["train", "valid", "test"]}
    with pytest.raises(ValueError, match=f"^{key}: has no effect on ready-made splits"):
        Config("BPR", config_dict={**split, key: value})
    every = dict.fromkeys(("user_inter_num_interval", "item_inter_num_interval"), "[0,inf)")
    Config("BPR", config_dict={**split, **every, "val_interval": None})


def test_a_metric_says_which_direction_is_better() -> None:
    """RecBole overwrites the key, and a checkpoint's value may belong to another metric."""
    with pytest.raises(ValueError, match="^valid_metric_bigger: higher MRR@10 is better"):
        Config("BPR", argv=["--valid_metric_bigger=False"])
    loss = ["--metrics=LogLoss", "--valid_metric=LogLoss", "--eval_args={'mode': 'uni5'}"]
    with pytest.raises(ValueError, match="^valid_metric_bigger: lower LogLoss is better"):
        Config("BPR", argv=[*loss, "--valid_metric_bigger=True"])
    assert not Config("BPR", argv=[*loss, "--valid_metric_bigger=False"])["valid_metric_bigger"]
    assert "valid_metric_bigger" not in plain_config(Config("BPR", argv=loss))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"discretization": {"p": {"method": "ED"}}}, "discretization: 'p' needs its number of b"),
        ({"discretization": {"p": {"method": "X"}}}, "discretization: 'p' has the method 'X'; cho"),
        (
            {"normalize_all": True, "normalize_field": ["p"]},
            "normalize_all: True scales the fields of",
        ),
        ({"unload_col": {"inter": ["p"]}}, "unload_col: load_col already says what is loaded of"),
    ],
)
def test_keys_of_columns_that_do_not_go_together(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Config("DeepFM", config_dict=keys)
    Config("DeepFM", config_dict={"load_col": None, "unload_col": {"inter": ["p"]}})
    Config("DeepFM", config_dict={"discretization": {"p": {"method": "LD"}}})


@pytest.mark.parametrize("model", ["MultiDAE", "ENMF", "SASRec", "SINE", "AlphaRec", "EASE"])
def test_models_that_draw_no_negatives(model: str) -> None:
    Config(model, config_dict={"train_neg_sample_args": None})


def test_the_defaults_of_every_stock_model_are_within_the_ranges() -> None:
    for name in sorted(recbole_models()):
        file = RECBOLE / "properties" / "model" / f"{name}.yaml"
        if file.is_file():
            StockSettings.of(read_yaml(file))
            check_like_defaults(read_yaml(file), read_yaml(file), set(), of_recbole=True)


@pytest.mark.parametrize(
    ("model", "argument", "message"),
    [
        ("ItemKNN", "--k=-1", "k: expected at least 0, like its default 100, got -1"),
        ("RippleNet", "--n_memory=-4", "n_memory: expected at least 0, like its default 16"),
        ("NGCF", "--node_dropout=2", "node_dropout: expected at least 0 and below 1, like its"),
        ("NARM", "--dropout_probs=[.2,3]", "dropout_probs: expected at least 0 and below 1"),
        ("BERT4Rec", "--mask_ratio=7", "mask_ratio: expected above 0 and at most 1, like"),
        ("NeuMF", "--mf_embedding_size=0", "mf_embedding_size: expected at least 1, like its"),
        ("NGCF", "--hidden_size_list=foo", "hidden_size_list: expected numbers, like its"),
        ("DMF", "--item_hidden_size_list=[]", "item_hidden_size_list: expected a list that is not"),
        ("DIN", "--mlp_hidden_size=[]", "mlp_hidden_size: DIN needs at least one width"),
        ("SGL", "--type=XX", "type 'XX' is unknown; choose from ED, ND, RW"),
        ("HRM", "--pooling_type_layer_2=maxx", "pooling_type_layer_2 'maxx' is unknown; did you"),
    ],
)
def test_values_that_a_model_of_recbole_cannot_use_are_refused(
    model: str, argument: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Config(model, argv=[argument])


@pytest.mark.parametrize(
    ("model", "argument"),
    [
        ("MultiDAE", "--mlp_hidden_size=[]"),  # a linear autoencoder
        ("MacridVAE", "--encoder_hidden_size=[]"),
        ("NGCF", "--hidden_size_list=[]"),
        ("DiffRec", "--dims_dnn=[]"),
        ("LDiffRec", "--out_dims=[]"),
        ("SimpleX", "--margin=-1"),  # a cosine
        ("BERT4Rec", "--mask_ratio=1"),
        ("ItemKNN", "--shrink=0"),
        ("CKE", "--reg_weights=[1e-3,0]"),
        ("SGL", "--type=RW"),
        ("FEARec", "--fredom_type=None"),
    ],
)
def test_values_that_a_model_of_recbole_can_use_are_accepted(model: str, argument: str) -> None:
    Config(model, argv=[argument])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--valid_metric=NDCG"], "valid_metric 'NDCG' is not computed.*NDCG@10"),
        (["--metrics=['GAUC']", "--valid_metric=GAUC@10"], "valid_metric 'GAUC@10' is not"),
        (["--valid_metric=NDCG@10", "--eval_args={'mode':'labeled'}"], "mode labeled ranks not"),
        (
            ["--metrics=NDCG,Novelty", "--topk=5,7", "--eval_args={'mode': 'uni5'}"],
            "topk: with 6 candidates, a list of 7 is filled .* which Novelty would .* --topk=6",
        ),
    ],
)
def test_evaluations_that_cannot_work_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config("BPR", argv=arguments)
    assert Config("BPR", argv=["--metrics=['GAUC']", "--valid_metric=gauc"])["topk"] == [10]


@pytest.mark.parametrize("model", ["SASRec", "PAD", "DIN"])
def test_sequential_models_cannot_leave_the_history_out(model: str) -> None:
    with pytest.raises(ValueError, match=f"^repeatable: False .* such as {model}; leave the key"):
        Config(model, argv=["--repeatable=False"])
    assert not Config("BPR", argv=["--repeatable=False"])["repeatable"]


@pytest.mark.parametrize(
    "arguments", [["--metrics=NDCG,Novelty", "--topk=5,6"], ["--metrics=NDCG", "--topk=5,50"]]
)
def test_lists_of_all_candidates_and_hits_beyond_them_are_accepted(arguments: list[str]) -> None:
    mode = ["--valid_metric=NDCG@5", "--eval_args={'mode': 'uni5'}"]
    assert Config("BPR", argv=[*arguments, *mode])["valid_metric"] == "NDCG@5"


@pytest.mark.parametrize("revision", ["1.10", "12345e6", "main"])
def test_a_revision_is_read_as_it_is_written(revision: str) -> None:
    told = Config("PAD", argv=[f"--encoder_revision={revision}"])
    passed = Config("PAD", config_dict={"encoder_revision": revision})
    assert told["encoder_revision"] == passed["encoder_revision"] == revision
    assert Config("PAD", argv=["--encoder_revision=None"])["encoder_revision"] is None


@pytest.mark.parametrize("name", ["2024_01", "1e5", "0x10", "007", "(1)", "True"])
def test_names_of_data_sets_and_folders_are_read_as_they_are_written(name: str) -> None:
    told = Config("BPR", argv=[f"--dataset={name}", f"--data_path={name}", f"--output={name}"])
    passed = Config("BPR", name, config_dict={"data_path": name, "output": name})
    for config in (told, passed):
        assert config["dataset"] == config["output"] == name
        assert str(config["data_path"]).endswith(f"{name}/{name}")
    assert Config("BPR", argv=["--output='a b'"])["output"] == "a b"


def test_none_and_an_int_for_a_float_are_accepted() -> None:
    config = Config("BPR", argv=["--learning_rate=1", "--threshold=None"])
    assert config["learning_rate"] == 1


def test_the_callers_dicts_stay_as_they_are() -> None:
    sampling = {"distribution": "popularity"}
    config = Config("BPR", config_dict={"train_neg_sample_args": sampling})
    assert config["train_neg_sample_args"]["sample_num"] == 1
    assert sampling == {"distribution": "popularity"}


def test_an_empty_name_of_a_data_set_is_refused() -> None:
    ways: list[Any] = [{"argv": ["--dataset="]}, {"dataset": ""}, {"config_dict": {"dataset": ""}}]
    for named in ways:
        with pytest.raises(ValueError, match="dataset: the name is empty"):
            Config("BPR", **named)


def test_a_data_frame_is_no_name_of_a_data_set() -> None:
    said = "dataset: expected the name of a data set, got DataFrame; from_pandas writes data frames"
    with pytest.raises(ValueError, match=said):
        Config("BPR", pd.DataFrame({"user_id": [1, 2]}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "meant"),
    [("lerning_rate", "learning_rate"), ("config_file", "config_files")],
)
def test_an_unknown_key_is_named_with_near_matches(key: str, meant: str) -> None:
    said = Config("BPR", config_dict={key: 0.1}).unknown_keys()
    assert said == f"unknown config key: '{key}', did you mean '{meant}'?"


@pytest.mark.parametrize(
    ("key", "now"),
    [("split_ratio", "eval_args"), ("neg_sampling", "train_neg_sample_args"),
     ("lowest_val", "val_interval"), ("min_item_inter_num", "item_inter_num_interval")],
)  # fmt: skip
def test_a_key_of_an_earlier_recbole_is_named_with_todays(key: str, now: str) -> None:
    said = Config("BPR", config_dict={key: {"a": 1}}).unknown_keys()
    assert said == f"unknown config key: '{key}', now '{now}'"


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [("embedding_path", "x.npz", "precomputed"), ("encoder_layer", 3, "causal_lm")],
)  # fmt: skip
def test_a_key_of_another_encoder_is_named(key: str, value: object, kind: str) -> None:
    said = Config("PAD", config_dict={"encoder": "bundled", key: value}).unknown_keys()
    assert said == f"'{key}' is read only with --encoder={kind}, not with bundled"
    assert Config("PAD", config_dict={"encoder": kind, key: value}).unknown_keys() == ""
    assert Config("PAD", config_dict={"encoder": "bundled", key: None}).unknown_keys() == ""


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [("bundled", "encoder_model", "a/b"), ("precomputed", "encoder_normalize", True),
     ("image", "encoder_prefix", "a "), ("openai", "encoder_dtype", "bfloat16"),
     ("sentence_transformers", "encoder_dimensions", 3)],
)  # fmt: skip
def test_a_key_that_an_encoder_does_not_mind_is_named(kind: str, key: str, value: object) -> None:
    own = {"encoder": kind, "encoder_model": "m", key: value}
    said = Config("PAD", config_dict=own).unknown_keys()
    assert f"'{key}' is not read with --encoder={kind}" in said


@pytest.mark.parametrize(
    ("model", "own", "said"),
    [("LLMESR", {"nv": 3}, "'nv' is read only with --backbone=Caser, not with SASRec"),
     ("PAD", {"backbone": "GRU4Rec", "n_heads": 4},
      "'n_heads' is read only with --backbone=SASRec or BERT4Rec, not with GRU4Rec"),
     ("LLMCF", {"backbone": "AutoInt", "dropout_prob": 0.1},
      "'dropout_prob' is read only with --backbone=DIN or DeepFM or DCN, not with AutoInt"),
     ("BAHE", {"head": "AutoInt", "dropout_prob": 0.1},
      "'dropout_prob' is read only with --head=MLP or DIN or DeepFM or DCN, not with AutoInt"),
     ("BAHE", {"coupled_max_tokens": 64},
      "'coupled_max_tokens' is read only with --coupled=True, not with False"),
     ("BAHE", {"head": "DIN", "batch_norm": False},
      "'batch_norm' is read only with --head=MLP, not with DIN"),
     ("BAHE", {"head": "DCN", "pooling_mode": "max"},
      "'pooling_mode' is read only with --head=MLP or DIN, not with DCN"),
     ("Molar", {"lora_rank": 4}, "'lora_rank' is read only with --tuning=lora, not with full"),
     ("SASRec", {"item_init_std": 0.3},
      "'item_init_std' is read only with --item_init=llm, not with None"),
     ("Molar", {"fusion": "no_alignment", "temperature": 0.2},
      "'temperature' is read only with --fusion=post_alignment, not with no_alignment"),
     ("Molar", {"same_item": 0.9}, "'same_item' is read only with --loss_type=NCE, not with CE"),
     ("PAD", {"backbone": "Caser", "score_std": 1.0},
      "'score_std' is read only with --backbone=SASRec or BERT4Rec, not with Caser"),
     ("LLMESR", {"views": "semantic", "share_backbone": False},
      "'share_backbone' is read only with --views=both, not with semantic"),
     ("AlphaRec", {"negatives": "in_batch", "n_neg": 8},
      "'n_neg' is read only with --negatives=sampled, not with in_batch"),
     ("AlphaRec", {"text_map": "linear", "map_hidden_size": 8},
      "'map_hidden_size' is read only with --text_map=mlp, not with linear"),
     ("LLMCF", {"thoughts": "none", "reconstruction_weight": 0.2},
      "'reconstruction_weight' is read only with --thoughts=llm or item_text, not with none")],
)  # fmt: skip
def test_a_key_that_another_value_of_a_key_would_read_is_named(
    model: str, own: dict[str, object], said: str
) -> None:
    assert Config(model, config_dict=own).unknown_keys() == said


def test_keys_that_the_values_of_others_read_are_not_named() -> None:
    for backbone, own in (("Caser", {"nv": 3}), ("GRU4Rec", {"n_layers": 1})):
        config = Config("LLMESR", config_dict={"backbone": backbone, **own})
        assert config.unknown_keys() == ""
    assert Config("BAHE", config_dict={"batch_norm": False}).unknown_keys() == ""
    assert Config("SASRec", argv=["--item_init=llm", "--item_init_std=0.3"]).unknown_keys() == ""


def test_keys_of_a_checkpoint_that_are_not_read_are_not_named() -> None:
    stored = {"backbone": "GRU4Rec", "n_heads": 4, "nv": 8}
    config = Config("LLMESR", stored=stored)
    assert config["n_heads"] == 4 and config.unknown_keys() == ""
    assert "'nv'" in Config("LLMESR", stored=stored, config_dict={"nv": 9}).unknown_keys()


def test_an_unknown_metric_names_those_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole.evaluator.register import metrics_dict

    monkeypatch.setitem(metrics_dict, "halfmetric", type("HalfMetric", (), {}))
    said = "'HalfMetric' is unknown; choose from AUC, .*; one of your own needs --plugins=FILE.py$"
    with pytest.raises(ValueError, match=said):
        Config("BPR", argv=["--metrics=HalfMetric"])


def test_a_class_that_draws_negatives_says_how_it_reads_them() -> None:
    own = type("Own", (SequentialRecommender,), {})
    with pytest.raises(ValueError, match=r"train_neg.*Own does not say.* an input_type .*=None$"):
        Config(own)
    Config(own, argv=["--train_neg_sample_args=None"])
    Config(type("Own", (SequentialRecommender,), {"input_type": InputType.PAIRWISE}))


def test_dynamic_negatives_of_context_models_are_refused() -> None:
    dynamic = {"distribution": "uniform", "sample_num": 1, "dynamic": True, "candidate_num": 2}
    with pytest.raises(ValueError, match="dynamic scores all candidates by the positive item's"):
        Config("DeepFM", config_dict={"train_neg_sample_args": dynamic})
    assert Config("BPR", config_dict={"train_neg_sample_args": dynamic})["model"] == "BPR"


def test_a_text_in_a_file_is_what_is_written_there(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "dataset: 2024_01\nencoder_revision: 12345e6\nencoder_prefix: 1.10\nseed: 1_0\n"
        "encoder_model: 2024-01-31\nitem_prompt: null\nlearning_rate: 1e-3\n"
    )
    config = Config("PAD", config_file_list=[str(tmp_path / "own.yaml")])
    keys = ("dataset", "encoder_revision", "encoder_prefix", "encoder_model", "item_prompt")
    assert [config[key] for key in keys] == ["2024_01", "12345e6", "1.10", "2024-01-31", None]
    assert (config["seed"], config["learning_rate"]) == (10, 0.001)


def test_values_of_numpy_and_paths_are_plain_ones(tmp_path: Path) -> None:
    """A sweep over a NumPy array passes such values."""
    own = {"epochs": np.int64(3), "reproducibility": np.True_, "learning_rate": np.float32(0.5),
           "topk": np.array([5, 10]), "checkpoint_dir": tmp_path}  # fmt: skip
    config = Config("SASRec", config_dict={**own, "valid_metric": "MRR@10"})
    assert [config[key] for key in own] == [3, True, 0.5, [5, 10], str(tmp_path)]


def test_what_is_no_list_or_dict_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("epochs: 7\n")
    assert Config("BPR", config_file_list=str(tmp_path / "own.yaml"))["epochs"] == 7
    with pytest.raises(ValueError, match="config_file_list: .* pass settings as config_dict"):
        Config("BPR", config_file_list={"epochs": 7})
    with pytest.raises(ValueError, match="config_dict: expected a dict of settings, got 'own.ya"):
        Config("BPR", config_dict="own.yaml")
    with pytest.raises(ValueError, match="config_dict: expected a dict of settings, got 5"):
        load_data_and_model("saved/BPR.pth", config_dict=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="argv: expected a list of --key=value arguments, got '--"):
        Config("BPR", argv="--epochs=7")


@pytest.mark.parametrize(
    ("model", "key"),
    [("BPR", "n_heads"), ("SASRec", "dropout_prob"), ("LightGCN", "nv"), ("PAD", "ssl_tau"),
     ("NeuMF", "kg_weight"), ("Pop", "loss_type")],
)  # fmt: skip
def test_a_key_of_another_model_is_named(model: str, key: str) -> None:
    value = "CE" if key == "loss_type" else 1
    said = Config(model, config_dict={key: value}).unknown_keys()
    assert said == f"'{key}' is not read by {model}"


@pytest.mark.parametrize("name", ["AutoInt", "FEARec", "DiffRec", "LDiffRec", "KD_DAGFM", "NNCF"])
def test_a_key_that_only_the_code_of_a_model_reads_is_not_named(name: str) -> None:
    """Such keys, `has_residual` for example, are in none of RecBole's YAML files."""
    config = Config(name)
    modules, readers = recbole_modules(config.model_class), recbole_readers()
    own = {key for key, of in readers.items() if of & modules} - set(config.internal_config_dict)
    assert own
    assert Config(name, config_dict=dict.fromkeys(own, 1)).unknown_keys() == ""


def test_a_model_that_is_not_registered_may_read_any_key() -> None:
    class Own(get_model("BPR")):  # type: ignore[misc]
        pass

    assert Config(Own, config_dict={"n_heads": 2}).unknown_keys() == ""
    assert recbole_modules(Own) == recbole_modules(get_model("BPR"))


def test_a_length_that_an_endpoint_does_not_mind_is_named() -> None:
    own = {"encoder": "openai", "encoder_model": "m", "encoder_max_length": 5}
    said = Config("PAD", config_dict=own).unknown_keys()
    assert said == "'encoder_max_length' is not read with --encoder=openai"
    assert Config("PAD", config_dict={"encoder_max_length": 5}).unknown_keys() == ""


def test_an_adapter_that_the_encoder_does_not_read_is_named() -> None:
    own = {"encoder_adapter": "x"}
    said = Config("PAD", config_dict=own).unknown_keys()
    assert said == (
        "'encoder_adapter' is read only with --encoder=causal_lm or multimodal, not with "
        "sentence_transformers"
    )
    for encoder in ("causal_lm", "multimodal"):
        assert Config("PAD", config_dict={**own, "encoder": encoder}).unknown_keys() == ""


def test_keys_of_a_stage_that_is_prepared_are_known() -> None:
    own = {"mirm_history": 3}
    assert "mirm_history" in Config("BPR", config_dict=own).unknown_keys()
    assert Config("BPR", config_dict={**own, "strict_config": True}, stage="mirm").spec.stages
    with pytest.raises(ValueError, match="mirm_history: expected an integer of at least 1, got 0"):
        Config("BPR", config_dict={"mirm_history": 0}, stage="mirm")


def test_an_unknown_key_is_an_error_when_strict() -> None:
    with pytest.raises(ValueError, match="'lerning_rate', did you mean 'learning_rate'"):
        Config("BPR", config_dict={"lerning_rate": 0.1, "strict_config": True})


def test_keys_that_recbole_reads_in_code_alone_are_known() -> None:
    given = {"additional_feat_suffix": None, "numerical_features": []}
    assert Config("BPR", config_dict=given).unknown_keys() == ""


def test_an_unknown_model_lists_near_matches() -> None:
    with pytest.raises(ValueError, match="model 'SASrec' is unknown; did you mean 'SASRec'"):
        Config("SASrec")


def test_no_model() -> None:
    with pytest.raises(ValueError, match="no model is given: pass --model=…, or .* file$"):
        Config(argv=["--epochs=3"])
    with pytest.raises(ValueError, match="config file; 'modle' is unknown$"):
        Config(argv=["--epochs=3", "--modle=SASRec"])


def test_a_missing_or_broken_config_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config file 'no\.yaml' does not exist"):
        Config("BPR", config_file_list=["no.yaml"])
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    place = r"YAML: line \d, column \d: while parsing a flow sequence, .*expected ',' or '\]'"
    with pytest.raises(ValueError, match=rf"broken\.yaml' is not valid {place}"):
        Config("BPR", config_file_list=[str(broken)])
    broken.write_text("a: \x00")
    with pytest.raises(ValueError, match=r"YAML: unacceptable character .* allowed, position 3$"):
        Config("BPR", config_file_list=[str(broken)])
    broken.write_bytes("epochs: 1\ndataset: schön".encode("cp1252"))
    with pytest.raises(ValueError, match="YAML: line 2 is no UTF-8 text; save the file as UTF-8$"):
        Config("BPR", config_file_list=[str(broken)])


@pytest.mark.parametrize("argument", ["--learning_rate=0,001", "--weight_decay=0,001"])
def test_a_decimal_comma_is_said(argument: str) -> None:
    with pytest.raises(ValueError, match="got '0,001'; write 0.001$"):
        Config("NCL", argv=[argument])
    with pytest.raises(ValueError, match="ssl_temp: .*, got '0,001'; write 0.001$"):
        Config("NCL", argv=["--ssl_temp=0,001"])


@pytest.mark.parametrize("change", [{"topk": [5]}, {"metrics": ["NDCG"]}])
def test_a_validation_metric_that_is_not_computed(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"valid_metric 'MRR@10' is not computed"):
        Config("BPR", config_dict=change)


@pytest.mark.parametrize(
    ("model", "loaded"), [("DIN", True), ("DIEN", True), ("RepeatNet", False), ("SASRec", False)]
)
def test_sequential_models_of_clicks_load_labels(model: str, loaded: bool) -> None:
    """RepeatNet is pointwise too, but does not learn from labels."""
    columns = Config(model, "tiny", config_dict={"data_path": "dataset"})["load_col"]["inter"]
    assert ("label" in columns) is loaded

"""What is compared, and under which protocol."""

from __future__ import annotations

import re
import shlex

import pytest
from recbole.utils import ModelType

from recbole_llm.tasks.compare.agreement import describe_random_splits, unify_protocol
from recbole_llm.tasks.compare.entries import check_split, parse_models

pytestmark = pytest.mark.usefixtures("tiny")


COMMON = ["--dataset=tiny", "--encoder=hash"]


def test_models_have_arguments_and_names() -> None:
    text = "SASRec; wide: SASRec --hidden_size=128 --seq_len=\"{'a': 1}\";PAD --gamma 0.1;"
    entries = parse_models(text, ["--dataset=tiny", "--hidden_size=32"])
    assert [entry.label for entry in entries] == ["SASRec", "wide", "PAD --gamma 0.1"]
    assert entries[1].own == {"model": "SASRec", "hidden_size": "128", "seq_len": "{'a': 1}"}
    assert entries[0].config["hidden_size"] == 32 and entries[1].config["hidden_size"] == 128


def test_names_are_lines_of_words() -> None:
    text = "Bob's: Pop; Ann's: BPR;a--b: Pop\n  --learning_rate=0.01;Pop\n  --embedding_size=8"
    labels = [entry.label for entry in parse_models(text)]
    assert labels == ["Bob's", "Ann's", "a--b", "Pop --embedding_size=8"]


@pytest.mark.parametrize(
    ("split", "part"),
    [
        ({"LS": "test_only"}, "validation"),
        ({"LS": "valid_only"}, "test"),
        ({"RS": [8, 0, 2]}, "validation"),
        ({"RS": [8, 2, 0]}, "test"),
    ],
)
def test_splits_without_validation_or_test_are_refused(split: dict, part: str) -> None:
    given = f"--eval_args={{'split': {split}, 'order': 'TO'}}"
    with pytest.raises(ValueError, match=f"the split of BPR leaves nothing for {part}; give"):
        unify_protocol(parse_models("BPR; Pop", [*COMMON, given]))


def test_a_semicolon_in_quotes_parts_nothing() -> None:
    text = "PAD --item_prompt='{{ title }}; {{ genre }}'; SASRec; \"it's\": BPR"
    entries = parse_models(text, ["--dataset=tiny"])
    assert [entry.own["model"] for entry in entries] == ["PAD", "SASRec", "BPR"]
    assert entries[0].own["item_prompt"] == "{{ title }}; {{ genre }}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ; ", "models: name some"),
        ("SASRec; SASRec", "models: 'SASRec' appears twice; give them names"),
        ("SASRec --hidden_size", "models: 'SASRec --hidden_size': argument '--hidden_size' has no"),
        ("SASRec; PDA", "PDA: model 'PDA' is unknown; did you mean 'PAD'"),
        ("wide: GRU4Rec --hidden_size=x", "wide: hidden_size: expected an integer"),
        ("one:", "models: 'one:': names no model; write it as in 'wide: SASRec --hidden_size=128'"),
        ("one: --hidden_size=8", "models: 'one: --hidden_size=8': names no model; write it as"),
        (": Pop", "models: ': Pop': write a name before the colon"),
    ],
)
def test_what_is_no_model_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        unify_protocol(parse_models(text, COMMON))
    assert str(error.value).startswith(message)


def test_a_model_that_would_be_left_out_is_refused() -> None:
    with pytest.raises(ValueError, match="^model: 'PAD' would be left out; name it in models$"):
        parse_models("SASRec; Pop", [*COMMON, "--model=PAD"])


def test_metrics_are_the_first_models_where_nobody_says_otherwise() -> None:
    entries, said = unify_protocol(parse_models("GRU4Rec; LLMESR", COMMON))
    assert {entry.config["valid_metric"] for entry in entries} == {"MRR@10"}
    assert said == ["valid_metric: MRR@10 for all, instead of the defaults of LLMESR"]
    assert entries[0].config["eval_groups"] == ["items", "users", "cold"]
    entries, said = unify_protocol(
        parse_models("GRU4Rec; LLMESR", [*COMMON, "--valid_metric=NDCG@10"])
    )
    assert {entry.config["valid_metric"] for entry in entries} == {"NDCG@10"} and said == []


def test_groups_are_reported_where_the_metrics_have_them() -> None:
    listed = ["--metrics=['ItemCoverage', 'Novelty']", "--valid_metric=Novelty@10"]
    entries, _ = unify_protocol(parse_models("GRU4Rec; SASRec", [*COMMON, *listed]))
    assert {entry.config["eval_groups"] for entry in entries} == {None}
    with pytest.raises(ValueError, match="eval_groups: groups need a metric of ranked lists"):
        unify_protocol(parse_models("GRU4Rec; SASRec", [*COMMON, *listed, "--eval_groups=items"]))


def test_a_pretraining_stage_is_refused_before_any_run() -> None:
    message = "^train_stage: actor_pretrain of RaCT is without validation; run it and the stages"
    entries = parse_models("Pop; RaCT", [*COMMON, "--pretrain_epochs=1"])
    with pytest.raises(ValueError, match=message):
        unify_protocol(entries)
    with pytest.raises(ValueError, match=message):  # as a search does
        check_split(entries[1])


def test_a_decision_tree_is_refused_before_any_run() -> None:
    entries = parse_models("Pop; tree: BPR", COMMON)
    entries[1].config.final_config_dict["MODEL_TYPE"] = ModelType.DECISIONTREE
    with pytest.raises(ValueError, match="^models: tree is a decision tree, whose predictions"):
        unify_protocol(entries)


def test_a_key_that_a_model_does_not_know_is_said() -> None:
    _, said = unify_protocol(parse_models("GRU4Rec; wide: GRU4Rec --hiden_size=128", COMMON))
    assert said == ["wide: unknown config key: 'hiden_size', did you mean 'hidden_size'? (ignored)"]


@pytest.mark.parametrize(
    ("models", "key"),
    [
        ("GRU4Rec; BPR", "eval_args"),
        ("GRU4Rec; other: GRU4Rec --valid_metric=NDCG@10", "valid_metric"),
        ("GRU4Rec; other: GRU4Rec --rm_dup_inter=first", "rm_dup_inter"),
        ("GRU4Rec; other: GRU4Rec --eval_cold_threshold=5", "eval_cold_threshold"),
        ("GRU4Rec; other: GRU4Rec --data_path=elsewhere", "data_path"),
        ("GRU4Rec; other: GRU4Rec --exact_times=False", "exact_times"),
        ("GRU4Rec; other: GRU4Rec --topk=5 --metrics=NDCG,MRR --valid_metric=MRR@5", "metrics"),
    ],
)
def test_models_that_are_judged_differently_are_refused(models: str, key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: the models are judged differently"):
        unify_protocol(parse_models(models, COMMON))


@pytest.mark.parametrize(
    ("metric", "key", "value"),
    [
        ("Diversity", "item_prompt", "{{ title }}"),
        ("Diversity", "item_feature", "item_image"),
        ("Diversity", "encoder", "bundled"),
        ("Diversity", "encoder_prefix", "query: "),
        ("TailPercentage", "tail_ratio", "0.2"),
    ],
)
def test_what_a_metric_reads_must_be_alike_where_it_is_asked_for(
    metric: str, key: str, value: str
) -> None:
    entries = parse_models("GRU4Rec; other: GRU4Rec", ["--dataset=tiny"])
    entries[1] = entries[1].with_own({key: value})
    unify_protocol(entries)
    asked = [entry.with_own({"metrics": f"['NDCG', '{metric}']", "valid_metric": "NDCG@10"})
             for entry in entries]  # fmt: skip
    with pytest.raises(ValueError, match=f"^{key}: the models are judged diff.* --{key}=…$"):
        unify_protocol(asked)
    unify_protocol([entry.with_own({key: value}) for entry in asked])


@pytest.mark.parametrize(
    ("models", "ways"),
    [
        ("GRU4Rec; BPR", "leave-one-out"),  # random is not for models that read histories
        ("BPR --protocol=leave-one-out; LightGCN", "leave-one-out or random"),
    ],
)
def test_only_protocols_that_all_models_take_are_named(models: str, ways: str) -> None:
    with pytest.raises(ValueError, match=f"set it for all with --protocol={ways}$"):
        unify_protocol(parse_models(models, COMMON))


def test_models_whose_rows_are_split_at_other_places_are_refused() -> None:
    labels = ["--threshold={'rating': 3}", "--train_neg_sample_args=None", "--metrics=['AUC']",
              "--eval_args={'split': {'RS': [8, 1, 1]}, 'order': 'TO', 'mode': 'labeled'}",
              "--valid_metric=AUC"]  # fmt: skip
    unify_protocol(parse_models("DIN; other: DIN --learning_rate=0.01", [*COMMON, *labels]))
    with pytest.raises(ValueError, match="RS tests DIN, which reads histories, on other inter"):
        unify_protocol(parse_models("DeepFM; DIN", [*COMMON, *labels]))


def test_a_protocol_brings_them_together_and_what_is_left_is_said() -> None:
    _, said = unify_protocol(parse_models("GRU4Rec; BPR", [*COMMON, "--protocol=leave-one-out"]))
    assert said == [
        "items of a user's history are candidates for GRU4Rec; for BPR only if they are held out "
        "again, so that fewer items are ranked, and repeated purchases are easier to find"
    ]


@pytest.mark.parametrize(
    ("mode", "candidates", "notes"),
    [
        ("'uni20'", "fixed", 0),
        ("'uni20'", "drawn", 1),
        ("{'valid': 'uni20', 'test': 'full'}", "fixed", 1),
    ],
)
def test_fixed_candidates_are_without_the_history_for_all(
    mode: str, candidates: str, notes: int
) -> None:
    split = "'split': {'LS': 'valid_and_test'}, 'order': 'TO'"
    judged = f"--eval_args={{{split}, 'mode': {mode}}}"
    arguments = [*COMMON, judged, f"--eval_candidates={candidates}"]
    _, said = unify_protocol(parse_models("GRU4Rec; BPR", arguments))
    assert len(said) == notes
    assert all("history are candidates for GRU4Rec; for BPR only" in line for line in said)


@pytest.mark.parametrize(
    ("model", "argument", "seeds", "tuned", "notes"),
    [
        ("BPR", "--protocol=random", 2, True, 2),
        ("BPR", "--protocol=random", 2, False, 1),
        ("BPR", "--eval_args={'split': {'RS': [8, 1, 1]}, 'order': 'RO'}", 2, True, 2),
        ("BPR", "--protocol=random", 1, True, 0),
        ("BPR --protocol=random", "--split_seed=0", 2, True, 0),
        ("BPR", "--protocol=leave-one-out", 2, True, 0),
        ("BPR", "--eval_args={'split': {'RS': [8, 1, 1]}, 'order': 'TO'}", 2, True, 0),
        ("GRU4Rec", "--epochs=1", 2, True, 0),
    ],
)
def test_that_each_seed_draws_a_split_is_said(
    model: str, argument: str, seeds: int, tuned: bool, notes: int
) -> None:
    (entry,) = parse_models(model, [*COMMON, argument])
    said = describe_random_splits(entry, seeds, tuned)
    assert len(said) == notes
    assert all("the split is random, and each seed draws another" in line for line in said[:1])
    assert all("interactions that the other seeds test on" in line for line in said[1:])


def test_a_run_to_resume_is_refused_before_any_run() -> None:
    """All runs would resume from the same checkpoint, whatever their seeds and settings."""
    message = "^resume: this command resumes its runs by itself; repeat it without --resume$"
    with pytest.raises(ValueError, match=message):
        check_split(parse_models("Pop", [*COMMON, "--resume=x.pth"])[0])


@pytest.mark.parametrize("key", ["checkpoint_dir", "user_metrics", "output"])
def test_files_of_single_runs_are_refused(key: str) -> None:
    """Each run has its own files, so that the given ones would be overridden silently."""
    message = f"^{key}: each run has its files in a folder of its own; name the folder of all"
    with pytest.raises(ValueError, match=message):
        check_split(parse_models(f"Pop --{key}=x", COMMON)[0])
    with pytest.raises(ValueError, match=message):
        check_split(parse_models("Pop", [*COMMON, f"--{key}=x"])[0])


def test_what_makes_models_of_clicks_agree_with_others_is_said_at_once() -> None:
    models = "SASRec; DIN"
    with pytest.raises(ValueError, match="^eval_args: the models are judged differ") as caught:
        unify_protocol(parse_models(models, COMMON))
    way = str(caught.value).partition("set it for all with ")[2].split()
    assert way[1:] == ["--metrics=NDCG,Recall", "--valid_metric=NDCG@10"]
    entries, _ = unify_protocol(parse_models(models, [*COMMON, *way]))
    assert [entry.label for entry in entries] == ["SASRec", "DIN"]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ([], "eval_args: the models are judged differently"),
        (["--eval_args={split: {RS: [8, 1, 1]}, order: TO, mode: uni100}"], "eval_args: split RS"),
    ],
)
def test_what_makes_models_of_clicks_agree_is_said_at_once(keys: list[str], problem: str) -> None:
    models, shared = "DIN; DeepFM", [*COMMON, "--metrics=AUC", "--valid_metric=AUC"]
    with pytest.raises(ValueError, match=f"^{problem}") as caught:
        unify_protocol(parse_models(models, [*shared, *keys]))
    found = re.search("--eval_args.* (?=.for labels in the data)", str(caught.value))
    assert found is not None
    entries, _ = unify_protocol(parse_models(models, [*shared, *shlex.split(found[0])]))
    assert [entry.config["eval_args"]["mode"]["test"] for entry in entries] == ["uni100"] * 2


def test_modes_of_validation_and_test_are_not_exchanged() -> None:
    one = "--eval_args=\"{'mode': {'valid': 'uni20', 'test': 'full'}}\""
    other = "--eval_args=\"{'mode': {'valid': 'full', 'test': 'uni20'}}\""
    with pytest.raises(ValueError, match="^eval_args: .* differently.* mode: \\[uni20, full\\]}"):
        unify_protocol(parse_models(f"Pop {one}; BPR {other}", COMMON))
    entries, _ = unify_protocol(parse_models(f"Pop {one}; BPR {one}", COMMON))
    assert len(entries) == 2


def test_runs_without_validation_are_refused_before_any_run() -> None:
    with pytest.raises(ValueError, match="^eval_step: 0 of BPR validates nothing, and the best"):
        unify_protocol(parse_models("Pop; BPR: BPR --eval_step=0", COMMON))

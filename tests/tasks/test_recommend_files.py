"""Recommendations to files, limits on the items, many new users, exported models."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import recbole_llm
from recbole_llm import Recommender, recommend, run_recbole_llm, testing
from recbole_llm.cli import main
from recbole_llm.core.digest import file_digest
from recbole_llm.core.files import _suffix
from recbole_llm.tasks import export, onnx_encoder
from recbole_llm.tasks.onnx_encoder import onnx_encoder as encoder_of
from recbole_llm.tasks.output import kind_of, write
from recbole_llm.tasks.recommend_files import read_histories, read_ids

KEYS = {
    "data_path": "dataset", "epochs": 1, "show_progress": False, "log_flops": False,
    "encoder": "hash", "MAX_ITEM_LIST_LENGTH": 8, "embedding_cache_dir": "cache",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A folder with checkpoints by model."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        testing.write_tiny_dataset("dataset")
        own: dict[str, dict[str, Any]] = {
            "SASRec": {}, "PAD": {"hidden_size": 16}, "AlphaRec": {}, "BPR": {},
            "LLMESR": {"hidden_size": 16}, "GRU4Rec": {},
            "Molar": {"decoder_size": 16, "decoder_inner": 16, "hidden_size": 16},
            "LLMCFRetrieval": {"hidden_size": 16, "thoughts": "item_text", "thought_examples": 20},
        }  # fmt: skip
        done = {
            model: run_recbole_llm(model, "tiny", config_dict={**KEYS, **keys})["checkpoint"]
            for model, keys in own.items()
        }
    return {"folder": folder, **done}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--items=i1"], "items: BPR learns about each user in training"),
        (["--users=u1", "--query=tea"], "query: BPR has no text of the user"),
    ],
)
def test_what_no_such_model_can_do_is_refused_before_the_data_is_read(
    inside: dict[str, Any], asked: list[str], said: str
) -> None:
    given = [f"--checkpoint={inside['BPR']}", "--data_path=nowhere", *asked]
    done = CliRunner().invoke(main, ["recommend", *given])
    assert done.exit_code == 2 and said in done.output


@pytest.fixture
def inside(trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(trained["folder"])
    return trained


def call(*argv: str) -> str:
    done = CliRunner().invoke(main, ["recommend", *argv])
    assert done.exit_code == 0, done.output
    return done.output


def test_every_format_holds_the_same(inside: dict[str, Any], monkeypatch: Any) -> None:
    checkpoint = f"--checkpoint={inside['BPR']}"
    wanted = recommend(inside["BPR"], users="all", k=3)
    base = [checkpoint, "--users=all", "-k", "3", "--eval_memory_mib=1e-9"]  # a user a time
    for name in ("a.csv", "a.jsonl", "a.json", "a.parquet"):
        assert call(*base, f"--output={name}") == f"40 users, 120 recommendations → {name}\n"
    for frame in (
        pd.read_csv("a.csv"),
        pd.read_json("a.jsonl", lines=True),
        pd.read_json("a.json"),
        pd.read_parquet("a.parquet"),
    ):
        pd.testing.assert_frame_equal(frame, wanted, check_dtype=False, rtol=1e-5)


def test_only_some_items(inside: dict[str, Any]) -> None:
    source = Recommender.of(inside["SASRec"])
    ids = ["i1", "i2", "i3", "i4"]
    Path("only.txt").write_text("\n".join(ids) + "\n\n")
    Path("never.txt").write_text("i2\n")
    base = [f"--checkpoint={inside['SASRec']}", "--users=u1", "--keep-history"]
    rows = call(*base, "--candidates=only.txt", "--exclude=never.txt").splitlines()[1:]
    assert {row.split(",")[2] for row in rows} == {"i1", "i3", "i4"}
    Path("newer.txt").write_text("i1\ni9998\ni9999\n")
    found = call(*base, "--candidates=newer.txt", "--exclude=newer.txt", "--candidates=only.txt")
    assert "mind: unknown items of exclude, left out: 2 (i9998, i9999)" in found
    assert "\nu1,1,i" in found and ",i1," not in found
    found = call(*base, "--candidates=newer.txt")
    assert "mind: unknown items of candidates, left out: 2 (i9998, i9999)" in found
    Path("new.txt").write_text("i9999\n")
    call(*base, "--exclude=new.txt")
    done = CliRunner().invoke(main, ["recommend", *base, "--candidates=new.txt"])
    assert done.exit_code == 2 and "candidates: 'i9999' is unknown" in done.output
    found = recommend(source, "u1", k=99, where="genre == 'horror' and price < 3")
    table = pd.read_csv("dataset/tiny/tiny.item", sep="\t", dtype=str).set_index("item_id:token")
    own = table.loc[found["item"]]
    assert set(own["genre:token"]) == {"horror"} and (own["price:float"].astype(float) < 3).all()
    for keys, message in (
        ({"candidates": ["i9999"]}, "candidates: 'i9999' is unknown"),
        ({"candidates": ["i1"], "exclude": ["i1"]}, "candidates and exclude: no item is left"),
        ({"where": "colour == 'red'"}, "where: the field 'colour' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            recommend(source, "u1", **keys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint=gone.pth"], "error: say for whom"),  # before anything is loaded
        (["--checkpoint=gone.pth", "--users=u1", "--items=i1"], "error: give one of users, items"),
        (["--model={SASRec}", "--users=u1"], "is a file; of a checkpoint write --checkpoint="),
        (["--checkpoint=.", "--users=u1"], "is a folder; of an exported model write --model=."),
        (["--model=exported", "--users=u1", "--topk=5"], "takes no settings: leave out --topk=5"),
        (["--checkpoint={SASRec}", "--users=u99"], "ids are those of user_id in data set 'tiny'"),
    ],
)
def test_what_cannot_be_meant(inside: dict[str, Any], arguments: list[str], message: str) -> None:
    given = [argument.format(**inside) for argument in arguments]
    done = CliRunner().invoke(main, ["recommend", *given])
    assert done.exit_code == 2 and message in done.output


def test_options_are_spelt_either_way_and_keys_as_they_are(inside: dict[str, Any]) -> None:
    base = [f"--checkpoint={inside['SASRec']}", "--users=u1", "--eval_memory_mib=64"]
    assert call(*base, "--keep_history", "--k=3") == call(*base, "--keep-history", "-k", "3")


def test_many_new_users(inside: dict[str, Any]) -> None:
    histories = {"anna": ["i1", "i5"], "bob": ["i2"]}
    lines = [json.dumps({"user": name, "items": own}) for name, own in histories.items()]
    Path("new.jsonl").write_text("\n".join(lines))
    call(f"--checkpoint={inside['SASRec']}", "--histories=new.jsonl", "--output=n.csv", "-k", "2")
    table = pd.read_csv("n.csv")
    assert list(table["user"]) == ["anna", "anna", "bob", "bob"]
    source = Recommender.of(inside["SASRec"])
    pd.testing.assert_frame_equal(recommend(source, histories=histories, k=2), table, rtol=1e-5,
                                  check_dtype=False)  # fmt: skip
    alone = recommend(source, items=["i2"], k=2)
    assert list(alone["item"]) == list(table["item"][2:])


def test_ids_and_histories_may_come_through_a_pipe() -> None:
    for read, text, found in (
        (read_ids, "i1\n", ["i1"]),
        (read_histories, '{"user": "a", "items": ["i1"]}', {"a": ["i1"]}),
    ):
        end, other = os.pipe()
        os.write(other, text.encode())
        os.close(other)
        assert read(f"/dev/fd/{end}") == found
        os.close(end)


def test_the_file_of_the_output_is_no_folder() -> None:
    Path("results").mkdir()
    with pytest.raises(ValueError, match="'results' is a folder, where a file is to be written; "):
        kind_of(None, "results")


def test_a_closed_output_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # a shell's >&-
    with pytest.raises(ValueError, match="the output is closed; name another file with --output"):
        kind_of("csv", None)


def test_unknown_items_of_histories_are_left_out_and_named(inside: dict[str, Any]) -> None:
    histories = {"bob": ["x"], "eve": [], "anna": ["i1", "i99", "i5"], "carl": ["i2"]}
    lines = [json.dumps({"user": name, "items": own}) for name, own in histories.items()]
    Path("new.jsonl").write_text("\n".join(lines))
    command = ["recommend", f"--checkpoint={inside['SASRec']}", "--output=n.csv", "-k", "2"]
    done = CliRunner().invoke(main, [*command, "--histories=new.jsonl"])
    assert done.exit_code == 0, done.output
    assert "mind: unknown items of histories, left out: 2 (x, i99)" in done.output
    assert "mind: users without a known item, left out: 2 (bob, eve)" in done.output
    table = pd.read_csv("n.csv")
    assert table["user"].unique().tolist() == ["anna", "carl"]
    known = recommend(inside["SASRec"], histories={"anna": ["i1", "i5"]}, k=2)
    assert table["item"][:2].tolist() == known["item"].tolist()
    Path("none.jsonl").write_text('{"user": "bob", "items": ["i99"]}')
    bad = CliRunner().invoke(main, [*command, "--histories=none.jsonl"])
    assert bad.exit_code == 2 and "'i99' is unknown" in bad.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"user": "a", "items": ["i1"]}\n{"user": "a", "items": ["i2"]}',
            "line 2 has the user 'a'",
        ),
        ("[1]", "line 1 is not of the form"),
        ('{"user": "a"}', "line 1 is not of the form"),
        ('{"user": null, "items": ["i1"]}', "line 1 is not of the form"),
        ('{"users": "a", "items": ["i1"]}', "line 1 is not of the form"),
        ('{"user": "a", "items": "12"}', "line 1 is not of the form"),
        ('{"user": "a", "items": ["i1", true]}', "line 1 is not of the form"),
        ('{"user": "a", "items": []}', "holds no histories"),
        ("", "holds no histories"),
    ],
)
def test_histories_of_another_form(inside: dict[str, Any], text: str, message: str) -> None:
    Path("bad.jsonl").write_text(text)
    done = CliRunner().invoke(
        main, ["recommend", f"--checkpoint={inside['SASRec']}", "--histories=bad.jsonl"]
    )
    assert done.exit_code == 2 and message in done.output


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "PAD", "LLMESR", "Molar", "AlphaRec"])
def test_an_exported_model_stands_alone(
    inside: dict[str, Any], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its encoder is ONNX: the scores are torch's up to 1e-5."""
    folder = tmp_path / "exported"
    done = CliRunner().invoke(
        main, ["export", f"--checkpoint={inside[model]}", f"--output={folder}"]
    )
    assert done.exit_code == 0, done.output
    source = Recommender.of(inside[model])
    new, k = ["i1", "i5", "i9"], 60
    wanted = recommend(source, "all", k=k), recommend(source, items=new, k=k)
    monkeypatch.chdir(tmp_path)  # from anywhere, without the data set
    alone = Recommender.load("exported")
    for frame, own in zip(wanted, (alone.recommend("all", k=k), alone.recommend(items=new, k=k))):
        by_item = [f.sort_values(["user", "item"], ignore_index=True) for f in (frame, own)]
        assert (by_item[0]["item"] == by_item[1]["item"]).all()
        assert list(own.columns) == list(frame.columns)
        np.testing.assert_allclose(by_item[1]["score"], by_item[0]["score"], rtol=1e-4, atol=1e-5)
    found = alone.recommend("u3", where="genre == 'horror'", k=99)
    pd.testing.assert_series_equal(
        found["title"].str.startswith("The horror"), pd.Series(True, found.index, name="title"),
        check_dtype=False,
    )  # fmt: skip


def test_a_full_disk_leaves_no_folder_of_an_export(inside: dict[str, Any]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))  # as on a full disk
    try:
        with pytest.raises(ValueError, match="full/.* cannot be written .*; name another folder"):
            recbole_llm.export(inside["SASRec"], "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not Path("full").exists()


def test_a_dash_is_the_screen(inside: dict[str, Any]) -> None:
    asked = [f"--checkpoint={inside['BPR']}", "--users=u1", "-k", "3", "--format=csv"]
    assert call(*asked, "--output=-") == call(*asked)
    assert not Path("-").exists()
    done = CliRunner().invoke(main, ["recommend", *asked[:-1], "--output=-", "--format=parquet"])
    assert "parquet needs a file" in done.output


def test_what_lies_in_the_folder(inside: dict[str, Any]) -> None:
    import faiss
    from safetensors.numpy import load_file

    recbole_llm.export(inside["SASRec"], "e", histories=False)
    items = json.loads(Path("e/items.json").read_text())
    with np.load("e/items.npz", allow_pickle=False) as arrays:
        assert arrays["tokens"].tolist() == items["tokens"]
        vectors = arrays["vectors"]
    np.testing.assert_array_equal(load_file("e/items.safetensors")["vectors"], vectors)
    assert faiss.read_index("e/items.faiss").reconstruct(3).tolist() == vectors[3].tolist()
    weights = load_file("e/weights.safetensors")["item_embedding.weight"]
    np.testing.assert_array_equal(weights[1:], vectors)
    settings = json.loads(Path("e/settings.json").read_text())
    assert settings["model"] == "SASRec" and settings["settings"]["MAX_ITEM_LIST_LENGTH"] == 8
    assert not any(str(Path.cwd()) in path.read_text() for path in Path("e").glob("*.json"))
    assert "SASRec, trained on tiny" in Path("e/README.md").read_text()
    alone = Recommender.load("e")
    with pytest.raises(ValueError, match="exported without histories; give items"):
        alone.recommend("all")
    with pytest.raises(ValueError, match="no text encoder; a checkpoint of AlphaRec has one$"):
        alone.recommend(query="tea")
    assert len(alone.recommend(items=["i1"])) == 10


def test_a_name_that_says_no_format_is_refused(inside: dict[str, Any]) -> None:
    command = ["recommend", f"--checkpoint={inside['SASRec']}", "--users=u1", "--output=x.xml"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and "--output: 'x.xml' says no format that is known" in done.output
    assert CliRunner().invoke(main, [*command, "--format=json"]).exit_code == 0
    assert len(json.loads(Path("x.xml").read_text())) == 10


def test_json_begins_with_the_first_row() -> None:
    row = pd.DataFrame({"user": ["u"], "item": ["i"]})
    assert write([row[:0], row, row], "json", "a.json") == 2
    assert [found["user"] for found in json.loads(Path("a.json").read_text())] == ["u", "u"]


def test_parquet_has_the_same_types_whatever_is_written() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    row = pd.DataFrame({"user": ["u"], "item": ["i"], "score": [3.3e-12]})
    none = pd.DataFrame({name: [] for name in row})
    assert write([none, row, none, row], "parquet", "a.parquet") == 2
    assert pd.read_parquet("a.parquet")["user"].tolist() == ["u", "u"]
    assert write([none], "parquet", "b.parquet") == 0
    assert list(pd.read_parquet("b.parquet")) == ["user", "item", "score"]
    assert parquet.read_schema("a.parquet") == parquet.read_schema("b.parquet")
    write([row], "jsonl", "a.jsonl")
    assert json.loads(Path("a.jsonl").read_text())["score"] == 3.3e-12


def test_ids_may_have_what_ends_lines_elsewhere(tmp_path: Path) -> None:
    names = ["a\u2028b", "c\x85", "d\x1ce", "f g", "h\ri"]
    file = tmp_path / "ids.txt"
    file.write_bytes(("\r\n".join(names) + "\n").encode())
    assert read_ids(str(file)) == names
    file.write_text(json.dumps({"user": "u", "items": names}, ensure_ascii=False), encoding="utf-8")
    assert read_histories(str(file)) == {"u": names}
    file.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(ValueError, match="line 1 is not of the form"):
        read_histories(str(file))


@pytest.mark.parametrize(
    ("histories", "said"),
    [
        ({}, "histories: no user given"),
        ([["i1"]], r"histories: expected \{name: items\}, got \[\['i1'\]\]"),
        ({1: ["i1"], "1": ["i2"]}, "two names are the same as texts, such as 1 and '1'"),
        ({"ann": ["i1"], "bob": []}, "^histories: of 'bob': items: no id given"),
        ({"ann": ["i1"], "bob": ["i1", "zz"]}, "^histories: of 'bob': items: 'zz' is unknown"),
    ],
)
def test_histories_that_are_none(inside: dict[str, Any], histories: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recommend(inside["SASRec"], histories=histories)


def test_nothing_excluded_is_no_error(inside: dict[str, Any]) -> None:
    every = recommend(inside["SASRec"], "u1", k=np.int64(3))
    pd.testing.assert_frame_equal(recommend(inside["SASRec"], "u1", k=3, exclude=[]), every)
    Path("sold-out").write_text("\n")
    command = ["recommend", f"--checkpoint={inside['SASRec']}", "--users=u1"]
    assert CliRunner().invoke(main, [*command, "--exclude=sold-out"]).exit_code == 0
    done = CliRunner().invoke(main, [*command, "--candidates=sold-out"])
    assert "'sold-out' holds no ids" in done.output


def test_half_a_character_is_no_id(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    file.write_text('{"user": "\\ud83d", "items": ["i1"]}\n')
    with pytest.raises(ValueError, match="line 1 is not of the form"):
        read_histories(str(file))


def test_an_error_in_what_is_written_is_not_the_files() -> None:
    def frames() -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"user": ["u"], "item": ["i"]})
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write(frames(), "csv", "broken.csv")
    assert not Path("broken.csv").exists()


def test_titles_are_there_after_a_change_of_folder(
    inside: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = Recommender.of(inside["SASRec"])
    monkeypatch.chdir(tmp_path)
    assert "title" in source.recommend("u1", where="genre == 'horror'")


@pytest.mark.parametrize(("model", "longest"), [("SASRec", 1), ("SASRec", 2), ("GRU4Rec", 8)])
def test_small_catalogues_and_short_histories_are_exported(model: str, longest: int) -> None:
    Path("dataset/few").mkdir(parents=True, exist_ok=True)
    rows = [f"u{u}\ti{(u + step) % 4}\t{step}" for u in range(9) for step in range(4)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    Path("dataset/few/few.inter").write_text("\n".join([header, *rows, ""]))
    keys = {**KEYS, "MAX_ITEM_LIST_LENGTH": longest, "topk": [4], "valid_metric": "MRR@4"}
    checkpoint = run_recbole_llm(model, "few", config_dict=keys)["checkpoint"]
    recbole_llm.export(checkpoint, f"few-{model}-{longest}")
    alone = Recommender.load(f"few-{model}-{longest}").recommend("all", mask_history=False)
    wanted = recommend(checkpoint, "all", mask_history=False)
    np.testing.assert_allclose(alone["score"], wanted["score"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "backbone"),
    [("LLMESR", "GRU4Rec"), ("LLMESR", "Caser"), ("PAD", "GRU4Rec"), ("Molar", "GRU4Rec")],
)
def test_other_backbones_are_exported(inside: dict[str, Any], model: str, backbone: str) -> None:
    keys: dict[str, Any] = {**KEYS, "backbone": backbone, "hidden_size": 16}
    if model == "Molar":
        keys |= {"decoder_size": 16, "decoder_inner": 16}
    checkpoint = run_recbole_llm(model, "tiny", config_dict=keys)["checkpoint"]
    folder = f"{model}-{backbone}"
    recbole_llm.export(checkpoint, folder)
    new, k = {"a": ["i1"], "b": ["i2", "i5", "i9"], "c": [f"i{i}" for i in range(1, 12)]}, 60
    for asked in ({"users": "all"}, {"histories": new}):
        frames = [
            r.recommend(k=k, **asked)
            for r in (Recommender.of(checkpoint), Recommender.load(folder))
        ]
        wanted, own = (f.sort_values(["user", "item"], ignore_index=True) for f in frames)
        assert (own["item"] == wanted["item"]).all()
        np.testing.assert_allclose(own["score"], wanted["score"], rtol=1e-4, atol=1e-5)


def test_a_checkpoint_is_no_exported_model(tmp_path: Path) -> None:
    file = tmp_path / "SASRec.pth"
    file.touch()
    with pytest.raises(ValueError, match=r"is a file; .*, from Python Recommender\.of\('/"):
        Recommender.load(file)


@pytest.mark.parametrize("named", [True, False])
def test_no_data_is_loaded_of_models_whose_class_cannot_be_exported(
    inside: dict[str, Any], monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("the class alone tells")

    monkeypatch.setattr(Recommender, "of", loaded)
    given = {} if named else {"model": recbole_llm.get_model("BPR")}  # as of one not registered
    with pytest.raises(ValueError, match="BPR cannot be exported: its score is no product"):
        recbole_llm.export(inside["BPR"], "b", config_dict=given)


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("longest_history", -3, "longest_history is -3"),
        ("titles", ["A"], "titles or fields of other items"),
        ("fields", {"genre": 5}, "titles or fields of other items"),
        ("fields", None, "has no attribute 'values'"),
    ],
)
def test_an_exported_model_whose_parts_do_not_fit_is_damaged(
    inside: dict[str, Any], part: str, value: object, said: str
) -> None:
    recbole_llm.export(inside["SASRec"], "d")
    settings, items = Path("d/settings.json"), Path("d/items.json")
    for file in (items, settings):
        content = json.loads(file.read_text())
        if part in content:
            content[part] = value
        if file == settings:
            content["sha256"]["items.json"] = file_digest(items)
        file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"exported model 'd' is damaged .*{said}.*; export it"):
        Recommender.load("d")


def test_exported_models_that_cannot_be(inside: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="BPR cannot be exported: its score is no product"):
        recbole_llm.export(inside["BPR"], "b")
    with pytest.raises(
        ValueError, match="LLMCFRetrieval cannot be exported: a user.s state .*; PAD, LLM-ESR"
    ):
        recbole_llm.export(inside["LLMCFRetrieval"], "b")
    assert not Path("b").exists()
    with pytest.raises(ValueError, match="'none' holds no exported model"):
        Recommender.load("none")
    recbole_llm.export(inside["SASRec"], "d")
    Path("d/items.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="exported model 'd' is damaged"):
        Recommender.load("d")
    recbole_llm.export(inside["SASRec"], "d")
    with np.load("d/users.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for starts in (arrays["starts"][:-1], np.zeros_like(arrays["starts"]), -arrays["starts"]):
        np.savez("d/users.npz", **{**arrays, "starts": starts})
        with pytest.raises(ValueError, match=r"users\.npz is not the one that belongs to settings"):
            Recommender.load("d")
        settings = json.loads(Path("d/settings.json").read_text())
        settings["sha256"]["users.npz"] = file_digest(Path("d/users.npz"))
        Path("d/settings.json").write_text(json.dumps(settings))
        with pytest.raises(ValueError, match="does not say where histories begin and end"):
            Recommender.load("d")
    done = CliRunner().invoke(main, ["recommend", "--users=u1"])
    assert "name a model: --checkpoint=FILE, or --model=FOLDER" in done.output


def test_an_exported_model_needs_neither_torch_nor_recbole(inside: dict[str, Any]) -> None:
    import subprocess
    import sys

    recbole_llm.export(inside["SASRec"], "light")
    code = (
        "import sys; from recbole_llm.tasks.standalone import Standalone\n"
        "print(len(Standalone('light').recommend('u1', k=3)))\n"
        "print({'torch', 'recbole'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "set()"]
    code = (
        "import atexit, sys; from recbole_llm.cli import main\n"
        "atexit.register(lambda: print({'torch', 'recbole'} & set(sys.modules)))\n"
        "main(['recommend', '--model=light', '--users=u1', '-k', '3'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 5 and done.stdout.endswith("set()\n")


def test_an_export_that_is_cut_off_leaves_the_model_that_was_there(
    inside: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recbole_llm.export(inside["AlphaRec"], "cut")
    names = sorted(os.listdir("cut"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("_write_weights", "disagreement"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(export, step, interrupt)
            recbole_llm.export(inside["SASRec"], "cut", histories=False)
        assert Recommender.load("cut").name == "AlphaRec" and sorted(os.listdir("cut")) == names


@pytest.mark.parametrize("model", ["SASRec", "AlphaRec", "BPR"])
def test_items_of_interactions_that_a_filter_left_out_are_not_recommended(model: str) -> None:
    testing.write_tiny_dataset("dataset")
    keys = {**KEYS, "val_interval": {"rating": "[3,inf)"}}
    checkpoint = run_recbole_llm(model, "tiny", config_dict=keys)["checkpoint"]
    rows = pd.read_csv("dataset/tiny/tiny.inter", sep="\t")
    had = set(zip(rows["user_id:token"], rows["item_id:token"]))
    known = Recommender.of(checkpoint)
    recommenders: list[Any] = [known]
    if model != "BPR":
        recbole_llm.export(checkpoint, "folder")
        recommenders.append(Recommender.load("folder"))
    for recommender in recommenders:
        found = recommender.recommend("all", k=100)
        assert not had & set(zip(found["user"], found["item"]))
        kept = recommender.recommend("all", k=100, mask_history=False)
        assert had <= set(zip(kept["user"], kept["item"]))
    liked = rows[rows["rating:float"] >= 3].drop_duplicates(["user_id:token", "item_id:token"])
    read = [len(known.scorer.histories[user]) for user in range(1, len(known.user_tokens))]
    assert sum(read) == len(liked) < len(had)


def test_a_loaded_model_needs_no_folder_to_stay_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testing.write_tiny_dataset("dataset")
    keys = {**KEYS, "val_interval": {"rating": "[3,inf)"}}
    checkpoint = Path(run_recbole_llm("SASRec", "tiny", config_dict=keys)["checkpoint"]).resolve()
    rows = pd.read_csv("dataset/tiny/tiny.inter", sep="\t")
    known = Recommender.of(checkpoint)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = known.recommend("all", k=100)
    had = set(zip(rows["user_id:token"], rows["item_id:token"]))
    assert not had & set(zip(found["user"], found["item"]))


def test_a_model_is_exported_into_the_folder_one_is_in(
    inside: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Path(inside["SASRec"]).resolve()
    (tmp_path / "mine").mkdir()
    data = Path("dataset").resolve()
    monkeypatch.chdir(tmp_path / "mine")
    recbole_llm.export(checkpoint, ".", config_dict={"data_path": str(data)})
    assert Recommender.load(".").name == "SASRec"
    assert "mine" in Path("README.md").read_text()


def test_states_that_are_no_numbers_are_seen_in_the_check_of_an_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Model(torch.nn.Module):
        def last_states(self, items: torch.Tensor) -> torch.Tensor:
            return torch.full((1, 4), torch.nan if items.shape[1] == 1 else 1.0)

    written = SimpleNamespace(states=lambda items: np.ones((1, 4), np.float32))
    monkeypatch.setattr(onnx_encoder, "Standalone", lambda folder: written)
    histories = [np.array([1, 2]), np.array([1]), np.array([2, 1])]
    with pytest.raises(ValueError, match="differs from the model by nan; not usable"):
        onnx_encoder.disagreement(Path("x"), Model(), histories, 50)
    assert onnx_encoder.disagreement(Path("x"), Model(), histories[:1], 50) == 0


def test_files_of_two_exports_are_not_taken_for_one(inside: dict[str, Any]) -> None:
    for name in ("AlphaRec", "SASRec"):
        recbole_llm.export(inside[name], f"two-{name}")
    served = Recommender.load("two-SASRec")
    for file in ("user_encoder.onnx", "items.safetensors", "items.json"):
        shutil.copytree("two-SASRec", "mixed", dirs_exist_ok=True)
        shutil.copy(f"two-AlphaRec/{file}", "mixed")
        if Path("mixed", file).read_bytes() != Path("two-SASRec", file).read_bytes():
            with pytest.raises(ValueError, match=f"{file} is not the one that belongs to settings"):
                Recommender.load("mixed")
    before = Recommender.load("two-SASRec").recommend("u1")
    recbole_llm.export(inside["AlphaRec"], "two-SASRec")  # while it is served
    pd.testing.assert_frame_equal(served.recommend("u1"), before)


@pytest.mark.parametrize("name", ["README.md", "settings.json", "items.json", "PAD-shop.pth"])
def test_an_export_takes_no_other_project_s_files(name: str) -> None:
    Path(f"p-{name}").mkdir()
    Path(f"p-{name}", name).write_text("mine")
    with pytest.raises(ValueError, match=f"has a {name} already, and holds no exported model; na"):
        recbole_llm.export("none.pth", f"p-{name}")
    assert [file.read_text() for file in Path(f"p-{name}").iterdir()] == ["mine"]


def test_an_exported_model_in_the_place_of_another_is_said(inside: dict[str, Any]) -> None:
    assert not [line for line in recbole_llm.export(inside["AlphaRec"], "r") if "replaced" in line]
    lines = recbole_llm.export(inside["SASRec"], "r")
    assert lines[1].startswith("replaced AlphaRec, trained on tiny, of 2")
    Path("r/settings.json").write_text("{}")
    assert "replaced what was there before" in recbole_llm.export(inside["AlphaRec"], "r")


def test_a_half_written_export_and_hidden_files_stand_in_no_way() -> None:
    Path("h").mkdir()
    Path("h/.gitkeep").touch()
    Path(f"h/items.json{_suffix(2**22)}").touch()  # of a process that there is not
    with pytest.raises(ValueError, match=r"checkpoint 'none\.pth' does not exist"):
        recbole_llm.export("none.pth", "h")


def test_an_export_names_its_own_files_alone() -> None:
    Path("o").mkdir()
    for name in ("items.json", "settings.json", "notes.txt"):
        Path("o", name).touch()
    source: Any = SimpleNamespace(name="PAD", item_tokens=["", "i1"], user_tokens=["", "u1"])
    line = next(export._said(Path("o"), source, 0.0, True, None))
    assert line == "PAD with 1 item in o/: items.json, settings.json"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("SASRec", "the oldest first. L is at most 8. There is no padding"),
        ("AlphaRec", "each once. L is any number"),
    ],
)
def test_the_readme_says_what_the_encoder_takes(
    inside: dict[str, Any], model: str, said: str
) -> None:
    recbole_llm.export(inside[model], f"readme-{model}")
    text = Path(f"readme-{model}/README.md").read_text()
    assert said in text and 'pip install "recbole-llm' not in text


class _Branching(torch.nn.Module):
    n_items = 9

    def last_states(self, items: torch.Tensor) -> torch.Tensor:
        return items.float() if items.sum().item() > 3 else -items.float()


class _Causal(torch.nn.Module):
    """PyTorch's encoder, told or not that its mask is causal."""

    n_items = 9

    def __init__(self, told: bool) -> None:
        super().__init__()
        self.told = {"is_causal": True} if told else {}
        self.items = torch.nn.Embedding(9, 8)
        layer = torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 1)

    def last_states(self, items: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(items.shape[1], items.shape[1], dtype=torch.bool).triu(1)
        return self.encoder(self.items(items), mask=mask, **self.told)[:, -1]


def test_of_a_model_that_cannot_be_traced_one_line_is_said(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"nn.TransformerEncoder without is_causal=True\)"):
            encoder_of(_Causal(False).eval(), 8)
        assert capfd.readouterr().err == ""
        assert encoder_of(_Causal(True).eval(), 8)


def test_a_model_that_cannot_be_traced_says_why() -> None:
    said = r"_Branching cannot be written as ONNX \(\w+: .+\); its user_states must be traceable"
    with pytest.raises(ValueError, match=said) as caught:
        encoder_of(_Branching(), 8)
    assert "\n" not in str(caught.value)


def test_options_have_a_second_spelling(inside: dict[str, Any]) -> None:
    Path("ids").write_text("i1\ni2\ni3\n")
    command = ["recommend", f"--checkpoint={inside['SASRec']}", "-k", "2"]
    for one, other in (
        (["--user=u5"], ["--users=u5"]),
        (["--item=i5"], ["--items=i5"]),
        (["--user=u5", "--candidate=ids"], ["--users=u5", "--candidates=ids"]),
        (["--user=u5", "--excluded=ids"], ["--users=u5", "--exclude=ids"]),
    ):
        found, same = (CliRunner().invoke(main, [*command, *a]).stdout for a in (one, other))
        assert found == same and "rank" in found


def test_ids_in_place_of_a_file_and_a_text_in_place_of_a_list(inside: dict[str, Any]) -> None:
    command = ["recommend", f"--checkpoint={inside['SASRec']}", "--users=u1"]
    done = CliRunner().invoke(main, [*command, "--candidates=i1,i2"])
    assert "the file 'i1,i2' does not exist; what is wanted is a file, one id a line" in done.output
    recbole_llm.export(inside["SASRec"], "h")
    alone = Recommender.load("h")
    with pytest.raises(ValueError, match="histories: of 'a' expected a list of items, got 'i1'"):
        alone.recommend(histories={"a": "i1"})
    with pytest.raises(ValueError) as caught:
        alone.recommend("u1", candidates=["i1", "x1", "i2"])
    assert str(caught.value).endswith(
        "; 2 of 3 are known; ids are those of the items that the model knows"
    )


class _Partial(io.RawIOBase):
    """A raw file that takes a few bytes at a time, as a pipe or a full disk does."""

    def __init__(self, room: int = 10**9) -> None:
        self.content, self.room = b"", room

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        taken = bytes(part[: min(7, self.room - len(self.content))])
        if not taken:
            raise OSError(28, "No space left on device")
        self.content += taken
        return len(taken)


def test_an_unbuffered_screen_gets_all_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [pd.DataFrame({"user": ["a", "b"], "item": ["i1", "i2"]})] * 30
    screen = _Partial()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=screen))
    assert write(frames, "csv", None) == 60
    assert screen.content == b"user,item\n" + b"a,i1\nb,i2\n" * 30
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=_Partial(100)))
    with pytest.raises(OSError, match="No space left"):
        write(frames, "csv", None)


def test_a_carriage_return_in_a_title_ends_no_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": ["a\rb", "c"], "rank": [1, 2], "title": ['x\ry "z"', "plain"]})
    write([frame, frame], "csv", str(tmp_path / "a.csv"))
    with (tmp_path / "a.csv").open(newline="") as opened:
        rows = list(csv.reader(opened))
    assert rows == [["user", "rank", "title"], *frame.astype(str).to_numpy().tolist() * 2]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "a.csv"), pd.concat([frame] * 2, ignore_index=True)
    )

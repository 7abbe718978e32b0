"""Exported models: their recommendations, and damaged files."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import recbole_llm
from recbole_llm import Recommender, recommend, run_recbole_llm
from recbole_llm.cli import main
from recbole_llm.core.digest import file_digest


@pytest.fixture(scope="module")
def made_once(trained: tuple[Path, dict[str, str]]) -> Path:
    """SASRec, exported with its histories."""
    folder, by_model = trained
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        recbole_llm.export(by_model["SASRec"], "made-once")
    return folder / "made-once"


@pytest.fixture
def exported(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of SASRec's export, which a test may damage: ``d`` in the current folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made_once, "d")


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "PAD", "LLMESR", "Molar", "AlphaRec"])
def test_an_exported_model_stands_alone(
    checkpoints: dict[str, str], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder is ONNX, and its scores equal torch's up to 1e-5."""
    folder = tmp_path / "exported"
    done = CliRunner().invoke(
        main, ["export", f"--checkpoint={checkpoints[model]}", f"--output={folder}"]
    )
    assert done.exit_code == 0, done.output
    source = Recommender.of(checkpoints[model])
    new, k = ["i1", "i5", "i9"], 60
    wanted = recommend(source, "all", k=k), recommend(source, items=new, k=k)
    monkeypatch.chdir(tmp_path)  # another folder, without the data set
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


@pytest.mark.parametrize(("model", "longest"), [("SASRec", 1), ("SASRec", 2), ("GRU4Rec", 8)])
def test_small_catalogues_and_short_histories_are_exported(
    quiet_keys: dict[str, Any], model: str, longest: int
) -> None:
    Path("dataset/few").mkdir(parents=True, exist_ok=True)
    rows = [f"u{u}\ti{(u + step) % 4}\t{step}" for u in range(9) for step in range(4)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    Path("dataset/few/few.inter").write_text("\n".join([header, *rows, ""]))
    keys = {**quiet_keys, "MAX_ITEM_LIST_LENGTH": longest, "topk": [4], "valid_metric": "MRR@4"}
    checkpoint = run_recbole_llm(model, "few", config_dict=keys)["checkpoint"]
    recbole_llm.export(checkpoint, f"few-{model}-{longest}")
    alone = Recommender.load(f"few-{model}-{longest}").recommend("all", mask_history=False)
    wanted = recommend(checkpoint, "all", mask_history=False)
    np.testing.assert_allclose(alone["score"], wanted["score"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "backbone"),
    [("LLMESR", "GRU4Rec"), ("LLMESR", "Caser"), ("PAD", "GRU4Rec"), ("Molar", "GRU4Rec")],
)
def test_other_backbones_are_exported(
    quiet_keys: dict[str, Any], checkpoints: dict[str, str], model: str, backbone: str
) -> None:
    keys: dict[str, Any] = {**quiet_keys, "backbone": backbone, "hidden_size": 16}
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


def run_python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("exported")
def test_an_exported_model_needs_neither_torch_nor_recbole() -> None:
    output = run_python(
        "import sys; from recbole_llm.tasks.recommend import Standalone\n"
        "print(len(Standalone('d').recommend('u1', k=3)))\n"
        "print({'torch', 'recbole'} & set(sys.modules))"
    )
    assert output.split() == ["3", "set()"]


@pytest.mark.usefixtures("exported")
def test_the_encoder_runs_in_the_thread_of_the_request() -> None:
    assert Recommender.load("d").encoder.get_session_options().intra_op_num_threads == 1


@pytest.mark.usefixtures("exported")
def test_a_model_that_has_served_can_be_sent_to_another_process() -> None:
    served = Recommender.load("d")
    wanted = served.recommend("u1")
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(served)).recommend("u1"), wanted)


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("package", ["safetensors.numpy", "onnxruntime"])
def test_a_missing_package_is_no_damage(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"an exported model needs the package '{package}"):
        Recommender.load("d").recommend("u1")


@pytest.mark.usefixtures("exported")
def test_the_command_with_an_exported_model_needs_neither() -> None:
    output = run_python(
        "import atexit, sys; from recbole_llm.cli import main\n"
        "atexit.register(lambda: print({'torch', 'recbole'} & set(sys.modules)))\n"
        "main(['recommend', '--model=d', '--users=u1', '-k', '3'])"
    )
    assert len(output.splitlines()) == 5 and output.endswith("set()\n")


@pytest.mark.usefixtures("exported")
def test_a_text_in_place_of_a_history_is_refused() -> None:
    alone = Recommender.load("d")
    with pytest.raises(ValueError, match="histories: of 'a' expected a list of items, got 'i1'"):
        alone.recommend(histories={"a": "i1"})


@pytest.mark.usefixtures("exported")
def test_unknown_ids_of_an_exported_model_are_counted() -> None:
    with pytest.raises(ValueError) as caught:
        Recommender.load("d").recommend("u1", candidates=["i1", "x1", "i2"])
    assert str(caught.value).endswith(
        "; 2 of 3 are known; ids are those of the items that the model knows"
    )


def test_a_model_exported_without_histories_takes_new_users(checkpoints: dict[str, str]) -> None:
    recbole_llm.export(checkpoints["SASRec"], "e", histories=False)
    alone = Recommender.load("e")
    with pytest.raises(ValueError, match="exported without histories; give items"):
        alone.recommend("all")
    assert len(alone.recommend(items=["i1"])) == 10


def test_an_exported_model_takes_no_query(checkpoints: dict[str, str]) -> None:
    recbole_llm.export(checkpoints["SASRec"], "e", histories=False)
    with pytest.raises(ValueError, match="no text encoder; a checkpoint of AlphaRec has one$"):
        Recommender.load("e").recommend(query="tea")


def test_a_folder_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="'none' holds no exported model"):
        Recommender.load("none")


@pytest.mark.usefixtures("exported")
def test_a_file_of_other_content_is_damaged() -> None:
    Path("d/items.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="exported model 'd' is damaged"):
        Recommender.load("d")


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("change", [lambda starts: starts[:-1], np.zeros_like, np.negative])
def test_histories_without_sound_ends_are_damaged(change: Callable[[Any], Any]) -> None:
    with np.load("d/users.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez("d/users.npz", **{**arrays, "starts": change(arrays["starts"])})
    with pytest.raises(ValueError, match=r"users\.npz is not the one that belongs to settings"):
        Recommender.load("d")
    settings = json.loads(Path("d/settings.json").read_text())
    settings["sha256"]["users.npz"] = file_digest(Path("d/users.npz"))
    Path("d/settings.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="does not say where histories begin and end"):
        Recommender.load("d")


def test_a_checkpoint_is_no_exported_model(tmp_path: Path) -> None:
    file = tmp_path / "SASRec.pth"
    file.touch()
    with pytest.raises(ValueError, match=r"is a file; .*, from Python Recommender\.of\('/"):
        Recommender.load(file)


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("longest_history", -3, "longest_history is -3"),
        ("titles", ["A"], "titles or fields of other items"),
        ("fields", {"genre": 5}, "titles or fields of other items"),
        ("fields", None, "has no attribute 'values'"),
    ],
)
def test_parts_that_do_not_fit_are_damaged(part: str, value: object, said: str) -> None:
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


def test_mixed_files_of_two_exports_are_refused(checkpoints: dict[str, str]) -> None:
    for name in ("AlphaRec", "SASRec"):
        recbole_llm.export(checkpoints[name], f"two-{name}")
    served = Recommender.load("two-SASRec")
    for file in ("user_encoder.onnx", "items.safetensors", "items.json"):
        shutil.copytree("two-SASRec", "mixed", dirs_exist_ok=True)
        shutil.copy(f"two-AlphaRec/{file}", "mixed")
        if Path("mixed", file).read_bytes() != Path("two-SASRec", file).read_bytes():
            with pytest.raises(ValueError, match=f"{file} is not the one that belongs to settings"):
                Recommender.load("mixed")
    before = Recommender.load("two-SASRec").recommend("u1")
    recbole_llm.export(checkpoints["AlphaRec"], "two-SASRec")  # while it is served
    pd.testing.assert_frame_equal(served.recommend("u1"), before)

"""Comparisons and searches from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import recbole_llm

MINE = """
from recbole_llm import ModelSpec, get_model, hookimpl
from beside import SCALE

class Own(get_model("SASRec")):
    pass

@hookimpl
def register_models(register):
    register(ModelSpec("Own", "mine:Own"))
"""


@pytest.mark.usefixtures("quick_runs")
def test_a_comparison_returns_what_its_file_holds(capsys: pytest.CaptureFixture[str]) -> None:
    own = {"topk": [10], "item_prompt": "{{ title }}", "split_seed": None}
    found = recbole_llm.compare(["SASRec", "b: GRU4Rec"], "tiny", config_dict=own, seeds=[7])
    assert found == json.loads(Path("comparison/result.json").read_text())
    assert [(row["label"], row["seeds"]) for row in found["rows"]] == [("SASRec", [7]), ("b", [7])]
    arguments = ["--topk=[10]", "--item_prompt={{ title }}", "--split_seed=None", "--dataset=tiny"]
    assert found["rows"][0]["arguments"][:5] == [*arguments, "--model=SASRec"]
    assert "written  comparison/table.md" in capsys.readouterr().out
    again = recbole_llm.compare("SASRec", argv=["--dataset=tiny"], seeds=2, output="other")
    assert again["rows"][0]["seeds"] == [2020, 2021]


def test_a_class_is_no_model_of_a_comparison() -> None:
    with pytest.raises(ValueError, match=r"^models: <class 'dict'> is no name.*'plugins': \['min"):
        recbole_llm.compare(dict)  # type: ignore[arg-type]


def test_settings_are_a_dict() -> None:
    with pytest.raises(ValueError, match=r"^config_dict: expected a dict of settings, got \[1\]"):
        recbole_llm.compare("SASRec", config_dict=[1])  # type: ignore[arg-type]


@pytest.mark.usefixtures("quick_runs")
def test_a_fraction_is_no_number_of_seeds() -> None:
    with pytest.raises(ValueError, match=r"^seeds: expected a number, or some .*, got '2\.5'$"):
        recbole_llm.compare("SASRec", "tiny", seeds=2.5)  # type: ignore[arg-type]


@pytest.mark.usefixtures("quick_runs")
def test_a_search_returns_the_best_settings(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    found = recbole_llm.tune("SASRec", "tiny", trials=2, search="learning_rate")
    assert found["best_params"] == yaml.safe_load(Path(found["file"]).read_text())
    assert found["best_valid_score"] == found["best_params"]["learning_rate"]  # the script's score
    assert "next     recbole-llm run" in capsys.readouterr().out


@pytest.mark.usefixtures("quick_runs")
def test_a_run_is_known_by_the_plugins_file_and_those_beside_it(
    started: Path, as_new: Callable[[], None]
) -> None:
    """This also holds within one process, since its runs read the files anew."""
    Path("mine.py").write_text(MINE)
    Path("beside.py").write_text("SCALE = 1\n")
    for edited, runs in ((None, 1), (None, 1), ("mine.py", 2), ("beside.py", 3)):
        if edited is not None:
            with Path(edited).open("a") as file:
                file.write("# another\n")
        recbole_llm.compare("Own", "tiny", config_dict={"plugins": ["mine.py"]}, seeds=1)
        assert started.read_text() == "Own 2020\n" * runs


@pytest.mark.usefixtures("quick_runs", "as_new")
def test_runs_of_other_models_do_not_depend_on_a_plugin_of_models(started: Path) -> None:
    Path("beside.py").write_text("SCALE = 1\n")
    recbole_llm.compare("SASRec", "tiny", seeds=1)
    for text in (MINE, f"{MINE}\n# another"):
        Path("mine.py").write_text(text)
        recbole_llm.compare("SASRec", "tiny", config_dict={"plugins": ["mine.py"]}, seeds=1)
    assert started.read_text() == "SASRec 2020\n"

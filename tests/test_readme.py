"""The examples, links and tables of the README and other pages hold."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import recbole_llm
from recbole_llm import testing
from recbole_llm.core.plugins import loading
from recbole_llm.steps import build_trainer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [
    *PAGES,
    *sorted((ROOT / "results").glob("*.md")),
    *sorted((ROOT / "recbole_llm").rglob("README.md")),
]


def block(containing: str) -> str:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    return next(b for b in blocks if containing in b)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    testing.write_tiny_dataset("dataset")
    if "hash" not in recbole_llm.list_encoders():
        loading.get_plugins().register(testing, "recbole_llm.testing")
    return {"epochs": 2, "encoder": "hash", "MAX_ITEM_LIST_LENGTH": 10, "load_col": None}


def of_recboles_own_calls(model: str, tiny: dict[str, Any]) -> dict[str, Any]:
    """The names that the page's example with RecBole's own calls defines, for a model."""
    names: dict[str, Any] = {}
    code = block("get_model").replace('"ml-100k"', '"tiny"').replace("AlphaRec", model)
    assert '{"epochs": 5}' in code
    exec(code.replace('{"epochs": 5}', repr(tiny)), names)
    return names


@pytest.mark.parametrize("model", ["AlphaRec", "PAD"])
def test_recboles_own_calls_train_by_the_trainer_of_a_run(
    model: str, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    names = of_recboles_own_calls(model, tiny)
    assert "ndcg@10" in capsys.readouterr().out
    of_run = build_trainer(names["config"], names["model"])
    assert type(names["trainer"]) is type(of_run) is recbole_llm.get_trainer(model)
    assert all(group["fused"] for group in names["trainer"].optimizer.param_groups)


def test_recboles_own_calls_give_a_sequential_model_the_numbers_of_a_run(
    tiny: dict[str, Any],
) -> None:
    names = of_recboles_own_calls("PAD", tiny)
    keys = {**tiny, "train_level": "prefix", "show_progress": False}
    result = recbole_llm.run_recbole_llm("PAD", "tiny", config_dict=keys)
    assert names["trainer"].best_valid_result == result["best_valid_result"]
    assert names["trainer"].evaluate(names["test_data"]) == result["test_result"]


def test_running_and_loading_from_python(tiny: dict[str, Any]) -> None:
    code = block("load_data_and_model").replace('"ml-100k"', '"tiny"')
    assert '{"topk": [5, 10]}' in code
    names: dict[str, Any] = {}
    exec(code.replace('{"topk": [5, 10]}', repr({**tiny, "topk": [5, 10]})), names)
    assert "ndcg@5" in names["result"]["test_result"]
    assert type(names["model"]).__name__ == "PAD"


def test_recboles_hyperparameter_search(tiny: dict[str, Any]) -> None:
    pytest.importorskip("hyperopt")
    mine = {**tiny, "model": "BPR", "dataset": "tiny"}
    Path("mine.yaml").write_text(yaml.safe_dump(mine))
    code = block("HyperTuning")
    assert "max_evals=20" in code
    names: dict[str, Any] = {}
    exec(code.replace("max_evals=20", "max_evals=2"), names)
    search = names["search"]
    assert len(search.params2result) == 2
    best = max(search.params2result.values(), key=lambda result: result["best_valid_score"])
    assert search.best_score == best["best_valid_score"]
    assert math.exp(-8) < search.best_params["learning_rate"] < math.exp(-5)


def test_our_hyperparameter_search(tiny: dict[str, Any], capsys: Any) -> None:
    pytest.importorskip("optuna")
    code = block("run_recbole_llm, tune").replace("ml-100k", "tiny")
    assert "trials=20)" in code and 'config_dict=best["best_params"]' in code
    code = code.replace("trials=20", "trials=1, config_dict={'epochs': 1}")
    names: dict[str, Any] = {}
    exec(code.replace('best["best_params"]', '{"epochs": 1, **best["best_params"]}'), names)
    said = capsys.readouterr().out.splitlines()
    assert any(line.endswith(f"--config_files={names['best']['file']}") for line in said)
    assert names["best"]["best_params"]["learning_rate"]
    assert names["result"]["best_valid_score"] == names["best"]["best_valid_score"]


@pytest.mark.usefixtures("as_new")
def test_a_model_in_a_file_of_ones_own_is_compared(tiny: dict[str, Any], capsys: Any) -> None:
    Path("mine.py").write_text(block("class TextSAS"))
    code = block("import compare").replace("ml-100k", "tiny")
    assert '"PAD --gamma=0.1"' in code and '{"topk": [5, 10]}' in code and "seeds=3" in code
    keys = {**tiny, "epochs": 1, "plugins": ["mine.py", "recbole_llm.testing"]}
    code = code.replace('"PAD --gamma=0.1"', '"TextSAS"').replace("seeds=3", "seeds=1")
    exec(code.replace('{"topk": [5, 10]}', repr(keys)), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in lines[-2:]] == ["SASRec", "TextSAS"]


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_place_that_a_page_links_to_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)|src(?:set)?=\"([^\"]+)\"", text):
        file, _, place = "".join(target).partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), file
        if place:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.M)
            assert place in map(anchor, headings), (file, place)


def test_ci_reads_its_test_command_from_here() -> None:
    install = 'pip install -e ".[offline,test]" && '
    commands = [line for line in README.splitlines() if line.startswith(install)]
    assert commands == [install + "python -m pytest -n 2 --dist worksteal"]


def script(name: str) -> ModuleType:
    """Import a script of results/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"results_{name}", ROOT / f"results/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tables() -> ModuleType:
    """results/tables.py."""
    return script("tables")


def test_raw_runs_of_comparisons_are_kept_without_local_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {
        "best_valid_score": 0.2, "best_valid_result": {"auc": 0.2}, "test_result": {"auc": 0.1},
        "peak_memory_mib": 5, "versions": {}, "log": "/home/me/log", "seconds": {"all": 1.0},
        "data": {"sha256": {"x.inter": "12"}},
        "trainings": [{"curve": [[1, 0.5, 0.1], [2, 1.0, 0.2]]}],
    }  # fmt: skip
    row = {"label": "A", "seeds": [7], "runs": [run], "arguments": ["--a=1", "--data_path=/home"]}
    made = {"rows": [row], "baseline": "B", "tests": [{"label": "A", "p": 0.5}]}
    (tmp_path / "result.json").write_text(json.dumps(made), "utf-8")
    raw = script("raw")
    monkeypatch.setattr(raw, "RESULTS", tmp_path)
    arguments = [str(tmp_path / "result.json"), "--commit=ab", "--machine=one", "--out=x.json"]
    monkeypatch.setattr(sys, "argv", ["raw.py", *arguments])
    raw.main()
    found = json.loads((tmp_path / "x.json").read_text("utf-8"))
    assert found["runs"]["A / 7"]["command"] == ["--a=1", "--seed=7"]
    assert found["runs"]["A / 7"]["valid_scores"] == [0.1, 0.2]
    assert found["runs"]["A / 7"]["data"]["sha256"] == {"x.inter": "12"}
    assert (found["commit"], found["machine"]) == ("ab", "one")
    assert found["tests"] == [{"label": "A", "p": 0.5, "baseline": "B"}]
    assert "/home" not in json.dumps(found)


@pytest.mark.parametrize("script", ["tables.py", "plot.py"])
def test_tables_and_plots_are_those_of_the_raw_runs(script: str) -> None:
    command = [sys.executable, str(ROOT / "results" / script), "--check"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_page_that_differs_from_the_raw_runs_fails_with_a_diff(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pages = [tmp_path / page.name for page in tables.PAGES]
    for copy, page in zip(pages, tables.PAGES):
        copy.write_text(page.read_text("utf-8").replace(".0487 ± .0004", ".0499 ± .0004"), "utf-8")
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check"])
    with pytest.raises(SystemExit, match="differ"):
        tables.main(pages)
    said = capsys.readouterr().out
    assert (
        "-| `SASRec`, H 64 | 3 | .0499 ± .0004 |" in said
        and "+| `SASRec`, H 64 | 3 | .0487" in said
    )
    assert ".0499" in pages[0].read_text("utf-8")  # a check writes nothing
    monkeypatch.setattr(sys, "argv", ["tables.py"])
    tables.main(pages)
    assert [page.read_text("utf-8") for page in pages] == [
        page.read_text("utf-8") for page in tables.PAGES
    ]


def test_a_table_without_its_marks_is_missed(tables: ModuleType) -> None:
    with pytest.raises(SystemExit, match="groups"):
        tables.require_all([README])


def test_means_deviations_and_rows_of_one_seed(tables: ModuleType) -> None:
    def run(score: float, seed: int) -> dict[str, Any]:
        return {"test_result": {"ndcg@10": score}, "seed": seed}

    three = [run(0.1, 1), run(0.2, 2), run(0.3, 3)]
    assert tables.TEST.text(three, 0.2) == "**.2000 ± .1000**"
    assert tables.TEST.text(three[:1], 0.2) == ".1000"
    assert tables._seeds(three[:1]) == "1 (1)"


def test_the_best_epoch_is_the_one_whose_weights_are_kept(tables: ModuleType) -> None:
    of = {"valid_scores": [0.3, 0.5, 0.2, 0.4, 0.4, 0.1], "best_valid_score": 0.4}  # two phases
    assert tables.best_epoch(of) == 5

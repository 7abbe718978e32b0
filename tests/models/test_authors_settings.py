"""The files of ``properties/authors``: settings of the papers' code in place of our defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_llm import run_recbole_llm
from recbole_llm.core.config import Config
from recbole_llm.core.plugins.registry import PROPERTIES
from recbole_llm.core.yaml_files import read_yaml

FILES = sorted((PROPERTIES / "authors").glob("*.yaml"))
models = pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])


def test_methods_with_such_a_file() -> None:
    assert [file.stem for file in FILES] == ["AlphaRec", "LLMESR", "PAD"]


@models
def test_a_run_reads_them(file: Path, tiny: Path) -> None:
    own = {"encoder": "hash", "epochs": 1, "output": "result.json", "strict_config": True}
    run_recbole_llm(file.stem, "tiny", config_file_list=[str(file)], config_dict=own)
    result = json.loads(Path("result.json").read_text())
    given, usual = read_yaml(file), Config(file.stem)
    changed = {key: value for key, value in given.items() if usual[key] != value}
    assert len(changed) > 4
    assert {key: result["settings"].get(key, usual[key]) for key in given} == given

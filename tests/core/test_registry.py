"""Names, duplicates and lazy classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recbole_llm.core.errors import did_you_mean, near_hint
from recbole_llm.core.plugins.registry import EncoderSpec, ModelSpec, Registry, resolve


def test_a_name_of_another_plugin_is_refused() -> None:
    registry = Registry()
    registry.add([ModelSpec("A", "x:A")], origin="first")
    with pytest.raises(ValueError, match="model 'A' of plugin 'second'.*plugin 'first'"):
        registry.check_names([ModelSpec("B", "x:B"), ModelSpec("A", "x:A")], origin="second")


def test_a_name_twice_in_one_plugin_is_refused() -> None:
    with pytest.raises(ValueError, match="model 'A'"):
        Registry().check_names([ModelSpec("A", "x:A"), ModelSpec("A", "y:A")], origin="p")


def test_a_name_that_differs_in_case_alone_is_refused() -> None:
    registry = Registry()
    registry.add([ModelSpec("PAD", "x:A")], origin="first")
    said = "^model 'pad' of plugin 'second' is already registered by plugin 'first' as 'PAD'; renam"
    with pytest.raises(ValueError, match=said):
        registry.check_names([ModelSpec("pad", "x:A")], origin="second")
    with pytest.raises(ValueError, match="^model 'b' of plugin 'p' is .* by plugin 'p' as 'B'"):
        registry.check_names([ModelSpec("B", "x:A"), ModelSpec("b", "y:A")], origin="p")


def test_a_model_and_an_encoder_may_share_a_name() -> None:
    registry = Registry()
    registry.add([ModelSpec("A", "x:A"), EncoderSpec("A", "x:a")], origin="p")
    assert registry.find(EncoderSpec, "A").factory == "x:a"


def test_an_unknown_encoder_lists_near_matches() -> None:
    registry = Registry()
    registry.add([EncoderSpec("bundled", "x:a")], origin="p")
    with pytest.raises(ValueError, match="encoder 'bundeled' is unknown; did you mean 'bundled'"):
        registry.find(EncoderSpec, "bundeled")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("pad", "did you mean 'PAD'?"), ("PADD", "did you mean 'PAD'?"), ("xyz", "")],
)
def test_did_you_mean(name: str, expected: str) -> None:
    known = ["PAD", "Molar"]
    assert did_you_mean(name, known) == expected
    assert near_hint(name, known) == (f"{expected} " if expected else "")


def test_missing_requirements_are_named() -> None:
    spec = EncoderSpec("e", "x:a", requires=("json", "no_such_module_at_all"))
    assert spec.missing() == ["no_such_module_at_all"]


def test_resolve() -> None:
    assert resolve("json:dumps") is __import__("json").dumps
    assert resolve(dict) is dict


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("json:dumpss", r"^model 'M' names 'json:dumpss', and '.*json.__init__.py' has no "
                        r"'dumpss'; did you mean 'dumps'"),
        ("json:", "^model 'M' names 'json:', and .* has no ''"),
        ("no_such_module:M", "^model 'M' names 'no_such_module:M', and there is no module 'no_s"),
        ("json.nothing:M", "^model 'M' names .* there is no module 'json.nothing'"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(target, "model 'M'")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def (:", r"SyntaxError: .*\(stops.py, line 1\)"),
        ("import sys; sys.exit(3)", r"SystemExit: 3 \(stops.py, line 1\)"),
    ],
)
def test_a_module_that_cannot_be_read_or_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    Path("stops.py").write_text(code)
    monkeypatch.syspath_prepend(Path.cwd())
    said = f"^model 'M' names 'stops:M', whose import failed: {reason}$"
    with pytest.raises(ValueError, match=said):
        resolve("stops:M", "model 'M'")


def test_importing_the_package_and_listing_models_loads_no_heavy_library() -> None:
    code = (
        "import sys, recbole_llm; recbole_llm.list_models(); recbole_llm.list_encoders();"
        "heavy = {'torch', 'recbole', 'pandas', 'transformers', 'sentence_transformers', 'faiss'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

"""Artifacts of stages: written whole or not at all, found again, resumed and locked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recbole_llm.core.plugins.registry import StageSpec
from recbole_llm.offline import stage as stage_module
from recbole_llm.offline.stage import Stage, StageError, StageReport, stage_class


class Counting(Stage):
    """Writes a file for each number below `n` and stops at the number `fails_at`."""

    name, unit = "counting", "numbers"

    def inputs(self) -> Mapping[str, Any]:
        return {"n": self.config["n"], "of": self.dataset.name}

    def work(self, folder: Path) -> tuple[int, int]:
        there = len(list(folder.iterdir()))
        for number in range(there, self.config["n"]):
            if number == self.config.get("fails_at"):
                raise KeyboardInterrupt
            (folder / str(number)).touch()
        return there, self.config["n"] - there


def stage(folder: Path, n: int = 3, of: str = "d", **more: Any) -> Counting:
    return Counting({"embedding_cache_dir": str(folder), "n": n, **more}, SimpleNamespace(name=of))


def test_a_stage_is_done_once_and_found_again(tmp_path: Path) -> None:
    first = stage(tmp_path).complete()
    assert (first.units_before, first.units_done) == (0, 3)
    again = stage(tmp_path)
    assert str(again.complete()) == "counting: there already (3 numbers)"
    assert sorted(f.name for f in again.path.iterdir()) == ["0", "1", "2", "manifest.json"]


def test_work_changes_no_random_numbers_that_follow(tmp_path: Path) -> None:
    class Drawing(Counting):
        def work(self, folder: Path) -> tuple[int, int]:
            torch.manual_seed(0)  # such as for the weights of an adapter
            return super().work(folder)

    state = torch.get_rng_state()
    config = {"embedding_cache_dir": str(tmp_path), "n": 1}
    assert Drawing(config, SimpleNamespace(name="d")).complete().units_done == 1
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("change", [{"n": 4}, {"of": "e"}])
def test_other_inputs_make_another_artifact(tmp_path: Path, change: dict[str, Any]) -> None:
    stage(tmp_path).complete()
    assert stage(tmp_path, **change).complete().units_done > 0


def test_the_manifest_has_the_inputs_before_the_work(tmp_path: Path) -> None:
    made = stage(tmp_path)
    work = made.work
    made.work = lambda folder: (made.config.update(n=9), work(folder))[1]  # type: ignore[method-assign]
    made.complete()
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["inputs"] == {"n": 3, "of": "d"} and manifest["units"] == 9


def test_the_manifest_has_inputs_units_and_versions(tmp_path: Path) -> None:
    made = stage(tmp_path)
    made.complete()
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["inputs"] == {"n": 3, "of": "d"}
    assert manifest["fingerprint"] == made.fingerprint == made.path.name.removeprefix("counting-")
    assert manifest["units"] == 3
    assert {"python", "recbole", "torch"} <= set(manifest["versions"])
    assert manifest["when"].endswith("Z")


def test_an_interrupted_stage_is_resumed_and_leaves_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stage(tmp_path, fails_at=2).complete()
    resumed = stage(tmp_path)
    assert not resumed.path.exists()
    report = resumed.complete()
    assert (report.units_before, report.units_done) == (2, 1)
    assert str(report).startswith("counting: 1 numbers done in ")
    assert str(report).endswith(" s and 2 there already")


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"fingerprint": "other", "units": 3}', "[" * 100_000]
)
def test_a_damaged_manifest_names_what_to_delete(tmp_path: Path, content: str) -> None:
    made = stage(tmp_path)
    made.complete()
    (made.path / "manifest.json").write_text(content)
    with pytest.raises(StageError, match=f"is damaged .*delete '{made.path}'"):
        stage(tmp_path).complete()


def test_an_unwritable_cache_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "stages").touch()
    with pytest.raises(StageError, match="stage counting: .* cannot be written .*set embedding_c"):
        stage(tmp_path).complete()


def test_a_report_without_new_units() -> None:
    assert (
        str(StageReport("encode", 1200, 0, "texts", 0.1)) == "encode: there already (1,200 texts)"
    )


HOLDER = """
import sys, time
from pathlib import Path
from recbole_llm.core.files import file_lock
with file_lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_waits_until_the_first_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(tmp_path)
    made.path.parent.mkdir()
    lock = made.path.with_name(f"{made.path.name}.lock")
    root = str(Path(stage_module.__file__).parents[2])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root}, text=True,
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    messages: list[str] = []

    def kill_holder(message: str) -> None:
        """End the holder once the wait is announced, as a crash would."""
        messages.append(message)
        holder.kill()

    monkeypatch.setattr(stage_module, "show", kill_holder)
    assert made.complete().units_done == 3
    assert messages == ["stage counting: waiting for another process that is working on it"]
    holder.communicate(timeout=10)


@pytest.mark.parametrize("returned", [None, 3, (1, 2, 3), ("1", 2)])
def test_work_that_returns_no_units_is_refused(tmp_path: Path, returned: object) -> None:
    class Silent(Counting):
        def work(self, folder: Path) -> Any:
            return returned

    silent = Silent({"embedding_cache_dir": str(tmp_path), "n": 1}, SimpleNamespace(name="d"))
    with pytest.raises(StageError, match="^stage counting: work.. returned .*; it must return .un"):
        silent.complete()
    assert not silent.path.exists()


def test_inputs_that_json_cannot_write_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="^stage counting: inputs.. must hold plain data .*Path"):
        stage(tmp_path, of=tmp_path).complete()  # type: ignore[arg-type]


def test_an_error_of_inputs_is_its_own(tmp_path: Path) -> None:
    """A TypeError in an author's code is not reported as data that JSON cannot write."""
    made = stage(tmp_path)
    made.inputs = lambda: len(3)  # type: ignore[arg-type, assignment, method-assign]
    with pytest.raises(TypeError, match="object of type 'int' has no len"):
        made.complete()


class Unnamed(Stage):
    def inputs(self) -> Mapping[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (dict, "dict must extend recbole_llm.offline.stage.Stage"),
        (Unnamed, "Unnamed has no work, name, which a stage needs"),
    ],
)
def test_a_class_that_is_no_stage_is_refused(cls: type, said: str) -> None:
    with pytest.raises(StageError, match=f"^stage 'mine': {said}$"):
        stage_class(StageSpec("mine", cls))


def test_a_stage_registered_under_another_name_is_refused() -> None:
    """Two stages with the same name and inputs would share an artifact."""
    assert stage_class(StageSpec("counting", Counting)) is Counting
    with pytest.raises(StageError, match="^stage 'mine': Counting is called 'counting', .* 'mine'"):
        stage_class(StageSpec("mine", Counting))

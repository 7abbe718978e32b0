"""The base of stages of offline work: inputs, a fingerprint over them, an artifact, resuming.

A stage's artifact is a folder of the cache, named by stage and fingerprint, with a
``manifest.json`` of its inputs. It exists as a whole or not at all. Results of an unfinished run
(rows of the store, or files of the work folder) are kept and reused.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_llm.core.digest import digest
from recbole_llm.core.files import check_folder, file_lock
from recbole_llm.core.log import show
from recbole_llm.core.plugins.registry import StageSpec, resolve
from recbole_llm.core.processes.randomness import keep_random_state
from recbole_llm.core.versions import installed
from recbole_llm.features.stored.store import cache_dir

MANIFEST = "manifest.json"
FOLDER = "stages"
_FORMAT = 1
_VERSIONS = ("recbole-llm", "recbole", "torch", "transformers")


class StageError(ValueError):
    """A stage that cannot be done, or an artifact that cannot be used."""


@dataclass(frozen=True)
class StageReport:
    """The units of a completed stage."""

    name: str
    units_before: int  # done by earlier runs
    units_done: int  # done by this run
    unit: str  # their name, such as ``texts``
    seconds: float  # of wall time

    def __str__(self) -> str:
        if not self.units_done:
            return f"{self.name}: there already ({self.units_before:,} {self.unit})"
        before = f" and {self.units_before:,} there already" if self.units_before else ""
        return f"{self.name}: {self.units_done:,} {self.unit} done in {self.seconds:.1f} s{before}"


class Stage(ABC):
    """Offline work on a data set: the loaded one or the training split, as its spec says.

    Whatever it derives from interactions, it derives from the training split alone.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "units"

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.config, self.dataset = config, dataset

    @abstractmethod
    def inputs(self) -> Mapping[str, Any]:
        """Return everything that the result depends on, as plain data: settings, fingerprints of
        features and models, digests of training interactions."""

    @abstractmethod
    def work(self, folder: Path) -> tuple[int, int]:
        """Do what is missing, and write the artifact's files into a folder.

        The folder stays the same until the stage is done, so that the next run finds checkpoints.
        One process works at a time.

        Returns:
            units done by earlier runs, units done now.
        """

    @cached_property
    def _inputs(self) -> Mapping[str, Any]:
        """The inputs before the work, which may take days."""
        return self.inputs()

    @cached_property
    def fingerprint(self) -> str:
        """A digest that changes with any input."""
        inputs = self._inputs  # outside `try`, which is for errors of the digest
        try:
            return digest(self.name, _FORMAT, inputs)
        except TypeError as error:
            raise StageError(
                f"stage {self.name}: inputs() must hold plain data that JSON can write ({error})"
            ) from error

    @cached_property
    def path(self) -> Path:
        """The artifact's folder."""
        return cache_dir(self.config) / FOLDER / f"{self.name}-{self.fingerprint}"

    def finished_units(self) -> int | None:
        """Return the units of the artifact; None if it is not finished.

        Raises:
            StageError: the artifact is damaged.
        """
        file = self.path / MANIFEST
        if not file.is_file():
            return None
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            if manifest["fingerprint"] != self.fingerprint:
                raise ValueError("it is another stage's")
            return int(manifest["units"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StageError(f"'{file}' is damaged ({error}); delete '{self.path}'") from error

    def complete(self) -> StageReport:
        """Do the work unless it is done.

        Raises:
            StageError: the artifact cannot be written, or is damaged; or a file cannot be read.
        """
        start = time.perf_counter()
        units = self.finished_units()
        try:
            before, done = self._work_under_lock() if units is None else (units, 0)
        except OSError as error:
            raise StageError(f"stage {self.name}: {error}") from error
        return StageReport(self.name, before, done, self.unit, time.perf_counter() - start)

    def _work_under_lock(self) -> tuple[int, int]:
        try:
            check_folder(self.path.parent, "set embedding_cache_dir")
        except ValueError as error:
            raise StageError(f"stage {self.name}: {error}") from error
        with file_lock(self.path.with_name(f"{self.path.name}.lock"), self._log_waiting):
            units = self.finished_units()  # another process may have done it meanwhile
            if units is not None:
                return units, 0
            folder = self.path.with_name(f"{self.path.name}.part")
            folder.mkdir(exist_ok=True)
            with keep_random_state():
                before, done = self._check_units(self.work(folder))
            self._publish(folder, before + done)
            return before, done

    def _check_units(self, units: object) -> tuple[int, int]:
        match units:
            case (int(before), int(done)):
                return before, done
        raise StageError(
            f"stage {self.name}: work() returned {units!r}; it must return (units done before, "
            f"units done now)"
        )

    def _log_waiting(self) -> None:
        show(f"stage {self.name}: waiting for another process that is working on it")

    def _publish(self, folder: Path, units: int) -> None:
        """Write the manifest, and move the work folder to the artifact's path."""
        manifest = {
            "stage": self.name,
            "fingerprint": self.fingerprint,
            "units": units,
            "inputs": self._inputs,
            "versions": {"python": platform.python_version(), **installed(_VERSIONS)},
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        text = json.dumps(manifest, indent=1, sort_keys=True)
        (folder / MANIFEST).write_text(text, encoding="utf-8")
        shutil.rmtree(self.path, ignore_errors=True)  # a folder without a manifest
        os.replace(folder, self.path)


def stage_class(spec: StageSpec) -> type[Any]:
    """Return the class that a spec names: a `Stage`, or another with a method `complete`.

    Raises:
        StageError: the class is no stage, or lacks what a stage needs.
    """
    cls: Any = resolve(spec.stage, f"stage '{spec.name}'")
    subject = f"stage '{spec.name}': {getattr(cls, '__name__', repr(cls))}"
    if not (isinstance(cls, type) and callable(getattr(cls, "complete", None))):
        raise StageError(f"{subject} must extend recbole_llm.offline.stage.Stage")
    lacking = sorted(getattr(cls, "__abstractmethods__", ()))
    if issubclass(cls, Stage) and not isinstance(getattr(cls, "name", None), str):
        lacking.append("name")
    elif issubclass(cls, Stage) and not lacking and cls.name != spec.name:
        raise StageError(
            f"{subject} is called '{cls.name}', by which its artifact is found; name it "
            f"'{spec.name}', too"
        )
    if lacking:
        raise StageError(f"{subject} has no {', '.join(lacking)}, which a stage needs")
    return cls

"""What a stage of offline work is: inputs, a fingerprint over them, an artifact, resuming.

A stage's artifact is a folder of the cache, named by stage and fingerprint, with a
``manifest.json`` of its inputs. It is there whole or not at all; what an unfinished run has done
is kept (rows of the store, or files of the work folder) and not done again.
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
from recbole_llm.core.versions import installed
from recbole_llm.features.store import cache_dir

MANIFEST = "manifest.json"
FOLDER = "stages"
_FORMAT = 1
_VERSIONS = ("recbole-llm", "recbole", "torch", "transformers")


class StageError(ValueError):
    """A stage that cannot be done, or an artifact that cannot be used."""


@dataclass(frozen=True)
class StageReport:
    """What there is of a stage."""

    name: str
    there: int  # units that were done before
    done: int  # units that this run did
    unit: str  # what they are, such as ``texts``
    seconds: float  # of wall time

    def __str__(self) -> str:
        if not self.done:
            return f"{self.name}: there already ({self.there:,} {self.unit})"
        before = f" and {self.there:,} there already" if self.there else ""
        return f"{self.name}: {self.done:,} {self.unit} done in {self.seconds:.1f} s{before}"


class Stage(ABC):
    """A piece of offline work on a data set, the loaded one or the training split by its spec.

    All that is derived from interactions is derived from the training split's alone.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "units"

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.config, self.dataset = config, dataset

    @abstractmethod
    def inputs(self) -> Mapping[str, Any]:
        """All that the result depends on, as plain data: settings, fingerprints of features and of
        models, digests of training interactions."""

    @abstractmethod
    def work(self, folder: Path) -> tuple[int, int]:
        """Do what is missing, and write the artifact's files into a folder.

        The folder is the same one until the stage is done: checkpoints that are written there are
        found by the next run. One process works at a time.

        Returns:
            units that were there, units done now.
        """

    @cached_property
    def _inputs(self) -> Mapping[str, Any]:
        """As they were before the work, which may take days."""
        return self.inputs()

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any input."""
        try:
            return digest(self.name, _FORMAT, self._inputs)
        except TypeError as error:
            raise StageError(
                f"stage {self.name}: inputs() is to hold plain data, which JSON can write ({error})"
            ) from error

    @cached_property
    def path(self) -> Path:
        """The artifact's folder."""
        return cache_dir(self.config) / FOLDER / f"{self.name}-{self.fingerprint}"

    def units_there(self) -> int | None:
        """Units of the artifact; None where there is no finished one.

        Raises:
            StageError: it is damaged.
        """
        file = self.path / MANIFEST
        if not file.is_file():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["fingerprint"] != self.fingerprint:
                raise ValueError("it is another stage's")
            return int(found["units"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StageError(f"'{file}' is damaged ({error}); delete '{self.path}'") from error

    def complete(self) -> StageReport:
        """Do the stage unless it is done.

        Raises:
            StageError: the artifact cannot be written, or is damaged; or a file cannot be read.
        """
        start = time.perf_counter()
        units = self.units_there()
        try:
            there, done = self._under_lock() if units is None else (units, 0)
        except OSError as error:
            raise StageError(f"stage {self.name}: {error}") from error
        return StageReport(self.name, there, done, self.unit, time.perf_counter() - start)

    def _under_lock(self) -> tuple[int, int]:
        try:
            check_folder(self.path.parent, "set embedding_cache_dir")
        except ValueError as error:
            raise StageError(f"stage {self.name}: {error}") from error
        with file_lock(self.path.with_name(f"{self.path.name}.lock"), self._say_that_it_waits):
            units = self.units_there()  # another process may have done it meanwhile
            if units is not None:
                return units, 0
            folder = self.path.with_name(f"{self.path.name}.part")
            folder.mkdir(exist_ok=True)
            there, done = self._units(self.work(folder))
            self._finish(folder, there + done)
            return there, done

    def _units(self, done: object) -> tuple[int, int]:
        match done:
            case (int(there), int(now)):
                return there, now
        raise StageError(
            f"stage {self.name}: work() returned {done!r}; it is to return (units that were "
            f"there, units done)"
        )

    def _say_that_it_waits(self) -> None:
        said = f"stage {self.name}: waiting for another process that does it"
        show(said)

    def _finish(self, folder: Path, units: int) -> None:
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
    """The class that a spec names: a `Stage`, or one whose objects can `complete`.

    Raises:
        StageError: it is no stage, or lacks what one needs.
    """
    found: Any = resolve(spec.stage, f"stage '{spec.name}'")
    what = f"stage '{spec.name}': {getattr(found, '__name__', repr(found))}"
    if not (isinstance(found, type) and callable(getattr(found, "complete", None))):
        raise StageError(f"{what} is to extend recbole_llm.offline.stage.Stage")
    lacking = sorted(getattr(found, "__abstractmethods__", ()))
    if issubclass(found, Stage) and not isinstance(getattr(found, "name", None), str):
        lacking.append("name")
    elif issubclass(found, Stage) and not lacking and found.name != spec.name:
        raise StageError(
            f"{what} is called '{found.name}', by which its artifact is found; give it the name "
            f"'{spec.name}', too"
        )
    if lacking:
        raise StageError(f"{what} has no {', '.join(lacking)}, which a stage needs")
    return found

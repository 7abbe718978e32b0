"""Fixtures that every test may use."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch

from recbole_llm import testing
from recbole_llm.core import compat
from recbole_llm.core.plugins import loading, named
from recbole_llm.core.processes import cluster

GOLDEN = Path(os.environ.get("RECBOLE_LLM_GOLDEN") or Path(__file__).parent / "golden")
Golden = tuple[dict[str, np.ndarray], dict[str, Any]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_configure() -> None:
    """One thread a process: on small tensors a second one costs more than it brings. No time limit
    for hypothesis's examples: on a busy machine they are slow."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of pytest-xdist's workers and other children
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    hypothesis.settings.register_profile("untimed", hypothesis.settings(), deadline=None)
    hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or "slow" in (config.option.markexpr or ""):
        return
    slow = [item for item in items if "slow" in item.keywords]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if "slow" not in item.keywords]


@pytest.fixture(scope="session", autouse=True)
def _mended_recbole() -> None:
    compat.apply()


@pytest.fixture(scope="session", autouse=True)
def _hash_encoder() -> None:
    """`encoder: hash` is there for all tests."""
    if "hash" not in loading.list_encoders():
        loading.get_plugins().register(testing, testing.__name__)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The suite neither reads nor fills the user's embedding cache."""
    before = os.environ.get("RECBOLE_LLM_CACHE")
    os.environ["RECBOLE_LLM_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["RECBOLE_LLM_CACHE"]
    else:
        os.environ["RECBOLE_LLM_CACHE"] = before


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole writes log/, saved/ and log_tensorboard/ where it runs."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny(_own_folder: None) -> Path:
    """The data set `tiny` in the test's own folder."""
    return testing.write_tiny_dataset("dataset")


@pytest.fixture
def as_new(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Called, it makes this process one that has loaded no plugin of the test's own yet."""
    from recbole_llm.tasks.compare import keys

    def forget() -> None:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
                del sys.modules[name]
        keys.code_digest.cache_clear()
        loading.get_plugins.cache_clear()
        loading.get_plugins().register(testing, testing.__name__)
        monkeypatch.setattr(named, "_imported", {})

    monkeypatch.setattr(sys, "path", [*sys.path])
    forget()
    yield forget
    forget()


@pytest.fixture(autouse=True)
def _process_kept() -> Iterator[None]:
    """A run sets the level of the root logger, and the number of threads."""
    level, threads = logging.getLogger().level, torch.get_num_threads()
    yield
    logging.getLogger().setLevel(level)
    torch.set_num_threads(threads)


@pytest.fixture
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process's logging is this package's: pytest's handlers stay out, which it would keep."""
    root = logging.getLogger()
    add = root.addHandler

    def ours(handler: logging.Handler) -> None:
        if type(handler).__module__ == "recbole_llm.core.log":
            add(handler)

    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "addHandler", ours)
    yield
    for handler in root.handlers:
        handler.close()


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """``golden("mkmmd")`` gives the arrays and the description of a fixture of the papers' code."""

    def load(name: str) -> Golden:
        with np.load(GOLDEN / f"{name}.npz") as file:
            arrays = {key: file[key] for key in file.files}
        return arrays, json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))

    return load


@pytest.fixture(scope="session")
def ray_installed() -> None:
    """Skips where it is not."""
    try:
        cluster.check_installed()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ray(ray_installed: None) -> Iterator[ModuleType]:
    """Ray on this machine, of two CPUs and two GPUs that there are in name only."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # which RecBole sets
        patch.setenv("RAY_worker_niceness", "0")  # Ray's 15 starves beside other work
        ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()

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
    """Set one thread per process, as a second thread makes small tensors slower, and no time limit
    for hypothesis's examples, which are slow on a busy machine."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for pytest-xdist's workers and other children
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
    """Make `encoder: hash` available to all tests."""
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
    """A function that makes this process forget the plugins that the test has loaded."""
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
    """Restore the root logger's level and the number of threads, which a run sets."""
    level, threads = logging.getLogger().level, torch.get_num_threads()
    yield
    logging.getLogger().setLevel(level)
    torch.set_num_threads(threads)


@pytest.fixture
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep pytest's handlers out: this package sets up no logging where a process has its own."""
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
    """``golden("mkmmd")`` gives the arrays and the description of a fixture by a paper's code."""

    def load(name: str) -> Golden:
        with np.load(GOLDEN / f"{name}.npz") as file:
            arrays = {key: file[key] for key in file.files}
        return arrays, json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))

    return load


@pytest.fixture(scope="session")
def ray_installed() -> None:
    """Skip tests if Ray is not installed."""
    try:
        cluster.check_installed()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ray(ray_installed: None) -> Iterator[ModuleType]:
    """Ray on this machine, with two CPUs and two GPUs that exist only in name."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # RecBole sets it
        patch.setenv("RAY_worker_niceness", "0")  # Ray's default, 15, starves beside other work
        ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()

"""Runtime settings: what is set, what opts out, and that doing it twice does no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recbole_llm.core import runtime


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing about threads or malloc."""
    for name in list(os.environ):
        if name.startswith(("MALLOC_", "GLIBC_", "RECBOLE_LLM_MALLOC", "OMP_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(runtime, "loaded_allocator", lambda: "")
    return monkeypatch


@pytest.fixture
def malloc_calls(environment: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    environment.setattr(runtime, "_tune_glibc", lambda: calls.append("mallopt") or "tuned")
    environment.setattr(runtime.sys, "platform", "linux")
    environment.setattr(runtime, "_process", lambda: type("libc", (), {"gnu_get_libc_version": 1}))
    return calls


def test_allocator_is_tuned_on_glibc(malloc_calls: list[str]) -> None:
    assert runtime.configure_runtime().endswith("memory allocator: tuned")
    assert malloc_calls


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RECBOLE_LLM_MALLOC", "0"),
        ("MALLOC_TOP_PAD_", "65536"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=4096"),
    ],
)
def test_environment_opts_out(
    malloc_calls: list[str], environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    assert name in runtime.configure_runtime()
    assert not malloc_calls


def test_config_opts_out(malloc_calls: list[str]) -> None:
    assert "tune_malloc: False" in runtime.configure_runtime({"tune_malloc": False})
    assert not malloc_calls


def test_other_systems_and_allocators_are_left_alone(
    malloc_calls: list[str], environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(runtime, "loaded_allocator", lambda: "jemalloc")
    assert "jemalloc is loaded" in runtime.keep_heap()
    environment.setattr(runtime, "_process", lambda: object())  # musl
    assert "not glibc" in runtime.keep_heap()
    environment.setattr(runtime.sys, "platform", "darwin")
    assert "not glibc" in runtime.keep_heap()
    assert not malloc_calls


def test_twice_is_as_once(environment: pytest.MonkeyPatch) -> None:
    assert runtime.configure_runtime() == runtime.configure_runtime()


def test_threads_follow_config_then_environment(environment: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        assert "CPU: 1 threads (cpu_threads)" in runtime.configure_runtime({"cpu_threads": 1})
        assert torch.get_num_threads() == 1
        environment.setenv("OMP_NUM_THREADS", "7")
        assert "CPU: 1 threads (OMP_NUM_THREADS)" in runtime.configure_runtime()
    finally:
        torch.set_num_threads(before)


def test_hardware_threads_of_a_core_count_once(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    environment.setattr(runtime, "_CPUS", tmp_path)
    environment.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    environment.setattr(runtime, "cgroup_cpus", lambda root: None)
    assert runtime.available_cores() == 2
    environment.setattr(runtime, "cgroup_cpus", lambda root: 1.5)
    assert runtime.available_cores() == 1
    environment.setattr(runtime, "cgroup_cpus", lambda root: 0.5)
    assert runtime.available_cores() == 1


def test_cgroup_quota(tmp_path: Path) -> None:
    assert runtime.cgroup_cpus(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert runtime.cgroup_cpus(tmp_path) == 3
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert runtime.cgroup_cpus(tmp_path) == 2.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert runtime.cgroup_cpus(tmp_path) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts Linux page faults")
def test_freed_memory_is_kept() -> None:
    """After the call, taking and freeing 40 MB again and again faults no new pages in."""
    code = (
        "import resource, torch\n"
        "from recbole_llm.core.runtime import configure_runtime\n"
        "print(configure_runtime())\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(10): torch.ones(10_000_000)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults(); print(faults())\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    environment["PYTHONPATH"] = str(Path(runtime.__file__).parents[2])
    out = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    line, faults = out.splitlines()
    if "glibc keeps" not in line:
        pytest.skip(line)
    assert int(faults) < 1000

"""Runtime settings: what is set, what opts out, and that a second call does no harm."""

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


@pytest.mark.parametrize(
    ("capability", "scaled", "precision", "warned"),
    [(8, False, torch.bfloat16, False), (8, True, torch.float16, False),
     (7, True, torch.float16, False), (7, False, torch.float16, True)],
)  # fmt: skip
def test_mixed_precision_on_a_gpu(
    capability: int, scaled: bool, precision: torch.dtype, warned: bool,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capability, 0))
    before = torch.get_autocast_dtype("cuda")
    try:
        runtime.set_mixed_precision(torch.device("cuda"), scaled)
        assert torch.get_autocast_dtype("cuda") is precision
    finally:
        torch.set_autocast_dtype("cuda", before)
    assert ("add --enable_scaler=True" in caplog.text) is warned


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
    assert "CPU: 3 threads (cpu_threads)" in runtime.configure_runtime({"cpu_threads": 3})
    assert torch.get_num_threads() == 3
    environment.setenv("OMP_NUM_THREADS", "7")
    assert "CPU: 7 threads (OMP_NUM_THREADS)" in runtime.configure_runtime()
    assert torch.get_num_threads() == 7
    assert "CPU: 1 thread (cpu_threads)" in runtime.configure_runtime({"cpu_threads": 1})


def test_threads_are_the_physical_cores(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(
        "loky.cpu_count", lambda only_physical_cores: 3 if only_physical_cores else 99
    )
    assert "CPU: 3 threads;" in runtime.configure_runtime()
    assert torch.get_num_threads() == 3


def _printed_under_glibc(code: str) -> list[str]:
    """Lines that a new process prints after `configure_runtime`'s own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    environment["PYTHONPATH"] = str(Path(runtime.__file__).parents[2])
    out = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    line, *others = out.splitlines()
    if "glibc keeps" not in line:
        pytest.skip(line)
    return others


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
    (faults,) = _printed_under_glibc(code)
    assert int(faults) < 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's count of pages")
def test_kept_memory_goes_back_when_asked_for() -> None:
    """Of 400 MB freed below a block that is still in use, the process keeps hardly any."""
    code = (
        "import resource, torch\n"
        "from recbole_llm.core.runtime import configure_runtime, release_heap\n"
        "print(configure_runtime())\n"
        "def held():\n"
        "    pages = int(open('/proc/self/statm').read().split()[1])\n"
        "    return pages * resource.getpagesize() / 1e6\n"
        "before, freed = held(), [torch.ones(2_500_000) for _ in range(40)]\n"
        "kept = torch.ones(2_500_000)\n"
        "del freed; print(held() - before)\n"
        "release_heap({}); print(held() - before)\n"
    )
    kept, released = _printed_under_glibc(code)
    assert float(kept) > 300 and float(released) < 100

"""Comparisons whose runs are tasks of a Ray cluster; test_pool.py tests both executors."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from recbole_llm.cli import main
from recbole_llm.core.processes import cluster
from recbole_llm.core.processes.cluster import Share
from recbole_llm.tasks.compare import pool
from recbole_llm.tasks.compare.executors import Ray, open_executor
from recbole_llm.tasks.compare.live import Live
from recbole_llm.tasks.compare.pool import Job, run_jobs


def compare(models: str, *more: str) -> Result:
    command = ["compare", "--dataset=tiny", "--seeds=2", "--jobs=2", f"--models={models}"]
    return CliRunner().invoke(main, [*command, *more])


@pytest.mark.parametrize(
    ("nodes", "at_once", "share"),
    [
        ([{"CPU": 8.0}], 2, Share(4, 4, 0, 2)),
        ([{"CPU": 8.0}], 3, Share(2, 2, 0, 4)),
        ([{"CPU": 2.0}], 4, Share(1, 1, 0, 2)),  # two runs wait
        ([{"CPU": 4.0}] * 3, 4, Share(2, 2, 0, 6)),  # with 3 CPUs each, only three would fit
        ([{"CPU": 4.0}, {"CPU": 16.0}], 1, Share(16, 16, 0, 1)),
        ([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 64.0}], 1, Share(4, 4, 1, 1)),
        ([{"CPU": 8.0, "GPU": 2.0}], 3, Share(2, 2, 0.5, 4)),
        ([{"CPU": 8.0, "GPU": 8.0}], 2, Share(4, 4, 1, 2)),
        ([{}], 1, Share(1, 1, 0, 0)),  # a head node without CPUs
    ],
)
def test_as_much_as_all_can_have(
    nodes: list[dict[str, float]], at_once: int, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Share.of(nodes, at_once) == share


def test_threads_are_the_users_but_no_more_cpus_are_asked_for_than_a_machine_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Share.of([{"CPU": 8.0}], 2) == Share(3, 3, 0, 2)
    assert Share.of([{"CPU": 2.0}], 1) == Share(3, 2, 0, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "0")  # which OpenMP ignores
    assert Share.of([{"CPU": 8.0}], 2) == Share(4, 4, 0, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")  # also sets nested regions
    assert Share.of([{"CPU": 8.0}], 2) == Share(3, 3, 0, 2)


@pytest.mark.usefixtures("quick_runs")
def test_a_missing_ray_is_said_before_any_run(
    monkeypatch: pytest.MonkeyPatch, started: Path
) -> None:
    monkeypatch.setattr(cluster, "_OLDEST", (999, 0))
    done = compare("SASRec", "--executor=ray")
    assert done.exit_code == 2 and "pip install 'recbole-llm[ray]'" in done.output
    assert done.output.startswith("error: executor: 'ray' needs the package ray>=999.0 (here: ")
    assert not started.exists()


def test_an_unknown_executor() -> None:
    with pytest.raises(ValueError, match="executor 'rey' is unknown; did you mean 'ray'"):
        with open_executor("rey"):
            pass


def test_a_cluster_without_ray_is_refused() -> None:
    with pytest.raises(ValueError, match="ray_address: 'head:6379' needs --executor=ray"):
        with open_executor(ray_address="head:6379"):
            pass


@pytest.mark.parametrize(
    ("address", "why"),
    [("127.0.0.1:1", "Connection refused"), ("nonsense", "invalid literal for int")],
)
def test_a_cluster_that_is_not_there(
    address: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "check_installed", lambda: None)  # the address is checked next
    with pytest.raises(ValueError, match=f"ray_address: no Ray cluster at '{address}' .*{why}"):
        with open_executor("ray", 1, address):
            pass


class RayError(Exception):
    pass


@pytest.mark.parametrize("why", [RuntimeError("Version mismatch:\nRay"), RayError("no\ntoken")])
def test_a_cluster_that_refuses(why: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster has another version, or this process lacks its token."""
    tries = []

    def init(*args: object, **own: object) -> None:
        tries.append(os.environ.get(cluster._TRIES))
        raise why

    exceptions = SimpleNamespace(RayError=RayError)
    ray = SimpleNamespace(is_initialized=lambda: False, init=init, exceptions=exceptions)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(cluster, "check_installed", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        said = f"ray_address: the cluster at '{address}' refuses this process: "
        with pytest.raises(ValueError, match=said + " ".join(str(why).split())):
            with open_executor("ray", 1, address):
                pass
    assert tries == ["1"] and cluster._TRIES not in os.environ


@pytest.mark.slow
@pytest.mark.usefixtures("quick_runs", "ray")
def test_tables_and_failures_are_those_of_local_runs(started: Path) -> None:
    models = "SASRec; broken: SASRec --learning_rate=1e30; GRU4Rec"
    local = compare(models, "--output=local")
    assert "broken, seed 2021 failed: the training loss of SASRec is nan" in local.output
    said = sorted(started.read_text().splitlines())
    started.unlink()
    by_ray = compare(models, "--output=ray", "--executor=ray")
    assert by_ray.exit_code == 2, by_ray.output
    assert sorted(started.read_text().splitlines()) == said
    for name in ("table.md", "table.tex", "result.json"):
        assert Path("ray", name).read_text() == Path("local", name).read_text()
    started.unlink()
    assert compare(models, "--output=ray").exit_code == 2  # local runs reuse Ray's
    assert sorted(started.read_text().splitlines()) == ["SASRec 2020", "SASRec 2021"]  # the failed


@pytest.mark.slow
def test_a_run_uses_the_gpu_that_ray_gives_it(
    ray: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; print(sys.argv[1:])"
    monkeypatch.setattr(pool, "command_of", lambda job: [sys.executable, "-c", code, *job.command])
    gpus = {"a": "0", "b": "0", "c": ""}
    jobs = (Job(name, "", name, [name], Path(name), gpus=gpus[name]) for name in gpus)
    assert len(list(run_jobs(jobs, Ray(ray, 2), Live([""], 3, 2)))) == 3
    said = [Path(name, "output.txt").read_text().strip() for name in gpus]
    assert said[0][:16] == "['a', '--gpu_id=" and said[0][16] in "01"
    assert said[1][:16] == "['b', '--gpu_id=" and said[1][16] in "01"
    assert said[2] == "['c']"


@pytest.mark.slow
def test_a_lost_worker_is_a_failed_run(ray: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = "import os, psutil; psutil.Process(os.getppid()).kill()"
    monkeypatch.setattr(pool, "command_of", lambda job: [sys.executable, "-c", kills])
    lost = Job("a", "", "a", [], Path("a"))
    (outcome,) = run_jobs(iter([lost]), Ray(ray, 1), Live([""], 1, 1))
    assert outcome.error is not None and outcome.error.startswith("Ray: ")

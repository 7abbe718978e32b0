"""Runs as processes: how many at once, how they stop or fail, and that none is left over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from recbole_llm.tasks.compare import pool
from recbole_llm.tasks.compare.executors import Executor, Local
from recbole_llm.tasks.compare.live import Live
from recbole_llm.tasks.compare.pool import Job, OnValidation, Outcome, run_jobs

Executors = Callable[[int], Executor]


@pytest.fixture(autouse=True)
def _code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's command is Python code, whose argument is the job's file of scores."""
    monkeypatch.setattr(
        pool,
        "command_of",
        lambda job: [sys.executable, "-c", *job.command, str(job.folder / pool.SCORES)],
    )
    monkeypatch.setattr(pool, "_PAUSE", 0.01)


def job(name: str, code: str = "", heard: OnValidation = lambda number, score: False) -> Job[str]:
    return Job(name, "", name, [code], Path(name), heard)


def live() -> Live:
    return Live([""], 3, 1)


def test_jobs_are_asked_for_when_there_is_room(executor: Executors) -> None:
    asked: list[str] = []

    def jobs() -> Iterator[Job[str]]:
        for name in "abc":
            asked.append(name)
            yield job(name)

    ended = [(one.job.payload, len(asked)) for one in run_jobs(jobs(), executor(1), live())]
    assert ended == [("a", 1), ("b", 2), ("c", 3)]
    assert sorted(one.job.payload for one in run_jobs(jobs(), executor(3), live())) == [
        "a",
        "b",
        "c",
    ]


def test_a_failed_job_says_why_and_the_next_one_runs(executor: Executors) -> None:
    fails = "import sys; print('much'); sys.exit('error: no such thing')"
    killed = "import os; os.kill(os.getpid(), 9)"
    names = iter([job("bad", fails), job("gone", killed), job("good")])
    errors = {one.job.payload: one.error for one in run_jobs(names, executor(1), live())}
    assert errors["bad"] == "no such thing" and errors["good"] is None
    killed = "killed by signal 9, perhaps for lack of memory; gone/output.txt has its output"
    assert errors["gone"] == killed


def test_scores_are_heard_in_order_and_stop_a_job(executor: Executors) -> None:
    heard: list[tuple[int, float]] = []

    def listen(number: int, score: float) -> bool:
        heard.append((number, score))
        return number == 2

    says = "import sys, time; open(sys.argv[1], 'w').write('0.5\\n0.25\\n0.7'); time.sleep(300)"
    lasts = job("a", says, listen)
    (one,) = run_jobs(iter([lasts]), executor(1), live())
    assert one == Outcome(lasts, one.seconds, None, True)
    assert heard == [(1, 0.5), (2, 0.25)]  # the last line is not complete


def test_no_job_is_left_over(executor: Executors) -> None:
    begins = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    quick = "import pathlib\nwhile not pathlib.Path('slow/output.txt').read_text(): pass"
    jobs = run_jobs(iter([job("slow", begins), job("quick", quick)]), executor(2), live())
    assert next(jobs).job.payload == "quick"
    slow = psutil.Process(int(Path("slow/output.txt").read_text()))
    jobs.close()
    assert not slow.is_running()


def test_runs_share_the_gpus_of_this_machine() -> None:
    """Runs at the same time are spread over the GPUs; a run alone gets all of them."""
    waits = "import os, pathlib, sys\n"
    waits += "print(*sys.argv[2:], os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n"
    waits += "while not all(pathlib.Path(n, 'output.txt').is_file() for n in 'abc'): pass"
    jobs = (Job(name, "", name, [waits], Path(name), gpus="4,6") for name in "abc")
    assert len(list(run_jobs(jobs, Local(3), live()))) == 3
    said = sorted(Path(name, "output.txt").read_text().strip() for name in "abc")
    assert said == ["--gpu_id=4 4", "--gpu_id=4 4", "--gpu_id=6 6"]
    alone = Job("d", "", "d", [waits], Path("d"), gpus="4,6")
    assert len(list(run_jobs(iter([alone]), Local(1), live()))) == 1
    assert Path("d/output.txt").read_text().strip() == "4,6"


class Lost:
    """An executor whose runs are lost at once."""

    at_once = 1

    def start(self, command: object, output: Path, gpus: str) -> Lost:
        return self

    def poll(self) -> str:
        return "Ray: the machine is gone"

    def kill(self) -> None:
        raise AssertionError("nothing is there to be ended")


def test_a_lost_job_says_why() -> None:
    errors = [one.error for one in run_jobs(iter([job("a"), job("b")]), Lost(), live())]
    assert errors == ["Ray: the machine is gone"] * 2

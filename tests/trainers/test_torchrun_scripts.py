"""Scripts that torchrun starts: what a process does between runs, and after a failed run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_llm.testing import write_tiny_dataset

# A process that waits in vain ends by itself; torchrun, if it was killed, would leave it behind.
_BEGIN = """
import faulthandler, json, os
faulthandler.dump_traceback_later(240, exit=True)
from recbole_llm import Recommender, objective_function, run_recbole_llm, testing
from recbole_llm.core.plugins.loading import get_plugins

get_plugins().register(testing, testing.__name__)
rank, said = int(os.environ["RANK"]), []
own = {
    "data_path": "dataset", "dataset": "tiny", "epochs": 1, "show_progress": False,
    "hidden_size": 8, "inner_size": 8, "encoder": "hash",
    "embedding_cache_dir": "cache",
}
"""
_END = """
with open(f"said-{rank}.json", "w") as file:
    json.dump(said, file)
"""


def scripted(body: str) -> tuple[Any, Any]:
    """Run a script in two processes; return what each of them appended to `said`."""
    write_tiny_dataset("dataset")
    Path("script.py").write_text(f"{_BEGIN}{body}{_END}")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run([*start, "script.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(Path(f"said-{rank}.json").read_text()) for rank in range(2))
    return first, second


@pytest.mark.slow
def test_between_runs_each_process_is_on_its_own() -> None:
    """The first process recommends while the second trains; both do the next run together."""
    first, second = scripted("""
result = run_recbole_llm(model="SASRec", config_dict=own)
if rank == 0:
    made = Recommender.of(result["checkpoint"]).recommend(["u1"], k=2)
    said.append(len(made))
else:
    with open("own.yaml", "w") as file:
        json.dump({**own, "model": "SASRec", "seed": 1}, file)
    tried = objective_function(config_file_list=["own.yaml"])
    said.append(os.path.isfile(tried["checkpoint"]))
said.append(run_recbole_llm(model="SASRec", config_dict=own)["test_result"])
said.append(result["test_result"])
""")
    assert (first[0], second[0]) == (2, True)
    assert first[1] == second[1] == first[2] == second[2]


def test_a_script_goes_on_after_a_run_that_failed() -> None:
    """The first process fails at work that it does for both; the second says so, and both go on."""
    first, second = scripted("""
for more in ({"item_init": "llm", "embedding_cache_dir": "/proc/nowhere"}, {}):
    try:
        said.append(run_recbole_llm(model="SASRec", config_dict={**own, **more})["test_result"])
    except ValueError as error:
        said.append(str(error))
""")
    assert "'/proc/nowhere" in first[0]
    assert second[0] == f"the first process of this run failed: {first[0]}"
    assert first[1] == second[1] and "ndcg@10" in first[1]


@pytest.mark.slow
def test_the_first_process_alone_encodes_users() -> None:
    """Users' texts are made from the training split, after the items' texts are encoded."""
    first, second = scripted("""
import time

encode = testing.HashEncoder.encode

def noted(self, texts):
    said.append(len(texts))
    time.sleep(1)
    return encode(self, texts)

testing.HashEncoder.encode = noted
run_recbole_llm(model="LLMESR", config_dict=own)
""")
    assert len(first) == 2 and second == []  # items, then users


def test_a_hook_that_begins_another_run_is_refused() -> None:
    """The run would wait for processes outside the hook. Training in one process is not refused."""
    first, second = scripted("""
from recbole_llm import hookimpl

class Again:
    @hookimpl
    def on_result(self, config, result):
        with open("own.yaml", "w") as file:
            json.dump({**own, "model": "SASRec", "seed": 1}, file)
        said.append(os.path.isfile(objective_function(config_file_list=["own.yaml"])["checkpoint"]))
        run_recbole_llm(model="SASRec", config_dict=own)

get_plugins().register(Again(), "again")
try:
    run_recbole_llm(model="SASRec", config_dict=own)
except ValueError as error:
    said.append(str(error))
""")
    assert first[0] is True and second == []
    assert first[1].startswith("run_recbole_llm: this process is in a run of several, and another")

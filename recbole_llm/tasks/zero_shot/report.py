"""The log of a zero-shot run, and its result as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.files import OTHER_FILE, write_json
from recbole_llm.core.lines import aligned
from recbole_llm.core.log import show
from recbole_llm.data.rows.sizes import data_line
from recbole_llm.evaluation.protocol import describe_protocol, describe_repeats
from recbole_llm.report import (
    changed_settings,
    list_outputs,
    say_pairs,
    suggest_next_step,
    versions,
)
from recbole_llm.trainers.progress import duration


def log_start(trained: Sequence[Dataset], unseen: Dataset, config: Config, part: str) -> None:
    """Log the data sets, and the model's part that is trained."""
    say_pairs(
        [
            *(("train", data_line(dataset)) for dataset in trained),
            ("unseen", data_line(unseen)),
            ("repeats", describe_repeats(config, unseen)),
            ("model", f"{config['model']}, whose {part} is trained, then used unchanged"),
        ]
    )


def log_result(config: Config, unseen: Dataset, result: Mapping[str, Any], seconds: float) -> None:
    """Log a table of the model and the references, write the result, and log where the files are.

    Args:
        config: the unseen data set's.
        result: what `zero_shot` returns.
    """
    rows = {"zero-shot": result["test_result"], **result["references"]}
    names = [name for name in result["test_result"] if not name.endswith(")")]  # no groups
    cells = [[name, *(f"{metrics[n]:.4f}" for n in names)] for name, metrics in rows.items()]
    title = f"{config['model']} on {config['dataset']}: {describe_protocol(config, unseen)}"
    show("\n".join(["", title, *aligned([["", *names], *cells])]))
    places = [("took", duration(seconds))]
    if (output := config["output"]) is not None:
        content = {**result, "settings": changed_settings(config), "versions": versions()}
        write_json(output, {"dataset": config["dataset"], **content}, OTHER_FILE)
        places.append(("result", output))
    say_pairs([*places, *list_outputs(result), *suggest_next_step(unseen, result)])

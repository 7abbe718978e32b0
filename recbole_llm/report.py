"""The report of a run: on the screen before and after, and as a JSON file."""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from recbole.data.dataset import Dataset

from recbole_llm.core import compat
from recbole_llm.core.checkpoints.served import can_recommend
from recbole_llm.core.checkpoints.stored import arguments_for_reload, plain_config
from recbole_llm.core.config import Config
from recbole_llm.core.digest import fingerprints
from recbole_llm.core.files import OTHER_FILE, check_file, write_json
from recbole_llm.core.lines import aligned, plural, quoted
from recbole_llm.core.log import log_place, show
from recbole_llm.core.marks import Mark
from recbole_llm.core.memory import peak_memory
from recbole_llm.core.plugins.loading import get_model, list_models
from recbole_llm.core.plugins.stock import recbole_models
from recbole_llm.core.processes import distributed
from recbole_llm.core.versions import installed
from recbole_llm.data.rows.sizes import count_rows, data_line
from recbole_llm.evaluation.beyond import vector_metrics
from recbole_llm.evaluation.protocol import describe_protocol, describe_repeats, has_validation
from recbole_llm.features import ENCODED
from recbole_llm.features.tables.feature_tables import attached_features
from recbole_llm.features.tables.table import has_vector
from recbole_llm.offline.run import PreparedData
from recbole_llm.trainers.engine import EngineMixin
from recbole_llm.trainers.progress import duration
from recbole_llm.version import __version__

_PACKAGES = ("recbole", "torch", "numpy", "pandas", "transformers")


class Report:
    """The report of a run, from its start.

    Raises:
        ValueError: an output file cannot be written, or ``user_metrics`` does not end in .npz.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.start = config, time.perf_counter()
        for key in ("output", "user_metrics"):
            if config[key] is not None:
                check_file(config[key], f"name another file with --{key}")
        by_user = config["user_metrics"]
        if by_user is not None and not by_user.endswith(".npz"):
            raise ValueError(f"user_metrics: '{by_user}' must end in .npz, NumPy's format")

    def begin(self, data: PreparedData, trainer: EngineMixin) -> None:
        """Show the data, the model and the protocol of its evaluation."""
        self.dataset, self.prepared = data.dataset, time.perf_counter()
        self.parameters = _count_trained(trainer.model)
        self.repeats = describe_repeats(self.config, self.dataset)
        say_pairs(
            [
                ("data", data_line(self.dataset)),
                ("model", _describe_model(self.config, self.parameters)),
                ("reads", _describe_vectors(self.config, data.train_dataset)),
                ("protocol", describe_protocol(self.config, self.dataset)),
                ("repeats", self.repeats),
                ("epoch", _describe_epoch(trainer)),
            ]
        )

    def end(self, trainer: EngineMixin, result: Mapping[str, Any]) -> None:
        """Show the results, write and name the files of the run, and suggest a next command."""
        title = f"{self.config['model']}: {describe_protocol(self.config, self.dataset)}"
        show("\n".join(["", title, *_metric_lines(result)]))
        places = [("took", duration(time.perf_counter() - self.start))]
        if not distributed.is_main():
            return
        by_user = trainer.evaluator.by_user
        if self.config["user_metrics"] is not None and by_user is not None:
            by_user.save(self.config["user_metrics"], self.dataset)
            places.append(("by user", self.config["user_metrics"]))
        if self.config["output"] is not None:
            content = {**self._content(trainer), **result, "log": log_place()}
            write_json(self.config["output"], content, OTHER_FILE)
            places.append(("result", self.config["output"]))
        places += [*list_outputs(result), *suggest_next_step(self.dataset, result, trainer)]
        say_pairs(places)

    def _content(self, trainer: EngineMixin) -> dict[str, Any]:
        config, trainings = self.config, trainer.progress.trainings
        return {
            "model": config["model"],
            "dataset": config["dataset"],
            "protocol": describe_protocol(config, self.dataset),
            "repeats": self.repeats,
            "valid_metric": config["valid_metric"],
            "parameters": self.parameters,
            "best_epoch": trainings[-1].best_epoch if trainings else None,
            "trainings": [
                {"name": t.name, "epochs": t.epoch, "best_epoch": t.best_epoch, "curve": t.curve}
                for t in trainings
            ],
            "settings": changed_settings(config),
            "data": {
                "size": count_rows(self.dataset),
                "sha256": fingerprints(self.dataset.dataset_path, self.dataset.dataset_name),
            },
            "versions": versions(),
            "seconds": {
                "preparation": round(self.prepared - self.start, 3),
                "training": round(sum(t.train_seconds for t in trainings), 3),
                "validation": round(sum(t.valid_seconds for t in trainings), 3),
                "all": round(time.perf_counter() - self.start + trainer.progress.before, 3),
            },
            "peak_memory_mib": peak_memory(),
        }


def changed_settings(config: Config) -> dict[str, Any]:
    """The settings that were given a value other than the default."""
    given, defaults = config.external_config_dict, config.internal_config_dict
    now = plain_config(config, Mark.LOCAL | Mark.NO_EFFECT_ON_RESULTS)
    return {k: now[k] for k in given if k in now and given[k] != defaults.get(k)}


def versions() -> dict[str, str]:
    """Versions of Python, the system and the packages that numbers may depend on."""
    system = {"python": platform.python_version(), "system": platform.platform()}
    return {**system, "recbole-llm": __version__, **installed(_PACKAGES)}


def _describe_model(config: Config, parameters: int | None) -> str:
    device = config["device"]
    cpu = f"the CPU, {plural(torch.get_num_threads(), 'thread')}"
    where = cpu if device.type == "cpu" else str(device)
    trained = "trees" if parameters is None else plural(parameters, "parameter")
    return f"{config['model']}: {trained}, trained on {where}"


def _count_trained(model: object) -> int | None:
    """The number of trained parameters; None for decision trees, which are no torch modules."""
    if not isinstance(model, torch.nn.Module):
        return None
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _describe_epoch(trainer: EngineMixin) -> str:
    if trainer.next_train_stage is not None:
        stage = trainer.config["train_stage"]
        return f"the last of {trainer.epochs:,}; train_stage={stage} is without validation"
    best = f"the best by {trainer.config['valid_metric']} on validation"
    return best if has_validation(trainer.config) else "the last: nothing is validated"


def _describe_vectors(config: Config, train_dataset: Dataset) -> str:
    tables = attached_features(train_dataset)
    if not tables:
        metrics = ", ".join(vector_metrics(config))
        read = f"; for {metrics}: {config['item_feature'].replace('_', ' ')}" if metrics else ""
        return f"no texts or pictures{read}"
    names = {"bundled": None, "precomputed": config["embedding_path"]}
    name = names.get(config["encoder"], config["encoder_model"])
    maker = config["encoder"] + (f" {name}" if name else "")
    parts = []
    for kind, table in tables.items():
        known = has_vector(table.matrix)
        if table.contents is not None:  # 0 for rows that missing_embedding fills
            known &= table.contents != 0
        count = int(known[1:].sum())
        what, source = kind.replace("_", " "), f" ({maker})" if kind in ENCODED else ""
        size = f"{len(table) - 1:,}, {plural(table.dimension, 'number')} each"
        parts.append(f"{what} of {count:,} of {size}{source}")
    return "; ".join(parts)


def _metric_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """One line per metric, validation beside test; metrics of groups have a table of their own."""
    valid, test = result["best_valid_result"] or {}, result["test_result"] or {}
    names = [name for name in {**test, **valid} if not name.endswith(")")]
    width = max(map(len, names), default=0)
    yield f"{'':{width}}  {'validation':>10}  {'test':>10}"
    for name in names:
        yield f"{name:{width}}  {_format_cell(valid.get(name))}  {_format_cell(test.get(name))}"


def _format_cell(value: float | None) -> str:
    return f"{'-':>10}" if value is None else f"{value:>10.4f}"


def list_outputs(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The files that a run wrote, as pairs of kind and path."""
    log = log_place()
    if "checkpoint" in result:
        yield "checkpoint", result["checkpoint"]
    if log is not None:
        yield "log", log
    if (curves := compat.tensorboard_folder()) is not None:
        yield "tensorboard", curves


def suggest_next_step(
    dataset: Dataset, result: Mapping[str, Any], trainer: EngineMixin | None = None
) -> Iterator[tuple[str, str]]:
    """What to do with the checkpoint."""
    if "checkpoint" not in result or not can_recommend(dataset.config):
        return
    file, model = result["checkpoint"], dataset.config["model"]
    if trainer is not None and trainer.next_train_stage is not None:
        arguments = [f"--train_stage={trainer.next_train_stage}", f"--pre_model_path={file}"]
        ended = "without --resume, " if dataset.config["resume"] else ""
        yield "next", f"the same command {ended}with {shlex.join(arguments)}"
        return
    if not _is_named(dataset.config):  # a class, which no command can name
        yield "next", f"load_data_and_model({file!r}, config_dict={{'model': {model}}})"
        return
    user = quoted(dataset.field2id_token[dataset.uid_field][1])
    arguments = [f"--checkpoint={file}", f"--users={user}", *arguments_for_reload(dataset.config)]
    yield "next", f"recbole-llm recommend {shlex.join(arguments)}"


def _is_named(config: Config) -> bool:
    """Whether the model's name refers to its class, not to another class of the same name."""
    name = config["model"]
    return name in {*list_models(), *recbole_models()} and get_model(name) is config.model_class


def say_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Show lines with their names in front, on the screen and in the log."""
    present = [(name, text) for name, text in pairs if text]
    show("\n".join(["", *aligned(present)]))

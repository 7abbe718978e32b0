"""Entries of a comparison: models with their own arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from recbole.utils import ModelType

from recbole_llm.core.checkpoints.starts import PRETRAINING
from recbole_llm.core.config import Config
from recbole_llm.core.keys.evaluation import PROTOCOLS, RecBoleEvaluation
from recbole_llm.core.schema import parse_command_line

# Text up to a semicolon outside of quotes; an apostrophe within a word is no quote.
_PART = re.compile(r"""(?:[^;"']|(?<!\w)"[^"]*"|(?<!\w)'[^']*'|["'])+""")
_ARGUMENTS = re.compile(r"(?:^|\s)--")
OWN_FILES = {"output": "result.json", "user_metrics": "users.npz", "checkpoint_dir": "saved"}


@dataclass(frozen=True, eq=False)
class Entry:
    """One model of a comparison, a row of its table."""

    label: str
    own: Mapping[str, str]  # arguments of this model alone, including ``model``
    common: Mapping[str, str]  # arguments of all models, which `own` overrides
    files: tuple[str, ...] = ()  # configuration files

    @property
    def argv(self) -> list[str]:
        """The arguments of its command line."""
        pairs = {**self.common, **self.own}
        return [f"--{key}={value}" for key, value in pairs.items()]

    @cached_property
    def config(self) -> Config:
        """The checked configuration."""
        try:
            return Config(config_file_list=self.files, argv=self.argv)
        except ValueError as error:
            raise ValueError(f"{self.label}: {error}") from error

    @property
    def better(self) -> Any:
        """`max`, or `min` if smaller values of the validation metric are better."""
        return max if self.config["valid_metric_bigger"] else min

    def is_set(self, key: str) -> bool:
        """Whether a key was set, rather than left at its default."""
        return key in self.config.external_config_dict

    def with_own(self, own: Mapping[str, object]) -> Entry:
        """A copy with further arguments of its own."""
        return replace(self, own={**self.own, **{k: str(v) for k, v in own.items()}})


def parse_models(text: str, common: Sequence[str] = (), files: Sequence[str] = ()) -> list[Entry]:
    """Parse entries from ``"SASRec; name: SASRec --item_init=llm; PAD"``.

    Args:
        text: models separated by semicolons; names before a colon and arguments are optional.
        common, files: arguments and configuration files of all models.

    Raises:
        ValueError: no model, or two with the same name.
    """
    shared = parse_command_line(common)
    if "model" in shared:
        raise ValueError(f"model: '{shared['model']}' would be left out; name it in models")
    parts = [part.strip() for part in _PART.findall(text)]
    entries = [_parse(part, shared, files) for part in parts if part]
    labels = [entry.label for entry in entries]
    if not entries:
        raise ValueError('models: name some, such as --models="SASRec; PAD --gamma=0.1"')
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(
            f"models: '{twice[0]}' appears twice; give them names, such as --models="
            f'"one: {twice[0]}; two: {twice[0]}"'
        )
    return entries


def _parse(text: str, common: Mapping[str, str], files: Sequence[str]) -> Entry:
    head = _ARGUMENTS.split(text, maxsplit=1)[0]
    label, colon, _ = head.partition(":")
    spec = text[len(label) + 1 :].strip() if colon else text
    label = " ".join((label if colon else spec).split())
    if not label:
        raise ValueError(f"models: '{text}': write a name before the colon")
    try:
        parts = shlex.split(spec)
        if not parts or parts[0].startswith("--"):
            raise ValueError("names no model; write it as in 'wide: SASRec --hidden_size=128'")
        own = {"model": parts[0], **parse_command_line(parts[1:])}
    except ValueError as error:
        raise ValueError(f"models: '{text}': {error}") from None
    return Entry(label, own, common, tuple(files))


def describe_ignored_keys(entries: Sequence[Entry]) -> list[str]:
    """Keys that a model does not know or does not read, in words."""
    messages = {entry.label: entry.config.unknown_keys() for entry in entries}
    return [f"{label}: {said} (ignored)" for label, said in messages.items() if said]


def check_split(entry: Entry, needed: Collection[str] = ("validation", "test")) -> None:
    """Refuse a split without the parts that a comparison, or a search, evaluates on.

    Raises:
        ValueError: a needed part is empty, or `check_comparable` refuses the entry.
    """
    check_comparable(entry)
    split = RecBoleEvaluation.of(entry.config).eval_args.split
    if split is None or entry.config["benchmark_filename"]:
        return
    if lacking := [part for part in split.lacks() if part in needed]:
        raise ValueError(
            f"eval_args: the split of {entry.label} leaves nothing for {lacking[0]}; give one that "
            f"does, such as --protocol={possible_protocols([entry])}"
        )


def check_comparable(entry: Entry) -> None:
    """Raise ValueError for what a comparison cannot run: a pretraining stage, a run without
    validation, a run to resume, and the names of a single run's files."""
    if entry.config["resume"]:
        raise ValueError(
            "resume: this command resumes its runs by itself; repeat it without --resume"
        )
    for key in OWN_FILES:
        if key in {**entry.common, **entry.own}:
            raise ValueError(
                f"{key}: each run has its files in a folder of its own; name the folder of all of "
                f"them with --output=… of this command, and leave {key} out"
            )
    if entry.config["eval_step"] <= 0:
        raise ValueError(
            f"eval_step: {entry.config['eval_step']} of {entry.label} validates nothing, and the "
            f"best epoch is chosen by validation; set --eval_step=1"
        )
    stage = entry.config["train_stage"]
    if stage in PRETRAINING:
        raise ValueError(
            f"train_stage: {stage} of {entry.label} is without validation; run it and the stages "
            f"after it by recbole-llm run, and name --train_stage=finetune --pre_model_path=… here"
        )


def run_arguments(entry: Entry) -> list[str]:
    """Arguments of a run that shows no progress."""
    return [*file_arguments(entry.files), *entry.argv, "--show_progress=False"]


def file_arguments(files: Sequence[str]) -> list[str]:
    """Configuration files, as an argument."""
    return [f"--config_files={shlex.join(files)}"] if files else []


def possible_protocols(entries: Sequence[Entry]) -> str:
    """The protocols that all entries support; models that read histories take no random split."""
    return "leave-one-out" if any(map(reads_histories, entries)) else " or ".join(PROTOCOLS)


def reads_histories(entry: Entry) -> bool:
    return bool(entry.config["MODEL_TYPE"] == ModelType.SEQUENTIAL)

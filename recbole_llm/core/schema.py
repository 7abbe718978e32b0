"""Command lines and literals, and the keys that RecBole knows."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar

import recbole
import yaml

from recbole_llm.core.lines import is_utf8
from recbole_llm.core.settings import split_to_list
from recbole_llm.core.yaml_files import ConfigLoader

RECBOLE = Path(recbole.__file__).parent
# RecBole's models that read item columns by name, and the key that lists the columns.
ITEM_FEATURES = {
    **dict.fromkeys(("SASRecF", "GRU4RecF", "FDSA"), "selected_features"),
    "S3Rec": "item_attribute",
}
# Columns of a knowledge graph's files, by the keys that name them.
GRAPH = {
    "kg": ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD"),
    "link": ("ITEM_ID_FIELD", "ENTITY_ID_FIELD"),
}
# Keys of RecBole before 1.1, and the keys that replace them.
_RANGES = ("lowest_val", "highest_val", "equal_val", "not_equal_val")
_COUNTS = ("min_user_inter_num", "max_user_inter_num", "min_item_inter_num", "max_item_inter_num")
OUTDATED = {
    **dict.fromkeys(("eval_setting", "group_by_user", "split_ratio", "leave_one_num"), "eval_args"),
    **dict.fromkeys(("neg_sampling", "training_neg_sample_num"), "train_neg_sample_args"),
    **dict.fromkeys(_RANGES, "val_interval"),
    **{key: f"{key[4:8]}_inter_num_interval" for key in _COUNTS},
}
# Keys that no settings class declares: of the machine, and of files that a model starts from.
MACHINE_KEYS = (
    "config_files", "device", "ip", "port", "nproc", "world_size", "offset", "local_rank",
)  # fmt: skip
FILE_KEYS = (
    "pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path", "warm_up",
    "xgb_model",
)  # fmt: skip


def files_of_model(name: str) -> list[Path]:
    """RecBole's YAML files with a model's defaults. Those of XGBoost and LightGBM have lower-case
    names, under which RecBole's own Config does not find them."""
    names = dict.fromkeys((name.lower(), name))
    files = [RECBOLE / "properties" / "model" / f"{name}.yaml" for name in names]
    return [file for file in files if file.is_file()]


def parse_command_line(argv: Iterable[str]) -> dict[str, str]:
    """``["--key=value", "--key", "value", "--verbose"]`` as a dict of strings; later arguments
    override earlier ones.

    Raises:
        ValueError: an argument of another form, or not in UTF-8, or a key without a value.
    """
    if isinstance(argv, str):
        raise ValueError(f"argv: expected a list of --key=value arguments, got {argv!r}")
    pairs: dict[str, str] = {}
    rest = deque(argv)
    if broken := [part for part in rest if not is_utf8(part)]:
        fault = "is not in UTF-8"
        if (encoding := sys.getfilesystemencoding()) != "utf-8":
            fault = f"cannot be read as {encoding}; use a UTF-8 locale, such as LC_ALL=C.UTF-8"
        raise ValueError(f"argument {ascii(broken[0])} {fault}")
    while rest:
        argument = rest.popleft()
        key, separator, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise ValueError(f"argument '{argument}' is not of the form --key=value")
        if not separator:
            value = _next_value(key, rest)
        pairs[key] = value
    return pairs


def _next_value(key: str, rest: deque[str]) -> str:
    if rest and not rest[0].startswith("--"):
        return rest.popleft()
    if key == "verbose":  # the only key that needs no value
        return "True"
    raise ValueError(f"argument '--{key}' has no value; write --{key}=value")


def item_features(model: str, settings: Any) -> list[str]:
    """The item columns that a model reads by name; `settings` is a configuration or a dict."""
    key = ITEM_FEATURES.get(model)
    value = None if key is None else settings[key]
    if key is None or value is None:
        return []
    return [value] if key == "item_attribute" else list(split_to_list(value))


# A shell turns {'rating':3} into {rating:3}, which YAML reads as a key without a value.
_CLOSE_KEY = re.compile(r"([{,]\s*[\w.]+:)(?=\S)")
_HELD_COLON = re.compile(r"""['"]|\[[^]]*:""")  # in a text or in an item of a list


def parse_literal(text: str) -> Any:
    """Parse a Python literal (number, list, dict, None, True …), or a list or mapping of YAML,
    whose names need no quotes (``[Recall, NDCG]``). Any other ``text`` is returned as it is."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return text
    closed = text[0] == "{" and not _HELD_COLON.search(text)
    try:
        return yaml.load(_CLOSE_KEY.sub(r"\1 ", text) if closed else text, _FlowLoader)
    except (yaml.YAMLError, RecursionError):
        return text


class _FlowLoader(ConfigLoader):
    """Reads inner values by `parse_literal`: YAML would read the id 012 as 10, and 12:30 as 750."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _construct_plain(loader: _FlowLoader, node: yaml.ScalarNode) -> Any:
    return node.value if node.style else parse_literal(node.value)


_FlowLoader.add_constructor("tag:yaml.org,2002:str", _construct_plain)


def _plain(value: Any) -> Any:
    """Turn paths, and NumPy numbers and arrays as from sweeps, into plain data; copy dicts, since
    RecBole adds keys to them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else value


def given_settings(config_dict: object) -> dict[str, Any]:
    """A copy of the settings that a caller gives from Python.

    Raises:
        ValueError: they are not a dict.
    """
    if config_dict is not None and not isinstance(config_dict, Mapping):
        raise ValueError(f"config_dict: expected a dict of settings, got {config_dict!r}")
    return dict(config_dict or {})


def parse_values(values: Mapping[str, Any], texts: Collection[str]) -> dict[str, Any]:
    """Parse the values of keys by `parse_literal`. Values of keys in `texts` stay as written: the
    revision 1.10 differs from 1.1, and the data set 2024_01 is not a number."""
    values = {key: _plain(value) for key, value in values.items()}
    parsed = {k: parse_literal(v) if isinstance(v, str) else v for k, v in values.items()}
    written = {k for k, v in parsed.items() if k in texts and not isinstance(v, (str, NoneType))}
    return {key: values[key] if key in written else value for key, value in parsed.items()}


@cache
def recbole_keys() -> frozenset[str]:
    """Every key that RecBole's files declare or its code reads, and those of the command line."""
    keys = {"model", "dataset", *MACHINE_KEYS}
    for file in RECBOLE.rglob("*.yaml"):
        if file.name != "url.yaml":  # its keys are names of data sets
            keys |= _keys_of_file(file)
    return frozenset(keys.union(*_keys_of_code().values()))


@cache
def recbole_readers() -> dict[str, set[str]]:
    """{key: modules of RecBole's models that read it}, without keys that other code of RecBole
    reads or that are in files other than a model's."""
    shared = {key for file in RECBOLE.glob("properties/*.yaml") for key in _keys_of_file(file)}
    for file in RECBOLE.glob("properties/[!m]*/*.yaml"):
        shared |= _keys_of_file(file)
    readers: dict[str, set[str]] = {}
    for module, keys in _keys_of_code().items():
        if module.count(".") < 3 or not module.startswith("recbole.model."):
            shared |= keys
        for key in keys:
            readers.setdefault(key, set()).add(module)
    return {key: modules for key, modules in readers.items() if key not in shared}


@cache
def _keys_of_code() -> dict[str, set[str]]:
    pattern = re.compile(r"config(?:\.get\(|\[)\s*[\"'](\w+)[\"']")
    files = {file.relative_to(RECBOLE.parent): file for file in RECBOLE.rglob("*.py")}
    return {
        ".".join(name.with_suffix("").parts): set(pattern.findall(file.read_text(encoding="utf-8")))
        for name, file in files.items()
    }


def _keys_of_file(file: Path) -> set[str]:
    return set(re.findall(r"^(\w+):", file.read_text(encoding="utf-8"), re.M))


def recbole_modules(model: type) -> set[str]:
    """The modules of RecBole's models that a model class uses, directly or through others."""
    modules: set[str] = set()
    waiting = [base.__module__ for base in model.__mro__]
    while waiting:
        module = waiting.pop()
        if module.startswith("recbole.model.") and module not in modules:
            modules.add(module)
            parts = vars(sys.modules[module]).values()
            waiting += [part.__module__ for part in parts if isinstance(part, type)]
    return modules

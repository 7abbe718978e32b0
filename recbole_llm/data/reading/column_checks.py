"""Checks that a data set's files have the columns that a model reads, and that they are loaded."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole.utils import FeatureType, ModelType

from recbole_llm.core.config import Config
from recbole_llm.core.errors import near_hint
from recbole_llm.core.plugins.specs import spec_of
from recbole_llm.core.schema import GRAPH, ITEM_FEATURES
from recbole_llm.data.reading.files import file_format, read_types
from recbole_llm.data.reading.labels import check_threshold, label_fields
from recbole_llm.data.settings import EngineSettings

Types = Mapping[str, FeatureType]
_KINDS = {"USER_ID_FIELD": "token", "ITEM_ID_FIELD": "token", "TIME_FIELD": "float"}


def check_columns(config: Config, file: Path) -> None:
    """Refuse a file of interactions that lacks what the model reads.

    Raises:
        ValueError: a column is missing, of another type, or not loaded.
    """
    types = read_types(file, *file_format(config))
    _check_needed(config, file, types)
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and config["benchmark_filename"]:
        _check_histories(config, file, types)
    _check_kinds(config, file, types)
    check_threshold(config, file, types)
    if label_fields(config):
        _check_label(config, file, types)


def _check_needed(config: Config, file: Path, types: Mapping[str, str]) -> None:
    """Refuse a file without users or items, or without times if rows are ordered by time."""
    needed = ["USER_ID_FIELD", "ITEM_ID_FIELD"]
    in_order = config["MODEL_TYPE"] == ModelType.SEQUENTIAL or config["eval_args"]["order"] == "TO"
    if in_order and not config["benchmark_filename"]:
        needed.append("TIME_FIELD")
    for key in needed:
        if config[key] not in types:
            other = key == "TIME_FIELD" and config["MODEL_TYPE"] == ModelType.SEQUENTIAL
            way = ", or choose a model that needs no times (AlphaRec, LightGCN, …)" if other else ""
            raise ValueError(
                f"'{file}' has no column '{config[key]}' ({key}), which {config['model']} needs; "
                f"its columns are {', '.join(types)}: name the right one with --{key}=…{way}"
            )
        _check_loaded(config, "inter", key)


def _check_kinds(config: Config, file: Path, types: Mapping[str, str]) -> None:
    for key, kind in _KINDS.items():
        if types.get(config[key], kind) != kind:
            raise ValueError(
                f"{key}: '{config[key]}' of '{file}' is of type {types[config[key]]}, not {kind}; "
                f"name another column, or correct the header"
            )


def _check_histories(config: Config, file: Path, types: Mapping[str, str]) -> None:
    """Refuse ready-made splits without histories for a sequential model."""
    histories = f"{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"
    read = [config["USER_ID_FIELD"], histories, config["ITEM_ID_FIELD"]]
    keys = f'--alias_of_item_id="{[histories]}" --load_col="{{\'inter\': {read}}}"'
    if histories not in types:
        raise ValueError(
            f"'{file}' has no column '{histories}', where ready-made splits of sequential models "
            f"have histories; add it, with {keys}, or leave out benchmark_filename"
        )
    if _is_left_out(config, "inter", histories):
        raise ValueError(
            f"load_col: leaves out the interactions' column '{histories}', where ready-made splits "
            f"have histories; set {keys}"
        )
    if EngineSettings.of(config).train_level == "sequence":
        raise ValueError(
            "train_level: sequence needs the interactions themselves, but ready-made splits have "
            "lists of them; set --train_level=prefix"
        )


def _check_label(config: Config, file: Path, types: Mapping[str, str]) -> None:
    label = config["LABEL_FIELD"]
    if EngineSettings.of(config).interactions == "disk":
        raise ValueError(
            f"interactions: disk keeps only users, items and times, but {config['model']} learns "
            f"labels; set interactions: memory, or draw negatives "
            f"(train_neg_sample_args, and a ranking eval_args.mode)"
        )
    if not config["threshold"] and types.get(label, "float") != "float":
        raise ValueError(
            f"'{file}' has '{label}' (LABEL_FIELD) of type {types[label]}, in which a missing "
            f"value would count as a label; write {label}:float in the header"
        )
    if label not in types and not config["threshold"]:
        floats = [f for f, kind in types.items() if kind == "float" and f != config["TIME_FIELD"]]
        ways = (
            f"name the right one with --LABEL_FIELD=…, or make labels from numbers, with "
            f"--threshold=\"{{'{floats[0]}': …}}\"; with train_neg_sample_args and a ranking "
            f"eval_args.mode (full, uni100) none are needed"
            if floats
            else 'draw negatives, with --eval_args="{mode: uni100}" '
            '--train_neg_sample_args="{distribution: uniform, sample_num: 1}", or name the right '
            "one with --LABEL_FIELD=…"
        )
        raise ValueError(
            f"'{file}' has no column '{label}' (LABEL_FIELD), which {config['model']} learns; its "
            f"columns are {', '.join(types)}: {ways}"
        )
    if not config["threshold"]:
        _check_loaded(config, "inter", "LABEL_FIELD")


def check_item_columns(config: Config, file: Path, features: Sequence[str]) -> None:
    """Refuse a file of items that lacks columns that the model reads by name."""
    model = spec_of(config).stock_name
    key, columns = ITEM_FEATURES[model], read_types(file, *file_format(config))
    for feature in features:
        if feature not in columns:
            raise ValueError(
                f"'{file}' has no column '{feature}', which {model} reads as an item feature; its "
                f"columns are {', '.join(columns)}: name others with --{key}=…"
            )
        if _is_left_out(config, "item", feature):
            raise ValueError(
                f"load_col: leaves out the items' column '{feature}', which {model} reads"
            )
        kind = columns[feature]
        if not kind.startswith("float"):
            continue
        if model == "S3Rec" or (model == "SASRecF" and kind == "float_seq"):
            raise ValueError(f"{key}: '{feature}' is of type {kind}, which {model} cannot read")
        if feature not in config["numerical_features"]:  # RecBole embeds no other numbers
            raise ValueError(
                f"{key}: '{feature}' is of type {kind}, embedded only as a numerical feature; "
                f'set --numerical_features="{[*config["numerical_features"], feature]}"'
            )


def check_number_fields(config: Config, types: Types) -> None:
    """Refuse fields that keys declare to be numbers, if they are not loaded or are no numbers."""
    for key in ("normalize_field", "numerical_features", "discretization"):
        due = "" if key == "normalize_field" else "float"  # RecBole warns of others
        for field in loaded_fields(config, types, key, due):
            lists = key == "numerical_features" and types[field] == FeatureType.FLOAT_SEQ
            if lists and config["model"] == "FwFM":  # whose field numbers skip them
                raise ValueError(
                    f"{key}: '{field}' is of type float_seq, which FwFM cannot read; leave it out"
                )
            if key == "discretization" and field not in config["numerical_features"]:
                raise ValueError(f"{key}: '{field}' is not among the numerical_features; add it")


def check_aliases(config: Config, types: Types) -> None:
    """Refuse aliases of ids that are not loaded or are no tokens."""
    for key in ("alias_of_user_id", "alias_of_item_id"):
        loaded_fields(config, types, key, "token")


def check_preload_ids(config: Config, types: Types, numbered: Container[str]) -> None:
    """Refuse vectors of ``preload_weight`` whose ids are not numbered like users or items."""
    for field in config["preload_weight"] or ():
        if types.get(field) == FeatureType.TOKEN and field not in numbered:
            raise ValueError(
                f"preload_weight: '{field}' does not name users or items; add it to "
                f"alias_of_user_id or alias_of_item_id"
            )


def loaded_fields(config: Config, types: Types, key: str, due: str = "") -> list[str]:
    """The fields that a key names; ValueError if one is not loaded, or its type is not `due`."""
    fields = list(config[key] or ())
    for field in fields:
        if field not in types:
            raise ValueError(
                f"{key}: no field '{field}' is loaded; {near_hint(field, types)}loaded "
                f"are {', '.join(types)} (load_col loads others)"
            )
        if not (kind := types[field].value).startswith(due):
            raise ValueError(f"{key}: '{field}' is of type {kind}, not {due}")
    return fields


def check_not_in_other_files(
    fields: Sequence[str], others: Mapping[str, Any], source: Any, name: str
) -> None:
    """Refuse a field that another file of the data set has too: columns of users and items would
    replace those of interactions in filters and in batches.

    Args:
        others: {field: source} of the other files, as RecBole names them.
        name: name of the data set.
    """
    for field in (field for field in fields if field in others):
        before, kind = (getattr(of, "value", of) for of in (others[field], source))
        raise ValueError(
            f"data set '{name}': '{field}' is a column of the .{before} and of the .{kind} file; "
            f"rename it in one, or load it from one only, by "
            f"--load_col=\"{{'{before}': [...], '{kind}': [...]}}\""
        )


def check_graph_files(config: Config, folder: Path) -> None:
    """Refuse a data set whose knowledge graph is missing or not fully loaded."""
    for kind, keys in GRAPH.items():
        file = folder / f"{config['dataset']}.{kind}"
        if not file.is_file():
            raise ValueError(
                f"'{file}' does not exist; {config['model']} reads a knowledge graph: triples of "
                f"entities (.kg), and the entity of each item (.link)"
            )
        there = read_types(file, *file_format(config))
        for key in keys:
            if config[key] not in there:
                raise ValueError(
                    f"{key}: '{file}' has no column '{config[key]}'; "
                    f"{near_hint(config[key], there)}its columns are {', '.join(there)}"
                )
            _check_loaded(config, kind, key)


def _check_loaded(config: Config, file: str, key: str) -> None:
    if _is_left_out(config, file, config[key]):
        by = "unload_col" if config["load_col"] is None else "load_col"
        raise ValueError(
            f"{by}: leaves out the column '{config[key]}' ({key}) of the .{file} file, which "
            f"{config['model']} needs"
        )


def _is_left_out(config: Config, file: str, column: str) -> bool:
    load_col = config["load_col"]
    if load_col is None:
        return column in (config["unload_col"] or {}).get(file, ())
    names = load_col.get(file, ())
    return names != "*" and column not in names

"""Every check of a configuration that needs no data."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic.fields import FieldInfo

from recbole_llm.core import schema
from recbole_llm.core.errors import did_you_mean, unknown_name_error
from recbole_llm.core.keys.data import RecBoleData
from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.core.keys.run import RunSettings
from recbole_llm.core.keys.stock import StockSettings
from recbole_llm.core.keys.training import RecBoleRun, RecBoleTraining
from recbole_llm.core.like_defaults import check_like_defaults, is_of_recbole
from recbole_llm.core.marks import Mark
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import (
    EncoderSpec,
    FeatureSpec,
    ModelSpec,
    StageSpec,
    resolve,
    resolve_settings,
)
from recbole_llm.core.settings import Settings
from recbole_llm.core.type_names import is_text
from recbole_llm.core.yaml_files import read_yaml

if TYPE_CHECKING:
    from recbole_llm.core.config import Config

RECBOLES = (RecBoleRun, RecBoleTraining, RecBoleEvaluation, RecBoleData)


def settings_classes(config: Config, spec: ModelSpec) -> list[type[Settings]]:
    """Every settings class that a run checks: those of the model and of RecBole, those that this
    package and plugins have for every run, and those of its encoder, features and stages.

    Raises:
        ValueError: an unknown encoder, feature or stage.
    """
    registry = get_registry()
    own = resolve_settings(spec.settings or StockSettings, f"model '{spec.name}'")
    encoder = registry.find(EncoderSpec, str(config["encoder"] or "sentence_transformers"))
    shared, others = registry.shared_settings(), settings_of_parts(encoder, *parts_of(spec))
    return [own, *RECBOLES, RunSettings, *dict.fromkeys((*shared, *others))]


def parts_of(spec: ModelSpec) -> list[FeatureSpec | StageSpec]:
    """The features and stages that a model names.

    Raises:
        ValueError: an unknown feature or stage.
    """
    registry = get_registry()
    try:
        features = [registry.find(FeatureSpec, name) for name in spec.reads]
        return [*features, *(registry.find(StageSpec, name) for name in spec.stages)]
    except ValueError as error:
        raise ValueError(f"model '{spec.name}': {error}") from None


def settings_of_parts(*parts: EncoderSpec | FeatureSpec | StageSpec) -> list[type[Settings]]:
    """The settings classes of the parts that have one."""
    own = [part for part in parts if part.settings is not None]
    return [resolve_settings(part.settings, f"{part.kind} '{part.name}'") for part in own]


def declared_keys(config: Config, spec: ModelSpec) -> set[str]:
    """The keys of all `settings_classes`."""
    return {key for settings in settings_classes(config, spec) for key in settings.model_fields}


def check_searched(what: str, keys: Iterable[str], config: Config, spec: ModelSpec) -> None:
    """Raise ValueError, with similar keys, if no part of a run has one of the keys to search."""
    known = declared_keys(config, spec) | set(config.internal_config_dict)
    for key in keys:
        if key not in known:
            raise unknown_name_error(f"{what}: the key", key, sorted(known))


def unknown_keys(config: Config, spec: ModelSpec) -> dict[str, str]:
    """{given key that nothing reads: a hint, such as near matches, or an empty string}."""
    known = schema.recbole_keys() | declared_keys(config, spec) | set(config.internal_config_dict)
    return _unknown(config.external_config_dict, known)


def _unknown(keys: Iterable[str], known: Collection[str]) -> dict[str, str]:
    return {
        key: f"now '{schema.OUTDATED[key]}'" if key in schema.OUTDATED else did_you_mean(key, known)
        for key in keys
        if key not in known
    }


def ignored_keys(config: Config) -> list[str]:
    """Messages on keys that are not read, given or in the YAML file of a plugin's model."""
    spec = config.spec
    said = _named_unknown(unknown_keys(config, spec))
    if spec.config is not None and spec.settings is not None:  # else the file declares its keys
        known = schema.recbole_keys() | declared_keys(config, spec)
        said += _named_unknown(_unknown(read_yaml(spec.config), known), f"'{spec.config}': ")
    return [*said, *unread_keys(config, spec).values()]


def _named_unknown(near: Mapping[str, str], where: str = "") -> list[str]:
    named = "; ".join(f"'{key}'{', ' if like else ''}{like}" for key, like in near.items())
    return [f"{where}unknown config key{'s' if len(near) > 1 else ''}: {named}"] if near else []


def unread_keys(config: Config, spec: ModelSpec) -> dict[str, str]:
    """{given key that only another model or other values of keys would read: message}."""
    said = _keys_of_other_models(config, spec)
    said |= _keys_of_other_encoders(config, spec) | _keys_of_other_choices(config, spec)
    stored = config.stored.items()  # of a checkpoint: its run has warned
    given = {k: v for k, v in config.external_config_dict.items() if (k, v) not in stored}
    return {key: said[key] for key, value in given.items() if key in said and value is not None}


def _keys_of_other_models(config: Config, spec: ModelSpec) -> dict[str, str]:
    foreign = not config.model_class.__module__.startswith(("recbole.", "recbole_llm."))
    own = get_registry().specs(ModelSpec).get(config.model, spec)
    if foreign and (own.settings is None or config.model != spec.name):
        return {}  # the keys that it reads are not declared
    modules = schema.recbole_modules(config.model_class)
    classes = (c for c in settings_classes(config, spec) if c is not StockSettings)
    read = {key for c in classes for key in c.model_fields} | set(config.internal_config_dict)
    others = (key for key, readers in schema.recbole_readers().items() if not readers & modules)
    return {key: f"'{key}' is not read by {config.model}" for key in others if key not in read}


def _keys_of_other_choices(config: Config, spec: ModelSpec) -> dict[str, str]:
    classes = settings_classes(config, spec)
    unread = {key: where for s in classes for key, where in s.unread(config).items()}
    return {key: _read_with(key, other, values, config) for key, (other, values) in unread.items()}


def _read_with(key: str, other: str, values: list[str], config: Config) -> str:
    return f"'{key}' is read only with --{other}={' or '.join(values)}, not with {config[other]}"


def _keys_of_other_encoders(config: Config, spec: ModelSpec) -> dict[str, str]:
    read = declared_keys(config, spec)
    other: dict[str, list[str]] = {}
    encoders = get_registry().specs(EncoderSpec)
    for name, kind in encoders.items():
        with suppress(Exception):  # a plugin that cannot run
            fields = resolve(kind.settings).model_fields if kind.settings else ()
            for key in (key for key in fields if key not in read):
                other.setdefault(key, []).append(name)
    said = {key: _read_with(key, "encoder", names, config) for key, names in other.items()}
    own = encoders.get(config["encoder"])
    unread = own.unread if own else ()
    return said | {key: f"'{key}' is not read with --encoder={config['encoder']}" for key in unread}


def key_marks() -> defaultdict[str, Mark]:
    """The marks of every key of any model; unknown keys have no marks."""
    marks = defaultdict(lambda: Mark(0), dict.fromkeys(schema.FILE_KEYS, Mark.LOCAL))
    marks.update(dict.fromkeys(schema.MACHINE_KEYS, Mark.LOCAL | Mark.NO_EFFECT_ON_RESULTS))
    for key, field in _all_keys():
        for mark in (m for m in field.metadata if isinstance(m, Mark)):
            marks[key] |= mark
    return marks


def text_keys() -> set[str]:
    """The keys of any model whose values are texts: names, folders, revisions."""
    texts = {key for key, field in _all_keys() if is_text(field)}
    return texts | {"model", "dataset", *schema.FILE_KEYS}


def _all_keys() -> Iterator[tuple[str, FieldInfo]]:
    registry = get_registry()
    specs = (registered.spec for _, registered in registry.all_registered())
    named = dict.fromkeys(spec.settings for spec in specs if spec.settings)  # in a fixed order
    for settings in (*RECBOLES, RunSettings, *registry.settings, *named):
        with suppress(Exception):  # a plugin that cannot run
            yield from resolve_settings(settings, "").model_fields.items()


def check_settings(config: Config, spec: ModelSpec) -> dict[str, Any]:
    """Refuse values that cannot work.

    Returns:
        the lists that single values stand for, by key; RecBole would read a name letter by letter.

    Raises:
        ValueError: in one line: the key, its allowed values, and the given one.
    """
    classes = settings_classes(config, spec)
    given = config.external_config_dict
    _check_finite(given)
    lists = check_like_defaults(
        given, config.internal_config_dict, declared_keys(config, spec), is_of_recbole(config)
    )
    built = [settings.of(config) for settings in classes]
    for settings in built:
        settings.check(config)
        what = f"search_space of {type(settings).__name__}"
        check_searched(what, settings.searched(config), config, spec)
        lists |= {key: value for key, value in settings if isinstance(value, list)}
    _check_processes(given)
    return {k: v for k, v in lists.items() if k in config and not isinstance(config[k], list)}


def _check_finite(values: Mapping[str, Any], inside: str = "") -> None:
    for key, value in values.items():
        name = f"{inside}{key}"
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, float) and not math.isfinite(part):
                raise ValueError(f"{name}: expected a finite number, got {value!r}")
        if isinstance(value, dict):
            _check_finite(value, f"{name}: ")


def _check_processes(given: Mapping[str, Any]) -> None:
    asked = [key for key in ("nproc", "world_size") if given.get(key) not in (None, -1, 0, 1)]
    asked += given.keys() & {"local_rank"}
    if asked:
        raise ValueError(
            f"{asked[0]}: this command does not start processes or set their ranks; start it with "
            f"torchrun --nproc_per_node=N -m recbole_llm run …"
        )

"""Lists of all models, encoders, features, stages and plugins; and the keys of one model."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import click

from recbole_llm.core.checks import RECBOLES, parts_of, settings_of_parts
from recbole_llm.core.keys.run import RunSettings
from recbole_llm.core.keys.stock import StockSettings
from recbole_llm.core.lines import aligned
from recbole_llm.core.model_traits import learns_labels
from recbole_llm.core.plugins.loading import (
    Plugins,
    find_model,
    get_model,
    get_plugins,
    get_registry,
)
from recbole_llm.core.plugins.registry import (
    EncoderSpec,
    FeatureSpec,
    ModelSpec,
    StageSpec,
    resolve_settings,
)
from recbole_llm.core.plugins.specs import completed
from recbole_llm.core.plugins.stock import recbole_models
from recbole_llm.core.schema import files_of_model
from recbole_llm.core.settings import Between, KeyInfo, Settings, key_infos
from recbole_llm.core.yaml_files import read_yaml
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.tasks.compare.space import check_form, offered_space

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_llm.core.config import Config

_WIDTH = 98


def list_all() -> Iterator[str]:
    """Lines that name models, encoders, features, stages and plugins, and where each comes from."""
    plugins = get_plugins()
    registry = plugins.registry
    rows = [("models", "task", "reads", "paper", "idea")]
    for name, spec in sorted(registry.specs(ModelSpec).items()):
        reads = ", ".join(spec.reads) or "-"
        rows.append((f"  {name}", _find_task(spec), reads, spec.paper or "-", spec.summary))
    first, *others = aligned(rows)
    yield click.style(first, bold=True)
    yield from others
    yield "  recbole-llm models NAME lists a model's keys"
    yield from _list_recbole_models(set(registry.specs(ModelSpec)))
    for kind in (EncoderSpec, FeatureSpec, StageSpec):
        yield click.style(f"{kind.kind}s", bold=True)
        for name, part in sorted(registry.tables[kind].items()):
            missing = part.spec.missing() if kind is EncoderSpec else ()
            about = f"needs {', '.join(missing)}" if missing else part.spec.summary
            yield f"  {name:24} {part.plugin:32} {about}"
    yield click.style("plugins", bold=True)
    for name in sorted(name for name, _ in plugins.manager.list_name_plugin()):
        yield from _wrap(": ".join(filter(None, (name, _list_additions(plugins, name)))))
    for name, reason in plugins.failed.items():
        yield click.style(f"  {name}: left out: {reason}", fg="red")


def _find_task(spec: ModelSpec) -> str:
    """Find the task of a model from its class; "?" if the class cannot be imported."""
    model = _load_class(spec)
    if model is None:
        return "?"
    return "clicks" if learns_labels(model) else str(model.type.name).lower()


def _load_class(spec: ModelSpec) -> type[AbstractRecommender] | None:
    try:
        return get_model(spec.name)
    except Exception:  # whatever its module raises
        return None


def _list_recbole_models(ours: set[str]) -> Iterator[str]:
    """List RecBole's own models by task, read from the names of its folders."""
    yield click.style("RecBole's models", bold=True)
    by_task: dict[str, list[str]] = {}
    for name, module in recbole_models().items():
        if name not in ours:
            by_task.setdefault(module.split(".")[2].partition("_")[0], []).append(name)
    for task, names in by_task.items():
        yield from _wrap(f"{task}: {', '.join(sorted(names))}")


def _list_additions(plugins: Plugins, plugin: str) -> str:
    """List what a plugin registers and implements: ``model Mine; metrics A, B; hook on_result``."""
    by_kind: dict[str, list[str]] = {}
    for name, registered in plugins.registry.all_registered():
        if registered.plugin == plugin:
            by_kind.setdefault(registered.spec.kind, []).append(name)
    if metrics := [name for name, of in plugins.registry.metrics.items() if of == plugin]:
        by_kind["metric"] = metrics
    callers = plugins.manager.get_hookcallers(plugins.manager.get_plugin(plugin)) or ()
    called = sorted(caller.name for caller in callers)
    if hooks := [name for name in called if not name.startswith("register_")]:
        by_kind["hook"] = hooks
    parts = [f"{kind}{'s' if len(of) > 1 else ''} {', '.join(of)}" for kind, of in by_kind.items()]
    return "; ".join([*parts, *(["settings"] if "register_settings" in called else [])])


def _wrap(line: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(line, _WIDTH, initial_indent=indent, subsequent_indent="    ")


def describe(name: str) -> Iterator[str]:
    """Lines that give the keys of a model, or of an encoder, with defaults, types and meanings.

    Raises:
        ValueError: an unknown name.
    """
    encoders = get_registry().specs(EncoderSpec)
    if name in encoders and name not in get_registry().specs(ModelSpec):
        yield from _describe_encoder(encoders[name])
        return
    spec = find_model(name)
    if (model := _load_class(spec)) is not None:
        spec = completed(spec, model)
    about = ". ".join(filter(None, (spec.summary, spec.paper)))
    yield click.style(name, bold=True) + (f": {about}" if about else "")
    yield ""
    yield from _format_keys(_read_keys(spec))
    yield ""
    yield click.style("searched by tune", bold=True)
    yield from _list_searched_keys(spec)
    yield ""
    yield click.style("keys of every run", bold=True) + (
        ", which properties/*.yaml and RecBole's documentation explain"
    )
    yield from _list_shared_keys(spec)


def _describe_encoder(spec: EncoderSpec) -> Iterator[str]:
    """List the encoder's own keys, and the keys of all encoders that this one reads."""
    yield click.style(f"--encoder={spec.name}", bold=True) + f": {spec.summary}"
    yield ""
    parts: list[type[Settings]] = [*settings_of_parts(spec), EncoderSettings]
    for settings in parts:
        read = [info for info in key_infos(settings) if info.key not in (*spec.unread, "encoder")]
        yield from _format_keys(read)


def _list_searched_keys(spec: ModelSpec) -> Iterator[str]:
    """List the keys that `tune` searches under the defaults, with their ranges."""
    own = {info.key: info.default for info in _read_keys(spec)}
    about = {"model": spec.name, "MODEL_TYPE": getattr(_load_class(spec), "type", None)}
    config = cast("Config", defaultdict(lambda: None, {**own, **about}))
    for key, where in offered_space(config, spec).items():
        check_form(spec.name, key, where)
        ends = f"{where.low:g} to {where.high:g}" if isinstance(where, Between) else ""
        yield f"  {key}: {ends or ', '.join(map(str, where))}"


def _list_shared_keys(spec: ModelSpec) -> Iterator[str]:
    """List the names of all other keys, by the part that reads them."""
    own = {info.key for info in _read_keys(spec)}
    parts: list[type[Settings]] = [*RECBOLES, RunSettings, *get_registry().shared_settings()]
    for settings in parts:
        keys = sorted(set(settings.model_fields) - own)
        yield f"  {(settings.__doc__ or settings.__name__).partition(chr(10))[0]}"
        yield from textwrap.indent(textwrap.fill(", ".join(keys), _WIDTH), "    ").splitlines()


def _read_keys(spec: ModelSpec) -> Iterable[KeyInfo]:
    """Read the model's own keys, and those of the features and stages that it names."""
    given = read_yaml(spec.config) if spec.config is not None else {}
    shared = get_registry().shared_settings()
    others = [own for own in settings_of_parts(*parts_of(spec)) if own not in shared]
    found: dict[str, KeyInfo] = {}
    for info in (*_read_own_keys(spec), *(i for settings in others for i in key_infos(settings))):
        found.setdefault(info.key, info)
    return [replace(info, default=given.get(info.key, info.default)) for info in found.values()]


def _read_own_keys(spec: ModelSpec) -> Iterable[KeyInfo]:
    if spec.settings is not None:
        return key_infos(resolve_settings(spec.settings, f"model '{spec.name}'"))
    shared = {info.key: info for info in key_infos(StockSettings)}
    values = dict(
        pair for file in files_of_model(spec.stock_name) for pair in read_yaml(file).items()
    )
    unknown = KeyInfo("", "", None, "see RecBole's documentation")
    return [replace(shared.get(key, unknown), key=key, default=v) for key, v in values.items()]


def _format_keys(keys: Iterable[KeyInfo]) -> Iterator[str]:
    for info in keys:
        kind = f" ({info.type})" if info.type else ""
        yield f"--{info.key}={info.default}{kind}"
        yield from _wrap(info.meaning, "    ")

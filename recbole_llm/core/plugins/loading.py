"""Finding plugins, loading each on its own, and looking models up by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from logging import getLogger
from pkgutil import iter_modules
from typing import Any

import pluggy

from recbole_llm import hookspecs
from recbole_llm.core.errors import (
    missing_packages_named,
    named_error,
    near_hint,
    one_line,
    place_of,
    unknown_name_error,
)
from recbole_llm.core.plugins.registry import (
    PACKAGE,
    PROPERTIES,
    EncoderSpec,
    ModelSpec,
    Registry,
    Spec,
    resolve,
    resolve_settings,
)
from recbole_llm.core.plugins.spec_fields import check_spec
from recbole_llm.core.plugins.stock import recbole_models, stock_spec

ENTRY_POINT_GROUP = "recbole_llm"
_SPEC_HOOKS = ("register_models", "register_encoders", "register_features", "register_stages")
STOCK = "recbole_llm.models.stock"
_WAYS_OUT = "`recbole-llm models` lists all; a model of your own needs --plugins=FILE.py"
PARTS = (
    "recbole_llm.data.settings",
    "recbole_llm.evaluation.settings",
    "recbole_llm.features",
    "recbole_llm.features.encoders",
    "recbole_llm.offline",
)


@dataclass
class Plugins:
    """The plugin manager, what the plugins registered, and those that failed, with the reason."""

    manager: pluggy.PluginManager
    registry: Registry = field(default_factory=Registry)
    failed: dict[str, str] = field(default_factory=dict)
    named_metrics: list[tuple[str, str]] = field(default_factory=list)  # (plugin, target)
    failed_metrics: list[str] = field(default_factory=list)  # why each was left out
    of_model: str | None = None  # the plugin whose model was looked up last

    def register(self, plugin: object, name: str) -> None:
        """Register a plugin, or leave everything as it was and raise ValueError.

        Raises:
            ValueError: a hook that does not exist, a duplicate name, a failing registration.
        """
        if isinstance(plugin, type):
            raise ValueError(f"plugin '{name}' is a class; name an instance of it, or a module")
        self.manager.register(plugin, name)
        try:
            hooks = self._hooks(plugin, name)
            settings: list[str | type] = _registered_by(hooks, "register_settings")
            metrics: list[str | type] = _registered_by(hooks, "register_metrics")
            specs: list[Spec] = _registered_by(hooks, *_SPEC_HOOKS)
            for spec in specs:
                check_spec(spec, name)
            self.registry.check_names(specs, origin=name)
            _check_stock(specs, name)
            for own_settings in settings if name not in built_in() else ():
                resolve_settings(own_settings, f"plugin '{name}'")  # every run checks them
            _register_metrics([metric for metric in metrics if not isinstance(metric, str)])
        except BaseException:
            self.manager.unregister(plugin)
            raise
        self.registry.add(specs, origin=name)
        self.registry.settings.update(dict.fromkeys(settings, name))
        self.registry.metrics.update({_metric_name(metric): name for metric in metrics})
        self.named_metrics += [(name, metric) for metric in metrics if isinstance(metric, str)]

    def import_metrics(self) -> None:
        """Import the metrics that were registered by name, before a run looks up its own. A broken
        metric is logged and recorded, and the others are still imported."""
        named, self.named_metrics = self.named_metrics, []
        for plugin, target in named:
            try:
                _register_metrics([resolve(target, "it")])
            except Exception as error:
                reason = str(error) if isinstance(error, ValueError) else named_error(error)
                reason += place_of(error, target.partition(":")[0])
                self.failed_metrics.append(
                    f"metric '{_metric_name(target)}' of plugin '{plugin}' was left out: "
                    f"{one_line(reason, 500)}"
                )
                getLogger("recbole_llm").warning(self.failed_metrics[-1])

    def _hooks(self, plugin: object, name: str) -> dict[str, Callable[..., object]]:
        """The hooks that a plugin implements, by name; ValueError for one that does not exist."""
        known = sorted(n for n, hook in vars(self.manager.hook).items() if hook.has_spec())
        callers = self.manager.get_hookcallers(plugin) or ()
        made = [(hook.name, impl) for hook in callers for impl in hook.get_hookimpls()]
        own = {hook: impl.function for hook, impl in made if impl.plugin is plugin}
        if not own:
            raise ValueError(
                f"plugin '{name}' implements no hook: put @hookimpl before its functions; known "
                f"hooks: {', '.join(known)}"
            )
        for hook in sorted(own.keys() - known):
            raise ValueError(
                f"plugin '{name}' implements the unknown hook '{hook}'; "
                f"{near_hint(hook, known)}known hooks: {', '.join(known)}"
            )
        return own


def _registered_by(hooks: Mapping[str, Callable[..., object]], *names: str) -> list[Any]:
    """The arguments with which a plugin's hooks of these names call ``register``."""
    registered: list[Any] = []
    for name in names:
        if name in hooks:
            hooks[name](registered.append)
    return registered


def _check_stock(specs: Sequence[Spec], origin: str) -> None:
    """Refuse names of RecBole's models, in any case, except for this package's own versions of
    them."""
    if origin == STOCK:
        return
    known = {name.lower(): name for name in recbole_models()}
    for name in (spec.name for spec in specs if isinstance(spec, ModelSpec)):
        if stock := known.get(name.lower()):
            spelt = "" if stock == name else f", '{stock}'"
            raise ValueError(
                f"model '{name}' of plugin '{origin}' is one of RecBole's{spelt}; rename it"
            )


def build_plugins() -> Plugins:
    """Register the built-in plugins, by the same hooks as others, then the installed plugins in
    order of name. A broken installed plugin is logged and recorded; the others are still loaded."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    for module in built_in():
        plugins.register(import_module(module), module)
    for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
        try:
            plugins.register(entry_point.load(), entry_point.name)
        except (Exception, SystemExit) as error:
            reason = named_error(error) + place_of(error, entry_point.module)
            plugins.failed[entry_point.name] = reason
            getLogger("recbole_llm").error(
                "plugin '%s' (%s) was left out: %s", entry_point.name, entry_point.value, reason
            )
    return plugins


def built_in() -> list[str]:
    """This package's own plugins: its parts, and each folder of ``models/``."""
    found = iter_modules([str(PACKAGE / "models")], "recbole_llm.models.")
    return [*PARTS, *sorted(module.name for module in found if module.ispkg)]


@cache
def get_plugins() -> Plugins:
    """The plugins of this process, loaded on first use."""
    return build_plugins()


def get_plugin_manager() -> pluggy.PluginManager:
    """The pluggy manager: ``get_plugin_manager().hook.on_result(...)``."""
    return get_plugins().manager


def get_registry() -> Registry:
    """The models, encoders, features and stages that are known in this process."""
    return get_plugins().registry


def list_models() -> list[str]:
    """Names of the models that plugins registered, the built-in ones among them."""
    return sorted(get_registry().specs(ModelSpec))


def list_encoders() -> list[str]:
    """Names of the encoder kinds."""
    return sorted(get_registry().specs(EncoderSpec))


def find_model(name: str) -> ModelSpec:
    """The spec of a registered or a stock RecBole model.

    Raises:
        ValueError: unknown name; the message lists near matches and plugins that failed to load.
    """
    plugins, stock = get_plugins(), recbole_models()
    models = plugins.registry.specs(ModelSpec)
    if name in models:
        return models[name]
    if name in stock:
        return stock_spec(name)
    known = {*models, *stock}
    broken = "".join(f"; plugin '{p}' was left out ({why})" for p, why in plugins.failed.items())
    raise unknown_name_error("model", name, sorted(known), _WAYS_OUT + broken)


def get_model(name: str) -> type[Any]:
    """The class of a registered or stock model, with the workarounds for RecBole applied."""
    from recbole_llm.core import compat

    spec = find_model(name)
    compat.apply()
    with missing_packages_named(name), compat.anomaly_detection_kept():
        plugin = get_registry().plugin_of(ModelSpec, name)
        get_plugins().of_model = plugin
        of = f" of plugin '{plugin}'" if plugin else ""
        cls: type[Any] = resolve(spec.model, f"model '{name}'{of}")
    if not (isinstance(cls, type) and hasattr(cls, "type")):  # RecBole's ModelType
        raise ValueError(f"model '{name}'{of}: {cls!r} is no class of a model (docs/plugins.md)")
    return cls


def default_config_files(name: str) -> list[str]:
    """YAML files with the defaults of a registered model, for RecBole's ``config_file_list``."""
    spec = find_model(name)
    return [str(f) for f in (*sorted(PROPERTIES.glob("*.yaml")), spec.config) if f]


def _metric_name(metric: str | type) -> str:
    return metric.rpartition(":")[2] if isinstance(metric, str) else metric.__name__


def _register_metrics(classes: Sequence[type[Any]]) -> None:
    if classes:
        from recbole_llm.core.compat import register_metrics  # it imports NumPy

        register_metrics(classes)

"""Which plugin an error comes from."""

from __future__ import annotations

from importlib.metadata import entry_points, packages_distributions
from itertools import takewhile
from traceback import walk_tb
from types import ModuleType

from recbole_llm.core.errors import first_names
from recbole_llm.core.plugins.loading import ENTRY_POINT_GROUP, get_plugins

_OURS = "recbole_llm"


def plugin_behind(error: BaseException) -> str | None:
    """The plugin whose code the error comes from; None where it is this package's or no plugin's.

    Libraries are skipped: who called them counts.
    """
    if not get_plugins.cache_info().currsize:  # none is loaded
        return None
    frames = reversed(list(walk_tb(error.__traceback__)))
    packages = (_package(str(frame.f_globals.get("__name__"))) for frame, _ in frames)
    deeper = list(takewhile(lambda package: package != _OURS, packages))
    owners = packages_of_plugins() if deeper else {}  # which takes a moment
    return next((owners[package] for package in deeper if package in owners), None)


def loaded_plugins_clause() -> str:
    """`` with plugin 'acme'`` where others' are loaded: what they gave this package's code may be
    odd, but which of them gave it is not known. That of the run's model is named alone."""
    if not get_plugins.cache_info().currsize:
        return ""
    names = (name for name, _ in get_plugins().manager.list_name_plugin())
    others = [name for name in names if _package(name) != _OURS]
    named = [name for name in others if name == get_plugins().of_model] or others
    return f" with plugin{'s' if len(named) > 1 else ''} {first_names(named)}" if named else ""


def packages_of_plugins() -> dict[str, str]:
    """The plugins by top-level package: their own, and all that were installed with them."""
    manager, installed = get_plugins().manager, packages_distributions()
    owners = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.dist is not None and manager.has_plugin(point.name):
            found = [p for p, names in installed.items() if point.dist.name in names]
            owners.update(dict.fromkeys(found, point.name))
    for name, plugin in manager.list_name_plugin():
        of_object = getattr(plugin, "__module__", "")
        module = plugin.__name__ if isinstance(plugin, ModuleType) else of_object
        owners[_package(module)] = name
    return owners


def _package(module: str) -> str:
    return module.partition(".")[0]

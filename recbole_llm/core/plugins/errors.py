"""Which plugin an error comes from."""

from __future__ import annotations

from importlib.metadata import entry_points, packages_distributions
from itertools import takewhile
from traceback import walk_tb
from types import ModuleType

from recbole_llm.core.errors import first_names, place_of
from recbole_llm.core.plugins.loading import ENTRY_POINT_GROUP, get_plugins

_OURS = "recbole_llm"


def plugin_behind(error: BaseException) -> str | None:
    """The plugin whose code the error comes from; None for this package's code or no plugin's.

    Frames of libraries are skipped: the code that called the library counts.
    """
    found = _deepest_of_plugin(error)
    return found[0] if found else None


def place_in_plugin(error: BaseException) -> str:
    """`` (acme_model.py, line 12)``: where in the plugin the error comes from; "" if in none."""
    found = _deepest_of_plugin(error)
    return place_of(error, found[1]) if found else ""


def _deepest_of_plugin(error: BaseException) -> tuple[str, str] | None:
    """The plugin, and its package."""
    if not get_plugins.cache_info().currsize:  # no plugins are loaded
        return None
    frames = reversed([frame for frame, _ in walk_tb(error.__traceback__)])
    packages = (_package(str(frame.f_globals.get("__name__"))) for frame in frames)
    deeper = list(takewhile(lambda package: package != _OURS, packages))
    owners = packages_of_plugins() if deeper else {}  # slow, so only if needed
    return next(((owners[package], package) for package in deeper if package in owners), None)


def loaded_plugins_clause() -> str:
    """`` with plugin 'acme'`` if foreign plugins are loaded, since odd input to this package's code
    may come from any of them; else "". The plugin of the run's model is named alone."""
    if not get_plugins.cache_info().currsize:
        return ""
    names = (name for name, _ in get_plugins().manager.list_name_plugin())
    others = [name for name in names if _package(name) != _OURS]
    named = [name for name in others if name == get_plugins().of_model] or others
    return f" with plugin{'s' if len(named) > 1 else ''} {first_names(named)}" if named else ""


def packages_of_plugins() -> dict[str, str]:
    """{top-level package: plugin}: each plugin's own package, and others of its distribution."""
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

"""Which plugin an error comes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points, packages_distributions
from itertools import takewhile
from traceback import walk_tb
from types import ModuleType
from typing import TYPE_CHECKING

from recbole_llm.core.plugins import ENTRY_POINT_GROUP, get_plugins

if TYPE_CHECKING:
    from recbole_llm.core.config import Config

_OURS = "recbole_llm"
_WITH = "with "  # begins a note of `parts_noted`


def plugin_behind(error: BaseException) -> str | None:
    """The plugin whose code the error comes from; None where it is this package's or no plugin's.

    Libraries are skipped: who called them counts.
    """
    if not get_plugins.cache_info().currsize:  # none is loaded
        return None
    frames = reversed(list(walk_tb(error.__traceback__)))
    packages = (_package(str(frame.f_globals.get("__name__"))) for frame, _ in frames)
    deeper = list(takewhile(lambda package: package != _OURS, packages))
    owners = _owners() if deeper else {}  # reads what is installed, which takes a moment
    return next((owners[package] for package in deeper if package in owners), None)


@contextmanager
def parts_noted(config: Config) -> Iterator[None]:
    """Within it, an error has a note of the model, encoder, features and stages that plugins
    brought; for where the code that fails is this package's, since theirs gave it something odd."""
    try:
        yield
    except Exception as error:
        if parts := _of_plugins(config):
            error.add_note(f"{_WITH}{', '.join(parts)}")
        raise


def parts_behind(error: BaseException) -> str:
    """What `parts_noted` noted: ``model 'Mine' of plugin 'acme'``; "" for nothing."""
    notes = getattr(error, "__notes__", ())
    return next((note.removeprefix(_WITH) for note in notes if note.startswith(_WITH)), "")


def _of_plugins(config: Config) -> list[str]:
    spec, origins = config.spec, get_plugins().registry.origins
    named = [("model", spec.name), ("encoder", config["encoder"])]
    named += [("feature", name) for name in spec.reads]
    named += [("stage", name) for name in spec.stages]
    found = {(kind, name): origins.get(f"{kind} {name}", _OURS) for kind, name in named}
    return [
        f"{kind} '{name}' of plugin '{plugin}'"
        for (kind, name), plugin in found.items()
        if _package(plugin) != _OURS
    ]


def _owners() -> dict[str, str]:
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

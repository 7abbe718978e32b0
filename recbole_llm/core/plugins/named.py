"""Plugins that the key `plugins` names: files and modules without an entry point."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_llm.core import compat
from recbole_llm.core.digest import file_digest
from recbole_llm.core.errors import missing_file_error, named_error, place_of
from recbole_llm.core.files import expanded
from recbole_llm.core.plugins import loading
from recbole_llm.core.schema import given_settings, parse_command_line, parse_values
from recbole_llm.core.settings import split_to_list
from recbole_llm.core.yaml_files import files_given, read_yaml

_imported: dict[str, str] = {}  # {module: digest of its file when it was imported}


def load_plugins(
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
) -> None:
    """Register the plugins that a configuration names, each once per process. Call it before the
    rest of the configuration is read, since the known names depend on plugins.

    Raises:
        ValueError: settings that are not a dict; or, in one line, a plugin that cannot be imported
            or registered.
    """
    files = [read_yaml(file) for file in files_given(config_file_list)]
    own = given_settings(config_dict)
    given = [s for s in (*files, own, parse_command_line(argv)) if "plugins" in s]
    named = parse_values(given[-1], ())["plugins"] if given else None
    for name in split_to_list(named) or ():
        _load(str(name))


def _load(name: str) -> None:
    compat.apply()  # a file may import RecBole
    known = set(sys.modules)
    try:
        module = _module_of_file(name) if name.endswith(".py") else import_module(name)
        loaded = loading.get_plugins()
        if not loaded.manager.is_registered(module):
            loaded.register(module, module.__name__)
    except (Exception, SystemExit) as error:
        for module_name in {Path(name).stem, name} - known:  # so that a corrected one is read again
            sys.modules.pop(module_name, None)
        reason = str(error) if isinstance(error, ValueError) else named_error(error)
        reason += place_of(error, Path(name).stem)
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            reason = "there is no such module; a file ends in .py, and commas separate plugins"
        raise ValueError(f"plugins: '{name}': {reason}") from error


def _module_of_file(name: str) -> ModuleType:
    """Import a file as a module that this process can look up by its name from then on."""
    file = expanded(name).resolve()
    if not file.is_file():
        raise missing_file_error("the file", name, "*.py")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # last, so that it hides no other module
    invalidate_caches()  # the file may be new
    spec = find_spec(file.stem)
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != file:
        of = "" if spec is None else f" ({spec.origin})"
        raise ValueError(f"there is another module '{file.stem}'{of}; rename the file")
    now = file_digest(file)
    if file.stem in sys.modules and _imported.get(file.stem, now) != now:
        getLogger("recbole_llm").warning(
            f"plugins: '{name}' has changed since this process imported it, and the old version "
            f"stays in use; restart Python to load the new one"
        )
    _imported[file.stem] = now
    return import_module(file.stem)

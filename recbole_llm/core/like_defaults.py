"""Checks of the keys that no settings class declares: most keys of RecBole's models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from recbole_llm.core.errors import decimal_comma_hint, named_error
from recbole_llm.core.schema import files_of_model
from recbole_llm.core.settings import split_to_list
from recbole_llm.core.yaml_files import read_yaml

if TYPE_CHECKING:
    from recbole_llm.core.config import Config

_NUMBER = (int, float)
_SIZES = ("_size", "_dim", "dimension", "_size_list")
_RECBOLES = ("recbole.", "recbole_llm.models.stock.")  # its own, and those corrected here
# Widths of hidden layers: without any, MacridVAE, NGCF, DiffRec and LDiffRec are linear.
_MAY_BE_EMPTY = {"encoder_hidden_size", "hidden_size_list", "dims_dnn"}


def is_of_recbole(config: Config) -> bool:
    """Whether the model's class is RecBole's, as it is or corrected by this package."""
    return str(config.model_class.__module__).startswith(_RECBOLES)


def check_like_defaults(
    given: Mapping[str, Any], defaults: Mapping[str, Any], declared: set[str], of_recbole: bool
) -> dict[str, Any]:
    """Check that a key which no settings class declares has a value of its default's type, and for
    a model of RecBole, in the range that the default and the key's name show. Return {key: list}
    of those whose default is a list.

    Raises:
        ValueError: in one line: the key, its default, and the given value.
    """
    lists = {}
    for key, value in given.items():
        default = defaults.get(key)
        if key in declared or value is None or default is None:
            continue
        if not _alike(value, default):
            hint = decimal_comma_hint(value) if isinstance(default, _NUMBER) else ""
            raise ValueError(
                f"{key}: expected a value like its default {default!r}, got {value!r}{hint}"
            )
        if isinstance(default, list):
            lists[key] = split_to_list(value)
        if of_recbole:  # other authors' keys may mean anything
            _check_range(key, lists.get(key, value), default)
    return lists


def _alike(value: object, default: object) -> bool:
    if isinstance(default, bool):
        return value in (0, 1)
    if isinstance(default, _NUMBER):
        return isinstance(value, (*_NUMBER, list, tuple)) and not isinstance(value, bool)
    if isinstance(default, (list, tuple)):
        return isinstance(value, (list, tuple, str, int))
    return isinstance(value, (type(default), *_NUMBER)) if isinstance(default, str) else True


def _check_range(key: str, value: object, default: Any) -> None:
    """Models accept some impossible numbers without a word (``BERT4Rec --mask_ratio=7``)."""
    if isinstance(default, list) and value == []:
        if not default or key in _MAY_BE_EMPTY:
            return
        raise ValueError(f"{key}: expected a list that is not empty, like its default {default!r}")
    usual, given = _numbers(default), _numbers(value)
    if usual is None or any(number < 0 for number in usual):  # some mean "the last one" by -1
        return
    if given is None:
        expected = "numbers"
    elif key.endswith(_SIZES) and min(usual) >= 1 and min(given) < 1:
        expected = "at least 1"
    elif "drop" in key and not all(0 <= number < 1 for number in given):
        expected = "at least 0 and below 1"
    elif key == "mask_ratio" and not all(0 < number <= 1 for number in given):
        expected = "above 0 and at most 1"
    elif min(given) < 0 and key != "margin":  # SimpleX's is a cosine, -1 to 1
        expected = "at least 0"
    else:
        return
    raise ValueError(f"{key}: expected {expected}, like its default {default!r}, got {value!r}")


def _numbers(value: object) -> list[float] | None:
    """The numbers of a value; None if it is empty, or not all of it are numbers."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    found = [p for p in parts if isinstance(p, _NUMBER) and not isinstance(p, bool)]
    return found if found and len(found) == len(parts) else None


@contextmanager
def suspects_named(config: Config) -> Iterator[None]:
    """Within it, an error in the code of RecBole's model names the model's keys that differ from
    their defaults: no check knows which of their values the model can use.

    Raises:
        ValueError: such an error.
    """
    try:
        yield
    except Exception as error:
        known = is_of_recbole(config) and _is_of_recboles_model(error)
        suspects = _changed_keys(config) if known else ""
        if not suspects:
            raise
        raise ValueError(
            f"{config['model']} fails ({named_error(error)}), perhaps because of {suspects}"
        ) from error


def _is_of_recboles_model(error: Exception) -> bool:
    """Whether code of RecBole's models raised the error, or called the library that did."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    known = [name for name in modules if name.startswith(("recbole.", "recbole_llm."))]
    return bool(known) and known[-1].startswith("recbole.model.")


def _changed_keys(config: Config) -> str:
    """The keys of the model's own file that the user changed: ``nh=0 (default 8)``."""
    defaults: dict[str, Any] = {}
    for file in files_of_model(config["model"]):
        defaults |= read_yaml(file)
    given = config.external_config_dict
    changed = [key for key in defaults if key in given and given[key] != defaults[key]]
    return ", ".join(f"{key}={given[key]} (default {defaults[key]})" for key in changed)

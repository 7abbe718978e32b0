"""Typed settings: config keys that belong together, with types, ranges, choices and meanings.

A part of the package (a method, an encoder kind, the engine) declares a frozen class. Each field
is a config key, and the docstring under it explains the key. ``Config`` builds every class that a
run needs once, before any long work. Code reads a value from ``TheClass.of(config)``.

>>> class Example(Settings):
...     '''An example.'''
...     dropout: Dropout = 0.5
...     '''On the inputs.'''
>>> Example.of({"dropout": 1.5})
Traceback (most recent call last):
ValueError: dropout: expected a number of at least 0 and below 1, got 1.5
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from recbole_llm.core.errors import decimal_comma_hint, unknown_name_error
from recbole_llm.core.marks import Mark
from recbole_llm.core.type_names import choices, type_name


class ConfigLike(Protocol):
    """A configuration: RecBole's, this package's, or a plain dict of keys."""

    def __getitem__(self, key: str, /) -> Any: ...

    def __contains__(self, key: str, /) -> bool: ...


def _flag(value: object) -> object:
    """RecBole's files use 0 and 1 for bools."""
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


def _text(value: object) -> object:
    """Turn a text that was parsed as a number, such as a revision, back into a text."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if number else value


def as_list(value: object) -> object:
    """Turn a tuple into a list, for keys that take either."""
    return list(value) if isinstance(value, tuple) else value


def split_to_list(value: object) -> Any:
    """Make a list of a value that stands for one: comma-separated names, an integer or a tuple."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    single = isinstance(value, int) and not isinstance(value, bool)
    return [value] if single else as_list(value)


Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_text)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Names = Annotated[list[Text], BeforeValidator(as_list)]
OneOrMore = BeforeValidator(split_to_list)
FieldName = Annotated[Text, Field(min_length=1)]
ModelName = Annotated[Text | None, Mark.MODEL_NAME | Mark.ASK_ON_LOAD]
Prompt = Annotated[Text | None, Mark.TEMPLATE | Mark.ASK_ON_LOAD]


@dataclass(frozen=True)
class Between:
    """Where a search looks for a positive number: from low to high, on a logarithmic scale."""

    low: float
    high: float


Space = Mapping[str, Between | tuple[Any, ...]]  # of a search: {key: range or choices}
Readers = Mapping[str, tuple[str, tuple[str | bool, ...]]]


class Settings(BaseModel):
    """Base of the settings classes; a subclass checks several fields together in its validators.

    ``search_space`` is what ``recbole-llm tune`` searches; it contains the defaults. ``read_with``
    is {key: (other key, values)} of keys that are read only with these values of another key.
    """

    read_with: ClassVar[Readers] = {}
    search_space: ClassVar[Space] = {}

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if taken := cls.model_fields.keys() & vars(Settings):
            raise ValueError(
                f"{cls.__name__}: '{min(taken)}' is a name of Settings itself; rename the key"
            )
        if not isinstance(cls.search_space, Mapping):
            raise ValueError(f"{cls.__name__}: search_space: expected {{key: (a, b)}}")

    @classmethod
    def of(cls, config: ConfigLike) -> Self:
        """The settings that a configuration holds; keys that it lacks have their defaults.

        Raises:
            ValueError: in one line: the key, its allowed values, and the given one.
        """
        values = {key: config[key] for key in cls.model_fields if key in config}
        try:
            return cls(**values)
        except ValidationError as error:
            raise _in_one_line(cls, error, values) from None

    @classmethod
    def readers(cls) -> Readers:
        """`read_with` of the class and of its bases."""
        return dict(ChainMap(*(vars(base).get("read_with", {}) for base in cls.__mro__)))

    @classmethod
    def unread(cls, config: ConfigLike) -> dict[str, tuple[str, list[str]]]:
        """The entries of `readers` whose keys a configuration does not read."""
        known = {key: choices(field) for key, field in cls.model_fields.items()}
        return {  # a flag has no choices
            key: (other, [name for name in map(str, values) if name in (known[other] or [name])])
            for key, (other, values) in cls.readers().items()
            if config[other] not in values
        }

    @classmethod
    def searched(cls, config: ConfigLike) -> Space:
        """The search space under a configuration, without keys that are not read."""
        unread = cls.unread(config)
        return {key: where for key, where in cls.search_space.items() if key not in unread}

    def check(self, config: ConfigLike) -> None:
        """Raise ValueError if these settings contradict those of other parts."""

    def check_device(self) -> None:
        """Raise ValueError if a device is missing; called after RecBole has set its GPUs."""


def check_divides(settings: Settings, key: str, of: str, *, twice: bool = False) -> None:
    """Raise ValueError unless the value of `key`, or twice it, divides the value of `of`."""
    part, whole = getattr(settings, key), getattr(settings, of)
    if whole % (2 * part if twice else part):
        raise ValueError(f"{key}: {'twice ' * twice}{part} does not divide {of} {whole}")


class Nested(Settings):
    """Base of the settings that are the value of one key; unknown keys inside it are refused."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class KeyInfo:
    """A config key, for listings and YAML files."""

    key: str
    type: str  # its allowed values, in words
    default: object  # the value if it is not set
    meaning: str  # one paragraph


def key_infos(settings: type[Settings]) -> Iterator[KeyInfo]:
    """The keys of a settings class, in order."""
    for key, field in settings.model_fields.items():
        default = "…" if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            default = default.model_dump()
        yield KeyInfo(key, type_name(field), default, " ".join((field.description or "").split()))


def defaults(settings: type[Settings]) -> dict[str, Any]:
    """The default of each key; keys that must be set are left out."""
    fields = settings.model_fields
    return {i.key: i.default for i in key_infos(settings) if not fields[i.key].is_required()}


def _in_one_line(
    settings: type[Settings], error: ValidationError, values: Mapping[str, Any]
) -> ValueError:
    errors = error.errors()
    key = next(iter(errors[0]["loc"]), None)
    own = [e for e in errors if e["loc"][:1] == (key,) or key is None]
    # Each branch of a union reports errors: a validator's says most, then that of the deepest path.
    best = max(own, key=lambda e: (e["type"] == "value_error", len(_known_path(settings, e))))
    path = _known_path(settings, best)
    if best["type"] == "value_error":
        return ValueError(": ".join([*path[:1], str(best["ctx"]["error"])]))
    if best["type"] == "missing" and not path[:-1]:
        expected = type_name(settings.model_fields[path[0]])
        return ValueError(f"{path[0]}: has no default: set --{path[0]}, {expected}")
    if best["type"] == "missing":
        return ValueError(f"{': '.join(path[:-1])}: needs the key '{path[-1]}'")
    field, value = settings.model_fields[path[0]], values[path[0]]
    for name in path[1:]:
        inside = _nested(field)
        assert inside is not None
        field, value = inside.model_fields[name], value[name]
    name = ": ".join(path)
    inside = _nested(field)
    if best["type"] == "extra_forbidden" and inside is not None:
        return unknown_name_error(f"{name}: the key", best["loc"][-1], inside.model_fields)
    return _of_value(name, field, value)


def _of_value(name: str, field: FieldInfo, value: object) -> ValueError:
    known = choices(field)
    for part in value if isinstance(value, list) else [value]:
        if known and isinstance(part, str) and part not in known:
            return unknown_name_error(name, part, known)
    expected = type_name(field)
    hint = "" if "list" in expected else decimal_comma_hint(value)
    return ValueError(f"{name}: expected {expected}, got {value!r}{hint}")


def _known_path(settings: type[Settings], error: Any) -> list[str]:
    """The keys in an error's location, without the names of a union's branches."""
    path: list[str] = []
    current: type[Settings] | None = settings
    for part in error["loc"]:
        if current is not None and part in current.model_fields:
            path.append(str(part))
            current = _nested(current.model_fields[path[-1]])
    return path


def _nested(field: FieldInfo) -> type[Settings] | None:
    kinds = getattr(field.annotation, "__args__", (field.annotation,))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Settings)), None)

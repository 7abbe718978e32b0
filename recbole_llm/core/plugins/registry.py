"""Specs of models, encoders, features and stages, and the table of the registered ones.

Importing this module is cheap: specs name classes as ``"package.module:Class"``, imported on use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from recbole_llm.core.errors import check_choice, did_you_mean, is_installed, named_error, place_of

if TYPE_CHECKING:
    from recbole_llm.core.settings import Settings

PACKAGE = Path(__file__).resolve().parents[2]
# In a wheel the YAML files lie inside the package, in a checkout beside it.
PROPERTIES = next(p for p in (PACKAGE / "properties", PACKAGE.parent / "properties") if p.is_dir())


@dataclass(frozen=True)
class ModelSpec:
    """A model by name.

    Args:
        name: the value of ``--model``.
        model: the class, or ``"package.module:Class"``.
        dataset: the data set class; by default the one of the model's type.
        trainer: one of ``recbole_llm.trainers.stock`` or a subclass; by default RecBole's choice.
        settings: class of the model's keys, a ``recbole_llm.core.settings.Settings``.
        config: YAML file with the model's default parameters, which override those of `settings`.
        reads: names of the features that the model reads, such as ``item_text``; features that
            need no split are attached to the data set before it is split.
        stages: names of the offline stages that must be done before the model is built, in order.
        summary, paper: for listings: one line; authors, venue and year.
        base: the known model that the class extends; `core.plugins.specs.completed` finds it.
    """

    kind: ClassVar[str] = "model"
    name: str
    model: str | type
    dataset: str | type | None = None
    trainer: str | type | None = None
    settings: str | type | None = None
    config: str | Path | None = None
    reads: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    summary: str = ""
    paper: str = ""
    base: str = ""

    @property
    def stock_name(self) -> str:
        """The name under which RecBole's defaults, data set and trainer are found."""
        return self.base or self.name


@dataclass(frozen=True)
class EncoderSpec:
    """A kind of encoder by name.

    Args:
        name: the value of ``--encoder``.
        factory: ``factory(config)`` returns an encoder; or ``"package.module:callable"``.
        summary: one line for listings.
        requires: modules that must be importable for this kind to work.
        settings: class of the kind's own keys, a ``recbole_llm.core.settings.Settings``.
        unread: keys of all encoders that this kind does not read; a run warns about them.
    """

    kind: ClassVar[str] = "encoder"
    name: str
    factory: str | Callable[..., Any]
    summary: str = ""
    requires: tuple[str, ...] = ()
    settings: str | type | None = None
    unread: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Names of required modules that are not installed."""
        return [name for name in self.requires if not is_installed(name)]


@dataclass(frozen=True)
class FeatureSpec:
    """A feature by name: vectors with a row for each item, user or training example.

    Args:
        name: what models read it by.
        build: ``build(config, dataset)`` returns an ``EmbeddingTable``; or
            ``"package.module:callable"``.
        when: ``loaded``: it needs only the loaded data set; ``split``: it is derived from
            interactions, and built from the training split.
        summary: one line for listings.
        settings: class of the feature's own keys, a ``recbole_llm.core.settings.Settings``.
        rows: ``items`` or ``users``: a row for each of RecBole's ids, in their order; ``other``:
            for something else, such as training examples.
    """

    kind: ClassVar[str] = "feature"
    name: str
    build: str | Callable[..., Any]
    when: Literal["loaded", "split"] = "loaded"
    summary: str = ""
    settings: str | type | None = None
    rows: Literal["items", "users", "other"] = "items"


@dataclass(frozen=True)
class StageSpec:
    """A stage of offline work by name.

    Args:
        name: what models name it by.
        stage: the class, a ``recbole_llm.offline.stage.Stage``, or ``"package.module:Class"``.
        summary: one line for listings.
        when: ``loaded``: it needs only the loaded data set; ``split``: the training split.
        settings: class of the stage's own keys, a ``recbole_llm.core.settings.Settings``.
    """

    kind: ClassVar[str] = "stage"
    name: str
    stage: str | type
    summary: str = ""
    when: Literal["loaded", "split"] = "split"
    settings: str | type | None = None


Spec = ModelSpec | EncoderSpec | FeatureSpec | StageSpec
SPEC_KINDS: tuple[type[Spec], ...] = (ModelSpec, EncoderSpec, FeatureSpec, StageSpec)
S = TypeVar("S", ModelSpec, EncoderSpec, FeatureSpec, StageSpec)


@dataclass(frozen=True)
class Registered:
    """A spec, and the plugin that registered it."""

    spec: Any  # of the kind of its table
    plugin: str


@dataclass
class Registry:
    """Specs by kind and name, metrics, and settings classes that every run checks, each with its
    plugin."""

    tables: dict[type[Spec], dict[str, Registered]] = field(
        default_factory=lambda: {kind: {} for kind in SPEC_KINDS}
    )
    metrics: dict[str, str] = field(default_factory=dict)
    settings: dict[str | type, str] = field(default_factory=dict)

    def check_names(self, specs: Sequence[Spec], origin: str) -> None:
        """Raise ValueError if a name among a plugin's specs is taken, in this or another case.
        Files are called by these names, and some file systems ignore case."""
        parts = self.all_registered()
        taken = {(part.spec.kind, name.lower()): (name, part.plugin) for name, part in parts}
        for spec in specs:
            key = spec.kind, spec.name.lower()
            if key in taken:
                name, first = taken[key]
                spelt = "" if name == spec.name else f" as '{name}'"
                raise ValueError(
                    f"{spec.kind} '{spec.name}' of plugin '{origin}' is already registered by "
                    f"plugin '{first}'{spelt}; rename one of them"
                )
            taken[key] = spec.name, origin

    def add(self, specs: Sequence[Spec], origin: str) -> None:
        """Add a plugin's specs, which `check_names` has accepted."""
        for spec in specs:
            table = next(self.tables[kind] for kind in SPEC_KINDS if isinstance(spec, kind))
            table[spec.name] = Registered(spec, origin)

    def all_registered(self) -> Iterator[tuple[str, Registered]]:
        """All specs with their names, kind by kind."""
        for table in self.tables.values():
            yield from table.items()

    def specs(self, kind: type[S]) -> dict[str, S]:
        """The specs of a kind by name."""
        return {name: registered.spec for name, registered in self.tables[kind].items()}

    def find(self, kind: type[S], name: str) -> S:
        """The spec of a kind called ``name``; ValueError with near matches if there is none."""
        specs = self.specs(kind)
        check_choice(kind.kind, name, sorted(specs))
        return specs[name]

    def plugin_of(self, kind: type[Spec], name: str) -> str | None:
        """The plugin that registered a spec; None for one that is not registered."""
        registered = self.tables[kind].get(name)
        return registered.plugin if registered else None

    def foreign_plugin_of(self, kind: type[Spec], name: str) -> str | None:
        """Like `plugin_of`, but also None for this package's own plugins."""
        plugin = self.plugin_of(kind, name)
        return None if plugin is None or plugin.startswith("recbole_llm.") else plugin

    def shared_settings(self) -> list[type[Settings]]:
        """The settings classes that every run checks, in order of their plugins."""
        named = self.settings.items()
        return [resolve_settings(own, f"plugin '{plugin}'") for own, plugin in named]


def resolve(target: object, what: str = "a plugin") -> Any:
    """The object that ``"package.module:attribute"`` names; anything else as it is.

    Raises:
        ValueError: the module or the attribute does not exist, or the module has a syntax error
            or would end the process.
    """
    if not isinstance(target, str):
        return target
    name, _, attribute = target.partition(":")
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):  # the module needs this package
            raise
        raise ValueError(f"{what} names '{target}', and there is no module '{name}'") from error
    except (SyntaxError, SystemExit) as error:
        reason = named_error(error) + place_of(error, name)
        raise ValueError(f"{what} names '{target}', whose import failed: {reason}") from error
    if not attribute or not hasattr(module, attribute):
        near = did_you_mean(attribute, [n for n in vars(module) if not n.startswith("_")])
        raise ValueError(
            f"{what} names '{target}', and '{module.__file__}' has no '{attribute}'"
            f"{'; ' if near else ''}{near}"
        )
    return getattr(module, attribute)


def resolve_settings(target: object, what: str) -> type[Settings]:
    """The settings class that `resolve` finds; ValueError if it finds anything else."""
    from recbole_llm.core.settings import Settings

    own = resolve(target, what)
    if not (isinstance(own, type) and issubclass(own, Settings)):
        raise ValueError(
            f"{what}: its settings, {getattr(own, '__name__', repr(own))}, are no class that "
            f"extends recbole_llm.core.settings.Settings"
        )
    return own

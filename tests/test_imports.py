"""The layers of the package: imports go down only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import recbole_llm

PACKAGE = Path(recbole_llm.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(file: Path, for_types: bool = True) -> Iterator[str]:
    """Absolute names of all modules that a file imports, inside functions too.

    Args:
        file: a module.
        for_types: whether to count what is imported only for type checkers.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if not for_types:
        tree.body = [n for n in tree.body if not ast.unparse(n).startswith("if TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# From the lowest layer to the highest; a module may import its own layer and those below.
LAYERS = (
    ("core", "hookspecs", "version"),
    ("layers",),
    ("data",),
    ("features",),
    ("offline",),
    ("evaluation",),
    ("trainers",),
    ("models",),
    ("quick_start", "report", "steps"),
    ("tasks",),
    ("testing",),
    ("commands",),
    ("cli", "__init__", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def layer(name: str) -> int:
    """Rank of a module of this package, by its name below ``recbole_llm``."""
    return RANK[name.partition(".")[0]]


def own_name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("file", FILES, ids=own_name)
def test_imports_go_down_only(file: Path) -> None:
    targets = {n.removeprefix("recbole_llm.") for n in imports(file) if "recbole_llm." in n}
    upwards = {
        n for n in targets if n.partition(".")[0] in RANK and layer(n) > layer(own_name(file))
    }
    assert upwards == set()


def test_no_import_circles() -> None:
    """Imports inside functions may not close a circle either."""
    names = {own_name(file) for file in FILES}
    graph = {
        own_name(file): {n.removeprefix("recbole_llm.") for n in imports(file, False)} & names
        for file in FILES
    }
    TopologicalSorter(graph).prepare()  # raises a CycleError that shows a circle


def offences(folder: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file in FILES
        if file.relative_to(PACKAGE).as_posix().startswith(folder)
        for name in imports(file)
        if name.startswith(forbidden)
    ]


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("layers/", ("recbole.",)),
        ("core/plugins/registry.py", ("recbole.", "torch", "pandas", "numpy")),
        ("hookspecs.py", ("torch", "pandas", "numpy")),
        ("", ("recbole.quick_start",)),
    ],
)
def test_some_libraries_are_out_of_bounds(folder: str, forbidden: tuple[str, ...]) -> None:
    assert offences(folder, forbidden) == []


def test_ray_is_imported_in_one_place() -> None:
    """Only functions import Ray, which is an extra and takes a second to import."""
    assert set(offences("", ("ray",))) == {"core/processes/cluster.py imports ray"}
    tree = ast.parse((PACKAGE / "core/processes/cluster.py").read_text(encoding="utf-8"))
    assert "import ray" not in map(ast.unparse, tree.body)


def test_models_do_not_import_each_other() -> None:
    folders = [f for f in (PACKAGE / "models").iterdir() if f.is_dir() and f.name[0] != "_"]
    for folder in folders:
        others = tuple(f"recbole_llm.models.{f.name}" for f in folders if f != folder)
        assert offences(f"models/{folder.name}/", others) == []

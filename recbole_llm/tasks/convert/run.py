"""Conversion of users' own tables to RecBole's atomic files.

>>> convert("orders.csv", "dataset/shop", items="products.csv")  # doctest: +SKIP
>>> recbole_llm.from_pandas(orders, "dataset/shop", items=products)  # doctest: +SKIP
"""

from __future__ import annotations

import filecmp
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from pandas import DataFrame

from recbole_llm.core.errors import unknown_name_error
from recbole_llm.core.files import OTHER_FOLDER, remove_left_parts, writable_folder
from recbole_llm.tasks.convert.described import DescriptionPass
from recbole_llm.tasks.convert.interactions import Interactions
from recbole_llm.tasks.convert.layouts import movielens
from recbole_llm.tasks.convert.sources import FrameSource, Source
from recbole_llm.tasks.convert.summary import Roles, Summary

ENCODING = "utf-8-sig"
FILES = ("inter", "item", "user")  # kinds of atomic files


class _Tables(NamedTuple):
    interactions: Source
    items: Source | None
    users: Source | None


def convert(
    interactions: str | Path | Source,
    output: str | Path,
    items: str | Path | Source | None = None,
    users: str | Path | Source | None = None,
    roles: Roles | None = None,
    encoding: str = ENCODING,
    progress: Callable[[int], None] = lambda rows: None,
) -> Summary:
    """Write tables of interactions, items and users as a data set of atomic files.

    A row is left out and counted if it lacks a user, an item or a readable time, if it lacks a
    readable rating or label whose column was named, or if it repeats another row in every column. A
    guessed column of ratings or labels costs no rows: it is not taken if one of its values is no
    number. Files are read in chunks.

    Args:
        interactions: CSV, JSON lines or Parquet; or a folder of MovieLens.
        output: the data set's folder, whose name is the data set's.
        items: one row per item; None: the `text` columns of the interactions, if any.
        users: one row per user; None: users have no descriptions.
        encoding: of text files that are not UTF-8.
        progress: called after each chunk with its number of rows.

    Raises:
        ValueError: a missing file or column, dates that could mean two days, no usable row, or a
            folder that cannot be written.
    """
    tables, roles = _open_tables(interactions, items, users, encoding), roles or Roles()
    source = tables.interactions
    folder = _check_folder_name(output, source.option("output"))
    if roles.user_text is not None and tables.users is None:
        raise ValueError(
            f"{source.option('user_text')}: there is no table of users; leave it out, or name one "
            f"with {source.option('users', '…')}"
        )
    summary = Summary(folder, time_option=source.option("time", "…"))
    existing = [kind for kind in FILES if (folder / f"{folder.name}.{kind}").exists()]
    with writable_folder(folder, OTHER_FOLDER), _tables_kept(tables, summary):
        _write(tables, roles, summary, progress)
    for kind in existing:
        name = f"{folder.name}.{kind}"
        if kind in summary.written():
            summary.replaced.append(name)
        else:
            summary.problems.append(f"{name} was there before, and stays as it is")
    return summary


def _write(
    tables: _Tables, roles: Roles, summary: Summary, progress: Callable[[int], None]
) -> None:
    """Write all files, or none."""
    items = tables.items or (tables.interactions if roles.text else None)
    rows = Interactions(tables.interactions, roles, summary, progress)
    with ExitStack() as placed, rows.writing(), ExitStack() as written:
        # Files that killed conversions left would count as files of the data set.
        remove_left_parts(summary.folder)
        # The name of the interactions' ids is tried first: a table may have other ids, too.
        like = replace(roles, item=rows.column("item"), user=rows.column("user"))
        if items is not None:
            apart = tables.items is not None
            of_items = DescriptionPass("item", items, like, rows.items, summary, progress, apart)
            summary.of_items = written.enter_context(of_items.writing())
        if tables.users is not None:
            of_users = DescriptionPass("user", tables.users, like, rows.users, summary, progress)
            summary.of_users = written.enter_context(of_users.writing())
        # All files are complete. They are put in place as the two stacks and the block end.
        placed.enter_context(_folder_locked(summary.folder))


@contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    """Within it, no other conversion puts files into the folder: those of two would be mixed. It
    has no effect where folders cannot be locked (Windows, some network file systems)."""
    with ExitStack() as opened:
        with suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)  # no file of its own is left in the data set
            opened.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _tables_kept(tables: _Tables, summary: Summary) -> Iterator[None]:
    """Keep another copy of the tables that the block replaces, if it changes them: an `.inter` file
    written by hand may have columns and rows that no atomic file of it has."""
    files = [summary.folder / f"{summary.folder.name}.{kind}" for kind in FILES]
    read = [
        table.path.resolve() for table in tables if table and not isinstance(table, FrameSource)
    ]
    replaced = [file for file in files if file.exists() and file.resolve() in read]
    copies = {file: _free_name(file) for file in replaced}
    with ExitStack() as failed:
        for file, copy in copies.items():
            failed.callback(copy.unlink, missing_ok=True)
            shutil.copy2(file, copy)
        failed.pop_all()
    try:
        yield
    finally:  # a failure between two files leaves the first one replaced
        for file, copy in copies.items():
            if filecmp.cmp(file, copy, shallow=False):
                copy.unlink()
            else:
                summary.problems.append(f"{file.name} was the table itself, kept as {copy.name}")


def _free_name(file: Path) -> Path:
    """A name beside a file that does not count as one of its data set, as `name.…` would."""
    names = (f"before-{number}-{file.name}" for number in itertools.count(1))
    return next(path for path in map(file.with_name, names) if not path.exists())


def _open_tables(
    interactions: str | Path | Source,
    items: str | Path | Source | None,
    users: str | Path | Source | None,
    encoding: str,
) -> _Tables:
    """Open the tables to read; for a folder of MovieLens, all of its files."""
    if not isinstance(interactions, Source) and Path(interactions).is_dir():
        for option, table in {"items": items, "users": users}.items():
            if table is not None:
                raise ValueError(f"--{option}: a folder of MovieLens has its own; leave it out")
        if encoding != ENCODING:
            raise ValueError("--encoding: the encoding of MovieLens is known; leave it out")
        return _Tables(*movielens(Path(interactions)))

    def source(table: str | Path | Source) -> Source:
        return table if isinstance(table, Source) else Source(table, encoding=encoding)

    described = (None if table is None else source(table) for table in (items, users))
    return _Tables(source(interactions), *described)


def _check_folder_name(output: str | Path, option: str) -> Path:
    """The output folder, whose name becomes that of the data set."""
    folder = Path(output)
    if folder.name in ("", ".."):
        folder = folder.resolve()
    if not str(output) or not folder.name:
        raise ValueError(f"{option}: '{output}' has no name; name a folder, such as dataset/shop")
    return folder


def from_pandas(
    interactions: DataFrame,
    output: str | Path,
    items: DataFrame | None = None,
    users: DataFrame | None = None,
    **roles: Any,
) -> Summary:
    """Write data frames as a data set of atomic files, as `convert` does with files.

    Args:
        interactions: one row per interaction.
        output: the data set's folder, such as ``dataset/shop``.
        items: one row per item.
        users: one row per user.
        roles: fields of `Roles`: user, item, time, rating, label, keep, text, user_text,
            date_format; several columns as a list.

    Returns:
        What was written, and which rows were left out; its text is the summary of the command.
    """
    about_items = None if items is None else FrameSource(items, "items")
    about_users = None if users is None else FrameSource(users, "users")
    known = [role.name for role in fields(Roles)]
    for role in roles.keys() - known:
        raise unknown_name_error("from_pandas: the argument", role, known)
    given = Roles(**{role: _as_names(role, value) for role, value in roles.items()})
    source = FrameSource(interactions, "interactions")
    return convert(source, output, about_items, about_users, given)


def _as_names(role: str, value: Any) -> Any:
    """A role's column as a text, or columns as a list; names in a data frame may be numbers."""
    if value is None or role == "date_format":
        return value
    if role not in ("keep", "text", "user_text"):
        return str(value)
    return [value] if isinstance(value, str) else [str(name) for name in value]

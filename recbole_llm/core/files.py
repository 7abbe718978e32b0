"""Files that are written whole or not at all, and checks of folders before a long run."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from recbole_llm.core.errors import one_line

OTHER_FOLDER = "name another folder with --output"  # a way out
OTHER_FILE = "name another file with --output"


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ``~`` replaced by a home folder; unchanged if there is no such user."""
    return Path(os.path.expanduser(path))


def _suffix(process: object) -> str:
    return f".{platform.node()}-{process}.recbole-llm-part"


class _Part(io.FileIO):
    """A file that keeps its own error, to tell it from errors of other files."""

    failed: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.failed = error
            raise


@contextmanager
def written_whole(file: str | os.PathLike[str], way_out: str) -> Iterator[BinaryIO]:
    """Open a file for writing, which replaces the old one once it is complete.

    A killed process leaves the old file or the new one, and perhaps a part for
    `remove_left_parts`. An error leaves only the old file. Errors in the block that the file did
    not cause pass through.

    Args:
        way_out: what the user can do if the file cannot be written.

    Raises:
        ValueError: in one line: the file, the reason, the way out.
    """
    _check_place(Path(file), way_out)
    target = Path(os.path.realpath(file))  # a link stays a link, to the new content
    part = target.with_name(f"{target.name}{_suffix(os.getpid())}")
    raw, in_block = None, False
    try:
        part.unlink(missing_ok=True)
        raw = _Part(part, "xb")  # x: never writes through an existing link
        with io.BufferedWriter(raw) as opened:
            in_block = True
            yield opened
            in_block = False
            opened.flush()
            os.fsync(raw.fileno())
        os.replace(part, target)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        if in_block and raw is not None and raw.failed is None:
            raise
        raise ValueError(f"'{file}' cannot be written ({_reason(error)}); {way_out}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(file: str | os.PathLike[str], content: bytes, way_out: str) -> None:
    """Write a file by `written_whole`."""
    with written_whole(file, way_out) as opened:
        opened.write(content)


def write_json(file: str | os.PathLike[str], content: object, way_out: str) -> None:
    """Write JSON by `write_whole`; infinite numbers and NaN, which JSON lacks, become null."""
    finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
    text = json.dumps(finite, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(file, f"{text}\n".encode(), way_out)


@contextmanager
def folder_written_whole(folder: str | os.PathLike[str], way_out: str) -> Iterator[Path]:
    """Make a folder to write files to, which replaces the old one once it is complete.

    A killed process leaves the old folder, the new one or none, and perhaps a part for
    `remove_left_parts`. An error leaves only the old folder. Args and errors are those of
    `written_whole`, except that every OSError in the block counts as a failure to write.
    """
    target = Path(folder)
    part = target.with_name(f"{target.name}{_suffix(os.getpid())}")
    with _write_errors_named(folder, way_out), _part_folder(part, folder, way_out):
        yield part
        for file in filter(Path.is_file, part.rglob("*")):
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        if target.exists():
            shutil.rmtree(target)
        os.replace(part, target)


@contextmanager
def files_moved_together(folder: str | os.PathLike[str], last: str, way_out: str) -> Iterator[Path]:
    """Make a folder to write files to, which move into `folder` once the block succeeds.

    Other files in `folder` stay. A killed process or an error in the block leaves the old files;
    but while the files move, the file `last`, which identifies them, is missing. Errors are those
    of `written_whole`.
    """
    target = Path(folder)
    part = target / f"new{_suffix(os.getpid())}"
    with _part_folder(part, folder, way_out):
        yield part
        with _write_errors_named(folder, way_out):
            (target / last).unlink(missing_ok=True)
            for file in sorted(part.iterdir(), key=lambda file: file.name == last):
                os.replace(file, target / file.name)


@contextmanager
def _part_folder(part: Path, folder: str | os.PathLike[str], way_out: str) -> Iterator[None]:
    """Within it, the folder `part` exists, at first empty; errors name `folder`."""
    try:
        with _write_errors_named(folder, way_out):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
        yield
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _write_errors_named(path: str | os.PathLike[str], way_out: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"'{path}' cannot be written ({_reason(error)}); {way_out}") from error


def _reason(error: BaseException) -> str:
    """The operating system's message, from anywhere in the chain of errors."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__cause__ or link.__context__
    return one_line(error)


def check_folder(folder: str | os.PathLike[str], way_out: str) -> None:
    """Make a folder, and check that files can be written in it.

    Raises:
        ValueError: in one line: the folder, the reason, the way out.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=place, buffering=0) as probe:
            probe.write(b"x")
    except OSError as error:
        first = next(filter(Path.exists, (place, *place.parents)), place)
        reason = _reason(error) if first.is_dir() else f"'{first}' is a file"
        raise ValueError(f"folder '{folder}' cannot be written ({reason}); {way_out}") from error


def check_file(file: str | os.PathLike[str], way_out: str) -> None:
    """Raise ValueError, in one line, unless the file can be written; called before long work."""
    _check_place(Path(file), way_out)
    check_folder(Path(file).parent, way_out)


def _check_place(target: Path, way_out: str) -> None:
    """Refuse a folder, and a device or a pipe such as /dev/null, which the file would replace."""
    if target.exists() and not target.is_file():
        found = "a folder" if target.is_dir() else "a device or a pipe"
        raise ValueError(f"'{target}' is {found}, where a file is to be written; {way_out}")


@contextmanager
def writable_folder(folder: str | os.PathLike[str], way_out: str) -> Iterator[None]:
    """Within it, a folder passes `check_folder`; after an error, new empty folders are removed."""
    made = [place for place in (Path(folder), *Path(folder).parents) if not place.exists()]
    try:
        check_folder(folder, way_out)
        yield
    except BaseException:
        with suppress(OSError):  # a folder holds files
            for place in made:
                place.rmdir()
        raise


@contextmanager
def file_lock(file: str | os.PathLike[str], busy: Callable[[], None]) -> Iterator[None]:
    """Within it, only this process holds a lock, which is released if the process ends.

    Args:
        file: the lock's file.
        busy: called before waiting for another process that holds the lock; it may raise.

    Raises:
        ValueError: in one line: the file, the reason, such as NFS without locks, and the way out.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        busy()
        held = lock.acquire()
    except OSError as error:
        way_out = "choose a folder on a file system with file locks"
        raise ValueError(f"'{file}' cannot be locked ({_reason(error)}); {way_out}") from error
    with held:
        yield


def remove_left_parts(folder: str | os.PathLike[str]) -> list[str]:
    """Remove and name the unfinished files and folders of killed processes on this machine."""
    import psutil

    pattern = re.compile(re.escape(_suffix("#")).replace(r"\#", r"(\d+)") + "$")
    removed = []
    for part in Path(folder).glob("*.recbole-llm-part"):
        process = pattern.search(part.name)
        if process is not None and not psutil.pid_exists(int(process[1])):
            with suppress(OSError):
                shutil.rmtree(part) if part.is_dir() else part.unlink()
                removed.append(part.name)
    return removed

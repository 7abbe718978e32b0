"""Digests of settings and files, of which fingerprints and cache keys are made."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# The hub's cache names blobs that are stored in LFS by their SHA-256.
_HUB_BLOB = re.compile(r"[0-9a-f]{64}")


def digest(*parts: object, **named: Any) -> str:
    """32 hex digits that change with any of the values (plain data: str, int, None, lists)."""
    plain = json.dumps([parts, named], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(plain.encode("ascii")).hexdigest()[:32]


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, 64 hex digits; a file that has not changed is read once."""
    real = Path(path).resolve()
    if real.parent.name == "blobs" and _HUB_BLOB.fullmatch(real.name):
        return real.name
    now = real.stat()
    return _digest_then(real, now.st_size, now.st_mtime_ns)


@cache
def _digest_then(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(folder: Path, files: Iterable[Path]) -> str:
    """Digest of several files of a folder, with their relative names."""
    return digest([[f.relative_to(folder).as_posix(), file_digest(f)] for f in sorted(files)])


def short_digests(contents: Iterable[bytes]) -> npt.NDArray[np.int64]:
    """An 8-byte digest of each content, int64 [n]."""
    parts = [hashlib.blake2b(content, digest_size=8).digest() for content in contents]
    return np.frombuffer(b"".join(parts), np.dtype("<i8")).astype(np.int64)


def texts_digest(names: Iterable[str], texts: Iterable[str | None]) -> str:
    """Digest of (name, text) pairs in order."""
    total = hashlib.sha256()
    for name, content in zip(names, texts, strict=True):
        pair = json.dumps([name, content], ensure_ascii=True)
        total.update(pair.encode("ascii") + b"\n")
    return total.hexdigest()[:32]


def fingerprints(folder: str, name: str, suffixes: tuple[str, ...] = ("",)) -> dict[str, str]:
    """SHA-256 of each of a data set's files, or of those with these endings."""
    files = sorted(Path(folder).glob(f"{glob.escape(name)}.*"))
    wanted = (file for file in files if file.name.endswith(suffixes) and file.is_file())
    return {file.name: file_digest(file) for file in wanted}

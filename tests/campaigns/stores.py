"""Damaged and crafted files of vectors and stores: each gives one line, and none of its code runs.

``python tests/campaigns/stores.py`` prints a line per file and the counts.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sqlite3
import struct
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from outcomes import Outcome, report
from safetensors.numpy import save_file

from recbole_llm.features.stored.generated_texts import TextStore
from recbole_llm.features.stored.store import FILE_NAME, StoreError
from recbole_llm.features.stored.vectors import EmbeddingStore
from recbole_llm.features.tables.table import TableError
from recbole_llm.features.tables.table_io import read_table

LONGEST = 400  # characters of a line
RAN = "ran"  # the file that a payload would make


class Payload:
    """An object that makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (RAN, "w"))


def numpy_bytes(array: Any, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def npy_header(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def tensors(header: Any, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def good(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x{suffix}")
        if suffix == ".npz":
            np.savez(path, vectors=np.ones((2, 3), np.float32), tokens=np.array(["a", "b"]))
        else:
            vectors = {"vectors": np.ones((2, 3), np.float32)}
            save_file(vectors, path, {"tokens": json.dumps(["a", "b"])})
        return path.read_bytes()


def torch_file(content: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


VECTORS, TOKENS = numpy_bytes(np.ones((2, 3), np.float32)), numpy_bytes(np.array(["a", "b"]))
OBJECTS = numpy_bytes(np.array([Payload(), 1], object), allow_pickle=True)
F32 = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
ROWS = b"\x00\x00\x80\x3f" * 6
# {case: (suffix, content)}; beside each file is a `.tokens` file with two names.
FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "npy: empty": (".npy", lambda: b""),
    "npy: cut": (".npy", lambda: VECTORS[:-5]),
    "npy: cut in its head": (".npy", lambda: VECTORS[:20]),
    "npy: objects": (".npy", lambda: OBJECTS),
    "npy: a pickle": (".npy", lambda: pickle.dumps(Payload())),
    "npy: code in its head": (".npy", lambda: npy_header(f"open('{RAN}', 'w')")),
    "npy: more than there is": (
        ".npy",
        lambda: npy_header("{'descr':'<f4','fortran_order':False,'shape':(9999999999,99999)}"),
    ),
    "npy: a negative shape": (
        ".npy",
        lambda: npy_header("{'descr':'<f4','fortran_order':False,'shape':(-1,3)}", ROWS),
    ),
    "npy: truth values": (".npy", lambda: numpy_bytes(np.ones((2, 3), bool))),
    "npy: three axes": (".npy", lambda: numpy_bytes(np.ones((2, 3, 1)))),
    "npy: three rows": (".npy", lambda: numpy_bytes(np.ones((3, 3)))),
    "npz: cut": (".npz", lambda: good(".npz")[:-30]),
    "npz: no zip": (".npz", lambda: b"PK\x03\x04" + b"x" * 99),
    "npz: objects as vectors": (".npz", lambda: zipped(vectors=OBJECTS, tokens=TOKENS)),
    "npz: objects as tokens": (".npz", lambda: zipped(vectors=VECTORS, tokens=OBJECTS)),
    "npz: no tokens": (".npz", lambda: zipped(vectors=VECTORS)),
    "npz: the same token twice": (
        ".npz",
        lambda: zipped(vectors=VECTORS, tokens=numpy_bytes(np.array(["a", "a"]))),
    ),
    "npz: a name that climbs": (".npz", lambda: zipped(**{"../../x": VECTORS})),
    "npz: a pickle inside": (".npz", lambda: zipped(vectors=pickle.dumps(Payload()))),
    "safetensors: empty": (".safetensors", lambda: b""),
    "safetensors: cut": (".safetensors", lambda: good(".safetensors")[:-3]),
    "safetensors: a head without an end": (".safetensors", lambda: struct.pack("<Q", 1 << 60)),
    "safetensors: no JSON": (".safetensors", lambda: tensors(b"{nonsense")),
    "safetensors: offsets outside": (
        ".safetensors",
        lambda: tensors({"vectors": {**F32, "data_offsets": [0, 1 << 40]}}, ROWS),
    ),
    "safetensors: another shape": (
        ".safetensors",
        lambda: tensors({"vectors": {**F32, "shape": [1 << 40, 3]}}, ROWS),
    ),
    "safetensors: tokens that are no list": (
        ".safetensors",
        lambda: tensors({"__metadata__": {"tokens": "7"}, "vectors": F32}, ROWS),
    ),
    "safetensors: tokens that nest": (
        ".safetensors",
        lambda: tensors({"__metadata__": {"tokens": "[" * 9000}, "vectors": F32}, ROWS),
    ),
    "pt: a payload": (".pt", lambda: torch_file({"tokens": ["a"], "vectors": Payload()})),
    "pt: an old pickle": (".pt", lambda: pickle.dumps(Payload())),
    "pt: cut": (".pt", lambda: torch_file({"a": [1.0]})[:-50]),
    "pt: a list": (".pt", lambda: torch_file([1.0])),
    "pt: rows of two widths": (".pt", lambda: torch_file({"a": [1.0], "b": [1.0, 2.0]})),
    "csv: empty": (".csv", lambda: b""),
    "csv: no numbers": (".csv", lambda: b"token,x\na,=cmd()\n"),
    "csv: no columns": (".csv", lambda: b"token\na\nb\n"),
    "csv: a quote without an end": (".csv", lambda: b'token,x\n"a,1\nb,2\n'),
    "csv: no text": (".csv", lambda: os.urandom(999)),
    "parquet: no parquet": (".parquet", lambda: b"PAR1" + b"x" * 99 + b"PAR1"),
    "atomic: empty": (".itememb", lambda: b""),
    "atomic: no numbers": (".itememb", lambda: b"i:token\te:float_seq\na\t1 x\n"),
    "atomic: rows of two widths": (".itememb", lambda: b"i:token\te:float_seq\na\t1\nb\t1 2\n"),
    "atomic: no text": (".itememb", lambda: b"\xff\xfe" * 99),
}


def database(*statements: str) -> Callable[[Path], None]:
    """A store that SQL statements have changed; "?" is the key of the text "a"."""

    def make(folder: Path) -> None:
        with closing(EmbeddingStore(folder)) as store:
            store.add(store.keys("f", ["a"]), np.ones((1, 3), np.float32))
            key = store.keys("f", ["a"])[0]
        with closing(sqlite3.connect(folder / FILE_NAME)) as raw:
            for statement in statements:
                raw.execute(statement, [key] * statement.count("?"))
            raw.commit()

    return make


def written(content: bytes, name: str = FILE_NAME) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        database()(folder)
        file = folder / FILE_NAME
        file.write_bytes(change(file.read_bytes()))

    return make


SET = "UPDATE vectors SET "
STORES: dict[str, Callable[[Path], None]] = {
    "store: no database": written(b"not a database" * 99),
    "store: a pickle": written(pickle.dumps(Payload())),
    "store: cut": changed(lambda content: content[:5000]),
    "store: noise after its head": changed(lambda content: content[:100] + os.urandom(9000)),
    "store: a later format": database("PRAGMA user_version=9"),
    "store: a folder in its place": lambda folder: (folder / FILE_NAME).mkdir(),
    "store: another vector": database(f"{SET} vector = zeroblob(12)"),
    "store: another checksum": database(f"{SET} crc = 1"),
    "store: a checksum that is a text": database(f"{SET} crc = 'x'"),
    "store: a vector that is a text": database(f"{SET} vector = 'text'"),
    "store: a vector of half a number": database(f"{SET} vector = x'0102', crc = {0xB6CC4292}"),
    "store: an empty vector": database(f"{SET} vector = x'', crc = 0"),
    "store: other columns": database(
        "DROP TABLE vectors", "CREATE TABLE vectors (key BLOB PRIMARY KEY, a, b, c)"
    ),
    "store: a view": database(
        "ALTER TABLE vectors RENAME TO v", "CREATE VIEW vectors AS SELECT key, crc, vector FROM v"
    ),
    "store: a trigger": database(
        "CREATE TRIGGER t AFTER INSERT ON vectors BEGIN DELETE FROM vectors; END"
    ),
    "store: a view of the texts": database("CREATE VIEW texts AS SELECT key, crc, 1 AS text FROM "
                                           "vectors"),
}  # fmt: skip


def read_file(folder: Path, suffix: str, content: bytes) -> None:
    file = folder / f"x{suffix}"
    file.write_bytes(content)
    file.with_suffix(".tokens").write_text("a\nb\n")
    read_table(file)


def use_store(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder)
    with closing(EmbeddingStore(folder)) as store:
        store.load(store.keys("f", ["a"]))
        store.add(store.keys("f", ["b"]), np.ones((1, 3), np.float32))
    with closing(TextStore(folder)) as texts:
        texts.add(texts.keys("g", ["p"]), ["text"])


def outcome(name: str, action: Callable[[Path], None]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        before = os.getcwd()
        os.chdir(folder)
        try:
            action(Path(folder))
            said, faults = "nothing", ["it was taken"]
        except (TableError, StoreError) as error:
            said, faults = str(error), []
        except Exception as error:  # what a user would see as a traceback
            said, faults = repr(error), ["another kind of error"]
        finally:
            os.chdir(before)
        if Path(folder, RAN).exists():
            faults.append("code was run")
    if "\n" in said or len(said) > LONGEST:
        faults.append("more than one line, or a long one")
    return Outcome(name, said, faults)


def run() -> list[Outcome]:
    """Run all cases, one after the other."""
    files = [
        outcome(name, lambda folder, s=suffix, m=make: read_file(folder, s, m()))  # type: ignore[misc]
        for name, (suffix, make) in FILES.items()
    ]
    stores = [
        outcome(name, lambda folder, m=make: use_store(folder, m))  # type: ignore[misc]
        for name, make in STORES.items()
    ]
    return files + stores


if __name__ == "__main__":
    print(report(run(), "files"))

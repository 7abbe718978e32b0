from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recbole_llm.features.pipeline import encode_contents
from recbole_llm.features.stored import store as store_module
from recbole_llm.features.stored.generated_texts import TextStore
from recbole_llm.features.stored.store import StoreError, cache_dir
from recbole_llm.features.stored.vectors import EmbeddingStore

VECTORS = np.array([[1, 2, 3], [0.1, -0.5, 1e-3]], np.float32)


def test_vectors_come_back_in_the_order_asked_for(store: EmbeddingStore) -> None:
    keys = store.keys("f", ["a", "b"])
    assert store.present(keys) == set()
    store.add(keys, VECTORS)
    assert store.present([*keys, b"other"]) == set(keys)
    np.testing.assert_array_equal(store.load(keys[::-1]), VECTORS[::-1])
    assert len(store) == 2


def test_keys_separate_encoder_precision_and_text(tmp_path: Path) -> None:
    single, half = EmbeddingStore(tmp_path), EmbeddingStore(tmp_path, "float16")
    with closing(single), closing(half):
        keys = {
            *single.keys("f", ["a", "b", ""]), *single.keys("g", ["a"]), *half.keys("f", ["a"]),
            *single.keys("fa", [""]), *single.keys("f", ["a\ud800"]),
        }  # fmt: skip
    assert len(keys) == 7


def test_half_precision(tmp_path: Path) -> None:
    with closing(EmbeddingStore(tmp_path, "float16")) as half:
        keys = half.keys("f", ["a", "b"])
        half.add(keys, VECTORS)
        np.testing.assert_array_equal(half.load(keys), VECTORS.astype(np.float16))


def test_more_keys_than_one_query_takes(store: EmbeddingStore) -> None:
    texts = [str(i) for i in range(1203)]
    keys = store.keys("f", texts)
    vectors = np.arange(2406, dtype=np.float32).reshape(-1, 2)
    store.add(keys, vectors)
    assert len(store.present(keys)) == 1203
    np.testing.assert_array_equal(store.load(keys), vectors)


def test_a_stored_vector_is_not_overwritten(store: EmbeddingStore) -> None:
    keys = store.keys("f", ["a", "b"])
    store.add(keys, VECTORS)
    store.add(keys, VECTORS + 1)
    np.testing.assert_array_equal(store.load(keys), VECTORS)


def test_no_keys_give_an_empty_matrix(store: EmbeddingStore) -> None:
    assert store.load([]).shape == (0, 0)


def test_a_batch_is_stored_whole_or_not_at_all(store: EmbeddingStore) -> None:
    keys = store.keys("f", ["a", "b"])
    with pytest.raises(ValueError, match="zip"):
        store.add([*keys, b"no vector"], VECTORS)
    with pytest.raises(sqlite3.Error):
        store.add([keys[0], {}], VECTORS)  # type: ignore[list-item]
    assert len(store) == 0
    store.add(keys, VECTORS)
    assert len(store) == 2


def test_an_interrupt_as_a_transaction_begins_leaves_none_open(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what was waiting to be stored still can be."""
    execute = store._execute

    def interrupted(query: str, *values: Any) -> None:
        monkeypatch.undo()
        execute(query, *values)
        raise KeyboardInterrupt

    keys = store.keys("f", ["a", "b"])
    monkeypatch.setattr(store, "_execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.add(keys, VECTORS)
    assert len(store) == 0
    store.add(keys, VECTORS)
    np.testing.assert_array_equal(store.load(keys), VECTORS)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECBOLE_LLM_CACHE", "/from/environment")
    assert cache_dir({"embedding_cache_dir": "/own"}) == Path("/own")
    assert cache_dir({"embedding_cache_dir": None}) == Path("/from/environment")
    monkeypatch.delenv("RECBOLE_LLM_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    expected = Path("/home/someone/.cache/recbole_llm")
    assert cache_dir({"embedding_cache_dir": None}) == expected


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "embeddings.sqlite"
    file.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match=rf"'{file}' is damaged .*delete the file"):
        EmbeddingStore(tmp_path)


def test_damaged_pages(tmp_path: Path) -> None:
    with closing(EmbeddingStore(tmp_path)) as store:
        keys = store.keys("f", [str(i) for i in range(500)])
        store.add(keys, np.ones((500, 64), np.float32))
    file = tmp_path / "embeddings.sqlite"
    content = bytearray(file.read_bytes())
    for start in range(4096, len(content) - 4096, 4096):
        content[start : start + 2000] = os.urandom(2000)
    file.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged .*; delete the file"):  # noqa: SIM117
        with closing(EmbeddingStore(tmp_path)) as store:
            store.load(keys)


def test_a_flipped_bit_is_found_out(tmp_path: Path) -> None:
    with closing(EmbeddingStore(tmp_path)) as store:
        keys = store.keys("f", ["a", "b"])
        store.add(keys, VECTORS)
    with closing(sqlite3.connect(tmp_path / "embeddings.sqlite")) as raw:
        raw.execute("UPDATE vectors SET vector = zeroblob(12) WHERE key = ?", [keys[1]])
        raw.commit()
    with closing(EmbeddingStore(tmp_path)) as store:
        store.load(keys[:1])
        with pytest.raises(StoreError, match="is damaged .a row does not match its checksum"):
            store.load(keys)


def test_a_file_of_a_later_format_is_refused(tmp_path: Path) -> None:
    EmbeddingStore(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "embeddings.sqlite")) as raw:
        raw.execute("PRAGMA user_version=9")
    with pytest.raises(StoreError, match="has format 9, this version reads 1; set embedding_cache"):
        EmbeddingStore(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        StoreError, match="file/sub/embeddings.sqlite' cannot be written .*set embe"
    ):
        EmbeddingStore(tmp_path / "file" / "sub")


def said_as_nobody(folder: str, act: Callable[[EmbeddingStore], object]) -> str:
    """Return the result or error of using the store in a child process that is not root."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            os.write(writing, repr(act(EmbeddingStore(folder))).encode())
        except BaseException as error:  # noqa: BLE001 - the parent judges
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def encoded(store: EmbeddingStore, *texts: str) -> list[list[float]]:
    def encoder(asked: list[str]) -> np.ndarray:
        assert os.access(store.path.parent, os.W_OK), "encoded in vain"
        return np.array([[len(text), 0.5] for text in asked], np.float32)

    made = SimpleNamespace(encode=encoder, fingerprint="f")
    return encode_contents(made, store, texts, progress=False)[0].tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="permissions of POSIX systems")
@pytest.mark.parametrize(
    ("before", "asked", "answer"),
    [
        ("nothing", ["ab"], None),
        ("texts", ["ab"], None),
        ("vectors", ["ab", "abc"], None),
        ("a log", ["ab"], None),
        ("vectors", ["ab", "ab"], [[2.0, 0.5], [2.0, 0.5]]),
    ],
)
def test_a_read_only_folder(before: str, asked: list[str], answer: object) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        if before == "texts":
            TextStore(folder).close()
        elif before != "nothing":
            with closing(EmbeddingStore(folder)) as store:
                encoded(store, "ab")
        if before == "a log":  # of a killed or a running writer
            Path(folder, "embeddings.sqlite-wal").touch()
        for file in Path(folder).iterdir():
            file.chmod(0o444)
        os.chmod(folder, 0o555)
        said = said_as_nobody(folder, lambda store: encoded(store, *asked))
        os.chmod(folder, 0o755)
    refusal = (
        f"StoreError: embedding cache '{folder}/embeddings.sqlite' cannot be written (permission "
        f"denied); set embedding_cache_dir or the environment variable RECBOLE_LLM_CACHE to a"
    )
    assert said.startswith(refusal) if answer is None else said == repr(answer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="permissions of POSIX systems")
def test_a_read_only_file_in_a_folder_that_is_not() -> None:
    with tempfile.TemporaryDirectory() as folder:
        EmbeddingStore(folder).close()
        Path(folder, "embeddings.sqlite").chmod(0o444)
        os.chmod(folder, 0o777)
        message = said_as_nobody(folder, len)
    assert "cannot be written (attempt to write a readonly database); set embedding" in message


def test_finite_nonzero_vectors_are_usable(store: EmbeddingStore, tmp_path: Path) -> None:
    rows = np.array([[1, 2], [0, 0], [np.nan, 1], [np.inf, 1], [1e30, 1]], np.float32)
    assert store.usable(rows).tolist() == [True, False, False, False, True]
    assert store.usable(np.zeros((2, 0), np.float32)).tolist() == [False, False]
    with closing(EmbeddingStore(tmp_path, "float16")) as half:
        assert half.usable(rows).tolist() == [True, False, False, False, False]


def test_vectors_of_two_widths_are_no_damage(store: EmbeddingStore) -> None:
    keys = store.keys("f", ["a", "b"])
    store.add(keys[:1], VECTORS[:1])
    store.add(keys[1:], VECTORS[1:, :2])
    with pytest.raises(
        StoreError, match="of 2 and of 3 numbers .*|of 3 and of 2 numbers"
    ) as caught:
        store.load(keys)
    assert "damaged" not in str(caught.value)
    assert "the model behind its name has changed; set embedding_cache_dir" in str(caught.value)


def test_a_lock_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_llm.features.stored.store._BUSY_SECONDS", 0.1)
    with closing(EmbeddingStore(tmp_path)) as first, closing(EmbeddingStore(tmp_path)) as second:
        first._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="stayed locked by another process for"):
            second.add(second.keys("f", ["a", "b"]), VECTORS)
        with pytest.raises(StoreError, match="stayed locked by another process for"):
            EmbeddingStore(tmp_path)
        first._connection.execute("ROLLBACK")
        second.add(second.keys("f", ["a", "b"]), VECTORS)
        assert len(first) == 2


def test_reading_waits_for_a_lock_too(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, tries = store.keys("f", ["a", "b"]), [0]
    store.add(keys, VECTORS)
    connection = store._connection

    def locked_once(*query: Any) -> sqlite3.Cursor:
        tries[0] += 1
        if tries[0] == 1:
            raise sqlite3.OperationalError("database is locked")
        return connection.execute(*query)

    fake = SimpleNamespace(execute=locked_once, close=connection.close)
    monkeypatch.setattr(store, "_connection", fake)
    assert store.present(keys) == set(keys) and tries == [2]


def test_waiting_for_a_lock_ends_as_it_says_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All tries share one time limit, which a fake clock measures."""
    now, tries = [0.0], [0]
    monkeypatch.setattr(store_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(store_module.time, "sleep", lambda seconds: None)

    def locked(*query: Any) -> None:
        tries[0] += 1
        now[0] += 2.0  # SQLite's own wait
        raise sqlite3.OperationalError("database is locked")

    with closing(EmbeddingStore(tmp_path)) as store, caplog.at_level(logging.INFO):
        keys = store.keys("f", ["a"])
        fake = SimpleNamespace(execute=locked, close=store._connection.close)
        monkeypatch.setattr(store, "_connection", fake)
        with pytest.raises(StoreError, match="stayed locked by another process for 60 s"):
            store.present(keys)
    assert (now[0], tries[0]) == (60.0, 30)
    said = [r.getMessage() for r in caplog.records if "is locked by another process" in r.message]
    assert len(said) == 1
    assert said[0].endswith("waiting up to 60 s")

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from recbole_llm.core.digest import digest, file_digest, files_digest, texts_digest


def test_digests_change_with_every_part() -> None:
    seen = {digest(), digest(None), digest(""), digest("a", "b"), digest("ab"), digest(a=1)}
    assert len(seen) == 6
    assert digest("é", a=1, b=2) == digest("é", b=2, a=1)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"x" * 10).hexdigest()
    before = files_digest(tmp_path, [tmp_path / "a"])
    (tmp_path / "a").rename(tmp_path / "b")
    assert files_digest(tmp_path, [tmp_path / "b"]) != before


def test_a_file_is_read_again_when_it_has_changed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    whole = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: read.append(a) or whole(*a))
    file = tmp_path / "a"
    file.write_bytes(b"one")
    assert file_digest(file) == file_digest(str(file)) == hashlib.sha256(b"one").hexdigest()
    assert len(read) == 1
    file.write_bytes(b"other")
    assert file_digest(file) == hashlib.sha256(b"other").hexdigest() and len(read) == 2


def test_the_hubs_blobs_are_named_by_their_digest(tmp_path: Path) -> None:
    name = "0" * 64
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / name).write_bytes(b"large")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / name)
    assert file_digest(tmp_path / "model.safetensors") == name


def test_texts_are_not_run_together() -> None:
    assert texts_digest(["a"], ["b\nc"]) != texts_digest(["a", "c"], ["b", None])

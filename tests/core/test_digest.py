from __future__ import annotations

import hashlib
from pathlib import Path

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


def test_the_hubs_blobs_are_named_by_their_digest(tmp_path: Path) -> None:
    name = "0" * 64
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / name).write_bytes(b"large")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / name)
    assert file_digest(tmp_path / "model.safetensors") == name


def test_texts_are_not_run_together() -> None:
    assert texts_digest(["a"], ["b\nc"]) != texts_digest(["a", "c"], ["b", None])

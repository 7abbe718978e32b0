"""Files are written whole or not at all; credentials are not written at all."""

from __future__ import annotations

import errno
import logging
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint, write_checkpoint
from recbole_llm.core.checkpoints.stored import plain_config
from recbole_llm.core.config import Config
from recbole_llm.core.files import (
    _suffix,
    check_file,
    check_folder,
    file_lock,
    files_moved_together,
    remove_left_parts,
    writable_folder,
    write_whole,
    written_whole,
)
from recbole_llm.core.log import init_log
from recbole_llm.core.secrets import without_credentials
from recbole_llm.features.encoders.openai_api import create

_FULL = """
import resource, torch
from recbole_llm.core.checkpoints.checkpoint import write_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_checkpoint({"config": {}, "weights": torch.zeros(10**6)}, "saved.pth")
except ValueError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else() -> None:
    write_checkpoint({"config": {}, "weights": torch.ones(2)}, "saved.pth")
    done = subprocess.run([sys.executable, "-c", _FULL], capture_output=True, text=True, check=True)
    message = "'saved.pth' cannot be written (File too large); free some space, or set another"
    assert done.stdout.startswith(message) and done.stdout.count("\n") == 1
    assert load_checkpoint("saved.pth")["weights"].tolist() == [1, 1]
    assert os.listdir() == ["saved.pth"]


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else() -> None:
    Path("a").write_text("old")
    with pytest.raises(KeyError), written_whole("a", "way out") as file:
        file.write(b"half")
        raise KeyError
    assert Path("a").read_text() == "old" and os.listdir() == ["a"]


def test_a_pipe_is_not_replaced_by_a_file() -> None:
    os.mkfifo("pipe")
    for write in (lambda: write_whole("pipe", b"x", "stop"), lambda: check_file("pipe", "stop")):
        with pytest.raises(ValueError, match="'pipe' is a device or a pipe, where a file .*; stop"):
            write()
    assert Path("pipe").is_fifo()


def test_files_move_together_or_not_at_all() -> None:
    Path("d").mkdir()
    for name in ("a", "last", "mine"):
        Path("d", name).write_text("old")
    with pytest.raises(FileNotFoundError), files_moved_together("d", "last", "way out") as part:
        (part / "a").write_text("new")
        Path("no such file").read_text()  # an error that is not the folder's fault
    assert [Path("d", name).read_text() for name in sorted(os.listdir("d"))] == ["old"] * 3
    with files_moved_together("d", "last", "way out") as part:
        for name in ("a", "last"):
            (part / name).write_text("new")
    found = {name: Path("d", name).read_text() for name in sorted(os.listdir("d"))}
    assert found == {"a": "new", "last": "new", "mine": "old"}
    with pytest.raises(ValueError, match="'none/d' cannot be written .*; way out"):
        with files_moved_together("none/d", "last", "way out"):
            pass


def test_a_file_is_not_written_through_a_link_that_lies_in_the_way() -> None:
    Path("victim").write_text("precious")
    Path(f"a{_suffix(os.getpid())}").symlink_to("victim")
    with written_whole("a", "way out") as file:
        file.write(b"new")
    assert Path("victim").read_text() == "precious" and Path("a").read_bytes() == b"new"


def test_a_link_leads_to_the_new_content() -> None:
    Path("real").write_text("old")
    Path("link").symlink_to("real")
    with written_whole("link", "way out") as file:
        file.write(b"new")
    assert Path("link").is_symlink() and Path("real").read_bytes() == b"new"


def test_what_killed_processes_left_is_removed_and_nothing_else() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    suffix = _suffix(dead.pid)
    elsewhere = suffix.replace(f"-{dead.pid}", f"x-{dead.pid}")  # another machine's
    kept = [f"b{_suffix(os.getpid())}", f"c{elsewhere}", "d.part", f"e.{dead.pid}.part", "f.pth"]
    for name in [f"a{suffix}", *kept]:
        Path(name).touch()
    assert remove_left_parts(".") == [f"a{suffix}"]
    assert sorted(os.listdir()) == sorted(kept)


def test_a_folder_that_cannot_be_written_is_named() -> None:
    Path("file").touch()
    with pytest.raises(ValueError, match="folder 'file/saved' cannot be written .*; way out"):
        check_folder("file/saved", "way out")
    check_folder("new/folder", "way out")
    assert os.listdir("new/folder") == []


def test_a_folder_that_takes_no_content_is_named_and_nothing_is_left_of_the_try() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # as on a full disk
    try:
        with pytest.raises(ValueError, match="folder 'full' cannot be written .*; way out"):
            check_folder("full", "way out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir("full") == []


def test_an_error_removes_the_empty_folders_that_were_made_and_no_other() -> None:
    os.mkdir("mine")
    for folder in ("mine", "mine/new/shop", "kept"):
        with pytest.raises(KeyError), writable_folder(folder, "way out"):
            if folder == "kept":
                Path("kept/file").touch()
            raise KeyError
    assert sorted(os.listdir()) == ["kept", "mine"] and os.listdir("mine") == []


def test_a_full_disk_leaves_no_folder_of_the_try() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # as on a full disk
    try:
        with pytest.raises(ValueError, match="'full' cannot"), writable_folder("full", "way out"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir() == []


@pytest.mark.parametrize("key", ["checkpoint_dir", "log_tensorboard"])
def test_folders_are_tried_before_the_data_is_read(key: str) -> None:
    from recbole_llm.quick_start import run_recbole_llm

    Path(key).touch()
    with pytest.raises(ValueError, match=f"folder '{key}' cannot be written"):
        run_recbole_llm("BPR", "no_such", config_dict={"checkpoint_dir": "checkpoint_dir"})


# --- credentials -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("http://me:word@host:80/v1", "http://host:80/v1"),
        ("http://me:w@rd@host/v1?key=k#x", "http://host/v1"),
        ("see https://host/a?api_key=k, or ask", "see https://host/a or ask"),
        ("'ftp://me@host' and http://a:b@c", "'ftp://host' and http://c"),
        ("no address: a@b?c", "no address: a@b?c"),
    ],
)
def test_addresses_without_credentials(given: str, clean: str) -> None:
    assert without_credentials(given) == clean


def test_credentials_reach_the_endpoint_alone(caplog: pytest.LogCaptureFixture) -> None:
    def config(url: str) -> Config:
        keys = {"encoder": "openai", "encoder_model": "m", "encoder_base_url": url}
        return Config("PAD", config_dict=keys)

    secret = config("http://me:word@host/v1?key=k")
    assert "word" not in str(secret) and "key=k" not in str(secret)
    assert (
        "word" not in str(plain_config(secret)) and secret["encoder_base_url"] == "http://host/v1"
    )
    encoder = create(secret)
    assert encoder.endpoint.base_url == "http://me:word@host/v1?key=k"
    assert encoder.fingerprint == create(config("http://host/v1")).fingerprint
    logging.getLogger().addHandler(caplog.handler)
    init_log(secret)
    logging.getLogger("httpx").warning("POST %s", "http://me:word@host/v1")
    assert "POST http://host/v1" in caplog.text


def test_a_file_in_the_place_of_a_folder_is_named() -> None:
    Path("taken").write_text("x")
    for folder in ("taken", "taken/inside"):
        said = f"^folder '{folder}' cannot be written \\('taken' is a file\\); name another$"
        with pytest.raises(ValueError, match=said):
            check_folder(folder, "name another")


def test_a_file_system_without_locks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def no_lock(*_: object) -> None:  # as on NFS without its lock service
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    reason = f"'runs/.lock' cannot be locked ({os.strerror(errno.ENOLCK)}); choose a folder on "
    Path("runs").mkdir()
    with pytest.raises(ValueError, match=re.escape(reason)), file_lock("runs/.lock", list):
        pass

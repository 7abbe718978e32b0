"""Item vectors as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from recbole_llm.cli import main
from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.features.attach import item_embeddings
from recbole_llm.features.tables.table import EmbeddingTable


@pytest.fixture(autouse=True)
def _data(tiny: Path) -> None:
    pass


def encode(*more: str) -> Result:
    return CliRunner().invoke(main, ["encode", "--dataset=tiny", "--encoder=hash", *more])


def vectors(**own: Any) -> EmbeddingTable:
    config = Config("AlphaRec", "tiny", config_dict={"show_progress": False, **own})
    return item_embeddings(config, create_dataset(config))


def test_the_vectors_are_those_that_precomputed_reads() -> None:
    Path("a.yaml").write_text("output: result.json")  # a key of runs
    done = encode("--output=made/vectors.npz", "--config_files=a.yaml")
    assert done.exit_code == 0, done.output
    read = "--encoder=precomputed --embedding_path=made/vectors.npz"
    assert done.output.splitlines()[-1] == f"written  made/vectors.npz, which {read} reads"
    assert not Path("result.json").exists()
    of_file = vectors(encoder="precomputed", embedding_path="made/vectors.npz")
    of_texts = vectors(encoder="hash")
    assert of_file.tokens == of_texts.tokens
    np.testing.assert_array_equal(of_file.matrix, of_texts.matrix)
    with np.load("made/vectors.npz") as arrays:
        assert arrays["vectors"].shape == (60, 16) and "[PAD]" not in arrays["tokens"]


def test_items_without_a_vector_are_left_out() -> None:
    items = Path("dataset/tiny/tiny.item")
    head, first, *others = items.read_text().splitlines()
    items.write_text("\n".join([head, *others]))
    done = encode("--output=vectors.npz", "--missing_embedding=zeros")
    assert done.exit_code == 0, done.output
    *_, left_out, written = done.output.splitlines()
    assert left_out == "without a vector, left out of the file: 1 item"
    assert written.endswith("vectors.npz --missing_embedding=zeros reads")
    with np.load("vectors.npz") as arrays:
        assert len(arrays["tokens"]) == 59 and first.split("\t")[0] not in arrays["tokens"]


def test_only_a_file_of_this_command_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        assert encode("--output=vectors.npz").exit_code == 0
    np.savez("mine.npz", vectors=np.zeros(1))
    Path("text.npz").write_text("mine")
    monkeypatch.setattr("recbole_llm.tasks.encode.load_dataset", dict)  # refused before the work
    for name in ("mine.npz", "text.npz"):
        said = f"error: '{name}' was not written by this command; name another file"
        assert encode(f"--output={name}").output == f"{said} with --output\n"
    said = "error: --output: 'vectors.csv' does not end in .npz; name another file with --output\n"
    assert encode("--output=vectors.csv").output == said

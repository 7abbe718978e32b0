from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_texts import PlainConfig

from recbole_llm.features.encoders import precomputed
from recbole_llm.features.encoders.base import EncoderError, holds_table
from recbole_llm.features.tables.table import TableError


def test_a_file_in_the_data_sets_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "d.itememb").write_text("iid:token,e:float_seq\na,1|2\nb,3|4\n")
    config = PlainConfig(
        embedding_path="d.itememb", data_path=str(tmp_path), field_separator=",", seq_separator="|"
    )
    source = precomputed.create(config)
    assert holds_table(source)
    np.testing.assert_array_equal(source.table("item").matrix, [[1, 2], [3, 4]])


def test_a_file_has_the_encoding_of_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "d.itememb").write_bytes("iid:token\te:float_seq\né\t1 2\n".encode("latin-1"))
    config = PlainConfig(embedding_path=str(tmp_path / "d.itememb"), encoding="latin-1")
    assert precomputed.create(config).table("item").tokens == ["é"]


def test_another_width_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("token,a\n1,2\n")
    config = PlainConfig(embedding_path=str(tmp_path / "x.csv"), encoder_dimensions=3)
    with pytest.raises(TableError, match="vectors of width 1, encoder_dimensions is 3"):
        precomputed.create(config).table("item")


def test_files_that_are_not_given_or_not_there() -> None:
    with pytest.raises(EncoderError, match="set embedding_path to the file of vectors"):
        precomputed.create(PlainConfig())
    with pytest.raises(
        EncoderError, match="embedding_path: 'x.npz' does not exist, here or in the"
    ):
        precomputed.create(PlainConfig(embedding_path="x.npz"))
    with pytest.raises(EncoderError, match="embedding_path: '/' is a folder, not a file, here or"):
        precomputed.create(PlainConfig(embedding_path="/"))

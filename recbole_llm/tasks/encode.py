"""Encoding of a data set's items, without training a model."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from recbole_llm.core.config import Config
from recbole_llm.core.files import OTHER_FILE, check_file
from recbole_llm.core.lines import plural
from recbole_llm.features.contents.prompts import item_texts
from recbole_llm.features.settings import ItemSettings
from recbole_llm.features.tables.table_io import was_written, write_npz
from recbole_llm.offline.encode import EncodeStage
from recbole_llm.offline.run import load_dataset
from recbole_llm.steps import start

_SHOWN = 3  # items whose texts are shown
DEFAULT_MODEL = "AlphaRec"  # general models need the fewest fields, not even timestamps


def encode(
    files: Sequence[str] = (), argv: Sequence[str] = (), output: str | None = None
) -> Iterator[str]:
    """Encode the items that have no stored vectors, and show the texts of a few items.

    Args:
        files: YAML files.
        argv: ``--key=value`` arguments.
        output: file (.npz) of the vectors, which ``encoder: precomputed`` reads; None: no file.

    Raises:
        ValueError: in one line: invalid settings, files, encoder or vectors.
    """
    config = Config(config_file_list=files, argv=argv, default_model=DEFAULT_MODEL)
    if output is not None:
        _check_output(output)  # before the encoding
    start(config)
    stage = EncodeStage(config, load_dataset(config))
    report, encoded = stage.complete(), stage.encoded
    read = ItemSettings.of(config).item_feature
    if encoded.encoding is not None and read != "item_image":
        for token, text in islice(item_texts(config, stage.dataset).items(), _SHOWN):
            yield f"item {token} reads: {text}"
    yield str(report)
    table, policy = encoded.table, f"--missing_embedding={config['missing_embedding']}"
    yield f"{plural(len(table) - 1, 'item')}, {plural(table.dimension, 'number')} each"
    if output is not None:
        reading = ["--encoder=precomputed", f"--embedding_path={output}"]
        left_out = len(table) - 1 - write_npz(output, table, OTHER_FILE)
        if left_out:
            yield f"without a vector, left out of the file: {plural(left_out, 'item')}"
            reading.append(policy)
        yield f"written  {output}, which {shlex.join(reading)} reads"


def _check_output(file: str) -> None:
    if Path(file).suffix != ".npz":
        raise ValueError(f"--output: '{file}' does not end in .npz; {OTHER_FILE}")
    check_file(file, OTHER_FILE)
    if Path(file).exists() and not was_written(file):
        raise ValueError(f"'{file}' was not written by this command; {OTHER_FILE}")

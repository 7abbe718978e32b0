"""A process for the tests to kill. It encodes N texts slowly and logs each of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from recbole_llm.features.pipeline import encode_contents
from recbole_llm.features.stored.vectors import EmbeddingStore
from recbole_llm.testing import HashEncoder

BATCH = 10


class LoggingEncoder(HashEncoder):
    """Writes one unbuffered line for each text before encoding it."""

    def __init__(self, log: str, pause: float) -> None:
        super().__init__(8)
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.pause = pause

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        os.write(self.log, "".join(f"{t}\n" for t in texts).encode())
        time.sleep(self.pause)
        return super().encode(texts)


def main(folder: str, log: str, count: str, pause: str) -> None:
    """Encode ``text 0`` to ``text count-1`` and print the sum of the vectors and the counts."""
    texts = [f"text {i}" for i in range(int(count))]
    with closing(EmbeddingStore(folder)) as store:
        encoder = LoggingEncoder(log, float(pause))
        matrix, report = encode_contents(encoder, store, texts, BATCH, progress=False)
    print(repr(float(matrix.sum())), report.cached, report.encoded)


if __name__ == "__main__":
    main(*sys.argv[1:])

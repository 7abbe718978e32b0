"""Texts to vectors through the store: what is known is read, what is new is encoded once."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from recbole_llm.features.encoders.base import Encoder, EncoderError
from recbole_llm.features.store import EmbeddingStore
from recbole_llm.features.table import Matrix


@dataclass(frozen=True)
class EncodeReport:
    """What an encoding run did.

    Args:
        texts: how many were asked for.
        unique: how many of them differ.
        cached: unique texts whose vector was there.
        encoded: unique texts that this process encoded.
        seconds: of wall time.
    """

    texts: int
    unique: int
    cached: int
    encoded: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.texts} texts, {self.unique} unique, {self.cached} cached, "
            f"{self.encoded} encoded in {self.seconds:.1f} s"
        )


def encode_texts(
    encoder: Encoder,
    store: EmbeddingStore,
    texts: Sequence[str],
    batch_size: int = 256,
    title: str = "Encoding",
    progress: bool = True,
) -> tuple[Matrix, EncodeReport]:
    """Vectors of texts, float32 [len(texts), D].

    Args:
        encoder: called with the texts that the store lacks.
        store: read before and written after each batch.
        texts: in any order, repeated or not.
        batch_size: texts between two commits, the most that a killed run has to repeat.
        title: of the progress bar.
        progress: whether to show it.

    Raises:
        EncoderError: the encoder returns another shape, or values that are not finite.
        StoreError: see :class:`EmbeddingStore`.
    """
    start = time.perf_counter()
    unique = list(dict.fromkeys(texts))
    keys = dict(zip(unique, store.keys(encoder.fingerprint, unique), strict=True))
    known = store.present(list(keys.values()))
    todo = [t for t in unique if keys[t] not in known]
    encoded = 0
    with tqdm(total=len(todo), desc=title, unit="text", disable=not (progress and todo)) as bar:
        for batch in _batches(todo, batch_size):
            # Another process may have been here since.
            there = store.present([keys[t] for t in batch])
            new = [t for t in batch if keys[t] not in there]
            if new:
                store.add([keys[t] for t in new], _encode(encoder, new))
            encoded += len(new)
            bar.update(len(batch))
    # Read back, so that a first and a later run give the same numbers whatever is stored.
    distinct = store.load([keys[t] for t in unique])
    position = {t: row for row, t in enumerate(unique)}
    matrix = distinct if len(unique) == len(texts) else distinct[[position[t] for t in texts]]
    seconds = time.perf_counter() - start
    return matrix, EncodeReport(len(texts), len(unique), len(unique) - encoded, encoded, seconds)


def _batches(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    """Batches of texts of like length, in an order of this process's own.

    Processes that start together thus work on different batches, and find each other's.
    """
    by_length = sorted(texts, key=len)
    starts = list(range(0, len(by_length), size))
    random.Random(os.getpid()).shuffle(starts)
    for start in starts:
        yield by_length[start : start + size]


def _encode(encoder: Encoder, texts: list[str]) -> Matrix:
    vectors = np.asarray(encoder.encode(texts), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise EncoderError(
            f"the encoder returned shape {vectors.shape} for {len(texts)} texts; "
            f"expected [{len(texts)}, D]"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise EncoderError(
            f"the encoder returned values that are not finite for {len(bad)} of {len(texts)} "
            f"texts, such as {texts[bad[0]][:80]!r}; try encoder_dtype: float32"
        )
    return vectors

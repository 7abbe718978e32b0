"""Texts to vectors through the store: what is known is read, what is new is encoded once."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger

import numpy as np

from recbole_llm.core.errors import one_line
from recbole_llm.core.lines import bar, counted
from recbole_llm.features.encoders.base import Encoder, EncoderError
from recbole_llm.features.table import Matrix
from recbole_llm.features.vectors import EmbeddingStore

# Batches of texts -> each with its vectors, float32 [n, D], in any order.
Encode = Callable[[Encoder, Iterator[list[str]]], Iterator[tuple[list[str], Matrix]]]


@dataclass(frozen=True)
class EncodeReport:
    """What an encoding run did."""

    texts: int
    unique: int  # how many of them differ
    cached: int  # unique texts whose vector was there
    encoded: int  # unique texts that this process encoded
    refused: int  # unique texts whose vector is not finite or all zeros; it is not stored
    seconds: float  # of wall time

    def __str__(self) -> str:
        refused = f", {self.refused} of these refused" if self.refused else ""
        return (
            f"{counted(self.texts, 'text')}, {self.unique} unique, {self.cached} cached, "
            f"{self.encoded} encoded in {self.seconds:.1f} s{refused}"
        )


def encode_batch(encoder: Encoder, texts: list[str]) -> Matrix:
    """What an encoder gives for texts, as float32."""
    given = encoder.encode(texts)
    try:
        with np.errstate(over="ignore"):  # what is beyond float32 is not finite, and refused
            return np.asarray(given, np.float32)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of a tensor with gradients
        raise EncoderError(
            f"the encoder returned a {type(given).__name__} that is no array of numbers "
            f"[{len(texts)}, D] ({one_line(error)})"
        ) from error


def one_by_one(
    encoder: Encoder, batches: Iterator[list[str]]
) -> Iterator[tuple[list[str], Matrix]]:
    """Each batch with its vectors, by this process."""
    for texts in batches:
        yield texts, encode_batch(encoder, texts)


def encode_texts(
    encoder: Encoder,
    store: EmbeddingStore,
    texts: Sequence[str],
    batch_size: int = 256,
    title: str = "Encoding",
    progress: bool = True,
    encode: Encode = one_by_one,
) -> tuple[Matrix, EncodeReport]:
    """Vectors of texts, float32 [len(texts), D]; rows of texts whose vector is refused are zeros.

    Args:
        encoder: called with the texts that the store lacks.
        store: read before and written after each batch.
        texts: in any order, repeated or not.
        batch_size: texts between two commits, the most that a killed run has to repeat; an
            encoder that asks an endpoint may have a smaller ``request_size``.
        encode: how batches are encoded; they are the same whatever it is.

    Raises:
        EncoderError: the encoder returns another shape, or another width than it did before.
        StoreError: see :class:`EmbeddingStore`.
    """
    start = time.perf_counter()
    unique = list(dict.fromkeys(texts))
    keys = dict(zip(unique, store.keys(encoder.fingerprint, unique), strict=True))
    known = store.present(list(keys.values()))
    todo = [t for t in unique if keys[t] not in known]
    if todo:
        store.require_writable()
    encoded, width = 0, store.width(list(known))
    refused: list[str] = []
    batch_size = min(batch_size, getattr(encoder, "request_size", batch_size))
    with bar(total=len(todo), desc=title, unit="text", shown=progress and todo) as told:
        batches = _missing(store, keys, _batches(todo, batch_size), told.update)
        for new, vectors in encode(encoder, batches):
            _check(vectors, len(new), width, stored=not encoded)
            usable = store.usable(vectors)
            kept = np.flatnonzero(usable).tolist()
            store.add([keys[new[i]] for i in kept], vectors[kept])
            refused += [new[i] for i in np.flatnonzero(~usable)]
            width = vectors.shape[1]
            encoded += len(new)
            told.update(len(new))
    if refused:
        _warn(refused, len(unique))
    # Read back, so that a first and a later run give the same numbers whatever is stored.
    rows = _rows(store, unique, keys, set(refused), width)
    position = {t: row for row, t in enumerate(unique)}
    matrix = rows if len(unique) == len(texts) else rows[[position[t] for t in texts]]
    cached, seconds = len(unique) - encoded, time.perf_counter() - start
    return matrix, EncodeReport(len(texts), len(unique), cached, encoded, len(refused), seconds)


def _rows(
    store: EmbeddingStore,
    unique: Sequence[str],
    keys: dict[str, bytes],
    refused: set[str],
    width: int | None,
) -> Matrix:
    """Vectors of the unique texts, zeros where one was refused."""
    if not refused:
        return store.load([keys[t] for t in unique])
    rows = np.zeros((len(unique), width or 0), np.float32)
    there = [row for row, t in enumerate(unique) if t not in refused]
    if there:
        rows[there] = store.load([keys[unique[row]] for row in there])
    return rows


def _warn(refused: Sequence[str], unique: int) -> None:
    getLogger("recbole_llm").warning(
        f"the encoder gave no usable vector (not finite, or all zeros) for {len(refused)} of "
        f"{unique} texts, such as {refused[0][:80]!r}; they are not stored, the others are; where "
        f"numbers overflow, encoder_dtype or embedding_store_dtype: float32 helps"
    )


def _batches(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    """Batches of texts of like length, in an order of this process's own.

    Processes that start together thus work on different batches, and find each other's.
    """
    by_length = sorted(texts, key=len)
    starts = list(range(0, len(by_length), size))
    random.Random(os.getpid()).shuffle(starts)
    for start in starts:
        yield by_length[start : start + size]


def _missing(
    store: EmbeddingStore,
    keys: Mapping[str, bytes],
    batches: Iterator[list[str]],
    done: Callable[[int], object],
) -> Iterator[list[str]]:
    """What is left of batches when they are asked for: another process may have been here."""
    for batch in batches:
        there = store.present([keys[t] for t in batch])
        done(len(there))
        if len(there) < len(batch):
            yield [t for t in batch if keys[t] not in there]


def _check(vectors: Matrix, texts: int, width: int | None, stored: bool) -> None:
    if vectors.ndim != 2 or len(vectors) != texts or not vectors.shape[1]:
        raise EncoderError(
            f"the encoder returned shape {vectors.shape} for {texts} texts; expected [{texts}, D]"
        )
    if width in (None, vectors.shape[1]):
        return
    fault = f"the encoder returned vectors of {vectors.shape[1]} numbers where those"
    if not stored:
        raise EncoderError(f"{fault} before had {width}; all are to have the same number")
    raise EncoderError(
        f"{fault} stored of it have {width}: the model behind its name has changed; set "
        f"embedding_cache_dir to another folder"
    )

"""From contents to vectors through the store: known ones are read, new ones are encoded once."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from typing import Protocol, TypeAlias, TypeVar

import numpy as np

from recbole_llm.core.errors import one_line
from recbole_llm.core.lines import bar, plural
from recbole_llm.core.memory import memory_needed_by
from recbole_llm.features.contents.keys import C, Content, content_key
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.stored.vectors import EmbeddingStore
from recbole_llm.features.tables.table import Matrix

C_contra = TypeVar("C_contra", str, Content, contravariant=True)


class ContentEncoder(Protocol[C_contra]):
    """An encoder of one kind of content; an `Encoder` is a `ContentEncoder` of texts."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever any vector could change."""

    def encode(self, contents: Sequence[C_contra], /) -> Matrix:
        """Float32 [len(contents), D]."""


Batches: TypeAlias = Iterator[list[C]]
EncodedBatches: TypeAlias = Iterator[tuple[list[C], Matrix]]  # vectors float32 [n, D], any order
Executor: TypeAlias = Callable[[ContentEncoder[C], Batches[C]], EncodedBatches[C]]


@dataclass(frozen=True)
class EncodeReport:
    """Counts of an encoding run."""

    texts: int
    unique: int  # how many of them differ
    cached: int  # unique texts whose vector was stored
    encoded: int  # unique texts that this process encoded
    refused: int  # unique texts whose vector is not finite or all zeros; it is not stored
    seconds: float  # of wall time

    def __str__(self) -> str:
        refused = f", {self.refused} of these refused" if self.refused else ""
        return (
            f"{plural(self.texts, 'text')}, {self.unique} unique, {self.cached} cached, "
            f"{self.encoded} encoded in {self.seconds:.1f} s{refused}"
        )


def encode_batch(encoder: ContentEncoder[C], contents: list[C]) -> Matrix:
    """The vectors of a batch, as float32."""
    way_out = "lower encoder_batch_tokens and encoder_batch_size, or choose a smaller encoder_model"
    with memory_needed_by(f"encoding {len(contents)} contents at once", way_out):
        vectors = encoder.encode(contents)
    try:
        with np.errstate(over="ignore"):  # values beyond float32 become inf, and are refused
            return np.asarray(vectors, np.float32)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: has gradients
        raise EncoderError(
            f"the encoder returned a {type(vectors).__name__} that is no array of numbers "
            f"[{len(contents)}, D] ({one_line(error)})"
        ) from error


def encode_locally(encoder: ContentEncoder[C], batches: Batches[C]) -> EncodedBatches[C]:
    """Each batch with its vectors, encoded by this process."""
    for contents in batches:
        yield contents, encode_batch(encoder, contents)


def encode_contents(
    encoder: ContentEncoder[C],
    store: EmbeddingStore,
    contents: Sequence[C],
    batch_size: int = 256,
    title: str = "Encoding",
    progress: bool = True,
    executor: Executor[C] = encode_locally,
) -> tuple[Matrix, EncodeReport]:
    """Vectors of texts or other contents, float32 [len(contents), D]; a refused vector becomes a
    row of zeros.

    Args:
        encoder: called with the contents that the store lacks.
        store: read before and written after each batch.
        contents: in any order, repeated or not.
        batch_size: contents between two commits, the most that a killed run has to repeat; an
            encoder may lower it by its ``request_size``.
        executor: encodes the batches; the vectors do not depend on it.

    Raises:
        EncoderError: the encoder returns another shape, or another width than it did before.
        StoreError: see :class:`EmbeddingStore`.
    """
    start = time.perf_counter()
    names = [content_key(content) for content in contents]
    unique = dict(zip(names, contents, strict=True))
    keys = dict(zip(unique, store.keys(encoder.fingerprint, unique), strict=True))
    known = store.present(list(keys.values()))
    todo = [content for name, content in unique.items() if keys[name] not in known]
    if todo:
        store.require_writable()
    encoded, width = 0, store.width(list(known))
    refused: list[str] = []
    batch_size = min(batch_size, getattr(encoder, "request_size", batch_size))
    with bar(total=len(todo), desc=title, unit="text", shown=progress and todo) as progress_bar:
        batches = _missing(store, keys, _batches(todo, batch_size), progress_bar.update)
        for new, vectors in executor(encoder, batches):
            _check_shape(vectors, len(new), width, stored=not encoded)
            usable = store.usable(vectors)
            kept = np.flatnonzero(usable).tolist()
            store.add([keys[content_key(new[i])] for i in kept], vectors[kept])
            refused += [content_key(new[i]) for i in np.flatnonzero(~usable)]
            width = vectors.shape[1]
            encoded += len(new)
            progress_bar.update(len(new))
    if refused:
        _warn_refused(refused, len(unique))
    # Read back, so that first and later runs give the same numbers, even if stored in float16.
    rows = _load_rows(store, keys, set(refused), width)
    position = {name: row for row, name in enumerate(unique)}
    matrix = rows if len(unique) == len(names) else rows[[position[name] for name in names]]
    cached, seconds = len(unique) - encoded, time.perf_counter() - start
    return matrix, EncodeReport(len(names), len(unique), cached, encoded, len(refused), seconds)


def _load_rows(
    store: EmbeddingStore, keys: Mapping[str, bytes], refused: set[str], width: int | None
) -> Matrix:
    """A vector for each key, zeros if it was refused."""
    if not refused:
        return store.load(list(keys.values()))
    rows = np.zeros((len(keys), width or 0), np.float32)
    stored = [name not in refused for name in keys]
    if any(stored):
        rows[stored] = store.load([key for name, key in keys.items() if name not in refused])
    return rows


def _warn_refused(refused: Sequence[str], unique: int) -> None:
    getLogger("recbole_llm").warning(
        f"the encoder gave no usable vector (not finite, or all zeros) for {len(refused)} of "
        f"{unique} texts, such as {refused[0][:80]!r}; they are not stored, the others are; if "
        f"numbers overflow, set encoder_dtype or embedding_store_dtype to float32"
    )


def _batches(contents: Sequence[C], size: int) -> Batches[C]:
    """Batches of contents of similar length, in an order that differs between processes.

    Processes that start together thus encode different batches, and find each other's stored.
    """
    by_length = sorted(contents, key=lambda content: len(content_key(content)))
    starts = list(range(0, len(by_length), size))
    random.Random(os.getpid()).shuffle(starts)
    for start in starts:
        yield by_length[start : start + size]


def _missing(
    store: EmbeddingStore,
    keys: Mapping[str, bytes],
    batches: Batches[C],
    count_done: Callable[[int], object],
) -> Batches[C]:
    """Of each batch, the contents that the store still lacks when the batch is drawn, since another
    process may have added some."""
    for batch in batches:
        present = store.present([keys[content_key(content)] for content in batch])
        count_done(len(present))
        if len(present) < len(batch):
            yield [content for content in batch if keys[content_key(content)] not in present]


def _check_shape(vectors: Matrix, count: int, width: int | None, stored: bool) -> None:
    if vectors.ndim != 2 or len(vectors) != count or not vectors.shape[1]:
        raise EncoderError(
            f"the encoder returned shape {vectors.shape} for {count} texts; expected [{count}, D]"
        )
    if width in (None, vectors.shape[1]):
        return
    fault = f"the encoder returned vectors of {vectors.shape[1]} numbers, but its"
    if not stored:
        raise EncoderError(f"{fault} earlier ones have {width}; all must have the same number")
    raise EncoderError(
        f"{fault} stored ones have {width}: the model behind its name has changed; set "
        f"embedding_cache_dir to another folder"
    )

"""Encoding by actors of a Ray cluster, one model each; this process alone writes the store."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from recbole_llm.core.errors import one_line
from recbole_llm.core.processes import cluster
from recbole_llm.features.encoders.base import Encoder, EncoderError
from recbole_llm.features.pipeline import Encode, encode_batch, one_by_one
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.table import Matrix

_TRIES = 3  # of a batch whose actor dies, after the first


def encode_of(settings: EncoderSettings) -> Encode:
    """How batches are encoded under settings whose device is known."""
    if settings.encoder_executor == "local":
        return one_by_one
    gpu = str(settings.encoder_device).startswith("cuda")
    return partial(by_actors, settings.encoder_jobs, settings.ray_address, gpu)


def by_actors(
    jobs: int, address: str | None, gpu: bool, encoder: Encoder, batches: Iterator[list[str]]
) -> Iterator[tuple[list[str], Matrix]]:
    """Batches with their vectors, float32 [n, D], in any order.

    A batch is asked for when an actor is free. Where an actor dies, Ray starts it again, with its
    batch. Without batches, nothing is started.

    Args:
        address: of the cluster; see `recbole_llm.core.processes.cluster.connected`.
        gpu: whether each takes one.
        encoder: it is sent to each of them before its model is loaded.

    Raises:
        ValueError: there are too few CPUs for as many.
        EncoderError: an encoder's own, or a batch's actors died again and again.
    """
    batch = next(batches, None)
    if batch is None:
        return
    with cluster.connected(address) as ray:
        share = cluster.share_of(ray, jobs)
        if share.room < jobs:  # the others would wait for ever, with their batches
            raise ValueError(
                f"encoder_jobs: of actors with {share.cpus} CPUs, the cluster has room for "
                f"{share.room}, not for {jobs}; set so many, or fewer threads in OMP_NUM_THREADS"
            )
        actor = ray.remote(_Model).options(
            num_cpus=share.cpus, num_gpus=share.gpus if gpu else 0,
            max_restarts=-1, max_task_retries=_TRIES,
        )  # fmt: skip
        pool = ray.util.ActorPool([actor.remote(encoder, share.threads) for _ in range(jobs)])
        while batch is not None or pool.has_next():
            if batch is not None and pool.has_free():
                pool.submit(lambda actor, texts: actor.encode.remote(texts), batch)
                batch = next(batches, None)
            else:
                yield _answer(ray, pool)


class _Model:
    """In an actor."""

    def __init__(self, encoder: Encoder, threads: int) -> None:
        torch.set_num_threads(threads)
        self._encoder = encoder

    def encode(self, texts: list[str]) -> tuple[list[str], Matrix]:
        return texts, encode_batch(self._encoder, texts)


def _answer(ray: Any, pool: Any) -> tuple[list[str], Matrix]:
    try:
        texts, vectors = pool.get_next_unordered()
    except ray.exceptions.RayTaskError as error:  # the encoder's own, in a wrapping
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise EncoderError(f"Ray: {one_line(error, 300)}; what arrived before is stored") from error
    return texts, vectors

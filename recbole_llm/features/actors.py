"""Encoding by Ray actors, each with its own model; only this process writes to the store."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from recbole_llm.core.errors import one_line
from recbole_llm.core.processes import cluster
from recbole_llm.features.contents.keys import C
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.pipeline import (
    Batches,
    ContentEncoder,
    EncodedBatches,
    Executor,
    encode_batch,
    encode_locally,
)
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.tables.table import Matrix

_TRIES = 3  # retries of a batch whose actor dies


def choose_executor(settings: EncoderSettings) -> Executor[C]:
    """The executor that `encoder_executor` names; `settings` must have their device resolved."""
    if settings.encoder_executor == "local":
        return encode_locally
    gpu = str(settings.encoder_device).startswith("cuda")
    return partial(encode_by_actors, settings.encoder_jobs, settings.ray_address, gpu)


def encode_by_actors(
    jobs: int, address: str | None, gpu: bool, encoder: ContentEncoder[C], batches: Batches[C]
) -> EncodedBatches[C]:
    """Batches with their vectors, float32 [n, D], in any order.

    The next batch is drawn when an actor is free. If an actor dies, Ray restarts it and repeats its
    batch. If there are no batches, no actor is started.

    Args:
        address: of the cluster; see `recbole_llm.core.processes.cluster.connected`.
        gpu: whether each actor uses a GPU.
        encoder: sent to each actor before its model is loaded.

    Raises:
        ValueError: the cluster has too few CPUs for `jobs` actors.
        EncoderError: the encoder failed, or actors died on the same batch too often.
    """
    batch = next(batches, None)
    if batch is None:
        return
    with cluster.connected(address) as ray:
        share = cluster.share_of(ray, jobs)
        if share.room < jobs:  # the other actors would wait forever, and their batches with them
            raise ValueError(
                f"encoder_jobs: the cluster has room for {share.room} actors with {share.cpus} "
                f"CPUs each, not for {jobs}; lower it, or set fewer threads in OMP_NUM_THREADS"
            )
        actor = ray.remote(_Actor).options(
            num_cpus=share.cpus, num_gpus=share.gpus if gpu else 0,
            max_restarts=-1, max_task_retries=_TRIES,
        )  # fmt: skip
        pool = ray.util.ActorPool([actor.remote(encoder, share.threads) for _ in range(jobs)])
        while batch is not None or pool.has_next():
            if batch is not None and pool.has_free():
                pool.submit(lambda actor, contents: actor.encode.remote(contents), batch)
                batch = next(batches, None)
            else:
                yield _next_answer(ray, pool)


class _Actor:
    """Encodes batches in a process of the cluster."""

    def __init__(self, encoder: ContentEncoder[Any], threads: int) -> None:
        torch.set_num_threads(threads)
        self._encoder = encoder

    def encode(self, contents: list[C]) -> tuple[list[C], Matrix]:
        return contents, encode_batch(self._encoder, contents)


def _next_answer(ray: Any, pool: Any) -> tuple[list[Any], Matrix]:
    try:
        contents, vectors = pool.get_next_unordered()
    except ray.exceptions.RayTaskError as error:  # it wraps the encoder's own error
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise EncoderError(f"Ray: {one_line(error, 300)}; earlier vectors are stored") from error
    return contents, vectors

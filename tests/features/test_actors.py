"""Actors of a Ray cluster encode texts to the same vectors, even if an actor dies."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from recbole_llm import testing
from recbole_llm.cli import main
from recbole_llm.core.processes import cluster
from recbole_llm.features import actors
from recbole_llm.features.actors import choose_executor, encode_by_actors
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.sentence_transformer import bundled_folder, encoder_from_folder
from recbole_llm.features.pipeline import Executor, encode_contents, encode_locally
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.stored.vectors import EmbeddingStore
from recbole_llm.features.tables.table import Matrix
from recbole_llm.testing import HashEncoder

N, BATCH = 60, 10
TEXTS = [f"text {'x ' * (i % 7)}{i}" for i in range(N)]


def encoded(folder: Path, executor: Executor[str], encoder: HashEncoder, count: int = N) -> Matrix:
    with closing(EmbeddingStore(folder)) as store:
        return encode_contents(
            encoder, store, TEXTS[:count], BATCH, progress=False, executor=executor
        )[0]


def two(encoder: HashEncoder, batches: Iterator[list[str]]) -> Iterator[tuple[list[str], Matrix]]:
    """Encode batches by two actors."""
    return encode_by_actors(2, None, False, encoder, batches)


class Logging(HashEncoder):
    """Logs each text; its process dies at the text ``deadly``, ``deaths`` times in all."""

    def __init__(self, log: Path, deadly: str = "", deaths: int = 0) -> None:
        super().__init__(8)
        self.log, self.deadly, self.deaths = log, deadly, deaths

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        died = self.log.with_suffix(".died")
        if self.deadly in texts and len(died.read_bytes() if died.exists() else b"") < self.deaths:
            with died.open("ab") as file:
                file.write(b"x")
            os._exit(1)
        with self.log.open("a") as file:
            file.write("".join(f"{text}\n" for text in texts))
        if self.deadly == "error" and self.deadly in texts:
            raise EncoderError("no such word")
        return super().encode(texts)

    @property
    def seen(self) -> Counter[str]:
        return Counter(self.log.read_text().splitlines())


def test_vectors_are_the_same_in_whatever_order_batches_come(tmp_path: Path) -> None:
    def last_first(
        encoder: HashEncoder, batches: Iterator[list[str]]
    ) -> Iterator[tuple[list[str], Matrix]]:
        return reversed(list(encode_locally(encoder, batches)))

    other = encoded(tmp_path / "b", last_first, HashEncoder(8))
    np.testing.assert_array_equal(other, encoded(tmp_path / "a", encode_locally, HashEncoder(8)))


def test_without_anything_to_encode_no_ray_is_needed() -> None:
    assert list(two(HashEncoder(8), iter(()))) == []
    assert choose_executor(EncoderSettings()) is encode_locally


def test_a_missing_ray_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_OLDEST", (999, 0))
    testing.write_tiny_dataset("dataset")
    done = CliRunner().invoke(main, ["encode", "--dataset=tiny", "--executor=ray"])
    assert done.exit_code == 2 and "pip install 'recbole-llm[ray]'" in done.output


@pytest.fixture
def by_value(ray: ModuleType) -> None:
    """Pickle this file's encoders by value, because actors cannot import the file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_a_killed_actor_is_started_again_and_what_is_stored_is_not_encoded_again(
    tmp_path: Path,
) -> None:
    encoder = Logging(tmp_path / "log", deadly=TEXTS[13], deaths=2)
    vectors = encoded(tmp_path / "a", two, encoder)
    assert encoder.log.with_suffix(".died").read_bytes() == b"xx"
    assert encoder.seen == Counter(TEXTS)
    np.testing.assert_array_equal(vectors, HashEncoder(8).encode(TEXTS))


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_a_stopped_encoding_goes_on(tmp_path: Path) -> None:
    def stopped(
        encoder: HashEncoder, batches: Iterator[list[str]]
    ) -> Iterator[tuple[list[str], Matrix]]:
        for number, answer in enumerate(two(encoder, batches)):
            if number == 3:
                raise KeyboardInterrupt
            yield answer

    first, second = Logging(tmp_path / "first"), Logging(tmp_path / "second")
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path / "a", stopped, first)
    vectors = encoded(tmp_path / "a", two, second)
    assert second.seen.total() == N - 3 * BATCH
    np.testing.assert_array_equal(vectors, HashEncoder(8).encode(TEXTS))


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_more_actors_than_there_is_room_for_are_refused() -> None:
    said = "encoder_jobs: the cluster has room for 2 actors with 1 CPUs each, not for 3"
    with pytest.raises(ValueError, match=said):
        list(encode_by_actors(3, None, False, HashEncoder(8), iter([["a"]])))


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_an_encoders_error_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="^no such word$"):
        encoder = Logging(tmp_path / "log", deadly="error")
        list(two(encoder, iter([["a"], ["error"]])))


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_a_batch_that_always_kills_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors, "_TRIES", 1)
    encoder = Logging(tmp_path / "log", deadly=TEXTS[0], deaths=99)
    with pytest.raises(EncoderError, match="^Ray: .*; earlier vectors are stored$"):
        encoded(tmp_path / "a", two, encoder)
    assert encoder.log.with_suffix(".died").read_bytes() == b"xx"


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_real_models_vectors_are_equal_to_the_last_bit(tmp_path: Path) -> None:
    folder = bundled_folder()
    if folder is None:
        pytest.skip("needs the extra offline")
    encoder = encoder_from_folder(folder, EncoderSettings(encoder_device="cpu"))
    vectors = encoded(tmp_path / "a", two, encoder)
    np.testing.assert_array_equal(vectors, encoded(tmp_path / "b", encode_locally, encoder))


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    testing.write_tiny_dataset("dataset")
    monkeypatch.setenv("RECBOLE_LLM_CACHE", "cache")
    command = ["encode", "--dataset=tiny", "--encoder_batch_size=8"]
    done = CliRunner().invoke(main, [*command, "--executor=ray", "--jobs=2"])
    assert done.exit_code == 0, done.output
    assert "texts done in" in done.output
    assert "there already" in CliRunner().invoke(main, command).output

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_texts import CountingEncoder

from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.pipeline import encode_contents
from recbole_llm.features.stored.vectors import EmbeddingStore
from recbole_llm.testing import HashEncoder

SCRIPT = Path(__file__).with_name("killed_run.py")
N, BATCH = 100, 10


def test_each_text_is_encoded_once(store: EmbeddingStore) -> None:
    encoder = CountingEncoder()
    texts = ["b b", "a", "b b", "ccc", "a"]
    matrix, report = encode_contents(encoder, store, texts, progress=False)
    np.testing.assert_array_equal(matrix, HashEncoder(8).encode(texts))
    assert sorted(encoder.seen) == ["a", "b b", "ccc"]
    assert (report.texts, report.unique, report.cached, report.encoded) == (5, 3, 0, 3)
    assert str(report).startswith("5 texts, 3 unique, 0 cached, 3 encoded in ")


def test_a_warm_run_encodes_nothing_and_gives_the_same(tmp_path: Path) -> None:
    for dtype in ("float32", "float16"):
        with closing(EmbeddingStore(tmp_path, dtype)) as store:
            first, _ = encode_contents(CountingEncoder(), store, ["a", "b"], progress=False)
            encoder = CountingEncoder()
            second, report = encode_contents(encoder, store, ["b", "a", "c"], progress=False)
            np.testing.assert_array_equal(second[:2], first[::-1])
            assert (encoder.seen, report.cached, report.encoded) == (["c"], 2, 1)


def test_no_texts(store: EmbeddingStore) -> None:
    matrix, report = encode_contents(CountingEncoder(), store, [], progress=False)
    assert (len(matrix), report.encoded) == (0, 0)


def test_another_encoder_is_not_served_these_vectors(store: EmbeddingStore) -> None:
    encode_contents(CountingEncoder(8), store, ["a"], progress=False)
    matrix, report = encode_contents(CountingEncoder(4), store, ["a"], progress=False)
    assert (matrix.shape, report.encoded) == ((1, 4), 1)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((1, 4)), r"returned shape \(1, 4\) for 2 texts; expected \[2, D\]"),
        (np.zeros(2), r"returned shape \(2,\) for 2 texts"),
        (np.zeros((2, 0)), r"returned shape \(2, 0\) for 2 texts"),
    ],
)
def test_a_bad_encoder_is_found_out(
    store: EmbeddingStore, vectors: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = HashEncoder(4)
    monkeypatch.setattr(encoder, "encode", lambda texts: np.asarray(vectors))
    with pytest.raises(EncoderError, match=message):
        encode_contents(encoder, store, ["a", "bb"], progress=False)
    assert len(store) == 0


@pytest.mark.parametrize(
    "given", [[["a"]], np.array([{}], object), torch.ones(1, 2).requires_grad_()]
)
def test_what_is_no_array_of_numbers_is_named(
    store: EmbeddingStore, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = HashEncoder(4)
    monkeypatch.setattr(encoder, "encode", lambda texts: given)
    with pytest.raises(EncoderError, match="returned a .* that is no array of numbers .1, D. "):
        encode_contents(encoder, store, ["a"], progress=False)


def giving(rows: dict[str, list[float]]) -> HashEncoder:
    """Return an encoder that gives the texts these vectors."""
    encoder = HashEncoder(2)
    encoder.encode = lambda texts: np.array([rows[t] for t in texts])  # type: ignore[method-assign]
    return encoder


def test_a_bad_vector_is_not_stored_and_costs_the_others_nothing(
    store: EmbeddingStore, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {"a": [1.0, 2.0], "bb": [np.nan, 1.0], "c": [3.0, 4.0], "d": [0.0, 0.0], "e": [1e39, 1]}
    encoder = giving(rows)
    matrix, report = encode_contents(encoder, store, [*rows, "a"], 2, progress=False)
    nothing = [0, 0]
    np.testing.assert_array_equal(matrix, [[1, 2], nothing, [3, 4], nothing, nothing, [1, 2]])
    assert (report.encoded, report.refused, len(store)) == (5, 3, 2)
    assert str(report).endswith(" s, 3 of these refused")
    assert "no usable vector (not finite, or all zeros) for 3 of 5 texts" in caplog.text
    # Once the encoder is mended, it encodes only the refused texts.
    rows.update(bb=[5.0, 6.0], d=[7.0, 8.0], e=[9.0, 1.0])
    matrix, report = encode_contents(encoder, store, list(rows), progress=False)
    np.testing.assert_array_equal(matrix, [[1, 2], [5, 6], [3, 4], [7, 8], [9, 1]])
    assert (report.cached, report.encoded, report.refused) == (2, 3, 0)


def test_another_width_than_the_stored_one_is_refused_and_stores_nothing(
    store: EmbeddingStore,
) -> None:
    encoder = giving({"a": [1.0, 2.0]})
    encode_contents(encoder, store, ["a"], progress=False)
    encoder.encode = lambda texts: np.ones((len(texts), 3))  # type: ignore[method-assign]
    with pytest.raises(EncoderError, match="vectors of 3 numbers, but its stored ones have 2"):
        encode_contents(encoder, store, ["a", "b"], progress=False)
    assert len(store) == 1


def test_each_answer_of_an_endpoint_is_committed(store: EmbeddingStore) -> None:
    encoder = giving({t: [1.0, 2.0] for t in "abc"})
    encoder.request_size = 1  # type: ignore[attr-defined]
    encode, asked = encoder.encode, []

    def fail_later(texts: list[str]) -> np.ndarray:
        asked.append(texts)
        if len(asked) == 3:
            raise EncoderError("gone")
        return encode(texts)

    encoder.encode = fail_later  # type: ignore[method-assign, assignment]
    with pytest.raises(EncoderError, match="gone"):
        encode_contents(encoder, store, list("abc"), progress=False)
    assert len(store) == 2


def start(folder: Path, log: Path, pause: float) -> subprocess.Popen[str]:
    root = str(SCRIPT.resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(log), str(N), str(pause)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def expected_sum() -> float:
    return float(HashEncoder(8).encode([f"text {i}" for i in range(N)]).sum())


@pytest.mark.parametrize(
    ("batches", "delay"), [(0, 0.0), (1, 0.0), (3, 0.01), (6, 0.02), (9, 0.03)]
)
def test_a_killed_run_resumes_and_repeats_one_batch_at_most(
    tmp_path: Path, batches: int, delay: float
) -> None:
    log = tmp_path / "log"
    run = start(tmp_path, log, 0.03)
    deadline = time.monotonic() + 300
    while len(lines(log)) < batches * BATCH and run.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(delay)
    run.send_signal(signal.SIGKILL)
    run.wait()
    output, _ = start(tmp_path, log, 0.0).communicate(timeout=300)
    seen = Counter(lines(log))
    assert len(seen) == N
    assert sum(seen.values()) - N <= BATCH
    total, cached, encoded = output.split()
    assert float(total) == pytest.approx(expected_sum(), abs=1e-4)
    assert int(cached) >= (batches - 1) * BATCH
    assert int(cached) + int(encoded) == N


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    runs = [start(tmp_path, tmp_path / f"log{i}", 0.05) for i in range(2)]
    outputs = [run.communicate(timeout=300)[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert outputs[0][0] == outputs[1][0]
    assert float(outputs[0][0]) == pytest.approx(expected_sum(), abs=1e-4)
    # Each process starts with different batches, so together they encode few texts twice.
    encoded = [len(lines(tmp_path / f"log{i}")) for i in range(2)]
    assert N <= sum(encoded) < 2 * N

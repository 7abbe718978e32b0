from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from made_endpoint import FakeEndpoint, fake_endpoint
from made_texts import PlainConfig

pytest.importorskip("openai")

from recbole_llm.features.encoders import endpoint, openai_api
from recbole_llm.features.encoders.answers import read_answer
from recbole_llm.features.encoders.base import Encoder, EncoderError


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Answer with the vector (length, first letter) of each text, in reversed order."""
    vectors = [[len(t), ord(t[0]) if t else 0] for t in body["input"]]
    data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "model": "m", "data": data[::-1], "usage": usage}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    with fake_endpoint(embeddings, monkeypatch) as own:
        yield own


def create(server: FakeEndpoint, **keys: Any) -> Encoder:
    keys = {"base_url": server.url, "model": "m", **keys}
    return openai_api.create(PlainConfig({f"encoder_{k}": v for k, v in keys.items()}))


def test_vectors_come_in_the_order_of_the_texts(server: FakeEndpoint) -> None:
    encoder = create(server, request_size=2)
    vectors = encoder.encode(["a", "bcd", "ef", "ghijk", "l"])
    np.testing.assert_array_equal(vectors, [[1, 97], [3, 98], [2, 101], [5, 103], [1, 108]])
    assert vectors.dtype == np.float32
    paths = {path for path, _, _ in server.requests}
    inputs = [body["input"] for _, _, body in server.requests]
    assert paths == {"/v1/embeddings"}
    assert inputs[:3] == [["a", "bcd"], ["ef", "ghijk"], ["l"]]
    assert server.requests[0][2]["model"] == "m"


def test_the_key_prefix_dimensions_and_norm(
    server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    encoder = create(server, api_key_env="MY_KEY", prefix="q: ", dimensions=2, normalize=True)
    assert server.requests == []
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(["ab"]), axis=1), 1, rtol=1e-6)
    _, authorization, body = server.requests[0]
    assert authorization == "Bearer secret"
    assert (body["input"], body["dimensions"]) == (["q: ab"], 2)


def test_the_query_of_an_address_is_that_of_each_request(server: FakeEndpoint) -> None:
    create(server, base_url=f"{server.url}?api-version=2024-10-21&token=a%2Fb").encode(["a"])
    assert server.requests[0][0] == "/v1/embeddings?api-version=2024-10-21&token=a%2Fb"


def test_failures_are_retried(server: FakeEndpoint) -> None:
    server.failures = [500, 429]
    np.testing.assert_array_equal(create(server).encode(["a"]), [[1, 97]])
    assert len(server.requests) == 3


def test_the_pauses_that_a_server_asks_for_are_no_part_of_its_answer(server: FakeEndpoint) -> None:
    server.failures, server.pause = [429, 429, 429], 300
    assert create(server, timeout=0.5).encode(["a"]).shape == (1, 2)


def test_the_clients_own_variable_names_the_server(
    server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = create(server)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    encoder = create(server, base_url=None)
    assert encoder.encode(["a"]).shape == (1, 2) and len(server.requests) == 1
    assert encoder.fingerprint == told.fingerprint
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert create(server, base_url=None).fingerprint != told.fingerprint


def test_a_server_that_keeps_failing(server: FakeEndpoint) -> None:
    server.failures = [503] * 5
    with pytest.raises(
        EncoderError, match="endpoint 'http://127.0.0.1:.*' failed for model 'm' .*"
    ):
        create(server, max_retries=1).encode(["a"])
    assert len(server.requests) == 2


def test_refusals_are_not_retried(server: FakeEndpoint) -> None:
    server.failures = [401]
    with pytest.raises(EncoderError, match="AuthenticationError.*busy"):
        create(server).encode(["a"])
    assert len(server.requests) == 1


@pytest.mark.parametrize("key", ["", "secret"])
def test_a_missing_key_is_named(
    server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.failures = [401]
    with pytest.raises(EncoderError) as refused:
        create(server).encode(["a"])
    said = "the variable that encoder_api_key_env names holds no API key"
    assert (said in str(refused.value)) is not bool(key)


def test_texts_that_are_refused_are_named_with_the_way_out(server: FakeEndpoint) -> None:
    server.failures, server.said = [400], "maximum context length is 512 tokens"
    with pytest.raises(
        EncoderError,
        match="context length .*sent 2 texts, the longest of 99 characters .'xxx.*item_prompt",
    ):
        create(server).encode(["a", "x" * 99])


def test_too_few_vectors(server: FakeEndpoint) -> None:
    server.reply = lambda body: embeddings({"input": body["input"][:1]})
    with pytest.raises(EncoderError, match="answered with 1 vectors for 2 texts"):
        create(server).encode(["a", "b"])


def test_an_answer_that_breaks_off_is_asked_for_again(
    server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint.time, "sleep", lambda seconds: None)
    server.broken = 2
    np.testing.assert_array_equal(create(server).encode(["a"]), [[1, 97]])
    assert len(server.requests) == 3
    server.broken = 2
    with pytest.raises(EncoderError, match="RemoteProtocolError|IncompleteRead|peer closed"):
        create(server, max_retries=1).encode(["a"])


def test_an_error_names_neither_key_nor_password(
    server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chained errors, which --debug shows, hold no secret either."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    url = server.url.replace("//", "//me:pass%21word@") + "?token=t0ken/a&v=1&api-key=k%3Dey"
    server.said = "bad key {key} of me:pass!word at {path}; t0ken/a; 1"
    for status in (401, 400, 429):
        server.failures = [status]
        with pytest.raises(EncoderError, match=r"key .*\*\*\*.* of .*") as caught:
            create(server, base_url=url, max_retries=0).encode(["a"])
        shown = "".join(traceback.format_exception(caught.value))
        for secret in ("sk-secret", "pass!word", "pass%21word", "t0ken", "k%3Dey"):
            assert secret not in shown
        assert "; 1" in str(caught.value)


def test_rows_at_fault_are_not_finite_and_cost_the_others_nothing() -> None:
    def answer(*vectors: object) -> bytes:
        entries = [{"index": i, "embedding": v} for i, v in enumerate(vectors)]
        return json.dumps({"data": entries[::-1]}).encode()

    nan = np.nan
    made = read_answer(answer([1, 2], [3], None, [float("nan"), 1], ["1", "2"], [1e39, 1]), 6)
    np.testing.assert_array_equal(made, [[1, 2], *[[nan, nan]] * 5])
    assert made.dtype == np.float32
    np.testing.assert_array_equal(read_answer(answer([1], [2], [3, 4]), 3, 2)[2], [3, 4])
    with pytest.raises(EncoderError, match="vectors of 1 numbers, expected 2"):
        read_answer(answer([1], [2]), 2, 2)


@pytest.mark.parametrize("indices", [[1, 2], [0, 0], [-1, 0], [0, 2], [False, True], ["0", "1"]])
def test_bad_indices_are_refused(indices: list[object]) -> None:
    """Sorting by such indices would store a vector for the wrong text."""
    entries = [{"index": i, "embedding": [1.0]} for i in indices]
    with pytest.raises(EncoderError, match="it answered with the index"):
        read_answer(json.dumps({"data": entries}).encode(), 2)


def test_a_server_that_is_not_there() -> None:
    config = PlainConfig(
        encoder_model="m", encoder_base_url="http://127.0.0.1:9/v1", encoder_max_retries=1
    )
    with pytest.raises(EncoderError, match="APIConnectionError"):
        openai_api.create(config).encode(["a"])


def test_model_and_api_key_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EncoderError, match="set encoder_model to the model's name at the endpoint"):
        openai_api.create(PlainConfig())
    with pytest.raises(EncoderError, match="variable OPENAI_API_KEY holds no API key; set it, or "):
        openai_api.create(PlainConfig(encoder_model="m"))


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("HTTP://me:Pass@HOST:8000/V1/?token=a", "http://host:8000/V1"),
        ("http://host/", "http://host"),
        ("https://api.openai.com/v1/", None), (None, None),
    ],
)  # fmt: skip
def test_an_address_has_one_spelling(url: str | None, where: str | None) -> None:
    assert endpoint.Endpoint("m", url, "k", 0, 1.0, "encoder", "vectors").where == where


def test_the_fingerprint_names_server_and_model_but_not_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fingerprint(**keys: Any) -> str:
        config = PlainConfig(encoder_base_url="http://a/v1", encoder_model="m", **keys)
        return openai_api.create(config).fingerprint

    plain = fingerprint()
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert fingerprint() == plain
    assert fingerprint(encoder_request_size=3) == plain
    others = [fingerprint(encoder_dimensions=3), fingerprint(encoder_prefix="x")]
    assert len({plain, *others}) == 3

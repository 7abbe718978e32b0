"""Misbehaving embedding endpoints: no bad vector is stored, and each error is one line.

``python tests/campaigns/endpoints.py`` prints a line per endpoint and the counts. The right vector
of a text is (its length, 1), so that every stored row can be checked.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from outcomes import Outcome, report

from recbole_llm.features.encoders import openai_api
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.pipeline import encode_contents
from recbole_llm.features.stored.vectors import EmbeddingStore

TEXTS = ["a", "bb", "ccc"]
SECRET = "s3cret"
TIMEOUT = 1  # seconds
DEADLINE = 20 * TIMEOUT  # of a case
NAN, INF = float("nan"), float("inf")

Answer = Callable[["Handler", list[str]], None]


def entries(texts: list[str]) -> list[dict[str, Any]]:
    return [{"index": i, "embedding": [float(len(t)), 1.0]} for i, t in enumerate(texts)]


def data(change: Callable[[list[dict[str, Any]]], Any] = lambda e: e) -> Answer:
    """A well-formed answer whose entries are changed."""

    def answer(handler: Handler, texts: list[str]) -> None:
        made = entries(texts)
        changed = change(made)
        handler.reply(json.dumps({"data": made if changed is None else changed}).encode())

    return answer


def vector(value: Any) -> Answer:
    """An answer in which the second text's vector is replaced."""
    return data(lambda made: made[1].update(embedding=value))


def index(*values: Any) -> Answer:
    return data(lambda made: [{**e, "index": v} for e, v in zip(made, values, strict=True)])


def body(content: bytes, **headers: str) -> Answer:
    return lambda handler, texts: handler.reply(content, **headers)


def status(code: int, content: bytes = b'{"error": {"message": "no"}}') -> Answer:
    return lambda handler, texts: handler.reply(content, code)


def raw(content: bytes) -> Answer:
    return lambda handler, texts: handler.send(content)


def trickle(handler: Handler, texts: list[str]) -> None:
    handler.head(200, 10_000)
    for _ in range(40):
        handler.send(b" ")
        time.sleep(TIMEOUT / 4)


def silence(handler: Handler, texts: list[str]) -> None:
    handler.gone.wait(4 * TIMEOUT)


def silence_after_the_head(handler: Handler, texts: list[str]) -> None:
    handler.head(200, 100)
    silence(handler, texts)


def long(handler: Handler, texts: list[str]) -> None:
    handler.head(200, 1 << 30)
    block = b" " * (1 << 20)
    for _ in range(1 << 10):
        handler.send(block)


def once_short(handler: Handler, texts: list[str]) -> None:
    """Break off the first answer, and complete the second."""
    if handler.server.requests == 1:
        handler.head(200, 100)
        handler.send(b'{"data": [')
    else:
        data()(handler, texts)


def wider_each_time(handler: Handler, texts: list[str]) -> None:
    extra = [0.0] * handler.server.requests
    data(lambda made: [{**e, "embedding": e["embedding"] + extra} for e in made])(handler, texts)


def repeated_key(handler: Handler, texts: list[str]) -> None:
    said = f"bad key {handler.headers['Authorization']}"
    handler.reply(json.dumps({"error": {"message": said}}).encode(), 401)


def base64_vectors(made: list[dict[str, Any]]) -> None:
    for entry in made:
        packed = struct.pack(f"<{len(entry['embedding'])}f", *entry["embedding"])
        entry["embedding"] = base64.b64encode(packed).decode()


HTML = b"<!doctype html><html><body>Sign in\r\n to go on</body></html>"
GOOD = json.dumps({"data": entries(TEXTS)}).encode()
# An answer, and the texts whose right vectors are stored despite the bad ones; None: all texts.
Case = tuple[Answer, tuple[str, ...] | None]
CASES: dict[str, Case] = {
    "a good answer": (data(), None),
    "entries in another order": (data(lambda made: made[::-1]), None),
    "an answer that breaks off once": (once_short, None),
    "gzip": (body(gzip.compress(GOOD), Content_Encoding="gzip"), None),
    "a page of HTML": (body(HTML, Content_Type="text/html"), ()),
    "a page of HTML that calls itself JSON": (body(HTML), ()),
    "null": (body(b"null"), ()),
    "a list": (body(b"[1, 2, 3]"), ()),
    "a number": (body(b"7"), ()),
    "a text": (body(b'"ok"'), ()),
    "an empty object": (body(b"{}"), ()),
    "nothing": (body(b""), ()),
    "an error with status 200": (body(b'{"error": {"message": "over quota"}}'), ()),
    "data that is null": (body(b'{"data": null}'), ()),
    "data that is an object": (body(b'{"data": {"0": [1, 2]}}'), ()),
    "no vectors": (body(b'{"data": []}'), ()),
    "truncated JSON": (body(GOOD[:-20]), ()),
    "two documents": (body(GOOD + GOOD), ()),
    "bytes that are no UTF-8": (body(b"\xff\xfe\x00\x01" * 9), ()),
    "control characters": (body(b"\x1b[31m\x07\r\n\x00" * 9), ()),
    "deep brackets": (body(b"[" * 100_000), ()),
    "a truncated gzip": (body(gzip.compress(GOOD)[:40], Content_Encoding="gzip"), ()),
    "no gzip": (body(GOOD, Content_Encoding="gzip"), ()),
    "one vector too few": (data(lambda made: made[:-1]), ()),
    "one vector too many": (data(lambda made: [*made, made[0]]), ()),
    "indices from 1": (index(1, 2, 3), ()),
    "an index twice": (index(0, 1, 1), ()),
    "a negative index": (index(0, 1, -1), ()),
    "an index that is a text": (index("0", "1", "2"), ()),
    "indices that are bools": (index(False, True, 2), ()),
    "no indices": (data(lambda made: [{"embedding": e["embedding"]} for e in made]), ()),
    "entries that are vectors": (data(lambda made: [e["embedding"] for e in made]), ()),
    "one vector of NaN": (vector([NAN, 1.0]), ("a", "ccc")),
    "one vector of infinities": (vector([INF, -INF]), ("a", "ccc")),
    "one number beyond float32": (vector([1e300, 1.0]), ("a", "ccc")),
    "one integer beyond floats": (vector([10**400, 1]), ("a", "ccc")),
    "one vector of zeros": (vector([0.0, 0.0]), ("a", "ccc")),
    "one empty vector": (vector([]), ("a", "ccc")),
    "one shorter vector": (vector([2.0]), ("a", "ccc")),
    "one longer vector": (vector([2.0, 1.0, 1.0]), ("a", "ccc")),
    "one vector that is null": (vector(None), ("a", "ccc")),
    "one vector of texts": (vector(["2.0", "1.0"]), ("a", "ccc")),
    "one vector of vectors": (vector([[2.0, 1.0]]), ("a", "ccc")),
    "one vector of bools": (vector([True, True]), ("a", "ccc")),
    "vectors in base64": (data(base64_vectors), ()),
    "all vectors of zeros": (data(lambda made: [{**e, "embedding": [0, 0]} for e in made]), ()),
    "all vectors empty": (data(lambda made: [{**e, "embedding": []} for e in made]), ()),
    "another width in each answer": (wider_each_time, ()),
    "the key in an error": (repeated_key, ()),
    "status 400": (status(400), ()),
    "status 404 with HTML": (status(404, HTML), ()),
    "status 500": (status(500), ()),
    "status 301 to nowhere": (
        raw(b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:9\r\n\r\n"),
        (),
    ),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9\r\n"), ()),
    "a closed connection": (raw(b""), ()),
    "a body that breaks off": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), ()),
    "a body without an end": (long, ()),
    "a trickling body": (trickle, ()),
    "no answer": (silence, ()),
    "no answer after the head": (silence_after_the_head, ()),
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    answer: Answer
    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server
    gone = threading.Event()  # set when the campaign is over

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests += 1
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client has left
            self.server.answer(self, asked["input"])

    def head(self, code: int, length: int, **headers: str) -> None:
        self.send_response(code)
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        named = {"Content-Type": "application/json", **named, "Content-Length": str(length)}
        for name, value in named.items():
            self.send_header(name, value)
        self.end_headers()

    def reply(self, content: bytes, code: int = 200, **headers: str) -> None:
        self.head(code, len(content), **headers)
        self.wfile.write(content)

    def send(self, content: bytes) -> None:
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *args: Any) -> None:
        """Write no log."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    Handler.gone.clear()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        Handler.gone.set()
        server.shutdown()
        thread.join()
        server.server_close()


def run_case(server: Server, name: str, answer: Answer, kept: tuple[str, ...] | None) -> Outcome:
    server.answer, server.requests = answer, 0  # type: ignore[method-assign]
    url = f"http://user:{SECRET}@127.0.0.1:{server.server_port}/v1"
    config = {
        "encoder_model": "m", "encoder_base_url": url, "encoder_api_key_env": "CAMPAIGN_KEY",
        "encoder_max_retries": 1 if kept is None else 0, "encoder_timeout": TIMEOUT,
        "encoder_request_size": 1 if answer is wider_each_time else 128,
    }  # fmt: skip
    start, said = time.monotonic(), ""
    with tempfile.TemporaryDirectory() as folder, closing(EmbeddingStore(folder)) as store:
        encoder = openai_api.create(config)
        try:
            _, report = encode_contents(encoder, store, TEXTS, progress=False)
            said = f"{report.refused} refused" if report.refused else ""
        except EncoderError as error:
            said = str(error)
        keys = dict(zip(TEXTS, store.keys(encoder.fingerprint, TEXTS), strict=True))
        there = [t for t in TEXTS if store.present([keys[t]])]
        rows = {t: store.load([keys[t]])[0].tolist() for t in there}
    faults = _faults(said, rows, kept, answer)
    if time.monotonic() - start > DEADLINE:
        faults.append(f"it took {time.monotonic() - start:.0f} s")
    return Outcome(name, f"{len(rows)} stored; {said or 'nothing said'}", faults)


def _faults(
    said: str, rows: dict[str, list[float]], kept: tuple[str, ...] | None, answer: Answer
) -> list[str]:
    faults = [f"{t!r} is stored as {row}" for t, row in rows.items() if answer is not
              wider_each_time and row != [len(t), 1.0]]  # fmt: skip
    wanted = TEXTS if kept is None else list(kept)
    if answer is wider_each_time:  # the first width is as good as the others
        faults += [f"{len(rows)} widths are stored"] if len(rows) != 1 else []
    elif list(rows) != wanted:
        faults.append(f"stored are {list(rows)}, expected {wanted}")
    if (said == "") != (kept is None):
        faults.append(f"it said {said!r}")
    if "\n" in said or not said.isprintable():
        faults.append("more than one line, or control characters")
    basic = base64.b64encode(f"user:{SECRET}".encode()).decode()
    if SECRET in said or basic in said or len(said) > 500:
        faults.append("a secret, or too much, in the line")
    return faults


def run() -> list[Outcome]:
    """Run all cases, one after the other, against a local server."""
    proxies = [name for name in os.environ if name.lower().endswith("_proxy")]
    before = {name: os.environ.pop(name) for name in proxies}
    os.environ["CAMPAIGN_KEY"] = f"key-{SECRET}"
    try:
        with serving() as server, np.errstate(all="ignore"):
            return [run_case(server, name, *case) for name, case in CASES.items()]
    finally:
        os.environ.pop("CAMPAIGN_KEY")
        os.environ.update(before)


if __name__ == "__main__":
    print(report(run(), "endpoints"))

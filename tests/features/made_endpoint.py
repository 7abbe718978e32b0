"""A fake OpenAI-compatible endpoint on localhost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Reply = Callable[[dict[str, Any]], dict[str, Any] | int]


class FakeEndpoint(ThreadingHTTPServer):
    """Records the requests that it gets.

    Args:
        reply: the answer to the body of a request, or the status code of a failure.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.requests: list[tuple[str, str, dict[str, Any]]] = []  # path, authorization, body
        self.failures: list[int] = []  # status codes of the next answers
        self.said = "busy"  # their message; {path} and {key} are the request's
        self.code: str | None = None
        self.pause: int | None = 10  # milliseconds that a failure asks for
        self.broken = 0  # next answers that end in the middle
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: FakeEndpoint

    def do_POST(self) -> None:
        own = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        own.requests.append((self.path, self.headers["Authorization"], body))
        reply = own.failures.pop(0) if own.failures else own.reply(body)
        if isinstance(reply, int):
            said = own.said.format(path=self.path, key=self.headers["Authorization"])
            self.answer(reply, {"error": {"message": said, "code": own.code}})
        else:
            self.answer(200, reply)

    def answer(self, status: int, content: dict[str, Any]) -> None:
        payload = json.dumps(content).encode()
        missing = 9 if self.server.broken > 0 else 0
        self.server.broken -= 1
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload) + missing))
        if self.server.pause is not None:
            self.send_header("retry-after-ms", str(self.server.pause))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def fake_endpoint(reply: Reply, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    """Serve an endpoint within the context, with no proxy or API key in the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with FakeEndpoint(reply) as own:
        thread = threading.Thread(target=own.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield own
        own.shutdown()
        thread.join()

"""Pauses that the requests to an endpoint make together."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from threading import Event, Lock

from recbole_llm.features.encoders.base import EncoderError

_FIRST, _LONGEST = 1.0, 60.0  # seconds of a pause that the endpoint does not name


class Gate:
    """Holds the requests of all workers back while an endpoint takes no more (HTTP 429).

    Pauses are as long as it asks for, or else double until it answers.
    """

    def __init__(self) -> None:
        self.stopped = Event()  # nobody waits any longer, and no request begins
        self.lock = Lock()
        self.pause = self.until = self.answered = 0.0

    def __reduce__(self) -> tuple[type[Gate], tuple[()]]:
        return Gate, ()  # another process, such as an actor of Ray, has its own pauses

    def wait(self) -> float:
        """Wait until requests may begin; the time then."""
        while (left := self.until - time.monotonic()) > 0 or self.stopped.is_set():
            self.sleep(left)
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """A pause; EncoderError if all is stopped."""
        if self.stopped.wait(max(seconds, 0.0)):
            raise EncoderError("stopped") from None

    def close(self, began: float, asked: float | None, since: float, patience: float) -> bool:
        """Record a request that was refused; False if it is to be given up.

        Args:
            began: when the request did.
            asked: seconds that the endpoint asks to wait.
            since: when its first attempt began.
            patience: seconds to wait at most, from then or from the last answer to any request.
        """
        with self.lock:
            now = time.monotonic()
            pause, until = self.pause, self.until
            if asked is not None:
                until = max(until, now + asked)
            elif began >= until:  # else the pause has come while it was under way
                pause = min(max(2 * pause, _FIRST), _LONGEST)
                until = now + pause
            if until > max(since, self.answered) + patience:
                return False
            self.pause, self.until = pause, until
            return True

    def open(self, began: float) -> None:
        """Record a request that was answered."""
        with self.lock:
            self.answered = time.monotonic()
            if began >= self.until:
                self.pause = 0.0


def retry_after_seconds(error: Exception) -> float | None:
    """Seconds that the answer behind an error asks to wait; None: it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = headers.get("retry-after", "")
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif said.endswith("GMT"):
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        else:
            seconds = float(said)
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None

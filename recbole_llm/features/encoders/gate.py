"""Pauses that all requests to an endpoint share."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from threading import Event, Lock

from recbole_llm.features.encoders.base import EncoderError

_FIRST, _LONGEST = 1.0, 60.0  # seconds of a pause if the endpoint names none


class Gate:
    """Holds back the requests of all workers while an endpoint accepts none (HTTP 429).

    A pause is as long as the endpoint asks for; if it does not say, pauses double until it answers.
    """

    def __init__(self) -> None:
        self.stopped = Event()  # once set, waits end and no request begins
        self.lock = Lock()
        self.pause = self.until = self.answered = 0.0

    def __reduce__(self) -> tuple[type[Gate], tuple[()]]:
        return Gate, ()  # another process, such as an actor of Ray, has its own pauses

    def wait(self) -> float:
        """Wait until requests may begin, and return the time."""
        while (left := self.until - time.monotonic()) > 0 or self.stopped.is_set():
            self.sleep(left)
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Pause; EncoderError if the run is stopped."""
        if self.stopped.wait(max(seconds, 0.0)):
            raise EncoderError("stopped") from None

    def close(self, began: float, asked: float | None, since: float, patience: float) -> bool:
        """Record a request that was refused; return False if it must be given up.

        Args:
            began: when the request began.
            asked: seconds that the endpoint asks to wait.
            since: when the first attempt of the request began.
            patience: most seconds to wait, counted from `since` or the last answer to any request.
        """
        with self.lock:
            now = time.monotonic()
            pause, until = self.pause, self.until
            if asked is not None:
                until = max(until, now + asked)
            elif began >= until:  # else the pause began while it was under way
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
    """Seconds that the response of an error asks to wait; None if it does not say."""
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

"""Prompts that several workers ask an endpoint about, each as one becomes free."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from logging import getLogger
from threading import Thread

from recbole_llm.core.lines import counted
from recbole_llm.core.log import show
from recbole_llm.features.encoders.endpoint import Limited

_ROUNDS = 4  # requests of each worker in a row without an answer: is the endpoint still there?
_TRIVIAL = "Say hello."
_GRACE = 10.0  # seconds for the answers under way after an interrupt
Answer = tuple[str, int]  # and its tokens
Keep = Callable[[Mapping[str, Answer]], None]


class Asking:
    """One run over prompts.

    A prompt that gets no text although the endpoint may be right waits until a request that began
    later is answered: before that, the endpoint may be at fault. It is then asked again and, after
    as many requests as are worth it, has an empty text. Where no other prompt is left to tell, one
    that was answered before is asked once more.

    Args:
        ask: the answer to a prompt; called by the workers.
        tries: requests that a prompt is worth after an error; 0: the prompt fails.
    """

    def __init__(
        self, ask: Callable[[str], Answer], tries: Callable[[BaseException], int], workers: int
    ) -> None:
        self.ask, self.tries, self.workers = ask, tries, workers
        self.queue: deque[str] = deque()
        self.running: dict[Future[Answer], tuple[str | None, int]] = {}  # None: only to see
        self.waiting: dict[str, tuple[BaseException, int]] = {}  # requests begun until then
        self.tried: Counter[str] = Counter()
        self.ready: dict[str, Answer] = {}  # to be kept
        self.empty: list[BaseException] = []  # why
        self.failed: list[BaseException] = []
        self.known = _TRIVIAL  # a prompt that was answered
        self.begun = self.in_a_row = 0  # requests; the last ones without an answer
        self.over = False  # no further request begins

    def run(self, prompts: Sequence[str], keep: Keep, stop: Callable[[], None]) -> None:
        """Hand the answers to `keep` as they come; the first error, if any, at the end.

        An error of `keep` or an interrupt calls `stop`, which lets no further request begin; after
        an interrupt, answers to those under way are kept that come soon and before a second one.
        """
        self.queue.extend(prompts)
        try:
            while self._fed():
                for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                    self._take(future)
                self._hand_over(keep)
        except BaseException as error:
            stop()
            if isinstance(error, KeyboardInterrupt):
                self._finish()
                self._hand_over(keep)
            raise
        if self.empty:
            getLogger("recbole_llm").warning(
                f"an empty text for {counted(len(self.empty), 'prompt')}, refused or never "
                f"answered with a text: {self.empty[0]}"
            )
        if self.failed:
            raise self.failed[0]

    def _fed(self) -> bool:
        """Let free workers ask; whether any is at work."""
        rounds = 1 if self.known == _TRIVIAL else _ROUNDS  # before the first answer
        while self.queue and not self.over and len(self.running) < self.workers:
            if self.in_a_row + len(self.running) >= rounds * self.workers:
                break
            self._begin(self.queue.popleft())
        if not (self.running or self.over) and (self.queue or self.waiting):
            self._begin(None)
        return bool(self.running)

    def _begin(self, prompt: str | None) -> None:
        self.begun += 1
        future: Future[Answer] = Future()
        self.running[future] = prompt, self.begun
        request = future, self.known if prompt is None else prompt
        # The process would wait for a pool's workers when it ends, but not for daemons.
        Thread(target=self._work, args=request, daemon=True).start()

    def _work(self, future: Future[Answer], prompt: str) -> None:
        try:
            future.set_result(self.ask(prompt))
        except BaseException as error:
            future.set_exception(error)

    def _take(self, future: Future[Answer]) -> None:
        """Note the answer to a request, or why there is none."""
        prompt, number = self.running[future]
        error = future.exception()
        if error is None:
            if prompt is not None:
                self.ready[prompt], self.known = future.result(), prompt
            self.in_a_row = 0
            self._settle(number)
        else:
            self.in_a_row += 1
            self.over = self.over or prompt is None or isinstance(error, Limited)
            if prompt is None:  # what waits fails, too
                self.failed += [*(why for why, _ in self.waiting.values()), error]
            elif self.tries(error):
                self.waiting[prompt] = error, self.begun
            else:
                self.failed.append(error)
        del self.running[future]

    def _settle(self, answered: int) -> None:
        """Ask again, or no more, about those that failed before the request with this number."""
        for prompt, (error, begun) in list(self.waiting.items()):
            if begun < answered:
                del self.waiting[prompt]
                self.tried[prompt] += 1
                if self.tried[prompt] < self.tries(error):
                    self.queue.append(prompt)
                else:
                    self.ready[prompt] = "", 0
                    self.empty.append(error)

    def _hand_over(self, keep: Keep) -> None:
        if self.ready:
            keep(self.ready)
            self.ready = {}

    def _finish(self) -> None:
        """Wait for the requests under way, though not for long, nor after a second interrupt."""
        with suppress(KeyboardInterrupt):
            under_way = sum(not future.done() for future in self.running)
            show(
                f"interrupted; keeping the answers to {counted(under_way, 'request')} under way "
                f"that come within {_GRACE:g} s; interrupt again to end at once"
            )
            wait(self.running, _GRACE)
        for future, (prompt, _) in self.running.items():
            if prompt is not None and future.done() and future.exception() is None:
                self.ready[prompt] = future.result()

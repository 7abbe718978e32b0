"""Workers that send prompts to an endpoint; each takes the next one as soon as it is free."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from logging import getLogger
from threading import Thread
from typing import NamedTuple

from recbole_llm.core.lines import plural
from recbole_llm.core.log import show
from recbole_llm.features.encoders.endpoint import RateLimited

_ROUNDS = 4  # unanswered requests in a row, per worker, after which the endpoint is probed
_TRIVIAL = "Say hello."
_GRACE = 10.0  # seconds for the answers under way after an interrupt
Answer = tuple[str, int]  # a text and its number of tokens
KeepAnswers = Callable[[Mapping[str, Answer]], None]


class _Request(NamedTuple):
    prompt: str | None  # None: a probe of whether the endpoint still answers
    number: int


class _Failure(NamedTuple):
    error: BaseException
    request: int  # number of the last request that had begun when it failed


class WorkerRun:
    """One run of an endpoint's workers over prompts.

    If a prompt gets no text, it or the endpoint may be at fault. So the prompt waits until a
    request that began later is answered. Then it is sent again; after `max_requests` requests it
    gets an empty text. If only such prompts are left, a probe is sent: a prompt that was answered
    before.

    Args:
        request: sends a prompt; called by the workers.
        max_requests: how often a prompt with this error is sent; 0: the prompt fails.
    """

    def __init__(
        self,
        request: Callable[[str], Answer],
        max_requests: Callable[[BaseException], int],
        workers: int,
    ) -> None:
        self.request, self.max_requests, self.workers = request, max_requests, workers
        self.queue: deque[str] = deque()
        self.running: dict[Future[Answer], _Request] = {}
        self.waiting: dict[str, _Failure] = {}
        self.failures: Counter[str] = Counter()  # by prompt
        self.ready: dict[str, Answer] = {}  # to be kept
        self.given_up: list[BaseException] = []  # one for each prompt with an empty text
        self.errors: list[BaseException] = []
        self.probe = _TRIVIAL  # later, the last prompt that was answered
        self.n_requests = self.n_unanswered = 0  # begun; the last ones in a row without answer
        self.stopping = False  # no further request begins

    def run(self, prompts: Sequence[str], keep: KeepAnswers, stop: Callable[[], None]) -> None:
        """Pass answers to `keep` as they arrive, and raise the first error, if any, at the end.

        On an error of `keep` or an interrupt, `stop` is called, which prevents further requests.
        After an interrupt, answers to requests under way are kept if they arrive soon, and before a
        second interrupt.
        """
        self.queue.extend(prompts)
        try:
            while self._start_requests():
                for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                    self._record(future)
                self._hand_over(keep)
        except BaseException as error:
            stop()
            if isinstance(error, KeyboardInterrupt):
                self._collect_running()
                self._hand_over(keep)
            raise
        if self.given_up:
            getLogger("recbole_llm").warning(
                f"an empty text for {plural(len(self.given_up), 'prompt')}, refused or never "
                f"answered with a text: {self.given_up[0]}"
            )
        if self.errors:
            raise self.errors[0]

    def _start_requests(self) -> bool:
        """Give free workers a prompt, and return whether any worker is busy."""
        rounds = 1 if self.probe == _TRIVIAL else _ROUNDS  # before the first answer
        while self.queue and not self.stopping and len(self.running) < self.workers:
            if self.n_unanswered + len(self.running) >= rounds * self.workers:
                break
            self._start(self.queue.popleft())
        if not (self.running or self.stopping) and (self.queue or self.waiting):
            self._start(None)
        return bool(self.running)

    def _start(self, prompt: str | None) -> None:
        self.n_requests += 1
        future: Future[Answer] = Future()
        self.running[future] = _Request(prompt, self.n_requests)
        args = future, self.probe if prompt is None else prompt
        # The process would wait for a pool's workers when it ends, but not for daemons.
        Thread(target=self._work, args=args, daemon=True).start()

    def _work(self, future: Future[Answer], prompt: str) -> None:
        try:
            future.set_result(self.request(prompt))
        except BaseException as error:
            future.set_exception(error)

    def _record(self, future: Future[Answer]) -> None:
        """Record the answer to a request, or its error."""
        prompt, number = self.running[future]
        error = future.exception()
        if error is None:
            if prompt is not None:
                self.ready[prompt], self.probe = future.result(), prompt
            self.n_unanswered = 0
            self._release_waiting(number)
        else:
            self.n_unanswered += 1
            self.stopping = self.stopping or prompt is None or isinstance(error, RateLimited)
            if prompt is None:  # the waiting prompts fail, too
                self.errors += [*(failure.error for failure in self.waiting.values()), error]
            elif self.max_requests(error):
                self.waiting[prompt] = _Failure(error, self.n_requests)
            else:
                self.errors.append(error)
        del self.running[future]

    def _release_waiting(self, answered: int) -> None:
        """Queue prompts that failed before the request `answered` began, or give them up."""
        for prompt, failure in list(self.waiting.items()):
            if failure.request < answered:
                del self.waiting[prompt]
                self.failures[prompt] += 1
                if self.failures[prompt] < self.max_requests(failure.error):
                    self.queue.append(prompt)
                else:
                    self.ready[prompt] = "", 0
                    self.given_up.append(failure.error)

    def _hand_over(self, keep: KeepAnswers) -> None:
        if self.ready:
            keep(self.ready)
            self.ready = {}

    def _collect_running(self) -> None:
        """Wait a little for the requests under way; a second interrupt ends that."""
        with suppress(KeyboardInterrupt):
            under_way = sum(not future.done() for future in self.running)
            show(
                f"interrupted; keeping the answers to {plural(under_way, 'request')} under way "
                f"that come within {_GRACE:g} s; interrupt again to end at once"
            )
            wait(self.running, _GRACE)
        for future, (prompt, _) in self.running.items():
            if prompt is not None and future.done() and future.exception() is None:
                self.ready[prompt] = future.result()

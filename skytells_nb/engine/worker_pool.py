"""Sending: threads, retries, cancelling."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skytells_nb.client.client import Skytells
from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.engine.budget import Budget
from skytells_nb.engine.operations.requests import BatchResult, Operation
from skytells_nb.engine.planning import PlannedRequest, RunCounters
from skytells_nb.engine.rate_limit.limiter import RateLimiter
from skytells_nb.engine.results import ResultBuffer, Values
from skytells_nb.engine.retry import CircuitBreaker, RetryPolicy, describe_error, is_splittable
from skytells_nb.engine.threads import ReaderPool, WakeEvent
from skytells_nb.errors import (
    AccountError,
    BudgetExceededError,
    ConnectError,
    ContentPolicyError,
    InvalidResponseError,
    RateLimitError,
    SkytellsError,
)

GRACE_S = 0.2
"""Time that answers under way get to arrive once the run is interrupted."""
TICK_S = 0.1

_log = logging.getLogger(__name__)


class ClientPool(Protocol):
    """Where workers get their clients, one each."""

    def acquire(self) -> Skytells: ...

    def release(self, client: Skytells) -> None: ...


class _NotKept(Exception):
    """An answer came and could not be kept: no fault of its request, which must not be sent again."""

    def __init__(self, problem: Exception) -> None:
        super().__init__(problem)
        self.problem = problem


class WorkerPool:
    """Sends requests with up to ``workers`` threads; ``store`` keeps each answer before it is counted.

    ``weights`` are the rows that each input stands for. ``settled`` is told the inputs that have their answer stored,
    or will get none.

    ``execute`` returns when every input has an answer or an error. An error that concerns the whole account, a dead
    service or a spent budget ends the run: nothing more is sent, what is under way is kept, then it is raised.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[str],
        weights: NDArray[np.int64],
        work: Operation,
        answers: ResultBuffer,
        store: Callable[[NDArray[np.int64], Values], None],
        settled: Callable[[NDArray[np.int64]], None],
        clients: ClientPool,
        pacer: RateLimiter,
        retry: RetryPolicy,
        breaker: CircuitBreaker,
        budget: Budget,
        learn: Callable[[float, int], None],
        workers: int,
        readers: ReaderPool,
        tick: Callable[[], None],
        stop_on_error: bool = False,
    ) -> None:
        self.tally = RunCounters()
        self._began = time.monotonic()
        self._inputs = inputs
        self._weights = weights
        self._work = work
        self._answers = answers
        self._store = store
        self._settled = settled
        self._clients = clients
        self._pacer = pacer
        self._retry = retry
        self._breaker = breaker
        self._budget = budget
        self._learn = learn
        self._workers = workers
        self._readers = readers
        self._tick = tick
        self._stop_on_error = stop_on_error
        self._queue: deque[PlannedRequest] = deque()
        self._lock = threading.Lock()
        self._last_ended = WakeEvent()
        self._stopped = threading.Event()
        self._fatal: Exception | None = None
        self._working: set[threading.Thread] = set()
        self._busy: set[Skytells] = set()
        self._limited_since: float | None = None

    def run(self, requests: Sequence[PlannedRequest]) -> None:
        """Send everything; on KeyboardInterrupt cut the connections and raise it again within a second."""
        self._queue.extend(requests)
        try:
            self._add_worker()
            while self._wait(TICK_S):
                self._tick()
                self._look_at_the_limit()
        except KeyboardInterrupt:
            self._cancel()
            raise
        except BaseException:
            # Not the requests' fault: what is under way is paid for, and kept.
            self._stopped.set()
            while self._wait(TICK_S):
                pass
            raise
        finally:
            self._readers.drain()
        if self._fatal is not None:
            raise self._fatal

    def result(self) -> RunCounters:
        """What is done now, as a copy: a worker that was left behind may still add to ``tally``."""
        with self._lock:
            return replace(self.tally, errors=dict(self.tally.errors), course=self.tally.course.copy())

    def _add_worker(self) -> None:
        """Start one more thread where there is work for it: threads are as many as requests really overlap."""
        with self._lock:
            if len(self._working) >= self._workers or not self._queue or self._stopped.is_set():
                return
            thread = threading.Thread(target=self._worker, name="skytells-worker", daemon=True)
            self._working.add(thread)
            try:
                thread.start()
            except BaseException:
                self._working.discard(thread)
                if not self._working:
                    raise

    def _wait(self, seconds: float) -> bool:
        """Wait for the last thread to end; whether any is still at work."""
        if self._working:
            self._last_ended.wait(seconds)
        return bool(self._working)

    def _cancel(self) -> None:
        self._stopped.set()
        try:
            end = time.monotonic() + GRACE_S
            while time.monotonic() < end and self._wait(0.02):
                pass
        finally:
            # A second Ctrl-C ends the wait, and must not leave requests under way that are paid for.
            with self._lock:
                busy = list(self._busy)
            for client in busy:
                client.abort()
        end = time.monotonic() + 2 * GRACE_S
        while time.monotonic() < end and self._wait(0.02):
            pass

    def _worker(self) -> None:
        client: Skytells | None = None
        try:
            while (request := self._next()) is not None:
                if client is None:
                    client = self._clients.acquire()
                    with self._lock:
                        self._busy.add(client)
                self._send_with_retry(request, client)
        except _NotKept as failure:
            self.end(failure.problem)
        except Exception as problem:
            self.end(problem)
        finally:
            with self._lock:
                if client is not None:
                    self._busy.discard(client)
                self._working.discard(threading.current_thread())
                if not self._working:
                    self._last_ended.set()
            if client is not None:
                self._clients.release(client)

    def _next(self) -> PlannedRequest | None:
        with self._lock:
            if self._stopped.is_set() or not self._queue:
                return None
            return self._queue.popleft()

    def _send_with_retry(self, request: PlannedRequest, client: Skytells) -> None:
        """Send one request until it is answered, refused for good, or the run is stopped."""
        inputs = [self._inputs[number] for number in request.numbers.tolist()]
        tokens = request.tokens + self._work.output_tokens() * len(inputs)
        stopped = self._stopped.is_set
        while self._breaker.allow(stopped) and self._pacer.acquire(stopped, tokens):
            self._add_worker()
            before, sent = client.limits, time.monotonic()
            try:
                delivery = self._send(request, inputs, client)
            except RateLimitError as problem:
                seconds = time.monotonic() - sent
                request.wait = self._pacer.record_rate_limited(
                    problem.retry_after, told_since(before, client), seconds=seconds
                )
                with self._lock:
                    self.tally.course.record_rejection(sent + seconds - self._began, self._pacer.permitted)
                if not self._retry_or_fail(request, problem):
                    return
            except SkytellsError as problem:
                self._pacer.record_failure()
                if not self._retry_or_fail(request, problem):
                    return
            except BaseException:
                self._pacer.record_failure()
                raise
            else:
                self._limited_since = None
                self._breaker.record_success()
                seconds, limits = time.monotonic() - sent, told_since(before, client)
                try:
                    if not delivery.stored:
                        self._keep(request, delivery)
                finally:
                    used = delivery.tokens_in + delivery.tokens_out
                    self._pacer.record_success(limits, seconds=seconds, tokens=used or None)
                    self._learn(request.estimated, delivery.tokens_in)
                    with self._lock:
                        self.tally.course.record_answer(sent + seconds - self._began, seconds, self._pacer.permitted)
                return

    def _retry_or_fail(self, request: PlannedRequest, problem: SkytellsError) -> bool:
        """Whether the request is to be sent again; waits as long as it takes, or settles what becomes of it."""
        if self._stopped.is_set() and self._fatal is None:
            return False
        down = self._breaker.record_failure(problem, first=not request.failures)
        if not self._breaker.open:
            request.failures += 1
        if isinstance(problem, RateLimitError):
            down = self._limited(problem)
        elif self._retry.allows(problem, request.failures) and not down:
            down = self._breaker.may_retry()
        else:
            self._fail(request, problem, down)
            return False
        if down:
            self._fail(request, problem, down)
            return False
        with self._lock:
            self.tally.retries += 1
        # The pacer holds every request back after most refusals, and the breaker while the service is down.
        wait = request.wait if isinstance(problem, RateLimitError) else self._retry.wait(problem, request.failures)
        _log.info("%s: trying again%s", describe_error(problem), f" in {wait:.1f} s" if wait else "")
        if wait and not self._breaker.open:
            self._stopped.wait(wait)
        return True

    def _limited(self, problem: RateLimitError) -> str | None:
        since = self._limited_since = self._limited_since or time.monotonic()
        return self._retry.give_up(problem, time.monotonic() - since)

    def _look_at_the_limit(self) -> None:
        """A limit of a day that is nearly used up is no reason to sit there for a day."""
        problem = self._retry.quota_exhausted(self._pacer.seconds_to_next, self._pacer.limit_text)
        if problem is not None:
            self.end(problem)

    def _send(self, request: PlannedRequest, inputs: Sequence[str], client: Skytells) -> BatchResult:
        """One try; what it may cost is set aside before, and settled after."""
        reserved = self._budget.reserve(
            request.tokens, self._work.most_output_tokens() * len(inputs), self._stopped.is_set
        )
        used: tuple[int, int] | None = (0, 0)
        resent = client.resent
        with self._lock:
            self.tally.requests += 1
        try:
            delivery = self._work.send(client, inputs, functools.partial(self._read, request))
            used = (delivery.tokens_in, delivery.tokens_out) if delivery.tokens_in else None
            with self._lock:
                self.tally.requests += delivery.rejected_attempts
        except (InvalidResponseError, _NotKept):
            # It was answered, so it was paid for, and nobody says how much it was.
            used = None
            raise
        except ContentPolicyError:
            # The prompt was read and is billed; nothing was written.
            used = (round(request.tokens), 0)
            raise
        finally:
            with self._lock:
                self.tally.requests += client.resent - resent
                self.tally.retries += client.resent - resent
            self._budget.settle(reserved, used)
        return delivery

    def _read(self, request: PlannedRequest, call: Callable[[], BatchResult]) -> BatchResult:
        """Read a large answer and keep it: by one thread, and nothing of it is left when the next is read."""

        def read_and_keep() -> BatchResult:
            delivery = call()
            try:
                self._keep(request, delivery)
            except Exception as problem:
                raise _NotKept(problem) from None
            return replace(delivery, values=(), stored=True)

        return self._readers.run(read_and_keep)

    def _keep(self, request: PlannedRequest, delivery: BatchResult) -> None:
        numbers, values = request.numbers, delivery.values
        left = numbers[:0]
        if not isinstance(values, np.ndarray) and None in values:
            there = np.array([value is not None for value in values])
            left, numbers = numbers[~there], numbers[there]
            values = [value for value in values if value is not None]
        rows = int(self._weights[numbers].sum()) if len(left) else request.rows
        try:
            if len(numbers):
                self._store(numbers, values)
        finally:
            # Also where the cache does not take it: what was paid for is then in the outcome at least.
            if len(numbers):
                self._answers.put(numbers, values)
            with self._lock:
                self.tally.answered += len(numbers)
                self.tally.rows_done += rows
                self.tally.tokens_in += delivery.tokens_in
                self.tally.tokens_out += delivery.tokens_out
        self._settled(numbers)
        if len(left):
            self._send_alone(request, left)

    def _fail(self, request: PlannedRequest, problem: SkytellsError, down: str | None) -> None:
        if down is not None:
            problem.add_note(down)
            _log.warning("%s: the run ends. %s", describe_error(problem), down)
            self.end(problem)
            return
        if isinstance(problem, (AccountError, BudgetExceededError)):
            self.end(problem)
            return
        if len(request.numbers) > 1 and is_splittable(problem):
            self._split(request)
            return
        kept = self._work.kept(problem)
        if kept is not None:
            self._store(request.numbers, [kept] * len(request.numbers))
        with self._lock:
            self.tally.errors.update((number, problem) for number in request.numbers.tolist())
            self.tally.rows_done += request.rows
            self.tally.rows_failed += request.rows
        self._settled(request.numbers)
        _log.info("%s: %d inputs without an answer", describe_error(problem), len(request.numbers))
        if self._stop_on_error or (isinstance(problem, ConnectError) and not self.tally.answered):
            self.end(problem)

    def _split(self, request: PlannedRequest) -> None:
        """One input of a refused request may be at fault, or all are too much: the halves are tried apart."""
        middle = len(request.numbers) // 2
        self._requeue(request, [request.numbers[:middle], request.numbers[middle:]])

    def _send_alone(self, request: PlannedRequest, numbers: NDArray[np.int64]) -> None:
        """These got no usable answer among the others of their request."""
        self._requeue(request, [numbers[at : at + 1] for at in range(len(numbers))])

    def _requeue(self, request: PlannedRequest, parts: Sequence[NDArray[np.int64]]) -> None:
        tokens, estimated = (value / len(request.numbers) for value in (request.tokens, request.estimated))
        made = [
            PlannedRequest(part, int(self._weights[part].sum()), tokens * len(part), estimated * len(part))
            for part in parts
        ]
        with self._lock:
            self._queue.extendleft(reversed(made))
        # Threads that found nothing to do have ended.
        self._add_worker()

    def end(self, problem: Exception) -> None:
        """Send nothing more; ``execute`` raises this once what is under way is kept."""
        with self._lock:
            if self._fatal is None:
                self._fatal = problem
            self._stopped.set()


def told_since(before: RateLimits | None, client: Skytells) -> RateLimits | None:
    """The limits that came with the last answer, ``None`` where it named none."""
    return client.limits if client.limits is not before else None

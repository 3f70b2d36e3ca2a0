"""Sending: threads, retries, cancelling. The one file of the engine with threads and sockets in it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skytells_nb.client.client import Skytells
from skytells_nb.engine.budget import Budget
from skytells_nb.engine.pace import Pacer
from skytells_nb.engine.retry import RetryPolicy
from skytells_nb.engine.work import Delivery, Work
from skytells_nb.errors import (
    AccountError,
    AnswerError,
    BadRequestError,
    BudgetExceededError,
    ConnectError,
    RateLimitError,
    ServerError,
    SkytellsError,
    TransportError,
)

GIVE_UP_AFTER = 10
"""Requests that fail one after another, retries included, before the service counts as down."""
GRACE_S = 0.2
"""Time that answers under way get to arrive once the run is interrupted."""
TICK_S = 0.1


class Clients(Protocol):
    """Where workers get their clients, one each."""

    def take(self) -> Skytells: ...

    def give_back(self, client: Skytells) -> None: ...


@dataclass
class Request:
    """Distinct inputs that travel together."""

    numbers: NDArray[np.int64]
    tokens: float
    failures: int = 0


@dataclass
class Tally:
    """What a run has done so far; changed under its lock only."""

    values: dict[int, bytes] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)
    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    rows_done: int = 0
    rows_failed: int = 0
    failed_in_a_row: int = 0


class Run:
    """One set of requests, sent by up to ``workers`` threads; ``store`` keeps each answer before it is counted.

    ``weights`` are the rows that each input stands for.

    ``execute`` returns when every input has a value or an error. An error that concerns the whole account, a dead
    service or a spent budget ends the run: nothing more is sent, what is under way is kept, then it is raised.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[str],
        weights: NDArray[np.int64],
        requests: Sequence[Request],
        work: Work,
        store: Callable[[Sequence[int], Sequence[bytes]], None],
        clients: Clients,
        pacer: Pacer,
        retry: RetryPolicy,
        budget: Budget,
        workers: int,
        tick: Callable[[Tally], None],
        stop_on_error: bool = False,
    ) -> None:
        self.tally = Tally()
        self._inputs = inputs
        self._weights = weights
        self._queue = deque(requests)
        self._work = work
        self._store = store
        self._clients = clients
        self._pacer = pacer
        self._retry = retry
        self._budget = budget
        self._workers = max(1, min(workers, len(requests)))
        self._tick = tick
        self._stop_on_error = stop_on_error
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._stopped = threading.Event()
        self._fatal: Exception | None = None
        self._working: set[threading.Thread] = set()
        self._busy: set[Skytells] = set()

    def execute(self) -> None:
        """Send everything; on KeyboardInterrupt cut the connections and raise it again within a second."""
        threads = [
            threading.Thread(target=self._labour, name="skytells-worker", daemon=True) for _ in range(self._workers)
        ]
        self._working = set(threads)
        try:
            for thread in threads:
                thread.start()
            while self._wait(TICK_S):
                self._tick(self.tally)
        except BaseException:
            self._abandon()
            raise
        if self._fatal is not None:
            raise self._fatal

    def result(self) -> Tally:
        """What is done now, as a copy: a worker that was left behind may still add to ``tally``."""
        with self._lock:
            return replace(self.tally, values=dict(self.tally.values), errors=dict(self.tally.errors))

    def _wait(self, seconds: float) -> bool:
        """Wait for a thread to end; whether any is still at work."""
        with self._changed:
            if self._working:
                self._changed.wait(seconds)
            return bool(self._working)

    def _abandon(self) -> None:
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

    def _labour(self) -> None:
        client: Skytells | None = None
        try:
            while (request := self._next()) is not None:
                if client is None:
                    client = self._clients.take()
                    with self._lock:
                        self._busy.add(client)
                self._deliver(request, client)
        except Exception as problem:
            self._end(problem)
        finally:
            with self._changed:
                if client is not None:
                    self._busy.discard(client)
                self._working.discard(threading.current_thread())
                self._changed.notify_all()
            if client is not None:
                self._clients.give_back(client)

    def _next(self) -> Request | None:
        with self._lock:
            if self._stopped.is_set() or not self._queue:
                return None
            return self._queue.popleft()

    def _deliver(self, request: Request, client: Skytells) -> None:
        """Send one request until it is answered, refused for good, or the run is stopped."""
        inputs = [self._inputs[number] for number in request.numbers]
        while self._pacer.acquire(self._stopped.is_set):
            try:
                delivery = self._send(request, inputs, client)
            except SkytellsError as problem:
                request.failures += 1
                if self._stopped.is_set() and self._fatal is None:
                    return
                if not self._retry.allows(problem, request.failures):
                    self._fail(request, problem)
                    return
                with self._lock:
                    self.tally.retries += 1
                # The pacer already holds every request back after a 429.
                if not isinstance(problem, RateLimitError):
                    self._stopped.wait(self._retry.wait(problem, request.failures))
            else:
                self._keep(request, delivery)
                return

    def _send(self, request: Request, inputs: Sequence[str], client: Skytells) -> Delivery:
        try:
            reserved = self._budget.reserve(
                request.tokens, self._work.most_output_tokens() * len(inputs), self._stopped.is_set
            )
        except BaseException:
            self._pacer.failed()
            raise
        used: tuple[int, int] | None = (0, 0)
        with self._lock:
            self.tally.requests += 1
        try:
            delivery = self._work.send(client, inputs)
            used = (delivery.tokens_in, delivery.tokens_out) if delivery.tokens_in else None
        except AnswerError:
            # It was answered, so it was paid for, and nobody says how much it was.
            used = None
            self._pacer.failed()
            raise
        except RateLimitError as refusal:
            self._pacer.limited(refusal.retry_after)
            raise
        except BaseException:
            self._pacer.failed()
            raise
        else:
            self._pacer.answered(client.limits)
        finally:
            self._budget.settle(reserved, used)
        return delivery

    def _keep(self, request: Request, delivery: Delivery) -> None:
        numbers = [int(number) for number in request.numbers]
        try:
            self._store(numbers, delivery.values)
        finally:
            # Also where the cache does not take it: what was paid for is then in the outcome at least.
            with self._lock:
                self.tally.values.update(zip(numbers, delivery.values, strict=True))
                self.tally.rows_done += int(self._weights[request.numbers].sum())
                self.tally.tokens_in += delivery.tokens_in
                self.tally.tokens_out += delivery.tokens_out
                self.tally.failed_in_a_row = 0

    def _fail(self, request: Request, problem: SkytellsError) -> None:
        if isinstance(problem, (AccountError, BudgetExceededError)):
            self._end(problem)
            return
        if isinstance(problem, BadRequestError) and len(request.numbers) > 1:
            self._split(request)
            return
        kept = self._work.kept(problem)
        if kept is not None:
            self._store([int(number) for number in request.numbers], [kept] * len(request.numbers))
        with self._lock:
            self.tally.errors.update((int(number), problem) for number in request.numbers)
            rows = int(self._weights[request.numbers].sum())
            self.tally.rows_done += rows
            self.tally.rows_failed += rows
            down = isinstance(problem, (TransportError, ServerError, AnswerError))
            self.tally.failed_in_a_row = self.tally.failed_in_a_row + 1 if down else 0
            dead = self.tally.failed_in_a_row >= GIVE_UP_AFTER
            unreached = isinstance(problem, ConnectError) and not self.tally.values
        if dead or unreached or self._stop_on_error:
            self._end(problem)

    def _split(self, request: Request) -> None:
        """One input of a refused request may be at fault: the halves are tried apart."""
        middle = len(request.numbers) // 2
        halves = (request.numbers[:middle], request.numbers[middle:])
        with self._lock:
            self._queue.extendleft(Request(half, request.tokens / 2) for half in reversed(halves))

    def _end(self, problem: Exception) -> None:
        with self._lock:
            if self._fatal is None:
                self._fatal = problem
            self._stopped.set()

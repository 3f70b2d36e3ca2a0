"""The threads of one run: send requests, retry or split them, cancel them."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skytells_nb.client.client import Skytells
from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.engine.context import RunContext
from skytells_nb.engine.operations.jobs import BatchResult
from skytells_nb.engine.planning import PlannedRequest, RunCounters
from skytells_nb.engine.results import Values
from skytells_nb.engine.retry import EqualRefusals, describe_error, is_splittable
from skytells_nb.engine.threads import ReaderPool, WakeEvent
from skytells_nb.errors import (
    AccountError,
    APIError,
    BudgetExceededError,
    ConnectError,
    ContentPolicyError,
    InvalidResponseError,
    RateLimitError,
    RefusalError,
    SkytellsError,
    TooManyOpenFilesError,
    warn,
)

GRACE_S = 0.2
"""Time that requests in flight have to finish once the run is interrupted."""
TICK_S = 0.1
FILE_RETRIES = 20
FILE_WAIT_S = 0.5
"""How often, and after how long, a run that can open no connection at all tries again."""
CLAIM_S = 0.25
"""Work that is claimed ahead: what a killed process leaves to others, and the last one to end keeps from them."""
MAX_CLAIM = 4_096

_log = logging.getLogger(__name__)


class _StoreFailed(Exception):
    """A response arrived and could not be stored: not the request's fault, so it must not be sent again."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class WorkerPool:
    """Sends requests with as many threads as the rate limiter lets run at once.

    ``claim`` is given requests that are about to be sent, and returns those to send: without the inputs that are
    answered or in flight elsewhere. ``holds_claims`` is whether they are still to be sent. ``store`` writes results to
    the cache before they are counted. ``release`` receives the inputs whose result is stored, or that will get none.
    ``tick`` is called about every ``TICK_S`` seconds meanwhile.

    ``run`` returns when every input has a result or an error. An error that concerns the whole account, a service that
    is down or a spent budget ends the run: nothing more is sent, requests in flight are stored, then it is raised.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        store: Callable[[NDArray[np.int64], Values], None],
        release: Callable[[NDArray[np.int64]], None],
        tick: Callable[[], None],
        claim: Callable[[Sequence[PlannedRequest]], Sequence[PlannedRequest]],
        holds_claims: Callable[[], bool],
    ) -> None:
        self.counters = RunCounters()
        self._context = context
        self._operation = context.job.work
        self._rate_limiter = context.rate_limiter
        self._breaker = context.breaker
        self._store = store
        self._release = release
        self._tick = tick
        self._claim = claim
        self._holds_claims = holds_claims
        self._max_threads = context.rate_limiter.max_in_flight
        self._readers = None if context.job.max_readers is None else ReaderPool(context.job.max_readers)
        self._started = time.monotonic()
        self._unclaimed: deque[PlannedRequest] = deque()
        self._queue: deque[PlannedRequest] = deque()
        self._lock = threading.Lock()
        self._claiming = threading.Lock()
        self._claim_size = 1
        self._claimed_at = 0.0
        self._last_thread_ended = WakeEvent()
        self._stopped = threading.Event()
        self._fatal: Exception | None = None
        self._threads: set[threading.Thread] = set()
        self._leaving: set[threading.Thread] = set()
        """Threads that take no more requests."""
        self._busy: set[Skytells] = set()
        self._limited_since: float | None = None
        self._refusals = EqualRefusals()
        self._out_of_files: TooManyOpenFilesError | None = None

    def run(self, requests: Sequence[PlannedRequest]) -> None:
        """Send everything; on KeyboardInterrupt abort the connections and raise it again within a second."""
        self._unclaimed.extend(requests)
        try:
            self._add_worker()
            while self._wait(TICK_S):
                self._tick()
                self._check_quota()
        except KeyboardInterrupt:
            self._cancel()
            raise
        except BaseException:
            # Not the requests' fault: those in flight are paid for, so they are stored.
            self._stopped.set()
            while self._wait(TICK_S):
                pass
            raise
        finally:
            if self._readers is not None:
                self._readers.drain()
        if self._out_of_files is not None:
            problem, self._out_of_files = self._out_of_files, None
            warn(f"{problem} The run went on with {self._max_threads} requests in flight.")
        if self._fatal is not None:
            raise self._fatal

    def abort(self) -> None:
        """Close the connections of the requests in flight, from any thread."""
        with self._lock:
            busy = list(self._busy)
        for client in busy:
            client.abort()

    @property
    def fatal(self) -> Exception | None:
        """The error that ends the run, ``None`` while there is none."""
        return self._fatal

    def snapshot(self) -> RunCounters:
        """Return a copy of the counters; a worker that was left behind may still change the original."""
        with self._lock:
            return replace(self.counters, errors=dict(self.counters.errors), timeline=self.counters.timeline.copy())

    def end(self, problem: Exception) -> None:
        """Send nothing more; ``run`` raises this once the requests in flight are stored."""
        with self._lock:
            if self._fatal is None:
                self._fatal = problem
            self._stopped.set()

    def _add_worker(self) -> None:
        """Start one more thread if there is work for it: as many threads as requests really overlap."""
        with self._lock:
            if len(self._threads) >= self._max_threads or self._stopped.is_set():
                return
            if not self._queue and not self._unclaimed:
                return
            thread = threading.Thread(target=self._worker, name="skytells-worker", daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except BaseException:
                self._threads.discard(thread)
                if not self._threads:
                    raise

    def _wait(self, seconds: float) -> bool:
        """Wait for the last thread to end; return whether any is still running."""
        if self._threads:
            self._last_thread_ended.wait(seconds)
        return bool(self._threads)

    def _cancel(self) -> None:
        self._stopped.set()
        try:
            deadline = time.monotonic() + GRACE_S
            while time.monotonic() < deadline and self._wait(0.02):
                pass
        finally:
            # A second Ctrl-C ends the wait, and must not leave paid requests in flight.
            self.abort()
        deadline = time.monotonic() + 2 * GRACE_S
        while time.monotonic() < deadline and self._wait(0.02):
            pass

    def _worker(self) -> None:
        client: Skytells | None = None
        try:
            while (request := self._next()) is not None:
                if client is None:
                    client = self._take_client(None)
                try:
                    self._send_with_retry(request, client)
                except TooManyOpenFilesError as problem:
                    # An idle client may have a connection.
                    client = self._take_client(client)
                    if not self._go_on_without_files(request, problem):
                        break
        except _StoreFailed as failure:
            self.end(failure.cause)
        except Exception as problem:
            self.end(problem)
        finally:
            with self._lock:
                if client is not None:
                    self._busy.discard(client)
                self._threads.discard(threading.current_thread())
                self._leaving.discard(threading.current_thread())
                if not self._threads:
                    self._last_thread_ended.set()
            if client is not None:
                self._context.clients.release(client)

    def _take_client(self, before: Skytells | None) -> Skytells:
        """Return a client for this thread, another one than ``before``, which is given back."""
        client = self._context.clients.acquire()
        with self._lock:
            self._busy.add(client)
            if before is not None:
                self._busy.discard(before)
        if before is not None:
            self._context.clients.release(before)
        return client

    def _next(self) -> PlannedRequest | None:
        """Return the next request to send; claim some when none is left that is claimed."""
        while True:
            with self._lock:
                if self._stopped.is_set() or not (self._queue or self._unclaimed):
                    self._leaving.add(threading.current_thread())
                    return None
                if self._queue and not self._holds_claims():
                    self._unclaimed.extendleft(reversed(self._queue))
                    self._queue.clear()
                if self._queue:
                    return self._queue.popleft()
            with self._claiming:
                self._claim_next()

    def _claim_next(self) -> None:
        """Claim about as many requests as are sent in ``CLAIM_S``: one at a time would cost as much as sending it."""
        with self._lock:
            if self._queue or not self._unclaimed or self._stopped.is_set():
                return
            now = time.monotonic()
            size = round(self._claim_size * CLAIM_S / max(1e-9, now - self._claimed_at))
            self._claim_size = max(1, min(size, 2 * self._claim_size, MAX_CLAIM))
            self._claimed_at = now
            requests: list[PlannedRequest] = []
            inputs = 0
            while self._unclaimed and len(requests) < self._claim_size and inputs < MAX_CLAIM:
                requests.append(self._unclaimed.popleft())
                inputs += len(requests[-1].numbers)
        claimed = self._claim(requests)
        with self._lock:
            self._queue.extend(claimed)

    def _send_with_retry(self, request: PlannedRequest, client: Skytells) -> None:
        """Send one request until it is answered, fails for good, or the run is stopped."""
        inputs = [self._context.plan.inputs[number] for number in request.numbers.tolist()]
        tokens = request.tokens + self._operation.output_tokens() * len(inputs)
        stopped = self._stopped.is_set
        while self._breaker.allow(stopped) and self._rate_limiter.acquire(stopped, tokens):
            self._add_worker()
            limits_before, sent = client.limits, time.monotonic()
            try:
                result = self._send(request, inputs, client)
            except RateLimitError as problem:
                seconds = time.monotonic() - sent
                request.wait = self._rate_limiter.record_rate_limited(
                    problem.retry_after, _new_limits(limits_before, client), seconds=seconds
                )
                with self._lock:
                    self.counters.timeline.record_rejection(
                        sent + seconds - self._started, self._rate_limiter.permitted
                    )
                if not self._should_retry(request, problem):
                    return
            except TooManyOpenFilesError:
                self._rate_limiter.record_failure()
                raise
            except SkytellsError as problem:
                self._rate_limiter.record_failure()
                if not self._should_retry(request, problem):
                    return
            except _StoreFailed:
                self._rate_limiter.record_failure()
                raise
            except Exception as unexpected:
                # Whatever a response holds, it is at most an error of its own rows.
                self._rate_limiter.record_failure()
                unreadable = InvalidResponseError(
                    f"The response could not be read: {type(unexpected).__name__}: {str(unexpected)[:200]}"
                )
                unreadable.__cause__ = unexpected
                if not self._should_retry(request, unreadable):
                    return
            except BaseException:
                self._rate_limiter.record_failure()
                raise
            else:
                self._limited_since = None
                self._breaker.record_success()
                seconds, limits = time.monotonic() - sent, _new_limits(limits_before, client)
                try:
                    if not result.stored:
                        self._deliver(request, result)
                finally:
                    used = result.tokens_in + result.tokens_out
                    self._rate_limiter.record_success(limits, seconds=seconds, tokens=used or None)
                    self._context.calibration.observe(request.estimated, result.tokens_in)
                    with self._lock:
                        self.counters.timeline.record_answer(
                            sent + seconds - self._started, seconds, self._rate_limiter.permitted
                        )
                return

    def _go_on_without_files(self, request: PlannedRequest, problem: TooManyOpenFilesError) -> bool:
        """Leave the request to the threads that have a connection; return whether this one is to try again itself.

        Nothing was sent and the service is not at fault, so it counts as no attempt.
        """
        this_thread = threading.current_thread()
        with self._lock:
            self.counters.requests -= 1
            if self._stopped.is_set():
                return False
            self._queue.appendleft(request)
            others = len(self._threads - self._leaving - {this_thread})
            if others:
                self._max_threads = max(1, min(self._max_threads, others))
                self._leaving.add(this_thread)
                self._out_of_files = problem
                return False
        request.failures += 1
        if request.failures > FILE_RETRIES:
            self.end(problem)
            return False
        return not self._stopped.wait(FILE_WAIT_S)

    def _should_retry(self, request: PlannedRequest, problem: SkytellsError) -> bool:
        """Whether to send the request again; wait before that as long as needed, or handle the failure."""
        if self._stopped.is_set() and self._fatal is None:
            return False
        end_reason = self._breaker.record_failure(problem, first=not request.failures)
        if not self._breaker.open:
            request.failures += 1
        if isinstance(problem, RateLimitError):
            end_reason = self._rate_limit_reason(problem)
        elif self._context.retry.allows(problem, request.failures) and not end_reason:
            end_reason = self._give_up_reason(problem) or self._breaker.may_retry()
        else:
            self._fail(request, problem, end_reason)
            return False
        if end_reason:
            self._fail(request, problem, end_reason)
            return False
        with self._lock:
            self.counters.retries += 1
        # After most rejections the rate limiter delays every request; so does the breaker while the service is down.
        if isinstance(problem, RateLimitError):
            wait = request.wait
        else:
            wait = self._context.retry.wait(problem, request.failures)
        _log.info("%s: retrying%s", describe_error(problem), f" in {wait:.1f} s" if wait else "")
        if wait and not self._breaker.open:
            self._stopped.wait(wait)
        return True

    def _rate_limit_reason(self, problem: RateLimitError) -> str | None:
        since = self._limited_since = self._limited_since or time.monotonic()
        return self._give_up_reason(problem, time.monotonic() - since)

    def _give_up_reason(self, problem: SkytellsError, limited_for: float = 0.0) -> str | None:
        """Return why the run should end in place of waiting, which the error then says too."""
        reason = self._context.retry.give_up(problem, limited_for)
        if reason is not None and isinstance(problem, APIError):
            problem.message = f"{problem.message.rstrip('.')}. {reason}"
        return reason

    def _check_quota(self) -> None:
        """End the run if the next request is only permitted after a wait that no one would sit through."""
        limiter = self._rate_limiter
        problem = self._context.retry.quota_exhausted(limiter.seconds_to_next, limiter.limit_text)
        if problem is not None:
            self.end(problem)

    def _send(self, request: PlannedRequest, inputs: Sequence[str], client: Skytells) -> BatchResult:
        """Make one attempt; reserve what it may cost before, and settle it after."""
        reservation = self._context.budget.reserve(
            request.tokens, self._operation.max_output_tokens() * len(inputs), self._stopped.is_set
        )
        used: tuple[int, int] | None = (0, 0)
        resent = client.resent
        with self._lock:
            self.counters.requests += 1
        try:
            result = self._operation.send(client, inputs, functools.partial(self._read, request))
            used = (result.tokens_in, result.tokens_out) if result.tokens_in else None
            with self._lock:
                self.counters.requests += result.rejected_attempts
        except (InvalidResponseError, _StoreFailed):
            # It was answered, so it was paid for; how much is not reported.
            used = None
            raise
        except RefusalError as refusal:
            # An answer like any other, as far as the account is concerned.
            used = refusal.tokens if refusal.tokens[0] else None
            with self._lock:
                self.counters.tokens_in += refusal.tokens[0]
                self.counters.tokens_out += refusal.tokens[1]
            raise
        except ContentPolicyError:
            # The prompt was read and is billed; there is no output.
            used = (round(request.tokens), 0)
            raise
        finally:
            with self._lock:
                self.counters.requests += client.resent - resent
                self.counters.retries += client.resent - resent
            self._context.budget.settle(reservation, used)
        return result

    def _read(self, request: PlannedRequest, call: Callable[[], BatchResult]) -> BatchResult:
        """Read and store a large response in one thread, so that its memory is free before the next is read."""

        def read_and_store() -> BatchResult:
            result = call()
            try:
                self._deliver(request, result)
            except Exception as problem:
                raise _StoreFailed(problem) from None
            return replace(result, values=(), stored=True)

        return read_and_store() if self._readers is None else self._readers.run(read_and_store)

    def _deliver(self, request: PlannedRequest, result: BatchResult) -> None:
        """Store and count the results of a request; queue the inputs that got none."""
        context, numbers, values = self._context, request.numbers, result.values
        unanswered = numbers[:0]
        if not isinstance(values, np.ndarray) and None in values:
            usable = np.array([value is not None for value in values])
            unanswered, numbers = numbers[~usable], numbers[usable]
            values = [value for value in values if value is not None]
        rows = int(context.weights[numbers].sum()) if len(unanswered) else request.rows
        try:
            if len(numbers):
                self._store(numbers, values)
        finally:
            # Also if the cache rejects it: what was paid for is then at least in the result.
            if len(numbers):
                context.buffer.put(numbers, values)
            with self._lock:
                self.counters.answered += len(numbers)
                self.counters.rows_done += rows
                self.counters.tokens_in += result.tokens_in
                self.counters.tokens_out += result.tokens_out
        self._release(numbers)
        if len(unanswered):
            self._queue_singly(request, unanswered)

    def _fail(self, request: PlannedRequest, problem: SkytellsError, end_reason: str | None) -> None:
        if end_reason is not None:
            if end_reason not in str(problem):
                problem.add_note(end_reason)
            _log.warning("%s: the run ends. %s", describe_error(problem), end_reason)
            self.end(problem)
            return
        if isinstance(problem, (AccountError, BudgetExceededError)):
            self.end(problem)
            return
        if len(request.numbers) > 1 and is_splittable(problem):
            self._split(request)
            return
        cached_error = self._operation.cacheable_error(problem)
        if cached_error is not None:
            self._store(request.numbers, [cached_error] * len(request.numbers))
        with self._lock:
            self.counters.errors.update((number, problem) for number in request.numbers.tolist())
            self.counters.rows_done += request.rows
            self.counters.rows_failed += request.rows
        self._release(request.numbers)
        _log.info("%s: %d inputs failed", describe_error(problem), len(request.numbers))
        call_reason = self._call_reason(problem)
        if call_reason is not None:
            problem.add_note(call_reason)
            _log.warning("%s: the run ends. %s", describe_error(problem), call_reason)
            self.end(problem)
        if self._context.stop_on_error or (isinstance(problem, ConnectError) and not self.counters.answered):
            self.end(problem)

    def _call_reason(self, problem: SkytellsError) -> str | None:
        """Return why the rows that wait would all fail like this one, ``None`` if they may not."""
        with self._lock:
            # An answer of an earlier run counts too: the call is right for some rows.
            if self._fatal is not None or self._context.buffer.filled.any():
                return None
            return self._refusals.record(problem, more_waits=bool(self._queue or self._unclaimed))

    def _split(self, request: PlannedRequest) -> None:
        """Queue the halves of a rejected request: one input may be at fault, or all together are too much."""
        middle = len(request.numbers) // 2
        self._requeue(request, [request.numbers[:middle], request.numbers[middle:]])

    def _queue_singly(self, request: PlannedRequest, numbers: NDArray[np.int64]) -> None:
        """Queue each of these inputs alone: together with others they got no usable result."""
        self._requeue(request, [numbers[at : at + 1] for at in range(len(numbers))])

    def _requeue(self, request: PlannedRequest, parts: Sequence[NDArray[np.int64]]) -> None:
        tokens, estimated = (value / len(request.numbers) for value in (request.tokens, request.estimated))
        requests = [
            PlannedRequest(part, int(self._context.weights[part].sum()), tokens * len(part), estimated * len(part))
            for part in parts
        ]
        with self._lock:
            self._queue.extendleft(reversed(requests))
        # Threads that found the queue empty have ended.
        self._add_worker()


def _new_limits(before: RateLimits | None, client: Skytells) -> RateLimits | None:
    """The rate limits reported with the last response, ``None`` if it reported none."""
    return client.limits if client.limits is not before else None

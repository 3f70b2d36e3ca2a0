"""The threads of one run: send requests, retry or split them, cancel them."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skytells_nb.client.client import Skytells
from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.engine.context import RunContext
from skytells_nb.engine.operations.jobs import BatchResult, token_limit
from skytells_nb.engine.planning import PlannedRequest, RunCounters
from skytells_nb.engine.request_splitting import fitting_parts, halves, in_parts
from skytells_nb.engine.results import Values
from skytells_nb.engine.retry import RepeatedRejections, billed, describe_error, is_splittable
from skytells_nb.engine.service.request_size import RequestSize
from skytells_nb.engine.single_flight import ClaimQueue, ReaderPool, WakeEvent
from skytells_nb.errors import (
    AccountError,
    BudgetExceededError,
    ConnectError,
    InvalidResponseError,
    RateLimitError,
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

_log = logging.getLogger(__name__)


class _StoreFailed(Exception):
    """A response arrived and could not be stored: not the request's fault, so it must not be sent again."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class WorkerPool:
    """Sends requests with as many threads as the rate limiter lets run at once.

    ``claim`` is given requests that are about to be sent, and returns those to send: without the inputs that are
    answered or in flight elsewhere; it is ``None`` where no other run can send them. ``holds_claims`` is whether they
    are still to be sent. ``store`` writes results to the cache before they are counted. ``release`` receives the inputs
    whose result is stored, or that will get none.
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
        claim: Callable[[Sequence[PlannedRequest]], Sequence[PlannedRequest]] | None,
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
        self._max_threads = context.rate_limiter.max_in_flight
        self._readers = None if context.job.max_readers is None else ReaderPool(context.job.max_readers)
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._queue = ClaimQueue(self._lock, claim, holds_claims, lambda request: len(request.numbers))
        self._last_thread_ended = WakeEvent()
        self._stopped = threading.Event()
        self._fatal: Exception | None = None
        self._threads: set[threading.Thread] = set()
        self._leaving: set[threading.Thread] = set()
        """Threads that take no more requests."""
        self._busy: set[Skytells] = set()
        self._limited_since: float | None = None
        self._rejections = RepeatedRejections()
        self._out_of_files: TooManyOpenFilesError | None = None
        self._limited_output = token_limit(context.job.params) is not None
        self._size: RequestSize | None = None
        """Bounds of requests, from the first one on that was rejected."""
        self._sending: set[threading.Thread] = set()
        """Threads that have taken a request from the queue."""

    def run(self, requests: Sequence[PlannedRequest]) -> None:
        """Send everything; on KeyboardInterrupt abort the connections and raise it again within a second."""
        self._queue.add(requests)
        try:
            while self._add_worker_for_rest():
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
            warn(f"{problem} The run continued with {self._max_threads} requests in flight.")
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
            self._fatal = self._fatal or problem
            self._stopped.set()

    def record_errors(self, numbers: NDArray[np.int64], problem: Exception) -> None:
        """Count these inputs as failed, for this reason."""
        rows = int(self._context.weights[numbers].sum())
        with self._lock:
            self.counters.errors.update((number, problem) for number in numbers.tolist())
            self.counters.rows_done += rows
            self.counters.rows_failed += rows

    def _add_worker(self) -> None:
        """Start one more thread if there is work for it: as many threads as requests really overlap."""
        with self._lock:
            if len(self._threads) >= self._max_threads or self._stopped.is_set() or not self._queue:
                return
            if self._size is not None and self._size.searching and self._threads:
                return
            thread = threading.Thread(target=self._worker, name="skytells-worker", daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except BaseException:
                self._threads.discard(thread)
                if not self._threads:
                    raise

    def _add_worker_for_rest(self) -> bool:
        """Start a thread if there is anything left to send, which the last thread to end may have missed."""
        with self._lock:
            if self._stopped.is_set() or not self._queue:
                return False
        self._add_worker()
        return True

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
                finally:
                    with self._lock:
                        self._sending.discard(threading.current_thread())
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
                # While it is found out how much the service takes, the thread that sends takes the next one too.
                waits = self._size is not None and self._size.searching and self._sending
                if waits or self._stopped.is_set() or not self._queue:
                    self._leaving.add(threading.current_thread())
                    return None
                request = self._queue.pop()
                if request is not None:
                    self._sending.add(threading.current_thread())
                    if self._size is not None:
                        request, *others = fitting_parts(request, self._size, self._context)
                        self._queue.put_back(others)
                    return request
            self._queue.claim(self._stopped.is_set)

    def _send_with_retry(self, request: PlannedRequest, client: Skytells) -> None:
        """Send one request until it is answered, fails for good, or the run is stopped."""
        inputs = [self._context.plan.inputs[number] for number in request.numbers.tolist()]
        tokens = request.tokens + self._operation.output_tokens() * len(inputs)
        stopped = self._stopped.is_set
        while self._breaker.allow(stopped):
            if not self._reserve(request):
                self._breaker.cancel_probe()
                return
            if not self._rate_limiter.acquire(stopped, tokens):
                self._breaker.cancel_probe()
                self._settle(request, (0, 0))
                return
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
                self._breaker.cancel_probe()
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
                if self._size is not None:
                    with self._lock:
                        self._size.record_accepted(len(inputs), request.estimated, request.group)
                seconds, limits = time.monotonic() - sent, _new_limits(limits_before, client)
                try:
                    if not result.stored:
                        self._deliver(request, result)
                finally:
                    used = result.tokens_in + result.tokens_out
                    self._rate_limiter.record_success(limits, seconds=seconds, tokens=used or None)
                    if result.usage_known:
                        limit = self._operation.max_output_tokens() * len(inputs)
                        beyond = result.tokens_out - limit if self._limited_output else 0.0
                        self._context.profile.tokens.observe(request.estimated, result.tokens_in, beyond)
                    with self._lock:
                        self.counters.timeline.record_answer(
                            sent + seconds - self._started, seconds, self._rate_limiter.permitted
                        )
                # Its file may be locked by another process: not before what was paid for is stored.
                self._context.profile.save_learned()
                return

    def _go_on_without_files(self, request: PlannedRequest, problem: TooManyOpenFilesError) -> bool:
        """Leave the request to the threads that have a connection; return whether this one is to try again itself.

        Nothing was sent and the service is not at fault, so it counts as no attempt.
        """
        this_thread = threading.current_thread()
        with self._lock:
            # In the same step as the queue: a thread that asks for work in between would end for nothing.
            self._sending.discard(this_thread)
            self.counters.requests -= 1
            if self._stopped.is_set():
                return False
            self._queue.put_back([request])
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
            end_reason = self._context.retry.give_up(problem) or self._breaker.may_retry()
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
        return self._context.retry.give_up(problem, time.monotonic() - since)

    def _check_quota(self) -> None:
        """End the run if the next request is only permitted after a wait beyond ``rate_limit_patience``."""
        limiter = self._rate_limiter
        problem = self._context.retry.quota_exhausted(limiter.seconds_to_next, limiter.limit_text)
        if problem is not None:
            self.end(problem)

    def _reserve(self, request: PlannedRequest) -> bool:
        """Reserve what the request may cost; return whether it may be sent, and queue its halves if only they may."""
        budget, stopped = self._context.budget, self._stopped.is_set
        if budget is None:
            return True
        try:
            request.reservation = budget.reserve(request.token_bounds(self._operation.max_output_tokens()), stopped)
        except BudgetExceededError as problem:
            if not stopped():
                self.end(problem)
            return False
        if request.reservation is None:
            self._requeue(request, halves(request))
        return request.reservation is not None

    def _settle(self, request: PlannedRequest, used: tuple[int, int] | None) -> None:
        if self._context.budget is not None and request.reservation is not None:
            self._context.budget.settle(request.reservation, used)
            request.reservation = None

    def _send(self, request: PlannedRequest, inputs: Sequence[str], client: Skytells) -> BatchResult:
        """Make one attempt, and count what it cost."""
        used: tuple[int, int] | None = None
        answered, resent = True, client.resent
        with self._lock:
            self.counters.requests += 1
        try:
            result = self._operation.send(client, inputs, functools.partial(self._read, request))
            used = (result.tokens_in, result.tokens_out) if result.usage_known else None
            with self._lock:
                self.counters.requests += result.rejected_attempts
        except Exception as problem:
            answered, used = billed(problem, request.tokens)
            if answered and used is not None:
                with self._lock:
                    self.counters.tokens_in += used[0]
                    self.counters.tokens_out += used[1]
            raise
        finally:
            with self._lock:
                self.counters.requests += client.resent - resent
                self.counters.retries += client.resent - resent
                self.counters.missing_usage += answered and used is None
                if self._context.price is not None and used is not None:
                    self.counters.cost += self._context.price.cost(*used)
            self._settle(request, used)
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
            # Together with others they got no usable result.
            self._requeue(request, [unanswered[at : at + 1] for at in range(len(unanswered))])

    def _fail(self, request: PlannedRequest, problem: SkytellsError, end_reason: str | None) -> None:
        if end_reason is not None:
            self._end_because(problem, end_reason)
            return
        if isinstance(problem, (AccountError, BudgetExceededError)):
            self.end(problem)
            return
        if is_splittable(problem) and self._sent_in_parts(request, problem):
            return
        cached_error = self._operation.cacheable_error(problem)
        if cached_error is not None:
            self._store(request.numbers, [cached_error] * len(request.numbers))
        self.record_errors(request.numbers, problem)
        self._release(request.numbers)
        _log.info("%s: %d inputs failed", describe_error(problem), len(request.numbers))
        call_reason = self._call_reason(problem)
        if call_reason is not None:
            self._end_because(problem, call_reason)
        if self._context.stop_on_error or (isinstance(problem, ConnectError) and not self.counters.answered):
            self.end(problem)

    def _end_because(self, problem: SkytellsError, reason: str) -> None:
        if reason not in str(problem):
            problem.add_note(reason)
        _log.warning("%s: the run ends. %s", describe_error(problem), reason)
        self.end(problem)

    def _call_reason(self, problem: SkytellsError) -> str | None:
        """Return why the rows that wait would all fail like this one, ``None`` if they may not."""
        with self._lock:
            # An answer of an earlier run counts too: the call is right for some rows.
            if self._fatal is not None or self._context.buffer.filled.any():
                return None
            return self._rejections.record(problem, more_waits=bool(self._queue))

    def _sent_in_parts(self, request: PlannedRequest, problem: SkytellsError) -> bool:
        """Queue the parts of a rejected request: one input may be at fault, or all together are too much."""
        count = len(request.numbers)
        if self._context.job.learns_size:
            with self._lock:
                self._size = self._size or RequestSize(self._context.profile)
                if self._size.record_rejected(count, request.estimated, problem):
                    request.too_large, request.failures = True, 0
                    self._queue.put_back([request])
                    return True
        if count > 1:
            self._requeue(request, halves(request))
        return count > 1

    def _requeue(self, request: PlannedRequest, parts: Sequence[NDArray[np.int64]]) -> None:
        requests = in_parts(request, parts, self._context)
        with self._lock:
            self._queue.put_back(requests)
        # Threads that found the queue empty have ended.
        self._add_worker()


def _new_limits(before: RateLimits | None, client: Skytells) -> RateLimits | None:
    """The rate limits reported with the last response, ``None`` if it reported none."""
    return client.limits if client.limits is not before else None

"""One request from the queue to its results: reserve, wait for a slot, send, store and count, retry or split."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skytells_nb.client.client import Skytells
from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.engine.context import RunContext
from skytells_nb.engine.operations.jobs import BatchResult, token_limit
from skytells_nb.engine.planning import PlannedRequest, RunCounters
from skytells_nb.engine.request_splitting import fitting_parts, halves, in_parts
from skytells_nb.engine.results import Values
from skytells_nb.engine.retry import RepeatedRejections, billed, describe_error, is_rate_limited, is_splittable
from skytells_nb.engine.service.request_size import RequestSize
from skytells_nb.engine.single_flight import ReaderPool
from skytells_nb.errors import (
    AccountError,
    BudgetExceededError,
    CacheError,
    ConnectError,
    InvalidResponseError,
    RateLimitError,
    SkytellsError,
    TooManyOpenFilesError,
)

_log = logging.getLogger(__name__)


class StoreFailed(Exception):
    """A response arrived and could not be stored: not the request's fault, so it must not be sent again."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class SendingRun(Protocol):
    """The run that a request is part of."""

    counters: RunCounters
    """Only changed under ``lock``."""
    lock: threading.Lock
    stopped: threading.Event

    @property
    def fatal(self) -> Exception | None: ...

    @property
    def has_queued(self) -> bool:
        """Whether more requests wait; called with ``lock`` held."""
        ...

    def end(self, problem: Exception) -> None:
        """Send nothing more."""
        ...

    def record_errors(self, numbers: NDArray[np.int64], problem: Exception) -> None:
        """Count these inputs as failed."""
        ...

    def put_back(self, requests: Sequence[PlannedRequest]) -> None:
        """Queue these requests before all others."""
        ...

    def add_worker(self) -> None:
        """Start one more thread if there is work for it."""
        ...


class RequestSender:
    """Sends the requests of one run, each in the thread that calls ``send``.

    ``store`` writes results to the cache before they are counted. ``release`` receives the inputs whose result is
    stored, or that will get none.
    """

    def __init__(
        self,
        context: RunContext,
        run: SendingRun,
        *,
        store: Callable[[NDArray[np.int64], Values], None],
        release: Callable[[NDArray[np.int64]], None],
    ) -> None:
        self._context = context
        self._run = run
        self._store = store
        self._release = release
        self._operation = context.job.operation
        self._rate_limiter = context.rate_limiter
        self._breaker = context.breaker
        self._readers = None if context.job.max_readers is None else ReaderPool(context.job.max_readers)
        self._limited_output = token_limit(context.job.params) is not None
        self._started = time.monotonic()
        self._limited_since: float | None = None
        self._rejections = RepeatedRejections()
        self._size: RequestSize | None = None
        """Bounds of requests, from the first one on that was rejected."""

    @property
    def searching_size(self) -> bool:
        """Whether it is being found out how much the service takes, so that one request is to be sent at a time."""
        return self._size is not None and self._size.searching

    def fitting_parts(self, request: PlannedRequest) -> list[PlannedRequest]:
        """Return the request, in parts if it is larger than the service is known to take."""
        return [request] if self._size is None else fitting_parts(request, self._size, self._context)

    def close(self) -> None:
        """End the threads that read large responses."""
        if self._readers is not None:
            self._readers.drain()

    def send(self, request: PlannedRequest, client: Skytells) -> None:
        """Send one request until it is answered, fails for good, or the run is stopped.

        Raises TooManyOpenFilesError, which is not the request's fault, and StoreFailed.
        """
        inputs = self._context.plan.texts(request.numbers)
        tokens = request.tokens + self._operation.output_tokens() * len(inputs)
        stopped = self._run.stopped.is_set
        while self._breaker.allow(stopped):
            if not self._reserve(request):
                self._breaker.cancel_probe()
                return
            if not self._rate_limiter.acquire(stopped, tokens):
                self._breaker.cancel_probe()
                self._settle(request, (0, 0))
                return
            self._run.add_worker()
            result = self._attempt(request, inputs, client)
            if result is None or not self._should_retry(request, result):
                return

    def _attempt(self, request: PlannedRequest, inputs: Sequence[str], client: Skytells) -> SkytellsError | None:
        """Send a request once; return why it failed, ``None`` if it was answered."""
        limits_before, sent = client.limits, time.monotonic()
        try:
            result = self._send_once(request, inputs, client)
        except BaseException as problem:
            if is_rate_limited(problem):
                seconds = time.monotonic() - sent
                request.wait = self._rate_limiter.record_rate_limited(
                    problem.retry_after, _new_limits(limits_before, client), seconds=seconds
                )
                with self._run.lock:
                    self._run.counters.timeline.record_rejection(
                        sent + seconds - self._started, self._rate_limiter.permitted
                    )
                return problem
            self._rate_limiter.record_failure()
            if isinstance(problem, TooManyOpenFilesError):
                self._breaker.cancel_probe()
                raise
            if isinstance(problem, SkytellsError):
                return problem
            if isinstance(problem, StoreFailed) or not isinstance(problem, Exception):
                raise
            # Whatever a response holds, it is at most an error of its own rows.
            unreadable = InvalidResponseError(
                f"The response could not be read: {type(problem).__name__}: {str(problem)[:200]}"
            )
            unreadable.__cause__ = problem
            return unreadable
        self._record_response(request, result, sent, _new_limits(limits_before, client))
        return None

    def _send_once(self, request: PlannedRequest, inputs: Sequence[str], client: Skytells) -> BatchResult:
        """Make one attempt, and count what it cost."""
        counters, lock = self._run.counters, self._run.lock
        used: tuple[int, int] | None = None
        response_bytes: int | None = None
        answered, resent = True, client.resent
        with lock:
            counters.requests += 1
        try:
            result = self._operation.send(client, inputs, functools.partial(self._read, request))
            if result.usage_known:
                used = result.tokens_in, result.tokens_out
            else:
                response_bytes = _size_of(result.values)
            if result.rejected_attempts:
                with lock:
                    counters.requests += result.rejected_attempts
        except Exception as problem:
            answered, used = billed(problem, request.tokens)
            response_bytes = 0 if answered else None
            if answered and used is not None:
                with lock:
                    counters.tokens_in += used[0]
                    counters.tokens_out += used[1]
            raise
        finally:
            with lock:
                resent = client.resent - resent
                counters.requests += resent
                counters.retries += resent
                counters.missing_usage += answered and used is None
                if self._context.price is not None and used is not None:
                    counters.cost += self._context.price.cost(*used)
            self._settle(request, used, response_bytes)
        return result

    def _record_response(
        self, request: PlannedRequest, result: BatchResult, sent: float, limits: RateLimits | None
    ) -> None:
        """Store and count the results of a request, and take what it showed of the service into account."""
        count, lock = len(request.numbers), self._run.lock
        self._limited_since = None
        self._breaker.record_success()
        if self._size is not None:
            with lock:
                self._size.record_accepted(count, request.estimated, request.group)
        seconds = time.monotonic() - sent
        try:
            if not result.stored:
                self._deliver(request, result)
        finally:
            used = result.tokens_in + result.tokens_out
            self._rate_limiter.record_success(limits, seconds=seconds, tokens=used or None)
            if result.usage_known:
                limit = self._operation.max_output_tokens() * count
                beyond = result.tokens_out - limit if self._limited_output else 0.0
                self._context.profile.tokens.observe(request.estimated, result.tokens_in, beyond)
            with lock:
                self._run.counters.timeline.record_response(
                    sent + seconds - self._started, seconds, self._rate_limiter.permitted
                )
        # Its file may be locked by another process: not before what was paid for is stored.
        self._context.profile.save_learned()

    def _should_retry(self, request: PlannedRequest, problem: SkytellsError) -> bool:
        """Whether to send the request again; wait before that as long as needed, or handle the failure."""
        if self._run.stopped.is_set() and self._run.fatal is None:
            return False
        end_reason = self._breaker.record_failure(problem, first=not request.failures)
        if not self._breaker.open:
            request.failures += 1
        if end_reason or not self._context.retry.allows(problem, request.failures):
            self._fail(request, problem, end_reason)
            return False
        if is_rate_limited(problem):
            end_reason = self._rate_limit_reason(problem)
        else:
            end_reason = self._context.retry.give_up(problem) or self._breaker.may_retry()
        if end_reason:
            self._fail(request, problem, end_reason)
            return False
        with self._run.lock:
            self._run.counters.retries += 1
        # After most rejections the rate limiter delays every request; so does the breaker while the service is down.
        wait = request.wait if is_rate_limited(problem) else self._context.retry.wait(problem, request.failures)
        _log.info("%s: retrying%s", describe_error(problem), f" in {wait:.1f} s" if wait else "")
        if wait and not self._breaker.open:
            self._run.stopped.wait(wait)
        return True

    def _rate_limit_reason(self, problem: RateLimitError) -> str | None:
        since = self._limited_since = self._limited_since or time.monotonic()
        return self._context.retry.give_up(problem, time.monotonic() - since)

    def _reserve(self, request: PlannedRequest) -> bool:
        """Reserve what the request may cost; return whether it may be sent, and queue its halves if only they may."""
        budget, stopped = self._context.budget, self._run.stopped.is_set
        if budget is None:
            return True
        try:
            request.reservation = budget.reserve(request.token_bounds(self._operation.max_output_tokens()), stopped)
        except (BudgetExceededError, CacheError) as problem:
            if not stopped():
                self._run.end(problem)
            return False
        if request.reservation is None:
            self._requeue(request, halves(request))
        return request.reservation is not None

    def _settle(self, request: PlannedRequest, used: tuple[int, int] | None, response_bytes: int | None = None) -> None:
        if self._context.budget is not None and request.reservation is not None:
            self._context.budget.settle(request.reservation, used, response_bytes=response_bytes)
            request.reservation = None

    def _read(self, request: PlannedRequest, call: Callable[[], BatchResult]) -> BatchResult:
        """Read and store a large response in one thread, so that its memory is free before the next is read."""

        def read_and_store() -> BatchResult:
            result = call()
            try:
                self._deliver(request, result)
            except Exception as problem:
                raise StoreFailed(problem) from None
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
            counters = self._run.counters
            with self._run.lock:
                counters.answered += len(numbers)
                counters.rows_done += rows
                counters.tokens_in += result.tokens_in
                counters.tokens_out += result.tokens_out
        self._release(numbers)
        if len(unanswered):
            # Together with others they got no usable result.
            self._requeue(request, [unanswered[at : at + 1] for at in range(len(unanswered))])

    def _fail(self, request: PlannedRequest, problem: SkytellsError, end_reason: str | None) -> None:
        if end_reason is not None:
            self._end_because(problem, end_reason)
            return
        if isinstance(problem, (AccountError, BudgetExceededError)):
            self._run.end(problem)
            return
        if is_splittable(problem) and self._sent_in_parts(request, problem):
            return
        cached_error = self._operation.cacheable_error(problem)
        if cached_error is not None:
            self._store(request.numbers, [cached_error] * len(request.numbers))
        self._run.record_errors(request.numbers, problem)
        self._release(request.numbers)
        _log.info("%s: %d inputs failed", describe_error(problem), len(request.numbers))
        call_reason = self._call_reason(problem)
        if call_reason is not None:
            self._end_because(problem, call_reason)
        if self._context.stop_on_error or (isinstance(problem, ConnectError) and not self._run.counters.answered):
            self._run.end(problem)

    def _end_because(self, problem: SkytellsError, reason: str) -> None:
        if reason not in str(problem):
            problem.add_note(reason)
        _log.warning("%s: the run ends. %s", describe_error(problem), reason)
        self._run.end(problem)

    def _call_reason(self, problem: SkytellsError) -> str | None:
        """Return why the rows that wait would all fail like this one, ``None`` if they may not."""
        with self._run.lock:
            # An answer of an earlier run counts too: the call is right for some rows.
            if self._run.fatal is not None or self._context.buffer.filled.any():
                return None
            return self._rejections.record(problem, more_waits=self._run.has_queued)

    def _sent_in_parts(self, request: PlannedRequest, problem: SkytellsError) -> bool:
        """Queue the parts of a rejected request: one input may be at fault, or all together are too much."""
        count = len(request.numbers)
        if self._context.job.learns_size:
            with self._run.lock:
                self._size = self._size or RequestSize(self._context.profile)
                too_large = self._size.record_rejected(count, request.estimated, problem)
            if too_large:
                request.too_large, request.failures = True, 0
                self._run.put_back([request])
                return True
        if count > 1:
            self._requeue(request, halves(request))
        return count > 1

    def _requeue(self, request: PlannedRequest, parts: Sequence[NDArray[np.int64]]) -> None:
        self._run.put_back(in_parts(request, parts, self._context))


def _size_of(values: Values) -> int:
    """Return the bytes of completions, 0 for vectors, whose size says nothing about what they cost."""
    return 0 if isinstance(values, np.ndarray) else sum(len(value) for value in values if value is not None)


def _new_limits(before: RateLimits | None, client: Skytells) -> RateLimits | None:
    """The rate limits reported with the last response, ``None`` if it reported none."""
    return client.limits if client.limits is not before else None

"""One vectorized call in progress: cached results, requests in flight, and how it ends."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skytells_nb.engine.context import RunContext
from skytells_nb.engine.planning import PlannedRequest
from skytells_nb.engine.report import Report
from skytells_nb.engine.results import Values
from skytells_nb.engine.single_flight import MAX_POLL_S, MIN_POLL_S, Owner
from skytells_nb.engine.worker_pool import WorkerPool
from skytells_nb.errors import ReplayMissError, SkytellsError
from skytells_nb.progress.events import Progress, RunState, no_progress
from skytells_nb.progress.line import INITIAL_DELAY_S, UPDATE_INTERVAL_S

LOOKUP_BATCH = 512
"""Keys in one cache look-up, whose results are in memory twice for a moment. With four times as many, of 6 kB each, a
fifth to a third of the time goes into fresh memory."""

LOOKING_UP = "looking up cached answers"
LOST_INPUT = (
    "The row was neither answered nor rejected, which is a fault in skytells-nb. Run again to request it, and please "
    "report it."
)


class Run:
    """Resolves the inputs of one call from cache and service, until each has a result or an error.

    Results are collected in the context's buffer; ``report`` accounts for every row at any moment.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.state: RunState = "running"
        self.cached_errors: dict[int, Exception] = {}
        self._cached = 0
        self._cached_rows = 0
        self._waits_for_other_run = False
        self._replaced: set[int] = set()
        """Inputs whose cached answers are not used and give way to new ones."""
        self._owner = Owner(context.cache.leases)
        self._snapshot: tuple[int, object] | None = None
        """Where the store stood before the first look-up."""
        self._lock = threading.Lock()
        self._leased_elsewhere: list[NDArray[np.int64]] = []
        """Inputs that another run is sending."""
        self._answered_elsewhere: list[NDArray[np.int64]] = []
        self._unusable: set[int] = set()
        """Inputs whose answer from elsewhere is not used either."""
        self._unusable_snapshot: tuple[int, object] | None = None
        self._started = time.monotonic()
        self._sending_since: float | None = None
        self._done_before_sending = 0
        self._inputs_before_sending = 0
        self._samples: deque[tuple[float, float]] = deque()
        """Work done by time, since the middle of the time since inputs were sent."""
        self._last_response: tuple[int, float] = (0, 0.0)
        """Inputs that were processed when the last answer was seen, and when that was."""
        self._step: str | None = None
        self._next_event = self._started + INITIAL_DELAY_S
        self._workers = WorkerPool(
            context,
            store=self._store,
            release=self._release,
            tick=self._tick,
            claim=None if context.single_flight is None else self._claim,
            holds_claims=lambda: self._owner.holds_leases,
        )

    def load_cached(self, numbers: NDArray[np.int64] | None = None, *, just_stored: bool = False) -> NDArray[np.int64]:
        """Collect the cached results of these inputs (all by default); return the numbers of the others.

        ``just_stored`` says that another run has requested them meanwhile: they are new also for a fresh run.
        """
        context = self.context
        if numbers is None:
            numbers = np.arange(len(context.plan.inputs))
        if not len(context.keys):  # the cache is off
            return numbers
        if self._snapshot is None and context.single_flight is not None:
            self._snapshot = context.single_flight.snapshot(self._owner)
        if context.fresh and not just_stored:
            self._replaced.update(numbers.tolist())
            return numbers
        missing = [numbers[:0]]
        for start in range(0, len(numbers), LOOKUP_BATCH):
            if time.monotonic() >= self._next_event:
                self._step = LOOKING_UP
                self.emit_progress()
            batch = numbers[start : start + LOOKUP_BATCH]
            values = self._reusable(batch, self._get_many(batch, numbers))
            hit = np.fromiter((value is not None for value in values), dtype=np.bool_, count=len(values))
            missing.append(batch[~hit])
            self._use_cached(batch[hit], [value for value in values if value is not None])
        self._step = None
        return np.concatenate(missing)

    def _get_many(self, batch: NDArray[np.int64], numbers: NDArray[np.int64]) -> list[bytes | None]:
        cache, keys = self.context.cache, self.context.keys
        try:
            return cache.get_many(keys[batch].tolist())
        except ReplayMissError:
            # Raise it with the figures of the whole call.
            cache.get_many(keys[numbers].tolist())
            raise

    def _reusable(self, batch: NDArray[np.int64], values: list[bytes | None]) -> list[bytes | None]:
        """Return the values with ``None`` for those that are to be requested again."""
        is_reusable = self.context.is_reusable
        if is_reusable is None:
            return values
        reusable = [value if value is None or is_reusable(value) else None for value in values]
        stale = zip(batch.tolist(), values, reusable, strict=True)
        self._replaced.update(number for number, before, after in stale if before is not after)
        return reusable

    def send(self, numbers: NDArray[np.int64]) -> None:
        """Request these inputs; those in flight in another run, also of another process, are awaited instead."""
        context, single_flight = self.context, self.context.single_flight
        if self._sending_since is None:
            self._sending_since, self._done_before_sending = time.monotonic(), self._rows_done()
            self._inputs_before_sending = self._inputs_done()
            self._last_response = (0, self._sending_since)
            self._samples.append((self._sending_since, 0.0))
        requested = numbers
        if single_flight is None:
            self._workers.run(context.plan_requests(numbers))
            self._check_all_ended(requested)
            return
        pause = MIN_POLL_S
        try:
            while len(numbers):
                self._workers.run(context.plan_requests(numbers))
                before, numbers = len(numbers), self._pop_leased_elsewhere()
                # No other process can wake this one, so it is asked again, more often while it makes progress.
                pause = MIN_POLL_S if len(numbers) < before else min(MAX_POLL_S, 1.5 * pause)
                keys = context.keys[numbers].tolist()
                self._waits_for_other_run = True
                single_flight.wait(keys, pause if keys else 0.0, self._tick_while_waiting)
                self._waits_for_other_run = False
            self._check_all_ended(requested)
        finally:
            single_flight.end(self._owner)

    def _check_all_ended(self, numbers: NDArray[np.int64]) -> None:
        """Give an error to inputs that have none, nor a result, after all were sent: no row is missing in silence."""
        left = numbers[~self.context.buffer.filled[numbers]]
        if len(left):
            known = self.errors()
            lost = np.array([number for number in left.tolist() if number not in known], dtype=np.int64)
            if len(lost):
                self._workers.record_errors(lost, SkytellsError(LOST_INPUT))

    def _claim(self, requests: Sequence[PlannedRequest]) -> Sequence[PlannedRequest]:
        """Return what of these requests this run is to send; note what is answered or in flight elsewhere."""
        context, single_flight = self.context, self.context.single_flight
        assert single_flight is not None
        numbers = np.concatenate([request.numbers for request in requests])
        snapshot = self._snapshot
        if self._unusable and not self._unusable.isdisjoint(numbers.tolist()):
            snapshot = self._unusable_snapshot
        keys = context.keys[numbers].tolist()
        states = single_flight.acquire(keys, self._owner, snapshot)
        if states.count("acquired") == len(states):
            return requests
        by_state = np.array(states)
        with self._lock:
            self._leased_elsewhere.append(numbers[by_state == "leased"])
            # For the thread that waits: the cache may have warnings to emit.
            self._answered_elsewhere.append(numbers[by_state == "stored"])
        return context.plan_requests(numbers[by_state == "acquired"])

    def _tick(self) -> None:
        self._collect_answered()
        self.emit_progress()

    def _collect_answered(self) -> None:
        """Collect the results that other runs have stored since the first look-up."""
        with self._lock:
            answered, self._answered_elsewhere = self._answered_elsewhere, []
        if sum(map(len, answered)):
            assert self.context.single_flight is not None
            snapshot = self.context.single_flight.snapshot(self._owner)
            missing = self.load_cached(np.concatenate(answered), just_stored=True)
            if self.context.stop_on_error and self.cached_errors:
                self.end(next(iter(self.cached_errors.values())))
            with self._lock:
                if len(missing):
                    self._unusable_snapshot = snapshot
                    self._unusable.update(missing.tolist())
                    self._leased_elsewhere.append(missing)

    def _pop_leased_elsewhere(self) -> NDArray[np.int64]:
        """Return, once, the inputs that are neither answered nor sent: other runs had leased them."""
        self._collect_answered()
        with self._lock:
            leased, self._leased_elsewhere = self._leased_elsewhere, []
        return np.sort(np.concatenate(leased)) if leased else np.empty(0, dtype=np.int64)

    def end(self, problem: Exception) -> None:
        """Send nothing more, from any thread; ``send`` raises this once the requests in flight are stored."""
        self._workers.end(problem)

    def abort(self) -> None:
        """Close the connections of the requests in flight, from any thread."""
        self._workers.abort()

    def _tick_while_waiting(self) -> None:
        self.emit_progress()
        if self._workers.fatal is not None:
            raise self._workers.fatal

    def emit_progress(self) -> None:
        """Report the progress to the callback, and emit pending warnings of the cache."""
        if self.context.on_progress is not no_progress:
            self.context.on_progress(self._progress())
        self.context.cache.emit_warnings()

    def _progress(self) -> Progress:
        context, plan, counters = self.context, self.context.plan, self._workers.counters
        running, now = self.state == "running", time.monotonic()
        self._next_event = now + UPDATE_INTERVAL_S
        return Progress(
            label=context.job.name,
            state=self.state,
            rows=plan.rows,
            done=self._rows_done(),
            cached=self._cached_rows,
            failed=len(plan.invalid) + self._cached_error_rows() + counters.rows_failed,
            requests=counters.requests,
            retries=counters.retries,
            tokens=counters.tokens_in + counters.tokens_out,
            cost=self._cost(),
            seconds=now - self._started,
            in_flight=context.rate_limiter.in_flight if running else 0,
            limit=context.rate_limiter.limit_text,
            waiting=self._waiting() if running else None,
            processed=0 if self._sending_since is None else self._rows_done() - self._done_before_sending,
            processing_seconds=0.0 if self._sending_since is None else now - self._sending_since,
            step=self._step,
            expected_seconds=self._expected_seconds(now) if running else None,
        )

    def _expected_seconds(self, now: float) -> float | None:
        """Return the seconds that the inputs which are left will take; ``None`` before the first answer.

        In inputs, as one may stand for many rows. What is in flight counts by the time that it has been, at the mean
        latency: where a few slow requests are answered at once, the time left would double before each answer. The rate
        is that of the latter half of the time, as requests in flight grow in number; under a limit, which lets requests
        go in bursts, it is that of all of it.
        """
        if self._sending_since is None:
            return None
        processed = self._inputs_done() - self._inputs_before_sending
        if processed != self._last_response[0]:
            self._last_response = (processed, now)
        latency, requests = self._workers.counters.timeline.mean_latency()
        left: float = len(self.context.plan.inputs) - self._inputs_before_sending - processed
        work: float = processed
        limiter = self.context.rate_limiter
        if requests:
            in_flight = min(left, limiter.in_flight * processed / requests)
            work += in_flight * min(1.0, (now - self._last_response[1]) / latency)
        samples, seconds = self._samples, now - self._sending_since
        samples.append((now, work))
        while len(samples) > 1 and samples[1][0] <= now - seconds / 2:
            samples.popleft()
        if not processed or not requests or seconds <= 0:
            return None
        rate = work / seconds
        since, before = samples[0]
        if math.isinf(limiter.permitted) and work > before and now > since:
            rate = (work - before) / (now - since)
        return (left + processed - work) / rate

    def _inputs_done(self) -> int:
        counters = self._workers.counters
        return self._cached + counters.answered + len(counters.errors)

    def _rows_done(self) -> int:
        plan = self.context.plan
        return plan.nulls + len(plan.invalid) + self._cached_rows + self._workers.counters.rows_done

    def errors(self) -> dict[int, Exception]:
        """Return the errors of inputs, by number."""
        return {**self.cached_errors, **self._workers.snapshot().errors}

    def report(self) -> Report:
        """Return a report of what is done so far."""
        context, plan, counters = self.context, self.context.plan, self._workers.snapshot()
        row_errors: dict[int, Exception] = dict(plan.invalid)
        input_errors = {**self.cached_errors, **counters.errors}
        if input_errors:
            row_errors.update(
                (int(row), input_errors[int(plan.codes[row])]) for row in plan.rows_of(list(input_errors))
            )
        return Report(
            operation=context.job.name,
            model=context.job.model,
            state=self.state,
            rows=plan.rows,
            distinct=len(plan.inputs),
            nulls=plan.nulls,
            cached=self._cached,
            sent=counters.answered,
            answered=int(context.weights.sum(where=context.buffer.filled)),
            failed=len(row_errors),
            requests=counters.requests,
            retries=counters.retries,
            tokens_in=counters.tokens_in,
            tokens_out=counters.tokens_out,
            cost=self._cost(),
            missing_usage=counters.missing_usage,
            cost_upper_bound=None if context.budget is None else context.budget.spent,
            seconds=time.monotonic() - self._started,
            limit=context.rate_limiter.limit_text,
            errors=dict(sorted(row_errors.items())),
            timeline=counters.timeline,
        )

    def _use_cached(self, numbers: NDArray[np.int64], values: list[bytes]) -> None:
        """Collect cached results and cached errors."""
        context = self.context
        self._cached += len(numbers)
        self._cached_rows += int(context.weights[numbers].sum())
        errors = {
            number: error
            for number, value in zip(numbers.tolist(), values, strict=True)
            if (error := context.job.operation.cached_error(value)) is not None
        }
        if errors:
            self.cached_errors.update(errors)
            values = [value for n, value in zip(numbers.tolist(), values, strict=True) if n not in errors]
            numbers = numbers[~np.isin(numbers, list(errors))]
        if len(numbers):
            context.buffer.put(numbers, values)

    def _store(self, numbers: NDArray[np.int64], values: Values) -> None:
        context = self.context
        if context.single_flight is None:  # the cache is off: do not make a pair of objects for each row
            return
        # As bytes, which the garbage collector does not track: with views it took a fifth of a large run's time.
        items = [row.tobytes() for row in values] if isinstance(values, np.ndarray) else values
        keys = context.keys[numbers].tolist()
        answers = [(key, value) for key, value in zip(keys, items, strict=True) if value is not None]
        # The old answer goes only now, when the new one is here.
        replace = bool(self._replaced) and not self._replaced.isdisjoint(numbers.tolist())
        context.cache.put_many(answers, replace=replace)

    def _release(self, numbers: NDArray[np.int64]) -> None:
        context = self.context
        if context.single_flight is not None and len(numbers):
            context.single_flight.release(context.keys[numbers].tolist(), self._owner)

    def _cost(self) -> float | None:
        counters = self._workers.counters
        unknown = self.context.price is None or (counters.missing_usage and not counters.cost)
        return None if unknown else counters.cost

    def _waiting(self) -> str | None:
        if self._waits_for_other_run:
            return "waiting for answers that another call has requested"
        return self.context.breaker.waiting or self.context.rate_limiter.waiting

    def _cached_error_rows(self) -> int:
        return int(self.context.weights[list(self.cached_errors)].sum()) if self.cached_errors else 0

"""One vectorised call on its way: what is known of it, what is under way, how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from skytells_nb.cache.store import CacheStore
from skytells_nb.engine.budget import Budget
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.planning import Plan, PlannedRequest, RunCounters, TokenCalibration
from skytells_nb.engine.rate_limit.limiter import RateLimiter
from skytells_nb.engine.report import Progress, ProgressCallback, Report, RunState
from skytells_nb.engine.results import ResultBuffer, Values
from skytells_nb.engine.retry import PROBES, CircuitBreaker, RetryPolicy
from skytells_nb.engine.single_flight import Owner, SingleFlight
from skytells_nb.engine.threads import ReaderPool
from skytells_nb.engine.worker_pool import ClientPool, WorkerPool
from skytells_nb.errors import ReplayMissError

LOOKED_UP_AT_ONCE = 512
"""Keys of one look-up in the cache, whose answers are then held twice for a moment. With four times as many, of 6 kB
each, a fifth to a third of the time goes into fresh memory."""


class Run:
    """The inputs of one call against cache and service, until each has an answer or an error.

    ``answers`` fills up meanwhile; ``report`` accounts for every row at any moment.
    """

    def __init__(
        self,
        *,
        job: Job,
        made: Plan,
        keys: Sequence[bytes],
        cache: CacheStore,
        claims: SingleFlight | None,
        answers: ResultBuffer,
        requests: Callable[[NDArray[np.int64]], list[PlannedRequest]],
        clients: ClientPool,
        pacer: RateLimiter,
        retry: RetryPolicy,
        ledger: Budget,
        priced: bool,
        scale: TokenCalibration,
        workers: int,
        listen: ProgressCallback,
        stop_on_error: bool,
    ) -> None:
        self.state: RunState = "running"
        self.answers = answers
        self.refused: dict[int, Exception] = {}
        self._job = job
        self._made = made
        self._keys = keys
        self._cache = cache
        self._claims = claims
        self._requests = requests
        self._pacer = pacer
        self._ledger = ledger
        self._priced = priced
        self._listen = listen
        self._weights = made.counts()
        self._cached = 0
        self._cached_rows = 0
        self._released = 0
        self._elsewhere = False
        self._claimant = Owner()
        self._started = time.monotonic()
        self._breaker = CircuitBreaker(probes=min(PROBES, retry.retries))
        self._run = WorkerPool(
            inputs=made.inputs,
            weights=self._weights,
            work=job.work,
            answers=answers,
            store=self._store,
            settled=self._release,
            clients=clients,
            pacer=pacer,
            retry=retry,
            breaker=self._breaker,
            budget=ledger,
            learn=scale.learn,
            workers=workers,
            readers=ReaderPool(job.read_at_once),
            tick=self.emit_progress,
            stop_on_error=stop_on_error,
        )

    def load_cached(self, numbers: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Take what the cache has of these inputs (of all by default); the numbers of those it has not."""
        if numbers is None:
            numbers = np.arange(len(self._made.inputs))
        if not self._keys:  # nothing is kept
            return numbers
        if self._claims is not None:
            self._released = self._claims.releases
        missing = [numbers[:0]]
        for start in range(0, len(numbers), LOOKED_UP_AT_ONCE):
            some = numbers[start : start + LOOKED_UP_AT_ONCE]
            values = self._get(some, numbers)
            there = np.fromiter((value is not None for value in values), dtype=np.bool_, count=len(values))
            missing.append(some[~there])
            self._take(some[there], [value for value in values if value is not None])
        return np.concatenate(missing)

    def _get(self, some: NDArray[np.int64], of: NDArray[np.int64]) -> list[bytes | None]:
        try:
            return self._cache.get_many([self._keys[number] for number in some.tolist()])
        except ReplayMissError:
            # Raised again with the figures of the whole call.
            self._cache.get_many([self._keys[number] for number in of.tolist()])
            raise

    def send(self, numbers: NDArray[np.int64]) -> None:
        """Ask for these inputs; those that another run of this process asks for just now are waited for instead."""
        claims = self._claims
        if claims is None:
            self._run.run(self._requests(numbers))
            return
        held: list[bytes] = []
        try:
            while len(numbers):
                keys = [self._keys[number] for number in numbers.tolist()]
                mine = np.array(claims.take(keys, self._claimant), dtype=np.bool_)
                held = [key for key, own in zip(keys, mine.tolist(), strict=True) if own]
                theirs, numbers = numbers[~mine], numbers[mine]
                if claims.releases != self._released and len(numbers):
                    # An answer may have been stored between the look-up and the claim.
                    numbers = self.load_cached(numbers)
                self._run.run(self._requests(numbers))
                claims.release(held, self._claimant)
                held = []
                self._elsewhere = True
                claims.wait([self._keys[number] for number in theirs.tolist()], self.emit_progress)
                self._elsewhere = False
                numbers = self.load_cached(theirs)
        finally:
            self._claimant.over = True
            claims.release(held, self._claimant)

    def end(self, problem: Exception) -> None:
        """Send nothing more, from any thread; ``send`` raises this once what is under way is kept."""
        self._run.end(problem)

    def emit_progress(self) -> None:
        """Say where the run stands, and what went wrong with the cache."""
        tally, made = self._run.tally, self._made
        running = self.state == "running"
        self._listen(
            Progress(
                label=self._job.operation,
                state=self.state,
                rows=made.rows,
                done=made.nulls + len(made.bad) + self._cached_rows + tally.rows_done,
                cached=self._cached_rows,
                failed=len(made.bad) + self._refused_rows() + tally.rows_failed,
                requests=tally.requests,
                retries=tally.retries,
                tokens=tally.tokens_in + tally.tokens_out,
                cost=self._ledger.spent if self._priced else None,
                seconds=time.monotonic() - self._started,
                in_flight=self._pacer.in_flight if running else 0,
                limit=self._pacer.limit_text,
                waiting=self._waiting() if running else None,
            )
        )
        self._cache.tell()

    def errors(self) -> dict[int, Exception]:
        """Errors of inputs, by number."""
        return {**self.refused, **self._run.result().errors}

    def report(self) -> Report:
        """What was done so far."""
        made, tally, have = self._made, self._run.result(), self.answers.have
        errors: dict[int, Exception] = dict(made.bad)
        failed = {**self.refused, **tally.errors}
        if failed:
            errors.update((int(row), failed[int(made.codes[row])]) for row in made.rows_of(list(failed)))
        return Report(
            operation=self._job.operation,
            model=self._job.model,
            state=self.state,
            rows=made.rows,
            distinct=len(made.inputs),
            nulls=made.nulls,
            cached=self._cached,
            sent=tally.answered,
            answered=int(self._weights[have].sum()),
            failed=len(errors),
            requests=tally.requests,
            retries=tally.retries,
            tokens_in=tally.tokens_in,
            tokens_out=tally.tokens_out,
            cost=self._ledger.spent if self._priced else None,
            seconds=time.monotonic() - self._started,
            limit=self._pacer.limit_text,
            errors=dict(sorted(errors.items())),
            course=tally.course,
        )

    @property
    def tally(self) -> RunCounters:
        return self._run.result()

    def _take(self, numbers: NDArray[np.int64], values: list[bytes]) -> None:
        """Hold answers that the cache had."""
        self._cached += len(numbers)
        self._cached_rows += int(self._weights[numbers].sum())
        refusals = {
            number: problem
            for number, value in zip(numbers.tolist(), values, strict=True)
            if (problem := self._job.work.refusal(value)) is not None
        }
        if refusals:
            self.refused.update(refusals)
            values = [v for n, v in zip(numbers.tolist(), values, strict=True) if n not in refusals]
            numbers = numbers[~np.isin(numbers, list(refusals))]
        if len(numbers):
            self.answers.put(numbers, values)

    def _store(self, numbers: NDArray[np.int64], values: Values) -> None:
        if self._claims is None:  # no cache, and a pair of objects a row would be made for nothing
            return
        # As bytes, which the garbage collector does not follow: with views it took a fifth of a large run's time.
        items = [row.tobytes() for row in values] if isinstance(values, np.ndarray) else values
        keys = map(self._keys.__getitem__, numbers.tolist())
        self._cache.put_many([(key, value) for key, value in zip(keys, items, strict=True) if value is not None])

    def _release(self, numbers: NDArray[np.int64]) -> None:
        if self._claims is not None and len(numbers):
            self._claims.release([self._keys[number] for number in numbers.tolist()], self._claimant)

    def _waiting(self) -> str | None:
        if self._elsewhere:
            return "waiting for answers that another call has asked for"
        return self._breaker.waiting or self._pacer.waiting

    def _refused_rows(self) -> int:
        return int(self._weights[list(self.refused)].sum()) if self.refused else 0

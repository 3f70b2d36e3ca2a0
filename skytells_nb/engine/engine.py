"""The way of the data: plan, cache, pack, run, scatter."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.cache.key import KeyMaker
from skytells_nb.cache.store import CacheStore
from skytells_nb.client.client import Skytells
from skytells_nb.engine.budget import Budget
from skytells_nb.engine.operations.jobs import Job, RateOptions
from skytells_nb.engine.planning import Plan, PlannedRequest, calibration_for, pack_requests, plan, token_estimates
from skytells_nb.engine.rate_limit.limiter import RateLimiter, rate_limiter_for
from skytells_nb.engine.report import Estimate, ProgressCallback, Report, no_progress
from skytells_nb.engine.results import ResultBuffer, RunResult
from skytells_nb.engine.retry import RetryPolicy
from skytells_nb.engine.run import Run
from skytells_nb.engine.single_flight import SingleFlight, single_flight_for
from skytells_nb.errors import (
    CacheError,
    InputError,
    Interrupted,
    ReplayMissError,
    RequestCancelledError,
    RowError,
    SkytellsError,
)
from skytells_nb.types.embeddings import MAX_REQUEST_TOKENS
from skytells_nb.types.models import Price

OnError = Literal["warn", "raise", "null"]

LEARNT_FROM = 200
"""Kept answers that an estimate looks at for the usual length of an answer."""
AWAITED_S = 10.0
"""Time that the answers under way have where the session is closed."""
MOST_USED_KEYS = 1_000_000
"""Keys that an engine remembers for ``used_keys``, 32 bytes each."""

_log = logging.getLogger(__name__)


class Engine:
    """Runs jobs for one account at one origin. Safe to use from several threads."""

    def __init__(
        self,
        *,
        make_client: Callable[[], Skytells],
        cache: CacheStore,
        origin: str,
        account: str,
        price: Callable[[str], Price | None],
        ask_price: Callable[[str], Price | None],
        pace: RateOptions,
        inputs_per_request: int,
        retry: RetryPolicy,
    ) -> None:
        self._make_client = make_client
        self._cache = cache
        self._origin = origin
        self._account = account
        self._price = price
        self._ask_price = ask_price
        self._pace = pace
        self._most_idle = pace.max_in_flight or 1
        self._inputs_per_request = inputs_per_request
        self._retry = retry
        self._used = bytearray()
        self._idle: list[Skytells] = []
        self._running: dict[Run, int] = {}
        self._ends_with_run = False
        self._lock = threading.Lock()

    def acquire(self) -> Skytells:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._make_client()

    def release(self, client: Skytells) -> None:
        with self._lock:
            if not client.aborted and len(self._idle) < self._most_idle:
                self._idle.append(client)
                return
        client.close()

    def close(self) -> None:
        """End the runs of other threads, with what is under way awaited for a while; then let go of everything."""
        with self._lock:
            running = dict(self._running)
        for execution in running:
            execution.end(
                RequestCancelledError("The session was closed while this ran; connect again and run it again.")
            )
        here, give_up = threading.get_ident(), time.monotonic() + AWAITED_S
        others = {execution for execution, thread in running.items() if thread != here}
        while others & self._running.keys() and time.monotonic() < give_up:
            time.sleep(0.02)
        # A run whose listener closes the session has answers to keep before it ends.
        self._ends_with_run = len(others) < len(running)
        if not self._ends_with_run:
            self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()
        self._cache.close()

    def recall(self, job: Job, text: str) -> bytes | None:
        """The kept answer to one input, ``None`` where there is none; a kept refusal is raised again."""
        keys = self._keys(job, [text])
        value = self._cache.get_many(keys)[0]
        if value is None:
            return None
        self._use(keys)
        problem = job.work.refusal(value)
        if problem is not None:
            raise problem
        return value

    def keep(self, job: Job, text: str, answer: bytes) -> None:
        """Keep the answer to one input that was asked for outside ``run``."""
        keys = self._keys(job, [text])
        self._use(keys)
        self._cache.put_many([(keys[0], answer)])
        self._cache.tell()

    def used_keys(self) -> list[bytes]:
        """Keys of the answers that were read or stored through this engine, each once, oldest first.

        Raises CacheError where they are more than are remembered.
        """
        with self._lock:
            used = bytes(self._used)
        if len(used) > 32 * MOST_USED_KEYS:
            raise CacheError(
                f"More than {MOST_USED_KEYS:,} answers were used, too many to pick out; copy the cache file instead."
            )
        return list(dict.fromkeys(used[at : at + 32] for at in range(0, len(used), 32)))

    def estimate(self, job: Job, texts: Sequence[str | None] | NDArray[Any]) -> Estimate:
        """What ``run`` would send and cost, from the plan and the cache; asks no model."""
        made = plan(texts, max_tokens=job.max_input_tokens)
        try:
            known = self._cache.get_many(self._keys(job, made.inputs))
        except ReplayMissError:
            known = [None] * len(made.inputs)
        missing = np.flatnonzero([value is None for value in known]).astype(np.int64)
        job.work.learn([value for value in known if value is not None][:LEARNT_FROM])
        requests = self._requests(job, made, missing)
        tokens_in = round(sum(request.tokens for request in requests))
        tokens_out = round(job.work.output_tokens() * len(missing))
        price = self._ask_price(job.model)
        pacer = rate_limiter_for(self._origin, self._account, job.model)
        return Estimate(
            operation=job.operation,
            model=job.model,
            rows=made.rows,
            distinct=len(made.inputs),
            cached=len(made.inputs) - len(missing),
            requests=len(requests),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=None if price is None else price.cost(tokens_in, tokens_out),
            minutes=pacer.estimate_minutes(len(requests), tokens_in + tokens_out),
            limit=pacer.limit_text,
            calibrated=calibration_for(self._origin, job.model).factor is not None,
        )

    def run(
        self,
        job: Job,
        texts: Sequence[str | None] | NDArray[Any],
        *,
        on_error: OnError = "warn",
        budget: float | None = None,
        pace: RateOptions | None = None,
        into: Callable[[int], ResultBuffer] | None = None,
        listen: ProgressCallback = no_progress,
        ended: Callable[[Report], None] = lambda report: None,
    ) -> RunResult:
        """An answer for every row, from the cache where it is there; see ``Outcome``.

        ``into`` makes the room that answers fill, for so many inputs, in the place of the job's own.

        Raises InputError before anything is sent, an error that concerns the whole account at once, RowError under
        ``on_error="raise"``, Interrupted on Ctrl-C. ``ended`` gets the report whatever the end.
        """
        if on_error not in ("warn", "raise", "null"):
            raise InputError(f"on_error is 'warn', 'raise' or 'null'; found {on_error!r}.")
        made = plan(texts, max_tokens=job.max_input_tokens)
        if made.bad and on_error == "raise":
            row, reason = min(made.bad.items())
            raise InputError(f"Row {row} cannot be sent: {reason}. Nothing was sent ({len(made.bad):,} such rows).")
        price = self._price(job.model) if budget is None else self._ask_price(job.model)
        pacer = self._pacer(job, pace or RateOptions())
        # Where nothing is kept a tenth of a row's time would be for keys that nobody asks for.
        keys = [] if self.keeps_nothing else self._keys(job, made.inputs)
        execution = Run(
            job=job,
            made=made,
            keys=keys,
            cache=self._cache,
            claims=self._claims(),
            answers=(into or job.work.answers)(len(made.inputs)),
            requests=lambda numbers: self._requests(job, made, numbers),
            clients=self,
            pacer=pacer,
            retry=self._retry,
            ledger=Budget(budget, price, job.model),
            priced=price is not None,
            scale=calibration_for(self._origin, job.model),
            workers=pacer.max_in_flight,
            listen=listen,
            stop_on_error=on_error == "raise",
        )
        problem: Exception | None = None
        with self._lock:
            self._running[execution] = threading.get_ident()
        try:
            missing = execution.load_cached()
            if execution.refused and on_error == "raise":
                problem = next(iter(execution.refused.values()))
            else:
                execution.send(missing)
        except KeyboardInterrupt:
            execution.state = "interrupted"
        except SkytellsError as error:
            problem = error
        except BaseException:
            execution.state = "failed"
            raise
        finally:
            if execution.state == "running":
                execution.state = "done" if problem is None else "failed"
            have = execution.answers.have.copy()
            outcome = RunResult(made, execution.answers, have, execution.report())
            if keys:
                self._use(key for key, there in zip(keys, have.tolist(), strict=True) if there)
            with self._lock:
                self._running.pop(execution, None)
            _log.info("%s", _summary(outcome.report))
            # Before the listener, which may fail.
            ended(outcome.report)
            execution.emit_progress()
            if self._ends_with_run:
                self._let_go()
        return self._end(outcome, problem, execution, on_error)

    def _end(self, outcome: RunResult, problem: Exception | None, execution: Run, on_error: OnError) -> RunResult:
        """The outcome, or the error that ends the call."""
        report = outcome.report
        if report.state == "interrupted":
            raise Interrupted(
                f"{report.operation} stopped. {int(outcome.have.sum()):,} of {len(outcome.have):,} distinct inputs are "
                f"answered. {self._kept()} The report's partial holds what there is.",
                outcome=outcome,
            )
        if problem is None:
            return outcome
        if on_error == "raise" and any(problem is error for error in execution.errors().values()):
            raise RowError(
                f"{report.failed:,} of {report.rows:,} rows failed; the first reason: "
                f"{str(problem).rstrip('.')}. {self._kept()}",
                report=report,
            ) from problem
        if report.answered:
            problem.add_note(
                f"{report.operation} ended early: {report.answered:,} of {report.rows:,} rows are answered. "
                f"{self._kept()}"
            )
        raise problem

    @property
    def keeps_nothing(self) -> bool:
        """Whether the cache is off, so that every call is paid for again."""
        return self._cache.url == "off"

    def _kept(self) -> str:
        """Where answers are, and what a second run would do."""
        if self.keeps_nothing:
            return 'cache="off" keeps no answers, so another run pays for all of them again.'
        return "Every answer that arrived is kept in the cache; run again to go on from there."

    def _keys(self, job: Job, inputs: Sequence[str]) -> list[bytes]:
        maker = KeyMaker(endpoint=job.endpoint, model=job.model, origin=self._origin, params=job.params)
        return maker.keys(inputs)

    def _use(self, keys: Iterable[bytes]) -> None:
        if not self.keeps_nothing:
            joined = b"".join(keys)
            with self._lock:
                if len(self._used) <= 32 * MOST_USED_KEYS:
                    self._used += joined

    def _claims(self) -> SingleFlight | None:
        # Without a cache each call asks anew; a file is one store, however often it was opened.
        if self.keeps_nothing:
            return None
        return single_flight_for(self._cache.url if self._cache.url.startswith("sqlite") else f"{id(self._cache)}")

    def _pacer(self, job: Job, pace: RateOptions) -> RateLimiter:
        usual = self._pace.max_in_flight or 1
        at_once = pace.max_in_flight or min(usual, job.max_concurrency or usual)
        self._most_idle = max(self._most_idle, at_once)
        return rate_limiter_for(
            self._origin,
            self._account,
            job.model,
            max_in_flight=at_once,
            requests_per_minute=pace.requests_per_minute or self._pace.requests_per_minute,
            tokens_per_minute=pace.tokens_per_minute or self._pace.tokens_per_minute,
        )

    def _requests(self, job: Job, made: Plan, missing: NDArray[np.int64]) -> list[PlannedRequest]:
        estimates = token_estimates([made.inputs[number] for number in missing.tolist()]) + job.overhead_tokens
        tokens = np.ceil(estimates * (calibration_for(self._origin, job.model).factor or 1.0)).astype(np.int64)
        most = min(job.max_items, self._inputs_per_request)
        packed = pack_requests(missing, tokens, max_items=most, max_tokens=MAX_REQUEST_TOKENS)
        starts = np.cumsum([0, *(len(numbers) for numbers in packed)])[:-1]
        if not packed:
            return []
        rows = np.add.reduceat(made.counts()[missing], starts).tolist()
        sums = np.add.reduceat(tokens, starts).tolist()
        raw = np.add.reduceat(estimates, starts).tolist()
        return [PlannedRequest(*parts) for parts in zip(packed, rows, sums, raw, strict=True)]


def _summary(report: Report) -> str:
    """A run in one line of a log."""
    return (
        f"{report.operation} with {report.model} {report.state}: {report.rows:,} rows, {report.distinct:,} distinct, "
        f"{report.cached:,} cached, {report.sent:,} sent, {report.failed:,} failed, {report.requests:,} requests, "
        f"{report.retries:,} retries, {report.tokens_in:,}+{report.tokens_out:,} tokens, {report.seconds:.1f} s"
    )

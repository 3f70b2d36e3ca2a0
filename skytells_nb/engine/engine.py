"""Data flow of a vectorized call: plan, look up in the cache, batch, run, scatter."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.cache.key import KeyMaker
from skytells_nb.cache.memory import NoLeases
from skytells_nb.cache.replay import SCHEME
from skytells_nb.cache.shared.store import peers_of
from skytells_nb.cache.store import CacheStore
from skytells_nb.client.client import Skytells
from skytells_nb.engine.budget import Budget, current_counter
from skytells_nb.engine.context import Retry, RunContext
from skytells_nb.engine.operations.cached import dump_schema_mismatch, is_usable, matches_schema
from skytells_nb.engine.operations.jobs import EmbeddingOperation, Job, RateOptions, token_limit
from skytells_nb.engine.operations.request_fallbacks import with_fallbacks
from skytells_nb.engine.planning import Plan, PlannedRequest, RowTexts, plan, plan_requests
from skytells_nb.engine.rate_limit.limiter import RateLimiter, rate_limiter_for
from skytells_nb.engine.report import Estimate, Report, log_line
from skytells_nb.engine.results import ResultBuffer, RunResult
from skytells_nb.engine.retry import MAX_PROBES, CircuitBreaker, RetryPolicy
from skytells_nb.engine.run import LOOKUP_BATCH, Run
from skytells_nb.engine.service.profile import INPUTS, SIZE, ServiceProfile, SpeedEstimate, profile_for
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
from skytells_nb.progress.events import GuardedCallback, ProgressCallback, no_progress
from skytells_nb.types.models import Price

OnError = Literal["warn", "raise", "null"]

ESTIMATE_SAMPLE = 200
"""Cached results from which an estimate takes the usual length of an answer."""
KEYS_AT_ONCE = 20_000
"""Keys that an estimate looks up at once."""
CLOSE_TIMEOUT_S = 10.0
"""Time that requests in flight have to finish when the session is closed."""
ABORT_TIMEOUT_S = 2.0
"""Time that they have to end after that, once their connections are closed."""
MAX_USED_KEYS = 1_000_000
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
        fetch_price: Callable[[str], Price | None],
        rate_options: RateOptions,
        inputs_per_request: int,
        retry: RetryPolicy,
        price_note: Callable[[str], str | None] = lambda model: None,
        speed: SpeedEstimate | None = None,
        profiles: Path | None = None,
    ) -> None:
        self._make_client = make_client
        self.cache = cache
        self._origin = origin
        self._account = account
        self._price = price
        self._fetch_price = fetch_price
        self._rate_options = rate_options
        self._max_idle = rate_options.max_in_flight or 1
        self._inputs_per_request = inputs_per_request
        self._retry = retry
        self._price_note = price_note
        self._speed = speed
        self._profiles = profiles
        self._used_keys = bytearray()
        self._idle: list[Skytells] = []
        self._running: dict[Run, int] = {}
        self._close_after_run = False
        self._lock = threading.Lock()

    def acquire(self) -> Skytells:
        """Return an idle client, or a new one."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        return idle or self._make_client()

    def release(self, client: Skytells) -> None:
        """Take a client back, or close it."""
        with self._lock:
            if not client.aborted and len(self._idle) < self._max_idle:
                self._idle.append(client)
                return
        client.close()

    def close(self) -> None:
        """End the runs of other threads, wait a while for their requests in flight, then close clients and cache."""
        with self._lock:
            running = dict(self._running)
        for run in running:
            run.end(RequestCancelledError("The session was closed while this ran; connect again and run it again."))
        this_thread, deadline = threading.get_ident(), time.monotonic() + CLOSE_TIMEOUT_S
        others = {run for run, thread in running.items() if thread != this_thread}
        while others & self._running.keys() and time.monotonic() < deadline:
            time.sleep(0.02)
        if left := others & self._running.keys():
            # Their responses do not come: as at Ctrl-C, their connections are closed.
            for run in left:
                run.abort()
            deadline = time.monotonic() + ABORT_TIMEOUT_S
            while others & self._running.keys() and time.monotonic() < deadline:
                time.sleep(0.02)
        # A run whose progress callback closes the session must still store its answers.
        self._close_after_run = len(others) < len(running)
        if not self._close_after_run:
            self._close_resources()

    def cancel(self, thread: int) -> None:
        """End what a thread sends, from another one, as Ctrl-C would: connections in flight are closed."""
        with self._lock:
            runs = [run for run, its_thread in self._running.items() if its_thread == thread]
        for run in runs:
            run.end(RequestCancelledError("The call was cancelled."))
            run.abort()

    def _close_resources(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()
        self.cache.close()

    def hold(self, job: Job, text: str) -> AbstractContextManager[bytes | None]:
        """Hold one input that is requested outside ``run``: other threads and processes wait for its response.

        The context is its cached result, or ``None`` if it is to be requested and stored within the block. Raises its
        cached error. If another thread or process is requesting it, its response is awaited.
        """
        flight, cache = self._single_flight(), self.cache
        if flight is None or self._is_replay:
            return nullcontext(self.load_cached(job, text))
        (key,) = self._keys(job, [text])
        return flight.hold(key, cache.leases, lambda: self.load_cached(job, text), cache.emit_warnings)

    def load_cached(self, job: Job, text: str) -> bytes | None:
        """Return the cached result of one input, ``None`` if there is none to use; raise its cached error."""
        keys = self._keys(job, [text])
        value, is_reusable = self.cache.get_many(keys)[0], self._reusable(job, None)
        if value is None or (is_reusable is not None and not is_reusable(value)):
            return None
        self._record_used(b"".join(keys))
        if (error := job.operation.cached_error(value)) is not None:
            raise error
        return value

    def store(self, job: Job, text: str, value: bytes) -> None:
        """Cache the result of one input that was requested outside ``run``, in place of one that could not be used."""
        keys = self._keys(job, [text])
        self._record_used(b"".join(keys))
        self.cache.put_many([(keys[0], value)], replace=True)
        self.cache.emit_warnings()

    def mark_schema_mismatch(self, job: Job, answers: Mapping[str, bytes]) -> None:
        """Mark cached answers, by input, that did not match their schema: a later run requests these inputs again.

        They stay in the cache, where a recording of the same calls finds them.
        """
        if self.cache_disabled or self._is_replay or not answers:
            return
        keys = self._keys(job, list(answers))
        marked = list(zip(keys, map(dump_schema_mismatch, answers.values()), strict=True))
        self.cache.put_many(marked, replace=True)
        self.cache.emit_warnings()

    def _reusable(self, job: Job, retry: Retry | None) -> Callable[[bytes], bool] | None:
        """Return which cached values a run uses, ``None`` for all of them."""
        # A recording answers whatever it was asked; vectors are as good as they are.
        if self._is_replay or job.single is None:
            return None
        is_text = not job.params.get("response_format")
        if retry == "failed":
            return functools.partial(is_usable, is_text=is_text, needs_text=job.single.options.needs_text)
        return None if is_text else matches_schema

    def used_keys(self) -> list[bytes]:
        """Return the cache keys that were read or written through this engine, each once, oldest first.

        Raises CacheError if there were more than ``MAX_USED_KEYS``.
        """
        used = self.joined_keys()
        return list(dict.fromkeys(used[at : at + 32] for at in range(0, len(used), 32)))

    def joined_keys(self) -> bytes:
        """Return the keys that were read or written, one after the other, some of them several times.

        Raises CacheError as ``used_keys``, which takes six times the memory.
        """
        with self._lock:
            used = bytes(self._used_keys)
        if len(used) > 32 * MAX_USED_KEYS:
            most = f"{MAX_USED_KEYS:,}"
            raise CacheError(f"More than {most} answers were used, too many to pick out; copy the cache file instead.")
        return used

    def profile(self, model: str) -> ServiceProfile:
        """Return what is known about a model of this service."""
        return profile_for(self._profiles, self._origin, model)

    def prepare(self, job: Job) -> Job:
        """Return the job as it will be sent, in the forms that the service is known to take."""
        if isinstance(job.operation, EmbeddingOperation):
            return replace(job, operation=job.operation.with_profile(self.profile(job.model)))
        return with_fallbacks(job, self.profile(job.model)) if job.has_forms else job

    def estimate(
        self,
        job: Job,
        texts: RowTexts,
        *,
        fresh: bool = False,
        retry: Retry | None = None,
        rate_options: RateOptions | None = None,
        ask_catalog: bool = True,
    ) -> Estimate:
        """Return what ``run`` would send and cost, from the plan and the cache; makes no model request.

        With ``ask_catalog=False`` no request at all: the price is the one that is known.
        """
        job = self.prepare(job)
        planned = plan(texts, max_tokens=job.max_input_tokens)
        is_cached = np.zeros(len(planned.inputs), dtype=np.bool_)
        if not fresh or self._is_replay:
            is_cached, sample = self._look_up(job, planned.inputs, self._reusable(job, retry))
            job.operation.observe(sample)
        missing = np.flatnonzero(~is_cached)
        requests = self._plan_requests(job, planned, missing)
        tokens_in = round(sum(request.tokens for request in requests))
        tokens_out = round(job.operation.output_tokens() * len(missing))
        price = self._fetch_price(job.model) if ask_catalog else self._price(job.model)
        minutes, limit = self._minutes(job, len(requests), tokens_in, tokens_out, rate_options or RateOptions())
        notes = [self._price_note(job.model)]
        if planned.invalid:
            row, reason = min(planned.invalid.items())
            count = len(planned.invalid)
            notes.append(f"{count:,} row{'s' if count > 1 else ''} cannot be sent; row {row}: {reason}")
        return Estimate(
            operation=job.name,
            model=job.model,
            rows=planned.rows,
            distinct=len(planned.inputs),
            cached=len(planned.inputs) - len(missing),
            requests=len(requests),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=None if price is None else price.cost(tokens_in, tokens_out),
            minutes=minutes,
            limit=limit,
            calibrated=self.profile(job.model).tokens.factor is not None,
            unit_price=price,
            notes=tuple(note for note in notes if note),
        )

    def _look_up(
        self, job: Job, inputs: Sequence[str], is_reusable: Callable[[bytes], bool] | None
    ) -> tuple[NDArray[np.bool_], list[bytes]]:
        """Return which inputs have a cached result that a run would use, (k,), and some of these results.

        Reads keys only, where every result is used, and never all results at once.
        """
        is_cached = np.zeros(len(inputs), dtype=np.bool_)
        sample: list[bytes] = []
        if self.cache_disabled:
            return is_cached, sample
        step = KEYS_AT_ONCE if is_reusable is None else LOOKUP_BATCH
        for start in range(0, len(inputs), step):
            keys = self._keys(job, inputs[start : start + step])
            if is_reusable is None:
                found = self.cache.contains_many(keys)
                wanted = [key for key, there in zip(keys, found, strict=True) if there][: ESTIMATE_SAMPLE - len(sample)]
                sample += [value for value in self.cache.get_many(wanted) if value is not None] if wanted else []
            else:
                values = [value if value is not None and is_reusable(value) else None for value in self._peek(keys)]
                found = [value is not None for value in values]
                sample += [value for value in values if value is not None][: ESTIMATE_SAMPLE - len(sample)]
            is_cached[start : start + step] = found
        return is_cached, sample

    def _peek(self, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            return self.cache.get_many(keys)
        except ReplayMissError:
            return [None] * len(keys)

    def _minutes(
        self, job: Job, requests: int, tokens_in: int, tokens_out: int, options: RateOptions
    ) -> tuple[float | None, str | None]:
        """Return the minutes that these requests take, and what bounds them; ``None`` if nothing is known."""
        rate_limiter, tokens = rate_limiter_for(self._origin, self._account, job.model), tokens_in + tokens_out
        bounds = [(rate_limiter.estimate_minutes(requests, tokens), rate_limiter.limit_text)]
        per_minute = options.requests_per_minute or self._rate_options.requests_per_minute
        if per_minute is not None:
            bounds.append((requests / per_minute, f"{per_minute:,.6g} requests per 60 s"))
        per_minute = options.tokens_per_minute or self._rate_options.tokens_per_minute
        if per_minute is not None:
            bounds.append((tokens / per_minute, f"{per_minute:,.6g} tokens per 60 s"))
        seconds = self._speed.seconds(job.endpoint, requests, tokens_in, tokens_out) if self._speed else None
        if seconds is not None:
            bounds.append((seconds / 60, "the speed of the local models"))
        known = [(minutes, limit) for minutes, limit in bounds if minutes is not None]
        return max(known, key=lambda bound: bound[0]) if known else (None, rate_limiter.limit_text)

    def run(
        self,
        job: Job,
        texts: RowTexts,
        *,
        on_error: OnError = "warn",
        budget: float | None = None,
        rate_options: RateOptions | None = None,
        make_buffer: Callable[[int], ResultBuffer] | None = None,
        on_progress: ProgressCallback = no_progress,
        on_end: Callable[[Report], None] = lambda report: None,
        on_result: Callable[[RunResult], None] = lambda result: None,
        fresh: bool = False,
        retry: Retry | None = None,
    ) -> RunResult:
        """Return a result for every row, from the cache where possible; see ``RunResult``.

        ``make_buffer`` makes the buffer for so many results, in place of the job's own. ``on_end`` receives the report
        and ``on_result`` the results as far as they came, however the run ends. ``fresh`` requests every input, and
        ``retry="failed"`` those whose cached answer left the row without a value; the new answers replace the cached
        ones. Neither changes a replay.

        Raises InputError before anything is sent, at once an error that concerns the whole account, RowError under
        ``on_error="raise"``, and Interrupted on Ctrl-C.
        """
        if on_error not in ("warn", "raise", "null"):
            raise InputError(f"on_error must be 'warn', 'raise' or 'null', got {on_error!r}.")
        job = self.prepare(job)
        planned = plan(texts, max_tokens=job.max_input_tokens)
        if planned.invalid and on_error == "raise":
            row, reason = min(planned.invalid.items())
            raise InputError(
                f"Row {row} cannot be sent: {reason}. Nothing was sent ({len(planned.invalid):,} such rows)."
            )
        context = self._context(job, planned, on_error, budget, rate_options, make_buffer, on_progress)
        run = Run(replace(context, fresh=fresh and not self._is_replay, is_reusable=self._reusable(job, retry)))
        problem: Exception | None = None
        with self._lock:
            self._running[run] = threading.get_ident()
        try:
            with self.cache.run():
                missing = run.load_cached()
                if run.cached_errors and on_error == "raise":
                    problem = next(iter(run.cached_errors.values()))
                else:
                    run.send(missing)
        except KeyboardInterrupt:
            run.state = "interrupted"
        except SkytellsError as error:
            problem = error
        except BaseException:
            run.state = "failed"
            raise
        finally:
            if run.state == "running":
                run.state = "done" if problem is None else "failed"
            context = run.context
            if context.budget is not None:
                context.budget.close()
            filled = context.buffer.filled.copy()
            result = RunResult(planned, context.buffer, filled, run.report())
            if len(context.keys):
                self._record_used(context.keys[filled].tobytes())
            with self._lock:
                self._running.pop(run, None)
            if self._speed is not None:
                done = result.report
                self._speed.record(job.endpoint, done.requests, done.tokens_in, done.tokens_out, done.seconds)
            _log.info("%s", log_line(result.report))
            # Before the progress callback, which may fail.
            on_end(result.report)
            on_result(result)
            run.emit_progress()
            context.profile.save_counts()
            if self._close_after_run:
                self._close_resources()
        return self._finish(result, problem, run, on_error)

    def _context(
        self,
        job: Job,
        planned: Plan,
        on_error: OnError,
        budget: float | None,
        rate_options: RateOptions | None,
        make_buffer: Callable[[int], ResultBuffer] | None,
        on_progress: ProgressCallback,
    ) -> RunContext:
        price = self._price(job.model) if budget is None else self._fetch_price(job.model)
        reason = None if price or budget is None else self._price_note(job.model)
        profile = self.profile(job.model)
        spending = None
        if budget is not None:
            limited = token_limit(job.params) is not None
            spending = Budget(
                budget, price, job.model, reason, tokens=profile.tokens, limited=limited, counter=current_counter()
            )
        return RunContext(
            job=job,
            plan=planned,
            weights=planned.weights,
            buffer=(make_buffer or job.operation.make_buffer)(len(planned.inputs)),
            # With the cache off, keys that are never looked up would take a tenth of a row's time.
            keys=self._key_array(job, [] if self.cache_disabled else planned.inputs),
            cache=self.cache,
            single_flight=self._single_flight(),
            plan_requests=lambda numbers: self._plan_requests(job, planned, numbers),
            clients=self,
            rate_limiter=self._rate_limiter(job, rate_options or RateOptions()),
            profile=profile,
            retry=self._retry,
            breaker=CircuitBreaker(probes=min(MAX_PROBES, self._retry.retries)),
            price=price,
            budget=spending,
            on_progress=on_progress if on_progress is no_progress else GuardedCallback(on_progress),
            stop_on_error=on_error == "raise",
        )

    def _finish(self, result: RunResult, problem: Exception | None, run: Run, on_error: OnError) -> RunResult:
        """Return the result, or raise the error that ends the call."""
        report = result.report
        if report.state == "interrupted":
            raise Interrupted(
                f"{report.operation} stopped. {int(result.has_result.sum()):,} of {len(result.has_result):,} distinct "
                f"inputs are answered. {self.cache_note()} Finished rows are in the error's .frame.",
                outcome=result,
            )
        if problem is None:
            return result
        if on_error == "raise" and any(problem is error for error in run.errors().values()):
            raise RowError(
                f"{report.failed:,} of {report.rows:,} rows failed; the first reason: "
                f"{str(problem).rstrip('.')}. {self.cache_note()}",
                report=report,
            ) from problem
        if report.answered:
            problem.add_note(
                f"{report.operation} ended early: {report.answered:,} of {report.rows:,} rows are answered. "
                f"{self.cache_note()}"
            )
        raise problem

    @property
    def cache_disabled(self) -> bool:
        """Whether the cache is off, so that every call is paid for again."""
        return self.cache.url == "off"

    @property
    def _is_replay(self) -> bool:
        return self.cache.url.startswith(SCHEME)

    def cache_note(self) -> str:
        """Return where answers are stored, and what a second run would do."""
        if self.cache_disabled:
            return 'cache="off" stores no answers, so another run pays for all of them again.'
        if unsaved := self.cache.unsaved:
            return (
                f"{unsaved:,} answers could not be written to the cache and are only in memory. Run again in this "
                "process to continue."
            )
        return "Every answer that arrived is in the cache; run again to continue from there."

    def _keys(self, job: Job, inputs: Sequence[str]) -> list[bytes]:
        maker = KeyMaker(endpoint=job.endpoint, model=job.model, origin=self._origin, params=job.params)
        return maker.keys(inputs)

    def _key_array(self, job: Job, inputs: Sequence[str]) -> NDArray[np.void]:
        """Return the keys of inputs, 32 bytes each, (k,): as objects they would take twice as much."""
        blocks = range(0, len(inputs), KEYS_AT_ONCE)
        joined = b"".join(b"".join(self._keys(job, inputs[start : start + KEYS_AT_ONCE])) for start in blocks)
        return np.frombuffer(joined, dtype="V32")

    def _record_used(self, keys: bytes) -> None:
        if not self.cache_disabled:
            with self._lock:
                if len(self._used_keys) <= 32 * MAX_USED_KEYS:
                    self._used_keys += keys

    def _single_flight(self) -> SingleFlight | None:
        # Without a cache each call sends its own requests; what processes share is one store, however often it was
        # opened.
        if self.cache_disabled:
            return None
        is_shared = not isinstance(self.cache.leases, NoLeases)
        return single_flight_for(self.cache.url if is_shared else f"{id(self.cache)}")

    def _rate_limiter(self, job: Job, options: RateOptions) -> RateLimiter:
        default = self._rate_options.max_in_flight or 1
        max_in_flight = options.max_in_flight or min(default, job.max_concurrency or default)
        self._max_idle = max(self._max_idle, max_in_flight)
        return rate_limiter_for(
            self._origin,
            self._account,
            job.model,
            max_in_flight=max_in_flight,
            requests_per_minute=options.requests_per_minute or self._rate_options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute or self._rate_options.tokens_per_minute,
            peers=functools.partial(peers_of, self.cache),
        )

    def _plan_requests(self, job: Job, planned: Plan, missing: NDArray[np.int64]) -> list[PlannedRequest]:
        profile = self.profile(job.model)
        max_items, max_bytes = min(job.max_items, self._inputs_per_request), None
        if job.learns_size:
            max_items = min(max_items, profile.get_fact(INPUTS) or max_items)
            max_bytes = profile.get_fact(SIZE)
        return plan_requests(
            planned,
            missing,
            overhead_tokens=job.overhead_tokens,
            token_factor=profile.tokens.factor or 1.0,
            max_items=max_items,
            max_bytes=max_bytes,
        )

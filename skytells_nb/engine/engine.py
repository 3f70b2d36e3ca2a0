"""The way of the data: plan, cache, pack, run, scatter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.cache.key import KeyMaker
from skytells_nb.cache.store import CacheStore
from skytells_nb.client.client import Skytells
from skytells_nb.engine.budget import Budget
from skytells_nb.engine.events import Listener, Progress, State, ignore
from skytells_nb.engine.job import Job
from skytells_nb.engine.pace import Pacer, pacer_for
from skytells_nb.engine.plan import Plan, pack, plan, token_estimates
from skytells_nb.engine.report import Estimate, Report
from skytells_nb.engine.retry import RetryPolicy
from skytells_nb.engine.run import Request, Run, Tally
from skytells_nb.errors import InputError, Interrupted, ReplayMissError, RowError, SkytellsError
from skytells_nb.wire.embeddings import MAX_REQUEST_TOKENS
from skytells_nb.wire.models import Price

OnError = Literal["warn", "raise", "null"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back: ``values[plan.codes[row]]`` is a row's kept answer; ``report.errors`` maps rows to errors."""

    plan: Plan
    values: list[bytes | None]
    report: Report

    @property
    def answered(self) -> NDArray[np.int64]:
        """For each row the number of its value, or -1 where it has none. int64 (n,)."""
        have = np.fromiter((value is not None for value in self.values), dtype=bool, count=len(self.values))
        codes = self.plan.codes
        if not len(have):
            return np.full(len(codes), -1, dtype=np.int64)
        return np.where((codes >= 0) & have[codes], codes, -1)


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
        max_in_flight: int,
        inputs_per_request: int,
        retry: RetryPolicy,
    ) -> None:
        self._make_client = make_client
        self._cache = cache
        self._origin = origin
        self._account = account
        self._price = price
        self._max_in_flight = max_in_flight
        self._inputs_per_request = inputs_per_request
        self._retry = retry
        self._idle: list[Skytells] = []
        self._lock = threading.Lock()

    def take(self) -> Skytells:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._make_client()

    def give_back(self, client: Skytells) -> None:
        with self._lock:
            if not client.aborted and len(self._idle) < self._max_in_flight:
                self._idle.append(client)
                return
        client.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()
        self._cache.close()

    def recall(self, job: Job, text: str) -> bytes | None:
        """The kept answer to one input, ``None`` where there is none; a kept refusal is raised again."""
        value = self._cache.get_many(self._keys(job, [text]))[0]
        problem = None if value is None else job.work.refusal(value)
        if problem is not None:
            raise problem
        return value

    def keep(self, job: Job, text: str, answer: bytes) -> None:
        """Keep the answer to one input that was asked for outside ``run``."""
        self._cache.put_many([(self._keys(job, [text])[0], answer)])

    def estimate(self, job: Job, texts: Sequence[str | None] | NDArray[Any]) -> Estimate:
        """What ``run`` would send and cost, from the plan and the cache; sends nothing."""
        made = plan(texts, max_tokens=job.max_input_tokens)
        try:
            known = self._cache.get_many(self._keys(job, made.inputs))
        except ReplayMissError:
            known = [None] * len(made.inputs)
        missing = np.flatnonzero([value is None for value in known]).astype(np.int64)
        requests = self._requests(job, made, missing)
        tokens_in = round(sum(request.tokens for request in requests))
        tokens_out = round(job.work.output_tokens() * len(missing))
        price = self._price(job.model)
        permitted = self._pacer(job, self._max_in_flight).permitted
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
            minutes=None if permitted == float("inf") else len(requests) / permitted / 60,
        )

    def run(
        self,
        job: Job,
        texts: Sequence[str | None] | NDArray[Any],
        *,
        on_error: OnError = "warn",
        budget: float | None = None,
        max_in_flight: int | None = None,
        listen: Listener = ignore,
        ended: Callable[[Report], None] = lambda report: None,
    ) -> Outcome:
        """An answer for every row, from the cache where it is there; see ``Outcome``.

        Raises InputError before anything is sent, an error that concerns the whole account at once, RowError under
        ``on_error="raise"``, Interrupted on Ctrl-C. ``ended`` gets the report whatever the end.
        """
        if on_error not in ("warn", "raise", "null"):
            raise InputError(f"on_error is 'warn', 'raise' or 'null'; found {on_error!r}.")
        if max_in_flight is not None and (not isinstance(max_in_flight, int) or max_in_flight < 1):
            raise InputError(f"max_in_flight is a whole number, 1 or more; found {max_in_flight!r}.")
        started = time.monotonic()
        price = self._price(job.model)
        made = plan(texts, max_tokens=job.max_input_tokens)
        if made.bad and on_error == "raise":
            row, reason = min(made.bad.items())
            raise InputError(f"Row {row} cannot be sent: {reason}. Nothing was sent ({len(made.bad):,} such rows).")
        keys = self._keys(job, made.inputs)
        values = self._cache.get_many(keys)
        missing = np.flatnonzero([value is None for value in values]).astype(np.int64)
        refused = {n: refusal for n, value in enumerate(values) if value and (refusal := job.work.refusal(value))}
        for number in refused:
            values[number] = None
        ledger = Budget(budget, price, job.model)
        at_once = max_in_flight or min(self._max_in_flight, job.lanes or self._max_in_flight)
        pacer = self._pacer(job, at_once)
        weights = made.counts()
        cached_rows = int(weights.sum() - weights[missing].sum())

        def store(numbers: Sequence[int], answers: Sequence[bytes]) -> None:
            self._cache.put_many([(keys[number], answer) for number, answer in zip(numbers, answers, strict=True)])

        def tell(tally: Tally, state: State) -> None:
            listen(
                Progress(
                    label=job.operation,
                    state=state,
                    rows=made.rows,
                    done=made.nulls + len(made.bad) + cached_rows + tally.rows_done,
                    cached=cached_rows,
                    failed=len(made.bad) + tally.rows_failed,
                    requests=tally.requests,
                    tokens=tally.tokens_in + tally.tokens_out,
                    cost=None if price is None else ledger.spent,
                    seconds=time.monotonic() - started,
                    waiting=pacer.waiting if state == "running" else None,
                )
            )

        run = Run(
            inputs=made.inputs,
            weights=weights,
            requests=self._requests(job, made, missing),
            work=job.work,
            store=store,
            clients=self,
            pacer=pacer,
            retry=self._retry,
            budget=ledger,
            workers=at_once,
            tick=lambda tally: tell(tally, "running"),
            stop_on_error=on_error == "raise",
        )
        run.tally.errors.update(refused)
        run.tally.rows_failed += int(weights[list(refused)].sum())
        state: State = "failed"
        problem: Exception | None = None
        try:
            if refused and on_error == "raise":
                problem = next(iter(refused.values()))
            else:
                if len(missing):
                    run.execute()
                state = "done"
        except KeyboardInterrupt:
            state = "interrupted"
        except SkytellsError as error:
            problem = error
        finally:
            tally = run.result()
            for number, value in tally.values.items():
                values[number] = value
            outcome = self._outcome(job, made, values, tally, state, ledger, len(missing), time.monotonic() - started)
            # Before the listener, which may fail.
            ended(outcome.report)
            tell(tally, state)
        if state == "interrupted":
            kept = len(values) - outcome.values.count(None)
            raise Interrupted(
                f"{job.operation} stopped. {kept:,} of {len(values):,} distinct inputs are answered. "
                f"{self._kept()} The report's partial holds what there is.",
                outcome=outcome,
            )
        if problem is not None:
            if on_error == "raise" and any(problem is error for error in tally.errors.values()):
                raise RowError(
                    f"{outcome.report.failed:,} of {made.rows:,} rows failed; the first reason: "
                    f"{str(problem).rstrip('.')}. {self._kept()}",
                    report=outcome.report,
                ) from problem
            if outcome.report.answered:
                problem.add_note(
                    f"{job.operation} ended early: {outcome.report.answered:,} of {made.rows:,} rows are answered. "
                    f"{self._kept()}"
                )
            raise problem
        return outcome

    @property
    def keeps_nothing(self) -> bool:
        """Whether the cache is off, so that every call is paid for again."""
        return self._cache.url == "off"

    def _kept(self) -> str:
        """Where answers are, and what a second run would do."""
        if self.keeps_nothing:
            return 'cache="off" keeps no answers, so another run pays for all of them again.'
        return "Every answer that arrived is kept in the cache; run again to go on from there."

    def _outcome(
        self,
        job: Job,
        made: Plan,
        values: list[bytes | None],
        tally: Tally,
        state: State,
        ledger: Budget,
        missing: int,
        seconds: float,
    ) -> Outcome:
        errors: dict[int, Exception] = dict(made.bad)
        if tally.errors:
            for row in made.rows_of(list(tally.errors)):
                errors[int(row)] = tally.errors[int(made.codes[row])]
        report = Report(
            operation=job.operation,
            model=job.model,
            state=state,
            rows=made.rows,
            distinct=len(made.inputs),
            nulls=made.nulls,
            cached=len(made.inputs) - missing,
            sent=len(tally.values),
            answered=int(made.counts()[[value is not None for value in values]].sum()),
            failed=len(errors),
            requests=tally.requests,
            retries=tally.retries,
            tokens_in=tally.tokens_in,
            tokens_out=tally.tokens_out,
            cost=None if self._price(job.model) is None else ledger.spent,
            seconds=seconds,
            errors=dict(sorted(errors.items())),
        )
        return Outcome(made, values, report)

    def _keys(self, job: Job, inputs: Sequence[str]) -> list[bytes]:
        maker = KeyMaker(endpoint=job.endpoint, model=job.model, origin=self._origin, params=job.params)
        return maker.keys(inputs)

    def _pacer(self, job: Job, at_once: int) -> Pacer:
        return pacer_for(self._origin, self._account, job.model, max_in_flight=at_once)

    def _requests(self, job: Job, made: Plan, missing: NDArray[np.int64]) -> list[Request]:
        tokens = token_estimates([made.inputs[number] for number in missing]) + job.overhead_tokens
        most = min(job.max_items, self._inputs_per_request)
        packed = pack(missing, tokens, max_items=most, max_tokens=MAX_REQUEST_TOKENS)
        ends = np.cumsum([0, *(len(numbers) for numbers in packed)])
        return [
            Request(numbers, float(tokens[start:stop].sum()))
            for numbers, start, stop in zip(packed, ends, ends[1:], strict=False)
        ]

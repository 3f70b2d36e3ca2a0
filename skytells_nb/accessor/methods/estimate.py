"""``estimate``, ``dry_run=True`` and ``sample=``: what a call costs, before it is paid."""

from __future__ import annotations

import contextlib
import functools
import html
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, TypeVar, Unpack, get_args, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import FrameMethods
from skytells_nb.accessor.call import DryRun, DryRunComplete, SampleRun, VectorizedCall, timed
from skytells_nb.accessor.lineage import record_call
from skytells_nb.accessor.multi_call import NO_MODEL, sum_reports
from skytells_nb.accessor.options import (
    SessionOptions,
    check_options,
    dispatch_option,
    expand_options,
    model_parameters,
)
from skytells_nb.accessor.prompts.build import PromptArguments, build_prompts, prompt_arguments
from skytells_nb.accessor.results import build_job
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.accessor.text_columns import texts_on_demand
from skytells_nb.columns import column_of
from skytells_nb.engine.report import MIN_LATENCY_S, PER_DOUBLING, Estimate, Report
from skytells_nb.errors import InputError
from skytells_nb.formatting import format_digits, format_dollars

Accessor = TypeVar("Accessor")

FrameMethod = Literal[
    "embed",
    "complete",
    "classify",
    "extract",
    "filter",
    "translate",
    "summarize",
    "moderate",
    "search",
    "similar",
    "dedupe",
    "cluster",
    "join",
    "compare",
    "score",
    "rank",
]
"""The methods of a frame that send requests."""
ColumnMethod = Literal[
    "embed",
    "complete",
    "classify",
    "extract",
    "filter",
    "translate",
    "summarize",
    "moderate",
    "dedupe",
    "cluster",
    "compare",
    "score",
    "rank",
]
"""The methods of a column that send requests."""


class EstimateMethod(FrameMethods):
    """The ``estimate`` method."""

    @overload
    def estimate(self, template: FrameMethod, /, *arguments: Any, **options: Any) -> Estimate: ...
    @overload
    def estimate(
        self,
        template: Any,
        *,
        model: str | None = ...,
        system: str | None = ...,
        schema: Schema | None = ...,
        dimensions: int | None = ...,
        params: Mapping[str, Any] | None = ...,
        rows_per_request: int | None = ...,
        **options: Unpack[PromptArguments],
    ) -> Estimate: ...
    @expand_options(PromptArguments, like=PromptArguments, defaults={"api": "chat"})
    def estimate(
        self,
        template: Any,
        *arguments: Any,
        model: str | None = None,
        system: str | None = None,
        schema: Schema | None = None,
        dimensions: int | None = None,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        **options: Unpack[PromptArguments],
    ) -> Estimate:
        """Estimate what a call of any method would send and cost, without a request to a model.

        No key is needed: prices are those of the list then, and of the catalog of models with a key, which is read
        once. Tokens are estimated from bytes, within about a third; tokens of completions from ``max_tokens``, or 256
        each. ``dry_run=True`` in the call itself does the same, and reads no catalog.

        Parameters
        ----------
        template : hashable or callable
            The name of a method that sends requests, such as ``"classify"``; or the name of a column to embed; or a
            template or function as in ``complete``. A column that is called like a method is embedded, if nothing
            follows.
        *arguments : Any
            After the name of a method its own arguments; its keywords are taken too.
        system : str, optional
            As in ``complete``.
        schema : type or mapping, optional
            As in ``complete``.

        Returns
        -------
        Estimate
            Rows, requests, tokens, US dollars and minutes; ``notes`` say where the price is from.

        Raises
        ------
        InputError
            If the call itself would raise it before it sends anything.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a", "b", "a"]})
        >>> df.skytells.estimate("text").distinct
        2
        >>> df.skytells.estimate("classify", "text", ["good", "bad"], max_tokens=5).tokens_out
        10
        """
        check_options(options, self.estimate)
        if arguments:
            raise unknown_method(template, FrameMethod)
        parameters, prompt_options = model_parameters(options, params), prompt_arguments(options)
        is_template = isinstance(template, str) and template not in self._frame.columns and "{" in template
        if callable(template) or is_template or any(value is not None for value in prompt_options.values()):
            prompts = build_prompts(self._frame, template, **prompt_options)
            call = VectorizedCall.open("null", False, options, sends=False)
            job = build_job(
                call, model, system, schema, parameters, rows_per_request=rows_per_request, options=prompts.options
            )
            return call.estimate(job, prompts.texts)
        texts = texts_on_demand(column_of(self._frame, template), name=template)
        call = VectorizedCall.open("null", False, options, sends=False)
        return call.estimate(call.embedding_job(model, dimensions), texts)


@dataclass(frozen=True)
class Sample:
    """A call on some of its rows: what it returned, what it used, and an estimate of the whole from that.

    The answers are cached, so the whole call does not pay for them again. ``result`` is what the method returned for
    the ``rows``, which are different and spread over the data; ``report`` is that of all their requests.
    """

    result: Any
    rows: int
    report: Report
    estimate: Estimate
    """The whole call: its tokens, dollars and minutes by those of the sample."""

    @property
    def cost(self) -> float | None:
        """US dollars of the whole call, ``None`` if no price is known."""
        return self.estimate.cost

    @property
    def minutes(self) -> float | None:
        """Minutes of the whole call, ``None`` if nothing was measured."""
        return self.estimate.minutes

    def __str__(self) -> str:
        return f"{self.result}\n\n{self._summary()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        frame = self.result.to_frame() if isinstance(self.result, pd.Series) else self.result
        if isinstance(frame, pd.DataFrame):
            shown = frame.to_html(max_rows=60)
        elif hasattr(frame, "_repr_html_"):
            shown = frame._repr_html_()  # of polars, which escapes as pandas does
        else:
            shown = f"<pre>{html.escape(str(frame))}</pre>"
        return f"{shown}<pre>{html.escape(self._summary())}</pre>"

    def _summary(self) -> str:
        used = self.report
        return (
            f"sample    {self.rows:,} rows: {used.requests:,} requests, {used.tokens_in:,} tokens in and "
            f"{used.tokens_out:,} out, {format_dollars(used.cost)}, {used.seconds:.1f} s\n"
            f"all rows  {self.estimate}"
        )


def is_sample(options: SessionOptions) -> bool:
    """Whether the options are those of a call on a sample."""
    return options.get("sample") is not None


def unknown_method(given: Any, known: Any) -> InputError:
    """Return the error for what should have been the name of one of these methods."""
    return InputError(
        f"The first argument of estimate must be the name of a method when others follow it: "
        f"{', '.join(get_args(known))}; got {given!r}."
    )


def with_dry_run(accessor: type[Accessor]) -> type[Accessor]:
    """Give every method of an accessor that has the options ``dry_run`` and ``sample`` what they do.

    ``estimate`` takes the names of these methods.
    """
    methods: dict[str, Callable[..., Any]] = {}
    for name in dir(accessor):
        method = getattr(accessor, name)
        if "dry_run" in getattr(method, "__options__", ()):
            methods[name] = timed(method, record_call)
            setattr(accessor, name, dispatch_option(methods[name], ("dry_run", "sample"), _estimate_or_sample))
    accessor.estimate = _estimate_of(methods, accessor.estimate)  # type: ignore[attr-defined]
    return accessor


def _estimate_of(methods: Mapping[str, Callable[..., Any]], estimate: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``estimate``, which estimates a call of the method that it is given by name."""

    parameter = list(inspect.signature(estimate).parameters)[1]

    @functools.wraps(estimate)
    def call(accessor: Any, /, *args: Any, **options: Any) -> Any:
        name = args[0] if args else options.get(parameter)
        method = methods.get(name) if isinstance(name, str) else None
        if len(args) <= 1 and hasattr(accessor, "_frame") and method is not None and name in accessor._frame.columns:
            method = None
        if method is None:
            return estimate(accessor, *args, **options)
        for option in ("dry_run", "sample"):
            if option in options:
                raise InputError(f"estimate sends nothing and takes no {option}=; pass it to {name} itself.")
        if not args:
            options.pop(parameter)
        return _Calls(method, accessor, args[1:], options).estimate(asks_catalog=True)

    return call


def _estimate_or_sample(
    method: Callable[..., Any], accessor: Any, args: Sequence[Any], options: Mapping[str, Any]
) -> Estimate | Sample | Any:
    """Return an estimate or a sample, or what the method returns if the options ask for neither."""
    dry_run, sample = options.get("dry_run", False), options.get("sample")
    calls = _Calls(method, accessor, args, options)
    if isinstance(dry_run, DryRun) or isinstance(sample, SampleRun):
        return method(accessor, *args, **options)
    if not isinstance(dry_run, (bool, np.bool_)):
        raise InputError(f"dry_run must be True or False, got {dry_run!r}.")
    if sample is None:
        return calls.estimate() if dry_run else calls.run_all()
    if dry_run:
        raise InputError("dry_run=True sends nothing and sample= sends some rows; pass one of them.")
    if not isinstance(sample, Integral) or isinstance(sample, bool) or sample < 1:
        raise InputError(f"sample must be a number of rows, 1 or more, got {sample!r}.")
    return calls.sample(int(sample))


class _Calls:
    """Calls of one method with the same arguments on all rows or some of them."""

    def __init__(
        self, method: Callable[..., Any], accessor: Any, args: Sequence[Any], options: Mapping[str, Any]
    ) -> None:
        self._method = method
        self._accessor = accessor
        self._type = type(accessor)
        self._data: Any = accessor._series if hasattr(accessor, "_series") else accessor._frame
        self._args = args
        self._kwargs = {name: value for name, value in options.items() if name not in ("dry_run", "sample")}

    def run_all(self) -> Any:
        """Return what the method returns."""
        return self._method(self._accessor, *self._args, **self._kwargs)

    def _call(self, data: Any, **option: Any) -> Any:
        # A copy, so that what is attached to the data of the call is attached to nothing that anyone has.
        return self._method(self._type(data.copy(deep=False)), *self._args, **self._kwargs, **option)

    def _dry_run(self, data: Any, *, asks_catalog: bool = False) -> DryRun:
        collected = DryRun(asks_catalog=asks_catalog)
        with contextlib.suppress(DryRunComplete):
            self._call(data, dry_run=collected)
        return collected

    def estimate(self, *, asks_catalog: bool = False) -> Estimate:
        """Return what the call on all rows would send."""
        planned = self._dry_run(self._data, asks_catalog=asks_catalog)
        return self._total(planned, planned.estimates)

    def _total(self, planned: DryRun, estimates: Sequence[Estimate]) -> Estimate:
        total = sum_estimates(self._method.__name__, len(self._data), estimates, planned.main)
        budget = self._kwargs.get("budget")
        stops = budget is not None and total.cost is not None and total.cost > budget
        stop = [f"exceeds budget={format_digits(budget or 0)}; the call would stop early"] if stops else []
        return replace(total, notes=tuple(dict.fromkeys([*total.notes, *planned.notes, *stop])))

    def sample(self, count: int) -> Sample:
        """Run ``count`` rows; return what they returned, and what all rows would use by that."""
        planned = self._dry_run(self._data)
        part = self._data.iloc[self._rows(planned.codes, count)]
        expected, run = self._dry_run(part), SampleRun()
        result = self._call(part, sample=run)
        name, reports = self._method.__name__, run.reports or [Report(self._method.__name__, NO_MODEL, "done")]
        report = replace(sum_reports(reports[-1], *reports[:-1]), operation=name, rows=len(part))
        whole = [scale_estimate(each, expected.estimates, run.reports) for each in planned.estimates]
        estimate = self._total(planned, whole)
        # The account's limit may be known only now.
        limited, measured = self.estimate(), _minutes_by_latency(whole, run)
        if measured is not None and measured >= (limited.minutes or 0.0):
            estimate = replace(estimate, minutes=measured, limit="the speed of the sample")
        elif limited.minutes is not None:
            estimate = replace(estimate, minutes=limited.minutes, limit=limited.limit)
        return Sample(result, len(part), report, estimate)

    def _rows(self, codes: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
        """Return the positions of rows with different inputs, spread over the data."""
        size = len(self._data)
        rows = np.arange(size, dtype=np.int64)
        if codes is not None and len(codes) >= size:
            numbers, first = np.unique(codes[:size], return_index=True)
            rows = np.sort(first[numbers >= 0]) if (numbers >= 0).any() else rows
        chosen = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64)]
        if self._method.__name__ == "similar":
            label = self._args[0] if self._args else self._kwargs["row"]
            chosen = np.union1d(chosen, np.arange(size)[self._data.index.get_loc(label)])
        return chosen


def sum_estimates(operation: str, rows: int, estimates: Sequence[Estimate], main: int) -> Estimate:
    """Return the estimate of all runs of a method; distinct and cached inputs are those of the run at ``main``."""
    if not estimates:
        return Estimate(operation, NO_MODEL, rows, 0, 0, 0, 0, 0, cost=0.0, minutes=0.0)
    costs = [each.cost for each in estimates if each.cost is not None]
    minutes = [each.minutes for each in estimates if each.minutes is not None]
    return replace(
        estimates[main],
        operation=operation,
        model=", ".join(dict.fromkeys(each.model for each in estimates)),
        rows=rows,
        requests=sum(each.requests for each in estimates),
        tokens_in=sum(each.tokens_in for each in estimates),
        tokens_out=sum(each.tokens_out for each in estimates),
        cost=sum(costs) if len(costs) == len(estimates) else None,
        minutes=sum(minutes) if len(minutes) == len(estimates) else None,
        limit=next((each.limit for each in reversed(estimates) if each.limit), None),
        unit_price=estimates[-1].unit_price if len({each.model for each in estimates}) == 1 else None,
        notes=tuple(note for each in estimates for note in each.notes),
    )


def scale_estimate(estimate: Estimate, expected: Sequence[Estimate], used: Sequence[Report]) -> Estimate:
    """Return the estimate of a run with the tokens and requests that a sample used in place of those expected of it."""
    planned = [each for each in expected if each.operation == estimate.operation]
    operations = {each.operation for each in expected}
    reports: list[tuple[str, Report]] = []
    for report in used:
        # What is of no run that was planned repairs the answers of the one before.
        operation = report.operation if report.operation in operations or not reports else reports[-1][0]
        reports.append((operation, report))
    measured = [report for operation, report in reports if operation == estimate.operation]
    if not sum(report.tokens_in for report in measured):
        return estimate

    def scaled(name: str) -> int:
        before: int = sum(getattr(each, name) for each in planned)
        after: int = sum(getattr(report, name) for report in measured)
        figure: int = getattr(estimate, name)
        return round(figure * after / before) if before else figure

    requests, tokens_in, tokens_out = scaled("requests"), scaled("tokens_in"), scaled("tokens_out")
    cost = None if estimate.unit_price is None else estimate.unit_price.cost(tokens_in, tokens_out)
    return replace(estimate, requests=requests, tokens_in=tokens_in, tokens_out=tokens_out, cost=cost, calibrated=True)


def _minutes_by_latency(estimates: Sequence[Estimate], run: SampleRun) -> float | None:
    """Return the minutes of these requests at the latency of a sample's, as many in flight as the call may have."""
    minutes = None
    for estimate in estimates:
        seen = [
            (count, MIN_LATENCY_S * 2 ** ((step + 0.5) / PER_DOUBLING))
            for report in run.reports
            if report.operation == estimate.operation and report.timeline is not None
            for step, count in enumerate(report.timeline.latencies)
        ]
        count = sum(each for each, _ in seen)
        if count and estimate.requests:
            latency = sum(each * seconds for each, seconds in seen) / count
            rounds = estimate.requests / min(estimate.requests, run.max_in_flight)
            minutes = (minutes or 0.0) + rounds * latency / 60
    return minutes

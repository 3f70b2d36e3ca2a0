"""Usage records, read from reports, their dictionaries or a session."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skytells_nb.errors import InputError

EXPECTED = (
    "A usage chart needs a session, reports (session.reports, frame.skytells.report), their to_dict(), or a frame that "
    "a method returned"
)


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """The usage of one or more calls; ``cost`` in US dollars is ``None`` if no price is known."""

    label: str
    model: str
    calls: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None
    cached: int = 0
    sent: int = 0
    state: str = "done"
    limit: str | None = None
    timeline: Mapping[str, Any] = field(default_factory=dict)

    @property
    def results(self) -> int:
        """Number of distinct inputs with a result."""
        return self.cached + self.sent


@dataclass(frozen=True, slots=True)
class Usage:
    """The calls, oldest first, and the usage of single requests of a session, by model."""

    calls: list[UsageRecord]
    cells: list[UsageRecord]


def read_usage(source: Any) -> Usage:
    """Read the calls of one or more reports, of their ``to_dict()``, of a frame, or of a session with its requests.

    Raises InputError for anything else.
    """
    # A frame that a method returned has the report of that call.
    accessor = getattr(source, "skytells", None)
    reports, totals = (source if accessor is None else accessor.report), None
    if hasattr(source, "reports") and hasattr(source, "totals"):
        reports, totals = source.reports, source.totals
    if isinstance(reports, Mapping) or hasattr(reports, "tokens_in"):
        reports = [reports]
    if isinstance(reports, str) or not isinstance(reports, Iterable):
        raise InputError(f"{EXPECTED}, got {type(source).__name__}.")
    calls = [_to_record(_to_mapping(report), number) for number, report in enumerate(reports, start=1)]
    return Usage(calls, _cell_usage(totals, calls) if totals is not None else [])


def group_by_model(usage: Usage) -> list[UsageRecord]:
    """One record for each model, most expensive first, then by tokens."""
    records: dict[str, UsageRecord] = {}
    for record in (*usage.calls, *usage.cells):
        previous = records.get(record.model)
        records[record.model] = record if previous is None else total([previous, record], record.model)
    labeled = [total([record], model) for model, record in records.items()]
    return sorted(labeled, key=lambda each: (-(each.cost or 0), -each.tokens_in - each.tokens_out, each.label))


def total(records: list[UsageRecord], label: str) -> UsageRecord:
    """Add up records; the cost is known only if it is known for each record with requests."""
    costs = [0.0 if record.cost is None and not record.requests else record.cost for record in records]
    known = [cost for cost in costs if cost is not None]
    return UsageRecord(
        label=label,
        model=records[0].model,
        calls=sum(record.calls for record in records),
        requests=sum(record.requests for record in records),
        tokens_in=sum(record.tokens_in for record in records),
        tokens_out=sum(record.tokens_out for record in records),
        cost=math.fsum(known) if len(known) == len(records) else None,
        cached=sum(record.cached for record in records),
        sent=sum(record.sent for record in records),
    )


def _to_mapping(report: Any) -> Mapping[str, Any]:
    if isinstance(report, Mapping):
        figures = report
    elif callable(getattr(report, "to_dict", None)):
        figures = report.to_dict()
    else:
        raise InputError(f"{EXPECTED}, got {type(report).__name__} among them.")
    missing = [name for name in ("operation", "model", "tokens_in", "tokens_out") if name not in figures]
    if missing:
        raise InputError(f"{EXPECTED}. One of them lacks {', '.join(missing)}.")
    return figures


def _to_record(figures: Mapping[str, Any], number: int) -> UsageRecord:
    # A call that was served from the cache costs nothing, even if no price is known.
    cost = figures.get("cost") if figures.get("requests") else 0.0
    return UsageRecord(
        label=f"{number} {figures['operation']}",
        model=str(figures["model"]),
        calls=1,
        requests=int(figures.get("requests") or 0),
        tokens_in=int(figures["tokens_in"]),
        tokens_out=int(figures["tokens_out"]),
        cost=None if cost is None else float(cost),
        cached=int(figures.get("cached") or 0),
        sent=int(figures.get("sent") or 0),
        state=str(figures.get("state", "done")),
        limit=figures.get("limit"),
        timeline=figures.get("timeline") or {},
    )


def _cell_usage(totals: Any, calls: list[UsageRecord]) -> list[UsageRecord]:
    """The usage in the totals of a session beyond its reports: single requests, and reports that were dropped."""
    cells = []
    for model, model_totals in totals.by_model.items():
        of_model = [record for record in calls if record.model == model]
        reported = total(of_model, model) if of_model else UsageRecord(model, model, cost=0.0)
        requests = max(0, model_totals.requests - reported.requests)
        if not requests:
            continue
        is_known = model_totals.cost is not None and reported.cost is not None
        cost = max(0.0, model_totals.cost - reported.cost) if is_known else None
        tokens_in = max(0, model_totals.input_tokens - reported.tokens_in)
        tokens_out = max(0, model_totals.output_tokens - reported.tokens_out)
        cells.append(UsageRecord("cells", model, 0, requests, tokens_in, tokens_out, cost, sent=requests))
    return cells

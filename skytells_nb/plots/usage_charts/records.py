"""What calls used, read from reports or from a session: as plain figures, whatever they came in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skytells_nb.errors import InputError

NEEDED = (
    "A usage chart is drawn from a session, from reports (session.reports, frame.skytells.report()) or their to_dict()"
)


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one call used, or several: US dollars are ``None`` where no price is known."""

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
    course: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """Distinct inputs that were answered."""
        return self.cached + self.sent


@dataclass(frozen=True, slots=True)
class Usage:
    """The calls, oldest first, and beside them what a session used in single cells, by model."""

    calls: list[UsageRecord]
    cells: list[UsageRecord]


def read_usage(source: Any) -> Usage:
    """The calls of a report, of several, of their ``to_dict()``, or of a session with its single cells.

    Raises InputError for anything else.
    """
    reports, totals = source, None
    if hasattr(source, "reports") and hasattr(source, "totals"):
        reports, totals = source.reports, source.totals
    if isinstance(reports, Mapping) or hasattr(reports, "tokens_in"):
        reports = [reports]
    if isinstance(reports, str) or not isinstance(reports, Iterable):
        raise InputError(f"{NEEDED}, not from a {type(source).__name__}.")
    calls = [_line(_figures(report), number) for number, report in enumerate(reports, start=1)]
    return Usage(calls, _cells(totals, calls) if totals is not None else [])


def group_by_model(usage: Usage) -> list[UsageRecord]:
    """One line for each model, the dearest first, then by tokens."""
    lines: dict[str, UsageRecord] = {}
    for line in (*usage.calls, *usage.cells):
        known = lines.get(line.model)
        lines[line.model] = line if known is None else total([known, line], line.model)
    named = [total([line], model) for model, line in lines.items()]
    return sorted(named, key=lambda line: (-(line.cost or 0), -line.tokens_in - line.tokens_out, line.label))


def total(lines: list[UsageRecord], label: str) -> UsageRecord:
    """Several lines as one; dollars are known only where they are for each line that sent a request."""
    costs = [0.0 if line.cost is None and not line.requests else line.cost for line in lines]
    known = [cost for cost in costs if cost is not None]
    return UsageRecord(
        label=label,
        model=lines[0].model,
        calls=sum(line.calls for line in lines),
        requests=sum(line.requests for line in lines),
        tokens_in=sum(line.tokens_in for line in lines),
        tokens_out=sum(line.tokens_out for line in lines),
        cost=math.fsum(known) if len(known) == len(lines) else None,
        cached=sum(line.cached for line in lines),
        sent=sum(line.sent for line in lines),
    )


def _figures(report: Any) -> Mapping[str, Any]:
    if isinstance(report, Mapping):
        found = report
    elif callable(getattr(report, "to_dict", None)):
        found = report.to_dict()
    else:
        raise InputError(f"{NEEDED}; found a {type(report).__name__} among them.")
    missing = [name for name in ("operation", "model", "tokens_in", "tokens_out") if name not in found]
    if missing:
        raise InputError(f"{NEEDED}; {', '.join(missing)} is missing in one of them.")
    return found


def _line(figures: Mapping[str, Any], number: int) -> UsageRecord:
    # A call that the cache answered costs nothing, also where no price is known.
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
        course=figures.get("course") or {},
    )


def _cells(totals: Any, calls: list[UsageRecord]) -> list[UsageRecord]:
    """What the totals of a session have beyond its reports: single answers, and reports that are not kept."""
    made = []
    for model, all_of in totals.by_model.items():
        named = [line for line in calls if line.model == model]
        known = total(named, model) if named else UsageRecord(model, model, cost=0.0)
        requests = max(0, all_of.requests - known.requests)
        if not requests:
            continue
        cost = None if all_of.cost is None or known.cost is None else max(0.0, all_of.cost - known.cost)
        tokens_in = max(0, all_of.input_tokens - known.tokens_in)
        tokens_out = max(0, all_of.output_tokens - known.tokens_out)
        made.append(UsageRecord("cells", model, 0, requests, tokens_in, tokens_out, cost, sent=requests))
    return made

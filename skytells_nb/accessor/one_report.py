"""One report for a call that took several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from skytells_nb.accessor.runs import Call, remember
from skytells_nb.engine.report import Report


def summed(first: Report, *others: Report) -> Report:
    """The first report, with what all of them used: requests, retries, tokens, dollars, seconds.

    Rows, answers and errors are those of ``first``, whose rows the caller sees.
    """
    reports = (first, *others)
    costs = [report.cost for report in reports if report.cost is not None]
    return replace(
        first,
        requests=sum(report.requests for report in reports),
        retries=sum(report.retries for report in reports),
        tokens_in=sum(report.tokens_in for report in reports),
        tokens_out=sum(report.tokens_out for report in reports),
        cost=sum(costs) if len(costs) == len(reports) else None,
        seconds=sum(report.seconds for report in reports),
        limit=next((report.limit for report in reversed(reports) if report.limit), None),
    )


def settle(call: Call, whole: Report, parts: Sequence[Report]) -> Report:
    """Put the report of the whole call in the place of its parts, for the session and for what was asked."""
    *others, newest = parts
    call.session.revise_report(newest, whole, *others)
    if call.asker is not None:
        remember(call.asker, whole)
    return whole

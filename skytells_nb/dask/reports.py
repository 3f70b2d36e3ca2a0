"""Reports of partitions, on their way from the workers to the process that built the graph."""

from __future__ import annotations

import pickle
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from skytells_nb.accessor.multi_call import sum_reports
from skytells_nb.engine.report import Report

MAX_ERRORS = 1_000
"""Rows that failed in one partition, of which the driver learns the reasons."""
MAX_TOPICS = 100
EVENTS_PER_TOPIC = 200


@dataclass(frozen=True)
class PartitionReport:
    """What the method did on one partition."""

    number: int
    started: float
    report: Report
    failed: tuple[tuple[Any, str], ...] = ()
    """Labels of rows that failed, with the reasons."""
    ended: float = field(default_factory=time.time)

    @classmethod
    def of(cls, number: int, started: float, report: Report, labels: Any) -> PartitionReport:
        """Return the report of a partition, whose failed rows have these labels, small enough to be sent."""
        errors = dict(list(report.errors.items())[:MAX_ERRORS])
        reasons = (f"{type(error).__name__}: {error}" for error in errors.values())
        failed = tuple(zip(labels[: len(errors)], reasons, strict=True))
        return cls(number, started, replace(report, errors=errors, partial=None, timeline=None), failed)


_reports: dict[str, list[PartitionReport]] = {}
"""Reports of partitions of this process by topic, where it is no worker; the oldest topics go first."""
_reports_lock = threading.Lock()


def publish(topic: str, report: PartitionReport) -> None:
    """Send the report of a partition to where the driver finds it: the events of the scheduler, or this process."""
    try:
        from distributed import get_worker

        # A topic has the last thousand events only.
        get_worker().log_event(f"{topic}-{report.number // EVENTS_PER_TOPIC}", pickle.dumps(report))
    except (ImportError, ValueError):
        with _reports_lock:
            _reports.setdefault(topic, []).append(report)
            while len(_reports) > MAX_TOPICS:
                del _reports[next(iter(_reports))]


def published(topic: str, partitions: int) -> list[PartitionReport]:
    with _reports_lock:
        found = list(_reports.get(topic, ()))
    try:
        from distributed import default_client

        client = default_client()  # type: ignore[no-untyped-call]
    except (ImportError, ValueError):
        return found
    for part in range(partitions // EVENTS_PER_TOPIC + 1):
        # From the scheduler, whose results this process unpickles too.
        events = client.get_events(f"{topic}-{part}")
        found += [pickle.loads(event) for _, event in events]  # noqa: S301
    return found


def total_of(reports: list[PartitionReport], partitions: int) -> tuple[Report, list[tuple[Any, str]]]:
    """Return the report of all partitions, and the labels and reasons of their failed rows, in order.

    Rows are those of the latest computation of each partition; requests, tokens and dollars of all.
    """
    latest = {report.number: report for report in sorted(reports, key=lambda report: report.ended)}
    ordered = [latest[number] for number in sorted(latest)]
    own = [partition.report for partition in ordered]
    states = {report.state for report in own}
    rows, errors = 0, {}
    for report in own:
        errors.update({rows + row: error for row, error in report.errors.items()})
        rows += report.rows
    known = next((report for report in own if report.model), own[0])
    total = sum_reports(known, *(partition.report for partition in reports if partition.report is not known))
    counts = ("distinct", "nulls", "cached", "sent", "answered", "failed", "normalized")
    total = replace(
        total,
        state="failed" if "failed" in states else "done" if len(ordered) == partitions else "running",
        rows=rows,
        errors=errors,
        seconds=max(report.ended for report in reports) - min(report.started for report in reports),
        **{name: sum(getattr(report, name) for report in own) for name in counts},
    )
    return total, [row for partition in ordered for row in partition.failed]

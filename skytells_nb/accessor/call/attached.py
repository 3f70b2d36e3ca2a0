"""The reports of calls, attached to the frames and columns that they returned or were made on."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from skytells_nb.engine.report import Report


@dataclass(frozen=True)
class Attached:
    """What is known about the call that made an object, or was made on it."""

    to: weakref.ref[Any]
    report: Report
    answers: Mapping[Any, Any]
    """Completions by column."""
    failed: pd.DataFrame | None
    """The rows that failed, where they are not rows of the object by position."""


_attached: dict[int, Attached] = {}


def attach_report(
    frame: pd.DataFrame | pd.Series[Any],
    report: Report,
    answers: Mapping[Any, Any] | None = None,
    *,
    rows: Callable[[], pd.DataFrame] | None = None,
) -> None:
    """Attach a run's report, and completions by column, for as long as this object lives.

    ``rows`` makes the frame whose rows the report's errors name by position, where it is not this object.
    """
    failed = None
    if rows is not None:
        named = rows()
        # A run beside the rows of the method, such as one on parts of texts, has positions of its own.
        failed = named.iloc[list(report.errors)] if max(report.errors, default=-1) < len(named) else None
    attach(frame, report, {**get_report(frame)[1], **(answers or {})}, failed)


def attach(target: Any, report: Report, answers: Mapping[Any, Any], failed: pd.DataFrame | None) -> None:
    """Attach all of this to an object, in place of what is attached to it."""
    key = id(target)
    _attached[key] = Attached(weakref.ref(target, lambda _: _attached.pop(key, None)), report, answers, failed)


def attached_to(target: Any) -> Attached | None:
    """Return what is attached to this object."""
    entry = _attached.get(id(target))
    return entry if entry is not None and entry.to() is target else None


def get_report(frame: pd.DataFrame | pd.Series[Any]) -> tuple[Report | None, Mapping[Any, Any]]:
    """Return the report and the completions that are attached to this object."""
    entry = attached_to(frame)
    return (None, {}) if entry is None else (entry.report, entry.answers)


def copy_report(source: Any, target: Any) -> None:
    """Attach the report of ``source``, if it has one, to ``target``."""
    entry = attached_to(source)
    if entry is not None:
        attach(target, entry.report, entry.answers, entry.failed)

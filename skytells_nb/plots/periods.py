"""Periods of time for charts: which one is readable, where its bounds are on the clock, and which are partial."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError

Period = Literal["minute", "hour", "day", "week", "month", "year"]
PERIOD_CODES: dict[Period, str] = {"minute": "min", "hour": "h", "day": "D", "week": "W", "month": "M", "year": "Y"}
CLOCK_PERIODS = ("minute", "hour")
PREFERRED_PERIODS = 60
"""Number of periods that are easy to read; the shortest period with at most this many is used."""
MAX_PERIODS = 2_000
MIN_MISSING, MIN_MISSING_ROWS = 0.1, 3
"""A period is partial if this fraction of it lacks rows, and the other periods have this many rows in such a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Periods:
    """Times in periods: ``positions`` (n,) are the rows of ``table`` (``start``, ``end``, ``name``, ``partial``)."""

    period: Period
    positions: NDArray[np.int64]
    table: Any


def check_period(every: object) -> None:
    """Raise InputError if this is neither None nor a period."""
    if every is not None and every not in get_args(Period):
        raise InputError(f"every must be one of {', '.join(get_args(Period))}, got {every!r}.")


def parse_times(values: Any, name: str) -> Any:
    """A column as times, with their zone if they have one; raise InputError for what is no time."""
    import pandas as pd

    types = pd.api.types
    if types.is_numeric_dtype(values.dtype) and values.notna().any():
        raise InputError(f"time must be dates or times, got {values.dtype} in {name!r}. See pandas.to_datetime.")
    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    with warnings.catch_warnings():
        # Of texts that are no times, which is an error below, and of formats that differ.
        warnings.filterwarnings("ignore", message="Could not infer format")
        try:
            times = pd.to_datetime(values, errors="raise")
        except (ValueError, TypeError):
            # Offsets of several zones, or texts in several formats.
            times = pd.to_datetime(values, errors="coerce", utc=True, format="mixed")
    invalid = values.notna() & times.isna()
    if invalid.any():
        raise InputError(f"time must be dates or times, got {str(values[invalid].iloc[0])[:40]!r} in {name!r}.")
    return times


def split_into_periods(times: Any, every: Period | None, preferred: int = PREFERRED_PERIODS) -> Periods:
    """Put times, none missing, into periods; by default the shortest of which there are at most ``preferred``."""
    import pandas as pd

    zone = times.dt.tz
    # Days and longer periods are those of the calendar; hours are counted, so that an hour that the clock shows twice
    # in autumn is two. They are drawn at the offset from UTC of the first time.
    offset = None if zone is None else times.min().utcoffset()
    local = times.dt.tz_localize(None)
    counted = local if offset is None else times.dt.tz_convert("UTC").dt.tz_localize(None) + offset
    candidates: list[Period] = [every] if every else list(PERIOD_CODES)
    for period in candidates:
        ordinals = (counted if period in CLOCK_PERIODS else local).dt.to_period(PERIOD_CODES[period])
        first, last = ordinals.min(), ordinals.max()
        n = last.ordinal - first.ordinal + 1
        if n <= preferred:
            break
    if n > MAX_PERIODS:
        raise InputError(
            f"There are {n:,} periods of a {period}, but at most {MAX_PERIODS:,} can be drawn. Pass a longer every=."
        )
    positions = (pd.PeriodIndex(ordinals).asi8 - first.ordinal).astype(np.int64)
    spans = pd.period_range(first, last)
    table = pd.DataFrame({"start": spans.start_time, "end": (spans + 1).start_time})
    starts = spans.start_time
    if period in CLOCK_PERIODS and offset is not None:
        starts = (starts - offset).tz_localize("UTC").tz_convert(zone)
    table["name"] = [str(start if period in CLOCK_PERIODS else start.date()) for start in starts]
    now = pd.Timestamp.now() if zone is None else pd.Timestamp.now(zone).tz_localize(None)
    moments = counted if period in CLOCK_PERIODS else local
    table["partial"] = _partial_periods(moments, positions, table, now)
    return Periods(period, positions, table)


def _partial_periods(times: Any, positions: Any, table: Any, now: Any) -> Any:
    """Whether the rows cover only a part of the first and of the last period.

    A period that is not over is partial. Else it is one whose rows end (or begin) clearly earlier than those of all
    other periods, where several rows are missing by their number in the other periods. So working hours, days without
    times and sparse rows make no period partial.
    """
    partial = np.zeros(len(table), dtype=np.bool_)
    last = len(table) - 1
    partial[last] = bool(table["start"].iloc[last] <= now < table["end"].iloc[last])
    counts = np.bincount(positions, minlength=len(table))
    used = np.flatnonzero(counts)
    if len(used) < 2:
        return partial
    lengths = (table["end"] - table["start"]).dt.total_seconds().to_numpy()
    offsets = (times - table["start"].take(positions).set_axis(times.index)).dt.total_seconds().to_numpy()
    offsets = offsets / lengths[positions]
    first_at, last_at = np.full(len(table), np.inf), np.full(len(table), -np.inf)
    np.minimum.at(first_at, positions, offsets)
    np.maximum.at(last_at, positions, offsets)
    for edge, missing in (
        (last, (last_at[used[used != last]].min() if used[-1] == last else 0.0) - last_at[last]),
        (0, first_at[0] - first_at[used[used != 0]].max()),
    ):
        usual = float(np.median(counts[used[used != edge]]))
        if counts[edge] and missing > MIN_MISSING and missing * usual >= MIN_MISSING_ROWS:
            partial[edge] = True
    return partial

"""Flagged rows beside a column of the frame, and rates with confidence intervals."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.safety_charts.findings import Findings, Source, is_tidy, read_findings
from skytells_nb.plots.safety_charts.severity import HIGH, MEDIUM, OTHER

if TYPE_CHECKING:
    import pandas as pd


Flag = Literal["low", "medium", "high", "filtered"]
MIN_LEVELS = {"low": OTHER, "medium": MEDIUM, "high": HIGH}


@dataclass(frozen=True)
class FlagRates:
    """The result of each evaluated row: ``flagged``, not ``checked``, or neither.

    ``level`` is the worst level as an index of LEVELS, ``values`` the column that was read with it.
    """

    level: NDArray[np.int64]
    flagged: NDArray[np.bool_]
    checked: NDArray[np.bool_]
    values: pd.Series[Any]
    name: str
    definition: str
    """Description of what counts as flagged."""


def read_flag_rates(
    frame: pd.DataFrame, values: Any, *, into: Hashable | None, source: Source | None, flag: Flag, option: str
) -> FlagRates:
    """Read the flagged rows of a frame or a table of findings, and a column of it or values of the same length.

    ``option`` is the name of the caller's parameter for ``values``. Raises InputError if there is no such column.
    """
    if flag not in get_args(Flag):
        raise InputError(f'flag must be "low", "medium", "high" or "filtered", got {flag!r}.')
    findings = read_findings(frame, into).for_source(source)
    column, name = _read_values(frame, findings, values, option)
    evaluated = findings.row_level >= 0
    # The result of a partly unchecked row is known only if its other part is flagged.
    flagged = findings.row_filtered if flag == "filtered" else findings.row_level >= MIN_LEVELS[flag]
    suffixes = {None: "", "prompt": " on the prompt", "completion": " on the completion"}[source]
    definition = "filtered" if flag == "filtered" else f"{flag} or worse" if flag != "high" else "high or detected"
    return FlagRates(
        level=findings.row_level[evaluated],
        flagged=flagged[evaluated],
        checked=(flagged | ~findings.row_unchecked)[evaluated],
        values=column[evaluated].reset_index(drop=True),
        name=name,
        definition=definition + suffixes,
    )


def _read_values(frame: pd.DataFrame, findings: Findings, values: Any, option: str) -> tuple[pd.Series[Any], str]:
    """The value of each row of the findings, and the name of the column."""
    import pandas as pd

    if isinstance(values, Hashable) and not isinstance(values, pd.Series):
        if values not in frame.columns:
            available = ", ".join(map(str, frame.columns))[:200] or "no columns"
            raise InputError(f"There is no column {values!r}; the frame has {available}. Or pass {option}= a Series.")
        column, name = frame[values], str(values)
        if isinstance(column, pd.DataFrame):
            raise InputError(f"There is more than one column {values!r}. Rename them first.")
        if is_tidy(frame) and len(frame):
            return column[~frame["row"].duplicated().to_numpy()], name
        return column, name
    series = values if isinstance(values, pd.Series) else pd.Series(np.asarray(values))
    name = option if series.name is None else str(series.name)
    if len(series) == len(findings.labels) and not is_tidy(frame):
        return series, name
    if isinstance(values, pd.Series) and series.index.is_unique:
        return series.reindex(findings.labels), name
    raise InputError(
        f"{option} has {len(series):,} values for {len(findings.labels):,} rows. Pass the name of a column, or a "
        "Series with one value for each row label."
    )


def wilson_interval(hits: Any, rows: Any, confidence: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bound of Wilson's score interval for ``hits`` of ``rows``; from 0 to 1 for no rows.

    Unlike the normal approximation it is accurate for few rows and for rates near 0 and 1 (Wilson, 1927).
    """
    hits, rows = np.asarray(hits, np.float64), np.asarray(rows, np.float64)
    z = _z_score(confidence)
    n = np.maximum(rows, 1)
    p = hits / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding must not exclude the rate itself.
    low, high = np.minimum(center - half_width, p), np.maximum(center + half_width, p)
    return np.where(rows > 0, np.clip(low, 0, 1), 0.0), np.where(rows > 0, np.clip(high, 0, 1), 1.0)


def compare_groups(hits: Any, rows: Any, confidence: float = 0.95) -> NDArray[np.int64]:
    """Return 1 for each group whose rate is above that of all others combined, -1 if it is below, else 0.

    Uses Newcombe's interval for the difference of two rates, from two Wilson intervals, with Bonferroni's correction
    for the number of groups: of forty groups, two would differ at 95 % by chance alone.
    """
    hits, rows = np.asarray(hits, np.float64), np.asarray(rows, np.float64)
    groups = max(1, int((rows > 0).sum()))
    group_confidence = 1 - (1 - confidence) / groups
    others_hits, others = hits.sum() - hits, rows.sum() - rows
    low, high = wilson_interval(hits, rows, group_confidence)
    others_low, others_high = wilson_interval(others_hits, others, group_confidence)
    p, q = hits / np.maximum(rows, 1), others_hits / np.maximum(others, 1)
    lower = p - q - np.hypot(p - low, others_high - q)
    upper = p - q + np.hypot(high - p, q - others_low)
    known = (rows > 0) & (others > 0)
    return np.where(known & (lower > 0), 1, np.where(known & (upper < 0), -1, 0))


def _z_score(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, such as 0.95, got {confidence!r}.")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def format_percent(rate: float) -> str:
    """Format a rate: with one decimal below 10 %, and as 0% or 100% only if it is exact."""
    if 0 < rate < 0.001:
        return "under 0.1%"
    if 0.999 < rate < 1:
        return "over 99.9%"
    return f"{rate:.1%}" if 0 < rate < 0.0995 or 0.99 < rate < 1 else f"{rate:.0%}"


def error_bars(table: Any, color: str, *, thickness: float, width: float) -> dict[str, Any]:
    """Error bars from ``low`` to ``high`` around ``rate``, which are columns of a table."""
    return {
        "type": "data",
        "symmetric": False,
        "array": table["high"] - table["rate"],
        "arrayminus": table["rate"] - table["low"],
        "color": color,
        "thickness": thickness,
        "width": width,
    }

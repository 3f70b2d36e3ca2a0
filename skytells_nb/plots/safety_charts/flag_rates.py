"""Which rows count as flagged, which are not known, and what else is known of them."""

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
FROM = {"low": OTHER, "medium": MEDIUM, "high": HIGH}


@dataclass(frozen=True)
class FlagRates:
    """One verdict for each row that was answered or refused: ``flagged``, or not ``checked``, or neither.

    ``level`` is the worst in LEVELS, ``values`` the column asked for.
    """

    level: NDArray[np.int64]
    flagged: NDArray[np.bool_]
    checked: NDArray[np.bool_]
    values: pd.Series[Any]
    name: str
    what: str
    """What counts as flagged, in words."""


def read_flagged(
    frame: pd.DataFrame, values: Any, *, into: Hashable | None, source: Source | None, flag: Flag, option: str
) -> FlagRates:
    """The verdicts of a frame or a table of findings, beside a column of it or values of the same length.

    ``option`` is what the caller's keyword is called. Raises InputError where there is no such column.
    """
    if flag not in get_args(Flag):
        raise InputError(f'flag is "low", "medium", "high" or "filtered", not {flag!r}.')
    found = read_findings(frame, into).of(source)
    column, name = _values(frame, found, values, option)
    due = found.row_level >= 0
    # A row of which a part was not checked is known only where the other part is flagged.
    flagged = found.row_filtered if flag == "filtered" else found.row_level >= FROM[flag]
    sides = {None: "", "prompt": " on the prompt", "completion": " on the completion"}[source]
    what = "filtered" if flag == "filtered" else f"{flag} or worse" if flag != "high" else "high or detected"
    return FlagRates(
        level=found.row_level[due],
        flagged=flagged[due],
        checked=(flagged | ~found.row_unchecked)[due],
        values=column[due].reset_index(drop=True),
        name=name,
        what=what + sides,
    )


def _values(frame: pd.DataFrame, found: Findings, values: Any, option: str) -> tuple[pd.Series[Any], str]:
    """What is known of each row that the findings are about, and its name."""
    import pandas as pd

    if isinstance(values, Hashable) and not isinstance(values, pd.Series):
        if values not in frame.columns:
            have = ", ".join(map(str, frame.columns))[:200] or "no columns"
            raise InputError(f"There is no column {values!r}; the frame has {have}. Or pass {option}= as a Series.")
        column, name = frame[values], str(values)
        if isinstance(column, pd.DataFrame):
            raise InputError(f"There is more than one column {values!r}. Rename them first.")
        if is_tidy(frame) and len(frame):
            return column[~frame["row"].duplicated().to_numpy()], name
        return column, name
    given = values if isinstance(values, pd.Series) else pd.Series(np.asarray(values))
    name = option if given.name is None else str(given.name)
    if len(given) == len(found.labels) and not is_tidy(frame):
        return given, name
    if isinstance(values, pd.Series) and given.index.is_unique:
        return given.reindex(found.labels), name
    raise InputError(
        f"{option}= has {len(given):,} values for {len(found.labels):,} rows. Pass the name of a column, or a Series "
        "with one value for each row label."
    )


Floats = NDArray[np.float64]


def wilson_interval(hits: Any, rows: Any, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper end of Wilson's score interval for ``hits`` of ``rows``; from 0 to 1 where there are no rows.

    Unlike hits/rows ± a multiple of its error it is honest for few rows and for rates near 0 and 1 (Wilson, 1927).
    """
    hits, rows = np.asarray(hits, np.float64), np.asarray(rows, np.float64)
    z = _z(confidence)
    n = np.maximum(rows, 1)
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding must not put the rate itself outside.
    low, high = np.minimum(centre - half, p), np.maximum(centre + half, p)
    return np.where(rows > 0, np.clip(low, 0, 1), 0.0), np.where(rows > 0, np.clip(high, 0, 1), 1.0)


def compared(hits: Any, rows: Any, confidence: float = 0.95) -> NDArray[np.int64]:
    """For each group 1 where its rate is above that of all the others together, -1 where it is below, else 0.

    By Newcombe's interval for a difference of two rates, made of two Wilson intervals, and with Bonferroni's correction
    for the number of groups: with forty of them, two would differ at 95 % by chance alone.
    """
    hits, rows = np.asarray(hits, np.float64), np.asarray(rows, np.float64)
    groups = max(1, int((rows > 0).sum()))
    each = 1 - (1 - confidence) / groups
    others_hits, others = hits.sum() - hits, rows.sum() - rows
    low, high = wilson_interval(hits, rows, each)
    others_low, others_high = wilson_interval(others_hits, others, each)
    p, q = hits / np.maximum(rows, 1), others_hits / np.maximum(others, 1)
    least = p - q - np.hypot(p - low, others_high - q)
    most = p - q + np.hypot(high - p, q - others_low)
    known = (rows > 0) & (others > 0)
    return np.where(known & (least > 0), 1, np.where(known & (most < 0), -1, 0))


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence lies between 0 and 1, such as 0.95; found {confidence!r}.")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def percent(rate: float) -> str:
    """A rate in words: one digit below ten percent, and 0 or 100 only where it is exactly that."""
    if 0 < rate < 0.001:
        return "under 0.1%"
    if 0.999 < rate < 1:
        return "over 99.9%"
    return f"{rate:.1%}" if 0 < rate < 0.0995 or 0.99 < rate < 1 else f"{rate:.0%}"


def bars(table: Any, color: str, *, thickness: float, width: float) -> dict[str, Any]:
    """Error bars from ``low`` to ``high`` around ``rate``, columns of a table."""
    return {
        "type": "data",
        "symmetric": False,
        "array": table["high"] - table["rate"],
        "arrayminus": table["rate"] - table["low"],
        "color": color,
        "thickness": thickness,
        "width": width,
    }

"""Findings from the columns that ``moderate`` adds, which rows keep in masks, copies, concatenations and files."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

ALL_CATEGORIES = "all"
"""Category of a finding that is about the whole result: it was not checked, or filtered without a reason."""
VERDICT_SUFFIXES = ("_severity", "_filtered", "_categories", "_checked")
FINDING_COLUMNS = ("source", "category", "severity", "filtered", "detected", "checked")


def moderation_prefixes(frame: pd.DataFrame) -> list[str]:
    """The prefixes of the columns of ``moderate`` that a frame has."""
    names = {name for name in frame.columns if isinstance(name, str)}
    prefixes = [name.removesuffix(VERDICT_SUFFIXES[0]) for name in frame.columns if isinstance(name, str)]
    return [
        prefix for prefix in dict.fromkeys(prefixes) if {f"{prefix}{suffix}" for suffix in VERDICT_SUFFIXES} <= names
    ]


def moderation_findings(frame: pd.DataFrame, prefix: Hashable) -> tuple[pd.DataFrame, Any]:
    """Return a finding for each category of each row as a table of ``FINDING_COLUMNS``, and the position of its row.

    The columns have one severity for a row, so that of the worst of several categories is given to all of them. A
    category in a row without a severity was detected. A row without categories has one finding for all of them. Rows
    that were not requested have none.
    """
    import pandas as pd

    verdicts = pd.DataFrame({suffix: frame[f"{prefix}{suffix}"].astype(object) for suffix in VERDICT_SUFFIXES})
    # Most rows have equal verdicts, so that few have to be taken apart.
    codes, distinct = pd.factorize(pd.MultiIndex.from_frame(verdicts))
    parsed = [_findings(*(None if pd.isna(value) else value for value in verdict)) for verdict in distinct]
    lengths = np.array([*map(len, parsed), 0], dtype=np.int64)[codes]
    starts = np.cumsum([0, *map(len, parsed)])[codes]
    ends = np.cumsum(lengths)
    positions = np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)
    table = pd.DataFrame([finding for findings in parsed for finding in findings], columns=list(FINDING_COLUMNS))
    return table.take(positions).reset_index(drop=True), np.repeat(np.arange(len(frame)), lengths)


def _findings(severity: Any, filtered: Any, categories: Any, checked: Any) -> list[tuple[Any, ...]]:
    if filtered is None and checked is None and severity is None:
        return []
    graded = severity if isinstance(severity, str) and severity != "safe" else None
    names = [name.strip() for name in str(categories or "").split(",") if name.strip()]
    if names:
        return [("prompt", name, graded, bool(filtered), graded is None or None, bool(checked)) for name in names]
    return [("prompt", ALL_CATEGORIES, severity, bool(filtered), None, bool(checked))]

"""What the safety filter said of each row, read from a table of findings or from a frame of completions."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.safety_charts.severity import DETECTED, GRADES, OTHER, SAFE, UNCHECKED

if TYPE_CHECKING:
    import pandas as pd


Source = Literal["prompt", "completion"]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

COLUMNS = ("row", "source", "category", "severity", "filtered", "detected", "checked")
SOURCES: tuple[Source, ...] = ("prompt", "completion")
SUFFIX = "_safety"
WHOLE_VERDICT = "all"
"""Category of the finding that stands for a whole verdict: one that the filter could not give, or did not explain."""


@dataclass(frozen=True)
class Findings:
    """The worst finding of each row, side and category, as columns of equal length.

    ``row`` counts in ``labels``, ``side`` in SOURCES, ``category`` in ``categories`` and ``level`` in LEVELS.
    ``judged`` marks the rows that were answered or refused, so that a verdict was due.
    """

    labels: pd.Index[Any]
    evaluated: Flags
    categories: list[str]
    row: Ints
    source: Ints
    category: Ints
    level: Ints
    filtered: Flags

    def of(self, source: Source | None) -> Findings:
        """The findings of one side only."""
        if source is None:
            return self
        if source not in SOURCES:
            raise InputError(f'source is None, "prompt" or "completion", not {source!r}.')
        keep = self.source == SOURCES.index(source)
        taken = {name: getattr(self, name)[keep] for name in ("row", "side", "category", "level", "filtered")}
        due = self.evaluated
        if source == "completion":
            # A blocked prompt got no completion that could have been checked.
            due = due & (~self.row_filtered | _any(taken["row"], len(due)))
        return Findings(self.labels, due, self.categories, **taken)

    @cached_property
    def row_level(self) -> Ints:
        """The worst level of each row, -1 where it has no finding: not checked where a verdict was due."""
        worst = np.where(self.evaluated, UNCHECKED, -1)
        found = np.full(len(self.labels), -1)
        np.maximum.at(found, self.row, self.level)
        return np.where(found >= 0, found, worst)

    @cached_property
    def row_filtered(self) -> Flags:
        """Whether anything of the row was withheld."""
        return _any(self.row[self.filtered], len(self.labels))

    @cached_property
    def row_unchecked(self) -> Flags:
        """Whether any of the row's verdicts is missing."""
        missing: Flags = _any(self.row[self.level == UNCHECKED], len(self.labels)) | (self.row_level == UNCHECKED)
        return missing


def read_findings(frame: Any, into: Hashable | None = None) -> Findings:
    """The findings of a table in the form of ``frame.skytells.safety()``, or of a frame with completions.

    In a frame the columns that ``details=True`` leaves are read, else what the accessor remembers of the call. A row
    with an answer and no verdict is not checked; one that was withheld without a reason is filtered as a whole.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{_needed()}, not from a {type(frame).__name__}.")
    if is_tidy(frame):
        return _from_table(frame)
    named = verdict_columns(frame)
    if into is None and len(named) > 1:
        choice = ", ".join(map(repr, named))
        raise InputError(f"The frame has verdicts on several columns ({choice}); choose one with into=.")
    chosen = into if into is not None else named[0] if named else "completion"
    if f"{chosen}{SUFFIX}" in frame.columns:
        return _from_details(frame, chosen)
    return _from_call(frame, chosen)


def is_tidy(frame: pd.DataFrame) -> bool:
    """Whether this is a table of findings, or has nothing in it at all."""
    return set(COLUMNS) <= set(frame.columns) or not (len(frame) or len(frame.columns))


def verdict_columns(frame: pd.DataFrame) -> list[str]:
    """Columns of completions that have their verdicts beside them."""
    return [str(name).removesuffix(SUFFIX) for name in frame.columns if str(name).endswith(SUFFIX)]


def _needed() -> str:
    return f"A safety chart is drawn from a DataFrame with the columns {', '.join(COLUMNS)}, or with completions"


def _from_table(table: pd.DataFrame) -> Findings:
    import pandas as pd

    if not len(table):
        return _worst(pd.Index([]), np.zeros(0, np.bool_), np.zeros(0, np.int64), _empty())
    # A null label is a label like any other.
    rows, labels = pd.factorize(table["row"], use_na_sentinel=False)
    return _worst(pd.Index(labels), np.ones(len(labels), np.bool_), rows.astype(np.int64), table)


def _from_details(frame: pd.DataFrame, into: Hashable) -> Findings:
    import pandas as pd

    verdicts = frame[f"{into}{SUFFIX}"]
    # Most rows have the same verdict, so that few texts are parsed.
    codes, texts = pd.factorize(verdicts)
    parsed = [_parse(text, f"{into}{SUFFIX}") for text in texts]
    flat = pd.DataFrame([finding for findings in parsed for finding in findings], columns=list(COLUMNS[1:]))
    lengths = np.array([*map(len, parsed), 0], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    mine = lengths[codes]
    ends = np.cumsum(mine)
    taken = np.arange(mine.sum()) + np.repeat(starts[codes] - (ends - mine), mine)
    rows = np.repeat(np.arange(len(frame)), mine)
    return _completed(frame, into, frame.index, codes >= 0, rows, flat.take(taken))


def _from_call(frame: pd.DataFrame, into: Hashable) -> Findings:
    try:
        # The accessor lies above plots; a frame brings it along as an attribute.
        table: pd.DataFrame = frame.skytells.safety(into)
    except (AttributeError, InputError):
        missing = [name for name in COLUMNS if name not in frame.columns]
        if "source" in frame.columns and "category" in frame.columns:
            raise InputError(f"{_needed()}; {', '.join(missing)} is missing.") from None
        raise InputError(
            f"{_needed()} whose verdicts are known. There are none for {into!r} here: ask with details=True, or pass "
            "frame.skytells.safety(into)."
        ) from None
    found = _from_table(table)
    if into not in frame.columns or not frame.index.is_unique or not found.labels.isin(frame.index).all():
        return found
    place = frame.index.get_indexer(found.labels)
    judged = frame[into].notna().to_numpy(dtype=np.bool_)
    judged[place] = True
    return _completed(frame, into, frame.index, judged, place[found.row], table)


def _completed(
    frame: pd.DataFrame, into: Hashable, labels: pd.Index[Any], judged: Any, rows: Any, table: pd.DataFrame
) -> Findings:
    """The findings with those that the verdicts leave out: answers without one, and texts withheld without a reason."""
    import pandas as pd

    filtered = _any(rows[_true(table["filtered"])], len(frame))
    withheld = _told(frame, f"{into}_filtered", True) | _told(frame, f"{into}_finish_reason", "content_filter")
    answered = frame[into].notna().to_numpy() if into in frame.columns else ~withheld
    unexplained = np.flatnonzero(withheld & ~filtered & judged)
    silent = np.flatnonzero(judged & ~_any(rows, len(frame)) & ~withheld)
    added = pd.DataFrame(
        {
            "source": np.where(answered[np.r_[unexplained, silent]], "completion", "prompt"),
            "category": WHOLE_VERDICT,
            "severity": None,
            "filtered": np.r_[np.ones(len(unexplained), np.bool_), np.zeros(len(silent), np.bool_)],
            "detected": None,
            "checked": np.r_[np.ones(len(unexplained), np.bool_), np.zeros(len(silent), np.bool_)],
        }
    )
    columns = list(COLUMNS[1:])
    both = [part[columns].astype(object) for part in (table, added) if len(part)]
    whole = pd.concat(both, ignore_index=True) if both else _empty()
    return _worst(labels, np.asarray(judged, np.bool_), np.r_[rows, unexplained, silent].astype(np.int64), whole)


def _worst(labels: pd.Index[Any], judged: Flags, rows: Ints, table: pd.DataFrame) -> Findings:
    import pandas as pd

    named = table["source"].astype(str)
    unknown = set(named.unique()) - set(SOURCES)
    if unknown:
        raise InputError(f"source is prompt or completion in every line; found {sorted(unknown)[0][:40]!r}.")
    side = np.where(named.to_numpy() == SOURCES[0], 0, 1).astype(np.int64)
    category, categories = pd.factorize(table["category"].astype(str))
    n = max(1, len(categories))
    key = (rows * len(SOURCES) + side) * n + category
    distinct, place = np.unique(key, return_inverse=True)
    level = np.zeros(len(distinct), np.int64)
    np.maximum.at(level, place, _levels(table))
    filtered = _any(place[_true(table["filtered"])], len(distinct))
    at, category = np.divmod(distinct, n)
    return Findings(
        labels,
        judged,
        [str(name) for name in categories],
        at // len(SOURCES),
        at % len(SOURCES),
        category,
        level,
        filtered,
    )


def _levels(table: pd.DataFrame) -> Ints:
    """The place in LEVELS of each finding."""
    import pandas as pd

    codes, words = pd.factorize(table["severity"])
    ranks = [GRADES.get(word.lower(), OTHER) if isinstance(word, str) else SAFE for word in words]
    graded = np.array([*(isinstance(word, str) for word in words), False], dtype=np.bool_)[codes]
    level = np.array([*ranks, SAFE], dtype=np.int64)[codes]
    flag = _true(table["detected"]) | (_true(table["filtered"]) & ~graded)
    level = np.where(flag & (level == SAFE), DETECTED, level)
    return np.where((level == SAFE) & ~_true(table["checked"]), UNCHECKED, level)


def _true(values: pd.Series[Any]) -> Flags:
    """The column as booleans; what is null is not true, so that an unknown check is no check."""
    if values.dtype == np.bool_:
        return values.to_numpy(dtype=np.bool_)
    return np.array([isinstance(value, bool | int | float) and value == 1 for value in values.tolist()], dtype=np.bool_)


def _any(places: Any, n: int) -> Flags:
    """Which of ``n`` places occur."""
    there = np.zeros(n, dtype=np.bool_)
    there[places] = True
    return there


def _told(frame: pd.DataFrame, column: str, value: Any) -> Flags:
    """Where a column of the frame, if it has it, says this."""
    if column not in frame.columns:
        return np.zeros(len(frame), np.bool_)
    told: Flags = (frame[column] == value).fillna(False).to_numpy(dtype=np.bool_)
    return told


def _empty() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns=list(COLUMNS[1:]))


def _parse(text: Any, column: str) -> list[dict[str, Any]]:
    try:
        findings = json.loads(text)
    except (TypeError, ValueError):
        findings = None
    if not isinstance(findings, list) or not all(isinstance(finding, dict) for finding in findings):
        raise InputError(
            f"Column {column!r} holds JSON lists of findings, as details=True writes; found {str(text)[:40]!r}."
        )
    return findings


def group_rare_categories(found: Findings, most: int) -> tuple[Findings, list[str]]:
    """At most ``most`` categories and up to two lines for the rest; the names of these lines.

    Up to ``most`` categories stay as they are. Of more, those in which nothing was flagged share one line, and of the
    others those with the fewest flags another. In a shared line the worst finding of each row counts.
    """
    n = len(found.categories)
    if n <= most:
        return found, []
    flags = np.bincount(found.category[(found.level != SAFE) & (found.level != UNCHECKED)], minlength=n)
    # The one that stands for a whole verdict is not one of many.
    own = np.array([name == WHOLE_VERDICT for name in found.categories])
    quiet = np.flatnonzero((flags == 0) & ~own)
    loud = sorted(np.flatnonzero((flags > 0) & ~own).tolist(), key=lambda at: (-int(flags[at]), found.categories[at]))
    merged: dict[str, list[int]] = {}
    if len(loud) > most:
        merged[f"{len(loud) - most:,} more categories"] = loud[most:]
    if len(quiet) > 1:
        merged[f"{len(quiet):,} categories without a flag"] = quiet.tolist()
    place = np.arange(n)
    for at, members in enumerate(merged.values()):
        place[members] = n + at
    category = place[found.category]
    key = np.stack([found.row, found.source, category], axis=1)
    distinct, which = np.unique(key, axis=0, return_inverse=True)
    which = which.reshape(-1)
    level, filtered = np.zeros(len(distinct), np.int64), np.zeros(len(distinct), np.bool_)
    np.maximum.at(level, which, found.level)
    filtered[which[found.filtered]] = True
    row, side, category = distinct.T
    names = [*found.categories, *merged]
    kept = replace(found, categories=names, row=row, source=side, category=category, level=level, filtered=filtered)
    return kept, list(merged)

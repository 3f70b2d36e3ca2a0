"""Safety findings by row, read from a table of findings or from a frame with completions."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.safety_charts.moderation import (
    ALL_CATEGORIES as ALL_CATEGORIES,
)
from skytells_nb.plots.safety_charts.moderation import (
    FINDING_COLUMNS,
    VERDICT_SUFFIXES,
    moderation_findings,
    moderation_prefixes,
)
from skytells_nb.plots.safety_charts.severity import DETECTED, GRADES, OTHER, SAFE, UNCHECKED

if TYPE_CHECKING:
    import pandas as pd


Source = Literal["prompt", "completion"]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

COLUMNS = ("row", *FINDING_COLUMNS)
SOURCES: tuple[Source, ...] = ("prompt", "completion")
SAFETY_SUFFIX = "_safety"


@dataclass(frozen=True)
class Findings:
    """The worst finding of each row, source and category, as columns of equal length.

    ``row`` is an index of ``labels``, ``source`` of SOURCES, ``category`` of ``categories`` and ``level`` of LEVELS.
    ``evaluated`` marks the rows with a completion or a rejection, for which a result of the filter is expected.
    """

    labels: pd.Index[Any]
    evaluated: Mask
    categories: list[str]
    row: Ints
    source: Ints
    category: Ints
    level: Ints
    filtered: Mask

    def for_source(self, source: Source | None) -> Findings:
        """The findings of one source, or all of them for None."""
        if source is None:
            return self
        if source not in SOURCES:
            raise InputError(f'source must be None, "prompt" or "completion", got {source!r}.')
        selected = self.source == SOURCES.index(source)
        columns = {name: getattr(self, name)[selected] for name in ("row", "source", "category", "level", "filtered")}
        evaluated = self.evaluated
        if source == "completion":
            # A rejected prompt has no completion that could have been checked.
            evaluated = evaluated & (~self.row_filtered | _mask_of(columns["row"], len(evaluated)))
        return Findings(self.labels, evaluated, self.categories, **columns)

    @cached_property
    def row_level(self) -> Ints:
        """The worst level of each row; without findings "not checked" if it was evaluated, else -1."""
        default = np.where(self.evaluated, UNCHECKED, -1)
        levels = np.full(len(self.labels), -1)
        np.maximum.at(levels, self.row, self.level)
        return np.where(levels >= 0, levels, default)

    @cached_property
    def row_filtered(self) -> Mask:
        """Whether anything of each row was filtered."""
        return _mask_of(self.row[self.filtered], len(self.labels))

    @cached_property
    def row_unchecked(self) -> Mask:
        """Whether anything of each row was not checked."""
        missing: Mask = _mask_of(self.row[self.level == UNCHECKED], len(self.labels)) | (self.row_level == UNCHECKED)
        return missing


def read_findings(frame: Any, into: Hashable | None = None) -> Findings:
    """Read the findings of a table like that of ``frame.skytells.safety()``, or of a frame with safety results.

    In a frame, the columns of ``details=True`` or of ``moderate`` are read, or else the report of the call. A row with
    a completion and no finding is not checked; a row that was filtered without a reason is filtered as a whole.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{_requirement()}, got {type(frame).__name__}.")
    if is_tidy(frame):
        return _from_table(frame)
    moderated = moderation_prefixes(frame)
    available = list(dict.fromkeys([*completion_columns(frame), *moderated]))
    if into is None and len(available) > 1:
        choice = ", ".join(map(repr, available))
        raise InputError(f"The frame has safety results for several columns ({choice}). Choose one with into=.")
    chosen = into if into is not None else available[0] if available else "completion"
    if f"{chosen}{SAFETY_SUFFIX}" in frame.columns:
        return _from_details(frame, chosen)
    return _from_moderation(frame, chosen) if chosen in moderated else _from_call(frame, chosen)


def is_tidy(frame: pd.DataFrame) -> bool:
    """Whether this is a table of findings, or has neither rows nor columns."""
    return set(COLUMNS) <= set(frame.columns) or not (len(frame) or len(frame.columns))


def completion_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of completions that have a column of safety results."""
    return [str(name).removesuffix(SAFETY_SUFFIX) for name in frame.columns if str(name).endswith(SAFETY_SUFFIX)]


def _requirement() -> str:
    return f"A safety chart needs a DataFrame with the columns {', '.join(COLUMNS)}, or with completions"


def _from_table(table: pd.DataFrame) -> Findings:
    import pandas as pd

    if not len(table):
        return _worst_findings(pd.Index([]), np.zeros(0, np.bool_), np.zeros(0, np.int64), _empty_table())
    # A missing label is a label like any other.
    rows, labels = pd.factorize(table["row"], use_na_sentinel=False)
    return _worst_findings(pd.Index(labels), np.ones(len(labels), np.bool_), rows.astype(np.int64), table)


def _from_details(frame: pd.DataFrame, into: Hashable) -> Findings:
    import pandas as pd

    texts_by_row = frame[f"{into}{SAFETY_SUFFIX}"]
    # Most rows have equal findings, so that few texts have to be parsed.
    codes, texts = pd.factorize(texts_by_row)
    parsed = [_parse_findings(text, f"{into}{SAFETY_SUFFIX}") for text in texts]
    table = pd.DataFrame([finding for findings in parsed for finding in findings], columns=list(FINDING_COLUMNS))
    lengths = np.array([*map(len, parsed), 0], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    row_lengths = lengths[codes]
    ends = np.cumsum(row_lengths)
    positions = np.arange(row_lengths.sum()) + np.repeat(starts[codes] - (ends - row_lengths), row_lengths)
    rows = np.repeat(np.arange(len(frame)), row_lengths)
    return _add_missing(frame, into, frame.index, codes >= 0, rows, table.take(positions))


def _from_moderation(frame: pd.DataFrame, prefix: Hashable) -> Findings:
    """The findings of ``moderate``: of each category where the frame is the one that it returned, else its columns."""
    verdicts = frame[[f"{prefix}{suffix}" for suffix in VERDICT_SUFFIXES]]
    evaluated = verdicts.notna().any(axis=1).to_numpy(dtype=np.bool_)
    table, rows = moderation_findings(frame, prefix)
    try:
        exact = frame.skytells.safety(prefix) if frame.index.is_unique else None
    except (AttributeError, InputError):
        exact = None
    if exact is not None:
        exact_rows = frame.index.get_indexer(exact["row"])
        has_none = ~_mask_of(exact_rows, len(frame))[rows]
        table = _joined([exact, table[has_none]])
        rows = np.r_[exact_rows, rows[has_none]]
    return _worst_findings(frame.index, evaluated, rows.astype(np.int64), table)


def _from_call(frame: pd.DataFrame, into: Hashable) -> Findings:
    try:
        # plots must not import the accessor, but a frame has it as an attribute.
        table: pd.DataFrame = frame.skytells.safety(into)
    except (AttributeError, InputError):
        missing = [name for name in COLUMNS if name not in frame.columns]
        if "source" in frame.columns and "category" in frame.columns:
            raise InputError(f"{_requirement()}. Missing: {', '.join(missing)}.") from None
        raise InputError(
            f"{_requirement()} and their safety results. There are none for {into!r}. Call the method with "
            "details=True, or pass frame.skytells.safety(into)."
        ) from None
    findings = _from_table(table)
    if into not in frame.columns or not frame.index.is_unique or not findings.labels.isin(frame.index).all():
        return findings
    positions = frame.index.get_indexer(findings.labels)
    evaluated = frame[into].notna().to_numpy(dtype=np.bool_)
    evaluated[positions] = True
    return _add_missing(frame, into, frame.index, evaluated, positions[findings.row], table)


def _add_missing(
    frame: pd.DataFrame, into: Hashable, labels: pd.Index[Any], evaluated: Any, rows: Any, table: pd.DataFrame
) -> Findings:
    """Add what the findings lack: completions that were not checked, and texts that were filtered without a reason."""
    import pandas as pd

    filtered = _mask_of(rows[_is_true(table["filtered"])], len(frame))
    was_filtered = _equals(frame, f"{into}_filtered", True) | _equals(frame, f"{into}_finish_reason", "content_filter")
    has_text = frame[into].notna().to_numpy() if into in frame.columns else ~was_filtered
    unexplained = np.flatnonzero(was_filtered & ~filtered & evaluated)
    unchecked = np.flatnonzero(evaluated & ~_mask_of(rows, len(frame)) & ~was_filtered)
    added = pd.DataFrame(
        {
            "source": np.where(has_text[np.r_[unexplained, unchecked]], "completion", "prompt"),
            "category": ALL_CATEGORIES,
            "severity": None,
            "filtered": np.r_[np.ones(len(unexplained), np.bool_), np.zeros(len(unchecked), np.bool_)],
            "detected": None,
            "checked": np.r_[np.ones(len(unexplained), np.bool_), np.zeros(len(unchecked), np.bool_)],
        }
    )
    complete = _joined([table, added])
    return _worst_findings(
        labels, np.asarray(evaluated, np.bool_), np.r_[rows, unexplained, unchecked].astype(np.int64), complete
    )


def _worst_findings(labels: pd.Index[Any], evaluated: Mask, rows: Ints, table: pd.DataFrame) -> Findings:
    import pandas as pd

    sources = table["source"].astype(str)
    unknown = set(sources.unique()) - set(SOURCES)
    if unknown:
        raise InputError(f'source must be "prompt" or "completion" in every row, got {sorted(unknown)[0][:40]!r}.')
    source = np.where(sources.to_numpy() == SOURCES[0], 0, 1).astype(np.int64)
    category, categories = pd.factorize(table["category"].astype(str))
    n = max(1, len(categories))
    key = (rows * len(SOURCES) + source) * n + category
    unique_keys, positions = np.unique(key, return_inverse=True)
    level = np.zeros(len(unique_keys), np.int64)
    np.maximum.at(level, positions, _levels(table))
    filtered = _mask_of(positions[_is_true(table["filtered"])], len(unique_keys))
    row_and_source, category = np.divmod(unique_keys, n)
    return Findings(
        labels,
        evaluated,
        [str(name) for name in categories],
        row_and_source // len(SOURCES),
        row_and_source % len(SOURCES),
        category,
        level,
        filtered,
    )


def _levels(table: pd.DataFrame) -> Ints:
    """The level of each finding, as an index of LEVELS."""
    import pandas as pd

    codes, severities = pd.factorize(table["severity"])
    ranks = [GRADES.get(word.lower(), OTHER) if isinstance(word, str) else SAFE for word in severities]
    graded = np.array([*(isinstance(word, str) for word in severities), False], dtype=np.bool_)[codes]
    level = np.array([*ranks, SAFE], dtype=np.int64)[codes]
    is_flagged = _is_true(table["detected"]) | (_is_true(table["filtered"]) & ~graded)
    level = np.where(is_flagged & (level == SAFE), DETECTED, level)
    return np.where((level == SAFE) & ~_is_true(table["checked"]), UNCHECKED, level)


def _is_true(values: pd.Series[Any]) -> Mask:
    """The column as booleans; missing values are false, so that an unknown check is not a check."""
    if values.dtype == np.bool_:
        return values.to_numpy(dtype=np.bool_)
    return np.array([isinstance(value, bool | int | float) and value == 1 for value in values.tolist()], dtype=np.bool_)


def _mask_of(positions: Any, n: int) -> Mask:
    """A mask of length ``n`` that is true at these positions."""
    mask = np.zeros(n, dtype=np.bool_)
    mask[positions] = True
    return mask


def _equals(frame: pd.DataFrame, column: str, value: Any) -> Mask:
    """Where a column of the frame equals a value; false everywhere if there is no such column."""
    if column not in frame.columns:
        return np.zeros(len(frame), np.bool_)
    equal: Mask = (frame[column] == value).fillna(False).to_numpy(dtype=np.bool_)
    return equal


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    parts = [table[list(FINDING_COLUMNS)].astype(object) for table in tables if len(table)]
    return pd.concat(parts, ignore_index=True) if parts else _empty_table()


def _empty_table() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns=list(FINDING_COLUMNS))


def _parse_findings(text: Any, column: str) -> list[dict[str, Any]]:
    try:
        findings = json.loads(text)
    except (TypeError, ValueError):
        findings = None
    if not isinstance(findings, list) or not all(isinstance(finding, dict) for finding in findings):
        raise InputError(
            f"Column {column!r} must hold JSON lists of findings, as details=True writes, got {str(text)[:40]!r}."
        )
    return findings


def group_rare_categories(findings: Findings, max_categories: int) -> tuple[Findings, list[str]]:
    """Reduce the findings to ``max_categories`` and up to two groups for the rest; return also the names of the groups.

    If there are more categories, those without flagged rows form one group, and those with the fewest flagged rows
    another. In a group, the worst finding of each row counts.
    """
    n = len(findings.categories)
    if n <= max_categories:
        return findings, []
    flags = np.bincount(findings.category[(findings.level != SAFE) & (findings.level != UNCHECKED)], minlength=n)
    # The category of whole results is never grouped.
    is_whole = np.array([name == ALL_CATEGORIES for name in findings.categories])
    unflagged = np.flatnonzero((flags == 0) & ~is_whole)
    flagged = np.flatnonzero((flags > 0) & ~is_whole).tolist()
    flagged.sort(key=lambda index: (-int(flags[index]), findings.categories[index]))
    merged: dict[str, list[int]] = {}
    if len(flagged) > max_categories:
        merged[f"{len(flagged) - max_categories:,} more categories"] = flagged[max_categories:]
    if len(unflagged) > 1:
        merged[f"{len(unflagged):,} categories without a flag"] = unflagged.tolist()
    new_category = np.arange(n)
    for number, members in enumerate(merged.values()):
        new_category[members] = n + number
    category = new_category[findings.category]
    key = np.stack([findings.row, findings.source, category], axis=1)
    unique_keys, inverse = np.unique(key, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    level, filtered = np.zeros(len(unique_keys), np.int64), np.zeros(len(unique_keys), np.bool_)
    np.maximum.at(level, inverse, findings.level)
    filtered[inverse[findings.filtered]] = True
    row, source, category = unique_keys.T
    names = [*findings.categories, *merged]
    columns = {"row": row, "source": source, "category": category, "level": level, "filtered": filtered}
    return replace(findings, categories=names, **columns), list(merged)

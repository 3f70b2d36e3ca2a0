"""A table of the rows that the safety filter filtered."""

from __future__ import annotations

import html
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.errors import InputError
from skytells_nb.plots.safety_charts.findings import ALL_CATEGORIES, SOURCES, Findings, read_findings
from skytells_nb.plots.safety_charts.severity import DETECTED, LEVEL_NAMES
from skytells_nb.plots.theme import plain_text

if TYPE_CHECKING:
    import pandas as pd


def filtered_rows(
    frame: pd.DataFrame,
    into: Hashable | None = None,
    *,
    text: Hashable | None = None,
    characters: int = 200,
    escape: bool = False,
) -> pd.DataFrame:
    """Make a table of filtered rows with their texts and the reasons.

    Parameters
    ----------
    frame : pandas.DataFrame
        A frame with completions, or a table of findings as ``frame.skytells.safety()`` returns it.
    into : hashable, optional
        The column of completions, if the frame has several.
    text : hashable, optional
        The column of texts to show; by default the one with the longest texts, except completions and their metadata.
    characters : int, default 200
        Maximum length of the texts, which are shown on one line and without control characters.
    escape : bool, default False
        Whether to escape texts for HTML. pandas escapes them when it displays a frame, but not in ``.style``.

    Returns
    -------
    pandas.DataFrame
        One line for each row, in the frame's order: ``row`` (index label), ``text`` (only for a frame), ``withheld``
        ("prompt", "completion" or both), ``severity`` (the worst of the row; sorts by level) and ``why`` (the reasons).

    Raises
    ------
    InputError
        If a column is missing or there are no safety results.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = ["row", "source", "category", "severity", "filtered", "detected", "checked"]
    >>> findings = pd.DataFrame([["a", "prompt", "hate", "high", True, None, True]], columns=columns)
    >>> filtered_rows(findings).to_dict("records")
    [{'row': 'a', 'withheld': 'prompt', 'severity': 'high', 'why': 'prompt: hate high'}]
    """
    import pandas as pd

    if characters < 1:
        raise InputError(f"characters must be at least 1, got {characters!r}.")
    findings = read_findings(frame, into)
    rows = np.flatnonzero(findings.row_filtered)
    text_column = text if text is not None else _longest_text_column(frame, findings, into)
    columns: dict[str, Any] = {"row": findings.labels[rows]}
    if text_column is not None:
        columns["text"] = _read_texts(frame, findings, text_column, rows, characters, escape)
    withheld, why = _describe_reasons(findings, escape)
    levels = pd.Categorical(
        [LEVEL_NAMES[level] for level in findings.row_level[rows]], categories=list(LEVEL_NAMES), ordered=True
    )
    columns.update(
        withheld=[withheld[row] for row in rows.tolist()], severity=levels, why=[why[row] for row in rows.tolist()]
    )
    return pd.DataFrame(columns)


def _longest_text_column(frame: pd.DataFrame, findings: Findings, into: Hashable | None) -> Hashable | None:
    """The column with the longest texts that is neither a completion nor its metadata."""
    from skytells_nb.columns import longest_text_column

    if not _has_same_rows(frame, findings):
        return None
    completions = [name for name in frame.columns if f"{name}_safety" in frame.columns]
    metadata_prefixes = tuple(f"{name}_" for name in completions)
    metadata = [name for name in frame.columns if str(name).startswith(metadata_prefixes)]
    column: Hashable | None = longest_text_column(frame, exclude=[*completions, *metadata, into], average=True)
    return column


def _has_same_rows(frame: pd.DataFrame, findings: Findings) -> bool:
    """Whether the findings have the rows of the frame."""
    return len(findings.labels) == len(frame) and findings.labels is frame.index


def _read_texts(
    frame: pd.DataFrame, findings: Findings, name: Hashable, rows: Any, limit: int, escape: bool
) -> list[Any]:
    import pandas as pd

    if name not in frame.columns:
        available = ", ".join(map(str, frame.columns))[:200] or "no columns"
        raise InputError(f"There is no column {name!r}; the frame has {available}.")
    if not _has_same_rows(frame, findings):
        raise InputError("text= needs the frame with the completions: a table of findings has no texts.")
    cells = [None if pd.api.types.is_scalar(c) and pd.isna(c) else plain_text(c, limit) for c in frame[name].iloc[rows]]
    return [html.escape(cell) if escape and cell is not None else cell for cell in cells]


def _describe_reasons(findings: Findings, escape: bool) -> tuple[dict[int, str], dict[int, str]]:
    """For each row the sources that were filtered, and a description of the reasons."""
    withheld: dict[int, list[str]] = {}
    why: dict[int, dict[str, list[str]]] = {}
    for index in np.flatnonzero(findings.filtered).tolist():
        row, source = int(findings.row[index]), SOURCES[findings.source[index]]
        category = plain_text(findings.categories[findings.category[index]].replace("_", " "), 60)
        level = int(findings.level[index])
        if category == ALL_CATEGORIES:
            reason = "no reason given"
        else:
            reason = category if level == DETECTED else f"{category} {LEVEL_NAMES[level]}"
        withheld.setdefault(row, [])
        if source not in withheld[row]:
            withheld[row].append(source)
        why.setdefault(row, {}).setdefault(source, []).append(html.escape(reason) if escape else reason)
    descriptions = {
        row: "; ".join(f"{source}: {', '.join(reasons)}" for source, reasons in by_source.items())
        for row, by_source in why.items()
    }
    return {row: " and ".join(sources) for row, sources in withheld.items()}, descriptions

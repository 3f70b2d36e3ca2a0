"""The rows of which the safety filter withheld something, as a table to read."""

from __future__ import annotations

import html
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.errors import InputError
from skytells_nb.plots import theme as look
from skytells_nb.plots.safety_charts.findings import SOURCES, WHOLE_VERDICT, Findings, read_findings
from skytells_nb.plots.safety_charts.severity import DETECTED, WORDS

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
    """Make a table of the rows of which something was withheld: which, of what text, and why.

    Parameters
    ----------
    frame : pandas.DataFrame
        A frame with completions, or a table of findings as ``frame.skytells.safety()`` returns it.
    into : hashable, optional
        The column of completions, where the frame has several.
    text : hashable, optional
        The column of texts to show; by default the one with the longest texts beside the completions.
    characters : int, default 200
        Length that texts are cut to; they are on one line, without control characters.
    escape : bool, default False
        Whether to escape texts for HTML. pandas does so where it shows a frame; its ``.style`` does not.

    Returns
    -------
    pandas.DataFrame
        One line for each row, in the frame's order: ``row`` (index label), ``text`` (only for a frame), ``withheld``
        ("prompt", "completion" or both), ``severity`` (the worst of the row; sorts by level) and ``why`` in words.

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
        raise InputError(f"characters is at least 1, not {characters!r}.")
    found = read_findings(frame, into)
    places = np.flatnonzero(found.row_filtered)
    named = text if text is not None else _longest(frame, found, into)
    columns: dict[str, Any] = {"row": found.labels[places]}
    if named is not None:
        columns["text"] = _texts(frame, found, named, places, characters, escape)
    withheld, why = _reasons(found, escape)
    levels = pd.Categorical([WORDS[at] for at in found.row_level[places]], categories=list(WORDS), ordered=True)
    columns.update(
        withheld=[withheld[at] for at in places.tolist()], severity=levels, why=[why[at] for at in places.tolist()]
    )
    return pd.DataFrame(columns)


def _longest(frame: pd.DataFrame, found: Findings, into: Hashable | None) -> Hashable | None:
    """The column with the longest texts that is no answer's and nothing about one."""
    if not _is_beside(frame, found):
        return None
    names = [name for name in frame.columns if f"{name}_safety" not in frame.columns and name != into]
    answers = [f"{name}_" for name in frame.columns if f"{name}_safety" in frame.columns]
    lengths: dict[Hashable, float] = {}
    for name in names:
        head = frame[name].head(50).dropna().tolist()
        if head and all(isinstance(cell, str) for cell in head) and not str(name).startswith(tuple(answers) or "\0"):
            lengths[name] = sum(map(len, head)) / len(head)
    return max(lengths, key=lambda name: lengths[name], default=None)


def _is_beside(frame: pd.DataFrame, found: Findings) -> bool:
    """Whether the rows of the findings are the rows of the frame."""
    return len(found.labels) == len(frame) and found.labels is frame.index


def _texts(frame: pd.DataFrame, found: Findings, name: Hashable, places: Any, limit: int, escape: bool) -> list[Any]:
    import pandas as pd

    if name not in frame.columns:
        have = ", ".join(map(str, frame.columns))[:200] or "no columns"
        raise InputError(f"There is no column {name!r}; the frame has {have}.")
    if not _is_beside(frame, found):
        raise InputError("text= needs the frame with the completions; a table of findings has no texts.")
    cells = [
        None if pd.api.types.is_scalar(c) and pd.isna(c) else look.plain(c, limit) for c in frame[name].iloc[places]
    ]
    return [html.escape(cell) if escape and cell is not None else cell for cell in cells]


def _reasons(found: Findings, escape: bool) -> tuple[dict[int, str], dict[int, str]]:
    """For each row the sides that were withheld, and in words for which categories."""
    withheld: dict[int, list[str]] = {}
    why: dict[int, dict[str, list[str]]] = {}
    for at in np.flatnonzero(found.filtered).tolist():
        row, side = int(found.row[at]), SOURCES[found.source[at]]
        named = look.plain(found.categories[found.category[at]].replace("_", " "), 60)
        level = int(found.level[at])
        said = (
            "no reason given" if named == WHOLE_VERDICT else named if level == DETECTED else f"{named} {WORDS[level]}"
        )
        withheld.setdefault(row, [])
        if side not in withheld[row]:
            withheld[row].append(side)
        why.setdefault(row, {}).setdefault(side, []).append(html.escape(said) if escape else said)
    words = {row: "; ".join(f"{side}: {', '.join(said)}" for side, said in sides.items()) for row, sides in why.items()}
    return {row: " and ".join(sides) for row, sides in withheld.items()}, words

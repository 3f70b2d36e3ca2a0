"""Which rows count as flagged, which are not known, and what else is known of them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.findings import Findings, Source, is_tidy, read_findings
from skytells_nb.plots.levels import HIGH, MEDIUM, OTHER

if TYPE_CHECKING:
    import pandas as pd

Flag = Literal["low", "medium", "high", "filtered"]
FROM = {"low": OTHER, "medium": MEDIUM, "high": HIGH}


@dataclass(frozen=True)
class Flagged:
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
) -> Flagged:
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
    return Flagged(
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

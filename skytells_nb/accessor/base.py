"""What every door on a frame can do: check names, add columns, remember the call."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from skytells_nb.accessor.runs import remember
from skytells_nb.accessor.values import Answers, details_frame
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError


class FrameDoor:
    """A frame, and new frames made from it."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def _full(self, name: Any) -> Any:
        """The name as a whole key of these columns, which may have several levels."""
        levels = self._frame.columns.nlevels
        return name if levels == 1 or isinstance(name, tuple) else (name, *[""] * (levels - 1))

    def _check_into(self, into: Any, *sources: Any) -> None:
        if not isinstance(into, Hashable):
            raise InputError(f"into is the name of a column; found {into!r}.")
        if any(into == source for source in sources):
            raise InputError(f"into={into!r} would replace the column it is made from; choose another name.")

    def _finish(self, into: Any, made: Mapping[Any, pd.Series[Any]], answers: Answers, details: bool) -> pd.DataFrame:
        extra = details_frame(into, answers) if details else {}
        return self._with({**made, **extra}, answers.report, {into: answers.rows})

    def _with(
        self, made: Mapping[Any, pd.Series[Any]], report: Report, answers: Mapping[Any, Any] | None = None
    ) -> pd.DataFrame:
        result = self._frame.copy(deep=False)
        for name, series in made.items():
            result[self._full(name)] = series.array
        remember(result, report, answers)
        return result

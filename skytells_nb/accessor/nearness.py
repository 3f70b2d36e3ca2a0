"""What the verbs that compare embeddings share: their runs, and columns of some rows."""

from __future__ import annotations

from typing import Any

import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import FrameDoor
from skytells_nb.accessor.runs import Call, RunOptions
from skytells_nb.accessor.vectors import Places
from skytells_nb.accessor.verb_runs import VerbRuns
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.events import Listener


class NearnessDoor(FrameDoor):
    """A frame whose rows are compared by what they mean."""

    def _runs(self, operation: str, on_error: OnError, progress: bool | Listener, options: RunOptions) -> VerbRuns:
        frame = self._frame
        return VerbRuns(operation, len(frame), lambda: Call.open(on_error, progress, options, asker=frame))

    def _placed(self, values: NDArray[Any], rows: Places, dtype: Any) -> pd.Series[Any]:
        """A column with these values in these rows, null elsewhere."""
        made: pd.Series[Any] = pd.Series(values, index=rows, dtype=dtype).reindex(range(len(self._frame)))
        return made

    @staticmethod
    def _beside(into: Any, suffix: str) -> Any:
        """The name of a column that belongs to ``into``."""
        return (f"{into[0]}_{suffix}", *into[1:]) if isinstance(into, tuple) else f"{into}_{suffix}"

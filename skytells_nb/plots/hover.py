"""What a point says when it is pointed at: its row and the named columns, escaped, wrapped and cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots import theme as look

if TYPE_CHECKING:
    import pandas as pd

LABEL_CHARACTERS = 30
TEXT_CHARACTERS = 100
CUT_ABOVE_POINTS = 10_000
SEEN_FOR_LENGTH = 50


def hover_texts(view: pd.DataFrame, shown: list[str]) -> NDArray[Any]:
    """For each row its label and the named columns."""
    # Hover text, not points, makes a figure large.
    limit = TEXT_CHARACTERS if len(view) <= CUT_ABOVE_POINTS else TEXT_CHARACTERS // 2
    texts = np.array([f"row {look.escaped(label, LABEL_CHARACTERS)}" for label in view.index], dtype=object)
    for name in shown:
        head = f"{look.escaped(name, LABEL_CHARACTERS)}: " if len(shown) > 1 else ""
        for at, cell in enumerate(view[name].tolist()):
            texts[at] += f"<br>{head}{'null' if _is_null(cell) else look.wrapped(cell, limit=limit)}"
    return texts


def longest_text(frame: pd.DataFrame, without: set[str | None]) -> list[str]:
    """The column of the longest texts, or none."""
    lengths = {name: _text_length(frame[name]) for name in frame.columns if name not in without}
    longest = max(lengths, key=lambda name: lengths[name], default=None)
    return [longest] if longest is not None and lengths[longest] else []


def _text_length(values: Any) -> int:
    """Characters in the first cells of a column of text, 0 for a column of something else."""
    import pandas as pd

    if not isinstance(values, pd.Series) or pd.api.types.is_numeric_dtype(values.dtype):
        return 0
    head = values.head(SEEN_FOR_LENGTH).dropna().tolist()
    return sum(map(len, head)) if all(isinstance(value, str) for value in head) else 0


def _is_null(value: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))

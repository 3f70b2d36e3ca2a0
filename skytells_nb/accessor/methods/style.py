"""A frame with vectors and model text as a table that can be read."""

from __future__ import annotations

from collections.abc import Hashable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import FrameMethods
from skytells_nb.errors import MissingExtraError

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

SHOWN = 3
"""Numbers of a vector that a cell shows."""


class StyleMethod(FrameMethods):
    """A frame that can be looked at."""

    def style(self) -> Styler:
        """The frame as a pandas ``Styler`` whose cells can be read: what ``frame.style`` would be, for these columns.

        A vector is its first numbers and its length, ``[0.12, -0.53, 0.64, … 512]``; nulls are a dash; texts keep their
        lines, stand to the left, and are escaped, while ``frame.style`` takes what a model wrote as HTML. Style it
        further with all that a Styler has (``.background_gradient``, ``.hide``). Sends nothing; take ``head()`` of a
        large frame first. Raises ValueError, as pandas does, where index or columns are not unique, and
        MissingExtraError without jinja2.

        >>> df = pd.DataFrame({"text": ["<b>"], "embedding": [[0.125, 2.0, 3.0, 4.0]]})
        >>> html = df.skytells.style().to_html()
        >>> "[0.125, 2, 3, … 4]" in html, "&lt;b&gt;" in html
        (True, True)
        """
        if find_spec("jinja2") is None:
            raise MissingExtraError("A styled table", "notebook")
        frame = self._frame
        words: list[Hashable] = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
        styler = frame.style.format(_shown, escape="html", na_rep="—").format_index(escape="html", axis=0)
        styler = styler.format_index(escape="html", axis=1)
        styler = styler.set_properties(subset=None, **{"vertical-align": "top"})
        wrapped = {"text-align": "left", "white-space": "pre-wrap", "max-width": "40em"}
        return styler.set_properties(subset=words, **wrapped) if words else styler


def _shown(cell: Any) -> str:
    """A cell in words."""
    if isinstance(cell, np.ndarray | list) and len(cell) and all(_is_number(number) for number in cell[:SHOWN]):
        first = ", ".join(f"{number:.3g}" for number in cell[:SHOWN])
        return f"[{first}, … {len(cell):,}]" if len(cell) > SHOWN else f"[{first}]"
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float | np.number) and not isinstance(given, bool)

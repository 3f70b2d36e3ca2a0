"""``style``: a frame with vectors and texts of a model as a readable table."""

from __future__ import annotations

from collections.abc import Hashable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import FrameMethods, check_count
from skytells_nb.errors import MissingExtraError

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

SHOWN = 3
"""Numbers of a vector that a cell shows."""
MAX_ROWS = 60
"""As many as pandas shows."""


class StyleMethod(FrameMethods):
    """The ``style`` method."""

    def style(self, rows: int | None = MAX_ROWS) -> Styler:
        """Return the frame as a pandas ``Styler`` with readable vectors and texts; nothing is sent.

        A vector is its first numbers and its length, ``[0.12, -0.53, 0.64, … 512]``; missing values are a dash; texts
        keep their lines, are aligned left, and are escaped, while ``frame.style`` treats what a model wrote as HTML.

        Parameters
        ----------
        rows : int, optional
            Most rows to show. A longer frame is shown by its first and last ones, with the number of rows below;
            ``None`` shows every row, which for 10,000 rows are megabytes of HTML.

        Returns
        -------
        pandas.io.formats.style.Styler
            A Styler for further styling (``.background_gradient``, ``.hide``).

        Raises
        ------
        InputError
            If ``rows`` is neither a positive whole number nor ``None``.
        ValueError
            If index or columns are not unique, as in pandas.
        MissingExtraError
            If jinja2 is not installed.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["<b>"], "embedding": [[0.125, 2.0, 3.0, 4.0]]})
        >>> html = df.skytells.style().to_html()
        >>> "[0.125, 2, 3, … 4]" in html, "&lt;b&gt;" in html
        (True, True)
        """
        if find_spec("jinja2") is None:
            raise MissingExtraError("A styled table", "notebook")
        frame, total = self._frame, len(self._frame)
        if rows is not None and total > check_count("rows", rows):
            last = rows // 2
            frame = pd.concat([frame.iloc[: rows - last], frame.iloc[total - last :]])
        texts: list[Hashable] = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
        styler = frame.style.format(_format, escape="html", na_rep="—").format_index(escape="html", axis=0)
        styler = styler.format_index(escape="html", axis=1)
        styler = styler.set_properties(subset=None, **{"vertical-align": "top"})
        if len(frame) < total:
            styler = styler.set_caption(
                f"{total:,} rows, {len(frame.columns):,} columns; {len(frame):,} rows are shown"
            )
            styler = styler.set_table_styles(
                [{"selector": "caption", "props": "caption-side: bottom"}], overwrite=False
            )
        wrapped = {"text-align": "left", "white-space": "pre-wrap", "max-width": "40em"}
        return styler.set_properties(subset=texts, **wrapped) if texts else styler


def _format(cell: Any) -> str:
    """Return the text of a cell."""
    if isinstance(cell, np.ndarray | list) and len(cell) and all(_is_number(number) for number in cell[:SHOWN]):
        first = ", ".join(f"{number:.3g}" for number in cell[:SHOWN])
        return f"[{first}, … {len(cell):,}]" if len(cell) > SHOWN else f"[{first}]"
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float | np.number) and not isinstance(given, bool)

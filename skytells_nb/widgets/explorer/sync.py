"""Synchronize an explorer with its page and with the outputs saved in the notebook."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.vectors.arrays import Indices
from skytells_nb.widgets.display import Mode, cell_publish
from skytells_nb.widgets.explorer.coloring import Coloring, color_points
from skytells_nb.widgets.explorer.questions import Name
from skytells_nb.widgets.explorer.rows import Rows
from skytells_nb.widgets.explorer.snapshot import Snapshot
from skytells_nb.widgets.explorer.table import TableModel
from skytells_nb.widgets.explorer.view import ExplorerView

if TYPE_CHECKING:
    from skytells_nb.widgets.explorer.view import ExplorerView


class LinkedViews(traitlets.HasTraits):
    """Linked views of the rows: map, table, colors and saved outputs, updated together.

    The explorer sets the attributes annotated here; ``_lock`` is held while they change.
    """

    _rows: Rows
    _view: ExplorerView
    _table: TableModel
    _lock: threading.RLock
    _points: NDArray[np.uint16]
    _coloring: Coloring
    _color_columns: list[Any]
    _groups: list[tuple[Name, Indices]]
    _display_ids: tuple[str, str]
    _display_mode: Mode | None

    def freeze(self) -> Snapshot:
        """Return a snapshot of the explorer: an image and a table that need no kernel and no widget.

        Returns
        -------
        Snapshot
            With ``.png``, ``.html()`` and ``.text``; as the last line of a cell it shows itself.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"word": ["cat", "dog"], "embedding": [[1.0, 0.0], [0.0, 1.0]]})
        >>> print(Explorer(frame, method="pca", title="Words").freeze())
        Words: 2 rows · PCA of unit vectors, 100% of the variance
        2 rows:
        row | word
        0 | cat
        1 | dog
        """
        emphasized = self._table.emphasized
        points = None if emphasized is None else np.isin(self._rows.plotted, emphasized)
        names = tuple(f"{name} ({len(at):,})" for name, at in self._groups)
        return Snapshot(
            str(self._view.title),
            str(self._view.caption),
            self._points,
            self._coloring,
            points,
            self._table.page(0),
            names,
            tuple(f"{topic['name']} ({topic['count']:,})" for topic in self._view.topics),
        )

    def _hidden_points(self) -> NDArray[np.bool_] | None:
        """Return a mask of the points that the legend has switched off, ``None`` if there are none."""
        return np.isin(self._coloring.codes, self._view.hidden) if self._view.hidden else None

    def _update_colors(self, change: object) -> None:
        at = int(self._view.color)
        column = None if at < 0 else self._rows.frame[self._color_columns[at]].iloc[self._rows.plotted]
        with self._lock:
            self._coloring = color_points(column, len(self._rows.plotted))
            with self._view.hold_sync():
                self._view.hidden = []
                self._view.palette = self._coloring.palette
                self._view.legend = self._coloring.legend
            self._view.send({"kind": "codes"}, [self._coloring.codes.tobytes()])
            self._publish_static()

    def _filter(self, change: object) -> None:
        words = str(self._view.search).strip()
        with self._lock:
            self._table.filter(words, self._rows.containing(words) if words else None)
            self._update()

    def _update_page(self, change: object) -> None:
        self._view.table = self._table.page(int(self._view.page))

    def _update(self) -> None:
        """Update the page and the saved outputs."""
        self._view.page = 0
        self._update_page(None)
        self._send_marks()
        self._publish_static()

    def _send_all(self) -> None:
        self._view.send({"kind": "points"}, [self._points.tobytes(), self._coloring.codes.tobytes()])
        self._send_marks()

    def _send_marks(self) -> None:
        """Send which points are selected, highlighted by the question (nearest first), and match the search."""
        table = self._table
        marks = [self._point_numbers(table.selected), self._point_numbers(table.nearest)]
        filtered = table.matching is not None
        marks += [self._point_numbers(table.matching)] if table.matching is not None else []
        self._view.send({"kind": "marks", "filtered": filtered}, [numbers.tobytes() for numbers in marks])

    def _point_numbers(self, positions: Indices) -> NDArray[np.uint32]:
        """Return the numbers of the points at these rows, in their order, without rows that have no point."""
        points = self._rows.point_numbers(positions)
        return points[points >= 0].astype("<u4")

    def _send_hovered(self, point: int) -> None:
        if 0 <= point < len(self._rows.plotted):
            position = self._rows.plotted[point : point + 1]
            table = self._table.rows_at(position)
            self._view.send({"kind": "hovered", "point": point, "columns": table["columns"], "row": table["rows"][0]})

    def _publish_static(self) -> None:
        if self._display_mode != "live":
            return
        bundles = self._static_bundles()
        for bundle, display_id in zip(bundles, self._display_ids, strict=True):
            cell_publish()(bundle, {}, display_id=display_id, update=True)
        # After a reload the page no longer finds the outputs by their display ids.
        self._view.send({"kind": "saved", "image": bundles[0], "table": bundles[1]})

    def _static_bundles(self) -> tuple[dict[str, str], dict[str, str]]:
        return self.freeze().mime_bundles(str(self._view.saved_class))


NO_POSITIONS: Indices = np.empty(0, dtype=np.int64)


class PositionsTrait(traitlets.TraitType[Indices, Any]):
    """Positions of rows, compared as arrays, so that setting equal positions is not a change."""

    def validate(self, explorer: Any, value: Any) -> Indices:
        return explorer._rows.positions(value)  # type: ignore[no-any-return]

    def set(self, explorer: Any, value: Any) -> None:
        name = str(self.name)
        validated = self.validate(explorer, value)
        before = explorer._trait_values.get(name, NO_POSITIONS)
        if not np.array_equal(before, validated):
            validated.flags.writeable = False
            explorer._trait_values[name] = validated
            explorer._notify_trait(name, before, validated)


def run_in_background(view: ExplorerView, what: str, work: Callable[[], object]) -> None:
    """Run ``work`` in a thread: a kernel that waits for the service cannot handle messages of the page.

    ``view.busy`` is set to ``what`` while it runs, and ``view.status`` to the error if it fails. Raises InputError
    while another request runs.
    """
    if view.busy:
        raise InputError("Another request is in progress; wait until it has finished.")
    view.busy = what

    def run() -> None:
        try:
            work()
        except Exception as problem:  # shown on the page, which has no cell that could fail
            view.status = f"{type(problem).__name__}: {problem}"
        finally:
            view.busy = ""

    # The copied context tells the kernel which cell the thread's output belongs to.
    context = contextvars.copy_context()
    try:
        threading.Thread(target=context.run, args=(run,), name="skytells-explorer", daemon=True).start()
    except RuntimeError:
        # Where no thread can start, as in a browser, the kernel is busy meanwhile.
        run()

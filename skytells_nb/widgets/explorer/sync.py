"""What an explorer shows, kept up to date on the page and in the notebook."""

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
from skytells_nb.widgets.explorer.coloring import Coloring, coloring
from skytells_nb.widgets.explorer.questions import Name
from skytells_nb.widgets.explorer.rows import Rows
from skytells_nb.widgets.explorer.snapshot import Snapshot
from skytells_nb.widgets.explorer.table import TableModel
from skytells_nb.widgets.explorer.view import ExplorerView

if TYPE_CHECKING:
    from skytells_nb.widgets.explorer.view import ExplorerView


class LinkedViews(traitlets.HasTraits):
    """The half of an explorer that faces the page: rows, what is listed of them, colours, and who is told of a change.

    The explorer sets what is annotated here; ``_lock`` is held while any of it changes.
    """

    _rows: Rows
    _view: ExplorerView
    _listing: TableModel
    _lock: threading.RLock
    _points: NDArray[np.uint16]
    _coloring: Coloring
    _named_columns: list[Any]
    _groups: list[tuple[Name, Indices]]
    _display_ids: tuple[str, str]
    _shown: Mode | None

    def freeze(self) -> Snapshot:
        """Return the explorer as it stands: an image and a table that need no kernel and no widget.

        Returns
        -------
        Saved
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
        bright = self._listing.bright
        drawn = None if bright is None else np.isin(self._rows.drawn, bright)
        names = tuple(f"{name} ({len(at):,})" for name, at in self._groups)
        return Snapshot(
            str(self._view.title),
            str(self._view.caption),
            self._points,
            self._coloring,
            drawn,
            self._listing.page(0),
            names,
        )

    def _hidden(self) -> NDArray[np.bool_] | None:
        """Which points the legend has switched off, ``None`` for none at all."""
        return np.isin(self._coloring.codes, self._view.hidden) if self._view.hidden else None

    def _recolor(self, change: object) -> None:
        at = int(self._view.color)
        column = None if at < 0 else self._rows.frame[self._named_columns[at]].iloc[self._rows.drawn]
        with self._lock:
            self._coloring = coloring(column, len(self._rows.drawn))
            with self._view.hold_sync():
                self._view.hidden = []
                self._view.palette = self._coloring.palette
                self._view.legend = self._coloring.legend
            self._view.send({"kind": "codes"}, [self._coloring.codes.tobytes()])
            self._publish_saved()

    def _filter(self, change: object) -> None:
        words = str(self._view.search).strip()
        with self._lock:
            self._listing.filter(words, self._rows.matching(words) if words else None)
            self._show()

    def _turn(self, change: object) -> None:
        self._view.table = self._listing.page(int(self._view.page))

    def _show(self) -> None:
        """Bring the page and the saved form up to date."""
        self._view.page = 0
        self._turn(None)
        self._send_marks()
        self._publish_saved()

    def _send_all(self) -> None:
        self._view.send({"kind": "points"}, [self._points.tobytes(), self._coloring.codes.tobytes()])
        self._send_marks()

    def _send_marks(self) -> None:
        """Which points are selected, lit by the question (nearest first), and held by the search."""
        listing = self._listing
        marks = [self._numbers(listing.selected), self._numbers(listing.nearest)]
        filtered = listing.matching is not None
        marks += [self._numbers(listing.matching)] if listing.matching is not None else []
        self._view.send({"kind": "marks", "filtered": filtered}, [numbers.tobytes() for numbers in marks])

    def _numbers(self, positions: Indices) -> NDArray[np.uint32]:
        """Numbers of the points at these rows, in their order; rows without a point left out."""
        points = self._rows.points(positions)
        return points[points >= 0].astype("<u4")

    def _hovered(self, point: int) -> None:
        if 0 <= point < len(self._rows.drawn):
            position = self._rows.drawn[point : point + 1]
            table = self._listing.of(position)
            self._view.send({"kind": "hovered", "point": point, "columns": table["columns"], "row": table["rows"][0]})

    def _publish_saved(self) -> None:
        if self._shown != "live":
            return
        bundles = self._saved()
        for bundle, display_id in zip(bundles, self._display_ids, strict=True):
            cell_publish()(bundle, {}, display_id=display_id, update=True)
        # A page that was reloaded does not find the outputs by their display ids any more.
        self._view.send({"kind": "saved", "picture": bundles[0], "table": bundles[1]})

    def _saved(self) -> tuple[dict[str, str], dict[str, str]]:
        return self.freeze().bundles(str(self._view.saved_class))


NONE: Indices = np.empty(0, dtype=np.int64)


class PositionsTrait(traitlets.TraitType[Indices, Any]):
    """Positions of rows. The same ones again are no change, which numpy's comparison could not tell."""

    def validate(self, explorer: Any, value: Any) -> Indices:
        return explorer._rows.positions(value)  # type: ignore[no-any-return]

    def set(self, explorer: Any, value: Any) -> None:
        name = str(self.name)
        found = self.validate(explorer, value)
        before = explorer._trait_values.get(name, NONE)
        if not np.array_equal(before, found):
            found.flags.writeable = False
            explorer._trait_values[name] = found
            explorer._notify_trait(name, before, found)


def run_in_background(view: ExplorerView, what: str, work: Callable[[], object]) -> None:
    """Do it in a thread: a kernel that waits for the service hears neither the page nor the user.

    ``view.busy`` says what is under way, ``view.status`` why it failed. Raises InputError while something else is.
    """
    if view.busy:
        raise InputError("Something is under way already; wait for it.")
    view.busy = what

    def run() -> None:
        try:
            work()
        except Exception as problem:  # it belongs on the page, which has no cell to fail
            view.status = f"{type(problem).__name__}: {problem}"
        finally:
            view.busy = ""

    # The copied context tells the kernel which cell the thread's output belongs to.
    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="skytells-explorer", daemon=True).start()

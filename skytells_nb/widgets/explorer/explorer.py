"""A map of a frame's rows beside a table of them: select, colour, ask, name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import traitlets

from skytells_nb.errors import InputError, MissingExtraError
from skytells_nb.plots.maps.projection import Method
from skytells_nb.vectors.arrays import Indices
from skytells_nb.widgets.display import Mode, cell_publish, display_mode, new_display_id
from skytells_nb.widgets.explorer.questions import Name, Questions
from skytells_nb.widgets.explorer.rows import Rows, column_of, is_plain, layout_points
from skytells_nb.widgets.explorer.sync import NONE, LinkedViews, PositionsTrait
from skytells_nb.widgets.explorer.table import TableModel

if TYPE_CHECKING:
    from skytells_nb.plots.theme import Figure, Theme
    from skytells_nb.session import Session


class Explorer(LinkedViews):
    """A map of the rows of a frame by meaning, linked to a table: look around, select, color, ask, name.

    On the page: drag to move, wheel to zoom, Shift+drag (or Lasso, Box) to select, click for one row, Ctrl to add;
    arrows, + and − and 0 do the same by keyboard, Ctrl+A selects all shown, Escape nothing. ``selection`` is what is
    selected, a part of the frame in its order; ``selected`` are its positions, and ``observe(function, "selected")``
    calls for each change.

    Making it sends nothing. Answers are stored in the session's cache, so that nothing is paid for twice. The page
    shows it while the kernel lives; beside it the cell stores an image of the map and a table, for readers without a
    kernel. It is a context manager that closes itself at the end.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows.
    embedding : hashable, default "embedding"
        The column of vectors; rows without one have no point.
    text : hashable, optional
        The column of texts; by default the one with the longest.
    color : hashable, optional
        The column that colors the points at first.
    coordinates : tuple of two hashable, optional
        Two columns with the places of the points, instead of a layout.
    method : {"umap", "pca"}, default "umap"
        The layout.
    session : Session, optional
        The session; by default the default session.
    model : str, optional
        The model that embeds questions; by default the session's embedding model.
    dimensions : int, optional
        Length of a question's vector, where ``embedding`` was made with it.
    chat_model : str, optional
        The model that names groups; by default the session's model.
    title : str, default "Explorer"
        Title of the view.

    Raises
    ------
    InputError
        If a column does not exist or does not hold what is needed.
    MissingExtraError
        If the extra ``notebook`` is not installed, or ``plots`` for UMAP.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"word": ["cat", "dog", "sum"], "embedding": [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]})
    >>> explorer = Explorer(frame, method="pca")
    >>> explorer.selected = [0, 2]
    >>> explorer.selection["word"].tolist()
    ['cat', 'sum']
    """

    selected = PositionsTrait(
        NONE, help="Positions of the selected rows, int64, sorted; settable as positions or as a mask."
    )

    def __init__(
        self,
        frame: pd.DataFrame,
        embedding: Any = "embedding",
        *,
        text: Any = None,
        color: Any = None,
        coordinates: tuple[Any, Any] | None = None,
        method: Method = "umap",
        session: Session | None = None,
        model: str | None = None,
        dimensions: int | None = None,
        chat_model: str | None = None,
        title: str = "Explorer",
    ) -> None:
        for module in ("anywidget", "markdown_it", "nh3"):
            if find_spec(module) is None:
                raise MissingExtraError(f"The explorer ({module} is missing)", "notebook")
        from skytells_nb.widgets.explorer.view import ExplorerView

        self._rows = rows = Rows.read(frame, embedding, text)
        self._named_columns = [n for n in rows.frame.columns if n != embedding and is_plain(rows.frame[n])]
        self._asking = Questions(session, model, dimensions, chat_model)
        self._places: tuple[tuple[Any, Any] | None, Method] = (coordinates, method)
        self._lock = threading.RLock()
        self._points, how = layout_points(rows, coordinates, method)
        self._listing = TableModel(rows)
        self._names = pd.Series(None, index=rows.frame.index, dtype="string", name="name")
        self._groups: list[tuple[Name, Indices]] = []
        self._display_ids = (new_display_id(), new_display_id())
        self._shown: Mode | None = None
        self._closed = False
        without = len(rows) - len(rows.drawn)
        left_out = f" · {without:,} without an embedding have no point" if without else ""
        self._view = ExplorerView(
            title=title,
            caption=f"{len(rows):,} row{'' if len(rows) == 1 else 's'} · {how}{left_out}",
            columns=[{"number": at, "label": str(name)} for at, name in enumerate(self._named_columns)],
            searchable=rows.text is not None,
            saved_class=f"skytells-saved-{self._display_ids[1]}",
        )
        super().__init__()
        self._view.observe(self._recolor, "color")
        self._recolor(None)
        self.color = color
        self._show()
        self._view.on_msg(self._received)
        self._view.observe(self._filter, "search")
        self._view.observe(self._turn, "page")

    @property
    def selection(self) -> pd.DataFrame:
        """The selected rows of the frame, in its order. Set it to a part of the frame, its labels or a mask."""
        chosen: pd.DataFrame = self._rows.frame.iloc[self.selected]
        return chosen

    @selection.setter
    def selection(self, wanted: Any) -> None:
        self.selected = wanted

    @property
    def color(self) -> Any:
        """The column that colors the points, ``None`` for one color."""
        at = int(self._view.color)
        return None if at < 0 else self._named_columns[at]

    @color.setter
    def color(self, name: Any) -> None:
        if name is None:
            self._view.color = -1
        else:
            column_of(self._rows.frame, name)
            if name not in self._named_columns:
                raise InputError(f"Column {name!r} holds lists or vectors; colour by texts, numbers or dates.")
            self._view.color = self._named_columns.index(name)

    @property
    def nearest(self) -> pd.DataFrame:
        """The rows that the last question found, nearest first, with a column ``score`` (cosine similarity)."""
        listing = self._listing
        found = self._rows.frame.iloc[listing.nearest].copy()
        found["score"] = listing.scores
        return found

    @property
    def names(self) -> pd.Series[Any]:
        """The name of each row that was named, missing elsewhere; of two names the later one. Index of the frame."""
        return self._names.copy()

    @property
    def cost(self) -> float | None:
        """US dollars spent on questions and names of this explorer; ``None`` if a price was not known."""
        return self._asking.cost

    @property
    def widget(self) -> Any:
        """The widget itself, to be put into a layout of other widgets."""
        return self._view

    def ask(self, question: str, *, k: int = 20) -> pd.DataFrame:
        """Highlight the rows nearest to a question in meaning, and return them.

        Parameters
        ----------
        question : str
            The question, which is embedded.
        k : int, default 20
            Number of rows.

        Returns
        -------
        pandas.DataFrame
            The rows, nearest first, with a column ``score`` (cosine similarity).

        Raises
        ------
        InputError
            If the question is empty, ``k`` is below 1, the explorer is closed, or the model that embeds the question is
            not the column's: then their dimensions differ.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"word": ["red cat", "tax form"]}).skytells.embed("word", progress=False)
        >>> explorer = Explorer(frame, method="pca")
        >>> explorer.ask("red cat", k=1)["word"].tolist()
        ['red cat']
        """
        if not isinstance(question, str) or not question.strip():
            raise InputError("There is no question; write some words.")
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise InputError(f"k is a whole number, 1 or more; found {k!r}.")
        self._check_open()
        vector, used = self._asking.vector(question)
        found, scores = self._rows.nearest(vector, k)
        with self._lock:
            self._listing.highlight(question, found, scores)
            self._view.question = question
            self._view.status = f"{len(found):,} nearest rows · {used}"
            self._show()
        return self.nearest

    def name(self, positions: Any = None) -> Name:
        """Name the selected rows, by the chat model, from the texts nearest to their center.

        At most 20 texts are sent, each cut at 300 characters. The name is stored in ``names`` and shown on the map; it
        is the model's, so it is untrusted text.

        Parameters
        ----------
        positions : array_like, optional
            Positions of rows, labels or a mask, in place of the selection.

        Returns
        -------
        Name
            The name, with ``.text`` and what it took.

        Raises
        ------
        InputError
            If nothing is selected, or the explorer is closed.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"word": ["red cat", "tax form"]}).skytells.embed("word", progress=False)
        >>> explorer = Explorer(frame, method="pca")
        >>> explorer.name([0]).text == explorer.names[0]
        True
        """
        at: Indices = self.selected if positions is None else self._rows.positions(positions)
        if not len(at):
            raise InputError("Nothing is selected, so there is nothing to name; draw around some points first.")
        self._check_open()
        found = self._asking.name(self._rows.representatives(at), len(at))
        with self._lock:
            self._names.iloc[at] = found.text
            self._groups = [*(g for g in self._groups if g[0].text != found.text), (found, at)]
            self._view.groups = [self._group(*group) for group in self._groups]
            self._view.status = f"Named {len(at):,} rows “{found}” · {found.facts}"
            self._publish_saved()
        return found

    def search(self, words: str) -> pd.DataFrame:
        """Filter by words in the text, case ignored, and return the rows that contain them.

        Parameters
        ----------
        words : str
            The words; empty shows all rows.

        Returns
        -------
        pandas.DataFrame
            The rows, in the frame's order.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"word": ["cat", "dog"], "embedding": [[1.0, 0.0], [0.0, 1.0]]}, index=["a", "b"])
        >>> Explorer(frame, method="pca").search("CAT").index.tolist()
        ['a']
        """
        self._view.search = words
        found = self._listing.matching
        return self._rows.frame.iloc[np.arange(len(self._rows)) if found is None else found]

    def select_shown(self) -> pd.DataFrame:
        """Select the rows that question, search and legend leave, the later of question and search, and return them.

        The page does it with a button and with Ctrl+A. With a category switched off, rows without a point stay out.

        Returns
        -------
        pandas.DataFrame
            The selection.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"word": ["cat", "dog", "cats"], "embedding": [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]]})
        >>> explorer = Explorer(frame, method="pca")
        >>> len(explorer.select_shown()), len(explorer.search("CAT")), len(explorer.select_shown())
        (3, 2, 2)
        """
        with self._lock:
            shown, hidden = np.sort(self._listing.shown), self._hidden()
            if hidden is not None:
                shown = shown[np.isin(shown, self._rows.drawn[~hidden])]
            self.selected = shown
        return self.selection

    def figure(self, *, theme: Theme | None = None) -> Figure:
        """Return the view as a plain plotly figure: colors, names, what is highlighted.

        ``plots.semantic_map`` draws it. Rows that are not selected or highlighted are pale where others are, and
        categories that the legend has switched off are off. Categories beyond the twelve most frequent, gray on the
        page, have marks of their own up to twenty. Above 100,000 points a sample is drawn.

        Parameters
        ----------
        theme : {"light", "dark"}, optional
            Colors of the background; by default it is transparent.

        Returns
        -------
        plotly.graph_objects.Figure
            The figure.

        Raises
        ------
        MissingExtraError
            If the extra ``plots`` is not installed.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"word": ["cat", "dog", "sum"], "embedding": [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]})
        >>> explorer = Explorer(frame, method="pca")
        >>> explorer.selected = [0, 2]
        >>> explorer.figure().data[0].selectedpoints
        (0, 2)
        """
        from skytells_nb.widgets.explorer.snapshot import build_figure

        with self._lock:
            hidden = self._hidden()
            return build_figure(
                self._rows,
                color=self.color,
                coordinates=self._places[0],
                method=self._places[1],
                bright=self._listing.bright,
                hidden=NONE if hidden is None else self._rows.drawn[hidden],
                names=self._names,
                theme=theme,
                title=str(self._view.title),
            )

    def close(self) -> None:
        """Take the explorer off the page; selection, names and exports stay. Idempotent.

        Examples
        --------
        >>> import pandas as pd
        >>> explorer = Explorer(pd.DataFrame({"embedding": [[1.0, 0.0], [0.0, 1.0]]}), method="pca")
        >>> explorer.selected = [1]
        >>> explorer.close()
        >>> explorer
        Explorer(2 rows, 1 selected)
        """
        if self._closed:
            return
        self._closed = True
        layout = self._view.layout
        self._view.close()
        layout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Explorer({len(self._rows):,} rows, {len(self.selected):,} selected)"

    @traitlets.observe("selected")
    def _selected_changed(self, change: Any) -> None:
        with self._lock:
            self._listing.select(self.selected)
            self._show()

    def _ipython_display_(self) -> None:
        """Three outputs: the widget, and the picture and the table that stay when its kernel is gone."""
        self._shown = display_mode()
        publish = cell_publish()
        if self._shown != "plain":
            data, metadata = self._view._repr_mimebundle_() or ({}, {})
            publish({**data, "text/plain": repr(self)}, metadata, display_id=new_display_id(), update=False)
        for bundle, display_id in zip(self._saved(), self._display_ids, strict=True):
            publish(bundle, {}, display_id=display_id, update=False)

    def _received(self, view: object, content: Any, buffers: Any) -> None:
        """A message from the page."""
        kind = content.get("kind") if isinstance(content, dict) else None
        try:
            if kind == "ready":
                self._send_all()
            elif kind == "select":
                points = np.frombuffer(buffers[0], dtype="<u4")
                self.selected = self._rows.drawn[points[points < len(self._rows.drawn)]]
            elif kind == "take":
                self.select_shown()
            elif kind == "group":
                self.selected = self._groups[content["number"]][1]
            elif kind == "hover":
                self._hovered(int(content["point"]))
            elif kind == "ask":
                self._in_background("Looking for the nearest rows", lambda: self.ask(content["text"]))
            elif kind == "forget":
                self._forget()
            elif kind == "name":
                self._in_background("Asking for a name", self.name)
        except Exception as problem:  # every message is answered, also one that failed
            self._view.status = f"{type(problem).__name__}: {problem}"

    def _in_background(self, what: str, work: Callable[[], object]) -> None:
        from skytells_nb.widgets.explorer.sync import run_in_background

        with self._lock:
            run_in_background(self._view, what, work)

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("This explorer is closed; make another.")

    def _forget(self) -> None:
        with self._lock:
            self._listing.highlight("", NONE, np.empty(0, dtype=np.float32))
            self._view.question = self._view.status = ""
            self._show()

    def _group(self, name: Name, at: Indices) -> dict[str, Any]:
        points = self._points[self._numbers(at)]
        place = np.median(points, axis=0).tolist() if len(points) else None
        return {"name": name.text, "count": len(at), "facts": name.facts, "place": place}

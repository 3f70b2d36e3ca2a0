"""A map of a frame's rows beside a table of them: select, color, search by meaning, name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import traitlets

from skytells_nb.columns import column_of
from skytells_nb.errors import InputError, MissingExtraError
from skytells_nb.plots.maps.projection import Method
from skytells_nb.vectors.arrays import Indices
from skytells_nb.widgets.display import Mode, cell_publish, display_mode, model_id, new_display_id, next_name
from skytells_nb.widgets.explorer.coloring import default_color
from skytells_nb.widgets.explorer.questions import Name, Questions
from skytells_nb.widgets.explorer.rows import Rows, is_plain, layout_points
from skytells_nb.widgets.explorer.sync import NO_POSITIONS, LinkedViews, PositionsTrait
from skytells_nb.widgets.explorer.table import TableModel
from skytells_nb.widgets.explorer.topics import ExplorerTopics

if TYPE_CHECKING:
    from skytells_nb.plots.theme import Figure, Theme
    from skytells_nb.session import Session


class Explorer(LinkedViews):
    """A map of the rows of a frame by meaning, linked to a table: look around, select, color, ask, name.

    From 60 rows on the map has the names of its topics, as ``plots.semantic_map`` has, and on a closer look those of
    their parts.

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
        The column of vectors; rows without one, or with one of zeros or of NaN, have no point.
    text : hashable, optional
        The column of texts; by default the one with the longest.
    color : hashable, optional
        The column that colors the points at first; by default the newest column of categories, such as one of
        ``cluster`` or ``classify``, if there is one.
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
        NO_POSITIONS, help="Positions of the selected rows, int64, sorted; settable as positions or as a mask."
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
        self._color_columns = [n for n in rows.frame.columns if n != embedding and is_plain(rows.frame[n])]
        self._questions = Questions(session, model, dimensions, chat_model)
        self._layout: tuple[tuple[Any, Any] | None, Method] = (coordinates, method)
        self._lock = threading.RLock()
        self._points, how = layout_points(rows, coordinates, method)
        self._table = TableModel(rows)
        self._names = pd.Series(None, index=rows.frame.index, dtype="string", name="name")
        self._groups: list[tuple[Name, Indices]] = []
        self._display_ids = (new_display_id(), new_display_id())
        self._display_mode: Mode | None = None
        self._closed = False
        left_out = f" · {rows.left_out}" if rows.left_out else ""
        name = next_name("explorer")
        self._topics = topics = ExplorerTopics(rows, self._points)
        self._view = ExplorerView(
            model_id=model_id(name),
            title=title,
            caption=f"{len(rows):,} row{'' if len(rows) == 1 else 's'} · {how}{left_out}",
            columns=[{"number": at, "label": str(name)} for at, name in enumerate(self._color_columns)],
            topics=topics.names(),
            searchable=rows.text is not None,
            saved_class=name,
        )
        super().__init__()
        self._view.observe(self._update_colors, "color")
        self._update_colors(None)
        self.color = default_color(rows.frame, self._color_columns) if color is None else color
        self._update()
        self._view.on_msg(self._on_message)
        self._view.observe(self._filter, "search")
        self._view.observe(self._update_page, "page")

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
        number = int(self._view.color)
        return None if number < 0 else self._color_columns[number]

    @color.setter
    def color(self, name: Any) -> None:
        if name is None:
            self._view.color = -1
        else:
            column_of(self._rows.frame, name)
            if name not in self._color_columns:
                raise InputError(f"Column {name!r} holds lists or vectors; color by texts, numbers or dates.")
            self._view.color = self._color_columns.index(name)

    @property
    def nearest(self) -> pd.DataFrame:
        """The rows that the last question found, nearest first, with a column ``score`` (cosine similarity)."""
        table = self._table
        nearest = self._rows.frame.iloc[table.nearest].copy()
        nearest["score"] = table.scores
        return nearest

    @property
    def names(self) -> pd.Series[Any]:
        """The name of each row that was named, missing elsewhere; of two names the later one. Index of the frame."""
        return self._names.copy()

    @property
    def cost(self) -> float | None:
        """US dollars spent on questions and names of this explorer; ``None`` if a price was not known."""
        return self._questions.cost

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
            raise InputError("The question must be a non-empty text; write some words.")
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise InputError(f"k must be a positive integer, got {k!r}.")
        self._check_open()
        vector, used = self._questions.embed(question)
        nearest, scores = self._rows.nearest(vector, k)
        with self._lock:
            self._table.highlight(question, nearest, scores)
            self._view.question = question
            self._view.status = f"{len(nearest):,} nearest rows · {used}"
            self._update()
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
            raise InputError("Nothing is selected to name; select some points first.")
        self._check_open()
        group_name = self._questions.name(self._rows.representatives(at), len(at))
        with self._lock:
            self._names.iloc[at] = group_name.text
            self._groups = [*(g for g in self._groups if g[0].text != group_name.text), (group_name, at)]
            self._view.groups = [self._group_state(*group) for group in self._groups]
            self._view.status = f"Named {len(at):,} rows “{group_name}” · {group_name.facts}"
            self._publish_static()
        return group_name

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
        matching = self._table.matching
        return self._rows.frame.iloc[np.arange(len(self._rows)) if matching is None else matching]

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
            shown, hidden = np.sort(self._table.shown), self._hidden_points()
            if hidden is not None:
                shown = shown[np.isin(shown, self._rows.plotted[~hidden])]
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
            hidden = self._hidden_points()
            return build_figure(
                self._rows,
                color=self.color,
                coordinates=self._layout[0],
                method=self._layout[1],
                emphasized=self._table.emphasized,
                hidden=NO_POSITIONS if hidden is None else self._rows.plotted[hidden],
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
            self._table.select(self.selected)
            self._update()

    def _ipython_display_(self) -> None:
        """Publish three outputs: the widget, and the image and the table that remain without a kernel."""
        self._display_mode = display_mode()
        publish = cell_publish()
        if self._display_mode != "plain":
            data, metadata = self._view._repr_mimebundle_() or ({}, {})
            publish({**data, "text/plain": repr(self)}, metadata, display_id=new_display_id(), update=False)
        for bundle, display_id in zip(self._static_bundles(), self._display_ids, strict=True):
            publish(bundle, {}, display_id=display_id, update=False)

    def _display_(self) -> Any:
        """Return what marimo shows: the widget."""
        return self._view

    def _on_message(self, view: object, content: Any, buffers: Any) -> None:
        """Handle a message from the page."""
        kind = content.get("kind") if isinstance(content, dict) else None
        try:
            if kind == "ready":
                self._send_all()
            elif kind == "select":
                points = np.frombuffer(buffers[0], dtype="<u4")
                self.selected = self._rows.plotted[points[points < len(self._rows.plotted)]]
            elif kind == "select_shown":
                self.select_shown()
            elif kind == "group":
                self.selected = self._groups[content["number"]][1]
            elif kind == "hover":
                self._send_hovered(int(content["point"]))
            elif kind == "ask":
                self._in_background("Searching for the nearest rows", lambda: self.ask(content["text"]))
            elif kind == "parts":
                if not self._view.busy and not self._view.parts:
                    self._in_background("Finding the parts of topics", self._show_parts)
            elif kind == "clear_question":
                self._clear_question()
            elif kind == "name":
                self._in_background("Requesting a name", self.name)
        except Exception as problem:  # an error is shown on the page
            self._view.status = f"{type(problem).__name__}: {problem}"

    def _show_parts(self) -> None:
        self._view.parts = self._topics.parts()

    def _in_background(self, what: str, work: Callable[[], object]) -> None:
        from skytells_nb.widgets.explorer.sync import run_in_background

        with self._lock:
            run_in_background(self._view, what, work)

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("This explorer is closed; create another.")

    def _clear_question(self) -> None:
        with self._lock:
            self._table.highlight("", NO_POSITIONS, np.empty(0, dtype=np.float32))
            self._view.question = self._view.status = ""
            self._update()

    def _group_state(self, name: Name, at: Indices) -> dict[str, Any]:
        points = self._points[self._point_numbers(at)]
        place = np.median(points, axis=0).tolist() if len(points) else None
        return {"name": name.text, "count": len(at), "facts": name.facts, "place": place}

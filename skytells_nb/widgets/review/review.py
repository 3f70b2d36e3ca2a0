"""Judging rows by keyboard, without seeing what the model said."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import pandas as pd

from skytells_nb.columns import column_of, list_names
from skytells_nb.errors import InputError, MissingExtraError
from skytells_nb.widgets.display import cell_publish, display_mode, model_id, new_display_id, next_name
from skytells_nb.widgets.review.judgments import JudgmentFile, next_unjudged, row_key
from skytells_nb.widgets.safe_text import literal_html, plain

WEIGHT = "weight"
"""The column of a sample with the number of rows that each row stands for."""
SAMPLE = "skytells_sample"
"""The name in ``attrs`` of how a sample was drawn, which keeps its weights."""
MOST_LABELS = 200
MOST_CHARACTERS = 20_000
"""Characters of a cell that the page shows."""


# Without a kernel a front end shows "Loading widget..." above, for good.
_HIDE_WITHOUT_WIDGET = (
    "<style>.jp-OutputArea-child:has(+ .jp-OutputArea-child .{name}):not(:has(.skytells-review))"
    "{{display: none !important}}</style>"
)


class Review:
    """Judge the rows of a sample in the notebook, by keyboard, without seeing what the model said of them.

    On the page: a digit chooses a label and goes on to the next row that is not judged; then the model's label of the
    one just judged is shown. U takes back, N writes a note, the arrows go back and forth, 0 takes a label away.

    Each judgment is appended to ``file`` at once. A review of the same rows that is made again, after a restart of the
    kernel or tomorrow, goes on where it ended. Two annotators judge the same rows in turn, or in two notebooks with the
    same file; neither sees what the other said. ``gold`` is what ``evaluate``, ``share`` and ``mean`` take. Nothing is
    sent. It is a context manager that closes itself at the end.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows to judge, such as those of ``gold_sample``, in this order.
    into : hashable
        Name of the column that a model made.
    labels : sequence, optional
        The labels to choose from; by default those that the column can have: its categories, or its values.
    text : hashable or list of hashable, optional
        The columns to show, the first one large; by default all that are not vectors and do not belong to ``into``.
    file : str or pathlib.Path, optional
        The file of the judgments; by default ``review-<into>-<rows>.jsonl`` in the working folder, named for the rows.
    annotators : str or sequence of str, default "gold"
        Who judges: a name, or several to choose from.
    title : str, optional
        Title of the view.

    Raises
    ------
    InputError
        If a column or the file is not what is needed.
    MissingExtraError
        If the extra ``notebook`` is not installed.

    Examples
    --------
    >>> import tempfile
    >>> frame = pd.DataFrame({"text": ["It is late.", "Tasty!"], "label": pd.Categorical(["late", "taste"])})
    >>> review = Review(frame, "label", file=Path(tempfile.mkdtemp()) / "judged.jsonl")
    >>> review.judge("late", note="clear")
    >>> review.gold.tolist(), review.progress
    (['late', nan], (1, 2))
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        into: Any,
        *,
        labels: Sequence[Any] | None = None,
        text: Any = None,
        file: str | Path | None = None,
        annotators: str | Sequence[str] = "gold",
        title: str | None = None,
    ) -> None:
        for module in ("anywidget", "nh3"):
            if find_spec(module) is None:
                raise MissingExtraError(f"The review ({module} is missing)", "notebook")
        from skytells_nb.widgets.review.view import ReviewView

        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"frame must be a pandas DataFrame, got {type(frame).__name__}.")
        if not len(frame):
            raise InputError("frame must have rows to judge, got none. Draw some: df.skytells.gold_sample(into, n).")
        if not frame.index.is_unique:
            raise InputError(
                "The index of frame must be unique, so that judged rows are found by it, got duplicates. Call "
                "reset_index(drop=True) before the sample is drawn."
            )
        self._frame = frame
        self._into = into
        self._predicted = column_of(frame, into)
        self._labels = _labels_of(self._predicted, labels, into)
        self._columns = _shown_columns(frame, into, text)
        self._names = _names_of(annotators, frame)
        self._lock = threading.RLock()
        self._closed = self._displayed = False
        path = Path(_default_name(frame, into) if file is None else file).expanduser().absolute()
        self._file = JudgmentFile(path, list(frame.index), self._labels)
        name = next_name("review")
        self._display_id = new_display_id()
        design = frame.attrs.get(SAMPLE)
        uncertain = isinstance(design, Mapping) and design.get("pick") == "uncertain"
        hard = " · picked by uncertainty: examples to improve the labels, not for intervals" if uncertain else ""
        self._view = ReviewView(
            model_id=model_id(name),
            title=f"Review of {into}" if title is None else str(title),
            caption=f"{len(frame):,} rows{hard}",
            labels=[plain(str(label)) for label in self._labels],
            annotators=self._names,
            annotator=self._names[0],
            total=len(frame),
            file=_short(path),
            saved_class=name,
        )
        self._row = -1
        self._go(next_unjudged(self._is_judged, len(frame), -1 if not self._is_judged(0) else 0))
        if self._progress()[0]:
            self._view.status = f"{self._progress()[0]:,} rows were judged before."
        self._view.on_msg(self._on_message)

    @property
    def gold(self) -> Any:
        """What was judged: a Series by index, missing where not judged; with several annotators a frame, a column each.

        It keeps how the sample was drawn, so that ``evaluate``, ``share`` and ``mean`` weight it.
        """
        self._file.refresh()
        judges = self._file.annotators
        names = [*(name for name in self._names if name in judges), *(n for n in judges if n not in self._names)]
        if len(names) <= 1:
            return self._column(names[0] if names else self._names[0]).rename("gold")
        table = pd.DataFrame({name: self._column(name) for name in names}, index=self._frame.index)
        if WEIGHT in self._frame.columns:
            table[WEIGHT] = self._frame[WEIGHT]
        table.attrs = dict(self._frame.attrs)
        return table

    @property
    def examples(self) -> pd.DataFrame:
        """The judged rows as few-shot examples for ``classify(examples=)``: the text and the label.

        Of several annotators those on which all agree.
        """
        gold = self.gold
        if isinstance(gold, pd.DataFrame):
            votes = gold.drop(columns=WEIGHT, errors="ignore").astype(object)
            agreed = votes.apply(lambda row: row.dropna().nunique() == 1, axis=1)
            gold = votes.apply(lambda row: next(iter(row.dropna()), None), axis=1).where(agreed)
        judged = gold.notna().to_numpy(dtype=bool)
        texts = self._frame[self._columns[0]][judged]
        return pd.DataFrame({self._columns[0]: texts, self._into: gold[judged].astype(object)})

    @property
    def notes(self) -> pd.DataFrame:
        """The notes, a row each: ``annotator``, ``note`` and the ``label`` that was chosen, by the index of the row."""
        self._file.refresh()
        records = [
            (self._frame.index[row], name, said.note, None if said.label < 0 else self._labels[said.label])
            for name in dict.fromkeys([*self._names, *self._file.annotators])
            for row, said in sorted(self._file.of(name).items())
            if said.note
        ]
        table = pd.DataFrame(records, columns=["index", "annotator", "note", "label"]).set_index("index")
        table.index.name = self._frame.index.name
        return table

    @property
    def progress(self) -> tuple[int, int]:
        """How many rows the present annotator judged, and how many there are."""
        self._file.refresh()
        return self._progress()

    @property
    def file(self) -> Path:
        """The file of the judgments."""
        return self._file.path

    @property
    def annotator(self) -> str:
        """Who judges now; set it to another of the annotators."""
        return str(self._view.annotator)

    @annotator.setter
    def annotator(self, name: str) -> None:
        if name not in self._names:
            raise InputError(f"annotator must be one of {list_names(self._names)}, got {name!r}.")
        with self._lock:
            self._view.annotator = name
            self._view.status = ""
            self._go(next_unjudged(self._is_judged, len(self._frame), -1 if not self._is_judged(0) else 0))

    @property
    def widget(self) -> Any:
        """The widget itself, to be put into a layout of other widgets."""
        return self._view

    def judge(self, label: Any, row: Any = None, *, note: str | None = None) -> None:
        """Choose a label for a row, as a key on the page does, and go on to the next one that is not judged.

        Parameters
        ----------
        label : object
            The label; ``None`` takes it away.
        row : hashable, optional
            Index label of the row; by default the one that is shown.
        note : str, optional
            A note about it.

        Raises
        ------
        InputError
            If the label is none of the labels, or there is no such row.

        Examples
        --------
        >>> import tempfile
        >>> frame = pd.DataFrame({"text": ["It is late.", "Tasty!"], "label": pd.Categorical(["late", "taste"])})
        >>> review = Review(frame, "label", file=Path(tempfile.mkdtemp()) / "judged.jsonl")
        >>> review.judge("taste", row=1)
        >>> review.gold.tolist()
        [nan, 'taste']
        """
        if label is not None and label not in self._labels:
            raise InputError(f"label must be one of {list_names(self._labels)}, got {label!r}.")
        if row is not None and row not in self._frame.index:
            raise InputError(f"row must be an index label of the frame, got {row!r}.")
        number = self._row if row is None else int(self._frame.index.get_loc(row))  # type: ignore[arg-type]
        with self._lock:
            if note is not None:
                self._file.note(self.annotator, number, str(note))
            self._judge(number, -1 if label is None else self._labels.index(label))

    def undo(self) -> None:
        """Take back the latest label or note of the present annotator, and show its row.

        Examples
        --------
        >>> import tempfile
        >>> frame = pd.DataFrame({"text": ["It is late.", "Tasty!"], "label": pd.Categorical(["late", "taste"])})
        >>> review = Review(frame, "label", file=Path(tempfile.mkdtemp()) / "judged.jsonl")
        >>> review.judge("late")
        >>> review.undo()
        >>> review.progress
        (0, 2)
        """
        with self._lock:
            row = self._file.undo(self.annotator)
            self._view.status = "Nothing to undo." if row is None else f"Row {row + 1} is as it was before."
            self._go(self._row if row is None else row)
            self._publish_static()

    def close(self) -> None:
        """Take the review off the page; what was judged stays. Idempotent.

        Examples
        --------
        >>> import tempfile
        >>> frame = pd.DataFrame({"text": ["It is late.", "Tasty!"], "label": pd.Categorical(["late", "taste"])})
        >>> review = Review(frame, "label", file=Path(tempfile.mkdtemp()) / "judged.jsonl")
        >>> review.judge("late")
        >>> review.close()
        >>> review.progress
        (1, 2)
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
        judged, total = self._progress()
        return (
            f"Review({self._into!r}: {judged:,} of {total:,} rows judged by {self.annotator!r}, in {_short(self.file)})"
        )

    def _ipython_display_(self) -> None:
        """Publish the widget, and below it what remains without a kernel."""
        publish = cell_publish()
        if display_mode() != "plain":
            data, metadata = self._view._repr_mimebundle_() or ({}, {})
            publish({**data, "text/plain": repr(self)}, metadata, display_id=new_display_id(), update=False)
        publish(self._static(), {}, display_id=self._display_id, update=False)
        self._displayed = True

    def _static(self) -> dict[str, str]:
        """Return how far each annotator is, without texts of rows."""
        names = dict.fromkeys([*self._names, *self._file.annotators])
        lines = [
            f"{name}: {sum(said.label >= 0 for said in self._file.of(name).values()):,} of {len(self._frame):,} judged"
            for name in names
        ]
        head = f"{self._view.title}. Judgments are in {self.file.name}; run the cell again to go on."
        items = "".join(f"<li>{literal_html(line)}</li>" for line in lines)
        name, body = self._view.saved_class, f"<p>{literal_html(head)}</p><ul>{items}</ul>"
        page = f'<div class="skytells-reviewed {name}">{body}</div>{_HIDE_WITHOUT_WIDGET.format(name=name)}'
        return {"text/html": page, "text/plain": plain("\n".join([head, *lines]))}

    def _publish_static(self) -> None:
        if self._displayed:
            cell_publish()(self._static(), {}, display_id=self._display_id, update=True)

    def _column(self, annotator: str) -> pd.Series[Any]:
        said = self._file.of(annotator)
        codes = [said[row].label if row in said else -1 for row in range(len(self._frame))]
        if set(self._labels) <= {True, False}:
            values = [None if code < 0 else self._labels[code] for code in codes]
            column: pd.Series[Any] = pd.Series(values, index=self._frame.index, dtype="boolean")
        else:
            column = pd.Series(
                pd.Categorical.from_codes(codes, categories=pd.Index(self._labels)), index=self._frame.index
            )
        column.attrs = dict(self._frame.attrs)
        return column

    def _is_judged(self, row: int) -> bool:
        said = self._file.of(self.annotator).get(row)
        return said is not None and said.label >= 0

    def _progress(self) -> tuple[int, int]:
        return sum(said.label >= 0 for said in self._file.of(self.annotator).values()), len(self._frame)

    def _judge(self, row: int, label: int) -> None:
        self._file.judge(self.annotator, row, label)
        if label < 0:
            self._view.status = f"Row {row + 1} has no label now."
            self._go(row)
        else:
            chosen, model = self._labels[label], self._predicted.iloc[row]
            agrees = "no label" if pd.isna(model) else "the same" if model == chosen else plain(str(model))
            self._view.status = f"Row {row + 1}: {plain(str(chosen))}. The model said {agrees}."
            self._go(next_unjudged(self._is_judged, len(self._frame), row))
        self._publish_static()

    def _go(self, row: int) -> None:
        """Show a row."""
        self._row = row
        said = self._file.of(self.annotator).get(row)
        cells = self._frame[self._columns].iloc[row]
        shown: dict[str, Any] = {
            "row": row,
            "name": plain(str(self._frame.index[row])),
            "fields": [{"name": plain(str(name)), "text": _cell(cells[name])} for name in self._columns],
            "label": -1 if said is None else said.label,
            "note": "" if said is None else said.note,
        }
        if said is not None and said.label >= 0:
            model = self._predicted.iloc[row]
            shown["model"] = "no label" if pd.isna(model) else plain(str(model))
        judged = self._progress()[0]
        with self._view.hold_sync():
            self._view.shown = shown
            self._view.judged = judged
            self._view.can_undo = bool(self._file.of(self.annotator))

    def _on_message(self, view: object, content: Any, buffers: Any) -> None:
        """Handle a message from the page."""
        kind = content.get("kind") if isinstance(content, dict) else None
        with self._lock:
            try:
                if kind == "annotator":
                    self.annotator = str(content["name"])
                    return
                if kind == "undo":
                    self.undo()
                    return
                row = int(content["row"])
                if not 0 <= row < len(self._frame):
                    return
                if kind == "judge" and -1 <= int(content["label"]) < len(self._labels):
                    self._judge(row, int(content["label"]))
                elif kind == "note":
                    self._file.note(self.annotator, row, str(content["text"]))
                    self._view.status = f"The note on row {row + 1} is stored."
                    self._go(row)
                elif kind == "go":
                    self._view.status = ""
                    self._go(min(max(row + int(content["by"]), 0), len(self._frame) - 1))
                elif kind == "next":
                    self._view.status = ""
                    self._go(next_unjudged(self._is_judged, len(self._frame), row))
            except Exception as problem:  # an error is shown on the page
                self._view.status = f"{type(problem).__name__}: {problem}"
            finally:
                # The page waits for it before the next key, since a row that stays the same tells it nothing.
                if kind != "note":
                    self._view.send({"kind": "done"})


def _labels_of(column: pd.Series[Any], given: Sequence[Any] | None, into: Any) -> list[Any]:
    if given is not None:
        if isinstance(given, str) or not isinstance(given, (Sequence, pd.Index)):
            raise InputError(f"labels must be a list of labels, got {given!r}.")
        labels = list(given)
    elif isinstance(column.dtype, pd.CategoricalDtype):
        labels = list(column.cat.categories)
    elif pd.api.types.is_bool_dtype(column.dtype):
        labels = [True, False]
    else:
        if pd.api.types.is_float_dtype(column.dtype) and (column.dropna() % 1 != 0).any():
            raise InputError(
                f"Column {into!r} must hold labels, got numbers with fractions. Judge them in a column of the sample."
            )
        labels = sorted(set(column.dropna().tolist()), key=str)
    if not 2 <= len(labels) <= MOST_LABELS:
        raise InputError(
            f"There must be 2 to {MOST_LABELS} labels to choose from, got {len(labels):,}. Name them with labels=."
        )
    if len(set(labels)) < len(labels):
        raise InputError(f"labels must differ, got {list_names(labels)}.")
    return labels


def _shown_columns(frame: pd.DataFrame, into: Any, text: Any) -> list[Any]:
    """Return the columns to show, the one of the longest texts first; none that would tell the model's label."""
    if text is not None:
        names = list(text) if isinstance(text, list) else [text]
        for name in names:
            column_of(frame, name)
        if into in names:
            raise InputError(f"text must not name {into!r}: the model's label is hidden until a row is judged.")
        if names:
            return names
        raise InputError("text must name a column to show.")
    own = f"{into}_"
    names = [
        name
        for name in frame.columns
        if name not in (into, WEIGHT) and not str(name).startswith(own) and _is_readable(frame[name])
    ]
    if not names:
        raise InputError("The frame has no column to show beside the model's. Name one with text=.")
    lengths = {name: frame[name].head(50).astype(str).str.len().sum() for name in names if _is_text(frame[name])}
    first = max(lengths, key=lambda name: lengths[name], default=names[0])
    return [first, *(name for name in names if name != first)]


def _is_readable(column: Any) -> bool:
    if not isinstance(column, pd.Series):
        return False
    first = next(iter(column.dropna()), None)
    return first is None or isinstance(first, str) or not hasattr(first, "__len__")


def _is_text(column: pd.Series[Any]) -> bool:
    return isinstance(next(iter(column.dropna()), None), str) and not isinstance(column.dtype, pd.CategoricalDtype)


def _names_of(given: str | Sequence[str], frame: pd.DataFrame) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    if not names or not all(isinstance(name, str) and name.strip() for name in names) or len(set(names)) < len(names):
        raise InputError(f"annotators must be a name, or different names, got {given!r}.")
    taken = [name for name in names if name in frame.columns or name == WEIGHT] if len(names) > 1 else []
    if taken:
        raise InputError(f"annotators must differ from the columns of the frame, got {taken[0]!r}.")
    return names


def _default_name(frame: pd.DataFrame, into: Any) -> str:
    rows = hashlib.sha256("\n".join(map(row_key, frame.index)).encode()).hexdigest()[:8]
    safe = "".join(character if character.isalnum() else "-" for character in str(into))[:60]
    return f"review-{safe}-{rows}.jsonl"


def _short(path: Path) -> str:
    """Return the path from the working folder where it is in it, so that a saved notebook names no folder above."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _cell(value: Any) -> str:
    text = "" if value is None or (not isinstance(value, str) and pd.isna(value)) else plain(str(value))
    cut = f"… ({len(text):,} characters)"
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}{cut}"

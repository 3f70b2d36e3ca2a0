"""The rows that an explorer shows: which have a point, which are near a vector, which hold some words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.columns import to_matrix
from skytells_nb.errors import InputError
from skytells_nb.plots.maps.projection import Method, points_from_columns, project
from skytells_nb.vectors.arrays import Floats, Indices, unit_vectors
from skytells_nb.vectors.neighbors import nearest_by_cosine
from skytells_nb.widgets.safe_html import plain

CELL_CHARACTERS = 160
SAMPLE_CELLS = 50
"""Cells of a column that tell what kind it is."""
MAX_REPRESENTATIVES = 20
"""Rows of a selection that stand for it where a model names it."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A frame with a column of vectors. Positions count the frame's rows from 0; ``drawn`` are those with a vector."""

    frame: pd.DataFrame
    embedding: Any
    text: Any
    matrix: Floats
    lengths: Floats
    """The Euclidean length of each vector, (n,)."""
    drawn: Indices

    @classmethod
    def read(cls, frame: Any, embedding: Any, text: Any = None) -> Rows:
        """The rows of a frame; ``text`` is the column of the longest texts where none is named.

        Raises InputError for what is no frame, and for columns that are missing, doubled or hold no vectors.
        """
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"An explorer shows a DataFrame, not a {type(frame).__name__}.")
        # A shallow copy: a column that the caller replaces later does not change what was laid out.
        frame = frame.copy(deep=False)
        for name in (embedding, text):
            if name is not None:
                column_of(frame, name, make=name == embedding)
        matrix, valid = to_matrix(frame[embedding])
        lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
        found = text if text is not None else _longest_text(frame, embedding)
        return cls(frame, embedding, found, matrix, lengths, np.flatnonzero(valid).astype(np.int64))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def shown(self) -> list[Any]:
        """Columns that a table of these rows shows, the text first."""
        others = [name for name in self.frame.columns if name != self.text and is_plain(self.frame[name])]
        return [*([self.text] if self.text is not None else []), *others]

    def points(self, positions: Indices) -> Indices:
        """The number of the point of each row, -1 where it has none."""
        at = np.searchsorted(self.drawn, positions)
        there = at < len(self.drawn)
        there[there] = self.drawn[at[there]] == positions[there]
        return np.where(there, at, -1)

    def nearest(self, vector: Floats, k: int) -> tuple[Indices, Floats]:
        """The ``k`` rows whose vectors have the largest cosine with this one, and the cosines, largest first.

        Raises InputError where the vector has another length than the column's.
        """
        if not len(self.drawn):
            raise InputError(f"Column {self.embedding!r} holds no vector, so no row is near anything.")
        if vector.shape != self.matrix.shape[1:]:
            raise InputError(
                f"Column {self.embedding!r} has {self.matrix.shape[1]} dimensions and the question {vector.size}: they "
                "were made by different models. Give Explorer(…, model=, dimensions=) what embedded the column."
            )
        found, scores = nearest_by_cosine(unit_vectors(vector[None]), self.matrix, k, lengths=self.lengths)
        return self.drawn[found[0]], scores[0]

    def matching(self, words: str) -> Indices:
        """Rows whose text holds these words, whatever their case."""
        if self.text is None:
            raise InputError("There is no column of texts to search; name one with Explorer(…, text=).")
        texts = self.frame[self.text]
        held = texts.astype("string").str.contains(words, case=False, regex=False, na=False)
        return np.flatnonzero(held.to_numpy(dtype=np.bool_)).astype(np.int64)

    def representatives(self, positions: Indices) -> list[str]:
        """Texts of the rows nearest to the middle of these, each once.

        Raises InputError where none of them has a text.
        """
        if self.text is None:
            raise InputError("There is no column of texts to name rows by; name one with Explorer(…, text=).")
        where = self.points(positions)
        where = where[where >= 0]
        if len(where):
            vectors = unit_vectors(self.matrix[where])
            positions = self.drawn[where][np.argsort(-(vectors @ vectors.mean(axis=0)), kind="stable")]
        texts = self.frame[self.text].iloc[positions].dropna().astype(str)
        found = [text for text in texts.str.strip().drop_duplicates() if text][:MAX_REPRESENTATIVES]
        if not found:
            raise InputError(f"The selected rows have no text in column {self.text!r}, so there is nothing to name.")
        return found

    def positions(self, wanted: Any) -> Indices:
        """What a selection may be given as: positions, a mask, or a frame or index of labels. Sorted, each once.

        Raises InputError for positions and labels that do not exist and for a mask of another length.
        """
        if isinstance(wanted, (pd.DataFrame, pd.Index)):
            return self._labelled(wanted.index if isinstance(wanted, pd.DataFrame) else wanted)
        if isinstance(wanted, pd.Series) and not wanted.index.equals(self.frame.index):
            raise InputError("A Series that selects rows is a mask with the index of the frame.")
        try:
            given = np.asarray(wanted)
        except ValueError:
            given = np.empty((0, 0), dtype=object)
        if given.ndim == 1 and not given.size:
            return np.empty(0, dtype=np.int64)
        if given.ndim == 1 and given.dtype == np.bool_:
            if len(given) != len(self):
                raise InputError(f"The mask has {len(given):,} values and the frame {len(self):,} rows.")
            return np.flatnonzero(given).astype(np.int64)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise InputError(
                "Rows are selected by positions from 0, by a mask of the frame's length, or by a part of the frame; "
                f"found {repr(wanted)[:60]}."
            )
        found: Indices = np.unique(given.astype(np.int64))
        if found[0] < 0 or found[-1] >= len(self):
            odd = found[0] if found[0] < 0 else found[-1]
            raise InputError(f"There is no row at position {odd}: the frame has {len(self):,} rows, counted from 0.")
        return found

    def cells(self, positions: Indices, columns: Sequence[Any]) -> list[list[str]]:
        """For each row its label and these columns, as short lines of text."""
        view = self.frame.iloc[positions]
        lines = [[_cell(label)] for label in view.index]
        for name in columns:
            for line, value in zip(lines, view[name].tolist(), strict=True):
                line.append(_cell(value))
        return lines

    def _labelled(self, labels: pd.Index[Any]) -> Indices:
        odd = labels[~labels.isin(self.frame.index)]
        if len(odd):
            named = ", ".join(repr(label)[:40] for label in odd[:3])
            raise InputError(f"{len(odd):,} of these labels are not in the frame's index: {named}.")
        return np.flatnonzero(self.frame.index.isin(labels)).astype(np.int64)


def column_of(frame: pd.DataFrame, name: Any, *, make: bool = False) -> pd.Series[Any]:
    """The one column of this name."""
    if name not in frame.columns:
        have = ", ".join(str(c) for c in frame.columns)[:200] or "no columns"
        hint = " Make one with frame.skytells.embed(...)." if make else ""
        raise InputError(f"There is no column {name!r}; the frame has {have}.{hint}")
    column: Any = frame[name]
    if isinstance(column, pd.DataFrame):
        raise InputError(f"There is more than one column {name!r}. Rename them first.")
    found: pd.Series[Any] = column
    return found


def is_plain(values: Any) -> bool:
    """Whether a column holds texts, numbers and the like rather than vectors, lists or objects of their own."""
    if not isinstance(values, pd.Series):
        return False
    head = values.head(SAMPLE_CELLS).dropna().tolist()
    return all(pd.api.types.is_scalar(value) for value in head)


def _longest_text(frame: pd.DataFrame, embedding: Any) -> Any:
    lengths = {name: _length(frame[name]) for name in frame.columns if name != embedding}
    longest = max(lengths, key=lambda name: lengths[name], default=None)
    return longest if longest is not None and lengths[longest] else None


def _length(values: Any) -> int:
    """Characters in the first cells of a column of texts, 0 for one of something else."""
    if not isinstance(values, pd.Series):
        return 0
    head = values.head(SAMPLE_CELLS).dropna().tolist()
    return sum(map(len, head)) if all(isinstance(value, str) for value in head) else 0


def _cell(value: Any) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "null"
    words = f"{value:g}" if isinstance(value, float) else str(value)[: 4 * CELL_CHARACTERS]
    words = " ".join(plain(words).split())
    return words if len(words) <= CELL_CHARACTERS else words[: CELL_CHARACTERS - 1].rstrip() + "…"


UNIT = 65_535
"""Points lie on a grid of this many steps each way; the y axis goes down, as on a page."""


def layout_points(rows: Rows, coordinates: tuple[Any, Any] | None, method: Method) -> tuple[NDArray[np.uint16], str]:
    """Points on a grid of 65,536 steps, y downwards, one scale for both axes; and in words how they were made."""
    if coordinates is None:
        projection = project(rows.matrix, method=method)
        found, how = projection.points.astype(np.float64), projection.description
    else:
        found, how = points_from_columns(rows.frame.iloc[rows.drawn], coordinates)
    if not len(found):
        return np.empty((0, 2), dtype=np.uint16), how
    low, high = found.min(axis=0), found.max(axis=0)
    span = float((high - low).max()) or 1.0
    grid = np.rint(((found - (low + high) / 2) / span + 0.5) * UNIT).clip(0, UNIT)
    grid[:, 1] = UNIT - grid[:, 1]
    return np.ascontiguousarray(grid, dtype="<u2"), how

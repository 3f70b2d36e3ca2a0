"""The rows of an explorer: which have a point, are nearest to a vector, or contain some words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.columns import SAMPLE_CELLS, column_of, longest_text_column
from skytells_nb.embedding_columns import unit_vectors_of
from skytells_nb.errors import InputError
from skytells_nb.plots.maps.projection import Method, points_from_columns, project
from skytells_nb.vectors.arrays import Floats, Indices, unit_vectors
from skytells_nb.vectors.neighbors import nearest_by_cosine
from skytells_nb.widgets.safe_text import plain

CELL_CHARACTERS = 160
MAX_REPRESENTATIVES = 20
"""Rows of a selection whose texts are sent to name it."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A frame with a column of vectors; positions count its rows from 0, and ``plotted`` are those with a vector."""

    frame: pd.DataFrame
    embedding: Any
    text: Any
    matrix: Floats
    """The vectors, scaled to length one."""
    plotted: Indices
    left_out: str = ""
    """How many rows have no point, and why."""

    @classmethod
    def read(cls, frame: Any, embedding: Any, text: Any = None) -> Rows:
        """Read the rows of a frame; by default ``text`` is the column of the longest texts.

        Vectors without a direction, or with numbers that are not finite, have no point. Raises InputError if it is not
        a frame, or if a column is missing, duplicated or without vectors.
        """
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"The data of an explorer must be a DataFrame, got a {type(frame).__name__}.")
        given = frame
        # A shallow copy, so that a column the caller replaces later does not change the layout.
        frame = frame.copy(deep=False)
        for name in (embedding, text):
            if name is not None:
                column_of(frame, name, hint=" Create one with frame.skytells.embed(...)." if name == embedding else "")
        vectors = unit_vectors_of(given, embedding, nonfinite="missing")
        text_column = text if text is not None else longest_text_column(frame, exclude=[embedding])
        matrix, plotted = vectors.matrix, vectors.rows
        has_direction = matrix.any(axis=1)
        if not has_direction.all():
            matrix, plotted = matrix[has_direction], plotted[has_direction]
        missing = int(frame[embedding].isna().sum())
        invalid = len(frame) - missing - len(plotted)
        counts = [(missing, "without an embedding"), (invalid, "with an embedding of zeros, NaN or infinite numbers")]
        reasons = " and ".join(f"{count:,} {what}" for count, what in counts if count)
        left_out = f"{reasons} have no point" if reasons else ""
        return cls(frame, embedding, text_column, matrix, plotted, left_out)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def table_columns(self) -> list[Any]:
        """The columns to show in a table, the text first."""
        others = [name for name in self.frame.columns if name != self.text and is_plain(self.frame[name])]
        return [*([self.text] if self.text is not None else []), *others]

    def point_numbers(self, positions: Indices) -> Indices:
        """Return the number of each row's point, -1 if it has none."""
        numbers = np.searchsorted(self.plotted, positions)
        plotted = numbers < len(self.plotted)
        plotted[plotted] = self.plotted[numbers[plotted]] == positions[plotted]
        return np.where(plotted, numbers, -1)

    def nearest(self, vector: Floats, k: int) -> tuple[Indices, Floats]:
        """Return the ``k`` rows whose vectors have the largest cosine with this one, and the cosines, largest first.

        Raises InputError if the vector's length differs from the column's.
        """
        if not len(self.plotted):
            raise InputError(f"Column {self.embedding!r} must hold vectors to search by meaning, got none.")
        if vector.shape != self.matrix.shape[1:]:
            raise InputError(
                f"Column {self.embedding!r} has {self.matrix.shape[1]} dimensions and the question {vector.size}: they "
                "were embedded by different models. Pass the column's model as Explorer(…, model=, dimensions=)."
            )
        nearest, scores = nearest_by_cosine(unit_vectors(vector[None]), self.matrix, k)
        return self.plotted[nearest[0]], scores[0]

    def containing(self, words: str) -> Indices:
        """Return the rows whose text contains these words, ignoring case."""
        if self.text is None:
            raise InputError("There is no column of texts to search; pass one as Explorer(…, text=).")
        texts = self.frame[self.text]
        contains = texts.astype("string").str.contains(words, case=False, regex=False, na=False)
        return np.flatnonzero(contains.to_numpy(dtype=np.bool_)).astype(np.int64)

    def representatives(self, positions: Indices) -> list[str]:
        """Return the distinct texts of the rows nearest to the center of these.

        Raises InputError if none of them has a text.
        """
        if self.text is None:
            raise InputError("There is no column of texts to name rows by; pass one as Explorer(…, text=).")
        where = self.point_numbers(positions)
        where = where[where >= 0]
        if len(where):
            vectors = self.matrix[where]
            positions = self.plotted[where][np.argsort(-(vectors @ vectors.mean(axis=0)), kind="stable")]
        texts = self.frame[self.text].iloc[positions].dropna().astype(str)
        distinct = [text for text in texts.str.strip().drop_duplicates() if text][:MAX_REPRESENTATIVES]
        if not distinct:
            raise InputError(f"The selected rows have no text in column {self.text!r}, so there is nothing to name.")
        return distinct

    def positions(self, wanted: Any) -> Indices:
        """Return sorted distinct positions for positions, a mask, or a frame or index of labels.

        Raises InputError for positions and labels that do not exist and for a mask of another length.
        """
        if isinstance(wanted, (pd.DataFrame, pd.Index)):
            return self._positions_of_labels(wanted.index if isinstance(wanted, pd.DataFrame) else wanted)
        if isinstance(wanted, pd.Series) and not wanted.index.equals(self.frame.index):
            raise InputError("A Series that selects rows must be a mask with the index of the frame.")
        try:
            values = np.asarray(wanted)
        except ValueError:
            values = np.empty((0, 0), dtype=object)
        if values.ndim == 1 and not values.size:
            return np.empty(0, dtype=np.int64)
        if values.ndim == 1 and values.dtype == np.bool_:
            if len(values) != len(self):
                raise InputError(
                    f"The mask must have a value for each of {len(self):,} rows, got {len(values):,} values."
                )
            return np.flatnonzero(values).astype(np.int64)
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise InputError(
                "A selection must be positions from 0, a mask of the frame's length, or a part of the frame, "
                f"got {repr(wanted)[:60]}."
            )
        positions: Indices = np.unique(values.astype(np.int64))
        if positions[0] < 0 or positions[-1] >= len(self):
            invalid = positions[0] if positions[0] < 0 else positions[-1]
            raise InputError(f"Positions must be from 0 to {len(self) - 1:,}, got {invalid}.")
        return positions

    def cells(self, positions: Indices, columns: Sequence[Any]) -> list[list[str]]:
        """Return for each row its label and these columns, as short lines of text."""
        view = self.frame.iloc[positions]
        lines = [[_cell(label)] for label in view.index]
        for name in columns:
            for line, value in zip(lines, view[name].tolist(), strict=True):
                line.append(_cell(value))
        return lines

    def _positions_of_labels(self, labels: pd.Index[Any]) -> Indices:
        unknown = labels[~labels.isin(self.frame.index)]
        if len(unknown):
            examples = ", ".join(repr(label)[:40] for label in unknown[:3])
            raise InputError(f"{len(unknown):,} of these labels are not in the frame's index: {examples}.")
        return np.flatnonzero(self.frame.index.isin(labels)).astype(np.int64)


def is_plain(values: Any) -> bool:
    """Whether a column holds scalars, such as texts and numbers, rather than vectors, lists or other objects."""
    if not isinstance(values, pd.Series):
        return False
    head = values.head(SAMPLE_CELLS).dropna().tolist()
    return all(pd.api.types.is_scalar(value) for value in head)


def _cell(value: Any) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "null"
    words = f"{value:g}" if isinstance(value, float) else str(value)[: 4 * CELL_CHARACTERS]
    words = " ".join(plain(words).split())
    return words if len(words) <= CELL_CHARACTERS else words[: CELL_CHARACTERS - 1].rstrip() + "…"


GRID_STEPS = 65_535
"""Points lie on a grid with this many steps in each direction; the y axis points down, as on a page."""


def layout_points(rows: Rows, coordinates: tuple[Any, Any] | None, method: Method) -> tuple[NDArray[np.uint16], str]:
    """Return the points on a grid, y downwards, with one scale for both axes, and a description of the layout."""
    if coordinates is None:
        projection = project(rows.matrix, method=method)
        points, how = projection.points.astype(np.float64), projection.description
    else:
        points, how = points_from_columns(rows.frame.iloc[rows.plotted], coordinates)
    if not len(points):
        return np.empty((0, 2), dtype=np.uint16), how
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    grid = np.rint(((points - (low + high) / 2) / span + 0.5) * GRID_STEPS).clip(0, GRID_STEPS)
    grid[:, 1] = GRID_STEPS - grid[:, 1]
    return np.ascontiguousarray(grid, dtype="<u2"), how

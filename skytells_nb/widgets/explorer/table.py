"""The rows of an explorer's table: the selection, the rows nearest to a question, those of a search, or all."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from skytells_nb.vectors.arrays import Floats, Indices
from skytells_nb.widgets.explorer.rows import Rows

TableKind = Literal["selection", "question", "search", "all"]

PAGE_ROWS = 10
SHOWN_COLUMNS = 8


class TableModel:
    """The positions that are selected, nearest to a question or matching a search, and the pages of their table."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._columns = rows.table_columns[:SHOWN_COLUMNS]
        self.selected: Indices = np.empty(0, dtype=np.int64)
        self.nearest: Indices = self.selected
        self.scores: Floats = np.empty(0, dtype=np.float32)
        self.matching: Indices | None = None
        self._question = ""
        self._words = ""
        self._latest: list[TableKind] = []

    def select(self, positions: Indices) -> None:
        self.selected = positions
        self._make_latest("selection")

    def highlight(self, question: str, positions: Indices, scores: Floats) -> None:
        self._question, self.nearest, self.scores = question, positions, scores
        self._make_latest("question")

    def filter(self, words: str, positions: Indices | None) -> None:
        self._words, self.matching = words, positions
        self._make_latest("search")

    @property
    def kind(self) -> TableKind:
        """What the table lists: the latest of selection, question and search that is not empty."""
        return self._latest_of("selection", "question", "search")

    @property
    def positions(self) -> Indices:
        """Positions in the order of the table."""
        return self._positions_of(self.kind)

    @property
    def shown(self) -> Indices:
        """Positions of the later of question and search, regardless of the selection, in table order."""
        return self._positions_of(self._latest_of("question", "search"))

    @property
    def emphasized(self) -> Indices | None:
        """Positions to emphasize on the map, ``None`` if all look alike."""
        return None if self.kind == "all" else self.positions

    @property
    def description(self) -> str:
        """A description of the listed rows."""
        listed = f"{len(self.positions):,} row{'' if len(self.positions) == 1 else 's'}"
        endings = {"selection": " selected", "question": f" nearest to “{self._question}”"}
        return listed + {**endings, "search": f" with “{self._words}”", "all": ""}[self.kind]

    def page(self, number: int) -> dict[str, Any]:
        """Return a page of the table, from 0: ``what`` it lists, ``columns``, ``rows``, ``total`` and ``pages``."""
        listed = self.positions
        pages = max(1, -(-len(listed) // PAGE_ROWS))
        number = min(max(number, 0), pages - 1)
        part = slice(number * PAGE_ROWS, (number + 1) * PAGE_ROWS)
        table = self.rows_at(listed[part])
        if self.kind == "question":
            table["columns"].insert(1, "score")
            for row, score in zip(table["rows"], self.scores[part].tolist(), strict=True):
                row["cells"].insert(1, f"{score:.3f}")
        return {
            **table,
            "what": self.description,
            "kind": self.kind,
            "total": len(listed),
            "page": number,
            "pages": pages,
        }

    def rows_at(self, positions: Indices) -> dict[str, Any]:
        """Return ``columns``, and ``rows`` as ``{point, cells}``, where point is -1 for a row without one."""
        points = self._rows.point_numbers(positions).tolist()
        cells = self._rows.cells(positions, self._columns)
        rows = [{"point": point, "cells": line} for point, line in zip(points, cells, strict=True)]
        index = str(self._rows.frame.index.name or "row")
        return {"columns": [index, *map(str, self._columns)], "rows": rows}

    def _latest_of(self, *kinds: TableKind) -> TableKind:
        """Return the latest of these kinds that is not empty, otherwise "all"."""
        present = {"selection": len(self.selected) > 0, "question": len(self.nearest) > 0}
        present["search"] = self.matching is not None
        return next((kind for kind in self._latest if kind in kinds and present[kind]), "all")

    def _positions_of(self, kind: TableKind) -> Indices:
        if kind == "selection":
            return self.selected
        if kind == "question":
            return self.nearest
        if kind == "all" or self.matching is None:
            return np.arange(len(self._rows), dtype=np.int64)
        return self.matching

    def _make_latest(self, kind: TableKind) -> None:
        self._latest = [kind, *(other for other in self._latest if other != kind)]

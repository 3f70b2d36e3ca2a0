"""What an explorer's table lists: the selection, the rows nearest to a question, what a search holds, or every row."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from skytells_nb.vectors.arrays import Floats, Indices
from skytells_nb.widgets.explorer.rows import Rows

Kind = Literal["selection", "question", "search", "all"]

PAGE_ROWS = 10
SHOWN_COLUMNS = 8


class TableModel:
    """Positions that are selected, lit by a question or held by a search, and pages of a table of them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._columns = rows.shown[:SHOWN_COLUMNS]
        self.selected: Indices = np.empty(0, dtype=np.int64)
        self.nearest: Indices = self.selected
        self.scores: Floats = np.empty(0, dtype=np.float32)
        self.matching: Indices | None = None
        self._question = ""
        self._words = ""
        self._latest: list[Kind] = []

    def select(self, positions: Indices) -> None:
        self.selected = positions
        self._came("selection")

    def highlight(self, question: str, positions: Indices, scores: Floats) -> None:
        self._question, self.nearest, self.scores = question, positions, scores
        self._came("question")

    def filter(self, words: str, positions: Indices | None) -> None:
        self._words, self.matching = words, positions
        self._came("search")

    @property
    def kind(self) -> Kind:
        """What the table lists: of what there is, the one that came last."""
        return self._last("selection", "question", "search")

    @property
    def listed(self) -> Indices:
        """Positions in the order of the table."""
        return self._of(self.kind)

    @property
    def shown(self) -> Indices:
        """What the later of question and search leaves, whatever is selected, in the order of a table of it."""
        return self._of(self._last("question", "search"))

    @property
    def bright(self) -> Indices | None:
        """Positions that stand out on the map, ``None`` where all are alike."""
        return None if self.kind == "all" else self.listed

    @property
    def what(self) -> str:
        """What is listed, in words."""
        listed = f"{len(self.listed):,} row{'' if len(self.listed) == 1 else 's'}"
        endings = {"selection": " selected", "question": f" nearest to “{self._question}”"}
        return listed + {**endings, "search": f" with “{self._words}”", "all": ""}[self.kind]

    def page(self, number: int) -> dict[str, Any]:
        """A page of the table, from 0: what it lists, ``columns`` and ``rows`` as in ``of``, ``total``, ``pages``."""
        listed = self.listed
        pages = max(1, -(-len(listed) // PAGE_ROWS))
        number = min(max(number, 0), pages - 1)
        part = slice(number * PAGE_ROWS, (number + 1) * PAGE_ROWS)
        table = self.of(listed[part])
        if self.kind == "question":
            table["columns"].insert(1, "score")
            for row, score in zip(table["rows"], self.scores[part].tolist(), strict=True):
                row["cells"].insert(1, f"{score:.3f}")
        return {**table, "what": self.what, "kind": self.kind, "total": len(listed), "page": number, "pages": pages}

    def of(self, positions: Indices) -> dict[str, Any]:
        """These rows: ``columns`` and ``rows`` as ``{point, cells}``, where point is -1 for a row without one."""
        points = self._rows.points(positions).tolist()
        cells = self._rows.cells(positions, self._columns)
        rows = [{"point": point, "cells": line} for point, line in zip(points, cells, strict=True)]
        index = str(self._rows.frame.index.name or "row")
        return {"columns": [index, *map(str, self._columns)], "rows": rows}

    def _last(self, *kinds: Kind) -> Kind:
        """Of these kinds the one that came last and is still there."""
        there = {"selection": len(self.selected) > 0, "question": len(self.nearest) > 0}
        there["search"] = self.matching is not None
        return next((kind for kind in self._latest if kind in kinds and there[kind]), "all")

    def _of(self, kind: Kind) -> Indices:
        if kind == "selection":
            return self.selected
        if kind == "question":
            return self.nearest
        if kind == "all" or self.matching is None:
            return np.arange(len(self._rows), dtype=np.int64)
        return self.matching

    def _came(self, kind: Kind) -> None:
        self._latest = [kind, *(other for other in self._latest if other != kind)]

"""What embeddings do with a column: nearness in meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import check_count, check_threshold
from skytells_nb.accessor.call import RunOptions, attach_report, check_options
from skytells_nb.accessor.embeddings import EmbeddingOptions, TextOrVectorColumn, UnitVectors, embed_queries
from skytells_nb.accessor.methods.cluster import ClusterMethods
from skytells_nb.accessor.methods.join import JoinMethod
from skytells_nb.accessor.text_columns import STRING_DTYPE
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import ProgressCallback, Report
from skytells_nb.errors import InputError, RowError
from skytells_nb.vectors.arrays import Floats, Indices, check_dimensions
from skytells_nb.vectors.near_duplicates import near_duplicates
from skytells_nb.vectors.neighbors import nearest_by_cosine


class VectorMethods(ClusterMethods, JoinMethod):
    """Verbs that compare rows by their embeddings.

    Every ``column`` holds texts, which are embedded first (and cached), or embeddings, for which nothing is sent and no
    key is needed. Nearness is the cosine of two embeddings, computed exactly, in blocks. Rows without an embedding
    (null or failed) are near to nothing.
    """

    def search(
        self,
        query: str | Sequence[str],
        column: Any = "embedding",
        k: int = 5,
        *,
        into: Any = "score",
        model: str | None = None,
        dimensions: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The ``k`` rows nearest in meaning to ``query``, best first, with their cosine similarity in ``into``.

        ``column`` holds texts, or embeddings made by the same ``model`` with the same ``dimensions``. Of equally near
        rows the earlier comes first. Where fewer rows have an embedding there are fewer; where none can have one,
        nothing is sent. Raises RowError where the query cannot be embedded.

        A list of queries gives the rows of the first, then those of the second, and so on, with the query that each was
        found by in ``<into>_query``; a row that is near to several is there as often.

        >>> df = pd.DataFrame({"text": ["a cat sleeps", "stock prices fell"]})
        >>> df.skytells.search("kittens", column="text", k=1, progress=False)["text"].tolist()
        ['a cat sleeps']
        >>> found = df.skytells.search(["kittens", "money"], "text", k=1, progress=False)
        >>> found["score_query"].tolist(), found.index.tolist()
        (['kittens', 'money'], [0, 1])
        """
        check_options(options)
        queries = _queries(query)
        most = check_count("k", k)
        self._check_into(into, column)
        source, embedding = TextOrVectorColumn(self._frame, column), EmbeddingOptions(model, dimensions)
        with self._runs("search", on_error, progress, options) as runs:
            vectors, targets = UnitVectors.none(), np.empty((len(queries), 0), dtype=np.float32)
            if source.present.any():
                targets = embed_queries(runs, queries, embedding)
                vectors = source.vectors(runs, embedding)
                check_dimensions(vectors.matrix, f"Column {column!r}", targets, "the query")
            result = self._nearest_rows(vectors, targets, most, into, runs.report)
            if not isinstance(query, str):
                found = np.repeat(np.array(queries, dtype=object), min(most, len(vectors)))
                result[self._full(self._beside(into, "query"))] = pd.Series(found, dtype=STRING_DTYPE).array
            return result

    def similar(
        self,
        row: Any,
        column: Any = "embedding",
        k: int = 5,
        *,
        into: Any = "score",
        model: str | None = None,
        dimensions: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The ``k`` other rows nearest in meaning to the one with the index label ``row``, as ``search`` gives them.

        Raises InputError for a label that is missing, names several rows or a row that is null, and RowError where its
        text cannot be embedded.

        >>> df = pd.DataFrame({"text": ["a cat sleeps", "stock prices fell", "kittens nap"]}, index=["x", "y", "z"])
        >>> df.skytells.similar("x", "text", k=1, progress=False).index.tolist()
        ['z']
        """
        check_options(options)
        most = check_count("k", k)
        self._check_into(into, column)
        source = TextOrVectorColumn(self._frame, column)
        place = self._place(row)
        if not source.present[place]:
            raise InputError(f"Row {row!r} is null in column {column!r}, so nothing is near to it.")
        with self._runs("similar", on_error, progress, options) as runs:
            vectors = source.vectors(runs, EmbeddingOptions(model, dimensions))
            itself = vectors.rows == place
            if not itself.any():
                report = runs.report
                raise RowError(f"Row {row!r} could not be embedded: {report.errors.get(place)}", report=report)
            return self._nearest_rows(vectors, vectors.matrix[itself], most, into, runs.report, besides=place)

    def dedupe(
        self,
        column: Any = "embedding",
        threshold: float = 0.9,
        *,
        keep: Literal["first", "groups"] = "first",
        into: Any = "group",
        model: str | None = None,
        dimensions: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The frame without rows that mean nearly the same as one before them.

        A row stays where no kept row before it has a cosine similarity of ``threshold`` or more with it; the others
        belong to the nearest such row, their representative. So each dropped row is that near to one that stays, no two
        rows that stay are, and a chain of small differences never joins what is far apart. The order of the rows
        decides which one of a group stays: sort first for another. Rows without an embedding stay.

        ``keep="groups"`` keeps all rows and adds the number of the group (Int64, in order of appearance, null without
        an embedding) as ``into``, whether the row is the one that stays as ``<into>_representative`` (bool), and the
        cosine with it as ``<into>_score`` (float32). What is a near duplicate differs between models: look at some
        groups before you choose a threshold.

        >>> df = pd.DataFrame({"text": ["The parcel is late.", "Great taste!", "the parcel is late"]})
        >>> df.skytells.dedupe("text", 0.8, progress=False)["text"].tolist()
        ['The parcel is late.', 'Great taste!']
        """
        check_options(options)
        floor = check_threshold(threshold)
        if keep not in ("first", "groups"):
            raise InputError(f"keep is 'first' or 'groups'; found {keep!r}.")
        self._check_into(into, column)
        source = TextOrVectorColumn(self._frame, column)
        with self._runs("dedupe", on_error, progress, options) as runs:
            vectors = source.vectors(runs, EmbeddingOptions(model, dimensions))
            groups = near_duplicates(vectors.matrix, floor)
            own = groups.representative == np.arange(len(vectors))
            stays = np.ones(len(self._frame), dtype=bool)
            stays[vectors.rows] = own
            if keep == "first":
                result = self._frame[stays].copy()
                attach_report(result, runs.report)
                return result
            number = (np.cumsum(own) - 1)[groups.representative]
            made = {
                into: self._placed(number, vectors.rows, "Int64"),
                self._beside(into, "representative"): pd.Series(stays),
                self._beside(into, "score"): self._placed(groups.score, vectors.rows, "float32"),
            }
            return self._with(made, runs.report)

    def _nearest_rows(
        self, vectors: UnitVectors, targets: Floats, k: int, into: Any, report: Report, besides: int = -1
    ) -> pd.DataFrame:
        found = _best(vectors, targets, k, besides)
        result = self._frame.iloc[np.concatenate([places for places, _ in found])].copy()
        result[self._full(into)] = np.concatenate([scores for _, scores in found])
        attach_report(result, report)
        return result

    def _place(self, row: Any) -> int:
        """The position of the row with this label."""
        index = self._frame.index
        try:
            found = index.get_loc(row)
        except (KeyError, TypeError, ValueError, pd.errors.InvalidIndexError):
            raise InputError(f"There is no row {row!r} in the index.") from None
        places: NDArray[np.int64] = np.atleast_1d(np.arange(len(index))[found])
        if len(places) != 1:
            raise InputError(f"The label {row!r} names {len(places):,} rows; use reset_index() to tell them apart.")
        return int(places[0])


def _best(vectors: UnitVectors, targets: Floats, k: int, besides: int) -> list[tuple[Indices, Floats]]:
    """For each target the positions of other rows and their cosines, the best first."""
    if not len(vectors):
        return [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in targets]
    best = []
    for places, scores in zip(*nearest_by_cosine(targets, vectors.matrix, k + 1), strict=True):
        rows = vectors.rows[places]
        kept = np.flatnonzero(rows != besides)[:k]
        best.append((rows[kept], scores[kept]))
    return best


def _queries(given: Any) -> list[str]:
    """The queries, whether one was given or a list."""
    several = [given] if isinstance(given, str) or not isinstance(given, (Sequence, pd.Series, pd.Index)) else [*given]
    wrong = [query for query in several if not isinstance(query, str) or not query.strip()]
    if wrong or not several:
        found = wrong[0] if wrong else given
        raise InputError(f"The query is a text that is not empty, or a list of such texts; found {found!r}.")
    return several

"""``search`` and ``similar``: the rows most similar to a query, or to one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import SimilarityMethods, check_count
from skytells_nb.accessor.call import attach_report
from skytells_nb.accessor.options import RunOptions, check_options, expand_options
from skytells_nb.accessor.text_columns import STRING_DTYPE
from skytells_nb.accessor.text_or_vector_column import EmbeddingOptions, TextOrVectorColumn, embed_queries
from skytells_nb.embedding_columns import UnitVectors
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError, RowError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.vectors.arrays import Floats, Indices, check_dimensions
from skytells_nb.vectors.neighbors import nearest_by_cosine


class SearchMethods(SimilarityMethods):
    """The ``search`` and ``similar`` methods."""

    @expand_options(RunOptions)
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
        """Return the rows most similar to a query, best first, with their cosine similarity.

        Parameters
        ----------
        query : str or sequence of str
            What to search for. Of several queries the result has the rows of the first, then those of the second, and
            so on, with the query of each row in ``<into>_query``; a row that several queries find is there several
            times.
        column : hashable, default "embedding"
            Name of a column of texts, which are embedded first, or of embeddings made by the same ``model`` with the
            same ``dimensions``.
        k : int, default 5
            Number of rows for each query; fewer where fewer rows have an embedding. Of equally similar rows the earlier
            comes first.
        into : hashable, default "score"
            Name of the column of cosine similarities.
        model : str, optional
            Name of the embedding model; by default that of the session.

        Returns
        -------
        pandas.DataFrame
            The rows found. If no row can have an embedding, there are none and nothing is sent.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or holds neither texts nor embeddings; nothing is sent.
        RowError
            If the query cannot be embedded.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat sleeps", "stock prices fell"]})
        >>> df.skytells.search("kittens", column="text", k=1, progress=False)["text"].tolist()
        ['a cat sleeps']
        >>> found = df.skytells.search(["kittens", "money"], "text", k=1, progress=False)
        >>> found["score_query"].tolist(), found.index.tolist()
        (['kittens', 'money'], [0, 1])
        """
        check_options(options, self.search)
        queries = _queries(query)
        most = check_count("k", k)
        self._check_into(into, column)
        source = TextOrVectorColumn(self._frame, column, "search", progress)
        embedding = EmbeddingOptions(model, dimensions)
        with self._runs("search", on_error, progress, options, self._missing({into: "float32"})) as runs:
            vectors, targets = UnitVectors.none(), np.empty((len(queries), 0), dtype=np.float32)
            if source.present.any():
                targets = embed_queries(runs, queries, embedding, last=source.texts is None)
                vectors = source.vectors(runs, embedding)
                check_dimensions(vectors.matrix, f"Column {column!r}", targets, "the query")
            with runs.step("comparing", len(queries), "queries") as on_progress:
                best = _best(vectors, targets, most, -1, on_progress)
            result = self._found(best, into, runs.report)
            if not isinstance(query, str):
                repeated = np.repeat(np.array(queries, dtype=object), min(most, len(vectors)))
                result[self._full(self._suffixed(into, "query"))] = pd.Series(repeated, dtype=STRING_DTYPE).array
            return result

    @expand_options(RunOptions)
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
        """Return the rows most similar to one of them, best first, with their cosine similarity.

        Parameters
        ----------
        row : hashable
            Index label of the row, which is not in the result.
        column : hashable, default "embedding"
            Name of a column of texts, which are embedded first, or of embeddings.
        k : int, default 5
            Number of rows; fewer where fewer rows have an embedding.
        into : hashable, default "score"
            Name of the column of cosine similarities.
        model : str, optional
            Name of the embedding model; by default that of the session.

        Returns
        -------
        pandas.DataFrame
            The rows found.

        Raises
        ------
        InputError
            If an argument is wrong, the label is not in the index once, or the row is missing; nothing is sent.
        RowError
            If the row cannot be embedded.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat sleeps", "stock prices fell", "kittens nap"]}, index=["x", "y", "z"])
        >>> df.skytells.similar("x", "text", k=1, progress=False).index.tolist()
        ['z']
        """
        check_options(options, self.similar)
        most = check_count("k", k)
        self._check_into(into, column)
        source = TextOrVectorColumn(self._frame, column, "similar", progress)
        position = self._position(row)
        if not source.present[position]:
            raise InputError(f"Row {row!r} is missing in column {column!r}, so it is similar to none.")
        with self._runs("similar", on_error, progress, options, self._missing({into: "float32"})) as runs:
            vectors = source.vectors(runs, EmbeddingOptions(model, dimensions))
            itself = np.searchsorted(vectors.rows, [position, position + 1])
            if itself[0] == itself[1]:
                report = runs.report
                raise RowError(f"Row {row!r} could not be embedded: {report.errors.get(position)}", report=report)
            with runs.step("comparing", 1, "queries") as on_progress:
                best = _best(vectors, vectors.matrix[slice(*itself)], most, position, on_progress)
            return self._found(best, into, runs.report)

    def _found(self, best: list[tuple[Indices, Floats]], into: Any, report: Report) -> pd.DataFrame:
        result = self._frame.iloc[np.concatenate([rows for rows, _ in best])].copy()
        result[self._full(into)] = np.concatenate([scores for _, scores in best])
        attach_report(result, report, rows=lambda: self._frame)
        return result

    def _position(self, row: Any) -> int:
        """Return the position of the row with this label."""
        index = self._frame.index
        try:
            location = index.get_loc(row)
        except (KeyError, TypeError, ValueError, pd.errors.InvalidIndexError):
            raise InputError(f"There is no row {row!r} in the index.") from None
        if isinstance(location, int):
            return location
        positions: NDArray[np.int64] = np.atleast_1d(np.arange(len(index))[location])
        if len(positions) != 1:
            raise InputError(f"The label {row!r} must name one row, got {len(positions):,}. Use reset_index() first.")
        return int(positions[0])


def _best(
    vectors: UnitVectors, targets: Floats, k: int, exclude: int, on_progress: Callable[[int], None]
) -> list[tuple[Indices, Floats]]:
    """Return for each target the positions of the most similar rows and their cosines, the best first."""
    if not len(vectors):
        return [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in targets]
    best = []
    found = nearest_by_cosine(targets, vectors.matrix, k + 1, on_progress=on_progress)
    for indices, scores in zip(*found, strict=True):
        rows = vectors.rows[indices]
        kept = np.flatnonzero(rows != exclude)[:k]
        best.append((rows[kept], scores[kept]))
    return best


def _queries(given: Any) -> list[str]:
    """Return the queries as a list, whether the argument is one or several."""
    is_list = isinstance(given, (Sequence, pd.Series, pd.Index, np.ndarray)) and not isinstance(given, str)
    several = list(given) if is_list else [given]
    invalid = [query for query in several if not isinstance(query, str) or not query.strip()]
    if invalid or not several:
        value = invalid[0] if invalid else given
        raise InputError(f"query must be a non-empty string, or a list of such strings, got {value!r}.")
    return several

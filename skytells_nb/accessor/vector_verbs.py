"""What embeddings do with a column: nearness in meaning."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Unpack

import numpy as np
import pandas as pd

from skytells_nb import columns
from skytells_nb.accessor.base import FrameDoor
from skytells_nb.accessor.runs import Call, RunOptions, check_options, remember
from skytells_nb.accessor.texts import column_of, texts_of
from skytells_nb.accessor.values import embed_texts
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.events import Listener
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError


class VectorVerbs(FrameDoor):
    """Verbs that compare rows by their embeddings."""

    def search(
        self,
        query: str,
        column: Any = "embedding",
        k: int = 5,
        *,
        model: str | None = None,
        on_error: OnError = "warn",
        progress: bool | Listener = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The ``k`` rows nearest in meaning to ``query``, best first, with their cosine similarity in ``score``.

        ``column`` holds embeddings, made by the same model, or texts, which are embedded first (and cached). The search
        is exact: one matrix product.

        >>> df = pd.DataFrame({"text": ["a cat sleeps", "stock prices fell"]})
        >>> df.skytells.search("kittens", column="text", k=1, progress=False)["text"].tolist()
        ['a cat sleeps']
        """
        check_options(options)
        if not isinstance(query, str) or not query.strip():
            raise InputError("The query is a text that is not empty.")
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise InputError(f"k is 1 or more; found {k!r}.")
        series = column_of(self._frame, column)
        call = Call.open(on_error, progress, options, asker=self._frame)
        kind = pd.api.types.infer_dtype(series, skipna=True)
        report: Report | None = None
        if kind in ("string", "categorical"):
            series, report = embed_texts(
                call, texts_of(series, name=column), series.index, model, None, "numpy", column
            )
        matrix, valid = columns.to_matrix(series)
        wanted, query_report = embed_texts(
            call.quietly(), np.array([query], dtype=object), pd.RangeIndex(1), model, None, "numpy", "query"
        )
        target = columns.to_matrix(wanted)[0]
        if not len(target):
            raise InputError("The query could not be embedded; the report says why.")
        if len(matrix) and matrix.shape[1] != target.shape[1]:
            raise InputError(
                f"Column {column!r} has {matrix.shape[1]} dimensions and the query {target.shape[1]}: "
                "they were made by different models or with different dimensions=."
            )
        scores = _unit(matrix) @ _unit(target)[0] if len(matrix) else np.empty(0, dtype=np.float32)
        best = np.argsort(-scores, kind="stable")[: int(k)]
        result = self._frame.iloc[np.flatnonzero(valid)[best]].copy()
        result[self._full("score")] = scores[best]
        remember(result, report or query_report)
        return result


def _unit(matrix: Any) -> Any:
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(norms > 0, norms, 1)

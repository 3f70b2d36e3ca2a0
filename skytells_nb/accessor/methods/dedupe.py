"""``dedupe``: rows without those that mean nearly the same as an earlier one."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, Unpack

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import SimilarityMethods, check_recall, check_threshold
from skytells_nb.accessor.call import attach_report
from skytells_nb.accessor.multi_call import NO_MODEL
from skytells_nb.accessor.options import RunOptions, check_options, expand_options
from skytells_nb.accessor.text_or_vector_column import EmbeddingOptions, TextOrVectorColumn
from skytells_nb.embedding_columns import unit_vectors_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.vectors.arrays import Floats, Indices, check_dimensions
from skytells_nb.vectors.near_duplicates import DuplicateGroups, near_duplicates

Keep: TypeAlias = Literal["first", "groups"]


class DedupeMethod(SimilarityMethods):
    """The ``dedupe`` method."""

    @expand_options(RunOptions)
    def dedupe(
        self,
        column: Any = "embedding",
        threshold: float = 0.9,
        *,
        keep: Keep = "first",
        recall: float | None = None,
        into: Any = "group",
        model: str | None = None,
        dimensions: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """Drop rows that mean nearly the same as an earlier row.

        A row is kept if no kept row before it has a cosine similarity of ``threshold`` or more with it; the others
        belong to the most similar such row, their representative. So each dropped row is that similar to a row that is
        kept, no two kept rows are, and a chain of small differences never joins rows that are far apart.

        Parameters
        ----------
        column : hashable, default "embedding"
            Name of a column of texts, which are embedded first, or of embeddings.
        threshold : float, default 0.9
            Cosine similarity, above 0 and at most 1. The default is for texts that mean the same. Records with
            misspelled names or addresses are less alike: of those of FEBRL it finds 0.30 to 0.54 of the pairs with the
            local embeddings, and 0.75 finds 0.85 to 0.95, nearly without a wrong one. Models differ: look at some
            groups with ``keep="groups"`` before you choose.
        keep : {"first", "groups"}, default "first"
            ``"groups"`` keeps all rows and adds three columns.
        recall : float, optional
            Share of the near pairs that are seen, above 0 and at most 1. By default every pair of up to 200,000 rows is
            compared; above that an inverted file compares most pairs, with a recall of 0.99, which is measured on a
            sample and stated in the report. 1 compares every pair however long it takes.
        into : hashable, default "group"
            Name of the column with the number of the group (Int64, in order of appearance, missing without an
            embedding); ``<into>_representative`` (bool) is whether the row is the one kept, ``<into>_score`` (float32)
            its cosine with it.
        model : str, optional
            Name of the embedding model; by default that of the session.

        Returns
        -------
        pandas.DataFrame
            The kept rows, or all rows with their groups. The order of the rows decides which one of a group is kept:
            sort first for another. Rows without an embedding are kept.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or holds neither texts nor embeddings; nothing is sent.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["The parcel is late.", "Great taste!", "the parcel is late"]})
        >>> df.skytells.dedupe("text", 0.8, progress=False)["text"].tolist()
        ['The parcel is late.', 'Great taste!']
        """
        check_options(options, self.dedupe)
        floor = check_threshold(threshold)
        if keep not in ("first", "groups"):
            raise InputError(f"keep must be 'first' or 'groups', got {keep!r}.")
        check_recall(recall)
        self._check_into(into, column)
        source = TextOrVectorColumn(self._frame, column, "dedupe", progress)
        suffixed = {self._suffixed(into, "representative"): "boolean", self._suffixed(into, "score"): "float32"}
        unfinished = self._missing({into: "Int64", **suffixed})
        with self._runs("dedupe", on_error, progress, options, unfinished) as runs:
            vectors = source.vectors(runs, EmbeddingOptions(model, dimensions))
            with runs.step("comparing", len(vectors), prepares=True) as on_progress:
                groups = near_duplicates(
                    vectors.matrix, floor, recall=recall, on_progress=on_progress, on_share=on_progress.set_share
                )
            runs.set_recall(groups.recall)
            return self._with_groups(vectors.rows, groups, keep, into, runs.report)

    def _with_groups(
        self, rows: Indices, groups: DuplicateGroups, keep: Keep, into: Any, report: Report, known: int = 0
    ) -> pd.DataFrame:
        """Return the result for ``rows`` with these groups, whose first ``known`` vectors are of earlier parts."""
        is_representative = groups.representatives == np.arange(len(groups.representatives))
        kept = np.ones(len(self._frame), dtype=bool)
        kept[rows] = is_representative[known:]
        if keep == "first":
            result = self._frame[kept].copy()
            attach_report(result, report, rows=lambda: self._frame)
            return result
        number = (np.cumsum(is_representative) - 1)[groups.representatives]
        new = {
            into: self._column_at(number[known:], rows, "Int64"),
            self._suffixed(into, "representative"): pd.Series(kept),
            self._suffixed(into, "score"): self._column_at(groups.similarity[known:], rows, "float32"),
        }
        return self._with(new, report)


def dedupe_part(
    part: pd.DataFrame, earlier: Floats, column: Any, threshold: float, keep: Keep, into: Any
) -> tuple[pd.DataFrame, Floats]:
    """Return what ``dedupe`` makes of these rows of a longer frame, and the vectors of all rows that are kept so far.

    ``earlier`` are those (k, d) of the rows that are kept of the parts before it. The column holds embeddings.
    """
    vectors = unit_vectors_of(part, column)
    matrix, known = vectors.matrix, len(earlier)
    if known and len(matrix):
        check_dimensions(earlier, "An earlier partition", matrix, f"column {column!r} of a later one")
        matrix = np.concatenate([earlier, matrix])
    elif known:
        matrix = earlier
    groups = near_duplicates(matrix, threshold, recall=1, known=known)
    report = Report("dedupe", NO_MODEL, "done", rows=len(part), answered=len(part), cost=0.0)
    result = DedupeMethod(part)._with_groups(vectors.rows, groups, keep, into, report, known)
    return result, matrix[groups.representatives == np.arange(len(matrix))]

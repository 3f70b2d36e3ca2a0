"""Labels without a model: the one whose embedding is nearest to a text's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb import columns
from skytells_nb.accessor.labels import Labels
from skytells_nb.accessor.runs import Call
from skytells_nb.accessor.texts import Texts
from skytells_nb.accessor.values import embed_texts
from skytells_nb.accessor.vectors import unit
from skytells_nb.accessor.verb_runs import VerbRuns
from skytells_nb.engine.report import Report
from skytells_nb.errors import RowError


def nearest_labels(
    call: Call, texts: Texts, index: pd.Index[Any], labels: Labels, model: str | None
) -> tuple[pd.Series[Any], Report]:
    """The name of the label nearest to each text by cosine, null where the text is null or failed.

    A label stands where its name does, with its meaning and its examples where there are any: at the mean of their unit
    vectors. Raises RowError where one of those has no embedding.
    """
    with VerbRuns("classify", len(texts), lambda: call) as runs:
        targets = _targets(runs, labels, model)
        series, report = embed_texts(runs.call(of_rows=True), texts, index, model, None)
        runs.add(report)
        matrix, valid = columns.to_matrix(series)
        values = np.full(len(texts), None, dtype=object)
        if len(matrix):
            # Not divided by the length of a text's own vector: that moves no label before another.
            values[valid] = np.array(labels.names, dtype=object)[np.argmax(matrix @ targets.T, axis=1)]
        return pd.Series(values, index=index, dtype=object), runs.report


def _targets(runs: VerbRuns, labels: Labels, model: str | None) -> NDArray[np.float32]:
    """A unit vector for each label, float32 (labels, dimensions)."""
    said = [f"{name}: {labels.meanings[name]}" if name in labels.meanings else name for name in labels.names]
    texts = [*said, *(text for text, _ in labels.examples)]
    owners = [*range(len(said)), *(labels.names.index(found[0]) for _, found in labels.examples)]
    call, shown = runs.call().quietly(), np.array(texts, dtype=object)
    series, report = embed_texts(call, shown, pd.RangeIndex(len(texts)), model, None)
    runs.add(report)
    matrix, known = columns.to_matrix(series)
    if not known.all():
        first = int(np.argmin(known))
        reason = report.errors.get(first) or next(iter(report.errors.values()))
        raise RowError(f"The label {labels.names[owners[first]]!r} could not be embedded: {reason}", report=report)
    sums = np.zeros((len(said), matrix.shape[1]), dtype=np.float32)
    np.add.at(sums, owners, unit(matrix))
    return unit(sums)

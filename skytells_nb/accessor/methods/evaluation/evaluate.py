"""``evaluate``: how well a column of labels agrees with rows that a person judged."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import FrameMethods
from skytells_nb.accessor.methods.evaluation.gold import (
    Groups,
    Judged,
    LabelColumn,
    design_weights,
    gold_codes,
    label_codes,
    read_gold,
)
from skytells_nb.columns import column_of, list_names
from skytells_nb.errors import InputError, warn
from skytells_nb.statistics.agreement import accuracy, cohen_kappa, confusion_matrix, krippendorff_alpha, label_scores
from skytells_nb.statistics.intervals import UNKNOWN, Interval, Reals, check_level
from skytells_nb.statistics.sampling import smallest_sample
from skytells_nb.vectors.arrays import Indices

if TYPE_CHECKING:
    from skytells_nb.plots.theme import Figure, Theme


@dataclass(frozen=True)
class Evaluation:
    """How well a column of labels agrees with judged rows. Intervals are pairs of limits at ``level``."""

    into: Any
    n_gold: int
    """Judged rows that have a label."""
    n_unlabeled: int
    """Judged rows to which the model gave no label; they count neither as right nor as wrong."""
    level: float
    weighted: bool
    """Whether rows count by how they were drawn; else every judged row counts the same."""
    accuracy: float
    accuracy_interval: tuple[float, float]
    kappa: float
    """Cohen's kappa of the model and the judged rows."""
    kappa_interval: tuple[float, float]
    alpha: float | None
    """Krippendorff's alpha of the annotators, ``None`` for a single one."""
    alpha_interval: tuple[float, float] | None
    frame: pd.DataFrame = field(repr=False)
    """By label: precision, recall and f1 with their limits (``precision_low``, ...), ``n_gold`` and ``n_predicted``."""
    confusion: pd.DataFrame = field(repr=False)
    """Judged labels (rows) by the model's labels (columns): rows, or the sum of their weights."""
    groups: pd.DataFrame | None = field(repr=False)
    """By group: accuracy and kappa with their limits, and ``n_gold``; ``None`` without ``by``."""

    def plot(self, *, theme: Theme | None = None, title: str | None = None) -> Figure:
        """Draw precision and recall of each label with their intervals.

        Parameters
        ----------
        theme : {"light", "dark"}, optional
            Colors of the background; by default it is transparent.
        title : str, optional
            Title of the figure.

        Returns
        -------
        plotly.graph_objects.Figure
            The figure.
        """
        from skytells_nb.plots.evaluation_charts.label_scores import draw_label_scores

        return draw_label_scores(self.frame, caption=self._headline(), level=self.level, theme=theme, title=title)

    def _headline(self) -> str:
        low, high = self.accuracy_interval
        agreement = f"{self.n_gold:,} judged rows: accuracy {self.accuracy:.3f} ({low:.3f} to {high:.3f})"
        kappa = "" if np.isnan(self.kappa) else f", Cohen's kappa {self.kappa:.3f}"
        alpha = "" if self.alpha is None else f", Krippendorff's alpha of the annotators {self.alpha:.3f}"
        return f"{agreement}{kappa}{alpha}"

    def _notes(self) -> str:
        weighted = "weighted as they were drawn" if self.weighted else "each judged row counts the same"
        unlabeled = f"; {self.n_unlabeled:,} judged rows have no label and are left out" if self.n_unlabeled else ""
        return f"Limits at {self.level:.0%}; {weighted}{unlabeled}."

    def __str__(self) -> str:
        return f"{self._headline()}\n{self.frame.round(3).to_string()}\n{self._notes()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.frame.round(3).to_html(max_rows=60)
        return f"<p>{html.escape(self._headline())}</p>{table}<p>{html.escape(self._notes())}</p>"


class Evaluate(FrameMethods):
    """The ``evaluate`` method."""

    def evaluate(self, into: Any, gold: Any, by: Any = None, *, level: float = 0.95) -> Evaluation:
        """Compare a column of labels with rows that a person judged.

        Parameters
        ----------
        into : hashable
            Name of the column of labels: categories, texts, booleans or whole numbers.
        gold : pandas.Series or pandas.DataFrame
            The judged labels by index, missing where not judged; a frame has a column for each annotator, and the
            label that most of them gave counts. Rows of ``gold_sample`` are weighted as they were drawn, others by a
            column ``weight`` of the frame, or all the same.
        by : hashable or list of hashable, optional
            Columns of groups to compare.
        level : float, default 0.95
            Confidence level of the intervals.

        Returns
        -------
        Evaluation
            ``accuracy``, ``kappa`` and ``alpha`` (of several annotators) with their intervals, ``frame`` with
            precision, recall and F1 of each label, ``confusion``, ``groups``, and ``plot()``.

        Raises
        ------
        InputError
            If an argument is wrong, the judged rows are none of the frame, have labels that the column cannot have,
            or were picked by uncertainty.

        See Also
        --------
        gold_sample : The rows to judge.

        Notes
        -----
        Limits of proportions are Wilson's; see ``skytells_nb.statistics.agreement`` for each. They are about rows like
        these, not only about the rows of this frame.

        Examples
        --------
        >>> df = pd.DataFrame({"label": ["late", "late", "broken", "late"]}, index=list("abcd"))
        >>> result = df.skytells.evaluate("label", gold=pd.Series(["late", "broken", "broken"], index=list("abc")))
        >>> round(result.accuracy, 3), result.n_gold, result.frame.loc["late", "precision"].item()
        (0.667, 3, 0.5)
        """
        check_level(level)
        column = LabelColumn.of(column_of(self._frame, into), into)
        judged = read_gold(self._frame, into, gold)
        truth = gold_codes(column.labels, judged.values, into)
        groups = Groups.of(self._frame, by, into)
        predicted = column.codes[judged.rows]
        labeled = predicted >= 0
        if not labeled.any():
            raise InputError(f"No judged row has a label in {into!r}: the model gave none, so nothing can be compared.")
        weights = self._weights(column, judged)
        rows = _Rows(truth[labeled], predicted[labeled], weights[labeled], len(column.labels))
        right = accuracy(rows.truth, rows.predicted, rows.weights, level)
        kappa = cohen_kappa(rows.truth, rows.predicted, rows.labels, rows.weights, level)
        alpha = _annotators_alpha(column.labels, judged, into, level)
        names = pd.Index(column.labels, name=into)
        scores = _score_frame(rows, names, level)
        _warn_of_unjudged(scores, column, into)
        return Evaluation(
            into=into,
            n_gold=int(labeled.sum()),
            n_unlabeled=int((~labeled).sum()),
            level=level,
            weighted=judged.is_weighted,
            accuracy=right.estimate,
            accuracy_interval=(right.low, right.high),
            kappa=kappa.estimate,
            kappa_interval=(kappa.low, kappa.high),
            alpha=None if alpha is None else alpha.estimate,
            alpha_interval=None if alpha is None else (alpha.low, alpha.high),
            frame=scores,
            confusion=_confusion_frame(rows, column.labels, into, weighted=judged.is_weighted),
            groups=_group_frame(rows, groups, groups.codes[judged.rows[labeled]], level) if groups.by else None,
        )

    def _weights(self, column: LabelColumn, judged: Judged) -> Reals:
        if not judged.is_weighted:
            return np.ones(len(judged.rows))
        return design_weights(self._frame, column.codes, judged, np.ones(len(self._frame), dtype=bool))


@dataclass(frozen=True)
class _Rows:
    """Judged rows with a label: numbers of the true and the predicted label, weights, and how many labels there are."""

    truth: Indices
    predicted: Indices
    weights: Reals
    labels: int

    def part(self, chosen: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.truth[chosen], self.predicted[chosen], self.weights[chosen], self.labels)


def _score_frame(rows: _Rows, names: pd.Index[Any], level: float) -> pd.DataFrame:
    """Return precision, recall and F1 of each label."""
    records = []
    for label in range(rows.labels):
        scores = label_scores(label, rows.truth, rows.predicted, rows.weights, level)
        record: dict[str, Any] = {}
        for name, interval in scores._asdict().items():
            record |= _columns(name, interval)
        record["n_gold"] = int((rows.truth == label).sum())
        record["n_predicted"] = int((rows.predicted == label).sum())
        records.append(record)
    return pd.DataFrame(records, index=names)


def _warn_of_unjudged(scores: pd.DataFrame, column: LabelColumn, into: Any) -> None:
    """Warn of labels that have no limits, since no judged row has them on either side."""
    missing = scores.index[scores[["precision_low", "recall_low"]].isna().all(axis=1)]
    if len(missing):
        least = smallest_sample(np.bincount(column.codes[column.codes >= 0], minlength=len(column.labels)))
        warn(
            f"No judged row is of {list_names(list(missing), max_names=5)}, so these labels have no limits. A sample "
            f"with two rows of each label, n={least:,}, would do: gold_sample({into!r}, n) draws it."
        )


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _confusion_frame(rows: _Rows, labels: list[Any], into: Any, *, weighted: bool) -> pd.DataFrame:
    counts: NDArray[Any] = confusion_matrix(rows.truth, rows.predicted, rows.labels, rows.weights)
    table = counts if weighted else counts.round().astype(np.int64)
    return pd.DataFrame(table, index=pd.Index(labels, name="gold"), columns=pd.Index(labels, name=into))


def _group_frame(rows: _Rows, groups: Groups, codes: Indices, level: float) -> pd.DataFrame:
    """Return the agreement in each group, missing where no row of it was judged."""
    records = []
    for group in range(len(groups.names)):
        part = rows.part(codes == group)
        right, kappa = UNKNOWN, UNKNOWN
        if len(part.truth):
            right = accuracy(part.truth, part.predicted, part.weights, level)
            kappa = cohen_kappa(part.truth, part.predicted, part.labels, part.weights, level)
        records.append({**_columns("accuracy", right), **_columns("kappa", kappa), "n_gold": len(part.truth)})
    return pd.DataFrame(records, index=groups.names)


def _annotators_alpha(labels: list[Any], judged: Judged, into: Any, level: float) -> Interval | None:
    """Return Krippendorff's alpha of the annotators over all rows that any of them judged."""
    if judged.annotators is None:
        return None
    votes = [judged.annotators.iloc[:, number] for number in range(judged.annotators.shape[1])]
    for each in votes:
        gold_codes(labels, each, into)
    return krippendorff_alpha(np.stack([label_codes(labels, each) for each in votes]), level)

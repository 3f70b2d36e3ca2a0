"""``share`` and ``mean``: what a column that a model made says of the whole, corrected by judged rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import FrameMethods
from skytells_nb.accessor.methods.evaluation.gold import (
    Groups,
    LabelColumn,
    design_weights,
    gold_codes,
    number_strata,
    number_values,
    read_gold,
)
from skytells_nb.columns import column_of, list_names
from skytells_nb.errors import InputError, warn
from skytells_nb.statistics.corrected import corrected_mean, corrected_share
from skytells_nb.statistics.intervals import UNKNOWN, Interval, check_level
from skytells_nb.statistics.sampling import smallest_sample
from skytells_nb.vectors.arrays import Indices


class Share(FrameMethods):
    """The ``share`` and ``mean`` methods."""

    def share(self, into: Any, gold: Any, by: Any = None, *, level: float = 0.95) -> pd.DataFrame:
        """Return the share of each label in the frame, corrected by judged rows, with its confidence interval.

        A model's labels are wrong in one direction more than in the other, so that a plain count is off by more than
        its own interval says, however many rows it has. The judged rows say by how much.

        Parameters
        ----------
        into : hashable
            Name of the column of labels: categories, texts, booleans or whole numbers.
        gold : pandas.Series or pandas.DataFrame
            The judged labels by index, missing where not judged, as for ``evaluate``. The rows must be those of
            ``gold_sample``, or a random sample (of all rows, or within each label and group).
        by : hashable or list of hashable, optional
            Columns of groups: a share for each label in each group.
        level : float, default 0.95
            Confidence level of the intervals.

        Returns
        -------
        pandas.DataFrame
            By label, or group and label: ``share`` and its limits ``low`` and ``high``, ``naive`` (the share of the
            model's labels) and ``n_gold`` (judged rows of the frame or group). The shares are of the rows with a label
            in this very frame; where all of them are judged there is no uncertainty.

        Raises
        ------
        InputError
            If an argument is wrong, the judged rows are none of the frame, too few, have labels that the column cannot
            have, or were picked by uncertainty.

        See Also
        --------
        gold_sample : The rows to judge.
        mean : The same for numbers.

        Notes
        -----
        The rows with the label and those without it are two strata with Wilson's limits for the share that is truly of
        the label; MOVER adds them (``skytells_nb.statistics.corrected``). A group with too few judged rows has no
        limits, and a warning says how many it needs.

        Examples
        --------
        >>> df = pd.DataFrame({"label": ["late"] * 6 + ["broken"] * 4})
        >>> gold = pd.Series({0: "late", 1: "late", 2: "broken", 6: "broken", 7: "broken"})
        >>> df.skytells.share("label", gold=gold)[["share", "naive", "n_gold"]].round(2).values.tolist()
        [[0.6, 0.4, 5.0], [0.4, 0.6, 5.0]]
        """
        check_level(level)
        column = LabelColumn.of(column_of(self._frame, into), into)
        judged = read_gold(self._frame, into, gold)
        truth = gold_codes(column.labels, judged.values, into)
        groups = Groups.of(self._frame, by, into)
        labels = range(len(column.labels))

        def estimate(group: NDArray[np.bool_], enough: bool) -> list[dict[str, float]]:
            weights = design_weights(self._frame, column.codes, judged, group)
            used = weights > 0
            predicted, true = column.codes[judged.rows[used]], truth[used]
            counts = np.bincount(column.codes[group], minlength=len(labels))
            parts = [UNKNOWN] * len(labels)
            if enough:
                parts = [corrected_share(true == each, predicted == each, weights[used], level) for each in labels]
            return [
                {**_limits("share", part), "naive": counts[each] / counts.sum(), "n_gold": int(used.sum())}
                for each, part in zip(labels, parts, strict=True)
            ]

        index, records = self._by_group(into, groups, column.codes, judged.rows, estimate)
        labeled = pd.Index(column.labels, name=into)
        if not groups.by:
            return pd.DataFrame(records[0], index=labeled)
        keys = [(*(key if isinstance(key, tuple) else (key,)), label) for key in index for label in column.labels]
        names = [*index.names, into]
        table = pd.DataFrame([record for group in records for record in group])
        table.index = pd.MultiIndex.from_tuples(keys, names=names)
        return table

    def mean(self, into: Any, gold: Any, by: Any = None, *, level: float = 0.95) -> pd.DataFrame:
        """Return the mean of a column of numbers, corrected by judged rows, with its confidence interval.

        Parameters
        ----------
        into : hashable
            Name of the column of numbers.
        gold : pandas.Series or pandas.DataFrame
            The judged numbers by index, missing where not judged. The rows must be those of ``gold_sample``, or a
            random sample.
        by : hashable or list of hashable, optional
            Columns of groups: a mean for each.
        level : float, default 0.95
            Confidence level of the intervals.

        Returns
        -------
        pandas.DataFrame
            One row, or one by group: ``mean`` and its limits ``low`` and ``high``, ``naive`` (the mean of the model's
            numbers) and ``n_gold``.

        Raises
        ------
        InputError
            As for ``share``.
        MissingExtraError
            If scipy is not installed.

        See Also
        --------
        share : The same for labels.

        Notes
        -----
        A stratified regression estimator with Student's limits (``skytells_nb.statistics.corrected``). The strata are
        the values of the column, or its quintiles where there are more than twelve.

        Examples
        --------
        >>> df = pd.DataFrame({"score": [1.0, 2.0, 3.0, 4.0] * 5})
        >>> gold = pd.Series([1.5, 2.5, 3.5, 4.5] * 2)
        >>> df.skytells.mean("score", gold=gold)[["mean", "naive"]].values.tolist()
        [[3.0, 2.5]]
        """
        check_level(level)
        values = number_values(column_of(self._frame, into), f"Column {into!r}")
        judged = read_gold(self._frame, into, gold)
        truth = number_values(judged.values, "gold")
        strata = number_strata(values)
        groups = Groups.of(self._frame, by, into)

        def estimate(group: NDArray[np.bool_], enough: bool) -> list[dict[str, float]]:
            weights = design_weights(self._frame, strata, judged, group)
            used = weights > 0
            rows = judged.rows[used]
            naive = float(values[group].mean())
            part = UNKNOWN
            if enough:
                part = corrected_mean(truth[used], values[rows], naive, strata[rows], weights[used], level)
            return [{**_limits("mean", part), "naive": naive, "n_gold": int(used.sum())}]

        index, records = self._by_group(into, groups, strata, judged.rows, estimate)
        if not groups.by:
            return pd.DataFrame(records[0], index=pd.Index([into]))
        return pd.DataFrame([record for group in records for record in group], index=index)

    def _by_group(
        self,
        into: Any,
        groups: Groups,
        strata: Indices,
        judged: Indices,
        estimate: Callable[[NDArray[np.bool_], bool], list[dict[str, float]]],
    ) -> tuple[pd.Index[Any], list[list[dict[str, float]]]]:
        """Return the groups and the estimates of each; raise InputError where too few rows were judged for any."""
        records: list[list[dict[str, float]]] = []
        short: list[tuple[Any, int]] = []
        needed = 0
        for number in range(len(groups.names)):
            group = (groups.codes == number) & (strata >= 0)
            if not group.any():
                records.append([])  # no row of the group has a label
                continue
            sizes = np.bincount(strata[group])
            least, have = smallest_sample(sizes), int(group[judged].sum())
            needed = max(needed, least)
            if have < least:
                short.append((groups.names[number], have))
            records.append(estimate(group, have >= least))
        kept = [number for number, part in enumerate(records) if part]
        if len(short) == len(kept):
            have = max(count for _, count in short)
            where = " in each group" if groups.by else ""
            raise InputError(
                f"{have:,} judged rows are too few for a bound{where}: {into!r} needs two of each label or value, so "
                f"that {needed:,}{where} would do. gold_sample({into!r}, n) draws them."
            )
        if short:
            warn(
                f"Groups with fewer judged rows than they need (up to {needed:,}) have no limits: "
                f"{list_names([name for name, _ in short], max_names=5)}."
            )
        return groups.names[kept], [records[number] for number in kept]


def _limits(name: str, part: Interval) -> dict[str, float]:
    return {name: part.estimate, "low": part.low, "high": part.high}

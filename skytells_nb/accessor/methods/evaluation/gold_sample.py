"""``gold_sample``: the rows that a person should judge."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import FrameMethods, check_count
from skytells_nb.accessor.methods.evaluation.gold import Groups, cells, column_strata
from skytells_nb.accessor.methods.evaluation.sample_design import (
    ATTRIBUTE,
    WEIGHT,
    Pick,
    SampleDesign,
    remember_sample,
)
from skytells_nb.columns import column_of
from skytells_nb.errors import InputError
from skytells_nb.statistics.sampling import ROWS_PER_STRATUM, allocate, draw, smallest_sample


class GoldSample(FrameMethods):
    """The ``gold_sample`` method."""

    def gold_sample(
        self, into: Any, n: int, by: Any = None, seed: int = 0, pick: Pick = "random", confidence: Any = None
    ) -> pd.DataFrame:
        """Draw the rows to judge: a random sample that has rows of every label, and of every group.

        Judge them without looking at the model's label, and pass what you decided as ``gold`` to ``evaluate`` and
        ``share``. Rows without a label are not drawn.

        Parameters
        ----------
        into : hashable
            Name of the column that a model made: labels, or numbers, of which quantiles are the strata.
        n : int
            Number of rows: 100 or 200 give a share to within about 5 percentage points, depending on the labels.
        by : hashable or list of hashable, optional
            Columns of groups that you want to compare. Each label has rows in every group; small groups have more than
            their share, by the square root of their size.
        seed : int, default 0
            Seed of the sample: the same rows for the same frame.
        pick : {"random", "uncertain"}, default "random"
            ``"uncertain"`` takes the rows of the lowest confidence, which are the ones to learn from. They say nothing
            of the others, so ``evaluate`` and ``share`` refuse them.
        confidence : hashable, optional
            Name of the column of confidence for ``pick="uncertain"``; by default ``<into>_confidence``.

        Returns
        -------
        pandas.DataFrame
            The rows with their index, in random order (so that those judged first are a random part), and a column
            ``weight``: how many rows of the frame each stands for.

        Raises
        ------
        InputError
            If an argument is wrong, the column is missing or has no label, or ``n`` is too small for two rows of each
            label and group; the message says which ``n`` would do.

        See Also
        --------
        evaluate : Accuracy, precision and recall against the judged rows.
        share : The share of each label, corrected by the judged rows.

        Notes
        -----
        Within a group the sample is proportional to the labels, with at least two rows of each, so its weights are
        nearly equal; a column of the sample keeps how it was drawn in ``attrs``.

        Examples
        --------
        >>> df = pd.DataFrame({"text": list("abcdefgh"), "label": pd.Categorical(["late"] * 6 + ["broken"] * 2)})
        >>> sample = df.skytells.gold_sample("label", 4)
        >>> sample["weight"].sum().item(), sample["label"].value_counts().to_dict()
        (8.0, {'broken': 2, 'late': 2})
        """
        series = column_of(self._frame, into)
        count = check_count("n", n)
        if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
            raise InputError(f"seed must be an integer, 0 or more, got {seed!r}.")
        if pick not in ("random", "uncertain"):
            raise InputError(f"pick must be 'random' or 'uncertain', got {pick!r}.")
        if self._full(WEIGHT) in self._frame.columns:
            raise InputError(f"The frame must have no column {WEIGHT!r}, which the sample adds. Rename it.")
        if not self._frame.index.is_unique:
            raise InputError(
                "The index of the frame must be unique, so that judged rows are found by it, got duplicates. Call "
                "frame.reset_index(drop=True) first."
            )
        groups = Groups.of(self._frame, by, into)
        strata = cells(column_strata(series, into), groups.codes)
        available = int((strata >= 0).sum())
        if count > available:
            raise InputError(f"n must be at most {available:,}, the number of rows with a label, got {count:,}.")
        design = SampleDesign(into, groups.by, pick)
        if pick == "uncertain":
            rows = self._least_confident(into, confidence, strata >= 0, count)
            weights = np.full(len(rows), np.nan)
        else:
            if confidence is not None:
                raise InputError("confidence is for pick='uncertain'; leave it out.")
            sizes = np.bincount(strata[strata >= 0])
            least = smallest_sample(sizes)
            if count < least:
                what = "label" if not groups.by else "label in each group"
                raise InputError(
                    f"n={count:,} is too small: {len(sizes):,} strata need {ROWS_PER_STRATUM} rows of each {what}; "
                    f"n={least:,} would do{', or leave out by=' if groups.by else ''}."
                )
            # Of each stratum the number of its group, whose size its importance grows with the root of.
            first = np.unique(strata, return_index=True)[1][-len(sizes) :]
            group = groups.codes[first]
            group_sizes = np.bincount(group, sizes)
            counts = allocate(sizes, sizes / np.sqrt(group_sizes[group]), count)
            rows = draw(strata, counts, np.random.default_rng(int(seed)))
            weights = (sizes / np.maximum(counts, 1))[strata[rows]]
        sample = self._frame.iloc[rows].copy()
        sample[self._full(WEIGHT)] = weights
        sample.attrs = {**self._frame.attrs, ATTRIBUTE: design.to_attribute()}
        remember_sample(self._frame, design, sample.index)
        return sample

    def _least_confident(self, into: Any, confidence: Any, labeled: Any, count: int) -> Any:
        """Return the positions of the labeled rows of the lowest confidence, lowest first."""
        name = self._suffixed_name(into, "confidence") if confidence is None else confidence
        if confidence is None and self._full(name) not in self._frame.columns:
            raise InputError(
                f"pick='uncertain' needs a column of confidence, and there is no column {name!r}. Name one with "
                "confidence=, such as the similarity or probability that came with the label."
            )
        values = pd.to_numeric(column_of(self._frame, name), errors="coerce").to_numpy(
            dtype=np.float64, na_value=np.nan
        )
        usable = labeled & ~np.isnan(values)
        if usable.sum() < count:
            raise InputError(f"n must be at most {int(usable.sum()):,}, the rows with a confidence, got {count:,}.")
        return np.flatnonzero(usable)[np.argsort(values[usable], kind="stable")[:count]]

    @staticmethod
    def _suffixed_name(into: Any, suffix: str) -> Any:
        return (f"{into[0]}_{suffix}", *into[1:]) if isinstance(into, tuple) else f"{into}_{suffix}"

"""Reads judged rows: what a person says of each beside what the model said, and how many rows each stands for."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.methods.evaluation.sample_design import WEIGHT, SampleDesign, find_design
from skytells_nb.columns import column_of, list_names
from skytells_nb.errors import InputError, warn
from skytells_nb.statistics.intervals import Reals
from skytells_nb.statistics.sampling import calibrate, quantile_strata
from skytells_nb.vectors.arrays import Indices

MANY_VALUES = 12
"""A column of numbers with more distinct ones is stratified by quantiles."""
NUMBER_STRATA = 5

GoldColumn = pd.Series | pd.DataFrame | Hashable
"""What ``gold`` takes: judged labels by index, a column for each annotator, or the name of a column."""


@dataclass(frozen=True)
class LabelColumn:
    """A column of labels: those it can have, and of each row the number of its label, -1 where it is missing."""

    labels: list[Any]
    codes: Indices

    @classmethod
    def of(cls, series: pd.Series[Any], name: Any) -> LabelColumn:
        """Read a column of labels: categories, texts, booleans or whole numbers."""
        dtype = series.dtype
        if pd.api.types.is_float_dtype(dtype) and (series.dropna() % 1 != 0).any():
            raise InputError(f"Column {name!r} must hold labels, got numbers with fractions. Use mean() for numbers.")
        present = series.dropna()
        if not len(present):
            raise InputError(f"Column {name!r} has no label: all {len(series):,} rows are missing.")
        if not all(isinstance(value, Hashable) for value in present):
            raise InputError(f"Column {name!r} must hold one label in each row, got {type(present.iloc[0]).__name__}.")
        if isinstance(dtype, pd.CategoricalDtype):
            labels = list(dtype.categories)
        elif pd.api.types.is_bool_dtype(dtype):
            labels = [False, True]
        else:
            values = list(dict.fromkeys(_plain(present)))
            labels = sorted(values, key=str) if not pd.api.types.is_numeric_dtype(dtype) else sorted(values)
        return cls(labels, label_codes(labels, series))


def label_codes(labels: Sequence[Any], series: pd.Series[Any]) -> Indices:
    """Return the number of each value among the labels, -1 for missing and for other values."""
    values = _plain(series)
    missing = series.isna().to_numpy(dtype=bool)
    codes: Indices = pd.Index(labels, dtype=object).get_indexer(pd.Index(values, dtype=object)).astype(np.int64)
    codes[missing] = -1
    return codes


def number_values(series: pd.Series[Any], name: Any) -> Reals:
    """Return a column of numbers, NaN where it is missing; raise InputError for anything else."""
    if not pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_object_dtype(series.dtype):
        raise InputError(f"{name} must hold numbers, got {series.dtype}. share() is for labels.")
    try:
        values = series.astype(object).where(series.notna(), np.nan).to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must hold numbers, got {series.dropna().iloc[0]!r}. share() is for labels.") from None
    if np.isinf(values).any():
        raise InputError(f"{name} must hold finite numbers, got infinity.")
    result: Reals = values
    return result


def _plain(series: pd.Series[Any]) -> list[Any]:
    """Return the values as Python objects, so that numpy's booleans and numbers equal those of other columns."""
    values: list[Any] = series.astype(object).tolist()
    return values


@dataclass(frozen=True)
class Groups:
    """The groups of ``by``: their names in order, and of each row the number of its group, -1 where it is missing."""

    by: tuple[Any, ...]
    names: pd.Index[Any]
    codes: Indices

    @classmethod
    def of(cls, frame: pd.DataFrame, by: Any, into: Any) -> Groups:
        """Read the columns of ``by``: a name or a list of names; without any, all rows are one group."""
        columns = () if by is None else tuple(by) if isinstance(by, list) else (by,)
        if into in columns:
            raise InputError(f"by must name other columns than {into!r}, whose labels are the strata already.")
        if not columns:
            return cls((), pd.Index([0]), np.zeros(len(frame), dtype=np.int64))
        table = pd.DataFrame({number: column_of(frame, name).to_numpy() for number, name in enumerate(columns)})
        for number, name in enumerate(columns):
            dtype = frame[name].dtype
            if isinstance(dtype, pd.CategoricalDtype):
                table[number] = pd.Categorical(frame[name], dtype=dtype)
        keys = list(table) if len(columns) > 1 else 0
        grouped = table.groupby(keys, sort=True, observed=True, dropna=True)
        codes = grouped.ngroup().fillna(-1).to_numpy().astype(np.int64)
        names = grouped.size().index.set_names(list(columns))
        if not len(names):
            raise InputError(f"by={by!r} has no group: all its rows are missing.")
        return cls(columns, names, codes)


@dataclass(frozen=True)
class Judged:
    """The judged rows of a frame, in its order, as positions."""

    rows: Indices
    values: pd.Series[Any]
    """What was judged, by position in ``rows``: never missing."""
    annotators: pd.DataFrame | None
    """Where several judged: what each said of these and of further rows, a column each."""
    weights: Reals | None
    """How many rows each stands for by its own column ``weight``, ``None`` without one."""
    design: SampleDesign | None

    def part(self, chosen: NDArray[np.bool_]) -> Judged:
        """Return some of the rows."""
        return replace(
            self,
            rows=self.rows[chosen],
            values=self.values[chosen].reset_index(drop=True),
            weights=None if self.weights is None else self.weights[chosen],
        )

    @property
    def is_weighted(self) -> bool:
        """Whether it is known how the rows were drawn."""
        return self.weights is not None or self.design is not None


def read_gold(frame: pd.DataFrame, into: Any, gold: Any) -> Judged:
    """Read what was judged; raise InputError for what cannot be matched with the rows of the frame.

    ``into`` is the column of labels that it is compared with, ``None`` where that is none of the frame.
    """
    if into is not None and isinstance(gold, (str, tuple)) and gold == into:
        raise InputError(f"gold must be what a person judged, got the column {into!r} itself, which a model made.")
    table = _gold_table(frame, gold)
    if not frame.index.is_unique:
        raise InputError(
            "The index of the frame must be unique, so that judged rows are found by it, got duplicates. Call "
            "frame.reset_index(drop=True) before drawing the sample."
        )
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()].tolist()[0]
        raise InputError(
            f"gold must have one row for each index label, got {twice!r} more than once. Where several annotators "
            "judged a row, each has a column, as gold.pivot(columns='annotator', values='label') makes them."
        )
    judged = [name for name in table if name != WEIGHT]
    table = table[table[judged].notna().any(axis=1)]
    if not len(table):
        raise InputError("gold has no judgment: every value is missing.")
    positions = frame.index.get_indexer(table.index).astype(np.int64)
    known = positions >= 0
    if not known.any():
        several = ""
        if table.index.nlevels > frame.index.nlevels:
            several = " Where its last level names annotators, gold.unstack() makes a column for each."
        raise InputError(
            f"gold has no row of the frame: its index has {_some(table.index)}, that of the frame "
            f"{_some(frame.index)}. gold must be a Series with the index labels of the judged rows, as gold_sample() "
            f"returns them.{several}"
        )
    if not known.all():
        warn(f"{int((~known).sum()):,} of {len(known):,} judged rows are not in the frame and are left out.")
    order = np.argsort(positions[known], kind="stable")
    table, positions = table[known].iloc[order], positions[known][order]
    design = find_design(frame, into, gold if isinstance(gold, (pd.Series, pd.DataFrame)) else table, table.index)
    weights = _weights(table[WEIGHT]) if WEIGHT in table else None
    votes = table[judged]
    if len(judged) == 1:
        return Judged(positions, votes[judged[0]].reset_index(drop=True), None, weights, design)
    decided = _majority(votes)
    has_winner = decided.notna().to_numpy(dtype=bool)
    if not has_winner.any():
        raise InputError(
            "The annotators of gold agree on no row, so there is nothing to compare with. Have one of them, or a "
            "third, decide the rows."
        )
    tied = int((~has_winner).sum())
    if tied:
        warn(
            f"On {tied:,} of {len(decided):,} judged rows as many annotators say one label as another. They are left "
            "out, and they are the hard ones: have one of them, or a third, decide these rows."
        )
    rows = Judged(positions, decided.reset_index(drop=True), votes.reset_index(drop=True), weights, design)
    return rows.part(has_winner)


def _gold_table(frame: pd.DataFrame, gold: Any) -> pd.DataFrame:
    """Return the judgments as a table: one column, or one for each annotator, and ``weight`` where there is one."""
    if isinstance(gold, pd.Series):
        return gold.to_frame("gold")
    if isinstance(gold, pd.DataFrame):
        annotators = [name for name in gold.columns if name != WEIGHT and name not in frame.columns]
        if not annotators:
            raise InputError(
                "gold has no column of judgments: all its columns are those of the frame. Pass the column that was "
                "judged as a Series, such as sample['gold']."
            )
        return gold[[*annotators, *([WEIGHT] if WEIGHT in gold.columns and WEIGHT not in frame.columns else [])]]
    if isinstance(gold, str) or (isinstance(gold, tuple) and gold in frame.columns):
        return column_of(frame, gold).to_frame("gold")
    raise InputError(
        f"gold must be a Series of judged labels by index, missing where not judged, got {type(gold).__name__}."
    )


def _some(index: pd.Index[Any]) -> str:
    return list_names(index, max_names=3)


def _weights(column: pd.Series[Any]) -> Reals:
    weights = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    if not (np.isfinite(weights) & (weights > 0)).all():
        bad = int((~(np.isfinite(weights) & (weights > 0))).sum())
        raise InputError(
            f"The weight of a judged row must be a number above 0, but {bad:,} of {len(weights):,} have none. Keep the "
            f"column {WEIGHT!r} that gold_sample() made, or leave it out where the rows are a plain random sample."
        )
    return weights


def _majority(votes: pd.DataFrame) -> pd.Series[Any]:
    """Return the label that most annotators gave a row, missing where two labels tie."""

    def winner(row: Sequence[Any]) -> Any:
        counts = pd.Series([value for value in row if not pd.isna(value)], dtype=object).value_counts()
        return counts.index[0] if len(counts) == 1 or counts.iloc[0] > counts.iloc[1] else None

    return pd.Series([winner(row) for row in votes.itertuples(index=False)], index=votes.index, dtype=object)


def gold_codes(labels: Sequence[Any], values: pd.Series[Any], into: Any, has: str | None = None) -> Indices:
    """Return the number of each judged label; raise InputError for labels that the column cannot have.

    ``has`` says what has the labels, by default the column.
    """
    codes = label_codes(labels, values)
    unknown = values[(codes < 0) & values.notna().to_numpy(dtype=bool)]
    if len(unknown):
        names = list(dict.fromkeys(_plain(unknown)))
        raise InputError(
            f"gold has labels that {has or f'{into!r} does'} not have: {list_names(names)} (in {len(unknown):,} rows). "
            f"Its labels are {list_names(labels)}.{_hint(names, labels)} A column with further labels must be a "
            "category that names them all."
        )
    return codes


def _hint(unknown: Sequence[Any], labels: Sequence[Any]) -> str:
    """Return what may have been meant by judged labels that are none of these."""
    by_text = {" ".join(str(label).split()).casefold(): label for label in labels}
    meant = by_text.get(" ".join(str(unknown[0]).split()).casefold())
    if meant is not None and type(meant) is not type(unknown[0]):
        return f" They differ in type: {type(unknown[0]).__name__} in gold, {type(meant).__name__} in the column."
    if meant is None:
        close = difflib.get_close_matches(str(unknown[0]).casefold(), list(by_text), n=1, cutoff=0.6)
        meant = by_text[close[0]] if close else None
    return "" if meant is None else f" Perhaps {meant!r} was meant."


def number_strata(values: Reals) -> Indices:
    """Return the stratum of each number: itself where there are few, else its quantile; -1 where it is missing."""
    present = ~np.isnan(values)
    strata = np.full(len(values), -1, dtype=np.int64)
    distinct, codes = np.unique(values[present], return_inverse=True)
    strata[present] = codes if len(distinct) <= MANY_VALUES else quantile_strata(values[present], NUMBER_STRATA)
    return strata


def column_strata(series: pd.Series[Any], name: Any) -> Indices:
    """Return the stratum of each row of a column of labels or numbers, -1 where it is missing."""
    if pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype):
        return number_strata(number_values(series, f"Column {name!r}"))
    return LabelColumn.of(series, name).codes


def drawn_weights(frame: pd.DataFrame, judged: Judged, population: NDArray[np.bool_]) -> Reals | None:
    """Return how many rows of the population each judged row stands for, ``None`` where it is not known.

    For labels that are no column of the frame: the strata are the labels by which the sample was drawn, where the frame
    has them; else rows count by their own weights.
    """
    design = judged.design
    if design is not None and all(name in frame.columns for name in (design.into, *design.by)):
        # A column of the same name may hold something else by now.
        with contextlib.suppress(InputError):
            return design_weights(frame, column_strata(frame[design.into], design.into), judged, population)
    return judged.weights


def cells(*codes: Indices) -> Indices:
    """Return the number of each combination of codes, -1 where one of them is missing."""
    table = np.stack(codes, axis=1)
    present = (table >= 0).all(axis=1)
    numbers = np.full(len(table), -1, dtype=np.int64)
    if present.any():
        numbers[present] = np.unique(table[present], axis=0, return_inverse=True)[1].ravel()
    return numbers


def design_weights(frame: pd.DataFrame, strata: Indices, judged: Judged, population: NDArray[np.bool_]) -> Reals:
    """Return how many rows of the population each judged row stands for.

    By its own weight, else by the design of the sample, else as a random sample within each stratum; calibrated to
    the sizes of the strata. ``population`` marks rows of the frame; judged rows outside of it weigh nothing.
    """
    inside = population[judged.rows] & (strata[judged.rows] >= 0)
    weights = np.zeros(len(judged.rows))
    if not inside.any():
        return weights
    fine = strata
    if judged.weights is None and judged.design is not None and judged.design.by:
        fine = cells(strata, Groups.of(frame, list(judged.design.by), judged.design.into).codes)
    base = np.ones(len(judged.rows)) if judged.weights is None else judged.weights
    for level in (fine, strata):
        # First by the cells of the design, where each has judged rows; then to the known sizes of the strata.
        numbers, codes = np.unique(level[population & (strata >= 0)], return_inverse=True)
        sizes = np.bincount(codes, minlength=len(numbers)).astype(np.int64)
        own = np.searchsorted(numbers, level[judged.rows[inside]])
        weights[inside] = calibrate(own, sizes, base[inside])
        base = weights
    return weights

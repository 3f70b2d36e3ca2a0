"""Methods that need all rows: what each partition adds to their result, and how it becomes one.

``cluster`` finds its clusters in a sample, ``dedupe`` goes from partition to partition with what is kept so far, and
``topics`` needs a few rows and a count of each cluster of a partition.
"""

from __future__ import annotations

import bisect
import contextlib
from typing import Any

import numpy as np
import pandas as pd
from dask import delayed  # type: ignore[attr-defined]
from dask.dataframe import from_delayed

from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.methods.cluster import most_similar_first
from skytells_nb.accessor.methods.dedupe import Keep, dedupe_part
from skytells_nb.columns import text_columns
from skytells_nb.errors import InputError
from skytells_nb.vectors.arrays import Floats
from skytells_nb.vectors.kmeans import SAMPLE_ROWS, SEED

VECTORS = "_vectors"
"""The column of embeddings of a column of texts, while a method needs it."""
ROWS = "_rows"
"""The column of the rows that a row stands for."""
MAX_JOINED = 50_000
"""Rows of a collection that another is joined with."""
JOINED = 8
"""Samples that become one at a time."""

Drawn = tuple[pd.DataFrame, Any]


def computed_rows(data: Any) -> pd.DataFrame:
    """Compute a collection of few rows; raises InputError if they are many."""
    rows: pd.DataFrame = data.head(MAX_JOINED + 1, npartitions=-1)
    if len(rows) > MAX_JOINED:
        raise InputError(
            f"other must have at most {MAX_JOINED:,} rows, which every worker gets: join the larger collection with "
            "the smaller one, or with some of its rows."
        )
    return rows


def labeled_row(data: Any, label: Any) -> pd.DataFrame:
    """Compute the one row with this label; raises InputError if there is none, or there are several."""
    where = data
    if data.known_divisions:
        with contextlib.suppress(TypeError):
            number = bisect.bisect_right(data.divisions, label) - 1
            where = data.partitions[min(max(0, number), data.npartitions - 1)]
    rows: pd.DataFrame = where.map_partitions(_labeled, label, meta=data._meta, enforce_metadata=False).compute()
    if not len(rows):
        raise InputError(f"There is no row {label!r} in the index.")
    if len(rows) > 1:
        raise InputError(f"The label {label!r} must name one row, got {len(rows):,}. Use another index first.")
    return rows


def _labeled(part: pd.DataFrame, label: Any) -> pd.DataFrame:
    try:
        return part[part.index.isin([label])]
    except TypeError:
        return part[:0]


def with_row_first(part: pd.DataFrame, row: pd.DataFrame, column: Any) -> pd.DataFrame:
    """Return the rows of a partition behind this one, which may be of it; no rows of an empty partition."""
    if not len(part):
        return part
    # Categories may be those of each partition; of the row only this column matters.
    own = {
        name: dtype for name, dtype in part.dtypes.items() if isinstance(dtype, pd.CategoricalDtype) and name != column
    }
    return pd.concat([row.astype(own), part[~part.index.isin(row.index)]])


def sample_rows(data: Any) -> pd.DataFrame:
    """Compute a collection, and return ``SAMPLE_ROWS`` of its rows in their order, each as likely as any other."""
    parts = [delayed(_draw)(part, number) for number, part in enumerate(data.to_delayed())]
    while len(parts) > 1:
        parts = [delayed(_fewer)(parts[start : start + JOINED]) for start in range(0, len(parts), JOINED)]
    rows: pd.DataFrame = parts[0].compute()[0]
    return rows


def _draw(part: pd.DataFrame, number: int) -> Drawn:
    return _fewer([(part, np.random.default_rng([SEED, number]).random(len(part)))])


def _fewer(parts: list[Drawn]) -> Drawn:
    rows, drawn = pd.concat([part for part, _ in parts]), np.concatenate([numbers for _, numbers in parts])
    kept = np.sort(np.argsort(drawn)[:SAMPLE_ROWS])
    return rows.iloc[kept], drawn[kept]


def deduped(data: Any, column: Any, threshold: float, keep: Keep, into: Any, drop: list[Any]) -> Any:
    """Return the lazy result of ``dedupe`` on a collection with a column of embeddings, without the ones of ``drop``.

    Partitions are compared one after the other, each with the vectors of the rows that are kept of those before it.
    """
    earlier: Any = np.empty((0, 0), dtype=np.float32)
    step, results = delayed(_dedupe_step, nout=2), []
    for part in data.to_delayed():
        result, earlier = step(part, earlier, column, threshold, keep, into, drop)
        results.append(result)
    meta = dedupe_part(data._meta, np.empty((0, 0), dtype=np.float32), column, threshold, keep, into)[0]
    return from_delayed(results, meta=meta.drop(columns=drop), divisions=data.divisions, verify_meta=False)


def _dedupe_step(
    part: pd.DataFrame, earlier: Floats, column: Any, threshold: float, keep: Keep, into: Any, drop: list[Any]
) -> tuple[pd.DataFrame, Floats]:
    result, kept = dedupe_part(part, earlier, column, threshold, keep, into)
    return result.drop(columns=drop), kept


def topics_of(data: Any, into: Any, text: Any, examples: int) -> Any:
    """Return the lazy table of the clusters of a collection."""
    meta = FrameAccessor(data._meta_nonempty).topics(into, text=text, examples=examples)[:0]
    if text is None:
        (text,) = text_columns(data._meta_nonempty, exclude=[into])
    columns, score = list(dict.fromkeys([into, f"{into}_score", text])), f"{into}_score"
    few = data._meta[columns].assign(**{ROWS: pd.Series([], dtype="int64")})
    arguments = (into, score, text, examples)
    rows = data.map_partitions(_few_of_each, columns, *arguments, meta=few, clear_divisions=True)
    whole = rows.repartition(npartitions=1)
    return whole.map_partitions(_topics, into, text, examples, meta=meta, enforce_metadata=False, clear_divisions=True)


def _few_of_each(part: pd.DataFrame, columns: list[Any], into: Any, score: Any, text: Any, most: int) -> pd.DataFrame:
    """Return the rows with the texts of each cluster that may be examples, with the number of its rows in one."""
    similarity = part[score].to_numpy(dtype=np.float32, na_value=-1)
    order = most_similar_first(np.nan_to_num(similarity, nan=-1))
    rows = part[columns].iloc[order].assign(**{ROWS: order})
    rows = rows[rows[into].notna() & ~rows.duplicated([into, text])]
    # One more: a missing text is no example.
    rows = rows[rows.groupby(into, observed=True).cumcount() <= most].sort_values(ROWS)
    counts = rows[into].map(part[into].value_counts()).astype("int64")
    rows[ROWS] = counts.where(~rows[into].duplicated(), 0)
    few: pd.DataFrame = rows
    return few


def _topics(rows: pd.DataFrame, into: Any, text: Any, examples: int) -> pd.DataFrame:
    table = FrameAccessor(rows).topics(into, text=text, examples=examples)
    counts = rows.groupby(into, observed=True)[ROWS].sum()
    sizes = table["name"].map(dict(zip(counts.index, counts, strict=True))).to_numpy(dtype=np.int64)
    table["size"], table["share"] = sizes, sizes / max(1, sizes.sum())
    place = rows[into].cat.categories.get_indexer(table["name"])
    ordered: pd.DataFrame = table.iloc[np.lexsort((place, -sizes))].reset_index(drop=True)
    return ordered

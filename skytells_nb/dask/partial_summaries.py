"""Summaries of groups that are in several partitions: a summary of the summaries of each."""

from __future__ import annotations

import pandas as pd

from skytells_nb.accessor.methods.summarize import COUNT

GROUP = "_group"
"""The column of the groups, where summaries are summarized again."""


def several_partials(partial: pd.DataFrame, into: str) -> pd.DataFrame:
    """Return the rows of the groups that need a summary of several, in the order of the partitions.

    Not those of a group that one partition has no summary of: what it says would be left out.
    """
    groups = partial[partial[COUNT] > 0].groupby(level=0, observed=True)
    complete = groups[into].transform("count") == groups[into].transform("size")
    found = partial[partial[COUNT] > 0][complete & (groups[into].transform("size") > 1)]
    return found.reset_index(names=GROUP)


def whole_summaries(partial: pd.DataFrame, again: pd.DataFrame, into: str) -> pd.DataFrame:
    """Return a row for each group: the summary of its only partition, or that of all of them."""
    filled = partial[partial[COUNT] > 0]
    counts = partial.groupby(level=0, observed=True)[COUNT].sum()
    single = filled[~filled.index.duplicated(keep=False)]
    others = partial.columns.drop(COUNT)
    result = pd.concat([single[others], again[others]]).reindex(counts.index).astype(partial.dtypes[others])
    result.insert(0, COUNT, counts)
    result.index.name = partial.index.name
    return result[list(partial.columns)]

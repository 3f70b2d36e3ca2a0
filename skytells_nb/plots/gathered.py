"""Categories that share a line of the safety heatmap, so that forty of them can still be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skytells_nb.plots.findings import WHOLE_VERDICT, Findings
from skytells_nb.plots.levels import SAFE, UNCHECKED


def gathered(found: Findings, most: int) -> tuple[Findings, list[str]]:
    """At most ``most`` categories and up to two lines for the rest; the names of these lines.

    Up to ``most`` categories stay as they are. Of more, those in which nothing was flagged share one line, and of the
    others those with the fewest flags another. In a shared line the worst finding of each row counts.
    """
    n = len(found.categories)
    if n <= most:
        return found, []
    flags = np.bincount(found.category[(found.level != SAFE) & (found.level != UNCHECKED)], minlength=n)
    # The one that stands for a whole verdict is not one of many.
    own = np.array([name == WHOLE_VERDICT for name in found.categories])
    quiet = np.flatnonzero((flags == 0) & ~own)
    loud = sorted(np.flatnonzero((flags > 0) & ~own).tolist(), key=lambda at: (-int(flags[at]), found.categories[at]))
    merged: dict[str, list[int]] = {}
    if len(loud) > most:
        merged[f"{len(loud) - most:,} more categories"] = loud[most:]
    if len(quiet) > 1:
        merged[f"{len(quiet):,} categories without a flag"] = quiet.tolist()
    place = np.arange(n)
    for at, members in enumerate(merged.values()):
        place[members] = n + at
    category = place[found.category]
    key = np.stack([found.row, found.side, category], axis=1)
    distinct, which = np.unique(key, axis=0, return_inverse=True)
    which = which.reshape(-1)
    level, filtered = np.zeros(len(distinct), np.int64), np.zeros(len(distinct), np.bool_)
    np.maximum.at(level, which, found.level)
    filtered[which[found.filtered]] = True
    row, side, category = distinct.T
    names = [*found.categories, *merged]
    kept = replace(found, categories=names, row=row, side=side, category=category, level=level, filtered=filtered)
    return kept, list(merged)

"""Pairs of rows of two frames, and the frame that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.nearest import EXACTNESS, nearest
from skytells_nb.accessor.vectors import Floats, Places, Vectors
from skytells_nb.errors import InputError

How = Literal["inner", "left"]


@dataclass(frozen=True)
class Pairs:
    """Positions of rows (p,) left and right, and their cosines; the rows of the left in order, the best pair first."""

    left: Places
    right: Places
    score: Floats

    def where(self, keep: NDArray[np.bool_]) -> Pairs:
        return Pairs(self.left[keep], self.right[keep], self.score[keep])


def nearest_pairs(left: Vectors, right: Vectors, k: int, threshold: float | None) -> Pairs:
    """Each left row with its ``k`` nearest right rows, those below the threshold left out."""
    places, scores = nearest(left.matrix, right.matrix, k)
    each = places.shape[1]
    pairs = Pairs(np.repeat(left.rows, each), right.rows[places.ravel()], scores.ravel())
    return pairs if threshold is None else pairs.where(pairs.score >= threshold - EXACTNESS)


def result_names(
    left: pd.Index[Any], right: pd.Index[Any], suffixes: tuple[str, str], into: Any
) -> tuple[list[Any], list[Any]]:
    """The names of both sides' columns in the result; raises InputError where two of them would be the same."""
    for side in (left, right):
        if side.nlevels > 1:
            raise InputError("join takes frames whose columns have one level; flatten the names first.")
    both = set(left) & set(right)
    names = [
        [f"{name}{suffix}" if name in both and suffix else name for name in side]
        for side, suffix in zip((left, right), suffixes, strict=True)
    ]
    every = [*names[0], *names[1], into]
    twice = next((name for name in every if every.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"The result would have two columns {twice!r}: choose other suffixes= or another into=.")
    return names[0], names[1]


def merged(
    frame: pd.DataFrame,
    other: pd.DataFrame,
    pairs: Pairs,
    how: How,
    names: tuple[list[Any], list[Any]],
    into: Any,
) -> pd.DataFrame:
    """The columns of both frames side by side, with the left one's index and the cosines in ``into``.

    ``how="left"`` keeps left rows without a pair, with nulls on the right.
    """
    right, score = pairs.right, pairs.score
    rows = pairs.left
    if how == "left":
        missing = np.setdiff1d(np.arange(len(frame)), rows)
        rows = np.concatenate([rows, missing])
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        right = np.concatenate([right, np.full(len(missing), -1)])[order]
        score = np.concatenate([score, np.full(len(missing), np.nan, dtype=np.float32)])[order]
    mine = frame.iloc[rows]
    theirs = other.set_axis(pd.RangeIndex(len(other)), axis=0).reindex(right).set_axis(mine.index)
    # As columns and not as arrays: pandas would make an object column of texts one of another dtype.
    made: Mapping[Any, Any] = {
        **{name: mine.iloc[:, at] for at, name in enumerate(names[0])},
        **{name: theirs.iloc[:, at] for at, name in enumerate(names[1])},
        into: score,
    }
    return pd.DataFrame(made, index=mine.index)

"""Where the points of a map lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skytells_nb.plots.neighbours import Floats

Method = Literal["umap", "pca"]


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Points (n, 2 or 3) in the order of the vectors, and in words how they were made."""

    points: Floats
    method: Method
    how: str

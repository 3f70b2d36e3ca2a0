"""Frames with embeddings and their maps, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skytells_nb.columns import from_matrix
from skytells_nb.plots import semantic_map

UNTRUSTED = '<a href="https://example.org">click</a> <b>$x$</b> %{meta.summary}'
"""Text with markup, MathJax and a reference of plotly."""


def frame(n: int = 30, n_groups: int = 3) -> pd.DataFrame:
    """Rows in groups of similar vectors, each with a text, a score and a weight."""
    random = np.random.default_rng(0)
    matrix = (
        random.normal(size=(n, 8)).astype(np.float32) + 5 * np.eye(8, dtype=np.float32)[np.arange(n) % n_groups % 8]
    )
    return pd.DataFrame(
        {
            "embedding": from_matrix(matrix, index=range(100, 100 + n)),
            "topic": [f"topic {i % n_groups}" for i in range(n)],
            "text": [f"a somewhat longer text of row {i}" for i in range(n)],
            "score": np.linspace(0, 1, n),
            "weight": np.arange(n),
        },
        index=range(100, 100 + n),
    )


def draw(data: pd.DataFrame, **options: Any) -> go.Figure:
    return semantic_map(data, **{"method": "pca", **options})


def linear(color: str) -> Any:
    """The light of a ``#rrggbb`` color, (3,)."""
    parts = np.array(list(bytes.fromhex(color[1:]))) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(color: str, page: str) -> float:
    """The contrast of WCAG 2."""
    lights = sorted(float(linear(shown) @ [0.2126, 0.7152, 0.0722]) + 0.05 for shown in (color, page))
    return lights[1] / lights[0]

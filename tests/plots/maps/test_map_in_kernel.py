"""A map in a notebook: the saved outputs of the figure and of the progress line."""

from __future__ import annotations

import json
import re
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

MAP = """
import numpy as np, pandas as pd, skytells_nb as sky
points = np.random.default_rng(0).normal(size=({rows}, 8)).astype(np.float32)
frame = pd.DataFrame({{"embedding": list(points), "topic": ["a", "b"] * ({rows} // 2)}})
sky.plots.semantic_map(frame, label="topic", method="pca", hulls=True)
"""
PROGRESS = """
import os
os.environ.pop("PYTEST_CURRENT_TEST", None)
from skytells_nb.plots.maps.progress import progress_line
with progress_line(True, "Map of 9 rows") as on_progress:
    on_progress("loading UMAP", 0, 0)
    on_progress("finding neighbors", 0, 0)
"""
JSON_BYTES_PER_POINT = 60


def outputs_of(*sources: str) -> list[list[Any]]:
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=280, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_notebook_stores_points_but_not_plotly() -> None:
    """The size of maps of 2,000 and 6,000 rows is that of their points; the progress line is one output."""
    small, large, ((line,)) = outputs_of(MAP.format(rows=2_000), MAP.format(rows=6_000), PROGRESS)
    for rows, ((output,)) in ((2_000, small), (6_000, large)):
        assert "application/vnd.plotly.v1+json" in output.data
        assert len(json.dumps(output)) < 20_000 + JSON_BYTES_PER_POINT * rows
    assert re.fullmatch(r"Map of 9 rows · done in \d+ s", line.data["text/plain"])
    assert "<progress" in line.data["text/html"]

"""What a semantic map costs beside umap-learn called by hand: ``python -m benchmarks.maps``.

Each side runs in processes of its own, in turns, on the same 10,000 unit vectors of 1,536 dimensions and with the same
parameters. Neither starts with a projection on disk; both find numba's compiled code where an earlier run left it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PARAMETERS = {"n_neighbors": 15, "min_dist": 0.1, "metric": "cosine", "random_state": 42}
GROUPS, LATENT_DIMENSIONS = 40, 24
ALLOWED_RATIO = 1.10
CACHED_LIMIT_S = 0.5
CLOCKS = ("wall_s", "cpu_s")


def vectors(rows: int, dimensions: int) -> Any:
    """Unit vectors in groups, as embeddings of texts about a few topics lie."""
    random = np.random.default_rng(0)
    group = random.integers(GROUPS, size=rows)
    latent = 3 * random.normal(size=(GROUPS, LATENT_DIMENSIONS))[group] + random.normal(size=(rows, LATENT_DIMENSIONS))
    noise = 0.5 * random.normal(size=(rows, dimensions))
    matrix = latent @ random.normal(size=(LATENT_DIMENSIONS, dimensions)) + noise
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the work gives, and its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def by_hand(matrix: Any) -> dict[str, Any]:
    """umap-learn from its import to its points, and nothing drawn."""

    def work() -> Any:
        from umap import UMAP

        return UMAP(**PARAMETERS).fit_transform(matrix)

    points, cost = timed(work)
    return {"first": cost, "trustworthiness": trust(matrix, points)}


def by_library(matrix: Any) -> dict[str, Any]:
    """The first figure of a process, and a second one in other colours."""
    import pandas as pd

    from skytells_nb.columns import from_matrix

    texts = [
        f"row {i} says something of some length about one of the topics that there are" for i in range(len(matrix))
    ]
    groups = [f"group {i % GROUPS}" for i in range(len(matrix))]
    frame = pd.DataFrame({"embedding": from_matrix(matrix), "text": texts, "group": groups})

    def work(color: str | None) -> Any:
        from skytells_nb.plots import semantic_map

        return semantic_map(frame, color=color, **PARAMETERS)

    figure, first = timed(lambda: work(None))
    _, again = timed(lambda: work("group"))
    points = np.stack([figure.data[0].x, figure.data[0].y], axis=1)
    return {"first": first, "again": again, "trustworthiness": trust(matrix, points)}


def trust(matrix: Any, points: Any) -> float:
    from skytells_nb.plots.quality import measure

    found = measure(matrix, np.asarray(points, dtype=np.float32))
    assert found is not None
    return found.trustworthiness


SIDES = {"hand": by_hand, "library": by_library}


def measured(side: str, rows: int, dimensions: int) -> dict[str, Any]:
    """One side in a process of its own, with a cache folder that is empty but for compiled code."""
    command = [sys.executable, "-m", "benchmarks.maps", "--side", side]
    command += ["--rows", str(rows), "--dimensions", str(dimensions)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, env={**os.environ, "SKYTELLS_CACHE_DIR": folder}, stdout=subprocess.PIPE, text=True, check=True
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=1_536)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--side", choices=SIDES)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(SIDES[asked.side](vectors(asked.rows, asked.dimensions))))
        return
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for pair in range(asked.pairs):
        for side, found in runs.items():
            found.append(measured(side, asked.rows, asked.dimensions))
            print(pair, side, json.dumps(found[-1]), flush=True)
    for clock in CLOCKS:
        hand, library = (statistics.median(run["first"][clock] for run in runs[side]) for side in SIDES)
        words = "kept" if library <= ALLOWED_RATIO * hand else "missed"
        print(f"{clock}: by hand {hand:.1f}, library {library:.1f}, ratio {library / hand:.2f} ({words})")
    again = {clock: statistics.median(run["again"][clock] for run in runs["library"]) for clock in CLOCKS}
    words = "kept" if again["wall_s"] < CACHED_LIMIT_S else "missed"
    print(f"second figure: wall_s {again['wall_s']:.2f}, cpu_s {again['cpu_s']:.2f} ({words})")


if __name__ == "__main__":
    main()

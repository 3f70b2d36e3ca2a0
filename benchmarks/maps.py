"""What a semantic map costs beside umap-learn called by hand: ``python -m benchmarks.maps``.

Each side runs in processes of its own, in pairs that take turns at going first, on the same unit vectors (10,000 of
1,536 dimensions) and with the same parameters. Neither starts with a projection on disk; both find numba's compiled
code where an earlier run left it. Then the second figure, in the same process and in a new one that finds the layout on
disk, and what ``import skytells_nb.plots`` loads.
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
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

PARAMETERS = {"n_neighbors": 15, "min_dist": 0.1, "metric": "cosine", "random_state": 42}
GROUPS, LATENT_DIMENSIONS = 40, 24
ALLOWED_RATIO = 1.10
CACHED_LIMIT_S = 0.5
CLOCKS = ("wall_s", "cpu_s")
HEAVY = ("umap", "numba")
OUT = Path(__file__).parent / "results" / "maps.jsonl"


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
    """The first figure of a process, and a second one in other colors."""
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
    from skytells_nb.plots.maps.quality import measure_quality

    found = measure_quality(matrix, np.asarray(points, dtype=np.float32))
    assert found is not None
    return found.trustworthiness


def imported() -> dict[str, Any]:
    """What importing the charts loads and takes."""
    _, cost = timed(lambda: __import__("skytells_nb.plots"))
    return {"first": cost, "loaded": [name for name in HEAVY if name in sys.modules]}


SIDES = {"hand": by_hand, "library": by_library}


def measured(side: str, rows: int, dimensions: int, folder: str) -> dict[str, Any]:
    """One side in a process of its own; ``folder`` is where the library keeps layouts."""
    command = [sys.executable, "-m", "benchmarks.maps", "--side", side]
    command += ["--rows", str(rows), "--dimensions", str(dimensions)]
    done = subprocess.run(
        command, env={**os.environ, "SKYTELLS_CACHE_DIR": folder}, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"side": side, "rows": rows, "dimensions": dimensions, **found}


def runs(rows: int, dimensions: int, pairs: int) -> Iterator[dict[str, Any]]:
    """Every run of all pairs, one after the other; ``fresh`` is a new process that finds the layout of the last."""
    with tempfile.TemporaryDirectory() as folder:
        yield {"pair": 0, **measured("import", rows, dimensions, folder)}
    for pair in range(pairs):
        for side in sorted(SIDES, reverse=pair % 2 == 1):
            with tempfile.TemporaryDirectory() as folder:
                yield {"pair": pair, **measured(side, rows, dimensions, folder)}
                if side == "library":
                    yield {"pair": pair, **measured(side, rows, dimensions, folder), "side": "fresh"}


def judged(found: list[dict[str, Any]]) -> list[str]:
    """The goals, each with the medians that decide it."""

    def median(side: str, figure: str, clock: str) -> float:
        return statistics.median(run[figure][clock] for run in found if run["side"] == side)

    said = []
    for clock in CLOCKS:
        hand, library = median("hand", "first", clock), median("library", "first", clock)
        words = "kept" if library <= ALLOWED_RATIO * hand else "missed"
        said.append(f"{clock}: by hand {hand:.1f}, library {library:.1f}, ratio {library / hand:.2f} ({words})")
    for what, side, figure in (("same", "library", "again"), ("new", "fresh", "first")):
        wall, cpu = (median(side, figure, clock) for clock in CLOCKS)
        words = "kept" if wall < CACHED_LIMIT_S else "missed"
        said.append(f"second figure, {what} process: wall_s {wall:.2f}, cpu_s {cpu:.2f} ({words})")
    loaded = next(run["loaded"] for run in found if run["side"] == "import")
    said.append(f"import skytells_nb.plots loads {' and '.join(loaded) or 'neither umap nor numba'}")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=1_536)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--side", choices=[*SIDES, "import"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        work = SIDES.get(asked.side)
        print(json.dumps(work(vectors(asked.rows, asked.dimensions)) if work else imported()))
        return
    about = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "cores": os.cpu_count()}
    found = []
    with asked.out.open("w", encoding="utf-8") as file:
        for run in runs(asked.rows, asked.dimensions, asked.pairs):
            found.append(run)
            print(json.dumps({**run, **about}), file=file, flush=True)
            print(json.dumps(run), flush=True)
    print("\n".join(judged(found)))


if __name__ == "__main__":
    main()

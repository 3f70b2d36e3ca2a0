"""This library, as its users call it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.contract import Run

IMPORT = "import skytells_nb.accessor.frame"
"""With what the first `df.skytells` loads: peers load all of theirs at once."""
PACKAGES = ("skytells-nb", "httpx", "numpy", "pandas")


def setup(run: Run) -> None:
    import skytells_nb as sky
    import skytells_nb.accessor.frame

    if run.workload.to_parquet:
        import pyarrow.parquet  # noqa: F401

    settings: dict[str, Any] = {"max_in_flight": run.in_flight} if run.tuned else {}
    cache = run.cache_dir / "answers.db" if run.cached else "off"
    sky.connect(run.api_key, base_url=run.base_url, cache=cache, **settings)


def embed(texts: list[str], run: Run) -> Any:
    frame = pd.DataFrame({"text": texts})
    size = None if run.workload.dimensions == 1536 else run.workload.dimensions
    if run.workload.to_parquet:
        return _to_parquet(frame, run, size)
    done = frame.skytells.embed("text", dimensions=size, progress=False)
    _note(done, run)
    return done["embedding"]


def chat(texts: list[str], run: Run) -> Any:
    done = pd.DataFrame({"text": texts}).skytells.complete("{text}", progress=False)
    _note(done, run)
    return done["completion"]


def _to_parquet(frame: pd.DataFrame, run: Run, size: int | None) -> Any:
    path = run.cache_dir / "vectors.parquet"
    frame.skytells.embed("text", dimensions=size, progress=False, to=path)
    return _ParquetVectors(path)


def _note(done: pd.DataFrame, run: Run) -> None:
    report = done.skytells.report
    run.notes.update(requests=report.requests, retries=report.retries, cached=report.cached, failed=report.failed)


class _ParquetVectors:
    """The vectors of a file, read once the clock has stopped; a million of them as one list would fill the memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _column(self) -> Any:
        import pyarrow.parquet as pq

        return pq.read_table(self._path, columns=["embedding"])["embedding"]

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: int) -> Any:
        return self._column[row].values.to_numpy()

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._column.chunks:
            yield from chunk.flatten().to_numpy().reshape(len(chunk), -1)

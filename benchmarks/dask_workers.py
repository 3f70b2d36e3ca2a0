"""Do the workers of a Dask cluster use an account's limit, share it, and pay for each text once? What does a row cost?

``python -m benchmarks.dask_workers --out results.jsonl`` starts a local Skytells with an account-wide limit and a
cluster of 1, 2, 4 or 8 worker processes for each cell, with and without headers. They complete texts, and then the
same texts in another partition. After the first window: the share of the permitted rate that was let through, the share
of requests that got 429, and Jain's fairness index of the workers; over all: requests for each distinct text.
``--rows 100000`` compares the CPU that workers and that one process take to embed so many different texts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import skytells_nb as sky
from benchmarks.pacing import LATENCY_S, Counting, Flat
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.faults import Faults
from skytells_nb.local.server import LocalServer

WORKERS = (1, 2, 4, 8)
FLAT = Flat()
LIMIT, WINDOW_S = 20, 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: ``share``, ``refused`` and ``fairness`` (Jain's index) after the first window.

    ``requests`` are those for each distinct text, over all.
    """

    workers: int
    headers: bool
    share: float
    refused: float
    fairness: float
    requests: float


def cluster_of(workers: int, server: LocalServer, folder: Path) -> Any:
    import distributed

    environment = {
        "SKYTELLS_API_KEY": server.api_key,
        "SKYTELLS_BASE_URL": server.base_url,
        "SKYTELLS_CACHE": str(folder / "answers.sqlite"),
        "SKYTELLS_CACHE_DIR": str(folder),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None, env=environment
    )


def measure(workers: int, headers: bool, windows: int) -> Cell:
    """Let so many workers complete texts under a limit; look at so many windows, and then wait until all are done."""
    import dask.dataframe as dd
    import distributed

    import skytells_nb.dask  # noqa: F401

    # Partitions that are done at the same time have different texts: each begins with those of its number.
    size = int(1.3 * LIMIT * windows / workers)
    frame = pd.DataFrame({"text": [f"{part} text {n}" for part in range(workers) for n in range(size)]})
    counting = Counting()
    limits = LimitOptions(LIMIT, WINDOW_S, headers=headers)
    with (
        tempfile.TemporaryDirectory() as name,
        LocalServer(
            limits=limits, faults=Faults(latency=LATENCY_S), generator=counting, embedder=FLAT, moderator=FLAT
        ) as server,
        cluster_of(workers, server, Path(name)) as cluster,
        distributed.Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        sky.connect(server.api_key, base_url=server.base_url, cache=Path(name) / "answers.sqlite")
        client.run(_connect)
        parts = [dd.from_pandas(frame, chunksize=size), dd.from_pandas(frame, npartitions=1)]
        first, again = (part.skytells.complete("{text}", max_tokens=1, progress=False) for part in parts)
        future = client.compute(first)
        while not counting.let_through:
            time.sleep(0.001)
        begun = counting.let_through[0][0]
        time.sleep(max(0.0, begun + WINDOW_S - time.monotonic()))
        early = server.stats["chat"].statuses.get(429, 0)
        until = begun + windows * WINDOW_S
        time.sleep(max(0.0, until + LATENCY_S - time.monotonic()))
        refused = server.stats["chat"].statuses.get(429, 0) - early
        future.result()
        client.compute(again).result()
        # Half a window's requests may be a few milliseconds on the other side of a border.
        edge = 0.01 * WINDOW_S
        after = [who for when, who in counting.let_through if begun + WINDOW_S - edge <= when < until - edge]
        each = [after.count(number) for number in range(workers)]
        return Cell(
            workers=workers,
            headers=headers,
            share=len(after) / (LIMIT * (windows - 1)),
            refused=refused / max(1, len(after) + refused),
            fairness=sum(each) ** 2 / max(1, workers * sum(count**2 for count in each)),
            requests=server.stats["chat"].statuses[200] / len(frame),
        )


def _connect() -> None:
    sky.current()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cost_of_rows(rows: int, workers: int) -> tuple[float, float]:
    """Return the microseconds of CPU a row that one process and that the workers take to embed different texts."""
    import dask.dataframe as dd
    import distributed

    import skytells_nb.dask  # noqa: F401

    def texts() -> pd.DataFrame:
        mark = os.urandom(4).hex()
        return pd.DataFrame({"text": [f"{mark} text {number}" for number in range(rows)]})

    with (
        tempfile.TemporaryDirectory() as name,
        LocalServer(generator=Counting(), embedder=FLAT, moderator=FLAT) as server,
        cluster_of(workers, server, Path(name)) as cluster,
        distributed.Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        single = [sys.executable, "-m", "benchmarks.dask_workers", "--single", str(rows)]
        environment = {
            **os.environ,
            "SKYTELLS_API_KEY": server.api_key,
            "SKYTELLS_BASE_URL": server.base_url,
            "SKYTELLS_CACHE": str(Path(name) / "single.sqlite"),
        }
        sky.connect(server.api_key, base_url=server.base_url, cache=Path(name) / "answers.sqlite")
        warm = dd.from_pandas(texts()[: 10 * workers], npartitions=2 * workers)
        warm.skytells.embed("text", dimensions=4, progress=False).compute()
        one = float(subprocess.run(single, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout)
        ddf = dd.from_pandas(texts(), npartitions=2 * workers).persist()
        distributed.wait(ddf)  # type: ignore[no-untyped-call]
        before = sum(client.run(_cpu).values())
        distributed.wait(client.compute(ddf.skytells.embed("text", dimensions=4, progress=False)))  # type: ignore[no-untyped-call]
        many = sum(client.run(_cpu).values()) - before
        return one / rows * 1e6, many / rows * 1e6


def _single(rows: int) -> float:
    """Return the CPU that this process takes to embed so many different texts, after a few others."""
    frame = pd.DataFrame({"text": [f"text {number}" for number in range(rows)]})
    frame[:10].skytells.embed("text", dimensions=4, dtype="arrow", progress=False)
    began = _cpu()
    frame.skytells.embed("text", dimensions=4, dtype="arrow", progress=False)
    return _cpu() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cells, or the cost of rows, and print them as lines of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="append the lines to this file")
    parser.add_argument("--rows", type=int, help="measure the CPU of so many rows instead")
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    parser.add_argument("--windows", type=int, default=15)
    parser.add_argument("--single", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.single:
        print(_single(given.single))
        return
    lines: list[dict[str, Any]] = []
    for workers in given.workers:
        if given.rows:
            one, many = cost_of_rows(given.rows, workers)
            found = [{"workers": workers, "rows": given.rows, "one_us": one, "workers_us": many, "ratio": many / one}]
        else:
            found = [asdict(measure(workers, headers, given.windows)) for headers in (True, False)]
        for line in found:
            print(json.dumps({name: round(value, 3) for name, value in line.items()}), flush=True)
        lines += found
    if given.out is not None:
        with given.out.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    main()

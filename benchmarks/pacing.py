"""Do several processes on one account use its limit, without being refused, and share it?

``python -m benchmarks.pacing --out results.jsonl`` starts a local Skytells with account-wide limits for each cell of
the grid, then 1, 2 or 4 processes at once that complete rows of a frame until time is up.
None knows of the others. After the first window: the share of the permitted rate that was answered, the share of
requests that got 429, and Jain's fairness index of what each process was let through (1 is equal, 1 / processes is
one having all).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.faults import Faults
from skytells_nb.local.server import LocalServer

GRID = ((25, 2.0), (50, 1.0), (200, 1.0))
GRID_WITHOUT_HEADERS = ((20, 1.0), (60, 1.0), (200, 1.0))
PROCESSES = (1, 2, 4)
LATENCY_S = 0.05
HEADINGS = ("limit", "kind", "processes", "share", "refused", "refused after", "fairness", "let through")

Kind = Literal["fixed", "bucket"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement. ``refused`` is over the whole run, ``refused_after`` over what came after the first window."""

    requests: int
    window_s: float
    kind: Kind
    headers: bool
    processes: int
    seconds: float
    share: float
    refused: float
    refused_after: float
    fairness: float
    let_through: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Counting:
    """Answers at once, and writes down who was let through and when: a prompt begins with its process's number."""

    name = "local-counting"
    context = 1000
    available = True
    reason: str | None = None

    def __init__(self) -> None:
        self.let_through: list[tuple[float, int]] = []

    def count_tokens(self, messages_or_text: list[dict[str, Any]] | str) -> int:
        return 8

    def stream(self, messages: list[dict[str, Any]], **asked: Any) -> Iterator[Piece]:
        self.let_through.append((time.monotonic() - LATENCY_S, int(messages[-1]["content"].split()[0])))
        yield Piece("yes")
        yield Piece("", "stop", 8, 1)


class Flat:
    """Embeds everything alike and finds nothing unsafe."""

    name = "local-flat"
    dimensions = 4

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.full((len(texts), self.dimensions), 0.5, dtype=np.float32)

    def count_tokens(self, text: str) -> int:
        return 1

    def score(self, texts: Sequence[str]) -> list[dict[str, str]]:
        safe = dict.fromkeys(("hate", "self_harm", "sexual", "violence", "jailbreak"), "safe")
        return [safe for _ in texts]


def measure(requests: int, window: float, kind: Kind, processes: int, windows: int, *, headers: bool = True) -> Cell:
    """Start the server and the processes, let them work for so many windows, and count."""
    counting, flat = Counting(), Flat()
    limits = LimitOptions(requests, window, kind=kind, headers=headers)
    seconds = windows * window
    faults = Faults(latency=LATENCY_S)
    with LocalServer(limits=limits, faults=faults, generator=counting, embedder=flat, moderator=flat) as server:
        workers = [start_worker(server, number, int(requests * windows * 1.5)) for number in range(processes)]
        try:
            for worker in workers:
                assert worker.stdout is not None
                worker.stdout.readline()
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            while not counting.let_through:
                time.sleep(0.001)
            begun = counting.let_through[0][0]
            time.sleep(window)
            early = server.stats["chat"].statuses.get(429, 0)
            time.sleep(max(0.0, begun + seconds + LATENCY_S - time.monotonic()))
            refused = server.stats["chat"].statuses.get(429, 0)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    # Half a window's requests may be a few milliseconds on the other side of a border: a fixed one is counted whole.
    edge = 0.01 * window if kind == "fixed" else 0.0
    until = begun + seconds
    after = [who for when, who in counting.let_through if begun + window - edge <= when < until - edge]
    total = sum(when < until for when, _ in counting.let_through)
    each = tuple(after.count(number) for number in range(processes))
    return Cell(
        requests=requests,
        window_s=window,
        kind=kind,
        headers=headers,
        processes=processes,
        seconds=seconds,
        share=len(after) / (requests / window * (seconds - window)),
        refused=refused / (total + refused),
        refused_after=(refused - early) / max(1, len(after) + refused - early),
        fairness=sum(each) ** 2 / max(1, processes * sum(count**2 for count in each)),
        let_through=each,
    )


def start_worker(server: LocalServer, number: int, rows: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.pacing", "--work", server.base_url, server.api_key]
    return subprocess.Popen(
        [*command, str(number), str(rows)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def work(base_url: str, api_key: str, number: int, rows: int) -> None:
    """Complete the rows through the accessor, once told to."""
    import pandas as pd

    import skytells_nb as sky

    sky.connect(api_key, base_url=base_url, cache="off", max_in_flight=32)
    frame = pd.DataFrame({"text": [f"{number} {row}" for row in range(rows)]})
    frame.head(0).skytells.complete("{text}", progress=False)
    print("ready", flush=True)
    sys.stdin.readline()
    frame.skytells.complete("{text}", progress=False)


def row_of(cell: Cell) -> tuple[str, ...]:
    return (
        f"{cell.requests}/{cell.window_s:g} s",
        cell.kind if cell.headers else f"{cell.kind}, no headers",
        str(cell.processes),
        f"{cell.share:.3f}",
        f"{cell.refused:.2%}",
        f"{cell.refused_after:.2%}",
        f"{cell.fairness:.3f}",
        " ".join(map(str, cell.let_through)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="append a JSON line for each cell to this file")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--limits", help="requests of a window, of those of the grid")
    parser.add_argument("--processes", default=",".join(map(str, PROCESSES)))
    parser.add_argument("--kinds", default="fixed,bucket")
    parser.add_argument("--no-headers", action="store_true", help="the server sends no rate-limit headers")
    parser.add_argument("--work", nargs=4, metavar=("URL", "KEY", "NUMBER", "ROWS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        url, key, number, rows = given.work
        work(url, key, int(number), int(rows))
        return
    grid = GRID_WITHOUT_HEADERS if given.no_headers else GRID
    wanted = {int(limit) for limit in given.limits.split(",")} if given.limits else {limit for limit, _ in grid}
    widths = (11, 15, 10, 6, 8, 13, 9, 20)
    print("  ".join(heading.ljust(width) for heading, width in zip(HEADINGS, widths, strict=True)))
    for kind in given.kinds.split(","):
        for requests, window in grid:
            for processes in map(int, given.processes.split(",")):
                if requests not in wanted:
                    continue
                cell = measure(requests, window, kind, processes, given.windows, headers=not given.no_headers)
                print("  ".join(t.ljust(width) for t, width in zip(row_of(cell), widths, strict=True)), flush=True)
                if given.out is not None:
                    with given.out.open("a") as out:
                        out.write(json.dumps(asdict(cell)) + "\n")


if __name__ == "__main__":
    main()

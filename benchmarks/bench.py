"""Run adapters on workloads one after another; JSON lines and a page of tables in ``results/``.

python -m benchmarks.bench [--quick] [--adapters a,b] [--workloads W1,W5] [--repeats 2]
"""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import environments
from benchmarks.cells import CEILING, OWN, OWN_ONLY, PEERS, QUICK, SHARED, cells
from benchmarks.contract import adapter
from benchmarks.environments import SERVER, python_of
from benchmarks.measure import machine
from benchmarks.mock import control
from benchmarks.mock.control import ROOT
from benchmarks.results import Result, Results, cpu_ms, is_right
from benchmarks.summarize import rendered
from benchmarks.workers import Bench
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
SCRATCH = Path(__file__).parent / ".scratch"
QUICK_ADAPTERS = (OWN, CEILING, PEERS[0])

IMPORT_TIMER = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
from benchmarks.measure import peak_rss_mb
print(wall, cpu, peak_rss_mb())
"""


def main() -> None:
    given = _arguments()
    # Ended from outside, it ends the server and the worker too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    RESULTS.mkdir(exist_ok=True)
    SCRATCH.mkdir(exist_ok=True)
    wanted = given.adapters.split(",") if given.adapters else list(QUICK_ADAPTERS if given.quick else _everybody())
    names = given.workloads.split(",") if given.workloads else list(QUICK if given.quick else OWN_ONLY + SHARED)
    adapters = [name for name in wanted if name == OWN or environments.make(name)]
    repeats = given.repeats or (1 if given.quick else 2)
    about = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "revision": _revision(),
        "repeats": repeats,
    }
    name = given.name or ("quick" if given.quick else "full")
    lines = RESULTS / f"{name}.jsonl"
    kept: list[Result] = []
    environments.make(SERVER)
    with lines.open("w") as file, control.running(python_of(SERVER) or sys.executable) as port:
        file.write(json.dumps(about) + "\n")
        bench = Bench(port, given.timeout, SCRATCH)
        for result in _results(bench, adapters, names, repeats, quick=given.quick):
            kept.append(result)
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(_line(result), flush=True)
    page = rendered(about, Results(kept))
    lines.with_suffix(".md").write_text(page)
    print(f"\n{page}\nWritten to {lines.relative_to(ROOT)} and {lines.with_suffix('.md').relative_to(ROOT)}")


def _results(bench: Bench, adapters: list[str], names: list[str], repeats: int, *, quick: bool) -> Iterator[Result]:
    for repeat in range(repeats):
        for cell in cells(adapters, names, quick=quick):
            for result in bench.run(cell):
                yield {**result, "repeat": repeat}
    if not quick:
        for name in adapters:
            yield from _imported(name)


def _imported(name: str) -> Iterator[Result]:
    """What importing the library takes; the best of three, as the first reads the disk."""
    python = python_of(name)
    # Adapters import their libraries in their functions, except pandas, which is here too.
    statement = adapter(name).IMPORT
    tries = []
    for _ in range(3):
        command = [str(python), "-c", IMPORT_TIMER.format(statement=statement)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
        if done.returncode:
            return
        tries.append([float(word) for word in done.stdout.split()[-3:]])
    wall, cpu, rss = (min(column) for column in zip(*tries, strict=True))
    yield {
        "adapter": name,
        "workload": "IMPORT",
        "statement": statement,
        "wall_s": round(wall, 3),
        "cpu_s": round(cpu, 3),
        "rss_mb": round(rss, 1),
        "rows": 1,
    }


def _line(result: Result) -> str:
    """One result in a line, while the run goes on."""
    what = " ".join(
        str(result[name]) for name in ("adapter", "workload", "variant", "phase") if result.get(name) is not None
    )
    if "wall_s" not in result:
        return f"{what}: {result.get('error')}"
    verdict = "" if is_right(result) else f" {result.get('error') or 'ROWS NOT RIGHT'}"
    return f"{what}: {result['rows']:,} rows, {result['wall_s']:.2f} s, {cpu_ms(result):.4f} ms CPU a row{verdict}"


def _revision() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _everybody() -> tuple[str, ...]:
    return (OWN, CEILING, *PEERS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under three minutes: one peer, fewer workloads and rows")
    parser.add_argument("--adapters", help=f"of {', '.join(_everybody())}")
    parser.add_argument("--workloads", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds that one worker may take")
    parser.add_argument("--name", help="of the files in results/")
    return parser.parse_args()


if __name__ == "__main__":
    main()

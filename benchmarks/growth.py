"""What a call costs as its rows grow, in CPU seconds and memory: ``make bench GROWTH=1``.

python -m benchmarks.growth [--only a,b] [--texts FILE] [--before CHECKOUT] [--name growth]

Each cell of ``benchmarks.growth_cells`` runs in a process of its own. Its setup is not measured; its memory is the
highest that the work adds to the process, less the result that it returns. Texts are the lines of a file, by default
the summaries and descriptions of the packages that are installed here; with a number where more are wanted.
``--before`` runs the cells with the package of another checkout too; a cell that it cannot run has no figure there.
Figures that are not measured again stay. All cells take a quarter of an hour, 4 GB of memory and 6 GB of disk.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.growth_cells import CELLS, Cell, Measured
from benchmarks.measure import MB, cpu_s, forget_peak, machine, peak_rss_mb, rss_mb

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
TIMEOUT_S = 1_200
Figures = dict[str, float]


def main() -> None:
    given = _arguments()
    if given.texts:
        given.texts = str(Path(given.texts).resolve())
    if given.cell:
        print(json.dumps(_measured(CELLS[given.cell], given.texts)))
        return
    names = given.only.split(",") if given.only else list(CELLS)
    sides = [("before", Path(given.before).resolve())] if given.before else []
    sides.append(("now", ROOT))
    kept = RESULTS / f"{given.name}.json"
    known: dict[str, dict[str, Figures | None]] = json.loads(kept.read_text()) if kept.exists() else {}
    started, page = time.monotonic(), ""
    for place, name in enumerate(names, 1):
        print(f"{place} of {len(names)} after {time.monotonic() - started:,.0f} s: {CELLS[name].about}", flush=True)
        known.setdefault(name, {}).update((side, _in_child(name, given.texts, path)) for side, path in sides)
        # After each cell: one that takes the machine down with it does not take the others' figures.
        results = {name: known[name] for name in CELLS if name in known}
        page = _page(results)
        kept.write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / f"{given.name}.md").write_text(page)
    print(page)
    if failed := [name for name in names if known[name]["now"] is None]:
        sys.exit(f"Without figures: {', '.join(failed)}")


def lines_of(path: str | None) -> list[str]:
    """The lines of a file, or the texts of the installed packages."""
    if path is not None:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    else:
        about = [distribution.metadata for distribution in importlib.metadata.distributions()]
        lines = [line for each in about for line in (each["Summary"] or "", *str(each.get_payload()).splitlines())]
    return list(dict.fromkeys(line.strip() for line in lines if 20 <= len(line.strip()) <= 200))


def _measured(cell: Cell, path: str | None) -> Figures:
    """Run one cell in this process."""
    lines = lines_of(path)

    def texts(count: int) -> list[str]:
        return [lines[i] if i < len(lines) else f"{lines[i % len(lines)]} ({i // len(lines)})" for i in range(count)]

    work = cell.setup(texts)
    gc.collect()
    forget_peak()
    memory, cpu, wall = rss_mb(), cpu_s(), time.perf_counter()
    result = work()
    wall, cpu, memory = time.perf_counter() - wall, cpu_s() - cpu, peak_rss_mb() - memory
    figures = dict(result.figures) if isinstance(result, Measured) else {}
    size = _size_mb(result.result if isinstance(result, Measured) else result)
    return {"wall_s": wall, "cpu_s": cpu, "memory_mb": memory - size, "result_mb": size, **figures}


def _size_mb(result: Any) -> float:
    """The size of a frame or column; 0 for what is small."""
    usage = getattr(result, "memory_usage", None)
    if usage is None:
        return 0.0
    total = usage(index=True, deep=True)
    return float(getattr(total, "sum", lambda: total)()) / MB


def _in_child(name: str, path: str | None, package: Path) -> Figures | None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SKYTELLS_CACHE_DIR": folder}
        environment.pop("PYTHONPATH", None)
        # The runner is this one, the package that of the checkout.
        start = (
            f"import sys; sys.path.insert(0, {str(package)!r}); import skytells_nb; sys.path[0] = {str(ROOT)!r}; "
            "from benchmarks.growth import main; main()"
        )
        command = [sys.executable, "-P", "-c", start, "--cell", name, *(["--texts", path] if path else [])]
        try:
            done = subprocess.run(
                command, env=environment, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return None
    if done.returncode:
        print(f"{name} with {package}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    print(name, package.name, {key: round(value, 2) for key, value in figures.items()}, flush=True)
    return figures


def _page(results: dict[str, dict[str, Figures | None]]) -> str:
    """The results as a table, and below it what figures consist of."""
    about = machine()
    rows = ["| cell | figure | before | now | bound |", "|---|---|---:|---:|---:|"]
    for name, sides in results.items():
        cell, now, before = CELLS[name], sides.get("now") or {}, sides.get("before") or {}
        own = [figure for figure in now if figure not in ("wall_s", "result_mb", "cpu_s", "memory_mb")]
        wanted = dict.fromkeys([*cell.bounds, *cell.earlier, *own, "cpu_s", "memory_mb"])
        for place, figure in enumerate(wanted):
            old, limit = _text(before.get(figure)), cell.bounds.get(figure)
            if figure in cell.earlier and figure not in before:
                old = f"({cell.earlier[figure]:,g})"
            what, bound = "" if place else cell.about, "" if limit is None else f"{limit:,g}"
            rows.append(f"| {what} | {figure} | {old} | {_text(now.get(figure))} | {bound} |")
    notes = [f"- {CELLS[name].about}: {CELLS[name].note}" for name in results if CELLS[name].note]
    what = f"{about['cores']} cores ({about['cpu']}), {about['memory_gib']} GiB, Python {about['python']}"
    return "\n".join(
        [
            "# As the work grows",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {what}. Memory is the highest that the work adds to the process, less its "
            "result; below zero, that took memory which the setup had freed. A figure in parentheses was measured on "
            "another day, in another way; wall times are those of a busy machine. By `make bench GROWTH=1`.",
            "",
            *rows,
            "",
            "## What figures consist of, and what was tried",
            "",
            *notes,
            "",
        ]
    )


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"of {', '.join(CELLS)}; the others keep their figures")
    parser.add_argument("--texts", help="a file of lines")
    parser.add_argument("--before", help="a checkout of the code to compare with")
    parser.add_argument("--name", default="growth", help="of the files in results/")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Results as Markdown: what it was measured on, the claims, then every workload.

python -m benchmarks.summarize benchmarks/results/full.jsonl
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims import by_size, judged
from benchmarks.results import Result, Results, cpu_ms, ideal_ratio
from benchmarks.workloads import WORKLOADS

CLAIM_HEADS = ["claim", "measured", "goal", "kept", "ceiling", "best peer"]
SIZE_HEADS = ["CPU µs a row", "10^3", "10^4", "10^5", "10^6"]
CELL_HEADS = [
    "adapter",
    "variant",
    "rows",
    "wall s",
    "of ideal",
    "rows/s",
    "CPU ms/row",
    "foreign cores",
    "RSS MB, before",
    "peak",
    "requests",
    "inputs",
    "429",
    "500, cut",
    "in flight, peak",
    "mean",
    "twice",
    "rows",
    "column",
]


def rendered(about: Result, results: Results) -> str:
    """The whole page."""
    machine = about["machine"]
    foreign = [r["foreign_cores"] for r in results.all if "foreign_cores" in r]
    parts = [
        f"# Benchmarks, {about['date']}",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}; revision {about['revision']}. Each cell is the best of {about['repeats']}. "
        f"Other processes used {sum(foreign) / max(len(foreign), 1):.2f} cores on average meanwhile: above about 0.2, "
        "compare CPU times, counts and memory rather than wall times.",
        _versions(results),
        "## Claims",
        _table(CLAIM_HEADS, judged(results)),
        _table(SIZE_HEADS, by_size(results)),
        "## Workloads",
    ]
    best = results.best()
    for name, workload in WORKLOADS.items():
        lines = [_cell(result) for result in best if result["workload"] == name]
        if lines:
            parts += [f"### {name}: {workload.title}", _dense(CELL_HEADS, lines)]
    imports = [
        [r["adapter"], f"`{r['statement']}`", f"{r['wall_s']:.2f}", f"{r['cpu_s']:.2f}", f"{r['rss_mb']:.0f}"]
        for r in best
        if r["workload"] == "IMPORT"
    ]
    if imports:
        parts += ["### Imports", _table(["adapter", "statement", "wall s", "CPU s", "RSS MB"], imports)]
    return "\n\n".join(parts) + "\n"


def _cell(result: Result) -> list[str]:
    server: dict[str, Any] = result.get("server", {})
    timed = "wall_s" in result
    ratio = ideal_ratio(result) if timed else None
    name = " ".join(filter(None, (result["variant"], result.get("phase"))))
    return [
        result["adapter"],
        name,
        f"{result['rows']:,}",
        f"{result['wall_s']:.2f}" if timed else "",
        f"{ratio:.2f}" if ratio else "",
        f"{result['rows'] / result['wall_s']:,.0f}" if timed else "",
        f"{cpu_ms(result):.4f}" if timed else "",
        f"{result['foreign_cores']:.1f}" if timed else "",
        f"{result['base_rss_mb']:.0f}" if timed else "",
        f"{result['peak_rss_mb']:.0f}" if timed else "",
        f"{server.get('requests', 0):,}",
        f"{server['inputs']:,}" if server.get("inputs") else "",
        f"{server['refused_429']:,}" if server.get("refused_429") else "",
        f"{server['failed_500']}, {server['dropped']}" if server.get("failed_500") or server.get("dropped") else "",
        f"{server.get('peak_in_flight', 0)}",
        f"{server.get('mean_in_flight', 0)}",
        f"{server['row_repeats']:,} of {result['answered_before_kill']:,}" if "answered_before_kill" in result else "",
        _rows(result),
        result.get("type", ""),
    ]


def _rows(result: Result) -> str:
    if "error" in result:
        return f"**{result['error'][:90]}**"
    if "rows_unchecked" in result:
        return "not checked: sent as tokens"
    wrong, missing = result.get("rows_wrong", 0), result.get("rows_missing", 0)
    return "all right" if not wrong and not missing else f"**{wrong:,} wrong, {missing:,} missing**"


def _versions(results: Results) -> str:
    known: dict[str, str] = {}
    for result in results.all:
        known.update(result.get("versions", {}))
    return "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(known.items())) + "."


def _dense(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table without the columns that are empty in every line."""
    kept = [place for place in range(len(heads)) if any(line[place] for line in lines)]
    return _table([heads[place] for place in kept], [[line[place] for place in kept] for line in lines])


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [list(heads), ["---"] * len(heads), *map(list, lines)]
    return "\n".join("| " + " | ".join(text.replace("|", "/") for text in row) + " |" for row in rows)


def main() -> None:
    for path in sys.argv[1:]:
        print(rendered(*Results.read(Path(path))))


if __name__ == "__main__":
    main()

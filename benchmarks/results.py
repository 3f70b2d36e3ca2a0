"""Results of a run as they are read again: JSON lines, and the best of what was repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.workloads import WORKLOADS

Result = dict[str, Any]


class Results:
    """All results of one run."""

    def __init__(self, lines: Iterable[Result]) -> None:
        self.all = [line for line in lines if "workload" in line]

    @classmethod
    def read(cls, path: Path) -> tuple[Result, Results]:
        """What the run was measured on, and its results."""
        lines = [json.loads(line) for line in path.read_text().splitlines() if line]
        return lines[0], cls(lines[1:])

    def least(
        self, adapter: str, workload: str, figure: Callable[[Result], float | None], *, phase: str | None = None
    ) -> float | None:
        """The least figure among the runs in which every row was right; ``None`` where there is none.

        A client that was given fewer rows than another in that workload is not compared.
        """
        alike = [r for r in self.all if (r["workload"], r.get("phase")) == (workload, phase)]
        most = max((r["rows"] for r in alike), default=0)
        found = [
            value
            for result in alike
            if result["adapter"] == adapter and result["rows"] == most and is_right(result)
            if (value := figure(result)) is not None
        ]
        return min(found, default=None)

    def best(self) -> list[Result]:
        """One result for each adapter, workload, variant and phase: every row right, then the least CPU time a row."""
        chosen: dict[tuple[Any, ...], Result] = {}
        for result in self.all:
            key = tuple(result.get(name) for name in ("workload", "adapter", "variant", "phase", "statement"))
            if key not in chosen or _rank(result) < _rank(chosen[key]):
                chosen[key] = result
        return list(chosen.values())


def is_right(result: Result) -> bool:
    """Whether every row came back as the one it is, as far as that could be checked."""
    return "error" not in result and not (result.get("rows_wrong") or result.get("rows_missing"))


def cpu_ms(result: Result) -> float:
    """Client CPU milliseconds a row."""
    return float(1000 * result["cpu_s"] / result["rows"])


def wall_s(result: Result) -> float:
    return float(result["wall_s"])


def ideal_ratio(result: Result) -> float | None:
    """Wall time over the time that the server's latency or limit leaves to the best of clients."""
    ideal = replace(WORKLOADS[result["workload"]], rows=result["rows"]).ideal_s
    return None if ideal is None else float(result["wall_s"] / ideal)


def result_mb(result: Result) -> float:
    """The bytes of the vectors themselves, float32, megabytes."""
    return float(result["distinct"] * result["dimensions"] * 4 / 1e6)


def _rank(result: Result) -> tuple[bool, float]:
    return not is_right(result), cpu_ms(result) if "cpu_s" in result else float("inf")

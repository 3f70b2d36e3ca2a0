"""What this library claims of itself, each as a figure with its goal, beside the ceiling and the best peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.cells import CEILING, OWN, PEERS
from benchmarks.results import Result, Results, cpu_ms, ideal_ratio, result_mb, wall_s

Figure = Callable[[Results, str], float | None]


@dataclass(frozen=True)
class Claim:
    """``figure`` of an adapter's results, and the goal that it keeps to: at most, or ``at_least``."""

    text: str
    figure: Figure
    goal: float | None
    digits: int = 2
    at_least: bool = False
    compared: bool = True
    """Whether the same figure means something for others."""

    def met(self, value: float) -> bool | None:
        """Whether the goal is kept; ``None`` where there is none."""
        if self.goal is None:
            return None
        return value >= self.goal if self.at_least else value <= self.goal

    def best_peer(self, results: Results) -> tuple[str, float] | None:
        """The peer with the best figure, by its name."""
        found = [(value, name) for name in PEERS if (value := self.figure(results, name)) is not None]
        if not self.compared or not found:
            return None
        value, name = max(found) if self.at_least else min(found)
        return name, value


def _of(workload: str, figure: Callable[[Result], float | None], phase: str | None = None) -> Figure:
    return lambda results, adapter: results.least(adapter, workload, figure, phase=phase)


def _rate(workload: str, seconds: str) -> Figure:
    """Rows a second by one kind of second, from a warm cache in a new process."""

    def figure(results: Results, adapter: str) -> float | None:
        least = results.least(adapter, workload, lambda r: float(r[seconds]) / r["rows"], phase="warm")
        return None if least is None else 1 / least

    return figure


def _over_ceiling(workload: str) -> Figure:
    """CPU time over that of the code without a library, in the same run: a loaded machine slows both."""

    def figure(results: Results, adapter: str) -> float | None:
        own, ceiling = (results.least(name, workload, cpu_ms) for name in (adapter, CEILING))
        return None if own is None or ceiling is None else own / ceiling

    return figure


def _wall_ratio(results: Results, adapter: str) -> float | None:
    slow, fast = (results.least(adapter, workload, wall_s) for workload in ("W2", "W1"))
    return None if slow is None or fast is None else slow / fast


def _duplicate_us(results: Results, adapter: str) -> float | None:
    many, few = (results.least(adapter, workload, lambda r: float(r["cpu_s"])) for workload in ("D2", "D1"))
    return None if many is None or few is None else 1e6 * (many - few) / 200_000


def _row_us(workload: str, phase: str | None) -> Figure:
    return _of(workload, lambda r: 1000 * cpu_ms(r), phase)


def _steepness(kind: str, phase: str | None) -> Figure:
    """The most expensive row over the cheapest one, in frames with 10^3 to 10^6 rows."""

    def figure(results: Results, adapter: str) -> float | None:
        costs = [cost for k in (3, 4, 5, 6) if (cost := _row_us(f"{kind}{k}", phase)(results, adapter)) is not None]
        return max(costs) / min(costs) if len(costs) > 1 else None

    return figure


def _growth(kind: str, phase: str | None) -> Figure:
    """The largest ratio of the cost of a row to that in any smaller frame: 1 if the size does not matter."""

    def figure(results: Results, adapter: str) -> float | None:
        costs = [cost for k in (3, 4, 5, 6) if (cost := _row_us(f"{kind}{k}", phase)(results, adapter)) is not None]
        return max(larger / min(costs[: at + 1]) for at, larger in enumerate(costs)) if len(costs) > 1 else None

    return figure


def _times_result(above_base: bool) -> Callable[[Result], float]:
    def figure(result: Result) -> float:
        return float((result["peak_rss_mb"] - (result["base_rss_mb"] if above_base else 0.0)) / result_mb(result))

    return figure


def _counted(name: str) -> Callable[[Result], float]:
    return lambda result: float(result["server"][name])


FLAT = 1.5
"""The largest ratio that counts as flat: CPU times vary by about 20 % on a shared machine."""

CLAIMS = [
    Claim("20,000 vectors of 1,536, no latency: client CPU ms a row", _of("W1", cpu_ms), 0.05, 3),
    Claim("… over the ceiling's in this run", _over_ceiling("W1"), 1.0),
    Claim("… with the cache on, as users have it: ms a row", _of("W4E", cpu_ms, "cold"), None, 3),
    Claim("… peak memory over the vectors' own bytes, above the process before", _of("W1", _times_result(True)), 2.2),
    Claim("… peak memory over the vectors' own bytes, the whole process", _of("W1", _times_result(False)), 2.2),
    Claim("Wall time at 50 ms latency over that without", _wall_ratio, 1.3, compared=False),
    Claim("20,000 rows of 2,000 texts: inputs sent", _of("W3", _counted("inputs")), 2_000, 0),
    Claim("One more row whose text is there already: client CPU µs", _duplicate_us, 2.0, compared=False),
    Claim("Vectors from the cache in a new process: a second", _rate("W4E", "wall_s"), 50_000, 0, at_least=True),
    Claim("… a CPU second", _rate("W4E", "cpu_s"), None, 0, at_least=True),
    Claim("Completions from the cache in a new process: a second", _rate("W4C", "wall_s"), 20_000, 0, at_least=True),
    Claim("… a CPU second", _rate("W4C", "cpu_s"), None, 0, at_least=True),
    Claim("4,000 rows of which 2,000 are cached: inputs sent", _of("W4M", _counted("inputs")), 2_000, 0),
    Claim("2,000 completions at 100 ms, 64 in flight: wall over ideal", _of("W5", ideal_ratio), 1.1),
    Claim("… client CPU ms a call", _of("W5", cpu_ms), 0.5),
    Claim("… over the ceiling's in this run", _over_ceiling("W5"), 2.5),
    Claim("2,000 completions at 100 ms, 256 in flight: wall over ideal", _of("W5X", ideal_ratio), None, compared=False),
    Claim("… client CPU ms a call", _of("W5X", cpu_ms), None, compared=False),
    Claim("50 requests a second permitted, not reported: wall over ideal", _of("W6", ideal_ratio), 1.05),
    Claim("… requests answered 429", _of("W6", _counted("refused_429")), 60, 0),
    Claim("1 % answered 500, 0.5 % cut off, no row lost: wall s", _of("W7", wall_s), None),
    Claim("Killed at half, run again: rows answered twice", _of("W8", _counted("row_repeats"), "rerun"), 64, 0),
    Claim("10^3 to 10^6 rows, no cache: cost of a row by the frame's size", _growth("S", None), FLAT, compared=False),
    Claim("… into the cache", _growth("C", "cold"), FLAT, compared=False),
    Claim("… out of the cache", _growth("C", "warm"), FLAT, compared=False),
    Claim("… to Parquet", _growth("P", None), FLAT, compared=False),
    Claim("The same, what a call costs by itself included: no cache", _steepness("S", None), None, compared=False),
    Claim("… into the cache", _steepness("C", "cold"), None, compared=False),
    Claim("… out of the cache", _steepness("C", "warm"), None, compared=False),
    Claim("… to Parquet", _steepness("P", None), None, compared=False),
]

SIZES = [
    (title, [_row_us(f"{kind}{k}", phase) for k in (3, 4, 5, 6)])
    for title, kind, phase in (
        ("no cache", "S", None),
        ("into the cache", "C", "cold"),
        ("out of the cache", "C", "warm"),
        ("to Parquet", "P", None),
    )
]
"""CPU µs a row for 10^3 to 10^6 rows of 64 dimensions."""


def judged(results: Results) -> list[list[str]]:
    """A line for each claim: text, figure, goal, kept or not, the ceiling's figure, the best peer's."""
    lines = []
    for claim in CLAIMS:
        value = claim.figure(results, OWN)
        goal = "" if claim.goal is None else f"{'≥' if claim.at_least else '≤'} {claim.goal:,g}"
        kept = None if value is None else claim.met(value)
        peer, ceiling = claim.best_peer(results), claim.figure(results, CEILING) if claim.compared else None
        lines.append(
            [
                claim.text,
                _number(value, claim.digits) or "not measured",
                goal,
                {True: "yes", False: "**no**", None: ""}[kept],
                _number(ceiling, claim.digits),
                f"{_number(peer[1], claim.digits)} {peer[0]}" if peer else "",
            ]
        )
    return lines


def by_size(results: Results) -> list[list[str]]:
    """A line for each way: its name, then CPU µs a row at 10^3, 10^4, 10^5 and 10^6 rows."""
    lines = [[title, *(_number(figure(results, OWN), 1) for figure in figures)] for title, figures in SIZES]
    return [line for line in lines if any(line[1:])]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"

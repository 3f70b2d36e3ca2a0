"""The workloads: rows, how many are distinct, and how the server behaves meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.vectors import place, pool

DIMENSIONS = 1536
WORDS = (
    "amber",
    "basalt",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "garnet",
    "harbour",
    "island",
    "juniper",
    "kelp",
    "opal",
)


@dataclass(frozen=True)
class Workload:
    """One job for a client. ``cached`` runs have a cache on disk, the others none."""

    name: str
    title: str
    kind: Literal["embed", "chat"]
    rows: int
    distinct: int | None = None
    """Different texts among the rows; ``None`` is all of them."""
    server: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the mock server; see ``mock/behavior.py``."""
    cached: bool = False
    dimensions: int = DIMENSIONS
    in_flight: int = 64
    inputs_per_request: int = 512
    times: int = 1
    """Runs in one process; the result is the one with the least CPU time."""
    to_parquet: bool = False

    @property
    def ideal_s(self) -> float | None:
        """Wall time that no client can go below, where the server decides it."""
        if rate := self.server.get("requests_per_s"):
            return float((self.rows - self.server["burst"]) / rate)
        if self.kind == "chat" and (latency := self.server.get("latency_ms")):
            return float(-(-self.rows // self.in_flight) * latency / 1000)
        return None


SLOW = {"latency_ms": 100}
LIMIT = {"latency_ms": 50, "requests_per_s": 50, "burst": 50, "retry_after_s": 1}
FAULTS = {"latency_ms": 20, "share_500": 0.01, "share_dropped": 0.005}

WORKLOADS = {
    w.name: w
    for w in [
        Workload("W1", "Embeddings, no latency", "embed", 20_000, in_flight=32),
        Workload("W2", "Embeddings, 50 ms", "embed", 20_000, server={"latency_ms": 50}, in_flight=32),
        Workload("W3", "Embeddings, each text ten times", "embed", 20_000, 2_000, in_flight=32),
        Workload("W4E", "Embeddings, cache on disk", "embed", 20_000, cached=True, in_flight=32),
        Workload("W4M", "Embeddings, every second row cached", "embed", 4_000, cached=True, in_flight=32),
        Workload("W4C", "Completions, cache on disk", "chat", 2_000, server={"latency_ms": 20}, cached=True),
        Workload("W5", "Completions, 100 ms", "chat", 2_000, server=SLOW),
        Workload("W5X", "Completions, 100 ms, 256 in flight", "chat", 2_000, server=SLOW, in_flight=256),
        Workload("W6", "Completions, 50 requests a second permitted", "chat", 1_000, server=LIMIT),
        Workload("W7", "Completions, 1 % answered 500, 0.5 % dropped", "chat", 2_000, server=FAULTS),
        Workload(
            "W8", "Completions, killed at half, run again", "chat", 2_000, server={"latency_ms": 100}, cached=True
        ),
        Workload("D1", "2,000 rows of 2,000 texts", "embed", 2_000, dimensions=64, times=5),
        Workload("D2", "202,000 rows of 2,000 texts", "embed", 202_000, 2_000, dimensions=64, times=5),
        *(Workload(f"S{k}", f"10^{k} rows, no cache", "embed", 10**k, dimensions=64, times=3) for k in (3, 4, 5)),
        Workload("S6", "10^6 rows, no cache", "embed", 10**6, dimensions=64),
        *(Workload(f"C{k}", f"10^{k} rows, cache", "embed", 10**k, cached=True, dimensions=64) for k in (3, 4, 5, 6)),
        *(
            Workload(f"P{k}", f"10^{k} rows to Parquet", "embed", 10**k, dimensions=64, to_parquet=True)
            for k in (3, 4, 5, 6)
        ),
    ]
}


def texts_of(rows: int, distinct: int | None = None) -> list[str]:
    """Texts of some 80 characters; each begins with the mark ``row-000123`` that the server counts by."""
    known = [_text(number) for number in range(distinct or rows)]
    # A stride that shares no factor with the number of texts spreads the repeats over the whole frame.
    return known if len(known) == rows else [known[row * 7919 % len(known)] for row in range(rows)]


def _text(number: int) -> str:
    chosen = (WORDS[(number // len(WORDS) ** (k % 4) + number * k) % len(WORDS)] for k in range(10))
    return f"row-{number:06d} {' '.join(chosen)}"


@dataclass(frozen=True)
class Verdict:
    """Rows by what came back for them: the right answer, another row's, none."""

    rows_ok: int
    rows_wrong: int
    rows_missing: int


def check_vectors(texts: Sequence[str], vectors: Any, dimensions: int) -> Verdict:
    """Each row's vector is the one of its text, compared at both ends."""
    expected = pool(dimensions)
    ok = wrong = 0
    for text, vector in zip(texts, vectors, strict=False):
        if _is_null(vector):
            continue
        right = expected[place(text)]
        values = vector if hasattr(vector, "__getitem__") else list(vector)
        near = all(abs(float(values[i]) - float(right[i])) < 1e-5 for i in (0, dimensions - 1))
        ok, wrong = ok + near, wrong + (not near)
    return Verdict(ok, wrong, len(texts) - ok - wrong)


def check_answers(texts: Sequence[str], answers: Any) -> Verdict:
    """Each row's answer names the mark of its text."""
    ok = wrong = 0
    for text, answer in zip(texts, answers, strict=False):
        if not _is_null(answer) and "row-" in str(answer):
            right = text[:10] in str(answer)
            ok, wrong = ok + right, wrong + (not right)
    return Verdict(ok, wrong, len(texts) - ok - wrong)


def _is_null(value: Any) -> bool:
    # pandas' NA is neither None nor unequal to itself in a way that bool() takes.
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ == "NAType"

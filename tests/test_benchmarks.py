"""Benchmarks: they run on a few rows, against their own server, in the environment of the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.cells import OWN, Cell
from benchmarks.claims import judged
from benchmarks.mock import control
from benchmarks.results import Results
from benchmarks.workers import Bench
from benchmarks.workloads import WORKLOADS, check_answers, check_vectors, texts_of

ROWS = 40
SAME_BUT_FOR_NUMBERS = {"W2", "W5X", "D1", "D2", *(f"{kind}{k}" for k in (4, 5, 6) for kind in "SCP"), "C3"}
"""Workloads that differ from another one only in the number of rows or in latency."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with control.running(sys.executable) as port:
        yield Bench(port, timeout_s=100, scratch=tmp_path_factory.mktemp("bench"))


def run(bench: Bench, name: str, rows: int = ROWS) -> list[dict[str, Any]]:
    workload = WORKLOADS[name]
    return list(bench.run(Cell(OWN, replace(workload, times=1), "default", min(rows, workload.rows))))


@pytest.mark.parametrize(
    "name", [name for name in WORKLOADS if name not in SAME_BUT_FOR_NUMBERS and name not in ("W4E", "W8")]
)
def test_every_row_of_a_workload_comes_back_right(bench: Bench, name: str) -> None:
    """Every phase of it, each in its own process."""
    for result in run(bench, name):
        assert result.get("error") is None
        assert (result["rows_ok"], result["rows_wrong"], result["rows_missing"]) == (ROWS, 0, 0)


def test_a_killed_run_resumes(bench: Bench) -> None:
    """Not all inputs that were completed before the kill are sent again."""
    (result,) = run(bench, "W8", rows=400)
    assert result.get("error") is None
    assert result["rows_ok"] == 400
    assert result["answered_before_kill"] >= 200
    assert result["server"]["requests"] < 400 + result["answered_before_kill"]


def test_a_warm_cache_sends_no_requests(bench: Bench) -> None:
    """The second phase is a new process that uses the cache file of the first."""
    cold, warm = run(bench, "W4E")
    assert (cold["rows_ok"], warm["rows_ok"]) == (ROWS, ROWS)
    assert (cold["phase"], warm["phase"]) == ("cold", "warm")
    assert (cold["server"]["inputs"], warm["server"]["requests"]) == (ROWS, 0)


def test_a_row_with_the_completion_of_another_row_counts_as_wrong() -> None:
    """A row without a completion counts as missing."""
    texts = texts_of(4)
    answers = [f"ok {texts[0][:10]}", f"ok {texts[2][:10]}", None, "nothing"]
    assert check_answers(texts, answers).__dict__ == {"rows_ok": 1, "rows_wrong": 1, "rows_missing": 2}


def test_a_misplaced_vector_counts_as_wrong() -> None:
    """Vectors are checked against their text, not against the order in which they arrived."""
    from benchmarks.vectors import place, pool

    texts = texts_of(3)
    vectors = [pool(8)[place(text)] for text in texts]
    assert check_vectors(texts, vectors, 8).rows_ok == 3
    checked = check_vectors(texts, [vectors[1], vectors[0], None], 8)
    assert (checked.rows_ok, checked.rows_wrong, checked.rows_missing) == (0, 2, 1)


def test_runs_that_lost_rows_are_excluded() -> None:
    """Even when they were fast."""
    complete = {"adapter": OWN, "workload": "W5", "variant": "tuned", "rows": 10, "cpu_s": 0.4, "wall_s": 1.0}
    results = Results([complete, {**complete, "cpu_s": 0.1, "rows_missing": 1}])
    assert results.least(OWN, "W5", lambda result: float(result["cpu_s"])) == 0.4
    assert results.best() == [complete]


def test_a_client_with_fewer_rows_is_not_compared() -> None:
    """Less work in less time is not a better result."""
    full = {"adapter": OWN, "workload": "W5", "variant": "tuned", "rows": 10, "cpu_s": 0.4, "wall_s": 1.0}
    results = Results([full, {**full, "adapter": "litellm", "rows": 5}])
    assert results.least(OWN, "W5", lambda result: float(result["wall_s"])) == 1.0
    assert results.least("litellm", "W5", lambda result: float(result["wall_s"])) is None


def test_every_claim_has_a_line_in_the_table() -> None:
    """Including the claims that a run did not measure."""
    lines = judged(Results([]))
    assert lines
    assert all(line[1] == "not measured" for line in lines)

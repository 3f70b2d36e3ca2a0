"""The benchmarks run: on a few rows, against the server that they bring, in the environment of the tests."""

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
"""Workloads that do with other rows or latency what another one does already."""


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
    """Each in a process of its own, every phase that it has."""
    for result in run(bench, name):
        assert result.get("error") is None
        assert (result["rows_ok"], result["rows_wrong"], result["rows_missing"]) == (ROWS, 0, 0)


def test_a_run_that_was_killed_goes_on_where_it_was(bench: Bench) -> None:
    """What was answered before the kill is not all sent again."""
    (result,) = run(bench, "W8", rows=400)
    assert result.get("error") is None
    assert result["rows_ok"] == 400
    assert result["answered_before_kill"] >= 200
    assert result["server"]["requests"] < 400 + result["answered_before_kill"]


def test_a_warm_cache_asks_the_server_nothing(bench: Bench) -> None:
    """The second phase is a new process on the file of the first."""
    cold, warm = run(bench, "W4E")
    assert (cold["rows_ok"], warm["rows_ok"]) == (ROWS, ROWS)
    assert (cold["phase"], warm["phase"]) == ("cold", "warm")
    assert (cold["server"]["inputs"], warm["server"]["requests"]) == (ROWS, 0)


def test_a_row_with_another_rows_answer_counts_as_wrong() -> None:
    """And one without an answer as missing."""
    texts = texts_of(4)
    answers = [f"ok {texts[0][:10]}", f"ok {texts[2][:10]}", None, "nothing"]
    assert check_answers(texts, answers).__dict__ == {"rows_ok": 1, "rows_wrong": 1, "rows_missing": 2}


def test_a_misplaced_vector_counts_as_wrong() -> None:
    """Checked against the text, not against the order in which they came."""
    from benchmarks.vectors import place, pool

    texts = texts_of(3)
    vectors = [pool(8)[place(text)] for text in texts]
    assert check_vectors(texts, vectors, 8).rows_ok == 3
    verdict = check_vectors(texts, [vectors[1], vectors[0], None], 8)
    assert (verdict.rows_ok, verdict.rows_wrong, verdict.rows_missing) == (0, 2, 1)


def test_a_figure_of_a_run_that_lost_rows_is_no_figure() -> None:
    """However little time it took."""
    fine = {"adapter": OWN, "workload": "W5", "variant": "tuned", "rows": 10, "cpu_s": 0.4, "wall_s": 1.0}
    results = Results([fine, {**fine, "cpu_s": 0.1, "rows_missing": 1}])
    assert results.least(OWN, "W5", lambda result: float(result["cpu_s"])) == 0.4
    assert results.best() == [fine]


def test_a_client_with_fewer_rows_is_not_compared() -> None:
    """Half of the work is no record."""
    full = {"adapter": OWN, "workload": "W5", "variant": "tuned", "rows": 10, "cpu_s": 0.4, "wall_s": 1.0}
    results = Results([full, {**full, "adapter": "litellm", "rows": 5}])
    assert results.least(OWN, "W5", lambda result: float(result["wall_s"])) == 1.0
    assert results.least("litellm", "W5", lambda result: float(result["wall_s"])) is None


def test_every_claim_has_a_line_in_the_table() -> None:
    """Also the ones that a run did not measure."""
    lines = judged(Results([]))
    assert lines
    assert all(line[1] == "not measured" for line in lines)

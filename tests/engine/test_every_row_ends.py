"""Whatever becomes of its requests, every row of a run that ends has an answer or an error."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import connected, served

from skytells_nb.client.client import Skytells
from skytells_nb.engine import worker_pool
from skytells_nb.engine.operations.jobs import BatchResult, RateOptions, Read, embedding_job, read_here
from skytells_nb.engine.planning import plan
from skytells_nb.engine.results import VectorBuffer
from skytells_nb.engine.retry import RetryPolicy
from skytells_nb.engine.run import Run
from skytells_nb.engine.service.profile import forget_profiles
from skytells_nb.engine.worker_pool import WorkerPool
from skytells_nb.errors import (
    BadRequestError,
    ConnectionLostError,
    InvalidResponseError,
    SkytellsError,
    SkytellsWarning,
    TooManyOpenFilesError,
)
from skytells_nb.progress.events import no_progress

EMBED = embedding_job("skytells-embed-3-small")
TEXTS = [f"text {n}" for n in range(24)]


class Scripted:
    """Requests that end as they are told, in the order in which they are made; all later ones are answered."""

    def __init__(self, script: Sequence[str]) -> None:
        self._script = list(script)
        self._lock = threading.Lock()
        self.held = threading.Event()

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        with self._lock:
            outcome = self._script.pop(0) if self._script else "answer"
        if outcome == "held":
            self.held.wait(20)
        if outcome == "files":
            raise TooManyOpenFilesError("Too many open files: raise ulimit -n.")
        if outcome in ("rejected", "held"):
            raise BadRequestError("No.", status=400)
        if outcome == "lost":
            raise ConnectionLostError("The connection was lost.")
        if outcome == "unreadable":
            raise InvalidResponseError("The response is not JSON.")
        rows = np.array([[float(text.split()[1])] for text in inputs], dtype=np.float32)
        if outcome == "partly":
            return BatchResult([None, *(row.tobytes() for row in rows[1:])], len(inputs), 0)
        return BatchResult(rows, len(inputs), 0)

    def make_buffer(self, count: int) -> VectorBuffer:
        return VectorBuffer(count)

    def observe(self, values: Sequence[bytes]) -> None:
        pass

    def cacheable_error(self, problem: Exception) -> bytes | None:
        return None

    def cached_error(self, value: bytes) -> Exception | None:
        return None

    def output_tokens(self) -> float:
        return 0.0

    def max_output_tokens(self) -> float:
        return 0.0


def scripted(*script: str) -> Any:
    return replace(EMBED, operation=Scripted(script), max_items=8, max_readers=None)


def check(result: Any) -> None:
    """Every row has its own answer, or an error."""
    report = result.report
    assert report.skipped == 0
    assert report.answered + report.failed == len(TEXTS)
    for row, number in enumerate(result.result_index.tolist()):
        assert (number < 0) == (row in report.errors)
        assert number < 0 or result.matrix[number, 0] == row


@pytest.mark.filterwarnings("ignore::skytells_nb.errors.SkytellsWarning")
@settings(max_examples=30, deadline=None)
@given(
    script=st.lists(st.sampled_from(["answer", "files", "rejected", "lost", "unreadable", "partly"]), max_size=14),
    in_flight=st.sampled_from([1, 2, 6]),
    cache=st.sampled_from(["off", "memory"]),
)
def test_no_row_is_missing_in_silence(script: list[str], in_flight: int, cache: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_pool, "FILE_WAIT_S", 0.001)
        forget_profiles()
        with served() as server, connected(server, cache) as session:
            session.engine._retry = RetryPolicy(base=0.0)
            options = RateOptions(max_in_flight=in_flight)
            check(session.engine.run(scripted(*script), TEXTS, on_error="null", rate_options=options))


def test_a_thread_without_files_leaves_its_request_to_one_that_goes_on(tmp_path: Path) -> None:
    """It gives up its part in the search for a size in the same step: another that looks for work then must not end."""
    looked = threading.Event()
    without_files: list[threading.Thread] = []
    queues = {code.co_name: code for code in (WorkerPool._next.__code__, WorkerPool._go_on_without_files.__code__)}

    def local(frame: FrameType, event: str, value: Any) -> Any:
        if event == "return" and frame.f_code is queues["_go_on_without_files"]:
            without_files.append(threading.current_thread())
            job.operation.held.set()
            looked.wait(5.0)  # between this step and the next of its thread, the other looks for work
        elif event == "return" and without_files and threading.current_thread() not in without_files:
            looked.set()
        return local

    def trace(frame: FrameType, event: str, value: Any) -> Any:
        return local if frame.f_code in queues.values() else None

    # Of two in flight one has no file left, and then the other is rejected, so that its parts are sent one at a time.
    job = scripted("files", "held")
    threading.settrace(trace)
    try:
        with served() as server, connected(server, "off") as session, pytest.warns(SkytellsWarning, match="ulimit"):
            result = session.engine.run(job, TEXTS, on_error="null", rate_options=RateOptions(max_in_flight=2))
    finally:
        threading.settrace(None)  # type: ignore[arg-type]
        sys.settrace(None)
    check(result)
    assert result.report.answered == len(TEXTS)


def test_a_row_that_was_forgotten_is_an_error(tmp_path: Path) -> None:
    """Should the library itself lose a request, its rows say so."""
    with served() as server, connected(server, "off") as session:
        engine = session.engine
        context = engine._context(EMBED, plan(TEXTS), "null", None, None, None, no_progress)
        run = Run(
            replace(context, plan_requests=lambda numbers: engine._plan_requests(EMBED, context.plan, numbers[:-3]))
        )
        run.send(run.load_cached())
    report = run.report()
    assert sorted(report.errors) == [21, 22, 23]
    assert (report.answered, report.failed, report.skipped) == (21, 3, 0)
    assert all(isinstance(error, SkytellsError) and "report it" in str(error) for error in report.errors.values())

"""However a run ends: what was paid for is stored, and the report accounts forevery row."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_fakes import EchoGenerator
from served import connected, served, wait_until_idle

from skytells_nb.cache.memory import MemoryStore
from skytells_nb.engine import engine as engine_module
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.engine.report import Report
from skytells_nb.engine.results import RunResult
from skytells_nb.errors import (
    BudgetExceededError,
    ContentPolicyError,
    Interrupted,
    RequestCancelledError,
    RowError,
    ServerError,
    SkytellsError,
    SkytellsWarning,
)
from skytells_nb.progress.events import Progress
from skytells_nb.session import connect

JOB = completion_job("gpt-5")
ROWS = [None, "", "say 0", *(f"say {n}" for n in range(40))]


def texts(outcome: RunResult) -> list[str | None]:
    """The answer of each row."""
    answers = [None if value is None else CachedCompletion.from_bytes(value).text for value in outcome.values]
    return [None if number < 0 else answers[number] for number in outcome.result_index]


def stop_when(ready: Callable[[Progress], bool]) -> Callable[[Progress], None]:
    """A progress callback that acts as Ctrl-C does, once: it raises KeyboardInterrupt in the thread that waits."""
    raised: list[bool] = []

    def callback(event: Progress) -> None:
        if not raised and ready(event):
            raised.append(True)
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize(
    ("faults", "given", "end"),
    [
        ("", {}, None),
        ("status=500, rate=0.3", {}, None),
        ("status=500", {}, ServerError),
        ("status=401", {}, SkytellsError),
        ("status=500, rate=0.3", {"on_error": "null"}, None),
        ("", {"budget": 0.0004}, BudgetExceededError),
    ],
    ids=["done", "some fail", "dead service", "account", "null policy", "budget"],
)
def test_every_row_is_answered_null_failed_or_skipped(faults: str, given: Any, end: type[Exception] | None) -> None:
    ended: list[Report] = []
    with served(faults) as server, connected(server, "memory", max_retries=0, max_in_flight=4) as session:
        if end is None:
            session.engine.run(JOB, ROWS, on_end=ended.append, **given)
        else:
            with pytest.raises(end):
                session.engine.run(JOB, ROWS, on_end=ended.append, **given)
        (report,) = ended
        assert report.state == ("done" if end is None else "failed")
        assert report.rows == len(ROWS)
        assert report.nulls == 1
        assert report.failed == len(report.errors)
        assert report.sent == session.cache.stats().entries
        # The text "say 0" stands in two rows.
        twice = report.answered - report.sent
        assert twice in (0, 1)
        assert report.skipped >= 0
        assert (report.skipped == 0) == (end is None)
        assert report.to_dict()["skipped"] == report.skipped


def test_an_interrupt_stores_what_arrived_and_counts_the_rest_as_skipped(tmp_path: Path) -> None:
    gate = threading.Event()
    ended: list[Report] = []
    with served(generator=EchoGenerator(gate=gate)) as server, connected(server, tmp_path / "c.sqlite") as session:
        # Two answers, which are stored, and the missing row; the service holds the others until the run has ended.
        stop = stop_when(lambda event: event.done >= 3)
        with pytest.raises(Interrupted, match=r"2 of 4 distinct inputs are answered") as caught:
            session.engine.run(
                JOB, ["one", "two", "held back", "held too", None], on_progress=stop, on_end=ended.append
            )
        gate.set()
        assert texts(caught.value.outcome) == ["one", "two", None, None, None]
        assert session.cache.stats().entries == 2
    (report,) = ended
    assert (report.state, report.answered, report.nulls, report.failed, report.skipped) == ("interrupted", 2, 1, 0, 2)


def test_an_interrupt_ends_its_own_run_only() -> None:
    gate = threading.Event()
    with served(generator=EchoGenerator(gate=gate)) as server, connected(server, "memory", max_in_flight=4) as session:
        found: list[BaseException] = []

        def work() -> None:
            try:
                session.engine.run(JOB, ["held back", "held too"], on_progress=stop_when(lambda event: True))
            except BaseException as problem:
                found.append(problem)

        thread = threading.Thread(target=work)
        thread.start()
        assert texts(session.engine.run(JOB, ["one", "two"])) == ["one", "two"]
        thread.join(30)
        gate.set()
    assert [type(problem) for problem in found] == [Interrupted]


@pytest.mark.parametrize("by", ["its own listener", "another thread"])
def test_closing_the_session_ends_its_run_and_stores_what_was_in_flight(by: str, tmp_path: Path) -> None:
    """Nothing that was asked for is lost, and the error says what happened and what to do."""
    with served("latency=0.1") as server:
        session = connected(server, tmp_path / "c.sqlite", max_in_flight=4)
        closing = threading.Thread(target=session.close)

        def close_once_in_flight(event: Progress) -> None:
            if event.state == "running" and event.done >= 4 and not closing.ident:
                (run,) = session.engine._running
                closing.start() if by == "another thread" else session.close()
                while run._workers.fatal is None:  # the other thread has yet to come that far
                    time.sleep(0.001)

        with pytest.raises(RequestCancelledError, match="closed while this ran") as caught:
            session.engine.run(JOB, [f"say {n}" for n in range(200)], on_progress=close_once_in_flight)
        if closing.ident:
            closing.join(20)
        (note,) = caught.value.__notes__
        assert re.search("([0-9]+) of 200 rows are answered. Every answer that arrived is in the cache", note)
        with connected(server, tmp_path / "c.sqlite") as again:
            assert 4 <= again.cache.stats().entries == wait_until_idle(server, "chat").requests < 200


def test_a_failing_callback_ends_no_run() -> None:
    """It is called once, named in one warning, and every row is answered."""
    ended: list[Report] = []
    calls = []

    def callback(event: Progress) -> None:
        calls.append(event)
        raise LookupError("no such bar")

    with served() as server, connected(server, "memory", max_in_flight=2) as session:
        with pytest.warns(SkytellsWarning, match="callback failed.*LookupError: no such bar") as caught:
            session.engine.run(JOB, ["one", "two"], on_progress=callback, on_end=ended.append)
        assert session.cache.stats().entries == wait_until_idle(server, "chat").answered == 2
    assert [report.answered for report in ended] == [2]
    assert (len(calls), len(caught)) == (1, 1)


def test_closing_a_session_ends_a_run_whose_answer_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of which a byte comes now and then is never silent for long; its connection is closed after a while."""
    monkeypatch.setattr(engine_module, "CLOSE_TIMEOUT_S", 0.3)
    over, ended = threading.Event(), []

    def trickle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n")
            asked.set()
            while not over.wait(0.05):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = threading.Event()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        threading.Thread(target=lambda: trickle(listener.accept()[0]), daemon=True).start()
        session = connect("sk-x", base_url=url, cache="memory")

        def run() -> None:
            try:
                session.engine.run(JOB, ["one"])
            except SkytellsError as problem:
                ended.append(problem)

        running = threading.Thread(target=run, daemon=True)
        running.start()
        assert asked.wait(20)
        session.close()
        running.join(20)
        over.set()
    assert [type(problem) for problem in ended] == [RequestCancelledError]


class FullStore(MemoryStore):
    """A store that takes nothing."""

    def put_many(self, items: Any, *, replace: bool = False) -> None:
        raise SkytellsError("no room")


def test_an_answer_that_the_cache_does_not_take_is_in_the_outcome() -> None:
    with served() as server, connected(server, "off", max_in_flight=1) as session:
        engine = session._make_engine(FullStore())
        ended: list[Report] = []
        with pytest.raises(SkytellsError, match="no room") as caught:
            engine.run(JOB, ["one", "two"], on_end=ended.append)
        engine.close()
    assert ended[0].sent == wait_until_idle(server, "chat").answered == 1
    assert "1 of 2 rows are answered" in caught.value.__notes__[0]


def test_messages_do_not_promise_a_cache_that_is_off() -> None:
    gate = threading.Event()
    with served(generator=EchoGenerator(gate=gate)) as server, connected(server, "off") as session:
        with pytest.raises(Interrupted, match='cache="off" stores no answers'):
            session.engine.run(JOB, ["held back"], on_progress=stop_when(lambda event: True))
        gate.set()


def test_a_run_leaves_no_thread_and_a_closed_session_no_connection() -> None:
    with served() as server:
        with connected(server, "memory", max_in_flight=4) as session:
            others = set(threading.enumerate())
            for n in range(20):
                session.engine.run(JOB, [f"say {n} {m}" for m in range(4)])
            assert not [thread for thread in set(threading.enumerate()) - others if thread.name == "skytells-worker"]
            assert 1 <= len(session.engine._idle) <= 4
        assert session.engine._idle == []


WORDS = st.sampled_from(["say one", "say two", "three", "é à ü", "日本", "a b c d", "🙂"])
INPUTS = st.lists(st.one_of(st.none(), WORDS, st.text("ab \n", max_size=6)), max_size=25)
FAULTS = st.sampled_from(["", "status=500, rate=0.2", "status=429, retry_after=0, times=3", "cut=body, rate=0.1"])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=INPUTS, faults=FAULTS)
def test_every_row_gets_the_answer_to_its_own_text(rows: list[str | None], faults: str) -> None:
    with served(faults) as server, connected(server, "memory", max_in_flight=3, max_retries=20) as session:
        outcome = session.engine.run(JOB, rows)
        assert texts(outcome) == [row if row and row.strip() else None for row in rows]
        assert outcome.report.skipped == 0


def test_a_blocked_prompt_is_paid_for_once(tmp_path: Path) -> None:
    """The service bills a rejection, so it is stored: the second run sends nothing and says the same."""
    texts = ["fine", "violence:high now", None, "violence:high now"]
    job = completion_job("gpt-5")
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        first = session.engine.run(job, texts)
        server.stats.reset()
        second = session.engine.run(job, texts)
        assert server.stats["chat"].requests == 0
    assert list(second.report.errors) == list(first.report.errors) == [1, 3]
    again = second.report.errors[1]
    assert isinstance(again, ContentPolicyError)
    assert again.safety["violence"]["severity"] == "high"
    assert str(again) == str(first.report.errors[1])
    assert (second.report.cached, second.report.answered, second.report.failed) == (2, 1, 2)


def test_a_cached_error_raises_where_errors_are_to_be_raised(tmp_path: Path) -> None:
    job = completion_job("gpt-5")
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        session.engine.run(job, ["violence:high"])
        server.stats.reset()
        with pytest.raises(RowError, match="content policy"):
            session.engine.run(job, ["violence:high", "fine"], on_error="raise")
        assert server.stats["chat"].requests == 0

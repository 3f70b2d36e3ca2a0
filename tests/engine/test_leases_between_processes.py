"""Processes that share a cache file pay for each input once, also where one of them fails, stops or is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from forked_runs import Runs, until
from local_fakes import EchoGenerator, HashEmbedder
from served import connected, served, wait_until_idle

from skytells_nb.engine.operations.jobs import completion_job, embedding_job
from skytells_nb.errors import RequestCancelledError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

TEXTS = [f"say {n}" for n in range(200)]


def leases_in(cache: Path) -> int:
    with closing(sqlite3.connect(cache, timeout=60)) as connection:
        return int(connection.execute("select count(*) from leases").fetchone()[0])


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_text_is_sent_once_however_many_processes_ask(tmp_path: Path, processes: int) -> None:
    """They share the work, so each has its own part of it, and no lease is left."""
    names = [f"run-{number}" for number in range(processes)]
    with served("latency=0.02") as server, Runs(server, "chat", TEXTS, tmp_path, max_in_flight=4) as runs:
        for name in names:
            runs.start(name)
        until(lambda: all(runs.done(name) for name in names))
        counts = wait_until_idle(server, "chat")
        assert [runs.answers(name) for name in names] == [TEXTS] * processes
    assert (counts.inputs, counts.distinct) == (200, 200)
    assert sum(runs.result(name)["sent"] for name in names) == 200
    assert leases_in(runs.cache) == 0


def test_each_text_is_embedded_once_in_requests_of_many(tmp_path: Path) -> None:
    texts = [f"word{n}" for n in range(1_200)]
    settings = {"max_in_flight": 3, "inputs_per_request": 50}
    with served("latency=0.02") as server:
        with Runs(server, "embeddings", texts, tmp_path, **settings) as runs:
            for name in ("one", "two", "three"):
                runs.start(name)
            until(lambda: all(runs.done(name) for name in ("one", "two", "three")))
        counts = wait_until_idle(server, "embeddings")
        assert (counts.inputs, counts.distinct) == (1_200, 1_200)
        # A process that looks up texts while another stores them may see a part of a request, and have another beside.
        assert 24 <= counts.requests <= 24 + 2 * 3
        with connected(server, runs.cache) as session:
            outcome = session.engine.run(embedding_job("skytells-embed-3-small"), texts)
        assert wait_until_idle(server, "embeddings").inputs == 1_200
    assert np.array_equal(outcome.matrix[outcome.result_index], HashEmbedder().encode(texts))


def test_what_a_killed_process_had_in_flight_is_sent_by_the_one_that_waits(tmp_path: Path) -> None:
    """Long before its leases expire: its process is gone."""
    with served("latency=2") as server, Runs(server, "chat", TEXTS[:4], tmp_path, lease=3_000.0) as runs:
        killed = runs.start("killed")
        until(lambda: runs.counts.requests >= 1)
        runs.start("waits")
        runs.kill(killed)
        until(lambda: runs.done("waits"))
        assert runs.answers("waits") == TEXTS[:4]
        counts = wait_until_idle(server, "chat")
    assert counts.distinct == 4
    assert counts.inputs <= 4 + 4
    assert leases_in(runs.cache) == 0


def test_a_suspended_process_loses_its_leases_and_sends_nothing_that_another_has_sent(tmp_path: Path) -> None:
    """It goes on as if nothing had happened; only what it had in flight was sent twice."""
    with (
        served("latency=0.1") as server,
        Runs(server, "chat", TEXTS[:60], tmp_path, max_in_flight=2, lease=1.0) as runs,
    ):
        suspended = runs.start("suspended")
        until(lambda: runs.counts.requests >= 8)
        os.kill(suspended, signal.SIGSTOP)
        runs.start("waits")
        until(lambda: runs.done("waits"))
        os.kill(suspended, signal.SIGCONT)
        until(lambda: runs.done("suspended"))
        assert runs.answers("waits") == runs.answers("suspended") == TEXTS[:60]
        counts = wait_until_idle(server, "chat")
    assert counts.distinct == 60
    assert counts.inputs <= 60 + 2


def test_a_request_that_takes_longer_than_a_lease_is_waited_for(tmp_path: Path) -> None:
    """Its owner renews the lease again and again, long before it expires."""
    gate = threading.Event()

    def expires() -> float:
        with closing(sqlite3.connect(runs.cache, timeout=60)) as connection:
            return float(connection.execute("select min(expires) from leases").fetchone()[0])

    with (
        served(generator=EchoGenerator(gate)) as server,
        Runs(server, "chat", TEXTS[:2], tmp_path, lease=3_000.0, renew=0.05) as runs,
    ):
        runs.start("owner")
        until(lambda: runs.counts.in_flight == 2)
        for _ in range(3):
            before = expires()
            until(lambda before=before: expires() > before)  # type: ignore[misc]
        runs.start("waits")
        until(lambda: runs.waits("waits"))
        gate.set()
        until(lambda: runs.done("owner") and runs.done("waits"))
        assert runs.answers("owner") == runs.answers("waits") == TEXTS[:2]
        assert wait_until_idle(server, "chat").inputs == 2


def test_a_process_that_may_not_send_leaves_its_rows_to_the_one_that_waits(tmp_path: Path) -> None:
    with served("latency=1, status=401, times=1") as server, Runs(server, "chat", TEXTS[:1], tmp_path) as runs:
        runs.start("refused")
        until(lambda: runs.counts.requests >= 1)
        runs.start("waits")
        until(lambda: runs.done("refused") and runs.done("waits"))
        assert runs.result("refused")["error"] == "AuthenticationError"
        assert runs.answers("waits") == TEXTS[:1]


def test_a_blocked_row_is_asked_for_once_and_fails_in_both_processes(tmp_path: Path) -> None:
    """Its error is in the cache, as an answer is."""
    with served("latency=0.5, block_prompt") as server, Runs(server, "chat", TEXTS[:1], tmp_path) as runs:
        runs.start("one")
        runs.start("two")
        until(lambda: runs.done("one") and runs.done("two"))
        assert [runs.result(name)["failed"] for name in ("one", "two")] == [1, 1]
        assert wait_until_idle(server, "chat").requests == 1


@pytest.mark.parametrize("order", [1, -1])
def test_processes_that_meet_from_both_ends_do_not_wait_for_each_other_forever(tmp_path: Path, order: int) -> None:
    with served("latency=0.01") as server:
        with (
            Runs(server, "chat", TEXTS, tmp_path, max_in_flight=3) as runs,
            Runs(
                server, "chat", TEXTS[::order][100:] + TEXTS[::order][:100], tmp_path / "other", max_in_flight=3
            ) as others,
        ):
            runs.start()
            others.start(cache=str(runs.cache))
            until(lambda: runs.done() and others.done())
        assert wait_until_idle(server, "chat").inputs == 200


def test_one_that_waits_ends_at_once_on_an_interrupt(tmp_path: Path) -> None:
    """What it waits for is the other's: the other gets its answer."""
    gate = threading.Event()
    with (
        served(generator=EchoGenerator(gate=gate)) as server,
        Runs(server, "chat", ["held back"], tmp_path) as runs,
    ):
        runs.start("owner")
        until(lambda: runs.counts.requests >= 1)
        waiting = runs.start("waits")
        until(lambda: runs.waits("waits"))
        os.kill(waiting, signal.SIGINT)
        until(lambda: runs.done("waits"))
        assert not runs.done("owner")
        assert runs.result("waits")["error"] == "Interrupted"
        gate.set()
        until(lambda: runs.done("owner"))
        assert runs.answers("owner") == ["held back"]
        assert wait_until_idle(server, "chat").requests == 1


def test_closing_the_session_ends_a_run_that_waits(tmp_path: Path) -> None:
    """The process that it waits for is suspended, and holds its lease for an hour."""
    problems: list[Exception] = []
    gate = threading.Event()
    with (
        served(generator=EchoGenerator(gate)) as server,
        Runs(server, "chat", TEXTS[:1], tmp_path, lease=3_000.0) as runs,
    ):
        owner = runs.start("owner")
        until(lambda: runs.counts.requests >= 1)
        os.kill(owner, signal.SIGSTOP)
        session = connected(server, runs.cache)
        waits = threading.Event()

        def run() -> None:
            try:
                session.engine.run(
                    completion_job("gpt-5"), TEXTS[:1], on_progress=lambda event: event.waiting and waits.set()
                )
            except RequestCancelledError as problem:
                problems.append(problem)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert waits.wait(60)
        session.close()
        thread.join(60)
        assert not thread.is_alive()
        runs.kill(owner)
        gate.set()
    assert len(problems) == 1

"""Running a job against a real server on a real port, with and without faults."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_fakes import EchoGenerator, HashEmbedder
from served import KEY, connected, served, wait_until_idle
from stalls import Stalls

from skytells_nb.client.client import Skytells
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job, embedding_job
from skytells_nb.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConnectError,
    InputError,
    ModelNotFoundError,
    ReplayMissError,
    RequestCancelledError,
    RowError,
    ServerError,
)
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.progress.events import Progress
from skytells_nb.session import connect

EMBED = embedding_job("skytells-embed-3-small")
WORDS = [f"word{n} and word{n * 7 % 50}" for n in range(120)]


def prompts(count: int) -> list[str]:
    return [f"say {n}" for n in range(count)]


def texts_of(outcome: Any) -> list[str | None]:
    texts = [None if v is None else CachedCompletion.from_bytes(v).text for v in outcome.values]
    return [None if code < 0 else texts[code] for code in outcome.result_index]


def test_outputs_are_in_the_order_of_the_inputs(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite", inputs_per_request=7) as session:
        outcome = session.engine.run(EMBED, WORDS)
        assert np.array_equal(outcome.matrix[outcome.result_index], HashEmbedder().encode(WORDS))


def test_each_distinct_input_is_sent_once(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        outcome = session.engine.run(EMBED, ["a", "b", "a", None, "b", "a"])
        assert server.stats["embeddings"].inputs == 2
        assert outcome.result_index.tolist() == [0, 1, 0, -1, 1, 0]


def test_an_incomplete_recording_reports_how_many_of_the_whole_call_are_missing(tmp_path: Path) -> None:
    """Also where they are looked up a part at a time."""
    path, texts = tmp_path / "c.sqlite", [f"word{n}" for n in range(1_200)]
    with served() as server, connected(server, path) as session:
        session.engine.run(EMBED, texts[:600])
        url = server.base_url
    with connect(base_url=url, cache=f"replay:{path}") as session:
        assert len(session.engine.run(EMBED, texts[:600]).result_index) == 600
        with pytest.raises(ReplayMissError, match="600 of 1200 responses are not in the recording"):
            session.engine.run(EMBED, texts)


def test_a_second_run_sends_nothing(tmp_path: Path) -> None:
    with served() as server:
        with connected(server, tmp_path / "c.sqlite") as session:
            first = session.engine.run(EMBED, WORDS)
        with connected(server, tmp_path / "c.sqlite") as session:
            second = session.engine.run(EMBED, WORDS)
        assert server.stats["embeddings"].inputs == len(set(WORDS))
        assert second.report.requests == 0
        assert second.report.cached == len(set(WORDS))
        assert np.array_equal(first.matrix, second.matrix)


def test_a_half_cached_run_sends_only_what_is_missing(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        session.engine.run(EMBED, WORDS[::2])
        server.stats.reset()
        outcome = session.engine.run(EMBED, WORDS)
        assert server.stats["embeddings"].inputs == len(set(WORDS)) - len(set(WORDS[::2]))
        assert np.array_equal(outcome.matrix[outcome.result_index], HashEmbedder().encode(WORDS))


@pytest.mark.parametrize(
    "faults",
    [
        "status=500, times=1",
        "status=503, times=2",
        "status=429, retry_after=0, times=2",
        "cut=before, times=1",
        "cut=headers, times=1",
        "cut=body, times=1",
        "html_error, times=1",
        "wrong_count, times=1",
        "nan, times=1",
        "bad_index, times=1",
        "bad_base64, times=1",
    ],
)
def test_a_transient_fault_changes_no_result(tmp_path: Path, faults: str) -> None:
    with served(faults) as server, connected(server, tmp_path / "c.sqlite", inputs_per_request=40) as session:
        outcome = session.engine.run(EMBED, WORDS)
        assert np.array_equal(outcome.matrix[outcome.result_index], HashEmbedder().encode(WORDS))
        assert outcome.report.failed == 0
        assert outcome.report.retries > 0
        # Also those that were sent a second time on another connection.
        assert outcome.report.requests == wait_until_idle(server, "embeddings").requests


def test_scattered_faults_lose_no_row(tmp_path: Path) -> None:
    """One answer in ten is an error; every row still gets its own answer."""
    with served("status=500, rate=0.1") as server, connected(server, tmp_path / "c.sqlite") as session:
        outcome = session.engine.run(completion_job("gpt-5"), prompts(200))
        assert texts_of(outcome) == prompts(200)


def test_one_rejected_text_does_not_fail_its_neighbors(tmp_path: Path) -> None:
    """The stand-in counts words as tokens, so this text passes our estimate and is rejected by the service."""
    texts = [*WORDS[:20], "a " * 9000, *WORDS[20:40]]
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        outcome = session.engine.run(EMBED, texts)
        assert list(outcome.report.errors) == [20]
        assert outcome.result_index[20] == -1
        assert (np.delete(outcome.result_index, 20) >= 0).all()


def test_failed_rows_are_missing_and_named_in_the_report(tmp_path: Path) -> None:
    with served("block_prompt") as server, connected(server, tmp_path / "c.sqlite") as session:
        outcome = session.engine.run(completion_job("gpt-5"), prompts(3))
        assert texts_of(outcome) == [None] * 3
        assert outcome.report.failed == 3
        assert "content policy" in outcome.report.reasons()[0]


def test_raise_ends_the_run_and_stores_what_was_paid(tmp_path: Path) -> None:
    faults, settings = "status=500, rate=0.2", {"max_retries": 0, "max_in_flight": 4}
    with served(faults) as server, connected(server, tmp_path / "c.sqlite", **settings) as session:
        with pytest.raises(RowError, match="in the cache") as failure:
            session.engine.run(completion_job("gpt-5"), prompts(100), on_error="raise")
        paid = wait_until_idle(server, "chat").answered
        assert failure.value.report.sent == paid
        assert session.cache.stats().entries == paid


@pytest.mark.parametrize(
    ("faults", "error"),
    [("status=401", AuthenticationError), ("status=MODEL_NOT_FOUND", ModelNotFoundError)],
)
def test_an_error_of_the_account_ends_the_run_at_once(tmp_path: Path, faults: str, error: type[Exception]) -> None:
    with served(faults) as server, connected(server, tmp_path / "c.sqlite", max_in_flight=4) as session:
        with pytest.raises(error):
            session.engine.run(completion_job("gpt-5"), prompts(200))
        assert server.stats["chat"].requests <= 8


def test_a_service_that_is_down_ends_the_run_early_with_one_error(tmp_path: Path) -> None:
    with served("status=500") as server, connected(server, tmp_path / "c.sqlite", max_retries=0) as session:
        with pytest.raises(ServerError):
            session.engine.run(completion_job("gpt-5"), prompts(500))
        assert server.stats["chat"].requests < 60


def test_an_unreachable_host_is_one_error_and_not_n_missing_rows(tmp_path: Path) -> None:
    session = connect("sk-x", base_url="http://127.0.0.1:9/v1", cache=tmp_path / "c.sqlite")
    with session, pytest.raises(ConnectError, match=r"127\.0\.0\.1:9 could not be reached"):
        session.engine.run(EMBED, WORDS)


def test_a_budget_stops_before_it_is_exceeded(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite", max_in_flight=2) as session:
        job = completion_job("gpt-5", params={"max_tokens": 2})
        one = session.price("gpt-5").cost(11, 2)  # type: ignore[union-attr]
        with pytest.raises(BudgetExceededError):
            session.engine.run(job, prompts(100), budget=20 * one)
        answered = wait_until_idle(server, "chat").answered
        assert 0 < answered < 100
        assert session.cache.stats().entries == answered


def test_a_budget_with_no_known_price_is_rejected_skipped(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        with pytest.raises(InputError, match="no price is known"):
            session.engine.run(EMBED, WORDS, budget=1.0)
        assert server.stats["embeddings"].requests == 0


def test_raise_with_an_invalid_row_sends_nothing(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        with pytest.raises(InputError, match="Row 1 cannot be sent: the text is empty"):
            session.engine.run(EMBED, ["a", "", "b"], on_error="raise")
        assert server.stats["embeddings"].requests == 0


def test_no_more_requests_are_in_flight_than_allowed(tmp_path: Path) -> None:
    with served("latency=0.03") as server, connected(server, tmp_path / "c.sqlite", max_in_flight=3) as session:
        session.engine.run(completion_job("gpt-5"), prompts(30))
        assert server.stats["chat"].most_in_flight <= 3


def test_an_account_limit_slows_the_run_and_loses_nothing(tmp_path: Path) -> None:
    limits = LimitOptions(requests=10, window=1.0)
    with served(limits=limits) as server, connected(server, tmp_path / "c.sqlite", max_in_flight=8) as session:
        with Stalls() as stalls:
            outcome = session.engine.run(completion_job("gpt-5"), prompts(25))
        assert texts_of(outcome) == prompts(25)
        assert outcome.report.seconds > 1
        # What was sent before a stall arrives in another window.
        assert server.stats["chat"].statuses.get(429, 0) <= (8 if stalls.too_long else 3)


def test_events_count_rows_up_to_the_end(tmp_path: Path) -> None:
    events: list[Progress] = []
    with served("latency=0.05") as server, connected(server, tmp_path / "c.sqlite", max_in_flight=2) as session:
        session.engine.run(completion_job("gpt-5"), ["say 1", "say 2", None, "say 1", ""], on_progress=events.append)
    assert events[-1].state == "done"
    assert (events[-1].rows, events[-1].done, events[-1].failed, events[-1].requests) == (5, 5, 1, 2)
    assert [e.done for e in events] == sorted(e.done for e in events)
    assert {e.state for e in events[:-1]} <= {"running"}


def test_two_threads_share_one_engine(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        found: dict[int, Any] = {}

        def work(start: int) -> None:
            found[start] = texts_of(session.engine.run(completion_job("gpt-5"), prompts(40)[start::2]))

        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [found[n % 2][n // 2] for n in range(40)] == prompts(40)


def test_an_estimate_sends_nothing_and_knows_the_cache(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        job = completion_job("gpt-5", params={"max_tokens": 10})
        session.engine.run(job, prompts(4))
        server.stats.reset()
        estimate = session.engine.estimate(job, [*prompts(10), "say 9", None])
        assert server.stats["chat"].requests == 0
        assert (estimate.rows, estimate.distinct, estimate.cached, estimate.requests) == (12, 10, 4, 6)
        assert estimate.cost is not None
        assert estimate.cost > 0


def test_what_changes_the_answer_changes_the_key(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        for job in (
            completion_job("gpt-5"),
            completion_job("gpt-5.4"),
            completion_job("gpt-5", system="Be brief."),
            completion_job("gpt-5", params={"temperature": 0.5}),
        ):
            assert session.engine.run(job, ["say 1"]).report.sent == 1
        assert server.stats["chat"].requests == 4


def test_usage_is_the_count_of_the_service(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        report = session.engine.run(completion_job("gpt-5"), ["say one two"]).report
        assert (report.tokens_in, report.tokens_out) == (3, 3)
        assert report.cost == pytest.approx((3 * 0.5 + 3 * 1.25) / 1e6)


def test_a_client_that_is_given_back_while_its_run_is_cancelled_is_not_closed_in_the_next(tmp_path: Path) -> None:
    """As of two partitions of Dask in one process: the rows of the next run would be missing."""
    gate = threading.Event()

    class Late(Skytells):
        """Its answer comes just before it is aborted."""

        def abort(self) -> None:
            gate.set()
            for _ in range(50):
                if not engine._idle:
                    time.sleep(0.01)
            super().abort()

    with served(generator=EchoGenerator(gate=gate)) as server, connected(server, tmp_path / "c.sqlite") as session:
        engine = session.engine
        engine._make_client = lambda: Late(KEY, base_url=server.base_url)

        def run() -> None:
            with contextlib.suppress(RequestCancelledError):
                engine.run(completion_job("gpt-5"), ["say one"])

        first = threading.Thread(target=run)
        first.start()
        while not server.stats["chat"].in_flight:
            time.sleep(0.01)
        assert first.ident is not None
        engine.cancel(first.ident)
        first.join()
        assert texts_of(engine.run(completion_job("gpt-5"), ["say two"])) == ["say two"]


def test_a_pending_answer_is_aborted_by_an_interrupt(tmp_path: Path) -> None:
    """The run is in a child process that gets a real SIGINT once three answers are stored; the others are held."""
    import signal
    import subprocess
    import sys

    script = Path(__file__).parent / "interrupted_run.py"
    gate = threading.Event()
    with served(generator=EchoGenerator(gate)) as server:
        command = [sys.executable, str(script), server.base_url, server.api_key, str(tmp_path / "c.sqlite")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "stored\n"
        deadline = time.monotonic() + 60
        while server.stats["chat"].in_flight != 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        assert not gate.is_set()
        gate.set()
    assert "stopped. 3 of 5 distinct inputs are answered" in out, out + err
    assert "kept 3" in out

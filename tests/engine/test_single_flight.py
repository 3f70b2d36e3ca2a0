"""Threads that ask for the same inputs at the same time pay for them once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from local_fakes import GATE_S, EchoGenerator, EchoPiece
from paid_service import PaidService, Refusal, paid, prompt_of, refusal
from served import connected, served, wait_until_idle

from skytells_nb.cache.memory import MemoryStore, NoLeases
from skytells_nb.cache.store import LeaseState
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job, embedding_job
from skytells_nb.engine.single_flight import Owner, SingleFlight, single_flight_for
from skytells_nb.errors import AuthenticationError, SkytellsError
from skytells_nb.progress.events import Progress

JOB = completion_job("gpt-5")


def test_a_key_is_taken_by_the_first_that_asks() -> None:
    single_flight = SingleFlight()
    assert single_flight.acquire([b"a", b"b"], Owner()) == ["acquired", "acquired"]
    assert single_flight.acquire([b"b", b"c"], Owner()) == ["leased", "acquired"]


def test_a_released_key_can_be_taken_again() -> None:
    single_flight, one = SingleFlight(), Owner()
    single_flight.acquire([b"a"], one)
    single_flight.release([b"a", b"never taken"], one)
    assert single_flight.acquire([b"a"], Owner()) == ["acquired"]


def test_no_one_releases_what_another_holds() -> None:
    single_flight, one, two = SingleFlight(), Owner(), Owner()
    single_flight.acquire([b"a"], one)
    single_flight.release([b"a"], two)
    assert single_flight.acquire([b"a"], two) == ["leased"]


def test_what_a_run_held_that_ended_abruptly_is_free() -> None:
    """An interrupt may come between taking and noting what was taken."""
    single_flight, one = SingleFlight(), Owner()
    single_flight.acquire([b"a"], one)
    one.done = True
    single_flight.wait([b"a"], 60.0, lambda: None)
    assert single_flight.acquire([b"a"], Owner()) == ["acquired"]


def test_waiting_ends_with_the_first_release_and_ticks_meanwhile() -> None:
    """The first key may be taken at once; the others are waited for again."""
    single_flight, one = SingleFlight(), Owner()
    single_flight.acquire([b"a", b"b", b"c"], one)
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        single_flight.release([b"c"] if len(ticks) == 1 else [b"b"], one)

    single_flight.wait([b"a", b"b"], 60.0, tick, interval=0.01)
    assert len(ticks) == 2


def test_waiting_ends_after_so_many_seconds() -> None:
    single_flight, ticks = SingleFlight(), []
    single_flight.acquire([b"a"], Owner())
    single_flight.wait([b"a"], 0.05, lambda: ticks.append(1), interval=0.01)
    assert ticks


def test_an_interrupt_ends_the_waiting() -> None:
    single_flight = SingleFlight()
    single_flight.acquire([b"a"], Owner())

    def tick() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        single_flight.wait([b"a"], 60.0, tick, interval=0.01)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_waits_for_no_one() -> None:
    one = Owner()
    single_flight_for("sqlite:///forked").acquire([b"a"], one)
    child = os.fork()
    if child == 0:
        os._exit(0 if single_flight_for("sqlite:///forked").acquire([b"a"], Owner()) == ["acquired"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    single_flight_for("sqlite:///forked").release([b"a"], one)


def answers(outcome: Any) -> list[str | None]:
    texts = [None if value is None else CachedCompletion.from_bytes(value).text for value in outcome.values]
    return [None if number < 0 else texts[number] for number in outcome.result_index]


def in_threads(*works: Any) -> list[Any]:
    """What each gave, or the error that it ended in."""
    found: list[Any] = [None] * len(works)

    def run(number: int) -> None:
        try:
            found[number] = works[number]()
        except SkytellsError as problem:
            found[number] = problem

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return found


def test_threads_that_ask_for_the_same_rows_send_each_once(tmp_path: Path) -> None:
    rows = [f"say {n}" for n in range(60)]
    with served("latency=0.02") as server, connected(server, tmp_path / "c.sqlite", max_in_flight=4) as session:
        found = in_threads(*[lambda part=part: session.engine.run(JOB, part) for part in (rows, rows[::-1], rows[20:])])
        assert wait_until_idle(server, "chat").inputs == 60
    assert [answers(outcome) for outcome in found] == [rows, rows[::-1], rows[20:]]
    assert sum(outcome.report.sent for outcome in found) == 60


def test_two_sessions_of_one_cache_file_share_what_is_in_flight(tmp_path: Path) -> None:
    rows = [f"say {n}" for n in range(40)]
    with served("latency=0.02") as server:
        one, two = (connected(server, tmp_path / "c.sqlite", max_in_flight=4) for _ in range(2))
        with one, two:
            found = in_threads(lambda: one.engine.run(JOB, rows), lambda: two.engine.run(JOB, rows))
        assert wait_until_idle(server, "chat").inputs == 40
    assert [answers(outcome) for outcome in found] == [rows, rows]


def test_without_a_cache_each_call_asks_anew() -> None:
    with served("latency=0.05") as server, connected(server, "off") as session:
        in_threads(*[lambda: session.engine.run(JOB, ["say 1", "say 2"])] * 2)
        assert wait_until_idle(server, "chat").inputs == 4


def test_what_another_call_could_not_get_is_asked_for_by_the_one_that_waited(tmp_path: Path) -> None:
    """The first call is rejected once the second waits for its row, which the second takes over."""
    asked, waits = threading.Event(), threading.Event()

    def refuse(body: dict[str, Any]) -> Refusal | None:
        if asked.is_set():
            return None
        asked.set()
        assert waits.wait(60)
        return refusal(401, "no such key")

    def callback(event: Progress) -> None:
        if event.waiting and "another call" in event.waiting:
            waits.set()

    with paid(PaidService(refuse, say=prompt_of), tmp_path / "c.sqlite") as session:

        def second() -> Any:
            assert asked.wait(60)
            return session.engine.run(JOB, ["say 1"], on_progress=callback)

        first, outcome = in_threads(lambda: session.engine.run(JOB, ["say 1"]), second)
    assert isinstance(first, AuthenticationError)
    assert answers(outcome) == ["say 1"]


class Gated(EchoGenerator):
    """Holds the answer to each text until its gate is open."""

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self.gates = {text: threading.Event() for text in texts}

    def stream(self, messages: list[dict[str, Any]], **parameters: Any) -> Iterator[EchoPiece]:
        self.gates[messages[-1]["content"]].wait(GATE_S)
        return super().stream(messages, **parameters)


def test_a_call_that_waits_for_no_one_never_reports_that_it_waits(tmp_path: Path) -> None:
    """Neither while its own rows are in flight nor for the rows that it took over after waiting."""
    events: list[Progress] = []
    generator = Gated("say 1", "say 2")
    with (
        served(generator=generator) as server,
        connected(server, tmp_path / "c.sqlite", max_in_flight=2) as session,
    ):
        single_flight, one = single_flight_for(session.cache.url), Owner()
        held = session.engine._keys(JOB, ["say 2"])
        single_flight.acquire(held, one)

        def callback(event: Progress) -> None:
            events.append(event)
            if event.waiting and "another call" in event.waiting:
                single_flight.release(held, one)
            elif event.in_flight:
                # The second text is in flight after the wait for it; each is answered once it has been seen there.
                waited = any("another call" in (earlier.waiting or "") for earlier in events)
                generator.gates["say 2" if waited else "say 1"].set()

        outcome = session.engine.run(JOB, ["say 1", "say 2"], on_progress=callback)
        requests = wait_until_idle(server, "chat").requests
    assert answers(outcome) == ["say 1", "say 2"]
    assert requests == 2
    waits = ["another call" in (event.waiting or "") for event in events]
    first, last = waits.index(True), len(waits) - 1 - waits[::-1].index(True)
    assert any(event.in_flight for event in events[:first])
    assert any(event.in_flight for event in events[last + 1 :])
    assert not any(event.in_flight for event, wait in zip(events, waits, strict=True) if wait)


def test_an_interrupted_call_gives_its_rows_back(tmp_path: Path) -> None:
    gate = threading.Event()
    with served(generator=EchoGenerator(gate=gate)) as server, connected(server, tmp_path / "c.sqlite") as session:

        def stop(event: Progress) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            session.engine.run(JOB, ["held back"], on_progress=stop)
        gate.set()
        assert answers(session.engine.run(JOB, ["held back"])) == ["held back"]


def test_jobs_of_another_model_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        single_flight = single_flight_for(session.cache.url)
        taken = session.engine._keys(embedding_job("skytells-embed-3-small"), ["say 1"])
        one = Owner()
        single_flight.acquire(taken, one)
        assert answers(session.engine.run(JOB, ["say 1"])) == ["say 1"]
        single_flight.release(taken, one)


class LateStore(MemoryStore):
    """A store whose first look-up returns after ``meanwhile`` has run, as it may in a busy process."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile: Callable[[], object] | None = meanwhile

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found = super().get_many(keys)
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return found


def test_an_answer_stored_between_look_up_and_claim_is_not_paid_for_again() -> None:
    rows = ["say 1", "say 2", "say 3"]
    with served() as server, connected(server, "off") as session:
        engine = session._make_engine(LateStore(lambda: engine.run(JOB, rows[:2])))
        outcome = engine.run(JOB, rows)
        engine.close()
        assert wait_until_idle(server, "chat").inputs == 3
    assert answers(outcome) == rows
    assert (outcome.report.cached, outcome.report.sent) == (2, 1)


class NotedLeases(NoLeases):
    """Leases that note what they are told about the look-up before."""

    def __init__(self) -> None:
        self.noted: list[tuple[object, bool]] = []

    def snapshot(self) -> object:
        return "start"

    def acquire(
        self, keys: Sequence[bytes], owner: bytes, seconds: float, snapshot: object = None, *, changed: bool = True
    ) -> list[LeaseState]:
        self.noted.append((snapshot, changed))
        return super().acquire(keys, owner, seconds, snapshot, changed=changed)


def test_a_look_up_counts_until_another_run_of_the_process_releases_a_key() -> None:
    """What a run itself releases changes nothing about the keys that it has yet to take."""
    single_flight, leases, other = SingleFlight(), NotedLeases(), Owner()
    one = Owner(leases)
    snapshot = single_flight.snapshot(one)
    single_flight.acquire([b"a"], one, snapshot)
    single_flight.release([b"a"], one)
    single_flight.acquire([b"b"], one, snapshot)
    single_flight.acquire([b"c"], other)
    single_flight.release([b"c"], other)
    single_flight.acquire([b"d"], one, snapshot)
    single_flight.acquire([b"e"], one)
    assert leases.noted == [("start", False), ("start", False), ("start", True), (None, True)]

"""A few threads make the calls of many: each gets its own result, no more run at once, and none is left behind."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from skytells_nb.engine.single_flight import ReaderPool

WAIT_S = 20.0


def readers_alive() -> int:
    return sum(thread.name == "skytells-reader" for thread in threading.enumerate())


def assert_none_is_left() -> None:
    end = time.monotonic() + WAIT_S
    while readers_alive() and time.monotonic() < end:
        time.sleep(0.005)
    assert readers_alive() == 0


def test_each_call_has_its_own_result_and_no_more_run_at_once() -> None:
    readers = ReaderPool(3, timeout=3 * WAIT_S)
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def call(number: int) -> tuple[int, str]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        # No call ends before two others run beside it; 300 calls are a hundred such groups.
        together.wait(WAIT_S)
        with lock:
            running -= 1
        return number, threading.current_thread().name

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda number: readers.run(lambda: call(number)), range(300)))
    assert [number for number, _ in results] == list(range(300))
    assert {name for _, name in results} == {"skytells-reader"}
    assert most == 3
    readers.drain()
    assert_none_is_left()


def test_an_exception_is_raised_in_the_waiting_thread() -> None:
    readers = ReaderPool(1)
    with pytest.raises(ZeroDivisionError):
        readers.run(lambda: 1 // 0)
    assert readers.run(lambda: "and the reader lives") == "and the reader lives"
    readers.drain()
    assert_none_is_left()


def test_without_a_bound_each_thread_makes_its_own_call() -> None:
    others = set(threading.enumerate())
    assert ReaderPool(None).run(threading.current_thread) is threading.current_thread()
    assert "skytells-reader" not in [thread.name for thread in set(threading.enumerate()) - others]


def test_a_call_without_a_free_reader_is_made_once_by_the_waiting_thread() -> None:
    """A slow answer in front must not let those behind it go stale."""
    readers = ReaderPool(1, timeout=0.05)
    entered, gate = threading.Event(), threading.Event()

    def stuck() -> None:
        entered.set()
        assert gate.wait(WAIT_S)

    made: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(readers.run, stuck)
        try:
            assert entered.wait(WAIT_S)
            readers.run(lambda: made.append(threading.current_thread().name))
            assert made == [threading.current_thread().name]
        finally:
            gate.set()
        held.result(WAIT_S)
    readers.drain()
    assert_none_is_left()
    assert len(made) == 1


def test_drained_readers_start_again() -> None:
    readers = ReaderPool(2)
    for _ in range(50):
        assert readers.run(lambda: 1) == 1
        readers.drain()
    assert_none_is_left()
    assert readers.run(lambda: 2) == 2
    readers.drain()
    assert_none_is_left()

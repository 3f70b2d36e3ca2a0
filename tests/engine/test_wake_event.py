"""Ctrl-C in the main thread, at whatever moment of a wait, is KeyboardInterrupt and nothing else."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from skytells_nb.engine.single_flight import Owner, SingleFlight, WakeEvent

INTERRUPTS = 100


def test_an_event_set_before_the_wait_counts_once() -> None:
    event = WakeEvent()
    event.set()
    event.set()
    started = time.monotonic()
    event.wait(30)
    assert time.monotonic() - started < 20
    event.wait(0.01)


def test_setting_the_event_wakes_the_waiting_thread() -> None:
    event = WakeEvent()
    timer = threading.Timer(0.05, event.set)
    timer.start()
    started = time.monotonic()
    event.wait(30)
    assert time.monotonic() - started < 20


@contextmanager
def busy(work: Callable[[], None]) -> Iterator[None]:
    """Another thread that does this again and again, and must not come to harm."""
    over, harm = threading.Event(), []  # type: threading.Event, list[Exception]

    def run() -> None:
        while not over.is_set():
            try:
                work()
            except Exception as problem:
                harm.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert harm == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a thread are a matter of POSIX")
def test_an_interrupt_at_any_moment_of_a_wait_is_not_another_error() -> None:
    """While another thread rings all the time and holds the lock meanwhile, so that the wait is often just ending."""
    many = [b"%d" % number for number in range(5_000)]
    single_flight, owner = SingleFlight(), Owner()
    single_flight.acquire([b"held"], owner)
    me, caught, go, over = threading.get_ident(), 0, threading.Semaphore(0), threading.Event()

    def interrupt() -> None:
        for number in range(INTERRUPTS):
            go.acquire()
            time.sleep(0.002 + 0.0001 * number)
            if over.is_set():
                return
            signal.pthread_kill(me, signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        with busy(lambda: single_flight.release(many, owner)):
            for _ in range(INTERRUPTS):
                try:
                    go.release()
                    single_flight.wait([b"held"], 60.0, lambda: None, interval=5.0)
                except KeyboardInterrupt:
                    caught += 1
    finally:
        # If this failed, no interrupt may come in a later test.
        over.set()
        go.release()
        sender.join()
    assert caught == INTERRUPTS
    assert single_flight.acquire([b"held"], Owner()) == ["leased"]

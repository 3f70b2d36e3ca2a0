"""Large answers are read a few at a time, by threads of their own."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_S = 20.0
"""Nothing waits longer for its turn: gateways cut an answer off that nobody reads for a minute."""


class _Turn:
    """A call that waits to be made, by whoever comes first."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.done = threading.Event()
        self._call: Callable[[], Any] | None = call
        self._free = threading.Lock()
        self._value: Any = None
        self._problem: BaseException | None = None

    def take(self) -> bool:
        """Whether it is the caller's to make: once."""
        return self._free.acquire(blocking=False)

    def make(self) -> None:
        call, self._call = self._call, None
        assert call is not None
        try:
            self._value = call()
        except BaseException as problem:
            self._problem = problem
        finally:
            self.done.set()

    def result(self) -> Any:
        problem, self._problem = self._problem, None
        try:
            if problem is not None:
                raise problem
            return self._value
        finally:
            del problem


class ReaderPool:
    """Makes calls for other threads, which wait: at most ``most`` at a time, ``None`` for each in its own thread.

    An answer of 2,048 vectors takes 40 MB until it is kept, and the C library holds on to most of that for the thread
    that used it: with eight threads in flight, each reading its own, 1.2 times the result's size more.

    >>> readers = Readers(2)
    >>> readers.run(lambda: 6 * 7)
    42
    >>> readers.rest()
    """

    def __init__(self, most: int | None, *, patience: float = PATIENCE_S) -> None:
        self._most = most
        self._patience = patience
        self._turns: deque[_Turn] = deque()
        self._changed = threading.Condition()
        self._threads = self._idle = 0
        self._resting = False

    def run(self, call: Callable[[], T]) -> T:
        """What ``call`` returns or raises, after those that wait already.

        Where no reader was free for ``patience`` seconds it is made in the thread that waits.
        """
        if self._most is None:
            return call()
        turn = _Turn(call)
        with self._changed:
            self._resting = False
            self._turns.append(turn)
            if self._idle < len(self._turns) and self._threads < self._most:
                threading.Thread(target=self._read, name="skytells-reader", daemon=True).start()
                self._threads += 1
            self._changed.notify()
        if not turn.done.wait(self._patience) and turn.take():
            turn.make()
        turn.done.wait()
        result: T = turn.result()
        return result

    def drain(self) -> None:
        """Let the threads end; the next call starts them again."""
        with self._changed:
            self._resting = True
            self._changed.notify_all()

    def _read(self) -> None:
        # To the end of the run: an ended thread leaves its memory to the next that starts, which may be no reader.
        while True:
            with self._changed:
                self._idle += 1
                while not self._turns and not self._resting:
                    self._changed.wait()
                self._idle -= 1
                if not self._turns:
                    self._threads -= 1
                    return
                turn = self._turns.popleft()
            if turn.take():
                turn.make()
            del turn


class WakeEvent:
    """Wakes the one thread that waits, or the next that will.

    A Condition, and an Event, which has one inside, cannot be waited on where Ctrl-C comes: interrupted as it takes its
    lock back it leaves without it, and its end gives the lock back all the same: "release unlocked lock" in the place
    of KeyboardInterrupt. A lock alone is taken or it is not.

    >>> bell = Bell()
    >>> bell.ring()
    >>> bell.wait(10.0)  # returns at once
    """

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def set(self) -> None:
        """Wake; once is as good as twice. From any thread."""
        with contextlib.suppress(RuntimeError):
            self._silent.release()

    def wait(self, seconds: float) -> None:
        """Return when it rings, or after so many seconds."""
        self._silent.acquire(timeout=seconds)

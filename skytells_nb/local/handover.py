"""A bounded hand-over from a thread that produces to whoever reads, which either side can end."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

CLOSE_TIMEOUT_S = 10.0
"""Longest wait for the producer to notice that nobody reads any more."""


class Closed(Exception):
    """Raised in the producer by ``put`` once the reader has gone."""


class Channel(Generic[T]):
    """What the producer sees: ``put`` waits for room, ``closed`` says that the reader has gone."""

    def __init__(self, depth: int) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._done = False
        self._error: BaseException | None = None
        self.closed = False

    def put(self, item: T) -> None:
        with self._changed:
            while len(self._items) >= self._depth and not self.closed:
                self._changed.wait()
            if self.closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        with self._changed:
            while not self._items and not self._done and not self.closed:
                self._changed.wait()
            if self._items and not self.closed:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None and not self.closed:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def finish(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._done, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._items.clear()
            self._changed.notify_all()


class Handover(Iterator[T]):
    """Items that ``produce(channel)`` puts from its own thread; at most ``depth`` of them wait to be read.

    An exception of the producer is raised to the reader after the items before it. ``close`` may be called from any
    thread, also while another one waits in ``next``; it returns when the producer has ended. Dropping the iterator
    closes it too.
    """

    def __init__(self, produce: Callable[[Channel[T]], None], *, depth: int = 32) -> None:
        channel: Channel[T] = Channel(depth)
        self._channel = channel
        # The thread knows the channel and not this object, so that an abandoned iterator can be collected.
        self._thread = threading.Thread(target=_run, args=(produce, channel), daemon=True, name="skytells-local-chat")
        self._finalizer = weakref.finalize(self, channel.close)
        self._thread.start()

    def __next__(self) -> T:
        return self._channel.get()

    def close(self) -> None:
        self._finalizer()
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_TIMEOUT_S)

    def __enter__(self) -> Handover[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _run(produce: Callable[[Channel[T]], None], channel: Channel[T]) -> None:
    try:
        produce(channel)
    except Closed:
        channel.finish()
    except BaseException as error:
        channel.finish(error)
    else:
        channel.finish()

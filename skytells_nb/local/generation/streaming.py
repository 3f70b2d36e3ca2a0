"""The generator's blocking iterator, brought to the event loop without ever holding it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Generic, TypeVar

import anyio.to_thread

from skytells_nb.local.protocols import TextPiece

MAX_CONCURRENT_ANSWERS = 8
"""Answers under way at once; more wait. The generator's own slots are fewer: these are only waiting for one."""

MAX_CONCURRENT_EMBEDDINGS = 2
"""Embedding requests computed at once, which bounds their memory; more wait."""

T = TypeVar("T")


class GenerationThreads:
    """Runs each answer in a thread of its own; leaving the iterator early ends the decoding."""

    def __init__(self, max_concurrent: int = MAX_CONCURRENT_ANSWERS) -> None:
        self._room = asyncio.Semaphore(max_concurrent)
        self._vectors = asyncio.Semaphore(MAX_CONCURRENT_EMBEDDINGS)

    async def run(self, start: Callable[[], Iterator[TextPiece]]) -> AsyncGenerator[TextPiece, None]:
        """The pieces that ``start`` makes; raises what it raises."""
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        # Not bounded here: an answer is at most a context long, and a client that reads slowly must keep neither one
        # of the few slots nor its place among those under way.
        arrived: asyncio.Queue[TextPiece | BaseException | None] = asyncio.Queue()
        worker = _Worker(start, loop, arrived.put_nowait, self._room.release)
        worker.begin()
        try:
            while True:
                piece = await arrived.get()
                if piece is None:
                    return
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            worker.leave()

    async def compute(self, work: Callable[[], T]) -> T:
        """The result of work on vectors, done in a thread."""
        async with self._vectors:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)


class _Worker:
    """The thread of one answer. Daemons: an exit of the interpreter must not wait for what nobody will read."""

    def __init__(
        self,
        start: Callable[[], Iterator[TextPiece]],
        loop: asyncio.AbstractEventLoop,
        put: Callable[[TextPiece | BaseException | None], None],
        over: Callable[[], None],
    ) -> None:
        self._start = start
        self._loop = loop
        self._put = put
        self._tell_over = over
        self._pieces: Iterator[TextPiece] | None = None
        self._gone = threading.Event()
        self._over = threading.Event()

    def begin(self) -> None:
        threading.Thread(target=self._work, name="skytells-local-answer", daemon=True).start()

    def leave(self) -> None:
        """End the decoding, also where it is still waiting for a slot."""
        self._gone.set()
        if self._pieces is not None and not self._over.is_set():
            threading.Thread(target=self._close, name="skytells-local-close", daemon=True).start()

    def _work(self) -> None:
        try:
            self._pieces = self._start()
            if not self._gone.is_set():
                for piece in self._pieces:
                    if self._gone.is_set():
                        break
                    self._hand_over(piece)
        except Exception as problem:
            self._hand_over(problem)
        else:
            self._hand_over(None)
        finally:
            self._over.set()
            self._close()
            self._in_loop(self._tell_over)

    def _close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            # A plain generator cannot be closed while it runs; its own thread does it after the next piece.
            with contextlib.suppress(ValueError):
                close()

    def _hand_over(self, item: TextPiece | BaseException | None) -> None:
        self._in_loop(self._put, item)

    def _in_loop(self, do: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(do, *arguments)
        except RuntimeError:
            # The server was stopped while this was decoding.
            self._gone.set()


async def wait_for_first(source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same items, the first already there: what goes wrong before it is raised here, before any header is sent."""
    items = source
    try:
        first = await items.__anext__()
    except StopAsyncIteration:
        return _chain([], items)
    return _chain([first], items)


async def _chain(head: list[T], tail: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    async with aclosing(tail):
        for item in head:
            yield item
        async for item in tail:
            yield item


ItemT = TypeVar("ItemT")

CLOSE_TIMEOUT_S = 10.0
"""Longest wait for the producer to notice that nobody reads any more."""


class StreamClosed(Exception):
    """Raised in the producer by ``put`` once the reader has gone."""


class BoundedQueue(Generic[ItemT]):
    """What the producer sees: ``put`` waits for room, ``closed`` says that the reader has gone."""

    def __init__(self, depth: int) -> None:
        self._items: deque[ItemT] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._done = False
        self._error: BaseException | None = None
        self.closed = False

    def put(self, item: ItemT) -> None:
        with self._changed:
            while len(self._items) >= self._depth and not self.closed:
                self._changed.wait()
            if self.closed:
                raise StreamClosed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> ItemT:
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


class ThreadStream(Iterator[ItemT]):
    """Items that ``produce(channel)`` puts from its own thread; at most ``depth`` of them wait to be read.

    An exception of the producer is raised to the reader after the items before it. ``close`` may be called from any
    thread, also while another one waits in ``next``; it returns when the producer has ended. Dropping the iterator
    closes it too.
    """

    def __init__(self, produce: Callable[[BoundedQueue[ItemT]], None], *, depth: int = 32) -> None:
        channel: BoundedQueue[ItemT] = BoundedQueue(depth)
        self._channel = channel
        # The thread knows the channel and not this object, so that an abandoned iterator can be collected.
        self._thread = threading.Thread(target=_run, args=(produce, channel), daemon=True, name="skytells-local-chat")
        self._finalizer = weakref.finalize(self, channel.close)
        self._thread.start()

    def __next__(self) -> ItemT:
        return self._channel.get()

    def close(self) -> None:
        self._finalizer()
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_TIMEOUT_S)

    def __enter__(self) -> ThreadStream[ItemT]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _run(produce: Callable[[BoundedQueue[ItemT]], None], channel: BoundedQueue[ItemT]) -> None:
    try:
        produce(channel)
    except StreamClosed:
        channel.finish()
    except BaseException as error:
        channel.finish(error)
    else:
        channel.finish()

"""Runs the generator's blocking iterators in threads, for the event loop and for plain callers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from skytells_nb.local.cancellable_work import Cancelled, run_in_thread
from skytells_nb.local.protocols import TextPiece

MAX_CONCURRENT_ANSWERS = 8
"""Concurrent generations; further ones wait. The generator has fewer slots, so some of these wait for a slot."""

MAX_CONCURRENT_EMBEDDINGS = 2
"""Concurrent embedding requests, which bounds their memory; further ones wait."""

T = TypeVar("T")
ItemT = TypeVar("ItemT")

CLOSE_TIMEOUT_S = 10.0
"""Maximum wait of :meth:`ThreadStream.close` for the end of the producer."""


class GenerationThreads:
    """Runs each generation in its own thread; closing the iterator early stops the generation."""

    def __init__(self, max_concurrent: int = MAX_CONCURRENT_ANSWERS) -> None:
        self._slots = asyncio.Semaphore(max_concurrent)
        self._embedding_slots = asyncio.Semaphore(MAX_CONCURRENT_EMBEDDINGS)

    async def run(self, start: Callable[[], Iterator[TextPiece]]) -> AsyncGenerator[TextPiece, None]:
        """Yield the pieces of the iterator that ``start`` returns, and raise its exceptions."""
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        # Unbounded: a completion is at most a context long, and a slow client must not occupy a slot of the generator
        # or of this class.
        received: asyncio.Queue[TextPiece | BaseException | None] = asyncio.Queue()
        thread = _GenerationThread(start, loop, received.put_nowait, self._slots.release)
        thread.start()
        try:
            while True:
                piece = await received.get()
                if piece is None:
                    return
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            thread.cancel()

    async def compute(self, work: Callable[[Cancelled], T]) -> T:
        """Run the computation of embeddings in a thread and return its result; see ``run_in_thread``."""
        async with self._embedding_slots:
            return await run_in_thread(work)


class _GenerationThread:
    """The thread of one generation. A daemon: the interpreter's exit does not wait for its end."""

    def __init__(
        self,
        start: Callable[[], Iterator[TextPiece]],
        loop: asyncio.AbstractEventLoop,
        put: Callable[[TextPiece | BaseException | None], None],
        on_finish: Callable[[], None],
    ) -> None:
        self._start = start
        self._loop = loop
        self._put = put
        self._on_finish = on_finish
        self._pieces: Iterator[TextPiece] | None = None
        self._cancelled = threading.Event()
        self._finished = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="skytells-local-generation", daemon=True).start()

    def cancel(self) -> None:
        """Stop the generation, even while it waits for a slot."""
        self._cancelled.set()
        if self._pieces is not None and not self._finished.is_set():
            threading.Thread(target=self._close, name="skytells-local-close", daemon=True).start()

    def _run(self) -> None:
        try:
            self._pieces = self._start()
            if not self._cancelled.is_set():
                for piece in self._pieces:
                    if self._cancelled.is_set():
                        break
                    self._send(piece)
        except Exception as error:
            self._send(error)
        else:
            self._send(None)
        finally:
            self._finished.set()
            self._close()
            self._call_in_loop(self._on_finish)

    def _close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            # A plain generator cannot be closed while it runs; its own thread closes it after the next piece.
            with contextlib.suppress(ValueError):
                close()

    def _send(self, item: TextPiece | BaseException | None) -> None:
        self._call_in_loop(self._put, item)

    def _call_in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The event loop was closed during the generation.
            self._cancelled.set()


_END: Any = object()


async def with_pauses(source: AsyncGenerator[T, None], seconds: float) -> AsyncGenerator[T | None, None]:
    """Yield the items, and ``None`` after each ``seconds`` in which there was none."""
    waiting: asyncio.Future[Any] | None = None
    try:
        while True:
            waiting = asyncio.ensure_future(_next(source))
            while not (await asyncio.wait({waiting}, timeout=seconds))[0]:
                yield None
            item = waiting.result()
            if item is _END:
                return
            yield item
    finally:
        if waiting is not None and not waiting.done():
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await waiting
        await source.aclose()


async def _next(source: AsyncGenerator[T, None]) -> Any:
    return await anext(source, _END)


async def wait_for_first(source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Wait for the first item and return all items, so that early errors are raised before any header is sent."""
    try:
        first = await anext(source)
    except StopAsyncIteration:
        return _chain([], source)
    return _chain([first], source)


async def _chain(head: list[T], tail: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    async with aclosing(tail):
        for item in head:
            yield item
        async for item in tail:
            yield item


class StreamClosed(Exception):
    """Raised by ``put`` in the producer once the stream is closed."""


class BoundedQueue(Generic[ItemT]):
    """A queue of at most ``depth`` items between a producer and a reader.

    ``put`` waits until there is space; ``closed`` is true once the reader has closed the queue.
    """

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
    """An iterator of the items that ``produce(queue)`` puts from its own thread, at most ``depth`` items ahead.

    An exception of the producer is raised in the reader after the items before it. ``close`` may be called from any
    thread, also while another one waits in ``next``; it waits for the end of the producer, at most
    ``CLOSE_TIMEOUT_S``. An iterator that is garbage collected is closed too.
    """

    def __init__(self, produce: Callable[[BoundedQueue[ItemT]], None], *, depth: int = 32) -> None:
        queue: BoundedQueue[ItemT] = BoundedQueue(depth)
        self._queue = queue
        # The thread references the queue but not this object, so that an unused iterator can be garbage collected.
        self._thread = threading.Thread(target=_produce, args=(produce, queue), daemon=True, name="skytells-local-chat")
        self._finalizer = weakref.finalize(self, queue.close)
        self._thread.start()

    def __next__(self) -> ItemT:
        return self._queue.get()

    def close(self) -> None:
        self._finalizer()
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_TIMEOUT_S)

    def __enter__(self) -> ThreadStream[ItemT]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _produce(produce: Callable[[BoundedQueue[ItemT]], None], queue: BoundedQueue[ItemT]) -> None:
    try:
        produce(queue)
    except StreamClosed:
        queue.finish()
    except BaseException as error:
        queue.finish(error)
    else:
        queue.finish()

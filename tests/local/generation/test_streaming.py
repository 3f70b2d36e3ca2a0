"""Generation threads for the event loop, and streams from a thread: order, errors, limits and cancellation."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest
from local_fakes import EchoPiece

from skytells_nb.local.generation.streaming import BoundedQueue, GenerationThreads, ThreadStream, wait_for_first


def words(text: str) -> Iterator[EchoPiece]:
    for word in text.split():
        yield EchoPiece(word)


def test_pieces_arrive_in_order() -> None:
    """All of them, from another thread."""

    async def collect() -> list[str]:
        return [piece.text async for piece in GenerationThreads().run(lambda: words("a b c"))]

    assert asyncio.run(collect()) == ["a", "b", "c"]


def test_an_error_of_the_generator_is_raised_at_the_start() -> None:
    """``wait_for_first`` raises it before it returns."""

    def broken() -> Iterator[EchoPiece]:
        raise ValueError("no")
        yield

    async def begin() -> None:
        await wait_for_first(GenerationThreads().run(broken))

    with pytest.raises(ValueError, match="no"):
        asyncio.run(begin())


def test_an_unread_generation_releases_its_slot() -> None:
    """With one slot: the first generation ends without being read, and the second one runs."""

    async def both() -> str:
        threads = GenerationThreads(max_concurrent=1)
        unread = threads.run(lambda: words("a b c d"))
        await anext(unread)
        second = await anext(threads.run(lambda: words("second")))
        await unread.aclose()
        return second.text

    assert asyncio.run(asyncio.wait_for(both(), 20)) == "second"


def test_closing_early_closes_the_generator() -> None:
    """Its ``close`` is called from another thread, even while it waits for its next piece."""
    started = threading.Event()
    closed = threading.Event()

    class Waiting:
        def __iter__(self) -> Waiting:
            return self

        def __next__(self) -> EchoPiece:
            if not started.is_set():
                started.set()
                return EchoPiece("first")
            closed.wait(20)
            raise StopIteration

        def close(self) -> None:
            closed.set()

    async def close_early() -> None:
        pieces = GenerationThreads().run(Waiting)
        await anext(pieces)
        await pieces.aclose()
        assert await asyncio.to_thread(closed.wait, 10)

    asyncio.run(close_early())


def test_embeddings_do_not_block_the_event_loop() -> None:
    """They are computed in threads, two at a time."""
    proceed = threading.Event()

    async def run() -> list[bool]:
        threads = GenerationThreads()
        waiting = [asyncio.ensure_future(threads.compute(lambda cancelled: proceed.wait(20))) for _ in range(3)]
        await asyncio.sleep(0)
        proceed.set()
        return list(await asyncio.gather(*waiting))

    assert asyncio.run(run()) == [True, True, True]


def test_items_arrive_in_the_order_they_were_put() -> None:
    """Every item, once, in order."""

    def produce(queue: BoundedQueue[int]) -> None:
        for number in range(100):
            queue.put(number)

    assert list(ThreadStream(produce, depth=3)) == list(range(100))


def test_the_producer_is_at_most_the_depth_ahead() -> None:
    """A slow reader makes the producer wait."""
    produced: list[int] = []
    fifth = threading.Event()

    def produce(queue: BoundedQueue[int]) -> None:
        for number in range(100):
            produced.append(number)
            if number == 4:
                fifth.set()
            queue.put(number)

    with ThreadStream(produce, depth=4) as items:
        assert fifth.wait(60)
        assert produced == [0, 1, 2, 3, 4]
        assert next(items) == 0


def test_an_error_is_raised_after_the_items_before_it() -> None:
    """An exception of the producer reaches the reader, in order."""

    def produce(queue: BoundedQueue[int]) -> None:
        queue.put(1)
        raise LookupError("lost")

    items = ThreadStream(produce)
    assert next(items) == 1
    with pytest.raises(LookupError, match="lost"):
        next(items)
    assert list(items) == []


def test_close_ends_the_producer_at_its_next_item() -> None:
    """After ``close`` the producer's thread has ended."""
    ended = threading.Event()

    def produce(queue: BoundedQueue[int]) -> None:
        try:
            while True:
                queue.put(0)
        finally:
            ended.set()

    items = ThreadStream(produce)
    next(items)
    items.close()
    assert ended.is_set()
    assert list(items) == []


def test_close_from_another_thread_ends_a_waiting_reader() -> None:
    """A reader inside ``next`` gets the end of the iterator."""
    waiting = threading.Event()
    seen: list[list[int]] = []

    def produce(queue: BoundedQueue[int]) -> None:
        waiting.set()
        while not queue.closed:
            threading.Event().wait(0.01)

    items = ThreadStream(produce)
    reader = threading.Thread(target=lambda: seen.append(list(items)))
    reader.start()
    assert waiting.wait(60)
    items.close()
    reader.join(60)
    assert seen == [[]]


def test_dropping_the_iterator_ends_the_producer() -> None:
    """A garbage-collected stream stops its producer."""
    ended = threading.Event()

    def endless(queue: BoundedQueue[int]) -> Iterator[None]:
        while True:
            queue.put(0)
            yield

    def produce(queue: BoundedQueue[int]) -> None:
        try:
            for _ in endless(queue):
                pass
        finally:
            ended.set()

    items = ThreadStream(produce)
    next(items)
    del items
    gc.collect()
    assert ended.wait(60)

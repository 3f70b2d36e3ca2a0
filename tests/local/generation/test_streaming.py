"""What a thread makes reaches its reader in order, a few items ahead at most, and both sides can end it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from skytells_nb.local.generation.streaming import BoundedQueue, ThreadStream


def test_items_arrive_in_the_order_they_were_put() -> None:
    """Every item, once, in order."""

    def produce(channel: BoundedQueue[int]) -> None:
        for number in range(100):
            channel.put(number)

    assert list(ThreadStream(produce, depth=3)) == list(range(100))


def test_the_producer_is_at_most_the_depth_ahead() -> None:
    """A reader that stalls makes the producer wait."""
    made: list[int] = []
    fifth = threading.Event()

    def produce(channel: BoundedQueue[int]) -> None:
        for number in range(100):
            made.append(number)
            if number == 4:
                fifth.set()
            channel.put(number)

    with ThreadStream(produce, depth=4) as items:
        assert fifth.wait(10)
        assert made == [0, 1, 2, 3, 4]
        assert next(items) == 0


def test_an_error_is_raised_after_the_items_before_it() -> None:
    """What the producer raises reaches the reader, in its place."""

    def produce(channel: BoundedQueue[int]) -> None:
        channel.put(1)
        raise LookupError("gone")

    items = ThreadStream(produce)
    assert next(items) == 1
    with pytest.raises(LookupError, match="gone"):
        next(items)
    assert list(items) == []


def test_close_ends_the_producer_at_its_next_item() -> None:
    """After close the producer's thread has ended."""
    ended = threading.Event()

    def produce(channel: BoundedQueue[int]) -> None:
        try:
            while True:
                channel.put(0)
        finally:
            ended.set()

    items = ThreadStream(produce)
    next(items)
    items.close()
    assert ended.is_set()
    assert list(items) == []


def test_close_from_another_thread_ends_a_reader_that_waits() -> None:
    """A reader inside next() sees the end, as at the end of the items."""
    waiting = threading.Event()
    seen: list[list[int]] = []

    def produce(channel: BoundedQueue[int]) -> None:
        waiting.set()
        while not channel.closed:
            threading.Event().wait(0.01)

    items = ThreadStream(produce)
    reader = threading.Thread(target=lambda: seen.append(list(items)))
    reader.start()
    assert waiting.wait(10)
    items.close()
    reader.join(10)
    assert seen == [[]]


def test_dropping_the_iterator_ends_the_producer() -> None:
    """An answer that nobody holds any more is not produced to its end."""
    ended = threading.Event()

    def endless(channel: BoundedQueue[int]) -> Iterator[None]:
        while True:
            channel.put(0)
            yield

    def produce(channel: BoundedQueue[int]) -> None:
        try:
            for _ in endless(channel):
                pass
        finally:
            ended.set()

    items = ThreadStream(produce)
    next(items)
    del items
    gc.collect()
    assert ended.wait(10)

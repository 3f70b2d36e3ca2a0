"""Answers in threads: their order, their errors, and that none holds the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from local_fakes import EchoPiece

from skytells_nb.local.generation.streaming import GenerationThreads, wait_for_first


def words(text: str) -> Iterator[EchoPiece]:
    for word in text.split():
        yield EchoPiece(word)


def test_the_pieces_come_in_order() -> None:
    """All of them, from another thread."""

    async def collect() -> list[str]:
        return [piece.text async for piece in GenerationThreads().run(lambda: words("a b c"))]

    assert asyncio.run(collect()) == ["a", "b", "c"]


def test_what_the_generator_raises_is_raised_at_the_start() -> None:
    """``started`` raises it before it gives anything back."""

    def broken() -> Iterator[EchoPiece]:
        raise ValueError("no")
        yield

    async def begin() -> None:
        await wait_for_first(GenerationThreads().run(broken))

    with pytest.raises(ValueError, match="no"):
        asyncio.run(begin())


def test_an_answer_nobody_reads_keeps_no_room() -> None:
    """With room for one: the first is decoded to its end and left unread, and the second answers."""

    async def both() -> str:
        decoding = GenerationThreads(max_concurrent=1)
        unread = decoding.run(lambda: words("a b c d"))
        await anext(unread)
        second = await anext(decoding.run(lambda: words("second")))
        await unread.aclose()
        return second.text

    assert asyncio.run(asyncio.wait_for(both(), 20)) == "second"


def test_leaving_early_closes_what_is_decoding() -> None:
    """The generator's ``close`` is called from another thread, also while it waits for its next piece."""
    asked = threading.Event()
    closed = threading.Event()

    class Waiting:
        def __iter__(self) -> Waiting:
            return self

        def __next__(self) -> EchoPiece:
            if not asked.is_set():
                asked.set()
                return EchoPiece("first")
            closed.wait(20)
            raise StopIteration

        def close(self) -> None:
            closed.set()

    async def leave() -> None:
        pieces = GenerationThreads().run(Waiting)
        await anext(pieces)
        await pieces.aclose()
        assert await asyncio.to_thread(closed.wait, 10)

    asyncio.run(leave())


def test_the_loop_goes_on_while_vectors_are_computed() -> None:
    """Work is done in a thread, two at a time."""
    go = threading.Event()

    async def run() -> list[bool]:
        decoding = GenerationThreads()
        waiting = [asyncio.ensure_future(decoding.compute(lambda: go.wait(20))) for _ in range(3)]
        await asyncio.sleep(0)
        go.set()
        return list(await asyncio.gather(*waiting))

    assert asyncio.run(run()) == [True, True, True]

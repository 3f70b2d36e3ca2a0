"""Work in threads that is told when its client has left."""

from __future__ import annotations

import asyncio
import threading

import pytest

from skytells_nb.local.cancellable_work import Cancelled, WorkCancelled, run_in_thread


def test_the_result_and_errors_come_back() -> None:
    def failing(cancelled: Cancelled) -> int:
        raise ZeroDivisionError

    assert asyncio.run(run_in_thread(lambda cancelled: (1, cancelled()))) == (1, False)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_in_thread(failing))


def test_work_that_is_cancelled_is_told() -> None:
    """The caller goes on at once, while the thread is still between two steps."""
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []

    def work(cancelled: Cancelled) -> None:
        began.set()
        go_on.wait(20)
        seen.append(cancelled())
        ended.set()
        raise WorkCancelled

    async def run() -> None:
        task = asyncio.ensure_future(run_in_thread(work))
        await asyncio.to_thread(began.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not ended.is_set()
        go_on.set()
        await asyncio.to_thread(ended.wait, 20)

    asyncio.run(run())
    assert seen == [True]

"""Threads of one process that ask for the same rows at the same time pay for each of them once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from local_fakes import HashEmbedder
from served import connected, served, wait_until_idle

from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job, embedding_job
from skytells_nb.errors import BudgetExceededError

CHAT = completion_job("gpt-5", params={"max_tokens": 10})
EMBED = embedding_job("skytells-embed-3-small")
TEXTS = [f"say {n}" for n in range(300)]


def at_once(*works: Callable[[], object]) -> None:
    """Run them in threads that begin together; fails where one fails or does not end."""
    gate = threading.Barrier(len(works))
    problems: list[BaseException] = []

    def begin(work: Callable[[], object]) -> None:
        gate.wait(30)
        try:
            work()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=begin, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert problems == []


def test_two_threads_with_the_same_frame_send_each_row_once(tmp_path: Path) -> None:
    df = pd.DataFrame({"n": range(300)})
    found: dict[int, list[str]] = {}
    with served("latency=0.01") as server, connected(server, tmp_path / "c.sqlite", max_in_flight=8):

        def complete(name: int) -> None:
            found[name] = df.skytells.complete("say {n}", progress=False)["completion"].tolist()

        at_once(lambda: complete(1), lambda: complete(2))
        counts = wait_until_idle(server, "chat")
    assert found == {1: TEXTS, 2: TEXTS}
    assert (counts.inputs, counts.distinct) == (300, 300)


def test_threads_that_meet_from_both_ends_neither_wait_forever_nor_pay_twice(tmp_path: Path) -> None:
    """Three runs over shares that overlap, in other orders and in requests of 20 texts."""
    shares = [TEXTS[:200], TEXTS[:99:-1], TEXTS[50:250:3] + TEXTS[::-5]]
    with (
        served("latency=0.02") as server,
        connected(server, tmp_path / "c.sqlite", inputs_per_request=20, max_in_flight=3) as session,
    ):

        def embed(share: list[str]) -> None:
            outcome = session.engine.run(EMBED, share)
            assert np.array_equal(outcome.matrix[outcome.result_index], HashEmbedder().encode(share))

        at_once(*(lambda share=share: embed(share) for share in shares))  # type: ignore[misc]
        counts = wait_until_idle(server, "embeddings")
    assert (counts.inputs, counts.distinct) == (300, 300)


def test_two_sessions_on_one_cache_send_each_row_once(tmp_path: Path) -> None:
    with (
        served("latency=0.01") as server,
        connected(server, tmp_path / "c.sqlite") as one,
        connected(server, tmp_path / "c.sqlite") as other,
    ):
        at_once(lambda: one.engine.run(CHAT, TEXTS), lambda: other.engine.run(CHAT, TEXTS))
        counts = wait_until_idle(server, "chat")
    assert (counts.inputs, counts.distinct) == (300, 300)


def test_a_run_that_stops_leaves_its_rows_to_the_one_that_waits(tmp_path: Path) -> None:
    """The budget of the first is spent early; the second, which waited for its answers, asks for the rest itself."""
    with served("latency=0.01") as server, connected(server, tmp_path / "c.sqlite", max_in_flight=4) as session:
        price = session.price("gpt-5")
        assert price is not None
        started = threading.Event()

        def stops() -> None:
            with pytest.raises(BudgetExceededError):
                session.engine.run(CHAT, TEXTS, budget=8 * price.cost(10, 10), on_progress=lambda event: started.set())

        def waits() -> None:
            assert started.wait(30)
            outcome = session.engine.run(CHAT, TEXTS)
            assert [value and CachedCompletion.from_bytes(value).text for value in outcome.values] == TEXTS

        at_once(stops, waits)
        counts = wait_until_idle(server, "chat")
    assert (counts.inputs, counts.distinct) == (300, 300)

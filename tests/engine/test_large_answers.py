"""Answers of megabytes: many in flight, few in memory, and none lost or paid for twice on the way between threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from local_fakes import HashEmbedder
from numpy.typing import NDArray
from served import connected, served, wait_until_idle

from skytells_nb.cache.memory import MemoryStore
from skytells_nb.engine.operations.jobs import EMBEDDING_CONCURRENCY, EMBEDDING_READERS, embedding_job
from skytells_nb.errors import InvalidResponseError

JOB = embedding_job("skytells-embed-3-small")
A_REQUEST = 200
WAIT_S = 60.0
TEXTS = [f"word{n} and word{n * 7 % 50}" for n in range(16 * A_REQUEST)]


class Wide(HashEmbedder):
    """200 vectors of it are a large answer."""

    dimensions = 1536


class Narrow(HashEmbedder):
    dimensions = 1024


@cache
def expected() -> NDArray[np.float32]:
    return Wide().encode(TEXTS)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "skytells-reader"]


def assert_none_is_left() -> None:
    wait_until(lambda: not readers())


class Crowd(Wide):
    """Makes the vectors of the first request at once, and the others when they are told to; in parts of any size."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self._texts = 0
        self._lock = threading.Lock()

    @property
    def made(self) -> int:
        """The number of requests whose vectors are made."""
        return self._texts // A_REQUEST

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        assert texts[0] in TEXTS[:A_REQUEST] or self.go.wait(WAIT_S)
        rows = super().encode(texts)
        with self._lock:
            self._texts += len(texts)
        return rows


class Narrows(MemoryStore):
    """Takes the first answer at once, and keeps the readers of the others until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.readers = self.most_readers = 0
        self.names: set[str] = set()
        self._narrow = threading.Lock()
        self._first = True

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]], *, replace: bool = False) -> None:
        with self._narrow:
            first, self._first = self._first, False
            self.readers += 1
            self.most_readers = max(self.most_readers, self.readers)
            self.names.add(threading.current_thread().name)
        assert first or self.go.wait(WAIT_S)
        super().put_many(items, replace=replace)
        with self._narrow:
            self.readers -= 1


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_many_requests_are_in_flight_and_few_answers_are_read() -> None:
    """The service holds its answers until every lane has asked, and the cache holds the readers of the first few."""
    crowd, store = Crowd(), Narrows()
    with (
        served(embedder=crowd) as server,
        connected(server, "off", inputs_per_request=A_REQUEST) as session,
        ThreadPoolExecutor(1) as other,
    ):
        running = other.submit(session._make_engine(store).run, JOB, TEXTS)
        try:
            wait_until(lambda: server.stats["embeddings"].in_flight == EMBEDDING_CONCURRENCY)
            crowd.go.set()
            # One more answer than may be read is there, beside the first.
            wait_until(lambda: crowd.made > 1 + EMBEDDING_READERS and store.readers == EMBEDDING_READERS)
        finally:
            crowd.go.set()
            store.go.set()
        outcome = running.result()
        assert np.array_equal(outcome.matrix[outcome.result_index], expected())
        assert outcome.report.requests == 16
        assert store.names == {"skytells-reader"}
        assert store.most_readers == EMBEDDING_READERS
        assert server.stats["embeddings"].most_in_flight == EMBEDDING_CONCURRENCY
    assert_none_is_left()


@pytest.mark.parametrize("fault", ["cut=body", "cut=headers", "status=503", "wrong_count", "bad_index"])
def test_a_large_answer_that_fails_is_retried_and_no_row_is_lost(tmp_path: Path, fault: str) -> None:
    with (
        served(f"{fault}, times=1, rate=0.3", embedder=Wide()) as server,
        connected(server, tmp_path / "c.sqlite", inputs_per_request=A_REQUEST) as session,
    ):
        outcome = session.engine.run(JOB, TEXTS)
        wait_until_idle(server, "embeddings")
        corrupted = sum(bool(record.faults) for record in server.stats.records)
        assert corrupted >= 1
        assert outcome.report.retries == corrupted
    assert np.array_equal(outcome.matrix[outcome.result_index], expected())


def test_large_answers_that_cannot_be_stored_end_the_run_and_are_not_retried(tmp_path: Path) -> None:
    """The service took another length of vectors up: paid for and in the cache, but no column holds both."""
    path, half = tmp_path / "c.sqlite", len(TEXTS) // 2
    with served(embedder=Wide()) as server, connected(server, path, inputs_per_request=A_REQUEST) as session:
        session.engine.run(JOB, TEXTS[:half])
        port = server.port
    with (
        served(embedder=Narrow(), port=port) as server,
        connected(server, path, inputs_per_request=A_REQUEST) as session,
    ):
        with pytest.raises(InvalidResponseError, match="Vectors of 1536 and of 1024 dimensions"):
            session.engine.run(embedding_job("skytells-embed-3-small"), TEXTS)
        counted = wait_until_idle(server, "embeddings")
        assert counted.requests == counted.distinct / A_REQUEST
        assert session.cache.stats().entries == half + counted.answered
    assert_none_is_left()

"""Answers of megabytes: many under way, few in memory, and none lost or paid for twice on the way between threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from local_fakes import HashEmbedder
from numpy.typing import NDArray
from served import connected, served, settled

from skytells_nb.engine.job import EMBEDDING_LANES, READ_AT_ONCE, embedding_job
from skytells_nb.errors import AnswerError

JOB = embedding_job("skytells-embed-3-small")
A_REQUEST = 200
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
    end = time.monotonic() + 20
    while readers() and time.monotonic() < end:
        time.sleep(0.01)
    assert not readers()


def most_readers_until(ended: threading.Event) -> int:
    most = 0
    while not ended.wait(0.002):
        most = max(most, len(readers()))
    return most


def test_many_requests_are_under_way_and_few_answers_are_read() -> None:
    ended = threading.Event()
    with (
        served("latency=0.2", embedder=Wide()) as server,
        connected(server, "off", inputs_per_request=A_REQUEST) as session,
        ThreadPoolExecutor(1) as other,
    ):
        counted = other.submit(most_readers_until, ended)
        try:
            outcome = session.engine.run(JOB, TEXTS)
        finally:
            ended.set()
        assert np.array_equal(outcome.matrix[outcome.answered], expected())
        assert outcome.report.requests == 16
        assert counted.result() == READ_AT_ONCE
        assert READ_AT_ONCE < server.stats["embeddings"].most_in_flight <= EMBEDDING_LANES
    assert_none_is_left()


@pytest.mark.parametrize("fault", ["cut=body", "cut=headers", "status=503", "wrong_count", "bad_index"])
def test_a_large_answer_that_fails_is_asked_for_again_and_no_row_is_lost(tmp_path: Path, fault: str) -> None:
    with (
        served(f"{fault}, times=1, rate=0.3", embedder=Wide()) as server,
        connected(server, tmp_path / "c.sqlite", inputs_per_request=A_REQUEST) as session,
    ):
        outcome = session.engine.run(JOB, TEXTS)
        spoilt = sum(bool(record.faults) for record in server.stats.records)
        assert spoilt >= 1
        assert outcome.report.retries == spoilt
    assert np.array_equal(outcome.matrix[outcome.answered], expected())


def test_large_answers_that_cannot_be_kept_end_the_run_and_are_not_asked_for_again(tmp_path: Path) -> None:
    """The service took another length of vectors up: paid for and in the cache, but no column holds both."""
    path, half = tmp_path / "c.sqlite", len(TEXTS) // 2
    with served(embedder=Wide()) as server, connected(server, path, inputs_per_request=A_REQUEST) as session:
        session.engine.run(JOB, TEXTS[:half])
        port = server.port
    with (
        served(embedder=Narrow(), port=port) as server,
        connected(server, path, inputs_per_request=A_REQUEST) as session,
    ):
        with pytest.raises(AnswerError, match="Vectors of 1536 and of 1024 dimensions"):
            session.engine.run(embedding_job("skytells-embed-3-small"), TEXTS)
        counted = settled(server, "embeddings")
        assert counted.requests == counted.distinct / A_REQUEST
        assert session.cache.stats().entries == half + counted.answered
    assert_none_is_left()

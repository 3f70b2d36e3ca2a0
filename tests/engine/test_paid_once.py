"""What was paid for survives kill -9: a rerun sends at most what was in flight, and no committed answer is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from forked_runs import TIMEOUT_S, Runs, until
from local_fakes import HashEmbedder, HoldingGenerator
from served import connected, served, wait_until_idle

from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job, embedding_job

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


def committed(cache: Path, folder: Path) -> int:
    """Answers in the file as the killed process left it; it is read from a copy, so that its log stays for the next."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"{cache}{suffix}", folder / f"copy{suffix}")
    if not (folder / "copy").exists():
        return 0
    with contextlib.closing(sqlite3.connect(folder / "copy")) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        if not connection.execute("select 1 from sqlite_master where name = 'answers'").fetchone():
            return 0
        (entries,) = connection.execute("select count(*) from answers").fetchone()
    return int(entries)


def killed_again_and_again(runs: Runs, rows: int, kills: int, in_flight: int) -> None:
    """Kill one run after another, the first as it starts, the last as it ends, and count what each sends again."""
    lost = sent_again = requests = 0
    for number in range(kills):
        share = rows * max(0, number - 1) // (kills - 2)
        child = runs.start()
        if number:
            until(partial(runs.came_to, share, requests))
        runs.kill(child)
        counts = wait_until_idle(runs.server, runs.endpoint)
        requests = counts.requests
        again = counts.inputs - counts.distinct - sent_again
        assert again <= lost, f"kill {number}: {again} inputs were sent again; {lost} were in flight at the kill before"
        sent_again += again
        lost = counts.distinct - committed(runs.cache, runs.cache.parent / f"after-{number}")
        assert lost <= in_flight, f"kill {number}: {lost} inputs were sent and not kept; {in_flight} can be in flight"
    assert counts.distinct == rows


def test_twenty_kills_of_a_completion_run_repeat_only_what_was_in_flight(tmp_path: Path) -> None:
    """And the run after them sends only what the last kill left open; every row has its own answer."""
    texts = [f"say {n}" for n in range(2_000)]
    with served("latency=0.005") as server:
        with Runs(server, "chat", texts, tmp_path, max_in_flight=8) as runs:
            killed_again_and_again(runs, len(texts), kills=20, in_flight=8)
        with connected(server, runs.cache, max_in_flight=8) as session:
            outcome = session.engine.run(completion_job("gpt-5"), texts)
        counts = wait_until_idle(server, "chat")
    assert [value and CachedCompletion.from_bytes(value).text for value in outcome.values] == texts
    assert outcome.report.sent <= 8
    assert counts.repeated <= counts.inputs - len(texts) <= 20 * 8


def test_kills_of_an_embedding_run_repeat_only_the_requests_in_flight(tmp_path: Path) -> None:
    """Requests of 50 texts: a request is stored whole or not at all."""
    texts = [f"word{n} and word{n * 7 % 50}" for n in range(2_000)]
    with served("latency=0.01") as server:
        with Runs(server, "embeddings", texts, tmp_path, max_in_flight=3, inputs_per_request=50) as runs:
            killed_again_and_again(runs, len(texts), kills=8, in_flight=3 * 50)
        with connected(server, runs.cache, max_in_flight=3, inputs_per_request=50) as session:
            outcome = session.engine.run(embedding_job("skytells-embed-3-small"), texts)
        counts = wait_until_idle(server, "embeddings")
    assert np.array_equal(outcome.matrix[outcome.result_index], HashEmbedder().encode(texts))
    assert outcome.report.sent <= 3 * 50
    assert counts.inputs - len(texts) <= 8 * 3 * 50


def kept(cache: Path) -> dict[bytes, bytes]:
    """The answers in the file, read beside the caller that else uses it."""
    with contextlib.closing(sqlite3.connect(cache, timeout=TIMEOUT_S)) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        return dict(connection.execute("select key, value from answers"))


def test_a_process_killed_beside_three_others_costs_them_nothing(tmp_path: Path) -> None:
    """Four runs of the same rows on one file: what was committed at the kill stays, and the three end with all rows."""
    texts = [f"say {n}" for n in range(600)]
    names = ["one", "two", "three"]
    generator = HoldingGenerator(250)
    with (
        served("latency=0.005", generator=generator) as server,
        Runs(server, "chat", texts, tmp_path, max_in_flight=4) as runs,
    ):
        killed = runs.start("killed")
        for name in names:
            runs.start(name)
        until(lambda: runs.counts.distinct >= 200)
        assert not runs.done("killed")
        runs.kill(killed)
        before = kept(runs.cache)
        generator.go.set()
        until(lambda: all(runs.done(name) for name in names))
        assert [runs.answers(name) for name in names] == [texts] * 3
        after = kept(runs.cache)
        assert before
        assert before.items() <= after.items()
        assert len(after) == 600
        assert not list(tmp_path.glob("*.corrupt-*"))
        requests = wait_until_idle(server, "chat").requests
        runs.start("again")
        until(lambda: runs.done("again"))
        assert runs.answers("again") == texts
        assert wait_until_idle(server, "chat").requests == requests

"""What one input, one parameter or one process does wrong costs the others nothing."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from local_fakes import HashEmbedder, fake_server
from numpy.typing import NDArray
from served import KEY, connected, served, wait_until_idle
from serving import Exchange, serving

import skytells_nb as sky
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import RateOptions, completion_job, embedding_job
from skytells_nb.engine.retry import RetryPolicy
from skytells_nb.errors import BadRequestError, InvalidResponseError, RowError, ServerError, SkytellsWarning
from skytells_nb.local.faults import Faults
from skytells_nb.progress.events import Progress

JOB = completion_job("gpt-5")
EMBED = embedding_job("skytells-embed-3-small")


class Flawed(HashEmbedder):
    """Its vector of the text "flawed" is no vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = super().encode(texts)
        rows[[text == "flawed" for text in texts]] = np.nan
        return rows


def test_a_label_without_an_embedding_is_an_error_and_shifts_no_other(tmp_path: Path) -> None:
    with served(embedder=Flawed()) as server, connected(server, tmp_path / "c.sqlite"):
        frame = pd.DataFrame({"text": ["a cat", "a dog"]})
        with pytest.warns(SkytellsWarning), pytest.raises(RowError, match="'flawed' could not be embedded"):
            frame.skytells.classify("text", ["flawed", "cat", "dog"], via="embedding", progress=False)


def test_a_vector_that_is_not_finite_costs_its_own_row_only(tmp_path: Path) -> None:
    """The others of its request are stored; it alone is retried, and by each later run."""
    texts = [f"word{n}" for n in range(40)]
    texts[7] = "flawed"
    with served(embedder=Flawed()) as server, connected(server, tmp_path / "c.sqlite") as session:
        outcome = session.engine.run(EMBED, texts, on_error="null")
        assert list(outcome.report.errors) == [7]
        assert isinstance(outcome.report.errors[7], InvalidResponseError)
        assert outcome.report.errors[7].request_id
        good = [n for n in range(40) if n != 7]
        expected = HashEmbedder().encode([texts[n] for n in good])
        assert np.array_equal(outcome.matrix[outcome.result_index[good]], expected)
        sent = server.stats["embeddings"].inputs
        assert session.engine.run(EMBED, texts, on_error="null").report.cached == 39
        assert server.stats["embeddings"].inputs - sent <= 2


BROKEN = {"empty": [], "another length": [1.0], "not base64": "?!", "no entry": None, "error": {"message": "too odd"}}


@pytest.mark.parametrize("form", BROKEN)
def test_a_vector_that_cannot_be_read_costs_its_own_row_only(form: str, tmp_path: Path) -> None:
    def answer(exchange: Exchange) -> None:
        data: list[Any] = []
        for n, text in enumerate(json.loads(exchange.body)["input"]):
            value = BROKEN[form] if text == "flawed" else [1.0, 2.0]
            name = "error" if isinstance(value, dict) else "embedding"
            data.append(None if value is None else {"index": n, name: value})
        exchange.reply({"data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})

    with serving(answer) as server, sky.connect("sk-x", base_url=server.url, cache=tmp_path / "c.sqlite") as session:
        outcome = session.engine.run(EMBED, ["a", "b", "flawed", "c"], on_error="null")
        assert list(outcome.report.errors) == [2]
        assert (outcome.matrix[outcome.result_index[[0, 1, 3]]] == [1.0, 2.0]).all()
        if form == "error":
            assert "too odd" in str(outcome.report.errors[2])


def test_a_rejected_parameter_does_not_split_the_request(tmp_path: Path) -> None:
    texts = [f"word{n}" for n in range(64)]
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        outcome = session.engine.run(embedding_job("skytells-embed-3-small", dimensions=900), texts)
        assert len(outcome.report.errors) == 64
        assert isinstance(outcome.report.errors[0], BadRequestError)
        assert server.stats["embeddings"].requests == 1


@dataclass(frozen=True)
class Poison(Faults):
    """A prompt with this word is an error each time."""

    def for_attempt(self, body: bytes, attempt: int) -> Faults:
        return Faults(status="500") if b"poison" in body else Faults()


def test_a_few_rows_that_always_fail_do_not_look_like_a_service_that_is_down(tmp_path: Path) -> None:
    """Left over at the end, they fail again and again with no answer between them."""
    prompts = [*(f"say {n}" for n in range(30)), "poison one", "poison two"]
    with fake_server(api_key=KEY, faults=Poison()) as server, connected(server, tmp_path / "c.sqlite") as session:
        session.engine._retry = RetryPolicy(base=0.2)
        for _ in range(2):
            outcome = session.engine.run(JOB, prompts, on_error="null")
            assert [CachedCompletion.from_bytes(v).text for v in outcome.values[:30] if v] == prompts[:30]
            assert [type(error) for error in outcome.report.errors.values()] == [ServerError, ServerError]


def test_a_callback_that_fails_midway_ends_no_run(tmp_path: Path) -> None:
    def callback(event: Progress) -> None:
        if event.requests:
            raise LookupError("no such bar")

    with served("latency=0.4") as server, connected(server, tmp_path / "c.sqlite", max_in_flight=4) as session:
        with pytest.warns(SkytellsWarning, match="callback failed"):
            outcome = session.engine.run(JOB, [f"say {n}" for n in range(12)], on_progress=callback)
        counts = wait_until_idle(server, "chat")
        assert outcome.report.answered == session.cache.stats().entries == counts.answered == counts.requests == 12


def test_a_blocked_prompt_counts_against_the_budget(tmp_path: Path) -> None:
    """The service bills what it reads."""
    prompt = "violence:high " + "word " * 100
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        report = session.engine.run(JOB, [prompt]).report
        assert report.failed == 1
        assert report.cost is not None
        assert report.cost > 0


def test_an_estimate_leaves_the_pace_of_a_run_alone(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        limiter = session.engine._rate_limiter(JOB, RateOptions(max_in_flight=3, requests_per_minute=30))
        session.engine.estimate(JOB, ["say 1"])
        assert (limiter.max_in_flight, limiter.permitted) == (3, 0.5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_connections_of_its_own(tmp_path: Path) -> None:
    """Both ask at the same time after the parent has kept its connections: no one reads another's answer."""

    def ask(session: Any, who: str) -> bool:
        prompts = [f"{who} says {n}" for n in range(60)]
        outcome = session.engine.run(JOB, prompts, rate_options=RateOptions(max_in_flight=2))
        return [CachedCompletion.from_bytes(value).text for value in outcome.values if value] == prompts

    with served("latency=0.005") as server, connected(server, tmp_path / "c.sqlite") as session:
        assert ask(session, "first")
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            right = False
            try:
                os.read(ready, 1)
                right = ask(session, "child")
            finally:
                os._exit(0 if right else 1)
        os.write(go, b"x")
        right = ask(session, "parent")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert right


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_during_a_run_can_run(tmp_path: Path) -> None:
    with served("latency=0.3") as server, connected(server, tmp_path / "c.sqlite", max_in_flight=2) as session:
        running = threading.Thread(target=lambda: session.engine.run(JOB, [f"say {n}" for n in range(6)]))
        running.start()
        while not server.stats["chat"].in_flight:
            pass
        child = os.fork()
        if child == 0:
            right = False
            try:
                outcome = session.engine.run(JOB, ["child 1", "child 2"])
                right = outcome.report.answered == 2
            finally:
                os._exit(0 if right else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        running.join(30)

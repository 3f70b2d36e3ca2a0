"""Requests whose client left: their work stops, whatever it is, and others are answered."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from local_fakes import EchoGenerator, HashEmbedder, WordModerator, chat_body, client_of, fake_server, send_raw
from numpy.typing import NDArray

from skytells_nb.local import LocalServer
from skytells_nb.local.generation.streaming import MAX_CONCURRENT_ANSWERS

STEPS = 1_000


class Stepwise:
    """Counts the texts that a model was given, and holds the first until it may go on."""

    def __init__(self) -> None:
        self.steps = 0
        self.began, self.go_on = threading.Event(), threading.Event()

    def step(self, count: int) -> None:
        self.steps += count
        self.began.set()
        self.go_on.wait(20)


class StepEmbedder(HashEmbedder):
    def __init__(self, work: Stepwise) -> None:
        self._work = work

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self._work.step(len(texts))
        return super().encode(texts)


class StepModerator(WordModerator):
    def __init__(self, work: Stepwise) -> None:
        self._work = work

    def score(self, texts: Sequence[str]) -> list[dict[str, str]]:
        self._work.step(len(texts))
        return super().score(texts)


class Counter(HashEmbedder):
    """Counts tokens one text at a time."""

    def __init__(self, work: Stepwise) -> None:
        self._work = work

    def count_tokens(self, text: str) -> int:
        self._work.step(1)
        return super().count_tokens(text)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stable(work: Stepwise) -> int:
    """Return the number of steps once it no longer grows."""
    while True:
        before = work.steps
        time.sleep(0.3)
        if work.steps == before:
            return before


def embedding(texts: int) -> tuple[str, dict[str, Any]]:
    return "/embeddings", {"model": "skytells-embed-3-small", "input": [f"text {n}" for n in range(texts)]}


def systems(stream: bool) -> tuple[str, dict[str, Any]]:
    """A chat with many texts that the filter scores."""
    messages = [{"role": "system", "content": "x"}] * 150 + [{"role": "user", "content": "y"}]
    return "/chat/completions", {"model": "gpt-5", "messages": messages, "stream": stream}


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        (embedding(STEPS), lambda work: {"embedder": StepEmbedder(work)}),
        (embedding(STEPS), lambda work: {"embedder": Counter(work)}),
        (systems(False), lambda work: {"moderator": StepModerator(work)}),
        (systems(True), lambda work: {"moderator": StepModerator(work)}),
    ],
    ids=["embedding", "counting tokens", "moderation", "moderation of a stream"],
)
def test_work_in_a_thread_stops_at_its_next_step(
    request_: tuple[str, dict[str, Any]], parts: Callable[[Stepwise], dict[str, Any]]
) -> None:
    work = Stepwise()
    with fake_server(**parts(work)) as server:
        with send_raw(server, *request_):
            assert work.began.wait(20)
        endpoint = "embeddings" if request_[0] == "/embeddings" else "chat"
        wait_for(lambda: not server.stats[endpoint].in_flight)
        work.go_on.set()
        assert stable(work) <= 32


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
def test_a_generation_stops_and_one_that_waits_never_begins(path: str, stream: bool) -> None:
    gate = threading.Event()
    generator = EchoGenerator(gate)
    text = "one two three four"
    body: dict[str, Any] = chat_body(text, stream=stream)
    if path == "/responses":
        body = {"model": "gpt-5", "input": text, "stream": stream}
    endpoint = path.strip("/").partition("/")[0]
    with fake_server(generator=generator) as server:
        sockets = [send_raw(server, path, body) for _ in range(MAX_CONCURRENT_ANSWERS + 4)]
        wait_for(lambda: len(generator.messages) == MAX_CONCURRENT_ANSWERS)
        wait_for(lambda: server.stats[endpoint].in_flight == len(sockets))
        for waiting in sockets:
            waiting.close()
        wait_for(lambda: not server.stats[endpoint].in_flight)
        gate.set()
        with client_of(server) as client:
            assert client.post(path, json={**body, "stream": False}).status_code == 200
    assert len(generator.messages) == MAX_CONCURRENT_ANSWERS + 1
    assert generator.closed.is_set()


def test_sixty_four_streams_all_finish() -> None:
    """More than are generated at once, and while clients that left had asked for a lot of work."""
    with fake_server() as server:
        for path, body in (embedding(2_048), systems(True)):
            send_raw(server, path, body).close()
        with ThreadPoolExecutor(64) as pool:
            texts = list(pool.map(lambda n: _streamed(server, f"stream {n} of many"), range(64)))
    assert texts == [f"stream {n} of many" for n in range(64)]


def _streamed(server: LocalServer, text: str) -> str:
    body = chat_body(text, stream=True)
    with client_of(server) as client, client.stream("POST", "/chat/completions", json=body) as response:
        assert response.status_code == 200
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    choices = [choice for line in lines[:-1] for choice in json.loads(line[6:])["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_a_stream_that_waits_gets_comments_and_then_its_events() -> None:
    """Its first event, and a later one, come only after others have ended."""
    gate = threading.Event()
    generator = EchoGenerator(gate)
    with fake_server(generator=generator, keep_alive=0.05) as server:
        first = _fill(server, generator)
        waiting = send_raw(server, "/chat/completions", chat_body("three four", stream=True))
        received = _read_until(waiting, b": keep-alive\n\n", 3)
        assert received.startswith(b"HTTP/1.1 200")
        assert b"data:" not in received
        gate.set()
        rest = _read_to_end(waiting)
        assert b'"content":"three "' in rest
        assert b"data: [DONE]" in rest
        for each in (*first, waiting):
            each.close()


def test_an_error_of_a_stream_that_waits_is_an_event() -> None:
    """Its status was sent already; an error that is known at once still has its own."""
    gate = threading.Event()
    generator = EchoGenerator(gate)
    with fake_server(generator=generator, keep_alive=0.05) as server:
        first = _fill(server, generator)
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
        waiting = send_raw(server, "/chat/completions", chat_body("x", stream=True, response_format=schema))
        assert _read_until(waiting, b": keep-alive\n\n", 1).startswith(b"HTTP/1.1 200")
        long = send_raw(server, "/chat/completions", chat_body("word " * 300, stream=True))
        assert _read_to_end(long).startswith(b"HTTP/1.1 400")
        gate.set()
        rest = _read_to_end(waiting)
        assert b'"error":{"message":"The schema is not supported' in rest
        for each in (*first, waiting, long):
            each.close()


def _fill(server: LocalServer, generator: EchoGenerator) -> list[socket.socket]:
    """Send as many streams as are generated at once, which wait after their first word."""
    body = chat_body("one two", stream=True)
    sockets = [send_raw(server, "/chat/completions", body) for _ in range(MAX_CONCURRENT_ANSWERS)]
    wait_for(lambda: len(generator.messages) == MAX_CONCURRENT_ANSWERS)
    return sockets


def _read_until(connection: socket.socket, mark: bytes, count: int) -> bytes:
    received = b""
    while received.count(mark) < count:
        chunk = connection.recv(65_536)
        assert chunk, received
        received += chunk
    return received


def _read_to_end(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received

"""What is too large is refused before any work, in few words, with the documented error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from local_fakes import EchoGenerator, HashEmbedder, WordModerator, chat_body, client_of, fake_server
from numpy.typing import NDArray

from skytells_nb.local.errors import APIException, shorten
from skytells_nb.local.generation.messages import MAX_MESSAGES, MAX_TOKEN_CHARACTERS
from skytells_nb.local.generation.tools import MAX_TOOLS

MEGABYTE = "x" * 2**20


class Idle:
    """Counts what the models were asked to do."""

    calls = 0


class IdleEmbedder(HashEmbedder, Idle):
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        return super().encode(texts)

    def count_tokens(self, text: str) -> int:
        Idle.calls += len(text) > 1_000_000
        return super().count_tokens(text)


class IdleModerator(WordModerator, Idle):
    def score(self, texts: Sequence[str]) -> list[dict[str, str]]:
        self.calls += 1
        return super().score(texts)


class IdleGenerator(EchoGenerator, Idle):
    def stream(self, messages: list[dict[str, Any]], **rest: Any) -> Any:
        self.calls += 1
        return super().stream(messages, **rest)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {"embedder": IdleEmbedder(), "moderator": IdleModerator(), "generator": IdleGenerator()}


@pytest.fixture(scope="module")
def client(models: dict[str, Any]) -> Iterator[httpx.Client]:
    with fake_server(**models) as server, client_of(server) as client:
        yield client


def tool(**members: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **members}}


LIMIT = EchoGenerator.context * MAX_TOKEN_CHARACTERS
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "description": "d" * LIMIT}}}
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a long prompt": ("/chat/completions", chat_body("word " * 4_000_000), "context_length_exceeded"),
    "a prompt just too long": ("/chat/completions", chat_body("word " * 200), "context_length_exceeded"),
    "a long stream": ("/chat/completions", chat_body("word " * 300, stream=True), "context_length_exceeded"),
    "a long system text": (
        "/chat/completions",
        {"model": "gpt-5", "messages": [{"role": "system", "content": MEGABYTE}, {"role": "user", "content": "x"}]},
        "context_length_exceeded",
    ),
    "many messages": (
        "/chat/completions",
        {"model": "gpt-5", "messages": [{"role": "user", "content": "x"}] * (MAX_MESSAGES + 1)},
        "INVALID_PARAMETER",
    ),
    "a large schema": (
        "/chat/completions",
        chat_body("x", response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}),
        "context_length_exceeded",
    ),
    "a large tool": (
        "/chat/completions",
        chat_body("x", tools=[tool(description=MEGABYTE)]),
        "context_length_exceeded",
    ),
    "many tools": ("/chat/completions", chat_body("x", tools=[tool()] * (MAX_TOOLS + 1)), "INVALID_PARAMETER"),
    "a long input": ("/responses", {"model": "gpt-5", "input": "word " * 300}, "context_length_exceeded"),
    "long instructions": (
        "/responses",
        {"model": "gpt-5", "input": "x", "instructions": MEGABYTE},
        "context_length_exceeded",
    ),
    "many items": (
        "/responses",
        {"model": "gpt-5", "input": [{"role": "user", "content": "x"}] * (MAX_MESSAGES + 1)},
        "INVALID_PARAMETER",
    ),
    "a long text to embed": (
        "/embeddings",
        {"model": "text-embedding-3-small", "input": "word " * 8_193},
        "context_length_exceeded",
    ),
    "one without end": (
        "/embeddings",
        {"model": "text-embedding-3-small", "input": MEGABYTE},
        "context_length_exceeded",
    ),
    "long texts": (
        "/embeddings",
        {"model": "text-embedding-3-small", "input": ["word " * 4_900] * 800},
        "INVALID_PARAMETER",
    ),
    "many texts": ("/embeddings", {"model": "text-embedding-3-small", "input": ["x"] * 2_049}, "INVALID_PARAMETER"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_before_any_work(case: str, client: httpx.Client, models: dict[str, Any]) -> None:
    path, body, error_id = CASES[case]
    before = [model.calls for model in models.values()]
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["error_id"] == error_id
    assert [model.calls for model in models.values()] == before
    assert len(answer.content) < 2_000


def test_texts_are_counted_only_until_there_are_too_many(client: httpx.Client) -> None:
    body = {"model": "text-embedding-3-small", "input": ["word " * 4_900] * 800}
    message = client.post("/embeddings", json=body).json()["error"]["message"]
    assert message == "input must have at most 300000 tokens in total, got 303800 in its first 62 of 800 entries."


def test_what_fits_is_answered(client: httpx.Client) -> None:
    """Up to the last token of each limit."""
    assert client.post("/chat/completions", json=chat_body("word " * 199, max_tokens=1)).status_code == 200
    many = {"model": "text-embedding-3-small", "input": ["word " * 8_192] * 36 + ["word " * 5_088]}
    assert client.post("/embeddings", json=many).json()["usage"]["total_tokens"] == 300_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", chat_body("x", seed=MEGABYTE)),
        ("/chat/completions", chat_body("x", model=MEGABYTE)),
        ("/chat/completions", chat_body("x", tool_choice=MEGABYTE)),
        ("/chat/completions", chat_body("x", temperature=MEGABYTE)),
        ("/chat/completions", chat_body("x", response_format={"type": MEGABYTE})),
        ("/chat/completions", chat_body("x", tools=[{"type": MEGABYTE}])),
        ("/chat/completions", {"model": "gpt-5", "messages": [{"role": MEGABYTE, "content": "x"}]}),
        ("/chat/completions", {"model": "gpt-5", "messages": [], MEGABYTE: 1}),
        ("/responses", {"model": "gpt-5", "input": [{"type": MEGABYTE}]}),
        ("/responses", {"model": "gpt-5", "input": "x", "previous_response_id": MEGABYTE}),
        ("/responses", {"model": "gpt-5", "input": "x", "text": {"format": {"type": MEGABYTE}}}),
        ("/embeddings", {"model": MEGABYTE, "input": "x"}),
        ("/embeddings", {"model": "text-embedding-3-small", "input": "x", "encoding_format": MEGABYTE}),
        ("/embeddings", {"model": "text-embedding-3-small", "input": "x", "dimensions": MEGABYTE}),
    ],
)
def test_no_message_repeats_megabytes(path: str, body: dict[str, Any], client: httpx.Client) -> None:
    answer = client.post(path, json=body)
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 3_000
    assert "characters more" in answer.text or MEGABYTE[:200] not in answer.text


def test_counters_keep_no_megabytes(client: httpx.Client) -> None:
    client.post("/chat/completions", json=chat_body("x", model=MEGABYTE))
    root = client.base_url.copy_with(path="/_stats")
    assert len(client.get(root).content) < 2**20


def test_short_messages_are_whole() -> None:
    assert shorten("abc", 3) == "abc"
    assert APIException("INVALID_PARAMETER", "x" * 999).message == "x" * 999
    assert str(APIException("INVALID_PARAMETER", "x" * 1_200)).endswith("x… (200 characters more)")

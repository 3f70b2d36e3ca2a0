"""``POST /v1/chat/completions`` on a real port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from local_fakes import EchoGenerator, EchoPiece, NoGenerator, chat_body, client_of, events, fake_server, send_raw
from served import wait_until_idle

from skytells_nb.local import LocalServer
from skytells_nb.local.faults import FAULT_HEADER
from skytells_nb.types.chat import ChatCompletion, ChatCompletionChunk

CATEGORIES = {"hate", "self_harm", "sexual", "violence"}


def stream_of(client: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/chat/completions", json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    parsed = events(answer.text)
    assert parsed[-1] == (None, "[DONE]")
    assert {name for name, _ in parsed} == {None}
    return [data for _, data in parsed[:-1]]


def test_a_completion_has_text_usage_and_both_filter_results(client: httpx.Client) -> None:
    """It is valid for the shared model, with usage and with safety fields for the prompt and for the choice."""
    body = client.post("/chat/completions", json=chat_body("one two three")).json()
    answer = ChatCompletion.model_validate(body)
    assert answer.text == "one two three"
    assert answer.id.startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert body["model"] == "local-echo"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert set(body["prompt_filter_results"][0]["content_filter_results"]) == CATEGORIES | {"jailbreak"}
    protected = {"protected_material_code", "protected_material_text"}
    assert set(body["choices"][0]["content_filter_results"]) == CATEGORIES | protected
    assert body["usage"]["prompt_tokens"] == 3
    assert body["usage"]["total_tokens"] == 6


def test_a_stream_starts_with_the_prompt_results_and_the_role(client: httpx.Client) -> None:
    """Prompt chunk with empty ids, role chunk, content, finish chunk; no usage unless requested."""
    chunks = stream_of(client, chat_body("one two three"))
    first, role, *content, finish = chunks
    assert (first["id"], first["object"], first["created"], first["model"]) == ("", "", 0, "")
    assert first["choices"] == []
    assert first["prompt_filter_results"]
    assert "obfuscation" not in first
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(ChatCompletionChunk.model_validate(c).text for c in content) == "one two three"
    assert finish["choices"][0] | {"logprobs": None} == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "stop",
        "content_filter_results": {},
    }
    assert all("obfuscation" in chunk for chunk in chunks[1:])
    assert not any("usage" in chunk for chunk in chunks)


def test_usage_is_the_last_chunk_if_requested(client: httpx.Client) -> None:
    """``include_usage`` adds a chunk without choices; every chunk between the first and it has usage null."""
    chunks = stream_of(client, chat_body("one two", stream_options={"include_usage": True}))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert [chunk["usage"] for chunk in chunks[1:-1]] == [None] * (len(chunks) - 2)


def test_the_query_can_request_a_stream(client: httpx.Client) -> None:
    """``?stream=true`` has the effect of the body's."""
    answer = client.post("/chat/completions?stream=true", json=chat_body("hello"))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.rstrip().endswith("data: [DONE]")


def test_equal_requests_have_equal_completions(client: httpx.Client) -> None:
    """Everything but the ids and the time is equal."""
    first, second = (client.post("/chat/completions", json=chat_body("again and again")).json() for _ in range(2))
    for answer in (first, second):
        del answer["id"], answer["created"]
    assert first == second


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_ends_with_length(client: httpx.Client, name: str) -> None:
    """Both names of the limit are accepted."""
    choice = client.post("/chat/completions", json=chat_body("a b c d e", **{name: 2})).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].split() == ["a", "b"]


@pytest.mark.parametrize("stop", ["c d", ["x", "c d"]])
def test_a_stop_sequence_is_never_sent(client: httpx.Client, stop: object) -> None:
    """Even if it is split between two pieces."""
    body = chat_body("a b c d e", stop=stop)
    choice = client.post("/chat/completions", json=body).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("a b ", "stop")
    texts = [ChatCompletionChunk.model_validate(chunk).text for chunk in stream_of(client, body)]
    assert "".join(texts) == "a b "


def test_choices_have_different_seeds() -> None:
    """``n`` choices have ``n`` reproducible seeds, and each chunk has the index of its choice."""
    generator = EchoGenerator()
    with fake_server(generator=generator) as server, client_of(server) as client:
        body = client.post("/chat/completions", json=chat_body("hello you", n=3)).json()
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert body["usage"]["prompt_tokens"] == 2
        assert body["usage"]["completion_tokens"] == 6
        seeds = list(generator.seeds)
        assert len(set(seeds)) == 3
        chunks = stream_of(client, chat_body("hello you", n=3))
        assert generator.seeds[3:] == seeds
        assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1, 2}


def test_a_schema_results_in_json(client: httpx.Client) -> None:
    """``json_schema`` and ``json_object`` are passed to the model; text is the default."""
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}}
    form = {"type": "json_schema", "json_schema": {"name": "m", "schema": schema}}
    answer = client.post("/chat/completions", json=chat_body("hi", response_format=form)).json()
    assert answer["choices"][0]["message"]["content"] == '{"mood": "good"}'
    answer = client.post("/chat/completions", json=chat_body("hi", response_format={"type": "json_object"})).json()
    assert answer["choices"][0]["message"]["content"] == "{}"


@pytest.mark.parametrize("stream", [False, True])
def test_an_unsupported_schema_is_rejected(client: httpx.Client, stream: bool) -> None:
    """Status 400 before the first byte, also for a stream."""
    form = {"type": "json_schema", "json_schema": {"name": "m", "schema": {"not": {}}}}
    answer = client.post("/chat/completions", json=chat_body("hi", response_format=form, stream=stream))
    error = answer.json()["error"]
    assert (answer.status_code, error["error_id"], error["param"]) == (400, "INVALID_PARAMETER", "response_format")
    assert "'not'" in error["message"]


def test_all_roles_and_parts_are_accepted(client: httpx.Client) -> None:
    """Developer, tool results, earlier tool calls, text parts and images."""
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "and"}, {"type": "image_url", "image_url": {"url": "x"}}],
        },
    ]
    answer = client.post("/chat/completions", json={"model": "gpt-5", "messages": messages})
    assert answer.json()["choices"][0]["message"]["content"] == "and\n[image]"


def test_the_error_for_a_long_prompt_has_both_numbers(client: httpx.Client) -> None:
    """``context_length_exceeded`` in lower case, 400, before any stream starts."""
    answer = client.post("/chat/completions", json=chat_body("word " * 300, stream=True))
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["error_id"], error["type"], error["param"]) == (
        "context_length_exceeded",
        "InferenceError",
        "messages",
    )
    assert "300" in error["message"]
    assert "200" in error["message"]


def test_a_violent_prompt_is_blocked(client: httpx.Client) -> None:
    """Severity high in the last user text or a system text: 451, JSON also for a stream; medium only annotates."""
    answer = client.post("/chat/completions", json=chat_body("violence:high", stream=True))
    error = answer.json()["error"]
    assert answer.status_code == 451
    assert (error["error_id"], error["code"]) == ("CONTENT_POLICY_VIOLATION", "content_policy_violation")
    assert error["content_filters"][0]["content_filter_results"]["violence"] == {"filtered": True, "severity": "high"}
    medium = client.post("/chat/completions", json=chat_body("violence:medium"))
    results = medium.json()["prompt_filter_results"][0]["content_filter_results"]["violence"]
    assert results == {"filtered": False, "severity": "medium"}


def test_a_jailbreak_of_severity_medium_is_detected(client: httpx.Client) -> None:
    """It is not blocked."""
    answer = client.post("/chat/completions", json=chat_body("jailbreak:medium hello"))
    results = answer.json()["prompt_filter_results"][0]["content_filter_results"]["jailbreak"]
    assert results == {"filtered": False, "detected": True}


class HatefulGenerator(EchoGenerator):
    """Generates a text that the completion filter blocks."""

    def stream(self, messages: list[dict[str, Any]], **options: Any) -> Iterator[EchoPiece]:
        return super().stream([{"role": "user", "content": "first this then hate:high end"}], **options)


def test_a_completion_of_severity_high_is_filtered() -> None:
    """finish_reason content_filter, the category filtered, and no usage chunk in a stream."""
    with fake_server(generator=HatefulGenerator()) as server, client_of(server) as client:
        choice = client.post("/chat/completions", json=chat_body("hi")).json()["choices"][0]
        assert choice["finish_reason"] == "content_filter"
        assert choice["content_filter_results"]["hate"] == {"filtered": True, "severity": "high"}
        chunks = stream_of(client, chat_body("hi", stream_options={"include_usage": True}))
        assert chunks[-1]["choices"][0]["finish_reason"] == "content_filter"
        assert chunks[-1]["choices"][0]["content_filter_results"]["hate"]["filtered"] is True


def test_without_weights_the_error_names_the_command() -> None:
    """503 with the generator's reason; embeddings still work."""
    with fake_server(generator=NoGenerator()) as server, client_of(server) as client:
        answer = client.post("/chat/completions", json=chat_body("hi"))
        assert answer.status_code == 503
        assert answer.json()["error"]["error_id"] == "SERVICE_UNAVAILABLE"
        assert "python -m skytells_nb local install" in answer.json()["error"]["message"]
        vectors = client.post("/embeddings", json={"model": "text-embedding-3-small", "input": "hi"})
        assert vectors.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnect_stops_the_generation(stream: bool) -> None:
    """The generator's iterator is closed before its end, and nothing counts as answered."""
    gate = threading.Event()
    generator = EchoGenerator(gate=gate)
    with fake_server(generator=generator) as server:
        connection = send_raw(server, "/chat/completions", chat_body("a b c d e f", stream=stream))
        while not generator.messages:
            threading.Event().wait(0.01)
        connection.close()
        while server.stats["chat"].in_flight:
            threading.Event().wait(0.01)
        gate.set()
        assert generator.closed.wait(60)
        assert not server.stats.records[-1].complete
        assert server.stats["chat"].answered == 0


def test_chats_run_concurrently() -> None:
    """A held chat delays neither other chats nor embeddings."""
    gate = threading.Event()
    body = chat_body("a b", stream=True)
    with (
        fake_server(generator=EchoGenerator(gate=gate)) as server,
        client_of(server) as client,
        client.stream("POST", "/chat/completions", json=body) as held,
    ):
        lines = held.iter_lines()
        next(lines)
        assert client.post("/chat/completions", json=chat_body("alone")).json()["choices"][0]["finish_reason"] == "stop"
        assert client.post("/embeddings", json={"model": "text-embedding-3-small", "input": "x"}).status_code == 200
        gate.set()
        assert list(lines)[-2] == "data: [DONE]"


@pytest.mark.parametrize("stream", [False, True])
def test_a_complete_response_counts_as_answered(client: httpx.Client, server: LocalServer, stream: bool) -> None:
    before = wait_until_idle(server, "chat")
    requests, answered = before.requests, before.answered
    assert client.post("/chat/completions", json=chat_body("one two", stream=stream)).status_code == 200
    assert client.post("/chat/completions", json=chat_body("one two", stream=stream, n=-1)).status_code == 400
    after = wait_until_idle(server, "chat")
    assert (after.requests - requests, after.answered - answered) == (2, 1)


class SureGenerator(EchoGenerator):
    """Knows how probable its text is."""

    gives_logprobs = True

    def stream(self, messages: Any, *, logprobs: int | None = None, **rest: Any) -> Iterator[EchoPiece]:
        token = {"token": "…", "logprob": -0.5, "bytes": [], "top_logprobs": [{"token": "…"}] * (logprobs or 0)}
        for piece in super().stream(messages, **rest):
            known = replace(SurePiece(**vars(piece)), logprobs=() if logprobs is None else (token,))
            yield known if piece.finish_reason else piece


@dataclass(frozen=True)
class SurePiece(EchoPiece):
    logprobs: tuple[dict[str, Any], ...] = ()


def test_log_probabilities_are_those_of_a_generator_that_has_them(client: httpx.Client) -> None:
    asked = chat_body("one two", logprobs=True, top_logprobs=3)
    assert client.post("/chat/completions", json=asked).json()["choices"][0]["logprobs"] is None
    with fake_server(generator=SureGenerator()) as server, client_of(server) as sure:
        choice = sure.post("/chat/completions", json=asked).json()["choices"][0]
        assert [len(token["top_logprobs"]) for token in choice["logprobs"]["content"]] == [3]
        assert stream_of(sure, asked)[-1]["choices"][0]["logprobs"] == choice["logprobs"]
        assert sure.post("/chat/completions", json=chat_body("one two")).json()["choices"][0]["logprobs"] is None


def test_log_probabilities_do_not_spell_out_what_is_withheld() -> None:
    asked = chat_body("one two three four five six", logprobs=True)
    with fake_server(generator=SureGenerator()) as server, client_of(server) as sure:
        answer = sure.post("/chat/completions", json=asked, headers={FAULT_HEADER: "filter_completion=default"})
    choice = answer.json()["choices"][0]
    assert (choice["finish_reason"], choice["logprobs"]) == ("content_filter", None)

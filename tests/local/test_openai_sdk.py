"""The official ``openai`` package with the local server, on the real models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openai
import pytest
from pydantic import BaseModel
from served import wait_until_idle

from skytells_nb.local import Faults, LimitOptions, LocalServer

pytestmark = pytest.mark.slow

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}


class Review(BaseModel):
    sentiment: Literal["positive", "negative"]
    stars: int


@pytest.fixture(scope="module")
def server(chat_weights: Path) -> Iterator[LocalServer]:
    with LocalServer(warm=True) as server:
        yield server


@pytest.fixture
def client(server: LocalServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=server.api_key, base_url=server.base_url, max_retries=0, timeout=120) as client:
        yield client


def with_fault(client: openai.OpenAI, fault: str) -> openai.OpenAI:
    return client.with_options(default_headers={"x-skytells-fault": fault})


def test_chat_returns_real_text(client: openai.OpenAI) -> None:
    """Text, finish reason, usage, the local model's name, and the safety fields beside the standard ones."""
    answer = client.chat.completions.create(
        model="deepbrain-router",
        messages=[{"role": "user", "content": "Say hello."}],
        max_completion_tokens=24,
        temperature=0,
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.model.startswith("local-")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 24
    assert "prompt_filter_results" in (answer.model_extra or {})


def test_chat_streams_with_usage(client: openai.OpenAI) -> None:
    """The pieces add up to the text of the same request without streaming, then usage."""
    request: dict[str, Any] = {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "Name three colors."}],
        "max_tokens": 20,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**request)
    pieces, usage = [], None
    for chunk in client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}):
        pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        usage = chunk.usage or usage
    assert "".join(pieces) == whole.choices[0].message.content
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert len(pieces) > 1


def test_chat_parses_into_a_pydantic_model(client: openai.OpenAI) -> None:
    """``chat.completions.parse`` with a strict schema."""
    answer = client.chat.completions.parse(
        model="gpt-5",
        messages=[{"role": "user", "content": "Review: I loved every minute of it. Five stars."}],
        response_format=Review,
        temperature=0,
    )
    assert isinstance(answer.choices[0].message.parsed, Review)


def test_a_required_tool_is_called_full_and_streamed(client: openai.OpenAI) -> None:
    """The arguments are valid for the schema."""
    request: dict[str, Any] = {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "What is the weather in Oslo, in celsius?"}],
        "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}],
        "tool_choice": "required",
        "temperature": 0,
    }
    answer = client.chat.completions.create(**request)
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    arguments = json.loads(calls[0].function.arguments)
    assert set(arguments) == {"city", "unit"}
    assert arguments["unit"] in ("celsius", "fahrenheit")
    with client.chat.completions.stream(**request) as stream:
        final = stream.get_final_completion()
    streamed = final.choices[0].message.tool_calls
    assert streamed is not None
    assert json.loads(streamed[0].function.arguments) == arguments


def test_auto_calls_a_tool_only_for_related_questions(client: openai.OpenAI) -> None:
    """A question about the weather calls the weather tool; a poem does not."""
    tool = {"name": "get_weather", "description": "Get the current weather of a city", "parameters": WEATHER}
    tools: Any = [{"type": "function", "function": tool}]

    def reason(text: str) -> str:
        messages: Any = [{"role": "user", "content": text}]
        answer = client.chat.completions.create(
            model="gpt-5", messages=messages, tools=tools, max_tokens=60, temperature=0
        )
        return answer.choices[0].finish_reason

    assert reason("What is the weather like in Paris today?") == "tool_calls"
    assert reason("Write a short poem about love.") != "tool_calls"


def test_responses_are_created_streamed_and_parsed(client: openai.OpenAI) -> None:
    """The same text in both forms, and ``responses.parse``."""
    request: dict[str, Any] = {
        "model": "gpt-5.3-codex",
        "input": "Name a fruit.",
        "temperature": 0,
        "max_output_tokens": 200,
    }
    whole = client.responses.create(**request)
    assert whole.output_text
    with client.responses.stream(**request) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(pieces) == whole.output_text == final.output_text
    parsed = client.responses.parse(
        model="gpt-5", input="Review: what a waste of time.", text_format=Review, temperature=0
    )
    assert isinstance(parsed.output_parsed, Review)


def test_a_tool_output_continues_a_response(client: openai.OpenAI) -> None:
    """Call, output by call_id on the stored response, then text."""
    tools: Any = [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}]
    first = client.responses.create(
        model="gpt-5", input="Weather in Oslo?", tools=tools, tool_choice="required", store=True, temperature=0
    )
    call = next(item for item in first.output if item.type == "function_call")
    assert set(json.loads(call.arguments)) == {"city", "unit"}
    second = client.responses.create(
        model="gpt-5",
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "4 degrees, rain"}],
        previous_response_id=first.id,
        tools=tools,
        max_output_tokens=24,
    )
    assert second.output_text


def test_previous_response_id_carries_the_context(client: openai.OpenAI) -> None:
    """The second prompt is longer by the first exchange; an unknown id is a NotFoundError."""
    first = client.responses.create(model="gpt-5", input="My bird is a flamingo.", store=True, max_output_tokens=16)
    alone = client.responses.create(model="gpt-5", input="What is my bird?", max_output_tokens=16)
    chained = client.responses.create(
        model="gpt-5", input="What is my bird?", previous_response_id=first.id, max_output_tokens=16
    )
    assert alone.usage is not None
    assert chained.usage is not None
    assert chained.usage.input_tokens > alone.usage.input_tokens
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-5", input="x", previous_response_id=alone.id)


def test_embeddings_reflect_the_meaning(client: openai.OpenAI) -> None:
    """The package requests base64 by default; unit vectors; related sentences are more similar than unrelated ones."""
    texts = ["A cat sleeps on the sofa.", "The kitten naps on the couch.", "Interest rates rose again."]
    answer = client.embeddings.create(model="text-embedding-3-small", input=texts)
    matrix = np.array([item.embedding for item in answer.data])
    assert matrix.shape == (3, 512)
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, rtol=1e-4)
    assert matrix[0] @ matrix[1] > matrix[0] @ matrix[2] + 0.2
    small = client.embeddings.create(model="skytells-embed-3-large", input=texts[0], dimensions=64)
    assert len(small.data[0].embedding) == 64


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    """Under their usual names; a response names the local model that gave it."""
    names = [model.id for model in client.models.list()]
    assert {"gpt-5", "gpt-4o-mini", "text-embedding-3-small"} <= {*names}
    assert client.models.retrieve("gpt-4o-mini").owned_by == "openai"
    messages: Any = [{"role": "user", "content": "Say hello."}]
    answer = client.chat.completions.create(model="gpt-4o-mini-2024-07-18", messages=messages, max_tokens=4)
    assert answer.model.startswith("local-")


def test_errors_have_the_classes_of_the_package(client: openai.OpenAI) -> None:
    """401, 404, 400, 429, 5xx and the blocked prompt."""
    messages: Any = [{"role": "user", "content": "hi"}]

    def ask(client: openai.OpenAI, **parameters: Any) -> Any:
        return client.chat.completions.create(**{"model": "gpt-5", "messages": messages, "max_tokens": 4} | parameters)

    with pytest.raises(openai.AuthenticationError):
        ask(client.with_options(api_key="sk-wrong"))
    with pytest.raises(openai.NotFoundError) as missing:
        ask(client, model="unknown-model")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        ask(client, temperature=9)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.RateLimitError):
        ask(with_fault(client, "status=429"))
    with pytest.raises(openai.InternalServerError):
        ask(with_fault(client, "status=503"))
    with pytest.raises(openai.APIStatusError) as blocked:
        ask(with_fault(client, "block_prompt"))
    assert blocked.value.status_code == 451
    with pytest.raises(openai.APIConnectionError):
        ask(with_fault(client, "cut=before"))


def test_retries_of_the_package_respect_a_limit(server: LocalServer) -> None:
    """With a limit of two in two seconds, five requests at once all succeed by Retry-After."""
    limits = LimitOptions(requests=2, window=2, retry_after_ms=True)
    with (
        LocalServer(limits=limits, faults=Faults()) as limited,
        openai.OpenAI(api_key=limited.api_key, base_url=limited.base_url, max_retries=20, timeout=60) as client,
        ThreadPoolExecutor(5) as pool,
    ):
        texts = [f"text {n}" for n in range(5)]
        list(pool.map(lambda text: client.embeddings.create(model="text-embedding-3-small", input=text), texts))
        assert wait_until_idle(limited, "embeddings").answered == 5
        assert 429 in limited.stats["embeddings"].statuses

"""litellm: every kind of call, with the names of OpenAI's models."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import BaseModel

from skytells_nb.local import LocalServer

if find_spec("litellm") is None:
    pytest.skip("litellm is not installed, so it was not tried: make test-sdks", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COLORS = [{"role": "user", "content": "Name three colors."}]
PRAISE = [{"role": "user", "content": "Review: I loved every minute of it. Five stars."}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Review(BaseModel):
    """A review of a film."""

    sentiment: str
    stars: int


@pytest.fixture
def litellm(library: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    # Otherwise the import asks another machine for prices.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return library("litellm")


@pytest.fixture
def place(server: LocalServer) -> dict[str, Any]:
    return {"api_base": server.base_url, "api_key": server.api_key, "timeout": 120}


def test_chat_streamed_and_whole(litellm: Any, place: dict[str, Any]) -> None:
    asked = {"model": "openai/gpt-4o-mini", "messages": COLORS, "max_tokens": 20, "temperature": 0, **place}
    whole = litellm.completion(**asked)
    streamed = litellm.completion(**asked, stream=True, stream_options={"include_usage": True})
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert text == whole.choices[0].message.content
    assert text.strip()
    assert whole.usage.completion_tokens > 0


def test_parse(litellm: Any, place: dict[str, Any]) -> None:
    answer = litellm.completion(model="openai/gpt-4o", messages=PRAISE, response_format=Review, temperature=0, **place)
    assert Review.model_validate_json(answer.choices[0].message.content)


def test_tools(litellm: Any, place: dict[str, Any]) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
    messages = [{"role": "user", "content": "Weather in Oslo?"}]
    answer = litellm.completion(
        model="openai/gpt-4.1-mini", messages=messages, tools=tools, tool_choice="required", temperature=0, **place
    )
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, set(json.loads(call.function.arguments))) == ("get_weather", {"city"})


def test_responses_streamed_and_whole(litellm: Any, place: dict[str, Any]) -> None:
    fruit = {"model": "openai/gpt-4o-mini", "input": "Name a fruit.", "max_output_tokens": 20, "temperature": 0}
    asked = {**fruit, **place}
    whole = litellm.responses(**asked)
    events = list(litellm.responses(**asked, stream=True))
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == whole.output[-1].content[0].text
    assert events[-1].type in ("response.completed", "response.incomplete")


def test_embeddings(litellm: Any, place: dict[str, Any]) -> None:
    answer = litellm.embedding(model="openai/text-embedding-3-small", input=["a cat", "a dog"], **place)
    assert [len(entry["embedding"]) for entry in answer.data] == [512, 512]

"""Tool calls in both APIs, full and streamed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from local_fakes import chat_body, events

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
NESTED = {"type": "function", "function": {"name": "get_weather", "description": "weather", "parameters": PARAMETERS}}
FLAT = {"type": "function", "name": "get_weather", "description": "weather", "parameters": PARAMETERS}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "time now"}}


@pytest.mark.parametrize("tool", [NESTED, FLAT], ids=["nested", "flat"])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_required_tool_is_called(client: httpx.Client, tool: dict[str, Any], choice: object) -> None:
    """Content is null, the arguments are JSON for the tool's schema, the reason is tool_calls."""
    body = client.post("/chat/completions", json=chat_body("hi", tools=[tool], tool_choice=choice)).json()
    choice_0 = body["choices"][0]
    assert choice_0["finish_reason"] == "tool_calls"
    assert choice_0["message"]["content"] is None
    call = choice_0["message"]["tool_calls"][0]
    assert call["id"].startswith("call_")
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "text"}'}


def test_a_tool_call_is_streamed_in_fragments(client: httpx.Client) -> None:
    """Id, type and name in the first fragment, then the arguments by index, then the reason."""
    answer = client.post("/chat/completions", json=chat_body("hi", tools=[NESTED], tool_choice="required", stream=True))
    deltas = [data["choices"][0] for _, data in events(answer.text)[1:-1]]
    first = deltas[0]["delta"]["tool_calls"][0]
    assert deltas[0]["delta"]["content"] is None
    assert (first["index"], first["type"], first["function"]) == (
        0,
        "function",
        {"name": "get_weather", "arguments": ""},
    )
    fragments = [d["delta"]["tool_calls"][0] for d in deltas[1:-1]]
    assert all(set(fragment) == {"index", "function"} for fragment in fragments)
    assert "".join(f["function"]["arguments"] for f in fragments) == '{"city": "text"}'
    assert deltas[-1]["finish_reason"] == "tool_calls"


def test_auto_calls_the_most_similar_tool_or_none(client: httpx.Client) -> None:
    """A text similar to a tool's description calls it; another text and a tool's result do not."""
    near = client.post("/chat/completions", json=chat_body("get weather weather", tools=[NESTED, CLOCK])).json()
    assert near["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    far = client.post("/chat/completions", json=chat_body("zzz qqq", tools=[NESTED, CLOCK])).json()
    assert far["choices"][0]["message"]["content"] == "zzz qqq"
    history = [
        {"role": "user", "content": "get weather"},
        {"role": "assistant", "content": None, "tool_calls": near["choices"][0]["message"]["tool_calls"]},
        {"role": "tool", "tool_call_id": "x", "content": "weather is sunny"},
    ]
    after = client.post("/chat/completions", json={"model": "gpt-5", "messages": history, "tools": [NESTED]}).json()
    assert after["choices"][0]["finish_reason"] == "stop"


def test_none_never_calls_a_tool(client: httpx.Client) -> None:
    """``tool_choice: none`` responds with text."""
    body = client.post("/chat/completions", json=chat_body("weather", tools=[NESTED], tool_choice="none")).json()
    assert body["choices"][0]["message"]["content"] == "weather"


def test_a_tool_without_parameters_has_empty_arguments(client: httpx.Client) -> None:
    """``{}``, without running the model."""
    body = client.post("/chat/completions", json=chat_body("x", tools=[CLOCK], tool_choice="required")).json()
    assert body["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "clock", "arguments": "{}"}


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"tools": [NESTED], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [NESTED], "tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].name"),
    ],
)
def test_an_invalid_tool_is_named(client: httpx.Client, parameters: dict[str, Any], param: str) -> None:
    """Status 400 with the parameter."""
    answer = client.post("/chat/completions", json=chat_body("x", **parameters))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("tool", [NESTED, FLAT], ids=["nested", "flat"])
def test_responses_contain_a_function_call_item(client: httpx.Client, tool: dict[str, Any]) -> None:
    """A separate item with call_id, name and arguments; the tools are repeated in the flat format."""
    request = {"model": "gpt-5", "input": "x", "tools": [tool], "tool_choice": "required"}
    body = client.post("/responses", json=request).json()
    item = body["output"][1]
    assert item["type"] == "function_call"
    assert item["id"].startswith("fc_")
    assert item["call_id"].startswith("call_")
    assert (item["name"], item["arguments"], item["status"]) == ("get_weather", '{"city": "text"}', "completed")
    assert body["tools"][0]["name"] == "get_weather"
    assert body["status"] == "completed"


def test_responses_stream_the_arguments(client: httpx.Client) -> None:
    """The events are added, deltas, done, done, completed."""
    request = {"model": "gpt-5", "input": "x", "tools": [FLAT], "tool_choice": "required", "stream": True}
    found = events(client.post("/responses", json=request).text)
    names = [name for name, _ in found]
    deltas = [data["delta"] for name, data in found if name == "response.function_call_arguments.delta"]
    assert "".join(deltas) == '{"city": "text"}'
    assert names[-3:] == ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]
    assert "response.content_part.added" not in names


def test_a_function_output_continues_the_conversation(client: httpx.Client) -> None:
    """``function_call_output`` items are accepted, also after ``previous_response_id``."""
    first = client.post(
        "/responses",
        json={"model": "gpt-5", "input": "x", "tools": [FLAT], "tool_choice": "required", "store": True},
    ).json()
    output = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "12 degrees"}
    second = client.post(
        "/responses", json={"model": "gpt-5", "input": [output], "previous_response_id": first["id"], "tools": [FLAT]}
    ).json()
    assert second["output"][1]["type"] == "message"
    assert "12 degrees" in second["output"][1]["content"][0]["text"]

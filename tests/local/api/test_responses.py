"""``POST /v1/responses`` on a real port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from local_fakes import EchoGenerator, client_of, events, fake_server

from skytells_nb.local import LocalServer
from skytells_nb.types.responses import Response


@pytest.fixture(scope="module")
def generator() -> EchoGenerator:
    return EchoGenerator()


@pytest.fixture(scope="module")
def server(generator: EchoGenerator) -> Iterator[LocalServer]:
    with fake_server(generator=generator) as server:
        yield server


@pytest.fixture
def client(server: LocalServer) -> Iterator[httpx.Client]:
    with client_of(server) as client:
        yield client


def ask(client: httpx.Client, value: Any, **parameters: Any) -> httpx.Response:
    return client.post("/responses", json={"model": "gpt-5.3-codex", "input": value, **parameters})


def test_a_response_starts_with_a_reasoning_item(client: httpx.Client) -> None:
    """Then a message; usage, parameters and two content filters, and no output_text in the body."""
    body = ask(client, "hello there").json()
    answer = Response.model_validate(body)
    assert answer.output_text == "hello there"
    assert [item["type"] for item in body["output"]] == ["reasoning", "message"]
    assert body["output"][0].keys() == {"id", "type", "summary"}
    assert body["id"].startswith("resp_")
    assert (body["status"], body["object"], body["store"]) == ("completed", "response", False)
    assert "output_text" not in body
    assert [entry["source_type"] for entry in body["content_filters"]] == ["prompt", "completion"]
    assert "jailbreak" in body["content_filters"][0]["content_filter_results"]
    assert body["usage"]["input_tokens"] == 2
    assert body["usage"]["total_tokens"] == 4


def test_a_stream_has_the_documented_events_in_order(client: httpx.Client) -> None:
    """Named events, numbered from 0 without a gap, and no [DONE]."""
    answer = ask(client, "hello there", stream=True)
    assert "[DONE]" not in answer.text
    found = events(answer.text)
    assert [name for name, _ in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [data["type"] for _, data in found] == [name for name, _ in found]
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    first, last = found[0][1]["response"], found[-1][1]["response"]
    assert (first["status"], first["output"], first["usage"], first["content_filters"]) == (
        "in_progress",
        [],
        None,
        None,
    )
    assert last["id"] == first["id"]
    assert last["content_filters"]
    assert Response.model_validate(last).output_text == "hello there"


@pytest.mark.parametrize("stream", [False, True])
def test_a_token_limit_makes_the_response_incomplete(client: httpx.Client, stream: bool) -> None:
    """Status incomplete with its reason; a stream ends with response.incomplete."""
    answer = ask(client, "a b c d", max_output_tokens=2, stream=stream)
    if stream:
        name, data = events(answer.text)[-1]
        assert name == "response.incomplete"
        body = data["response"]
    else:
        body = answer.json()
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_stored_response_can_be_continued(client: httpx.Client, generator: EchoGenerator) -> None:
    """The model gets the earlier messages, but not the earlier instructions."""
    first = ask(client, "my bird is a flamingo", store=True, instructions="Speak like a pirate.").json()
    ask(client, "which bird?", previous_response_id=first["id"], instructions="Be brief.")
    assert [m["content"] for m in generator.messages[-1]] == [
        "Be brief.",
        "my bird is a flamingo",
        "my bird is a flamingo",
        "which bird?",
    ]


def test_a_streamed_response_is_stored_too(client: httpx.Client) -> None:
    """``store`` applies to both forms."""
    found = events(ask(client, "remember me", store=True, stream=True).text)
    answer = ask(client, "go on", previous_response_id=found[-1][1]["response"]["id"])
    assert answer.status_code == 200


@pytest.mark.parametrize("stored", [False, None])
def test_a_response_that_was_not_stored_is_not_found(client: httpx.Client, stored: bool | None) -> None:
    """404 previous_response_not_found, also for an unknown id."""
    first = ask(client, "hi", store=stored).json()["id"]
    for previous in (first, "resp_unknown"):
        answer = ask(client, "more", previous_response_id=previous, stream=True)
        error = answer.json()["error"]
        assert answer.status_code == 404
        assert (error["type"], error["code"], error["error_id"], error["param"]) == (
            "invalid_request_error",
            "previous_response_not_found",
            "INVALID_REQUEST",
            "previous_response_id",
        )


def test_input_items_of_all_kinds_are_accepted(client: httpx.Client) -> None:
    """Messages with and without a type, content parts, images, and reasoning items, which are ignored."""
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "system", "content": "Be kind."},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "https://x"}],
        },
    ]
    assert Response.model_validate(ask(client, items).json()).output_text == "see\n[image]"


def test_the_schema_is_in_text_format(client: httpx.Client) -> None:
    """Structured output at the place of the Responses API."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    body = ask(client, "x", text={"format": {"type": "json_schema", "name": "n", "schema": schema}}).json()
    assert Response.model_validate(body).output_text == '{"n": 1}'


def test_a_blocked_prompt_has_the_filter_results(client: httpx.Client) -> None:
    """451 with the prompt's entry blocked."""
    error = ask(client, "hate:high").json()["error"]
    assert error["error_id"] == "CONTENT_POLICY_VIOLATION"
    assert error["content_filters"][0]["blocked"] is True


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (7, "input"),
        ([], "input"),
        ([{"role": "unknown", "content": "x"}], "input[0].role"),
        ([{"type": "item_reference", "id": "x"}], "input[0].type"),
    ],
)
def test_invalid_input_is_named(client: httpx.Client, given: object, param: str) -> None:
    """Status 400 with the parameter."""
    answer = ask(client, given)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_token_limit_that_no_model_has_is_refused(client: httpx.Client) -> None:
    answer = ask(client, "a b c", max_output_tokens=10**12)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "max_output_tokens")
    assert ask(client, "a b c", max_output_tokens=10**6).status_code == 200

"""Responses: whole, and as a stream of events."""

from __future__ import annotations

from typing import Any

import pytest
from answers import DONE, SAFE, lines, named, replying, response_stream, streaming

from skytells_nb.errors import InputError, StreamError, TruncatedStreamError
from skytells_nb.types.responses import Response

REASONING = {"id": "rs_01", "type": "reasoning", "summary": []}


def message(text: str, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_01", "type": "message", "status": status, "role": "assistant", "content": [part]}


CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city":"Oslo"}',
    "status": "completed",
}
FILTERS = [
    {
        "blocked": False,
        "source_type": "prompt",
        "content_filter_raw": [],
        "content_filter_results": {"hate": SAFE},
        "content_filter_offsets": {},
    },
    {"blocked": False, "source_type": "completion", "content_filter_results": {"violence": SAFE}},
]


def snapshot(status: str = "completed", *output: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_01",
        "object": "response",
        "created_at": 1775630568,
        "status": status,
        "model": "gpt-5.4",
        "output": list(output),
        "usage": {"input_tokens": 12, "output_tokens": 70, "total_tokens": 82},
        "content_filters": FILTERS,
        "error": None,
        "incomplete_details": None,
        **more,
    }


STARTED = snapshot("in_progress", usage=None, content_filters=None)
BEGIN = (
    {"type": "response.created", "response": STARTED},
    {"type": "response.in_progress", "response": STARTED},
    {"type": "response.output_item.added", "output_index": 0, "item": REASONING},
    {"type": "response.output_item.done", "output_index": 0, "item": REASONING},
    {"type": "response.output_text.delta", "item_id": "msg_01", "output_index": 1, "content_index": 0, "delta": "Pa"},
    {"type": "response.output_text.delta", "item_id": "msg_01", "output_index": 1, "content_index": 0, "delta": "ris"},
)


def ended(kind: str, response: dict[str, Any]) -> bytes:
    return named(*BEGIN, {"type": f"response.{kind}", "response": response})


COMPLETED = snapshot("completed", REASONING, message("Paris"))


def test_the_text_is_that_of_the_messages_reasoning_comes_first() -> None:
    with replying(COMPLETED, x_request_id="req_r") as (client, server):
        answer = client.responses.create(model="gpt-5.4", input="Capital?", store=False, include=["x"])
        (exchange,) = server.exchanges
    assert str(answer) == answer.output_text == "Paris"
    assert (answer.finish_reason, answer.tokens, answer.request_id) == ("stop", (12, 70), "req_r")
    assert answer.safety.checked
    assert [f.source for f in answer.safety.findings] == ["prompt", "completion"]
    assert exchange.path == "/v1/responses"
    assert exchange.json == {"model": "gpt-5.4", "input": "Capital?", "store": False, "include": ["x"]}


def test_several_parts_join_and_refusals_are_no_text() -> None:
    item = message("a")
    item["content"] += [{"type": "refusal", "refusal": "no"}, {"type": "output_text", "text": "b"}]
    assert Response.model_validate(snapshot("completed", item, message("c"))).output_text == "abc"


def test_a_function_call_is_an_item_of_the_output() -> None:
    with replying(snapshot("completed", REASONING, CALL)) as (client, server):
        answer = client.responses.create(model="gpt-5.4", input="Weather?")
        again: list[Any] = [{"role": "user", "content": "Weather?"}, *answer.output]
        result = {"type": "function_call_output", "call_id": "call_1", "output": "sun"}
        client.responses.create(model="gpt-5.4", input=[*again, result])
        sent = server.exchanges[1].json["input"]
    assert (answer.output_text, answer.finish_reason) == ("", "tool_calls")
    assert (answer.output[1].name, answer.output[1].arguments) == ("get_weather", '{"city":"Oslo"}')
    assert sent == [{"role": "user", "content": "Weather?"}, REASONING, CALL, result]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (snapshot("incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (snapshot("incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
        (snapshot("incomplete", incomplete_details={"reason": "other"}), "other"),
        (snapshot("incomplete"), "incomplete"),
        (snapshot("failed", error={"code": "server_error", "message": "It broke."}), "failed"),
        (snapshot("queued"), "queued"),
        (snapshot("something new"), "something new"),
    ],
)
def test_the_reason_an_answer_ended_in_the_words_of_chat(body: dict[str, Any], reason: str) -> None:
    with replying(body) as (client, _):
        assert client.responses.create(model="gpt-5.4", input="x").finish_reason == reason


def test_a_blocked_entry_is_filtered() -> None:
    filters = [{**FILTERS[1], "blocked": True}]
    answer = Response.model_validate(snapshot("incomplete", content_filters=filters))
    assert answer.safety.filtered
    assert answer.safety.blocked


def test_the_stream_gives_events_and_the_whole_answer() -> None:
    with streaming(ended("completed", COMPLETED), x_request_id="req_s") as (client, _):
        stream = response_stream(client)
        events = list(stream)
        answer = stream.final
    assert [e.type for e in events] == [e["type"] for e in BEGIN] + ["response.completed"]
    assert [e.sequence_number for e in events] == list(range(7))
    assert "".join(e.text for e in events) == answer.output_text == "Paris"
    assert (answer.id, answer.tokens, answer.request_id) == ("resp_01", (12, 70), "req_s")
    assert answer.safety.checked


def test_the_text_of_the_stream_alone() -> None:
    with streaming(ended("completed", COMPLETED)) as (client, _):
        assert list(response_stream(client).text) == ["Pa", "ris"]


@pytest.mark.parametrize("tail", [b"", DONE])
def test_done_is_neither_needed_nor_harmful(tail: bytes) -> None:
    with streaming(ended("completed", COMPLETED) + tail) as (client, _):
        assert response_stream(client).final.output_text == "Paris"


def test_lines_without_names_and_names_without_types_are_both_read() -> None:
    plain = lines(*BEGIN, {"type": "response.completed", "response": COMPLETED})
    untyped = b"event: response.completed\n" + lines({"response": COMPLETED})
    for sent in (plain, untyped):
        with streaming(sent) as (client, _):
            assert response_stream(client).final.output_text == "Paris"


@pytest.mark.parametrize(
    ("kind", "more", "reason"),
    [
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ("failed", {"error": {"code": "server_error", "message": "It broke."}}, "failed"),
    ],
)
def test_incomplete_and_failed_end_a_stream(kind: str, more: dict[str, Any], reason: str) -> None:
    with streaming(ended(kind, snapshot(kind, message("Pa", "incomplete"), **more))) as (client, _):
        answer = response_stream(client).final
    assert (answer.status, answer.finish_reason, answer.output_text) == (kind, reason, "Pa")


def test_events_we_do_not_know_are_passed_on() -> None:
    odd: list[dict[str, Any]] = [
        {"type": "response.web_search.found", "hits": 3},
        {"type": "response.odd", "item": "text", "output_index": "first", "response": 5, "delta": {"x": 1}},
        {"type": "response.reasoning_summary_text.delta", "delta": "thinking"},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": "{"},
    ]
    with streaming(named(*odd, {"type": "response.completed", "response": COMPLETED})) as (client, _):
        stream = response_stream(client)
        events = list(stream)
    assert [e.type for e in events[:4]] == [e["type"] for e in odd]
    assert events[0].model_extra == {"hits": 3}
    assert events[1].delta == {"x": 1}
    assert [e.text for e in events[:4]] == ["", "", "", ""]
    assert stream.final.output_text == "Paris"


@pytest.mark.parametrize("tail", [b"", DONE])
def test_a_stream_without_a_terminal_event_is_truncated(tail: bytes) -> None:
    with streaming(named(*BEGIN) + tail) as (client, _):
        stream = response_stream(client)
        with pytest.raises(TruncatedStreamError) as caught:
            _ = stream.final
    assert caught.value.partial == "Paris"
    assert (stream.partial().output_text, stream.partial().finish_reason) == ("Paris", "interrupted")


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "code": "server_error", "message": "It broke.", "param": None},
        {"type": "error", "error": {"code": "server_error", "message": "It broke.", "type": "x"}},
    ],
)
def test_an_error_event_is_raised_with_the_text(error: dict[str, Any]) -> None:
    with streaming(named(*BEGIN, error)) as (client, _):
        stream = response_stream(client)
        with pytest.raises(StreamError, match="It broke") as caught:
            list(stream)
    assert (caught.value.code, caught.value.partial) == ("server_error", "Paris")


def test_a_terminal_event_that_is_malformed_is_a_stream_error() -> None:
    bad = {"type": "response.completed", "response": {"output": "text"}}
    with streaming(named(*BEGIN, bad)) as (client, _), pytest.raises(StreamError) as caught:
        _ = response_stream(client).final
    assert caught.value.partial == "Paris"


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"input": 5}, "input"),
        ({"input": None}, "input is missing"),
        ({"input": ["text"]}, r"input\[0\]"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"store": "yes"}, "store"),
        ({"text": "json"}, "text"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(wrong: dict[str, Any], name: str) -> None:
    with replying(COMPLETED) as (client, server):
        with pytest.raises(InputError, match=name):
            client.responses.create(**{"model": "gpt-5.4", "input": "x", **wrong})
        assert server.exchanges == []


def test_the_text_before_a_failure_is_not_lost() -> None:
    """The terminal snapshot of a failed response may have no output; it then contains the streamed text."""
    failed = snapshot("failed", REASONING, error={"code": "server_error", "message": "It broke."})
    with streaming(ended("failed", failed)) as (client, _), response_stream(client) as stream:
        answer = stream.final
    assert (answer.output_text, answer.finish_reason) == ("Paris", "failed")
    assert [item.type for item in answer.output] == ["reasoning", "message"]

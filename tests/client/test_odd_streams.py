"""Streams as gateways send them: recognized by what they say, with keep-alive data, odd tool calls, errors, extras."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from answers import DONE, SAFE, chat_stream, chunk, lines, named, response_stream, streaming, usage_chunk
from hypothesis import example, given, settings
from hypothesis import strategies as st
from serving import KEY, Exchange, Script, serving

from skytells_nb.client.client import Skytells
from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.errors import InvalidResponseError, RequestTimeoutError, StreamError, TruncatedStreamError
from skytells_nb.types.chat import ChatCompletion

HELLO = (chunk({"content": "hel"}), chunk({"content": "lo"}, "stop"))
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello", "annotations": [1]}}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def final(*sent: Any, **headers: str) -> ChatCompletion:
    with streaming(lines(*sent) + DONE, **headers) as (client, _):
        return chat_stream(client).final


def raw(sent: bytes, kind: str | None) -> Any:
    def script(exchange: Any) -> None:
        head = "" if kind is None else f"content-type: {kind}\r\n"
        exchange.send(f"HTTP/1.1 200 OK\r\n{head}connection: close\r\n\r\n".encode() + sent)

    return serving(script)


KINDS = [
    "text/event-stream",
    "text/plain",
    "application/octet-stream",
    "application/json",
    "application/x-ndjson",
    None,
]
FORMS = {
    "stream": lines(*HELLO) + DONE,
    "stream after blanks and comments": b"\n\n: hi\n\n" + lines(*HELLO) + DONE,
    "named events first": b"event: message\n" + lines(*HELLO) + DONE,
    "byte-order mark": b"\xef\xbb\xbf" + lines(*HELLO) + DONE,
    "whole": json.dumps(WHOLE).encode(),
    "whole, indented": json.dumps(WHOLE, indent=2).encode(),
    "whole as one event": lines(WHOLE) + DONE,
    "whole as one event without an end": lines(WHOLE),
    "lines of JSON": b"".join(json.dumps(body).encode() + b"\n" for body in HELLO),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_a_stream_is_recognized_by_what_it_says(form: str, kind: str | None) -> None:
    with raw(FORMS[form], kind) as server, Skytells(KEY, base_url=server.url) as client:
        stream = chat_stream(client)
        assert "".join(stream.text) == "hello"
        assert (stream.final.text, stream.final.finish_reason) == ("hello", "stop")


def test_a_whole_answer_needs_no_finish_reason() -> None:
    body = {"choices": [{"message": {"content": "hello"}}]}
    with raw(json.dumps(body).encode(), "application/json") as server, Skytells(KEY, base_url=server.url) as client:
        assert chat_stream(client).final.text == "hello"


def test_a_whole_answer_that_was_cut_is_truncated() -> None:
    with (
        raw(json.dumps(WHOLE).encode()[:-40], "application/json") as server,
        Skytells(KEY, base_url=server.url) as client,
        pytest.raises((TruncatedStreamError, StreamError)),
    ):
        _ = chat_stream(client).final


def test_a_whole_answer_in_place_of_a_stream_keeps_every_member() -> None:
    with raw(json.dumps(WHOLE).encode(), "application/json") as server, Skytells(KEY, base_url=server.url) as client:
        answer = chat_stream(client).final
    assert answer.tokens == (3, 2)
    assert answer.choices[0].message.model_extra == {"annotations": [1]}


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "text/event-stream"])
def test_a_page_in_place_of_a_stream_is_no_answer(kind: str) -> None:
    with (
        raw(b"<html>Log in</html>", kind) as server,
        Skytells(KEY, base_url=server.url) as client,
        pytest.raises(InvalidResponseError),
    ):
        _ = chat_stream(client).final


HALF = chunk({"content": "hel"})
ERRORS_WITHIN = {
    "text of a named event": lines(HALF) + b"event: error\ndata: MARK\n\n",
    "text of JSON of a named event": lines(HALF) + b'event: exception\ndata: "MARK"\n\n',
    "event of AWS": lines(HALF, {"modelStreamErrorException": {"message": "MARK"}}),
    "list": lines(HALF, [{"error": {"message": "MARK"}}, {"error": {"message": "more"}}]),
    "list without names": lines(HALF, [{"code": 5, "message": "MARK"}, {"code": 6, "message": "more"}]),
    "JSON after the events": lines(HALF) + b'{"error": {"message": "MARK"}}',
    "indented JSON": lines(HALF) + b'{\n  "detail": "MARK"\n}\n',
    "field": lines(HALF) + b'error: {"message": "MARK"}\n\n',
    "delta": lines(HALF, {"choices": [{"index": 0, "delta": {"error": {"message": "MARK"}}}]}) + DONE,
    "beside the choice": lines(HALF, {**chunk({}, "error"), "error": {"message": "MARK"}}),
    "reason": lines(HALF, chunk({}, "MARK_error".replace("MARK", "network"))) + DONE,
}


@pytest.mark.parametrize("name", ERRORS_WITHIN)
def test_an_error_within_a_stream_is_quoted_wherever_it_stands(name: str) -> None:
    with (
        raw(ERRORS_WITHIN[name], "text/event-stream") as server,
        Skytells(KEY, base_url=server.url) as client,
        pytest.raises(StreamError, match="network_error" if name == "reason" else "MARK") as caught,
    ):
        _ = chat_stream(client).final
    assert caught.value.partial == "hel"


def test_the_page_of_a_proxy_that_took_over_a_stream_is_quoted_without_the_key() -> None:
    page = f"<html><body><h1>502 Bad Gateway</h1> {KEY}</body></html>".encode()
    with (
        raw(lines(HALF) + page, "text/event-stream") as server,
        Skytells(KEY, base_url=server.url) as client,
        pytest.raises(TruncatedStreamError, match="502 Bad Gateway") as caught,
    ):
        _ = chat_stream(client).final
    assert KEY not in str(caught.value)
    assert "<" not in str(caught.value)


def test_other_lines_do_not_matter_to_a_stream_that_reaches_its_end() -> None:
    sent = b"retry-in 5\n" + lines(HELLO[0]) + b"<!-- proxy -->\n" + lines(HELLO[1]) + DONE
    with raw(sent, "text/event-stream") as server, Skytells(KEY, base_url=server.url) as client:
        assert chat_stream(client).final.text == "hello"


KEEP_ALIVE = [
    *("data: null", "data: ", "data: []", "data: {}", 'data: ""', 'data: "ping"', "data: ping", "data: [PING]"),
    *("data: keep-alive", "data: : OPENROUTER PROCESSING", ": ping", 'data: {"type": "ping"}', "event: ping\ndata: {}"),
    *("event: ping\ndata: 2026-11-30T06:00:00Z", "event: heartbeat\ndata: null", 'data: {"type": "keepalive"}'),
]


@pytest.mark.parametrize("line", KEEP_ALIVE)
@pytest.mark.parametrize("place", [0, 1])
def test_what_keeps_a_connection_alive_is_passed_over(line: str, place: int) -> None:
    sent: list[Any] = list(HELLO)
    sent.insert(place, f"{line}\n\n".encode())
    with streaming(lines(*sent) + DONE) as (client, _):
        assert [piece.text for piece in chat_stream(client)] == ["hel", "lo"]


def endless(before: bytes, line: bytes, **headers: str) -> Script:
    """A stream that is only kept open, until its client leaves."""

    def script(exchange: Exchange) -> None:
        exchange.begin(**headers)
        exchange.send(before)
        with suppress(OSError):
            while True:
                exchange.send(line)
                time.sleep(0.002)

    return script


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "application/x-ndjson"])
@pytest.mark.parametrize("line", [b": ping\n\n", b"data: null\n\n", b"event: ping\ndata: {}\n\n", b"\r\n"])
def test_a_stream_that_is_only_kept_open_ends(line: bytes, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of real keep-alive messages is a moment here: the second one is already too late."""
    monkeypatch.setattr(Timeouts, "keep_alives", 0.0)
    with serving(endless(b"", line, content_type=kind)) as server, Skytells(KEY, base_url=server.url) as client:
        with pytest.raises(RequestTimeoutError, match=r"127\.0\.0\.1:\d+ kept the stream open for 0 s"):
            _ = chat_stream(client).final
        with pytest.raises(RequestTimeoutError, match="kept the stream open"):
            _ = response_stream(client).final


def test_the_time_begins_anew_with_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what arrived before keep-alive messages went on for too long is kept."""
    monkeypatch.setattr(Timeouts, "keep_alives", 0.0)
    with serving(endless(lines(*HELLO), b": ping\n\n")) as server, Skytells(KEY, base_url=server.url) as client:
        stream = chat_stream(client)
        assert [next(stream).text, next(stream).text] == ["hel", "lo"]
        with pytest.raises(RequestTimeoutError, match="without sending any part") as caught:
            next(stream)
    assert caught.value.partial == "hello"


def test_timeout_bounds_a_stream_of_keep_alives() -> None:
    with (
        serving(endless(b"", b": ping\n\n")) as server,
        Skytells(KEY, base_url=server.url, timeout=0.2) as client,
        pytest.raises(RequestTimeoutError),
    ):
        _ = chat_stream(client).final


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain"])
def test_a_stream_in_utf_16_is_read(encoding: str, kind: str) -> None:
    """Also if its pieces end within a character, and as the body of a whole answer."""
    sent = (lines(*HELLO, chunk({"content": " Größe 🙂"})).decode() + DONE.decode()).encode(encoding)

    def script(exchange: Exchange) -> None:
        if not exchange.json.get("stream"):
            exchange.reply(sent, content_type=kind)
            return
        exchange.begin(content_type=kind)
        for at in range(0, len(sent), 7):
            exchange.send(sent[at : at + 7])

    with serving(script) as server, Skytells(KEY, base_url=server.url) as client:
        assert chat_stream(client).final.text == "hello Größe 🙂"
        assert client.chat.completions.create(model="m", messages="Count.").text == "hello Größe 🙂"


@pytest.mark.parametrize(
    "line",
    [b"data: ping\n\n", b"data: null\n\n", b"event: ping\ndata: 5\n\n", b'data: {"type": "ping", "at": 5}\n\n'],
)
def test_what_keeps_a_stream_of_responses_alive_is_passed_over(line: bytes) -> None:
    sent = named({"type": "response.output_text.delta", "delta": "hello"}) + line
    with streaming(sent + named(completed(output=[message("hello")]))) as (client, _):
        assert response_stream(client).final.output_text == "hello"


@pytest.mark.parametrize(
    "event",
    [
        {"object": "error", "message": "engine died", "code": 500},
        {"statusCode": 429, "message": "engine died"},
        {"detail": "engine died"},
        {"errors": [{"message": "engine died"}]},
        {"error": ["engine died"]},
        {"type": "error", "message": "engine died"},
        {"code": 500, "msg": "engine died"},
        {"title": "engine died", "status": 500},
        [{"error": {"message": "engine died"}}],
        chunk({"content": ""}, "stop", error={"code": 502, "message": "engine died"}),
        {**chunk({}), "error": {"message": "engine died"}},
        b'event: error\ndata: {"detail": "engine died"}\n\n',
        b"event: error\ndata: engine died\n\n",
    ],
)
def test_an_error_within_a_stream_is_recognized_in_every_envelope(event: Any) -> None:
    sent = event if isinstance(event, bytes) else f"data: {json.dumps(event)}\n\n".encode()
    with (
        streaming(lines(chunk({"content": "hel"}), sent) + DONE) as (client, _),
        pytest.raises(StreamError, match="engine died") as caught,
    ):
        _ = chat_stream(client).final
    assert caught.value.partial == "hel"


def test_a_choice_that_ended_with_an_error_is_an_error() -> None:
    with (
        streaming(lines(chunk({"content": "hel"}), chunk({}, "error", native_finish_reason="abort")) + DONE) as (
            client,
            _,
        ),
        pytest.raises(StreamError, match="abort"),
    ):
        list(chat_stream(client))


def test_the_error_of_a_stream_has_its_status() -> None:
    with (
        streaming(lines({"error": {"message": "Slow.", "code": 429}})) as (client, _),
        pytest.raises(StreamError) as caught,
    ):
        list(chat_stream(client))
    assert caught.value.status == 429


@pytest.mark.parametrize("error", [None, {}, "", {"message": None}])
def test_an_error_that_says_nothing_is_none(error: Any) -> None:
    assert final(*({**body, "error": error} for body in HELLO)).text == "hello"


def test_an_emoji_whose_halves_come_in_two_deltas_is_whole() -> None:
    first, second = (json.dumps(chunk({"content": "X"}, end)) for end in (None, "stop"))
    sent = (first.replace("X", "a\\ud83d"), second.replace("X", "\\ude00b"))
    assert final(*sent).text == "a😀b"
    other = (first.replace("X", "a\\ud83d"), second.replace("X", "b"))
    assert final(*other).text == "a�b"


def test_the_halves_of_several_choices_and_members_stay_apart() -> None:
    def half(text: str, index: int, end: str | None = None) -> str:
        body = chunk({"content": "X", "reasoning_content": "Y"}, end, index=index)
        return json.dumps(body).replace("X", text).replace("Y", text)

    answer = final(half("\\ud83d", 0), half("\\ud83c", 1), half("\\ude00", 0, "stop"), half("\\udf89", 1, "stop"))
    assert [choice.message.content for choice in answer.choices] == ["😀", "🎉"]
    assert [choice.message.model_extra for choice in answer.choices] == [
        {"reasoning_content": "😀"},
        {"reasoning_content": "🎉"},
    ]


@pytest.mark.filterwarnings("ignore::skytells_nb.errors.SkytellsWarning")
@pytest.mark.parametrize(
    "more", [{"usage": []}, {"created": 1.5}, {"id": 7}, {"object": 5}, {"system_fingerprint": {}}, {"unknown": [1]}]
)
def test_an_odd_member_of_a_chunk_costs_no_answer(more: dict[str, Any]) -> None:
    answer = final({**HELLO[0], **more}, HELLO[1])
    assert answer.text == "hello"
    ((name, value),) = more.items()
    assert (
        name == "object" or (answer.model_extra or {}).get(name, getattr(answer, name, None)) is not None or not value
    )


# Tool calls.

END = chunk({}, "tool_calls")


def part(index: int | None = None, id: str | None = None, name: str | None = None, args: Any = None) -> dict[str, Any]:
    function = {n: v for n, v in (("name", name), ("arguments", args)) if v is not None}
    return {n: v for n, v in (("index", index), ("id", id), ("function", function)) if v is not None}


def calls(*chunks: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    answer = final(*(chunk({"tool_calls": parts}) for parts in chunks), END)
    tools = answer.choices[0].message.tool_calls
    assert [call.index for call in tools] == sorted({call.index for call in tools if call.index is not None})
    return [(call.id, call.function.name, call.function.arguments) for call in tools]


TWO = [("a", "f", '{"x": 1}'), ("b", "g", '{"y": 2}')]
ANONYMOUS = [("", name, args) for _, name, args in TWO]


@pytest.mark.parametrize(
    "chunks",
    [
        [[part(0, "a", "f", '{"x": 1}'), part(1, "b", "g", '{"y": 2}')]],
        [[part(None, "a", "f", '{"x": 1}'), part(None, "b", "g", '{"y": 2}')]],
        [[part(None, "a", "f", '{"x": 1}')], [part(None, "b", "g", '{"y": 2}')]],
        [[part(None, "a", "f", "")], [part(args='{"x":')], [part(args=" 1}")], [part(None, "b", "g", '{"y": 2}')]],
        [[part(0, "a", "f", '{"x": 1}'), part(0, "b", "g", '{"y": 2}')]],
        [[part(0, "a", "f", '{"x": 1}')], [part(0, "b", "g", '{"y": 2}')]],
        [[part(0, "a", "f", "")], [part(0, args='{"x": 1}')], [part(0, "b", "g", "")], [part(0, args='{"y": 2}')]],
        [[part(0, "a", "f", ""), part(1, "b", "g", "")], [part(1, args='{"y": 2}'), part(0, args='{"x": 1}')]],
        [[part(None, "a", "f", ""), part(None, "b", "g", "")], [part(args='{"x": 1}'), part(args='{"y": 2}')]],
        [
            [part(None, "a", "f", ""), part(None, "b", "g", "")],
            [part(id="b", args='{"y": 2}')],
            [part(id="a", args='{"x": 1}')],
        ],
        [[part(0, "a", "f", '{"x":')], [part(0, "a", "f", " 1}")], [part(1, "b", "g", '{"y": 2}')]],
    ],
)
def test_parallel_tool_calls_stay_apart(chunks: list[list[dict[str, Any]]]) -> None:
    assert calls(*chunks) == TWO


@pytest.mark.parametrize(
    "chunks",
    [
        [[part(0, None, "f", '{"x": 1}'), part(0, None, "g", '{"y": 2}')]],
        [[part(0, None, "f", '{"x": 1}')], [part(0, None, "g", '{"y": 2}')]],
        [[part(None, None, "f", '{"x": 1}')], [part(None, None, "g", '{"y": 2}')]],
    ],
)
def test_tool_calls_without_ids_stay_apart(chunks: list[list[dict[str, Any]]]) -> None:
    assert calls(*chunks) == ANONYMOUS


@pytest.mark.parametrize(
    "chunks",
    [
        [[part(0, "x", "f", '{"x": 1}'), part(1, "x", "g", '{"y": 2}')]],
        [[part(0, "x", "f", "")], [part(0, "x", None, '{"x": 1}')], [part(1, "x", "g", '{"y": 2}')]],
        [[part(None, "x", "f", '{"x": 1}'), part(None, "x", "g", '{"y": 2}')]],
        [[part(None, "x", "f", '{"x": 1}')], [part(None, "x", "g", '{"y": 2}')]],
    ],
)
def test_tool_calls_with_one_id_for_all_stay_apart(chunks: list[list[dict[str, Any]]]) -> None:
    assert calls(*chunks) == [("x", name, args) for _, name, args in TWO]


def test_fragments_of_one_call_stay_one_call() -> None:
    assert calls([part(0, "a", "get_", "")], [part(0, name="weather")], [part(0, args="{}")]) == [
        ("a", "get_weather", "{}")
    ]
    assert calls([part(0, "a", "f", "")], [part(0, "x", None, '{"q":')], [part(0, "y", None, " 1}")])[0][1:] == (
        "f",
        '{"q": 1}',
    )


# What is kept.


def test_the_final_answer_keeps_every_member_that_it_saw() -> None:
    results = {"hate": {"filtered": False, "severity": "low"}}
    answer = final(
        {**chunk({"role": "assistant", "content": "hel"}), "service_tier": "default", "provider": "x"},
        chunk({"reasoning_content": "Let me ", "reasoning_details": [{"index": 0, "text": "a"}]}),
        chunk({"reasoning_content": "think.", "reasoning_details": [{"index": 0, "text": "b"}]}),
        chunk({"content": "lo", "annotations": [{"url": "one"}]}, content_filter_results=results),
        chunk({"annotations": [{"url": "one"}, {"url": "two"}]}, content_filter_results={"hate": SAFE}),
        chunk({"audio": {"id": "au", "data": "QUJD"}}),
        chunk({"audio": {"id": "au", "data": "REVG", "expires_at": 5}}),
        chunk({}, "stop", native_finish_reason="STOP", content_filter_offsets={"check_offset": 44}),
        {**usage_chunk(3, 2), "citations": ["https://example.org"], "x_groq": {"id": "r"}},
    )
    (choice,) = answer.choices
    assert choice.message.model_extra == {
        "reasoning_content": "Let me think.",
        "reasoning_details": [{"index": 0, "text": "ab"}],
        "annotations": [{"url": "one"}, {"url": "two"}],
        "audio": {"id": "au", "data": "QUJDREVG", "expires_at": 5},
    }
    assert choice.content_filter_results == results
    assert choice.model_extra == {"native_finish_reason": "STOP", "content_filter_offsets": {"check_offset": 44}}
    extra = answer.model_extra or {}
    assert extra["citations"] == ["https://example.org"]
    assert (extra["service_tier"], extra["provider"], extra["x_groq"]) == ("default", "x", {"id": "r"})
    assert answer.tokens == (3, 2)


def test_the_results_of_the_prompt_are_kept_too() -> None:
    prompt = [{"prompt_index": 0, "content_filter_results": {"hate": SAFE}}]
    answer = final({**chunk({}), "choices": [], "prompt_filter_results": prompt}, *HELLO)
    assert [entry.content_filter_results for entry in answer.prompt_filter_results or ()] == [{"hate": SAFE}]


# Responses.


def message(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part], **more}


def completed(**more: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": [], **more}}


def delta(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": text, "output_index": 0, "content_index": 0, **more}


def response(*events: dict[str, Any]) -> Any:
    with streaming(named(*events)) as (client, _):
        return response_stream(client).final


@pytest.mark.parametrize(
    "events",
    [
        [delta("hel"), delta("lo")],
        [{"type": "response.output_text.delta", "delta": "hello"}],
        [delta("hel"), {"type": "response.output_text.done", "text": "hello", "output_index": 0, "content_index": 0}],
        [delta("hello"), {"type": "response.output_item.done", "output_index": 0, "item": message("hello")}],
        [{"type": "response.output_item.done", "output_index": 0, "item": message("hello")}],
        [{"type": "response.output_text.done", "text": "hello"}],
        [{"type": "response.output_text.done", "text": "hello", "output_index": 0, "content_index": 0}],
        [{"type": "response.content_part.done", "part": {"type": "output_text", "text": "hello"}}],
    ],
)
@pytest.mark.parametrize(
    "end", [completed(), completed(output=None), completed(output=[message("")]), {"type": "response.completed"}]
)
def test_a_response_that_completes_without_output_keeps_what_streamed(
    events: list[dict[str, Any]], end: dict[str, Any]
) -> None:
    with streaming(named(*events, end)) as (client, _):
        stream = response_stream(client)
        # What a lost delta had cannot be shown later.
        assert "".join(stream.text) in ("hello", "hel" if "text" in events[-1] else "hello")
        answer = stream.final
    assert (answer.output_text, answer.status, answer.finish_reason) == ("hello", "completed", "stop")


def test_every_kind_of_item_that_streamed_is_kept() -> None:
    note = {"type": "url_citation", "url": "https://example.org"}
    answer = response(
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1"}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "Thus."},
        {"type": "response.output_item.added", "output_index": 1, "item": {**message(""), "content": []}},
        delta("hello", output_index=1),
        {"type": "response.output_text.annotation.added", "output_index": 1, "content_index": 0, "annotation": note},
        {
            "type": "response.output_item.added",
            "output_index": 2,
            "item": {"type": "function_call", "id": "fc", "call_id": "call_1", "name": "f", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 2, "item_id": "fc", "delta": '{"x": '},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "item_id": "fc", "delta": "1}"},
        completed(),
    )
    reasoning, said, call = answer.output
    assert reasoning.summary == [{"type": "summary_text", "text": "Thus."}]
    assert (said.content[0].text, said.content[0].annotations) == ("hello", [note])
    assert (call.call_id, call.name, call.arguments) == ("call_1", "f", '{"x": 1}')
    assert answer.finish_reason == "tool_calls"


def test_a_refusal_that_streamed_is_kept() -> None:
    refusal = {"type": "response.refusal.delta", "output_index": 0, "content_index": 0}
    answer = response({**refusal, "delta": "I can"}, {**refusal, "delta": "not."}, completed())
    assert answer.refusal == "I cannot."


def test_the_terminal_snapshot_counts_where_it_has_the_output() -> None:
    answer = response(delta("hel"), completed(output=[message("hello!")]))
    assert answer.output_text == "hello!"


def test_results_of_the_filter_of_an_earlier_snapshot_are_kept() -> None:
    filters = [{"source_type": "prompt", "content_filter_results": {"hate": {"filtered": False, "severity": "high"}}}]
    begun = {"type": "response.created", "response": {"status": "in_progress", "content_filters": filters}}
    assert response(begun, delta("hello"), completed(content_filters=None)).safety.severity == "high"


def test_a_text_that_comes_with_the_last_event_alone_is_streamed() -> None:
    with streaming(named(completed(output=[message("hello")]))) as (client, _):
        assert "".join(response_stream(client).text) == "hello"


def test_a_whole_response_in_place_of_a_stream_is_read() -> None:
    body = {"object": "response", "status": "completed", "output": [message("hello")], "usage": {"input_tokens": 3}}
    with raw(json.dumps(body).encode(), "application/json") as server, Skytells(KEY, base_url=server.url) as client:
        stream = response_stream(client)
        assert "".join(stream.text) == "hello"
        assert (stream.final.output_text, stream.final.tokens) == ("hello", (3, 0))


@pytest.mark.parametrize(
    "event", [{"detail": "boom"}, {"error": {"message": "boom"}}, {"statusCode": 503, "message": "boom"}]
)
def test_an_error_within_a_stream_of_responses_is_recognized(event: dict[str, Any]) -> None:
    with (
        streaming(named(delta("hel")) + lines(event)) as (client, _),
        pytest.raises(StreamError, match="boom") as caught,
    ):
        list(response_stream(client))
    assert caught.value.partial == "hel"


def test_done_before_the_last_event_is_no_end() -> None:
    with streaming(named(delta("hel")) + DONE) as (client, _), pytest.raises(TruncatedStreamError):
        _ = response_stream(client).final


def escaped(piece: bytes) -> str:
    """A part of a character as Python programs write it that keep the bytes that they cannot decode."""
    return json.dumps(piece.decode("utf-8", "surrogateescape"))[1:-1]


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=12), cuts=st.lists(st.integers(0, 48), max_size=4), as_bytes=st.booleans())
@example("a📢é", [2, 3, 6], True)
@example("a📢é", [2, 3, 6], False)
def test_a_character_whose_bytes_come_in_several_deltas_is_whole(text: str, cuts: list[int], as_bytes: bool) -> None:
    """As raw bytes, each event for itself no UTF-8, or as escapes."""
    text = text.replace('"', "").replace("\\", "") + "."
    data = text.encode()
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in itertools.pairwise(ends)]
    template = json.dumps(chunk({"content": "X"})).encode()
    events = [
        b"data: " + template.replace(b"X", raw_json(piece) if as_bytes else escaped(piece).encode()) + b"\n\n"
        for piece in pieces
    ]
    sent = b"".join(events) + lines(chunk({}, "stop")) + DONE
    with streaming(sent) as (client, _):
        answer = chat_stream(client)
        assert "".join(answer.text) == answer.final.text == text


def raw_json(piece: bytes) -> bytes:
    """Bytes within a text of JSON, control characters escaped."""
    return b"".join(b"\\u%04x" % byte if byte < 0x20 else bytes((byte,)) for byte in piece)

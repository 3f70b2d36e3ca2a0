"""A chat that arrives in chunks, with every quirk of the service."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from answers import DONE, PROMPT_CHUNK, SAFE, chat_stream, chunk, lines, streaming, usage_chunk
from serving import KEY, Exchange, holding, serving

from skytells_nb.client.client import Skytells
from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.errors import (
    ConnectionLostError,
    RequestTimeoutError,
    StreamError,
    TransportError,
    TruncatedStreamError,
)
from skytells_nb.types.chat import ChatCompletion

ROLE = chunk({"role": "assistant", "content": "", "refusal": None})
TWO = (ROLE, chunk({"content": "1, 2"}, content_filter_results={"violence": SAFE}), chunk({}, "stop"))


def final(*bodies: Any, done: bool = True) -> ChatCompletion:
    with streaming(lines(*bodies) + (DONE if done else b"")) as (client, _):
        return chat_stream(client).final


def test_the_whole_answer_of_a_stream() -> None:
    answer = final(PROMPT_CHUNK, *TWO, usage_chunk(18, 4))
    assert str(answer) == answer.text == "1, 2"
    assert (answer.id, answer.model, answer.created) == ("chatcmpl-1", "gpt-5.4", 1773759400)
    assert answer.finish_reason == "stop"
    assert answer.tokens == (18, 4)
    assert {(f.source, f.category) for f in answer.safety.findings} == {
        ("prompt", "hate"),
        ("prompt", "jailbreak"),
        ("completion", "violence"),
    }
    assert answer.safety.checked
    assert not answer.safety.filtered


def test_one_chunk_with_everything_is_read_as_several_are() -> None:
    """The findings of the prompt and of each completion, and their texts."""
    choices = [
        chunk({"content": text}, "stop", index, content_filter_results={category: SAFE})["choices"][0]
        for index, (text, category) in enumerate([("a", "violence"), ("b", "sexual")])
    ]
    answer = final({**PROMPT_CHUNK, "choices": choices})

    assert [choice.message.content for choice in answer.choices] == ["a", "b"]
    assert {(f.source, f.category) for f in answer.safety.findings} == {
        *(("prompt", "hate"), ("prompt", "jailbreak")),
        *(("completion", "violence"), ("completion", "sexual")),
    }


def test_the_request_says_stream_and_carries_what_was_passed() -> None:
    with streaming(lines(*TWO) + DONE) as (client, server):
        client.chat.completions.create(
            model="gpt-5.4", messages="Hi", stream=True, stream_options={"include_usage": True}
        ).close()
        (exchange,) = server.exchanges
    assert exchange.json["stream"] is True
    assert exchange.json["stream_options"] == {"include_usage": True}
    assert exchange.headers["accept"] == "text/event-stream"


def test_chunks_come_typed_and_their_texts_join_to_the_answer() -> None:
    with streaming(lines(PROMPT_CHUNK, *TWO) + DONE) as (client, _):
        chunks = list(chat_stream(client))
    assert [c.text for c in chunks] == ["", "", "1, 2", ""]
    assert chunks[0].id == ""
    assert chunks[0].choices == []
    assert chunks[2].model_extra == {"obfuscation": "x"}


def test_text_leaves_empty_pieces_out() -> None:
    with streaming(lines(PROMPT_CHUNK, *TWO) + DONE) as (client, _):
        assert list(chat_stream(client).text) == ["1, 2"]


def test_the_prompt_chunk_may_be_missing() -> None:
    assert final(*TWO).text == "1, 2"


def test_content_may_be_a_list_of_parts() -> None:
    parts = [{"type": "text", "text": "1, "}, {"text": "2"}, {"type": "other"}]
    assert final(chunk({"content": parts}), chunk({}, "stop")).text == "1, 2"


def test_the_finish_chunk_does_not_end_the_stream() -> None:
    with streaming(lines(*TWO, usage_chunk(1, 2)) + DONE) as (client, _), chat_stream(client) as stream:
        chunks = list(stream)
        assert [c.finish_reason for chunk in chunks for c in chunk.choices] == [None, None, "stop"]
        assert len(chunks) == 4
        assert (stream.final.finish_reason, stream.final.tokens) == ("stop", (1, 2))


def test_empty_text_with_length_is_an_answer() -> None:
    answer = final(ROLE, chunk({}, "length"))
    assert (answer.text, answer.finish_reason) == ("", "length")


@pytest.mark.parametrize(
    "sent", [(), (PROMPT_CHUNK,), (chunk({"content": "1, "}),), (chunk({"content": "1, "}), usage_chunk(1, 2))]
)
def test_a_terminator_without_a_finish_reason_is_no_end(sent: tuple[Any, ...]) -> None:
    with streaming(lines(*sent) + DONE) as (client, _), pytest.raises(TruncatedStreamError, match="finish reason"):
        _ = chat_stream(client).final


def test_fragments_of_tool_calls_are_put_together_by_index_also_when_they_interleave() -> None:
    def part(index: int, arguments: str = "", **more: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, **more, "function": {"arguments": arguments}}]})

    first = {"id": "call_a", "type": "function", "function": {"name": "get_", "arguments": ""}}
    answer = final(
        chunk({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **first}]}),
        chunk({"tool_calls": [{"index": 1, "id": "call_b", "function": {"name": "now", "arguments": "{"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "weather"}}]}),
        part(0, '{"city"'),
        part(1, "}"),
        part(0, ':"Oslo"}'),
        chunk({}, "tool_calls"),
    )
    message = answer.choices[0].message
    assert message.content == ""
    assert [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls] == [
        ("call_a", "get_weather", '{"city":"Oslo"}'),
        ("call_b", "now", "{}"),
    ]
    assert answer.finish_reason == "tool_calls"


def test_several_choices_grow_apart() -> None:
    answer = final(
        chunk({"content": "a"}, index=1),
        chunk({"content": "b"}),
        chunk({"content": "c"}, index=1),
        chunk({}, "stop", index=1),
        chunk({}, "length"),
    )
    assert [(c.index, c.message.content, c.finish_reason) for c in answer.choices] == [
        (0, "b", "length"),
        (1, "ac", "stop"),
    ]


def test_a_refusal_and_log_probabilities_are_gathered() -> None:
    answer = final(
        chunk({"refusal": "I "}, logprobs={"content": [{"token": "I"}]}),
        chunk({"refusal": "will not."}, "stop", logprobs={"content": [{"token": " not"}], "refusal": None}),
    )
    assert answer.choices[0].message.refusal == "I will not."
    assert answer.choices[0].logprobs == {"content": [{"token": "I"}, {"token": " not"}]}


def test_a_completion_filtered_on_the_way_keeps_what_was_sent() -> None:
    guilty = {"violence": {"filtered": True, "severity": "high"}}
    answer = final(chunk({"content": "First, take"}), chunk({}, "content_filter", content_filter_results=guilty))
    assert answer.text == "First, take"
    assert answer.finish_reason == "content_filter"
    assert answer.safety.filtered
    assert answer.safety.blocked
    assert answer.safety.severity == "high"


def annotation(results: dict[str, Any], **offsets: int) -> dict[str, Any]:
    """A chunk of the asynchronous filter: empty ids, a choice without delta."""
    choice = {"index": 0, "finish_reason": None, "content_filter_results": results, "content_filter_offsets": offsets}
    return {"id": "", "object": "", "created": 0, "model": "", "choices": [choice]}


def test_annotations_may_come_late_and_show_the_block_alone() -> None:
    answer = final(
        chunk({"content": "Text"}),
        annotation({"protected_material_text": {"detected": False, "filtered": False}}, check_offset=44),
        chunk({}, "stop"),
        annotation({"violence": {"filtered": True, "severity": "medium"}}, check_offset=44),
        annotation({}),
    )
    assert (answer.id, answer.text, answer.finish_reason) == ("chatcmpl-1", "Text", "stop")
    assert answer.safety.filtered
    assert answer.safety.severity == "medium"


def test_a_filter_that_was_down_is_not_a_pass() -> None:
    down = {"error": {"code": "content_filter_error"}}
    answer = final(chunk({"content": "x"}, "stop", content_filter_results=down))
    assert not answer.safety.checked


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.replace(b"data: ", b"data:"),
        lambda b: b.replace(b"\n", b"\r\n"),
        lambda b: b.replace(b"\n", b"\r"),
        lambda b: b"\xef\xbb\xbf" + b,
        lambda b: b": keepalive\n\n" + b.replace(b"\n\n", b"\n\n: keepalive\n\ndata:\n\n"),
        lambda b: b.rstrip(b"\n"),
    ],
    ids=["no space", "crlf", "cr", "byte-order mark", "comments", "no last blank line"],
)
def test_the_framing_may_vary(change: Any) -> None:
    with streaming(change(lines(PROMPT_CHUNK, *TWO) + DONE)) as (client, _):
        assert chat_stream(client).final.text == "1, 2"


def test_every_byte_may_come_alone() -> None:
    body = chunk({"content": "Größe 🙂"}, "stop")

    def slowly(exchange: Exchange) -> None:
        exchange.begin(transfer_encoding="chunked")
        raw = f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()
        for i in range(len(raw)):
            exchange.chunk(raw[i : i + 1])
        exchange.chunk(DONE)
        exchange.send(b"0\r\n\r\n")

    with serving(slowly) as server:
        assert chat_stream(Skytells(KEY, base_url=server.url)).final.text == "Größe 🙂"


def test_nulls_count_as_missing() -> None:
    nothing = {"id": None, "object": None, "created": None, "model": None, "choices": None}
    partly = chunk({"content": "x", "tool_calls": [{"index": 0, "function": None}]})
    assert final(nothing, partly, chunk({}, "stop")).text == "x"


# A stream that does not come to its end.


def test_a_stream_without_its_terminator_is_truncated_and_keeps_the_text() -> None:
    with (
        streaming(lines(*TWO)) as (client, _),
        pytest.raises(TruncatedStreamError, match="may be incomplete") as caught,
    ):
        _ = chat_stream(client).final
    assert caught.value.partial == "1, 2"


def test_a_stream_that_ends_within_an_event_is_truncated() -> None:
    with streaming(lines(chunk({"content": "1, "}), b'data: {"id": "chat')) as (client, _):
        stream = chat_stream(client)
        with pytest.raises(TruncatedStreamError, match="within an event") as caught:
            list(stream)
    assert caught.value.partial == "1, "


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_cut_within_a_stream_is_a_truncated_stream(reset: bool) -> None:
    def cut(exchange: Exchange) -> None:
        exchange.begin(transfer_encoding="chunked")
        exchange.chunk(lines(chunk({"content": "1, "})))
        read.wait(60)
        if reset:
            exchange.cut()

    with serving(cut) as server:
        read = server.stopping
        stream = chat_stream(Skytells(KEY, base_url=server.url))
        assert next(stream).text == "1, "
        read.set()
        with pytest.raises(TruncatedStreamError, match="was lost") as caught:
            next(stream)
    assert caught.value.partial == "1, "


def test_a_connection_cut_before_a_stream_is_lost() -> None:
    with serving(lambda e: e.cut()) as server, pytest.raises(ConnectionLostError):
        chat_stream(Skytells(KEY, base_url=server.url))


def test_silence_within_a_stream_keeps_the_text() -> None:
    def begin(exchange: Exchange) -> None:
        exchange.begin()
        exchange.send(lines(chunk({"content": "1, "})))

    with holding(begin) as server:
        stream = chat_stream(Skytells(KEY, base_url=server.url, timeout=Timeouts(idle=0.8)))
        with pytest.raises(RequestTimeoutError) as caught:
            list(stream)
        assert caught.value.partial == "1, "
        assert stream.partial().text == "1, "
        assert server.left.wait(60)


@pytest.mark.parametrize(
    "sent",
    [
        lines({"error": {"message": "It broke.", "error_id": "INFERENCE_ERROR", "code": "c", "request_id": "req_5"}}),
        lines(
            {
                "id": "",
                "choices": [],
                "error": {"message": "It broke.", "error_id": "INFERENCE_ERROR", "code": "c", "request_id": "req_5"},
            }
        ),
        b"event: error\n"
        + lines({"message": "It broke.", "error_id": "INFERENCE_ERROR", "code": "c", "request_id": "req_5"}),
        b"event: error\n"
        + lines({"error": {"message": "It broke.", "error_id": "INFERENCE_ERROR", "code": "c", "request_id": "req_5"}}),
    ],
)
def test_an_error_within_a_stream_is_raised_and_keeps_the_text(sent: bytes) -> None:
    with streaming(lines(chunk({"content": "1, "})) + sent + DONE) as (client, _):
        stream = chat_stream(client)
        with pytest.raises(StreamError, match="It broke") as caught:
            list(stream)
    error = caught.value
    assert (error.error_id, error.code, error.request_id, error.partial) == ("INFERENCE_ERROR", "c", "req_5", "1, ")


def test_an_error_within_a_stream_may_be_a_string() -> None:
    with streaming(lines({"error": "It broke."})) as (client, _), pytest.raises(StreamError, match=r"^It broke\.$"):
        list(chat_stream(client))


@pytest.mark.parametrize("bad", ["not json", "[1]", "5", '{"choices": 5}', '{"choices": [{"delta": {"content": 5}}]}'])
def test_a_malformed_chunk_is_a_stream_error_that_keeps_the_text(bad: str) -> None:
    with streaming(lines(chunk({"content": "1, "}), bad) + DONE, x_request_id="req_h") as (client, _):
        stream = chat_stream(client)
        with pytest.raises(StreamError) as caught:
            list(stream)
    assert (caught.value.partial, caught.value.request_id) == ("1, ", "req_h")


def test_a_failed_stream_never_gives_a_whole_answer_afterwards() -> None:
    with streaming(lines(chunk({"content": "1, "}), "not json")) as (client, _):
        stream = chat_stream(client)
        for _ in range(2):
            with pytest.raises(StreamError):
                _ = stream.final
        assert list(stream) == []


def test_a_stream_that_was_left_never_gives_a_whole_answer_afterwards() -> None:
    with streaming(lines(*TWO) + DONE) as (client, _):
        with chat_stream(client) as stream:
            next(stream)
        with pytest.raises(TruncatedStreamError):
            _ = stream.final


def test_so_far_is_what_has_arrived_with_a_reason_of_ours() -> None:
    with streaming(lines(PROMPT_CHUNK, *TWO) + DONE) as (client, _), chat_stream(client) as stream:
        assert stream.partial().text == ""
        assert stream.partial().finish_reason == "interrupted"
        for piece in stream:
            if piece.text:
                break
        assert (stream.partial().text, stream.partial().finish_reason) == ("1, 2", "interrupted")
        assert stream.partial(finish_reason=None).finish_reason is None
        assert stream.partial().safety.checked


def test_final_can_be_asked_twice() -> None:
    with streaming(lines(*TWO) + DONE, x_request_id="req_s") as (client, _):
        stream = chat_stream(client)
        assert stream.final.text == stream.final.text == "1, 2"
        assert stream.final.request_id == stream.request_id == "req_s"


# Leaving early.


def endless(exchange: Exchange) -> None:
    exchange.begin()
    exchange.send(lines(chunk({"content": "1, "})))


def test_leaving_the_with_statement_closes_the_connection() -> None:
    with holding(endless) as server:
        with chat_stream(Skytells(KEY, base_url=server.url)) as stream:
            assert next(stream).text == "1, "
        assert server.left.wait(60)


@pytest.mark.parametrize("by_text", [False, True])
def test_leaving_a_bare_loop_closes_the_connection_without_the_collector(by_text: bool) -> None:
    with holding(endless) as server:
        client = Skytells(KEY, base_url=server.url)
        gc.disable()
        try:
            for _ in chat_stream(client).text if by_text else chat_stream(client):
                break
            assert server.left.wait(60)
        finally:
            gc.enable()


def test_an_error_in_the_loop_closes_the_connection() -> None:
    with holding(endless) as server:
        client = Skytells(KEY, base_url=server.url)
        with pytest.raises(ZeroDivisionError), chat_stream(client) as stream:
            _ = [1 / len(chunk.choices[1:]) for chunk in stream]
        assert server.left.wait(60)


def test_the_connection_is_closed_at_the_terminator_whatever_follows() -> None:
    def done_and_silent(exchange: Exchange) -> None:
        exchange.begin()
        exchange.send(lines(*TWO) + DONE)

    with holding(done_and_silent) as server:
        assert chat_stream(Skytells(KEY, base_url=server.url)).final.text == "1, 2"
        assert server.left.wait(60)


def test_aborting_the_client_ends_the_stream_with_its_text() -> None:
    with holding(endless) as server:
        client = Skytells(KEY, base_url=server.url)
        stream = chat_stream(client)
        next(stream)
        client.abort()
        with pytest.raises(TransportError, match="stopped") as caught:
            next(stream)
    assert caught.value.partial == "1, "

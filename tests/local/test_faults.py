"""All faults, seen from the client's side of a real socket."""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_fakes import chat_body, client_of, events, fake_server, raw_exchange, send_raw
from served import wait_until_idle

from skytells_nb.errors import ContentPolicyError, InputError, RateLimitError, ServerError, api_error
from skytells_nb.local import Faults, LocalServer
from skytells_nb.local.errors import ERROR_CATALOG

EMBED: dict[str, Any] = {"model": "skytells-embed-3-small", "input": ["a b", "c d", "e f"]}
STREAM = chat_body("one two three four five six", stream=True)


def with_fault(client: httpx.Client, path: str, body: dict[str, Any], fault: str) -> httpx.Response:
    return client.post(path, json=body, headers={"x-skytells-fault": fault})


# -- parsing


def test_flags_are_parsed() -> None:
    """Numbers, flags and names, separated by commas or semicolons, with dashes as underscores."""
    assert Faults.parse("latency=0.25, no-done, times=2") == Faults(latency=0.25, no_done=True, times=2)
    assert Faults.parse("cut=body; retry_after=Wed, 21 Oct 2026 07:28:00 GMT") == Faults(
        cut="body", retry_after="Wed, 21 Oct 2026 07:28:00 GMT"
    )
    assert Faults.parse({"stream_cut_after": 3, "no_done": False}) == Faults(stream_cut_after=3)
    assert str(Faults.parse("no_done=yes,times=2")) == "times=2, no_done=True"


@pytest.mark.parametrize(
    "text",
    ["lateness=1", "latency=soon", "cut=sideways", "rate=2", "status=NO_SUCH", "no_done=perhaps", "block_status=418"],
)
def test_invalid_flags_are_named(text: str) -> None:
    """InputError with the name of the flag."""
    with pytest.raises(InputError, match=text.split("=", maxsplit=1)[0]):
        Faults.parse(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("latency=soon", "latency must be a valid number, unable to parse string as a number, got 'soon'."),
        ("cut=sideways", "cut must be 'before', 'headers' or 'body', got 'sideways'."),
        ({"times": 2.5}, "times must be a valid integer, got a number with a fractional part, got 2.5."),
        ("no_done=perhaps", "no_done must be a valid boolean, unable to interpret input, got 'perhaps'."),
    ],
)
def test_the_message_names_the_expected_value(given: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        Faults.parse(given)
    assert str(raised.value) == message


def test_a_status_may_be_a_number_and_a_flag_without_a_value_is_true() -> None:
    assert Faults.parse({"status": 503, "times": None}) == Faults(status="503")
    assert Faults.parse("no-done, crlf=off, keepalive=ON") == Faults(no_done=True, keepalive=True)


@settings(deadline=None)
@given(st.binary(max_size=50), st.floats(0.05, 0.95))
def test_the_rate_is_reproducible(body: bytes, rate: float) -> None:
    """By body and attempt; over many attempts the share is about the rate."""
    faults = Faults(status="500", rate=rate)
    outcomes = [faults.for_attempt(body, attempt).status is not None for attempt in range(400)]
    assert outcomes == [faults.for_attempt(body, attempt).status is not None for attempt in range(400)]
    assert abs(sum(outcomes) / 400 - rate) < 0.15


# -- full responses


@pytest.mark.parametrize("error_id", sorted(ERROR_CATALOG))
def test_every_error_of_the_catalog_can_be_requested(client: httpx.Client, error_id: str) -> None:
    """With its status, type, code and id; each 429 has a Retry-After."""
    answer = with_fault(client, "/embeddings", EMBED, f"status={error_id}")
    entry = ERROR_CATALOG[error_id]
    error = answer.json()["error"]
    assert answer.status_code == entry.status == error["status"]
    assert (error["error_id"], error["type"], error["code"]) == (error_id, entry.type, entry.code)
    assert ("retry-after" in answer.headers) is (entry.status == 429)


def test_an_error_can_be_requested_by_its_status(client: httpx.Client) -> None:
    """Also by one that is not in the catalog."""
    for status in (400, 408, 429, 451, 500, 502, 503, 504, 529):
        answer = with_fault(client, "/chat/completions", chat_body("x"), f"status={status}")
        assert answer.status_code == status
    assert isinstance(api_error(529, answer.json()), ServerError)


@pytest.mark.parametrize(
    ("fault", "value"),
    [
        ("retry_after=7", "7"),
        ("retry_after=Wed, 21 Oct 2026 07:28:00 GMT;", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("retry_after=none", None),
        ("huge_retry_after", "86400"),
    ],
)
def test_retry_after_can_be_set(client: httpx.Client, fault: str, value: str | None) -> None:
    """Seconds, a date, none, or a day."""
    answer = with_fault(client, "/embeddings", EMBED, f"status=429; {fault}")
    assert answer.headers.get("retry-after") == value
    assert isinstance(api_error(429, answer.json()), RateLimitError)


def test_times_limits_the_faults_to_the_first_attempts(client: httpx.Client) -> None:
    """Of each body separately."""
    bodies = [{**EMBED, "input": f"times {n}"} for n in range(2)]
    seen = [with_fault(client, "/embeddings", body, "status=503; times=2").status_code for body in bodies * 3]
    assert seen == [503, 503, 503, 503, 200, 200]


def test_a_header_overrides_the_faults_of_the_server() -> None:
    """Flags in the header are replaced, the others remain."""
    with fake_server(faults=Faults(status="500", retry_after="3")) as server, client_of(server) as client:
        assert client.post("/embeddings", json=EMBED).status_code == 500
        answer = with_fault(client, "/embeddings", EMBED, "status=429")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
        answer = with_fault(client, "/embeddings", EMBED, "times=0")
        assert answer.status_code == 200


def test_an_unknown_fault_is_status_400(client: httpx.Client) -> None:
    """So that a misspelled test does not pass."""
    answer = with_fault(client, "/embeddings", EMBED, "explode=1")
    assert (answer.status_code, answer.json()["error"]["error_id"]) == (400, "INVALID_REQUEST")
    assert "explode" in answer.json()["error"]["message"]


def test_latency_grows_with_the_rows(client: httpx.Client) -> None:
    """The delay is at least the requested one."""
    started_at = time.monotonic()
    assert with_fault(client, "/embeddings", EMBED, "latency=0.1; latency_per_row=0.1").status_code == 200
    assert time.monotonic() - started_at >= 0.4


def test_a_redirect_points_to_another_origin(client: httpx.Client) -> None:
    """Status 302; to the given URL, if there is one."""
    answer = with_fault(client, "/embeddings", EMBED, "redirect")
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("https://elsewhere.invalid/")
    answer = with_fault(client, "/embeddings", EMBED, "redirect=http://127.0.0.1:9/x")
    assert answer.headers["location"] == "http://127.0.0.1:9/x"


def test_html_error_is_the_page_of_a_proxy(client: httpx.Client) -> None:
    """Status 502, not JSON."""
    answer = with_fault(client, "/embeddings", EMBED, "html_error")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (502, "text/html")
    assert isinstance(api_error(502, answer.text), ServerError)


# -- cut connections, on a plain socket


@pytest.mark.parametrize("path", ["/embeddings", "/chat/completions"])
def test_cut_before_sends_nothing(server: LocalServer, path: str) -> None:
    """The connection accepts the request and closes."""
    assert raw_exchange(server, path, EMBED if path == "/embeddings" else STREAM, "cut=before") == []


def test_cut_headers_stops_within_the_headers(server: LocalServer) -> None:
    """A status line without the end of the headers."""
    received = b"".join(raw_exchange(server, "/embeddings", EMBED, "cut=headers"))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in received


def test_cut_body_stops_within_the_body(server: LocalServer) -> None:
    """Complete headers, fewer bytes than they declare; nothing counts as answered."""
    before = wait_until_idle(server, "embeddings").answered
    received = b"".join(raw_exchange(server, "/embeddings", EMBED, "cut=body"))
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    assert 0 < len(body) < lengths[0]
    assert wait_until_idle(server, "embeddings").answered == before


def test_a_client_sees_each_cut_as_a_lost_connection(client: httpx.Client) -> None:
    """The next request succeeds."""
    for place in ("before", "headers", "body"):
        with pytest.raises(httpx.RemoteProtocolError):
            with_fault(client, "/embeddings", EMBED, f"cut={place}")
        assert client.post("/embeddings", json=EMBED).status_code == 200


# -- streams


def test_a_stream_is_cut_after_its_chunks(server: LocalServer) -> None:
    """After exactly that many events the connection closes, without the end of the chunked body."""
    received = b"".join(raw_exchange(server, "/chat/completions", STREAM, "stream_cut_after=4"))
    assert received.count(b"data: {") == 4
    assert b"[DONE]" not in received
    assert not received.endswith(b"0\r\n\r\n")


def test_a_cut_after_the_last_chunk_drops_the_terminator(server: LocalServer) -> None:
    """A stream that is cut is never complete."""
    received = b"".join(raw_exchange(server, "/chat/completions", STREAM, "stream_cut_after=100"))
    assert b"[DONE]" not in received


def test_a_stalled_stream_pauses_and_then_continues(client: httpx.Client) -> None:
    """A client with a shorter timeout fails; one that waits gets the rest."""
    headers = {"x-skytells-fault": "stream_stall_after=3; stall=30"}
    short = httpx.Timeout(20, read=0.5)
    with (
        pytest.raises(httpx.ReadTimeout),
        client.stream("POST", "/chat/completions", json=STREAM, headers=headers, timeout=short) as answer,
    ):
        for _ in answer.iter_raw():
            pass
    whole = with_fault(client, "/chat/completions", STREAM, "stream_stall_after=3; stall=0.05")
    assert events(whole.text)[-1] == (None, "[DONE]")


def test_no_done_ends_without_the_terminator(client: httpx.Client) -> None:
    """Chat without [DONE], responses without the last snapshot; the HTTP body itself is complete."""
    chat = events(with_fault(client, "/chat/completions", STREAM, "no_done").text)
    assert chat[-1][1]["choices"][0]["finish_reason"] == "stop"
    request = {"model": "gpt-5", "input": "hi", "stream": True}
    found = events(with_fault(client, "/responses", request, "no_done").text)
    assert found[-1][0] == "response.output_item.done"


def test_a_malformed_chunk_is_not_json(client: httpx.Client) -> None:
    """After the requested number of valid ones."""
    lines = [
        line.removeprefix("data: ")
        for line in with_fault(client, "/chat/completions", STREAM, "malformed_chunk=2").text.splitlines()
        if line.startswith("data: {")
    ]
    for line in lines[:2]:
        json.loads(line)
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(lines[2])


def test_an_error_within_a_stream_ends_it(client: httpx.Client) -> None:
    """Chat: a data line with an error; responses: an event named error. Neither has a terminator."""
    last = events(with_fault(client, "/chat/completions", STREAM, "stream_error=3").text)[-1]
    assert last[1]["error"]["error_id"] == "INFERENCE_ERROR"
    request = {"model": "gpt-5", "input": "hi", "stream": True}
    name, data = events(with_fault(client, "/responses", request, "stream_error=3").text)[-1]
    assert (name, data["type"], data["code"]) == ("error", "error", "service_error")


def test_the_framing_can_vary(client: httpx.Client) -> None:
    """No space, CRLF, comments, no prompt chunk, content as a list: the events are the same."""
    plain = with_fault(client, "/chat/completions", STREAM, "no_prompt_chunk")
    assert plain.text.startswith('data: {"id":"chatcmpl-')
    tight = with_fault(client, "/chat/completions", STREAM, "no_space")
    assert "data: " not in tight.text
    assert "data:[DONE]" in tight.text
    crlf = with_fault(client, "/chat/completions", STREAM, "crlf")
    assert b"\r\n\r\n" in crlf.content
    assert b"\n" not in crlf.content.replace(b"\r\n", b"")
    alive = with_fault(client, "/chat/completions", STREAM, "keepalive")
    assert alive.text.count(": keepalive\n\n") == alive.text.count("data: ")
    for answer in (tight, crlf, alive):
        texts = [c["delta"].get("content", "") for _, d in events(answer.text)[:-1] for c in d["choices"]]
        assert "".join(texts) == "one two three four five six"
    parts = events(with_fault(client, "/chat/completions", STREAM, "list_content").text)
    assert parts[2][1]["choices"][0]["delta"]["content"] == [{"type": "text", "text": "one "}]


def test_a_character_is_split_between_two_reads(server: LocalServer) -> None:
    """Some piece, each sent by itself a moment after the one before, ends within a character."""
    rest = b"".join(raw_exchange(server, "/chat/completions", STREAM, "split_utf8")).partition(b"\r\n\r\n")[2]
    pieces = []
    # By their frames: a client that is slow may read several at once.
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        pieces.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]

    def is_whole(piece: bytes) -> bool:
        try:
            piece.decode()
        except UnicodeDecodeError:
            return False
        return True

    assert not all(map(is_whole, pieces))


# -- safety


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_can_be_blocked_in_both_ways(client: httpx.Client, stream: bool) -> None:
    """451 as documented, or 400 as the upstream responds; JSON also for a stream; one error class for both."""
    documented = with_fault(client, "/chat/completions", chat_body("x", stream=stream), "block_prompt")
    assert (documented.status_code, documented.json()["error"]["param"]) == (451, "messages")
    upstream = with_fault(client, "/chat/completions", chat_body("x", stream=stream), "block_prompt; block_status=400")
    error = upstream.json()["error"]
    assert (upstream.status_code, error["code"], error["param"]) == (400, "content_filter", "prompt")
    assert error["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    for answer in (documented, upstream):
        blocked = api_error(answer.status_code, answer.json())
        assert isinstance(blocked, ContentPolicyError)
        assert blocked.safety["violence"]["filtered"] is True
    request = {"model": "gpt-5", "input": "x"}
    error = with_fault(client, "/responses", request, "block_prompt; block_status=400").json()["error"]
    assert error["content_filters"][0]["blocked"] is True
    assert "innererror" not in error


def test_a_completion_can_be_filtered(client: httpx.Client) -> None:
    """Some text, then finish_reason content_filter with the results, and no usage chunk although it was requested."""
    body = {**STREAM, "stream_options": {"include_usage": True}}
    chunks = [
        data for _, data in events(with_fault(client, "/chat/completions", body, "filter_completion=default").text)
    ]
    assert chunks[-1] == "[DONE]"
    last = chunks[-2]["choices"][0]
    assert (last["delta"], last["finish_reason"]) == ({}, "content_filter")
    assert last["content_filter_results"]["violence"] == {"filtered": True, "severity": "high"}
    assert any(c["delta"].get("content") for chunk in chunks[1:-2] for c in chunk["choices"])
    whole = with_fault(client, "/chat/completions", chat_body("one two"), "filter_completion=default").json()
    assert whole["choices"][0]["finish_reason"] == "content_filter"
    for stream in (False, True):
        request = {"model": "gpt-5", "input": "one two", "stream": stream}
        answer = with_fault(client, "/responses", request, "filter_completion=default")
        snapshot = events(answer.text)[-1][1]["response"] if stream else answer.json()
        assert snapshot["status"] == "incomplete"
        assert snapshot["incomplete_details"] == {"reason": "content_filter"}
        assert snapshot["content_filters"][1]["blocked"] is True


def test_an_async_filter_annotates_after_the_end(client: httpx.Client) -> None:
    """All of the text and a normal stop; then annotations without delta, one of them filtered."""
    found = events(with_fault(client, "/chat/completions", STREAM, "filter_completion=async").text)
    chunks = [data for _, data in found[:-1]]
    finish = next(n for n, chunk in enumerate(chunks) if chunk["choices"] and chunk["choices"][0].get("finish_reason"))
    assert chunks[finish]["choices"][0]["finish_reason"] == "stop"
    late = chunks[finish + 1 :]
    assert late
    assert all(chunk["id"] == "" and "delta" not in chunk["choices"][0] for chunk in late)
    assert all("content_filter_offsets" in chunk["choices"][0] for chunk in late)
    results = [v for chunk in late for v in chunk["choices"][0]["content_filter_results"].values()]
    assert sum(result["filtered"] for result in results) == 1
    before = [c["content_filter_results"] for chunk in chunks[:finish] for c in chunk["choices"]]
    assert not any(v.get("filtered") for results in before for v in results.values())


def test_an_unavailable_filter_reports_an_error(client: httpx.Client) -> None:
    """An ``error`` in place of all filter results."""
    body = with_fault(client, "/chat/completions", chat_body("x"), "filter_down").json()
    filters = [body["prompt_filter_results"][0], body["choices"][0]]
    assert [v["content_filter_results"]["error"]["code"] for v in filters] == ["content_filter_error"] * 2
    body = with_fault(client, "/responses", {"model": "gpt-5", "input": "x"}, "filter_down").json()
    sources = [(f["source_type"], f["content_filter_results"]["error"]["code"]) for f in body["content_filters"]]
    assert sources == [("prompt", "content_filter_error"), ("completion", "content_filter_error")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_can_be_all_reasoning(client: httpx.Client, stream: bool) -> None:
    """Empty text, finish_reason length, the whole token limit in reasoning tokens."""
    body = chat_body("x", max_tokens=40, stream=stream, stream_options={"include_usage": True})
    answer = with_fault(client, "/chat/completions", body, "empty_length")
    if stream:
        chunks = [data for _, data in events(answer.text)[:-1]]
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        assert not any(choice["delta"].get("content") for choice in choices)
        assert [choice["finish_reason"] for choice in choices if choice.get("finish_reason")] == ["length"]
        usage = chunks[-1]["usage"]
    else:
        choice = answer.json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")
        usage = answer.json()["usage"]
    assert usage["completion_tokens"] == 40
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 40


# -- vectors


def test_vectors_can_be_invalid(client: httpx.Client) -> None:
    """In number, length, value and index."""

    def vectors(fault: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = with_fault(client, "/embeddings", {**EMBED, **parameters}, fault)
        assert answer.status_code == 200
        return json.loads(answer.text)["data"]  # type: ignore[no-any-return]

    assert len(vectors("wrong_count")) == 2
    assert len(vectors("wrong_count", input="alone")) == 2
    assert [len(item["embedding"]) for item in vectors("wrong_dimension")] == [16, 16, 8]
    assert math.isnan(vectors("nan")[0]["embedding"][0])
    assert vectors("nan", encoding_format="base64")[0]["embedding"].startswith("AADAfw")
    assert [item["index"] for item in vectors("bad_index")] == [0, 1, 10]
    with pytest.raises(ValueError, match=r"base64|padding|characters|Excess"):
        base64.b64decode(vectors("bad_base64", encoding_format="base64")[0]["embedding"], validate=True)


def test_base64_can_be_rejected(client: httpx.Client) -> None:
    """Status 400 with the parameter; floats are accepted."""
    rejected = with_fault(client, "/embeddings", {**EMBED, "encoding_format": "base64"}, "float_only")
    assert (rejected.status_code, rejected.json()["error"]["param"]) == (400, "encoding_format")
    assert with_fault(client, "/embeddings", EMBED, "float_only").status_code == 200


def test_faults_do_not_delay_other_requests(server: LocalServer, client: httpx.Client) -> None:
    """While one request waits for its latency, another gets its response."""
    wait_until_idle(server, "embeddings")
    with send_raw(server, "/embeddings", EMBED, "latency=100"):
        while not server.stats["embeddings"].in_flight:
            threading.Event().wait(0.005)
        assert client.post("/embeddings", json=EMBED).status_code == 200
        assert [record.faults for record in server.stats.records[-2:]] == ["latency=100.0", ""]
        assert server.stats.records[-2].status == 0


@pytest.mark.parametrize("status", [*range(400, 600, 7), 418, 499, 520, 599])
def test_every_status_of_an_error_can_be_requested(client: httpx.Client, status: int) -> None:
    """Also those that have no name in the standard, as proxies send them."""
    answer = with_fault(client, "/chat/completions", chat_body("x"), f"status={status}")
    assert answer.status_code == answer.json()["error"]["status"] == status


@pytest.mark.parametrize(
    "fault",
    [
        *(f"status={status}" for status in (0, 99, 100, 200, 204, 302, 399, 600, 999, "0404", "-1", "4e2")),
        *("latency=-1", "latency=nan", "latency=inf", "stall=inf", "latency_per_row=-0.1", "times=-1"),
        *("stream_cut_after=-1", "stream_error=-2", "malformed_chunk=-1", "stream_stall_after=-1"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(client: httpx.Client, fault: str) -> None:
    with pytest.raises(InputError, match="must be"):
        Faults.parse(fault)
    answer = with_fault(client, "/chat/completions", chat_body("x"), fault)
    assert answer.status_code == 400
    assert answer.json()["error"]["error_id"] == "INVALID_REQUEST"


@pytest.mark.parametrize("name", ["retry_after", "redirect"])
@pytest.mark.parametrize("value", ["a\r\nx-other: 1", "é", "\x00"])
def test_a_value_that_is_no_headers_is_refused(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{name} is a header's value"):
        Faults.parse({name: value})


def test_what_is_wrong_with_a_fault_is_said_in_few_words(client: httpx.Client) -> None:
    long = "x" * 20_000
    for fault in (f"status={long}", f"{long}=1", f"latency={long}", f"rate={long}"):
        answer = with_fault(client, "/chat/completions", chat_body("x"), fault)
        assert answer.status_code == 400
        assert len(answer.content) < 2_500

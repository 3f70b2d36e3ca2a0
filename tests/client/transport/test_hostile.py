"""Responses that are made to do harm, or are not HTTP at all: a library error of their own call, within its limits."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import itertools
import json
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import KEY, Exchange, ScriptedServer, serving

from skytells_nb.client.client import Skytells
from skytells_nb.client.transport import http11
from skytells_nb.client.transport.http_response import (
    ERROR_BODY_BYTES,
    BodyReader,
    announced_length,
    decode_body,
    read_final_head,
    read_head,
)
from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.client.transport.transport import Transport
from skytells_nb.errors import (
    BadRequestError,
    ConfigurationError,
    InvalidResponseError,
    RateLimitError,
    RequestTimeoutError,
    ResponseTooLargeError,
    ServerError,
    SkytellsError,
    TransportError,
)

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
QUICK = Timeouts(connect=5, read=5, idle=5, write=5, total=5, stream=5)


class Noise:
    """What a server sends next, whatever it is asked."""

    data = b""


@pytest.fixture(scope="module")
def noisy() -> Iterator[tuple[Noise, ScriptedServer]]:
    noise = Noise()
    with serving(lambda exchange: exchange.send(noise.data)) as server:
        yield noise, server


HEADS = st.sampled_from(
    [
        b"",
        OK,
        OK + b"\r\n",
        CHUNKED,
        EVENTS + b"\r\n",
        EVENTS + b"transfer-encoding: chunked\r\n\r\n",
        OK + b"content-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 500 X\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ]
)
PARTS = st.sampled_from(
    [
        *(b"content-length: " + n for n in (b"-5", b"1e9", b"9" * 5000, b"0x10", b"\xb2", b"5, 6", b"")),
        *(b"retry-after: " + n for n in (b"9" * 400, b"nan", b"Thu, 99 Foo 99999999")),
        *(b"x-skytells-ratelimit-limit-requests: " + n for n in (b"9" * 5000, b"inf", b"-1")),
        *(n + b"\r\n{}" for n in (b"-5", b"+5", b"0x5", b"5_0", b"f" * 40, b"5;" + b"x" * 5000, b"")),
        *(b"data: " + n + b"\n\n" for n in (b"[" * 3000, b"9" * 5000, b"null", b"{}", b"\xff", b"[DONE]")),
        b"[" * 100_000,
        b'{"error": ' * 3000,
        b'{"a": 1e999999}',
        b'{"choices": [{"index": ' + b"9" * 5000 + b"}]}",
        b"\r\n",
        b"\r\n\r\n",
    ]
)


@settings(max_examples=60)
@given(HEADS, st.lists(PARTS | st.binary(max_size=80), max_size=5))
def test_whatever_bytes_come_a_call_ends_with_an_answer_or_a_library_error(
    noisy: tuple[Noise, ScriptedServer], head: bytes, parts: list[bytes]
) -> None:
    noise, server = noisy
    noise.data = head + b"\r\n".join(parts)
    messages = [{"role": "user", "content": "hi"}]
    with Skytells(KEY, base_url=server.url, timeout=QUICK) as client:
        for call in (
            lambda: client.chat.completions.create(model="m", messages=messages),
            lambda: client.embeddings.create(model="m", input=["a"]),
            lambda: client.models.list(),
            lambda: client.responses.create(model="m", input="hi", stream=True).final,
        ):
            said = ""
            try:
                call()
            except SkytellsError as problem:
                said = str(problem)
            assert len(said) < 20_000
            assert KEY not in said


def body_of(data: bytes, fields: bytes, max_bytes: int = 10_000, status: bytes = b"200 OK") -> BodyReader:
    stream = io.BufferedReader(io.BytesIO(b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n" + data))  # type: ignore[arg-type]
    return BodyReader(stream, read_head(stream), max_bytes)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=12), st.integers(1, 400))
def test_a_body_in_chunks_is_the_body_that_was_sent(pieces: list[bytes], size: int) -> None:
    """Read whole, in pieces, and piece by piece; what follows it is left in the stream."""
    data = b"".join(b"%X;name=x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\ntrailer: x\r\n\r\n"
    fields = b"transfer-encoding: chunked\r\n"
    whole = b"".join(pieces)
    assert body_of(data, fields).read() == whole
    reader = body_of(data, fields)
    assert b"".join(iter(lambda: reader.read_some(size), b"")) == whole
    reader = body_of(data + b"HTTP/1.1", fields)
    first = reader.read(size)
    assert len(first) >= min(size, len(whole))
    assert first + reader.read() == whole
    assert reader._stream.read() == b"HTTP/1.1"


@given(st.binary(max_size=200))
def test_no_bytes_break_a_body_in_chunks(noise: bytes) -> None:
    with contextlib.suppress(http.client.HTTPException, ResponseTooLargeError):
        body_of(noise, b"transfer-encoding: chunked\r\n").read()


@pytest.mark.parametrize("size", [b"-5", b"+5", b"0x5", b"5_0", b"", b" ", b"g", b"f" * 16, b"\xd9\xa5"])
def test_a_size_of_a_chunk_is_hexadecimal_digits(size: bytes) -> None:
    with pytest.raises(http.client.HTTPException, match="size of a chunk"):
        body_of(size + b"\r\n{}", b"transfer-encoding: chunked\r\n").read()


@pytest.mark.parametrize(
    ("value", "length"),
    [("5", 5), ("0005", 5), ("0", 0), ("9" * 5000, 10**18), ("-5", None), ("5 ", None), ("²", None), ("", None)],
)
def test_a_length_of_any_digits_is_a_number(value: str, length: int | None) -> None:
    assert announced_length({"content-length": value}) == length


def test_informational_responses_without_end_are_given_up() -> None:
    endless = io.BufferedReader(io.BytesIO(b"HTTP/1.1 102 Processing\r\n\r\n" * 5000))  # type: ignore[arg-type]
    with pytest.raises(http.client.HTTPException, match="informational"):
        read_final_head(endless)


def test_fields_after_a_body_without_end_are_given_up() -> None:
    with pytest.raises(http.client.HTTPException, match="fields after its body"):
        body_of(b"0\r\n" + b"a: b\r\n" * 5000, b"transfer-encoding: chunked\r\n").read()


def without_end(head: bytes, piece: bytes) -> Callable[[Exchange], None]:
    """A script that sends the head, then the piece again and again until the client leaves."""

    def script(exchange: Exchange) -> None:
        exchange.send(head)
        while True:
            exchange.send(piece * 50)

    return script


ENDLESS = {
    "until the connection ends": (OK + b"\r\n", b" " * 1000),
    "in chunks": (CHUNKED, b"3e8\r\n" + b" " * 1000 + b"\r\n"),
    "in small chunks": (CHUNKED, b"1;" + b"x" * 1000 + b"\r\n \r\n"),
    "as events": (EVENTS + b"\r\n", b": still here\n\n" * 50),
    "as one line": (EVENTS + b"\r\n", b"data" * 250),
}


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_response_without_end_is_read_to_the_limit(kind: str, streaming: bool) -> None:
    with serving(without_end(*ENDLESS[kind])) as server:
        client = Transport(KEY, base_url=server.url, max_answer_mb=0.3)
        call = (
            (lambda: list(client.stream("/responses", b"{}"))) if streaming else lambda: [client.send("GET", "/models")]
        )
        with pytest.raises(ResponseTooLargeError, match=r"must be at most 0.3 MB, got more. Raise max_answer_mb="):
            call()


@pytest.mark.parametrize("length", [b"300001", b"1000000000000000", b"9" * 5000])
def test_an_announced_length_beyond_the_limit_is_not_awaited(length: bytes) -> None:
    """Nor is memory reserved for it."""
    head = OK + b"x-request-id: req_1\r\ncontent-length: " + length + b"\r\n\r\n{"
    with serving(lambda exchange: (exchange.send(head), exchange.client_left())[0]) as server:
        client = Transport(KEY, base_url=server.url, max_answer_mb=0.3)
        with pytest.raises(ResponseTooLargeError, match="max_answer_mb") as caught:
            client.send("GET", "/models")
    assert caught.value.request_id == "req_1"


def test_a_chunk_beyond_the_limit_is_not_awaited() -> None:
    script: Callable[[Exchange], Any] = lambda e: (e.send(CHUNKED + b"fffffffffff\r\n{"), e.client_left())  # noqa: E731
    with serving(script) as server, pytest.raises(ResponseTooLargeError):
        Transport(KEY, base_url=server.url).send("GET", "/models")


@pytest.mark.parametrize("framing", [b"", b"content-length: 1000000000000000\r\n", b"transfer-encoding: chunked\r\n"])
def test_an_error_without_end_is_its_error(framing: bytes) -> None:
    """The start of its body says what is wrong."""
    piece = b"3e8\r\n" + b"x" * 1000 + b"\r\n" if b"chunked" in framing else b"x" * 1000
    head = b"HTTP/1.1 503 Busy\r\ncontent-type: text/plain\r\n" + framing + b"\r\n"
    with serving(without_end(head, piece)) as server:
        client = Transport(KEY, base_url=server.url)
        with pytest.raises(ServerError, match="xxx"):
            client.send("GET", "/models")
        with pytest.raises(ServerError, match="xxx"):
            client.stream("/responses", b"{}")
    assert ERROR_BODY_BYTES < 10_000_000


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"error": ' * 200_000, b"9" * 200_000, b'"\\ud800"'])
@pytest.mark.parametrize(("status", "kind"), [(400, BadRequestError), (503, ServerError)])
def test_json_that_python_cannot_hold_is_the_error_of_its_status(body: bytes, status: int, kind: type) -> None:
    with serving(lambda exchange: exchange.reply(body, status)) as server, pytest.raises(kind) as caught:
        Transport(KEY, base_url=server.url).send("GET", "/models")
    assert len(str(caught.value)) < 5_000


def trickling(head: bytes, piece: bytes = b" ") -> Callable[[Exchange], None]:
    def script(exchange: Exchange) -> None:
        exchange.send(head)
        while True:
            time.sleep(0.05)
            exchange.send(piece)

    return script


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"H"),
        (OK + b"\r\n", b" "),
        (OK + b"content-length: 9999\r\n\r\n", b" "),
        (CHUNKED, b"1\r\n \r\n"),
        (CHUNKED + b"5;", b"x"),
        (OK, b"a: b\r\n"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
)
def test_a_response_that_trickles_ends_at_its_deadline(head: bytes, piece: bytes) -> None:
    """Its bytes come often enough that it is never silent."""
    with serving(trickling(head, piece)) as server:
        client = Transport(KEY, base_url=server.url, timeouts=Timeouts(read=20, total=0.6))
        with pytest.raises(RequestTimeoutError, match=r"had not completed its response within 0.6 s"):
            client.send("GET", "/models")


def test_a_stream_that_only_says_that_it_is_alive_ends_at_its_deadline() -> None:
    with serving(trickling(EVENTS + b"\r\n", b": ping\n\n")) as server:
        client = Transport(KEY, base_url=server.url, timeouts=Timeouts(idle=20, stream=0.6))
        with pytest.raises(RequestTimeoutError, match=r"within 0.6 s"):
            list(client.stream("/responses", b"{}"))


class Limited(socket.socket):
    """Notes its limits for silence; the first read of each response gets a part of its head."""

    limits: list[float | None]

    def recv(self, size: int, flags: int = 0) -> bytes:
        return super().recv(min(size, 10), flags)

    def settimeout(self, value: float | None) -> None:
        self.limits.append(value)
        super().settimeout(value)


def test_a_connection_serves_on_after_a_slow_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the deadline left of the limit for silence does not stay with the connection."""
    sock = Limited(socket.AF_INET, socket.SOCK_STREAM)
    sock.limits = []

    def connect(host: str, port: int, deadline: float) -> socket.socket:
        sock.connect((host, port))
        return sock

    def script(exchange: Exchange) -> None:
        exchange.send(OK + b"content-length: 2\r\n\r\n{}")
        exchange._sock.recv(65_536)
        exchange.send(OK + b"content-length: 2\r\n\r\n{}")

    monkeypatch.setattr(http11, "_connected", connect)
    with serving(script) as server:
        client = Transport(KEY, base_url=server.url, timeouts=Timeouts(read=20, total=15))
        assert [client.send("GET", "/models").content for _ in range(2)] == [b"{}", b"{}"]
        assert len(server.exchanges) == 1
        client.close()
    # Each response had the whole limit, and then what was left to its deadline.
    first, left, second, also_left = sock.limits
    assert first == second == 20
    assert 0 < left <= 15  # type: ignore[operator]
    assert 0 < also_left <= 15  # type: ignore[operator]


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "deflate"])
def test_a_response_that_grows_when_it_is_decompressed_is_too_large(encoding: str) -> None:
    body = b" " * 3_000_000
    for name in encoding.split(", "):
        body = zlib.compress(body, 9) if name == "deflate" else gzip.compress(body, 9)
    with serving(lambda exchange: exchange.reply(body, content_encoding=encoding)) as server:
        with pytest.raises(ResponseTooLargeError):
            Transport(KEY, base_url=server.url, max_answer_mb=2).send("GET", "/models")
        assert Transport(KEY, base_url=server.url, max_answer_mb=4).send("GET", "/models").content.strip() == b""


@given(st.binary(max_size=500), st.sampled_from(["gzip", "deflate", "raw"]))
def test_a_compressed_body_is_read_as_it_was(data: bytes, encoding: str) -> None:
    if encoding == "raw":  # of servers that take "deflate" at its word
        maker = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed, encoding = maker.compress(data) + maker.flush(), "deflate"
    else:
        packed = gzip.compress(data) if encoding == "gzip" else zlib.compress(data)
    assert decode_body(packed, f"identity, {encoding.upper()}", 1000, {}) == data


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "aes128gcm", "gzip, br"])
def test_an_encoding_that_cannot_be_read_is_named(encoding: str) -> None:
    with serving(lambda exchange: exchange.reply(b"{}", content_encoding=encoding)) as server:
        client = Transport(KEY, base_url=server.url)
        with pytest.raises(InvalidResponseError, match=f"gzip or deflate, got .*{encoding.rpartition(' ')[2]}"):
            client.send("GET", "/models")


def test_a_compressed_body_that_is_cut_is_no_response() -> None:
    body = gzip.compress(b"{}" * 1000)[:-12]
    with (
        serving(lambda exchange: exchange.reply(body, content_encoding="gzip", x_request_id="req_c")) as server,
        pytest.raises(InvalidResponseError, match="decompressed") as caught,
    ):
        Transport(KEY, base_url=server.url).send("GET", "/models")
    assert caught.value.request_id == "req_c"


def test_the_limits_hold_for_other_networks_too() -> None:
    """Behind a proxy httpx reads the response."""

    def endless(request: httpx.Request) -> httpx.Response:
        pieces = itertools.repeat(b" " * 1000)
        if request.url.path.endswith("/slow"):
            pieces = (time.sleep(0.05) or b" " for _ in itertools.count())  # type: ignore[assignment]
        return httpx.Response(200, headers={"content-type": "application/json"}, content=pieces)

    network, url = httpx.MockTransport(endless), "http://127.0.0.1/v1"
    with pytest.raises(ResponseTooLargeError):
        Transport(KEY, base_url=url, http=network, max_answer_mb=0.3).send("GET", "/models")
    with pytest.raises(RequestTimeoutError, match=r"0.4 s"):
        Transport(KEY, base_url=url, http=network, timeouts=Timeouts(total=0.4)).send("GET", "/slow")


def test_what_python_raises_for_a_response_is_an_error_of_its_call() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        raise MemoryError if request.url.path.endswith("/large") else OverflowError("int too large")

    client = Transport(KEY, base_url="http://127.0.0.1/v1", http=httpx.MockTransport(respond))
    with pytest.raises(TransportError, match="memory"):
        client.send("GET", "/large")
    with pytest.raises(TransportError, match="int too large"):
        client.send("GET", "/models")


@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "5"])
def test_a_limit_of_a_response_is_a_size(value: Any) -> None:
    from skytells_nb.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="max_answer_mb"):
        Transport(KEY, base_url="http://127.0.0.1/v1", max_answer_mb=value)


def test_a_small_response_passes_at_its_limit() -> None:
    body = json.dumps({"a": "x" * 990}).encode()
    with serving(lambda exchange: exchange.reply(body)) as server:
        Transport(KEY, base_url=server.url, max_answer_mb=len(body) / 1e6).send("GET", "/models")
        with pytest.raises(ResponseTooLargeError):
            Transport(KEY, base_url=server.url, max_answer_mb=(len(body) - 1) / 1e6).send("GET", "/models")


ANSWER = {"choices": [{"index": 0, "message": {"content": "Grüße"}, "finish_reason": "stop"}]}
BODY = json.dumps(ANSWER).encode()
ZIPPED = gzip.compress(BODY)


def framed(head: bytes, body: bytes = BODY) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body


@pytest.mark.parametrize(
    "sent",
    [
        framed(b"content-type: application/json\r\nx-note: \xff\xfe\r\ncontent-length: %d\r\n" % len(BODY)),
        framed(b"content-type: \xfc\r\nx-note: \xe2\x98\x83\r\ncontent-length: %d\r\n" % len(BODY)),
        framed(b"transfer-encoding: chunked, chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
        framed(b"transfer-encoding: gzip, chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED)),
        framed(b"transfer-encoding: chunked\r\n", b"%016x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
        framed(b"content-length: +%d\r\n" % len(BODY)),
        framed(b"content-length: -1\r\n"),
    ],
)
def test_odd_heads_cost_no_answer(sent: bytes) -> None:
    with serving(lambda exchange: exchange.send(sent)) as server, Skytells(KEY, base_url=server.url) as client:
        assert client.chat.completions.create(model="m", messages="Hi").text == "Grüße"


def test_an_error_whose_header_is_not_ascii_is_that_error() -> None:
    sent = "HTTP/1.1 429 Zu viel\r\nx-grund: überlastet\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n".encode(
        "latin-1"
    )
    with (
        serving(lambda exchange: exchange.send(sent)) as server,
        Skytells(KEY, base_url=server.url) as client,
        pytest.raises(RateLimitError) as caught,
    ):
        client.chat.completions.create(model="m", messages="Hi")
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"304 Not Modified", "responded with 304"),
        (b"301 Moved", "responded with 301"),
        (b"302 Found\r\nlocation: file:///etc/passwd", "to an invalid address"),
    ],
)
def test_what_is_no_redirect_to_another_host_is_not_said_to_be_one(head: bytes, said: str) -> None:
    sent = b"HTTP/1.1 " + head + b"\r\ncontent-length: 0\r\n\r\n"
    with (
        serving(lambda exchange: exchange.send(sent)) as server,
        Skytells(KEY, base_url=server.url) as client,
        pytest.raises(SkytellsError, match=said),
    ):
        client.chat.completions.create(model="m", messages="Hi")


@pytest.mark.parametrize("before", [b"\0\0\0", b"  ", b"\t", b"DATA: ", b": ping\n\n\0"])
def test_padding_before_an_event_costs_no_text(before: bytes) -> None:
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": t}, "finish_reason": f}]}
        for t, f in (("a", None), ("b", "stop"))
    ]
    first, second = (json.dumps(chunk).encode() for chunk in chunks)
    label = b"" if before == b"DATA: " else b"data: "
    sent = EVENTS + b"\r\n" + before + label + first + b"\n\ndata: " + second + b"\n\ndata: [DONE]\n\n"
    with serving(lambda exchange: exchange.send(sent)) as server, Skytells(KEY, base_url=server.url) as client:
        assert client.chat.completions.create(model="m", messages="Hi", stream=True).final.text == "ab"


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", "."])
def test_a_host_name_that_none_can_have_is_refused_at_once(host: str) -> None:
    with pytest.raises(ConfigurationError, match="base URL must be a URL"):
        Skytells(KEY, base_url=f"https://{host}/v1")

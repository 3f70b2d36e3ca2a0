"""One exchange on a real port: what leaves, what comes back, and which error when nothing does."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

import httpx
import pytest
from serving import KEY, Exchange, holding, serving

from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.client.transport.transport import Transport
from skytells_nb.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    InvalidResponseError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TransportError,
)

SHORT = Timeouts(connect=20, read=0.6, idle=0.6, write=20)


def ok(exchange: Exchange) -> None:
    exchange.reply({"ok": True}, x_request_id="req_1")


class Ways(Protocol):
    """Makes a client for an address."""

    def __call__(self, url: str, timeouts: Timeouts | None = None, **more: Any) -> Transport: ...


@pytest.fixture(params=["direct", "httpx"])
def transport(request: pytest.FixtureRequest) -> Ways:
    """Both ways: over our own connections, and over httpx, as through proxies."""

    def make(url: str, timeouts: Timeouts | None = None, **more: Any) -> Transport:
        network = {"http": httpx.HTTPTransport()} if request.param == "httpx" else {}
        return Transport(KEY, base_url=url, timeouts=timeouts, **{**network, **more})

    return make


def test_an_answer_has_its_bytes_and_its_request_id(transport: Ways) -> None:
    with serving(ok) as server:
        reply = transport(server.url).send("POST", "/chat/completions", b"{}")
    assert json.loads(reply.content) == {"ok": True}
    assert reply.request_id == "req_1"


def test_what_leaves_is_the_body_the_path_and_the_key_in_one_header(transport: Ways) -> None:
    with serving(ok) as server:
        transport(server.url).send("POST", "/chat/completions", b'{"a": 1}')
        (exchange,) = server.exchanges
    assert (exchange.method, exchange.path, exchange.body) == ("POST", "/v1/chat/completions", b'{"a": 1}')
    assert exchange.headers["x-api-key"] == KEY
    assert exchange.headers["content-type"] == "application/json"
    holders = [name for name, value in exchange.headers.items() if KEY in value]
    assert holders == ["x-api-key"]
    assert "authorization" not in exchange.headers


def test_one_connection_serves_many_calls(transport: Ways) -> None:
    def keep_alive(exchange: Exchange) -> None:
        body = b'{"ok": true}'
        for _ in range(3):
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            if not exchange._sock.recv(65536):
                return

    with serving(keep_alive) as server:
        client = transport(server.url)
        for _ in range(3):
            client.send("GET", "/models")
        assert len(server.exchanges) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed_and_says_so(transport: Ways, status: int) -> None:
    with serving(ok) as thief:
        with serving(lambda e: e.reply(b"", status, location=f"{thief.url}/steal?key=1")) as server:
            with pytest.raises(APIError, match="not followed") as caught:
                transport(server.url).send("POST", "/chat/completions", b"{}")
            assert f"http://127.0.0.1:{thief.port}. " in str(caught.value)
            assert "steal" not in str(caught.value)
            assert caught.value.status == status
        assert thief.exchanges == []


@pytest.mark.parametrize("location", ["/other", "", "other", "//127.0.0.1:{port}/v1"])
def test_a_redirect_on_the_same_origin_is_not_followed_either(transport: Ways, location: str) -> None:
    with serving(lambda e: e.reply(b"", 307, location=location.format(port=server.port))) as server:
        with pytest.raises(APIError, match="redirected to another path"):
            transport(server.url).send("GET", "/models")
        assert len(server.exchanges) == 1


def test_the_target_of_a_redirect_is_named_without_its_user(transport: Ways) -> None:
    with (
        serving(lambda e: e.reply(b"", 302, location="https://user:secret@own.example/x")) as server,
        pytest.raises(APIError, match=r"redirected to https://own\.example\.") as caught,
    ):
        transport(server.url).send("GET", "/models")
    assert "secret" not in str(caught.value)


def test_a_redirect_to_nonsense_is_an_error_like_any_other(transport: Ways) -> None:
    with (
        serving(lambda e: e.reply(b"", 302, location="http://[x")) as server,
        pytest.raises(APIError, match="not followed"),
    ):
        transport(server.url).send("GET", "/models")


def test_a_redirected_stream_is_not_followed(transport: Ways) -> None:
    with (
        serving(lambda e: e.reply(b"", 307, location="https://own.example/")) as server,
        pytest.raises(APIError, match="not followed"),
    ):
        transport(server.url).stream("/chat/completions", b"{}")


def test_plain_http_elsewhere_is_refused_before_anything_is_sent() -> None:
    """The guard of these tests would fail any attempt to reach the address."""
    with pytest.raises(ConfigurationError, match="use https"):
        Transport(KEY, base_url="http://192.0.2.1/v1")


def test_a_proxy_of_the_environment_does_not_see_this_machine(transport: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ok) as proxy, serving(ok) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
        transport(server.url).send("GET", "/models")
        assert (len(server.exchanges), len(proxy.exchanges)) == (1, 0)


@pytest.mark.parametrize(
    ("status", "error_id", "kind"),
    [
        (401, "UNAUTHORIZED", AuthenticationError),
        (429, "RATE_LIMITED", RateLimitError),
        (503, "SERVICE_UNAVAILABLE", ServerError),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_refusal_is_its_error_also_where_a_stream_was_asked_for(
    transport: Ways, status: int, error_id: str, kind: type[APIError], streamed: bool
) -> None:
    body = {"error": {"message": "No.", "error_id": error_id, "status": status}}
    with serving(lambda e: e.reply(body, status, retry_after="12", x_request_id="req_7")) as server:
        client = transport(server.url)
        with pytest.raises(kind) as caught:
            client.stream("/x", b"{}") if streamed else client.send("POST", "/x", b"{}")
    assert (caught.value.error_id, caught.value.retry_after, caught.value.request_id) == (error_id, 12.0, "req_7")


def test_a_page_of_a_proxy_is_a_server_error(transport: Ways) -> None:
    with serving(lambda e: e.reply("<html><h1>Bad Gateway</h1></html>", 502)) as server:
        with pytest.raises(ServerError, match="Bad Gateway") as caught:
            transport(server.url).send("GET", "/models")
        assert "<" not in caught.value.message


@pytest.mark.parametrize("status", [200, 401])
def test_the_limits_are_those_of_the_last_answer_that_named_any(transport: Ways, status: int) -> None:
    headers: Iterator[dict[str, str]] = iter(
        [
            {"x_skytells_ratelimit_limit_requests": "25", "x_skytells_ratelimit_limit_tokens_in": "-"},
            {},
        ]
    )
    with serving(lambda e: e.reply({}, status, **next(headers))) as server:
        client = transport(server.url)
        for _ in range(2):
            try:
                client.send("GET", "/models")
            except AuthenticationError:
                assert status == 401
        assert client.limits == RateLimits(limit_requests=25)


def test_nobody_listening_is_a_connect_error(transport: Ways) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port} could not be reached"):
        transport(f"http://127.0.0.1:{port}/v1").send("GET", "/models")


def test_a_connection_that_is_not_accepted_in_time_is_a_connect_error(transport: Ways) -> None:
    """A listener whose queue is full lets new connections wait."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = []
        for _ in range(8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
            waiting.append(sock)
        client = transport(f"http://127.0.0.1:{full.getsockname()[1]}/v1", Timeouts(connect=0.3))
        with pytest.raises(ConnectError, match=r"did not accept a connection within 0\.3 s"):
            client.send("GET", "/models")
        for sock in waiting:
            sock.close()


def test_silence_before_the_answer_is_a_timeout(transport: Ways) -> None:
    with holding() as server:
        with pytest.raises(RequestTimeoutError, match=r"sent nothing for 0\.6 s"):
            transport(server.url, SHORT).send("POST", "/x", b"{}")
        assert server.left.wait(60)


def test_silence_within_the_body_is_a_timeout(transport: Ways) -> None:
    half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"
    with holding(lambda e: e.send(half)) as server, pytest.raises(RequestTimeoutError):
        transport(server.url, SHORT).send("POST", "/x", b"{}")


def test_silence_before_a_stream_is_a_timeout(transport: Ways) -> None:
    with holding() as server, pytest.raises(RequestTimeoutError, match=r"sent nothing for 0\.6 s"):
        transport(server.url, SHORT).stream("/x", b"{}")


def test_silence_within_a_stream_is_a_timeout(transport: Ways) -> None:
    def begin(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: one\n\n")

    # The event is there with the head, which may come late.
    limits = Timeouts(connect=20, read=20, idle=0.6, write=20)
    with holding(begin) as server:
        events = iter(transport(server.url, limits).stream("/x", b"{}"))
        assert next(events).data == "one"
        with pytest.raises(RequestTimeoutError, match=r"sent nothing for 0\.6 s"):
            next(events)


def test_a_whole_stream_may_take_longer_than_any_limit(transport: Ways) -> None:
    """Only inactivity counts: each event restarts the time, and so do comments."""
    sent: list[float] = []
    over = threading.Event()

    def slow(exchange: Exchange) -> None:
        sent[:] = [time.monotonic()]
        try:
            exchange.begin()
            for number in range(8):
                server.stopping.wait(0.15)
                sent.append(time.monotonic())
                exchange.send(b": keepalive\n\n" if number % 2 else f"data: {number}\n\n".encode())
        finally:
            over.set()

    limits = Timeouts(connect=20, read=20, idle=1, write=20)
    with serving(slow) as server:
        for _ in range(10):
            try:
                events = [event.data for event in transport(server.url, limits).stream("/x", b"{}")]
            except RequestTimeoutError:
                assert over.wait(60)
                over.clear()
                # Only where the machine stood still, and the server with it.
                assert max(later - earlier for earlier, later in itertools.pairwise(sent)) > 0.9
            else:
                break
        assert events == ["0", "2", "4", "6"]
        assert sent[-1] - sent[0] > 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_breaks_is_lost(transport: Ways, sent: bytes, reset: bool) -> None:
    def broken(exchange: Exchange) -> None:
        exchange.send(sent)
        if reset:
            exchange.cut()

    with (
        serving(broken) as server,
        pytest.raises(ConnectionLostError, match="was lost before the response was complete"),
    ):
        transport(server.url).send("POST", "/x", b"{}")


def test_an_answer_that_is_no_http_is_lost(transport: Ways) -> None:
    with serving(lambda e: e.send(b"220 mail.example ESMTP\r\n")) as server, pytest.raises(ConnectionLostError):
        transport(server.url).send("GET", "/models")


def test_json_where_a_stream_was_asked_for_is_an_answer_error(transport: Ways) -> None:
    with serving(ok) as server, pytest.raises(InvalidResponseError, match=r"got application/json\..*req_1"):
        transport(server.url).stream("/x", b"{}")


def test_an_error_with_status_200_where_a_stream_was_asked_for_is_that_error(transport: Ways) -> None:
    body = {"status": False, "error": {"http_status": 401, "message": "No.", "error_id": "UNAUTHORIZED"}}
    with serving(lambda e: e.reply(body)) as server, pytest.raises(AuthenticationError):
        transport(server.url).stream("/x", b"{}")


def test_a_stream_that_comes_compressed_all_the_same_is_read(transport: Ways) -> None:
    import gzip

    def zipped(exchange: Exchange) -> None:
        exchange.begin(content_encoding="gzip")
        exchange.send(gzip.compress(b"data: one\n\ndata: two\n\n"))

    with serving(zipped) as server:
        assert [e.data for e in transport(server.url).stream("/x", b"{}")] == ["one", "two"]


def test_a_closed_stream_has_no_more_events(transport: Ways) -> None:
    def begin(exchange: Exchange) -> None:
        exchange.begin()
        exchange.event("one")
        exchange.event("two")

    with holding(begin) as server:
        stream = transport(server.url).stream("/x", b"{}")
        stream.close()
        assert list(stream) == []
        assert server.left.wait(60)


def test_a_stream_that_is_dropped_unread_closes_its_connection(transport: Ways) -> None:
    with holding(lambda e: e.begin()) as server:
        stream = transport(server.url).stream("/x", b"{}")
        del stream
        assert server.left.wait(60)


def test_a_closed_client_says_so(transport: Ways) -> None:
    client = transport("http://127.0.0.1:9/v1")
    client.close()
    with pytest.raises(TransportError, match="closed"):
        client.send("GET", "/models")


@pytest.mark.parametrize("name", ["connect", "read", "idle", "write"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_time_limit_is_more_than_nothing(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Timeouts(**{name: value})


def test_another_network_can_be_put_in_its_place() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["x-api-key"])
        return httpx.Response(200, json={"ok": True})

    client = Transport(KEY, base_url="https://own.example/v1", http=httpx.MockTransport(answer))
    assert client.send("GET", "/models").content == b'{"ok":true}'
    assert seen == [KEY]

"""A reused connection that the server closes as a request is sent: what is sent again, and what never is."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from serving import KEY, PATIENCE_S, Exchange, ScriptedServer, certificates, serving
from test_abort import Call, InThread

from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.client.transport.transport import Transport
from skytells_nb.errors import (
    ConnectError,
    ConnectionLostError,
    RequestCancelledError,
    RequestTimeoutError,
    ServerError,
    SkytellsError,
)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LARGE = b"x" * (16 << 20)
"""More than the buffers of both ends hold."""
SHORT = Timeouts(connect=10, read=0.3, idle=0.3, write=0.3)

Ending = Callable[[Exchange], None]


class KeepingServer:
    """Answers the first request, and keeps the connection; ``second`` is what becomes of the next one on it.

    Requests on any further connection are answered, or end as ``later`` says.
    """

    def __init__(self, second: Ending, later: Ending | None = None, *, read_second: bool = True) -> None:
        self.second = second
        self.later = later or answer
        self.read_second = read_second
        self.requests: list[Exchange] = []
        """The requests that came whole."""
        self.second_came = threading.Event()
        self.server: ScriptedServer

    def script(self, exchange: Exchange) -> None:
        self.requests.append(exchange)
        if len(self.server.exchanges) > 1:
            self.later(exchange)
            return
        exchange._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        exchange.send(HEAD + b"{}")
        again = exchange
        if self.read_second:
            again = Exchange(exchange._sock)
            self.requests.append(again)
        else:
            assert exchange._sock.recv(1024)
        self.second_came.set()
        self.second(again)

    @property
    def connections(self) -> int:
        return len(self.server.exchanges)


@contextmanager
def keeping(
    second: Ending, later: Ending | None = None, *, read_second: bool = True, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[KeepingServer, Transport]]:
    """A server that keeps a connection, and a client that has one to it."""
    kept = KeepingServer(second, later, read_second=read_second)
    with serving(kept.script, tls) as kept.server:
        client = Transport(KEY, base_url=kept.server.url, timeouts=Timeouts(connect=10, read=20, idle=20, write=20))
        assert client.send("GET", "/first").content == b"{}"
        assert kept.connections == 1
        yield kept, client
        client.close()


def answer(exchange: Exchange) -> None:
    if exchange.headers["accept"] == "text/event-stream":
        exchange.begin()
        exchange.event("one")
    else:
        exchange.reply({"n": 1})


def hang_up(exchange: Exchange) -> None:
    """Close as a server does that has waited long enough."""
    exchange._sock.close()


def reset(exchange: Exchange) -> None:
    exchange.cut()


def whole(client: Transport, body: bytes = b'{"a": 1}') -> object:
    return client.send("POST", "/x", body).content


def streamed(client: Transport, body: bytes = b'{"a": 1}') -> object:
    return [event.data for event in client.stream("/x", body)]


ANSWERED = {whole: b'{"n": 1}', streamed: ["one"]}
ways = pytest.mark.parametrize("call", [whole, streamed])
endings = pytest.mark.parametrize("ending", [hang_up, reset])


def assert_lost(call: Call, client: Transport, kind: type[SkytellsError] = ConnectionLostError) -> None:
    with pytest.raises(kind) as caught:
        call(client)
    assert type(caught.value) is kind


@ways
@endings
def test_a_request_that_met_the_end_of_a_kept_connection_is_sent_on_a_new_one(
    call: Call, ending: Ending, caplog: pytest.LogCaptureFixture
) -> None:
    with keeping(ending) as (kept, client), caplog.at_level(logging.DEBUG, "skytells_nb.client.transport"):
        assert call(client) == ANSWERED[call]
        first, lost, again = kept.requests
        assert (kept.connections, client.resent) == (2, 1)
    assert first.path == "/v1/first"
    assert (again.method, again.path, again.headers, again.body) == ("POST", "/v1/x", lost.headers, b'{"a": 1}')
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "POST /x: the server had closed the reused connection; sent again on a new one"


@ways
def test_a_request_that_could_not_be_written_on_a_kept_connection_is_sent_on_a_new_one(
    call: Callable[[Transport, bytes], object],
) -> None:
    with keeping(reset, read_second=False) as (kept, client):
        assert call(client, LARGE) == ANSWERED[call]
        _, again = kept.requests
        assert (kept.connections, client.resent) == (2, 1)
        assert again.body == LARGE


@ways
@endings
def test_it_is_sent_again_only_once(call: Call, ending: Ending) -> None:
    with keeping(ending, later=ending) as (kept, client):
        assert_lost(call, client)
        assert (len(kept.requests), kept.connections, client.resent) == (3, 2, 1)


@ways
@endings
def test_a_request_on_a_new_connection_is_not_sent_again(call: Call, ending: Ending) -> None:
    with serving(ending) as server:
        client = Transport(KEY, base_url=server.url)
        assert_lost(call, client)
        assert (len(server.exchanges), client.resent) == (1, 0)


@pytest.mark.parametrize(
    ("call", "begun"),
    [
        *((call, begun) for call in (whole, streamed) for begun in (b"H", HEAD[:-1], b"HTTP/1.1 100 Continue\r\n\r\n")),
        (whole, HEAD + b"{"),
        (streamed, EVENTS + b"63\r\ndata: o"),
    ],
)
def test_a_request_whose_answer_had_begun_is_not_sent_again(call: Call, begun: bytes) -> None:
    def begin(exchange: Exchange) -> None:
        exchange.send(begun)
        exchange._sock.close()

    with keeping(begin) as (kept, client):
        assert_lost(call, client)
        assert (len(kept.requests), kept.connections, client.resent) == (2, 1, 0)


@endings
def test_a_stream_that_was_cut_after_an_event_is_not_asked_for_again(ending: Ending) -> None:
    read = threading.Event()

    def begin(exchange: Exchange) -> None:
        exchange.send(EVENTS)
        exchange.chunk(b"data: one\n\n")
        assert read.wait(PATIENCE_S)
        ending(exchange)

    with keeping(begin) as (kept, client):
        events = iter(client.stream("/x", b"{}"))
        assert next(events).data == "one"
        read.set()
        with pytest.raises(ConnectionLostError):
            list(events)
        assert (len(kept.requests), kept.connections, client.resent) == (2, 1, 0)


@ways
def test_a_refusal_on_a_kept_connection_is_not_sent_again(call: Call) -> None:
    with keeping(lambda exchange: exchange.reply({"error": {"message": "busy"}}, 503)) as (kept, client):
        assert_lost(call, client, ServerError)
        assert (len(kept.requests), kept.connections, client.resent) == (2, 1, 0)


@ways
def test_a_request_that_nobody_answered_in_time_is_not_sent_again(call: Call) -> None:
    with keeping(lambda exchange: kept.server.hold(exchange)) as (kept, client):
        client.timeouts = SHORT
        assert_lost(call, client, RequestTimeoutError)
        assert kept.server.left.wait(PATIENCE_S)
        assert (len(kept.requests), kept.connections, client.resent) == (2, 1, 0)


@ways
def test_a_request_that_nobody_took_in_time_is_not_sent_again(call: Callable[[Transport, bytes], object]) -> None:
    over = threading.Event()
    with keeping(lambda _: over.wait(PATIENCE_S) and None, read_second=False) as (kept, client):
        client.timeouts = SHORT
        assert_lost(lambda client: call(client, LARGE), client, RequestTimeoutError)
        over.set()
        assert (kept.connections, client.resent) == (1, 0)


@ways
def test_a_request_that_was_stopped_is_not_sent_again(call: Call) -> None:
    with keeping(lambda exchange: kept.server.hold(exchange)) as (kept, client):
        running = InThread(call, client)
        assert kept.second_came.wait(PATIENCE_S)
        client.abort()
        running.join()
        assert isinstance(running.problem, RequestCancelledError)
        assert kept.server.left.wait(PATIENCE_S)
        assert (len(kept.requests), kept.connections, client.resent) == (2, 1, 0)


@ways
def test_a_server_that_is_gone_is_an_error_to_connect(call: Call) -> None:
    def go(exchange: Exchange) -> None:
        kept.server.stop()
        exchange._sock.close()

    with keeping(go) as (kept, client):
        assert_lost(call, client, ConnectError)
        assert (len(kept.requests), kept.connections) == (2, 1)


@ways
@endings
@pytest.mark.parametrize("read_second", [True, False])
def test_a_kept_connection_that_ended_over_tls_is_replaced_too(
    call: Callable[[Transport, bytes], object],
    ending: Ending,
    read_second: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """With no goodbye, as a server that was killed."""
    serving_side, _ = certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    with keeping(ending, read_second=read_second, tls=serving_side) as (kept, client):
        body = b"{}" if read_second else LARGE
        assert call(client, body) == ANSWERED[call]
        assert kept.requests[-1].body == body
        assert (kept.connections, client.resent) == (2, 1)

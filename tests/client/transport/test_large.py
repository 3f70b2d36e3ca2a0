"""Large answers: begun by one thread, read by another, and everything that can go wrong between the two."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from serving import KEY, Exchange, holding, serving
from test_abort import assert_abort_ends

from skytells_nb.client.transport.http11 import LARGE_BYTES
from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.client.transport.transport import PendingResponse, ResponseBody, Transport
from skytells_nb.errors import APIError, ConnectionLostError, RequestTimeoutError

BODY = b'{"x": "' + b"0123456789abcdef" * (LARGE_BYTES // 16) + b'"}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: req_9\r\n\r\n"
SHORT = Timeouts(connect=2, read=0.6, idle=0.6, write=2)

Make = Callable[..., Transport]


@pytest.fixture(params=["direct", "httpx"])
def transport(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Both ways: over our own connections, and over httpx, as through proxies."""
    with contextlib.ExitStack() as open_ones:

        def make(url: str, timeouts: Timeouts | None = None) -> Transport:
            network = httpx.HTTPTransport() if request.param == "httpx" else None
            return open_ones.enter_context(
                contextlib.closing(Transport(KEY, base_url=url, timeouts=timeouts, http=network))
            )

        yield make


def begun(client: Transport) -> PendingResponse:
    pending = client.begin("POST", "/embeddings", b"{}")
    assert isinstance(pending, PendingResponse)
    return pending


def half(exchange: Exchange) -> None:
    exchange.send(HEAD % len(BODY) + BODY[: LARGE_BYTES // 2])


def test_a_large_answer_is_read_whole_by_another_thread(transport: Make) -> None:
    with serving(lambda e: e.send(HEAD % len(BODY) + BODY)) as server, ThreadPoolExecutor(1) as other:
        reply = other.submit(begun(transport(server.url)).read).result()
    assert reply == ResponseBody(BODY, "req_9")


def test_send_reads_a_large_answer_at_once(transport: Make) -> None:
    with serving(lambda e: e.send(HEAD % len(BODY) + BODY)) as server:
        assert transport(server.url).send("POST", "/embeddings", b"{}").content == BODY


@pytest.mark.parametrize("size", [LARGE_BYTES - 1, LARGE_BYTES])
def test_what_is_large_is_told_by_its_length(transport: Make, size: int) -> None:
    with serving(lambda e: e.send(HEAD % size + b"x" * size)) as server:
        answer = transport(server.url).begin("GET", "/models")
        assert isinstance(answer, PendingResponse) == (size >= LARGE_BYTES)
        reply = answer if isinstance(answer, ResponseBody) else answer.read()
        assert reply.content == b"x" * size


@pytest.mark.parametrize("size", [0, 1, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 3 * LARGE_BYTES])
@pytest.mark.parametrize("chunked", [True, False])
def test_an_answer_of_unknown_length_comes_whole(transport: Make, size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256) + b"y" * (size % 256)

    def unknown(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        if not chunked:
            exchange.send(head + b"connection: close\r\n\r\n" + body)
            return
        for _ in range(2):
            exchange.send(head + b"transfer-encoding: chunked\r\n\r\n")
            for start in range(0, len(body), 100_000):
                exchange.chunk(body[start : start + 100_000])
            exchange.chunk(b"")
            exchange._sock.recv(65536)

    with serving(unknown) as server:
        client = transport(server.url)
        assert client.send("GET", "/models").content == body
        # Nothing of it is left on a connection that is used again.
        assert client.send("GET", "/models").content == body
        assert len(server.exchanges) == (1 if chunked else 2)


def test_the_body_of_a_head_that_comes_early_is_awaited_before_it_is_begun() -> None:
    """Some gateways send the head while the model still generates: the body is not read before it arrives."""
    gate, sent = threading.Event(), threading.Event()

    def early(exchange: Exchange) -> None:
        exchange.send(HEAD % len(BODY))
        sent.set()
        assert gate.wait(20)
        exchange.send(BODY)

    with serving(early) as server, ThreadPoolExecutor(1) as other:
        waiting = other.submit(begun, Transport(KEY, base_url=server.url))
        assert sent.wait(20)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        gate.set()
        assert waiting.result(20).read().content == BODY


def test_a_connection_is_used_again_once_its_large_answer_was_read() -> None:
    def twice(exchange: Exchange) -> None:
        exchange.send(HEAD % len(BODY) + BODY)
        exchange._sock.recv(65536)
        exchange.send(HEAD % 2 + b"{}")

    with serving(twice) as server:
        client = Transport(KEY, base_url=server.url)
        begun(client).read()
        assert client.send("POST", "/x", b"{}").content == b"{}"
        assert len(server.exchanges) == 1


def test_a_connection_whose_large_answer_is_not_read_yet_is_not_used() -> None:
    with serving(lambda e: e.send(HEAD % len(BODY) + BODY)) as server:
        client = Transport(KEY, base_url=server.url)
        first, second = begun(client), begun(client)
        assert second.read() == first.read() == ResponseBody(BODY, "req_9")
        assert len(server.exchanges) == 2


def test_half_a_large_answer_is_a_lost_connection(transport: Make) -> None:
    with serving(half) as server, pytest.raises(ConnectionLostError):
        begun(transport(server.url)).read()


def test_a_large_answer_that_falls_silent_is_given_up(transport: Make) -> None:
    with holding(half) as server, pytest.raises(RequestTimeoutError):
        begun(transport(server.url, SHORT)).read()


def test_a_large_refusal_is_raised_at_once(transport: Make) -> None:
    """As any refusal, which may be one that another form of the request answers."""
    with serving(lambda e: e.reply(BODY, 400)) as server, pytest.raises(APIError) as caught:
        transport(server.url).begin("POST", "/embeddings", b"{}")
    assert caught.value.status == 400


def test_a_large_answer_that_is_being_read_can_be_stopped(transport: Make) -> None:
    with holding(half) as server:
        client = transport(server.url)
        pending = begun(client)
        assert_abort_ends(lambda _: pending.read(), client, server)

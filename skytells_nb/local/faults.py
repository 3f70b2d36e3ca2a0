"""Faults on demand: what the local Skytells does wrong when it is asked to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from skytells_nb.errors import InputError
from skytells_nb.local.errors import ERROR_CATALOG, APIException, error_id_for


def parse_flags(text: str) -> dict[str, str]:
    """``"latency=0.1, no_done"`` as a dict; a name alone means true. With a ``;`` in it, only that separates."""
    found: dict[str, str] = {}
    for word in text.split(";" if ";" in text else ","):
        name, _, value = word.partition("=")
        if name.strip():
            found[name.strip().replace("-", "_")] = value.strip()
    return found


def validate_flags(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of these fields, each as the type its field has; raises InputError naming what does not fit."""
    known = _adapters(kind)
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{kind.__name__} has no {name!r}; it has: {', '.join(sorted(known))}.")
        try:
            read[name] = known[name].validate_python(value)
        except ValidationError as problem:
            wrong = problem.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
            raise InputError(f"{name} must be {wrong.removeprefix('Input should be ')}, got {value!r}.") from None
    return read


@cache
def _adapters(kind: type) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind)
    return {field.name: _adapter(hints[field.name]) for field in fields(kind)}


def _adapter(hint: Any) -> TypeAdapter[Any]:
    named: Any = Annotated[bool, BeforeValidator(_true_where_named)] if hint is bool else hint
    # A status is given as a number as often as by its name.
    return TypeAdapter(named, config=ConfigDict(coerce_numbers_to_str=True))


def _true_where_named(value: Any) -> Any:
    """A flag without a value, as in ``no_done``, is set."""
    return True if value == "" else value


FAULT_HEADER = "x-skytells-fault"
"""Per request: ``x-skytells-fault: status=429; retry_after=2; times=1``."""

HUGE_RETRY_AFTER_S = 86_400

_LASTING = ("latency", "latency_per_row", "block_status", "float_only")


@dataclass(frozen=True, slots=True)
class Faults:
    """What to do wrong. Nothing by default; ``rate`` and ``times`` say how often.

    ``rate`` is decided by a stable hash of the request's body and how many times that body came before, so a run
    repeats itself; ``times`` spoils only the first attempts of each body. Neither concerns latency, ``block_status``
    and ``float_only``, which are always in force.

    >>> Faults.parse("status=503, times=1").times
    1
    """

    rate: float = 1.0
    """Share of the requests that are spoilt, 0 to 1."""
    times: int | None = None
    """Spoil only this many first attempts of one body."""

    latency: float = 0.0
    """Seconds before anything is sent."""
    latency_per_row: float = 0.0
    """Seconds more for each input."""
    status: str | None = None
    """An error of the catalogue, by error_id or HTTP status."""
    retry_after: str | None = None
    """The Retry-After header, as it is; ``none`` leaves it out."""
    huge_retry_after: bool = False
    """A Retry-After of a day."""
    redirect: str | None = None
    """302 to this URL (another origin when it is not a URL)."""
    html_error: bool = False
    """502 with a proxy's HTML page."""
    cut: Literal["before", "headers", "body"] | None = None
    """Close the connection without a byte, within the headers, or within the body."""

    stream_cut_after: int | None = None
    """Close the connection after this many chunks."""
    stream_stall_after: int | None = None
    """Stay silent after this many chunks, for ``stall`` seconds."""
    stall: float = 3600.0
    stream_error: int | None = None
    """After this many chunks send an error within the stream and end it."""
    malformed_chunk: int | None = None
    """After this many chunks send one that is not JSON."""
    no_done: bool = False
    """End without the terminator."""
    no_prompt_chunk: bool = False
    no_space: bool = False
    """``data:`` without the space."""
    crlf: bool = False
    keepalive: bool = False
    """A comment before each chunk."""
    split_utf8: bool = False
    """Send the bytes of one character in two writes."""
    list_content: bool = False
    """``delta.content`` as a list of parts."""

    block_prompt: bool = False
    block_status: int = 451
    """Status of a blocked prompt: 451 as Skytells documents, or 400 as its upstream answers."""
    filter_completion: Literal["default", "async"] | None = None
    """Withhold the completion, at once or by annotations that come late."""
    filter_down: bool = False
    """Verdicts hold an ``error`` in place of categories."""
    empty_length: bool = False
    """Spend the whole budget on reasoning: empty text, finish_reason length."""

    wrong_count: bool = False
    wrong_dimension: bool = False
    nan: bool = False
    bad_index: bool = False
    bad_base64: bool = False
    float_only: bool = False
    """Refuse base64 vectors with a 400."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise InputError(f"rate is a share from 0 to 1; found {self.rate}.")
        if self.status is not None and not self.status.isdigit() and _find(self.status) is None:
            raise InputError(f"status={self.status!r} is no HTTP status and none of: {', '.join(ERROR_CATALOG)}.")
        if self.block_status not in (400, 451):
            raise InputError(f"block_status is 451 or 400; found {self.block_status}.")

    @classmethod
    def parse(cls, given: str | Mapping[str, Any]) -> Faults:
        """From ``"name=value, name=value"`` or a mapping; raises InputError for a name or value it does not know."""
        return cls(**validate_flags(cls, parse_flags(given) if isinstance(given, str) else given))

    def with_header(self, header: str | None) -> Faults:
        """These faults with a request's own, which win."""
        return replace(self, **validate_flags(Faults, parse_flags(header))) if header else self

    def for_attempt(self, body: bytes, attempt: int) -> Faults:
        """What is in force for this attempt (from 0) of this body."""
        spoilt = self.times is None or attempt < self.times
        if spoilt and self.rate < 1:
            digest = hashlib.blake2b(body + attempt.to_bytes(8, "big"), digest_size=8).digest()
            spoilt = int.from_bytes(digest, "big") < self.rate * 2**64
        return self if spoilt else Faults(**{name: getattr(self, name) for name in _LASTING})

    def status_error(self) -> APIException | None:
        """The error that ``status`` asks for."""
        if self.status is None:
            return None
        status = int(self.status) if self.status.isdigit() else None
        error_id = error_id_for(status) if status is not None else _find(self.status)
        assert error_id is not None
        wait = self.retry_after
        if self.huge_retry_after:
            wait = str(HUGE_RETRY_AFTER_S)
        elif wait is None and ERROR_CATALOG[error_id].retry_after:
            wait = "1"
        headers = {"retry-after": wait} if wait is not None and wait.lower() != "none" else {}
        return APIException(error_id, status=status, headers=headers, details={"category": "fault"})

    def __str__(self) -> str:
        """What differs from no fault at all, as :meth:`parse` reads it."""
        default = asdict(Faults())
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name}={value}" for name, value in named.items() if value != default[name])


def _find(name: str) -> str | None:
    return next((error_id for error_id in ERROR_CATALOG if error_id.lower() == name.lower()), None)

"""An inference request with the models, faults and counters that its handler needs, and validation of bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from skytells_nb.local.errors import APIException, invalid_parameter
from skytells_nb.local.faults import Faults
from skytells_nb.local.generation.streaming import GenerationThreads
from skytells_nb.local.protocols import LocalModels
from skytells_nb.types.base import RequestModel

KEEP_ALIVE_S = 5.0
"""Shorter than the time after which clients and proxies take a silent stream for lost."""

RequestT = TypeVar("RequestT", bound=RequestModel)


@dataclass(slots=True)
class TokenUsage:
    """Input and output tokens of a request; they grow during the response."""

    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    body: dict[str, Any]
    query: Mapping[str, str]
    request_id: str
    faults: Faults
    models: LocalModels
    threads: GenerationThreads
    close_connection: Callable[[], Awaitable[None]]
    """Closes the connection."""
    usage: TokenUsage = field(default_factory=TokenUsage)
    keep_alive: float = KEEP_ALIVE_S
    """Seconds without an event after which a stream sends a comment."""


def parse_body(kind: type[RequestT], body: dict[str, Any]) -> RequestT:
    """Validate a body as this kind of request; raise an error that names the first invalid parameter."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        location = first["loc"]
        param = str(location[0]) if location else "body"
        if len(location) > 1 and isinstance(location[1], int):
            param += f"[{location[1]}]"
        if first["type"] == "missing":
            raise invalid_parameter(param, f"{param} is required.") from None
        raise invalid_parameter(param, f"{param}: {first['msg']}.") from None


def extra_parameter(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    """Return a parameter that the request type does not declare; null counts as missing."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = kind.__name__ if isinstance(kind, type) else "a number"
        raise invalid_parameter(name, f"{name} must be {expected}, got {value!r}.")
    return value


MAX_TOKEN_LIMIT = 1_000_000
"""More than any model of the service generates. A lower limit is cut at what the local model's context holds."""


def check_token_limit(name: str, limit: int | None) -> None:
    """Raise an error for a number of tokens that no model generates."""
    if limit is not None and not 1 <= limit <= MAX_TOKEN_LIMIT:
        shown = f"{limit:,}" if abs(limit) < 10**18 else "a larger number"
        raise invalid_parameter(name, f"{name} must be from 1 to {MAX_TOKEN_LIMIT:,}, got {shown}.")


def content_policy_error(
    results: dict[str, Any], filters: list[dict[str, Any]], faults: Faults, param: str
) -> APIException:
    """Return the error for a blocked prompt, as Skytells documents it or as its upstream responds."""
    if faults.block_status == 400:
        extra: dict[str, Any] = {"content_filters": filters}
        if param == "messages":
            extra = {"innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": results}}
        return APIException(
            "CONTENT_POLICY_VIOLATION",
            "The response was filtered due to the prompt triggering the content management policy. "
            "Please modify your prompt and retry.",
            status=400,
            code="content_filter",
            param="prompt",
            extra=extra,
        )
    return APIException(
        "CONTENT_POLICY_VIOLATION", param=param, details={"category": "safety"}, extra={"content_filters": filters}
    )

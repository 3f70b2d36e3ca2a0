"""One inference request on its way: its body, what answers it, and what is to go wrong."""

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

R = TypeVar("R", bound=RequestModel)


@dataclass(slots=True)
class TokenUsage:
    """Tokens that a request took, in and out; they grow while it is answered."""

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


def parse_body(kind: type[R], body: dict[str, Any]) -> R:
    """The body as this kind of request; raises a 400 that names the first parameter that does not fit."""
    try:
        return kind.model_validate(body)
    except ValidationError as problem:
        found = problem.errors(include_url=False, include_context=False)[0]
        place = found["loc"]
        param = str(place[0]) if place else "body"
        if len(place) > 1 and isinstance(place[1], int):
            param += f"[{place[1]}]"
        if found["type"] == "missing":
            raise invalid_parameter(param, f"{param} is required.") from None
        raise invalid_parameter(param, f"{param}: {found['msg']}.") from None


def extra_parameter(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    """A parameter that the request type does not name; null counts as absent."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = kind.__name__ if isinstance(kind, type) else "a number"
        raise invalid_parameter(name, f"{name} must be {wanted}; found {value!r}.")
    return value


def content_policy_error(results: dict[str, Any], filters: list[dict[str, Any]], faults: Faults, param: str) -> APIException:
    """The error for a prompt that the filter blocked, as Skytells documents it or as its upstream answers."""
    if faults.block_status == 400:
        more: dict[str, Any] = {"content_filters": filters}
        if param == "messages":
            more = {"innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": results}}
        return APIException(
            "CONTENT_POLICY_VIOLATION",
            "The response was filtered due to the prompt triggering the content management policy. "
            "Please modify your prompt and retry.",
            status=400,
            code="content_filter",
            param="prompt",
            extra=more,
        )
    return APIException(
        "CONTENT_POLICY_VIOLATION", param=param, details={"category": "safety"}, extra={"content_filters": filters}
    )

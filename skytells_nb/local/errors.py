"""Error responses of the local server: the catalog of errors, and the two envelopes that carry them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

if TYPE_CHECKING:
    from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One entry of the catalog of errors."""

    status: int
    type: str
    code: str
    message: str
    retry_after: bool = False


_INVALID_REQUEST = "invalid_request_error"
_RATE_LIMIT = "rate_limit_error"
_SERVER_ERROR = "server_error"

ERROR_CATALOG = {
    "UNAUTHORIZED": CatalogEntry(
        401, "authentication_error", "invalid_api_key", "The API key is missing or not accepted."
    ),
    "FORBIDDEN": CatalogEntry(
        403, "permission_error", "forbidden", "This API key does not have permission for this request."
    ),
    "INVALID_REQUEST": CatalogEntry(400, _INVALID_REQUEST, "invalid_request", "The request is malformed."),
    "INVALID_PARAMETER": CatalogEntry(400, _INVALID_REQUEST, "invalid_parameter", "A parameter is not valid."),
    "INVALID_INPUT": CatalogEntry(422, _INVALID_REQUEST, "invalid_input", "The model's input is not valid."),
    "VALIDATION_ERROR": CatalogEntry(422, _INVALID_REQUEST, "validation_error", "The request did not pass validation."),
    "context_length_exceeded": CatalogEntry(
        400, "InferenceError", "context_length_exceeded", "The text is longer than the model's context window."
    ),
    "MODEL_NOT_FOUND": CatalogEntry(404, _SERVER_ERROR, "model_not_found", "The model was not found."),
    "ENDPOINT_NOT_FOUND": CatalogEntry(404, _INVALID_REQUEST, "endpoint_not_found", "The endpoint was not found."),
    "INSUFFICIENT_CREDITS": CatalogEntry(
        402, "billing_error", "insufficient_credits", "The account has no credits left."
    ),
    "PAYMENT_REQUIRED": CatalogEntry(402, "billing_error", "payment_required", "A payment is required."),
    "ACCOUNT_SUSPENDED": CatalogEntry(403, "permission_error", "account_suspended", "The account is suspended."),
    "SECURITY_VIOLATION": CatalogEntry(
        403, "permission_error", "security_violation", "The security policy forbids this."
    ),
    "CONTENT_POLICY_VIOLATION": CatalogEntry(
        451, _INVALID_REQUEST, "content_policy_violation", "The request was blocked by the content policy."
    ),
    "RATE_LIMITED": CatalogEntry(
        429, _RATE_LIMIT, "rate_limit_exceeded", "Too many requests for this account and model.", True
    ),
    "INFERENCE_RATE_LIMITED": CatalogEntry(
        429, _RATE_LIMIT, "rate_limit_exceeded", "The model's backend limits the rate of requests.", True
    ),
    "RATE_LIMIT_EXCEEDED": CatalogEntry(429, _RATE_LIMIT, "rate_limit_exceeded", "Too many requests.", True),
    "INFERENCE_ERROR": CatalogEntry(500, _SERVER_ERROR, "service_error", "The model failed to respond."),
    "INTERNAL_ERROR": CatalogEntry(500, _SERVER_ERROR, "internal_error", "The gateway failed."),
    "INFRASTRUCTURE_ERROR": CatalogEntry(502, _SERVER_ERROR, "infrastructure_error", "The platform failed."),
    "SERVICE_UNAVAILABLE": CatalogEntry(
        503, _SERVER_ERROR, "service_unavailable", "The service is temporarily unavailable."
    ),
    "INFERENCE_TIMEOUT": CatalogEntry(504, _SERVER_ERROR, "timeout", "The model did not respond in time."),
}
"""Every ``error_id`` of the inference endpoints, with the documented status."""

_BY_STATUS = {
    400: "INVALID_REQUEST",
    401: "UNAUTHORIZED",
    402: "INSUFFICIENT_CREDITS",
    403: "FORBIDDEN",
    404: "MODEL_NOT_FOUND",
    422: "INVALID_INPUT",
    429: "RATE_LIMITED",
    451: "CONTENT_POLICY_VIOLATION",
    500: "INTERNAL_ERROR",
    502: "INFRASTRUCTURE_ERROR",
    503: "SERVICE_UNAVAILABLE",
    504: "INFERENCE_TIMEOUT",
}


MAX_MESSAGE = 1_000
MAX_PARAM = 100
"""Characters of a message and of a parameter's name: both may quote what was sent, which has any size."""


def shorten(text: str, most: int) -> str:
    """Return the text, or its beginning and how much more there is.

    >>> shorten("a" * 50, 30)
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… (20 characters more)'
    """
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} characters more)"


def error_id_for(status: int) -> str:
    """Return the ``error_id`` for an HTTP status."""
    return _BY_STATUS.get(status, "INTERNAL_ERROR" if status >= 500 else "INVALID_REQUEST")


class APIException(Exception):
    """Raised by an endpoint to respond with an error of the catalog.

    ``extra`` holds further members of the error object, ``headers`` further headers of the response.
    """

    def __init__(
        self,
        error_id: str,
        message: str | None = None,
        *,
        param: str | None = None,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,
        details: Any = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        entry = ERROR_CATALOG[error_id]
        self.message = shorten(message or entry.message, MAX_MESSAGE)
        super().__init__(self.message)
        self.error_id = error_id
        self.status = status or entry.status
        self.type = type or entry.type
        self.code = code or entry.code
        self.param = None if param is None else shorten(param, MAX_PARAM)
        self.details = details
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})

    def error_object(self, request_id: str) -> dict[str, Any]:
        """Return the ``error`` object of the inference envelope."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "code": self.code,
            "error_id": self.error_id,
            "status": self.status,
        }
        if self.param is not None:
            error["param"] = self.param
        error["request_id"] = request_id
        if self.details is not None:
            error["details"] = self.details
        return error | self.extra

    def to_response(self, request_id: str, *, unified: bool = False) -> Response:
        """Return the response: the inference envelope, or the unified one that ``/models`` uses."""
        if unified:
            error = {
                "http_status": self.status,
                "message": self.message,
                "details": self.details,
                "error_id": self.error_id,
            }
            return json_response({"status": False, "response": self.message, "error": error}, self.status, self.headers)
        return json_response({"error": self.error_object(request_id)}, self.status, self.headers)


def invalid_parameter(param: str, message: str) -> APIException:
    """Return the error with status 400 that names the invalid parameter."""
    return APIException("INVALID_PARAMETER", message, param=param)


def model_not_found(name: str) -> APIException:
    """Return the error for an unknown model, worded as on the product page."""
    return APIException("MODEL_NOT_FOUND", f"The model '{name}' was not found.")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response of compact UTF-8 JSON. NaN is written as such, because one of the faults sends it."""
    from starlette.responses import Response

    body = to_json(content, inf_nan_mode="constants")
    return Response(body, status_code=status, headers=headers, media_type="application/json")

"""The errors the service answers with: the catalogue, and the two envelopes they travel in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

if TYPE_CHECKING:
    from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One row of the catalogue."""

    status: int
    type: str
    code: str
    message: str
    retry_after: bool = False


_REQUEST = "invalid_request_error"
_RATE = "rate_limit_error"
_SERVER = "server_error"

ERROR_CATALOG = {
    "UNAUTHORIZED": CatalogEntry(401, "authentication_error", "invalid_api_key", "The API key is missing or not accepted."),
    "FORBIDDEN": CatalogEntry(403, "permission_error", "forbidden", "This key may not do this."),
    "INVALID_REQUEST": CatalogEntry(400, _REQUEST, "invalid_request", "The request is malformed."),
    "INVALID_PARAMETER": CatalogEntry(400, _REQUEST, "invalid_parameter", "A parameter is not valid."),
    "INVALID_INPUT": CatalogEntry(422, _REQUEST, "invalid_input", "The model's input is not valid."),
    "VALIDATION_ERROR": CatalogEntry(422, _REQUEST, "validation_error", "The request did not pass validation."),
    "context_length_exceeded": CatalogEntry(
        400, "InferenceError", "context_length_exceeded", "The text is longer than the model's context window."
    ),
    "MODEL_NOT_FOUND": CatalogEntry(404, _SERVER, "model_not_found", "The model was not found."),
    "ENDPOINT_NOT_FOUND": CatalogEntry(404, _REQUEST, "endpoint_not_found", "There is no such endpoint."),
    "INSUFFICIENT_CREDITS": CatalogEntry(402, "billing_error", "insufficient_credits", "The account is out of credit."),
    "PAYMENT_REQUIRED": CatalogEntry(402, "billing_error", "payment_required", "A payment is needed."),
    "ACCOUNT_SUSPENDED": CatalogEntry(403, "permission_error", "account_suspended", "The account is suspended."),
    "SECURITY_VIOLATION": CatalogEntry(403, "permission_error", "security_violation", "The security policy forbids this."),
    "CONTENT_POLICY_VIOLATION": CatalogEntry(
        451, _REQUEST, "content_policy_violation", "The request was blocked by the content policy."
    ),
    "RATE_LIMITED": CatalogEntry(429, _RATE, "rate_limit_exceeded", "Too many requests for this account and model.", True),
    "INFERENCE_RATE_LIMITED": CatalogEntry(429, _RATE, "rate_limit_exceeded", "The model's backend is limiting.", True),
    "RATE_LIMIT_EXCEEDED": CatalogEntry(429, _RATE, "rate_limit_exceeded", "Too many requests.", True),
    "INFERENCE_ERROR": CatalogEntry(500, _SERVER, "service_error", "The model failed to answer."),
    "INTERNAL_ERROR": CatalogEntry(500, _SERVER, "internal_error", "The gateway failed."),
    "INFRASTRUCTURE_ERROR": CatalogEntry(502, _SERVER, "infrastructure_error", "The platform failed."),
    "SERVICE_UNAVAILABLE": CatalogEntry(503, _SERVER, "service_unavailable", "The service is not available now."),
    "INFERENCE_TIMEOUT": CatalogEntry(504, _SERVER, "timeout", "The model was too slow."),
}
"""Every error_id the inference routes answer with; the statuses are those of the documentation."""

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


def error_id_for(status: int) -> str:
    """The error_id a bare HTTP status stands for."""
    return _BY_STATUS.get(status, "INTERNAL_ERROR" if status >= 500 else "INVALID_REQUEST")


class APIException(Exception):
    """What a route raises to answer with an error of the catalogue.

    ``more`` holds further members of the error object, ``headers`` further headers of the answer.
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
        super().__init__(message or entry.message)
        self.error_id = error_id
        self.message = message or entry.message
        self.status = status or entry.status
        self.type = type or entry.type
        self.code = code or entry.code
        self.param = param
        self.details = details
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})

    def error_object(self, request_id: str) -> dict[str, Any]:
        """The ``error`` object of the inference envelope."""
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
        """The whole answer: the inference envelope, or the unified one that ``/models`` uses."""
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
    """A 400 that names the parameter."""
    return APIException("INVALID_PARAMETER", message, param=param)


def model_not_found(name: str) -> APIException:
    """The product page's own example of an error, word for word."""
    return APIException("MODEL_NOT_FOUND", f"The model '{name}' was not found.")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON as the service writes it: compact, UTF-8, NaN left as it is (a fault sends one)."""
    from starlette.responses import Response

    body = to_json(content, inf_nan_mode="constants")
    return Response(body, status_code=status, headers=headers, media_type="application/json")

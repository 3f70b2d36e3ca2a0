"""Errors from responses: by status, or by an error in the body of a success."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from skytells_nb.client.transport.base_url import origin_of
from skytells_nb.client.transport.rate_limits import read_retry_after
from skytells_nb.errors import APIError, api_error

EXCERPT_BYTES = 2000
"""Bytes stored of an error body that is not JSON."""


def error_from_response(response: httpx.Response, content: bytes) -> APIError:
    """Return the error for a response whose status is not 2xx; ``content`` is its body."""
    if response.is_redirect:
        return _redirect(response)
    try:
        body: Any = json.loads(content)
    except ValueError:
        body = content[:EXCERPT_BYTES].decode("utf-8", "replace")
    return api_error(
        response.status_code,
        body,
        request_id=request_id(response),
        retry_after=read_retry_after(response.headers),
    )


def error_in_success_body(body: Any, request_id: str | None) -> APIError | None:
    """Return the error in a body with status 200: ``"status": false``, or an ``error`` in place of a response."""
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    if body.get("status") is not False and (not isinstance(error, Mapping) or "id" in body):
        return None
    statuses = (error.get("http_status"), error.get("status")) if isinstance(error, Mapping) else ()
    status = next((s for s in statuses if isinstance(s, int) and 400 <= s < 600), 500)
    return api_error(status, body, request_id=request_id)


def request_id(response: httpx.Response) -> str | None:
    """Return the service's id of this request, if a header contains it."""
    return response.headers.get("x-request-id") or None


def _redirect(response: httpx.Response) -> APIError:
    here = origin_of(str(response.request.url))
    try:
        parts = urlsplit(urljoin(str(response.request.url), response.headers.get("location", "")))
        # Without path and user name: these belong to the other host, and may be secret.
        target = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        target = "an invalid address"
    where = "another path" if target == here else target
    return APIError(
        f"{here} redirected to {where}. It was not followed: the key goes to {here} only. "
        "If the service has moved, set base_url.",
        status=response.status_code,
        request_id=request_id(response),
    )

"""From an answer that is no answer to the error it stands for."""

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
"""How much is kept of an error's body that is not JSON."""


def error_from_response(response: httpx.Response, content: bytes) -> APIError:
    """The error for a whole answer whose status is not 2xx; ``content`` is its body."""
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
    """The error in a body that came with status 200: ``"status": false``, or an ``error`` in the place of an answer."""
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    if body.get("status") is not False and (not isinstance(error, Mapping) or "id" in body):
        return None
    said = (error.get("http_status"), error.get("status")) if isinstance(error, Mapping) else ()
    status = next((s for s in said if isinstance(s, int) and 400 <= s < 600), 500)
    return api_error(status, body, request_id=request_id)


def request_id(response: httpx.Response) -> str | None:
    """The service's id of this request, where a header says it."""
    return response.headers.get("x-request-id") or None


def _redirect(response: httpx.Response) -> APIError:
    here = origin_of(str(response.request.url))
    try:
        parts = urlsplit(urljoin(str(response.request.url), response.headers.get("location", "")))
        # Neither the path nor a user name: what stands there is the other side's, and may be secret.
        target = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        target = "an address that is none"
    where = "another path" if target == here else target
    return APIError(
        f"{here} redirected to {where}. It was not followed: the key goes to {here} only. "
        "If the service has moved, set base_url.",
        status=response.status_code,
        request_id=request_id(response),
    )

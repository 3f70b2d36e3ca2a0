"""Errors from responses: by status, or by an error in the body of a success."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from skytells_nb.client.transport.base_url import origin_of
from skytells_nb.client.transport.rate_limits import read_retry_after
from skytells_nb.error_bodies import is_error
from skytells_nb.errors import APIError, api_error
from skytells_nb.service_text import quoted_name

EXCERPT_BYTES = 20_000
"""Bytes read of an error body that is not JSON."""


def error_from_response(response: httpx.Response, content: bytes) -> APIError:
    """Return the error for a response whose status is not 2xx; ``content`` is its body."""
    if response.is_redirect:
        return _redirect(response)
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        body = content[:EXCERPT_BYTES].decode("utf-8", "replace")
    return api_error(
        response.status_code,
        body,
        request_id=request_id(response.headers),
        retry_after=read_retry_after(response.headers),
    )


def error_in_success_body(body: Any, request_id: str | None, payload: Sequence[str] = ()) -> APIError | None:
    """Return the error that a body with status 200 is instead of an answer; ``payload`` is as in ``is_error``."""
    if type(body) is dict and "error" not in body and body.get("status") is not False:
        choices = body.get("choices")
        if choices and type(choices) is list and type(choices[0]) is dict:
            first = choices[0]
            # Nearly every answer: not read any further.
            if "error" not in first and first.get("finish_reason") in _ENDS:
                return None
    if "output" in payload and isinstance(body, Mapping) and body.get("status") in RESPONSE_STATUSES:
        # A response has a status and an error of its own.
        return None
    return api_error(200, body, request_id=request_id) if is_error(body, payload) else None


RESPONSE_STATUSES = ("queued", "in_progress", "completed", "incomplete", "failed", "cancelled")
_ENDS = frozenset(("stop", "length", "tool_calls", "content_filter"))


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the service's id of this request, if a header contains it."""
    return quoted_name(headers.get("x-request-id"))


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
        request_id=request_id(response.headers),
    )

"""Errors from responses: by status, or by an error in the body of a success."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from skytells_nb.client.transport.base_url import origin_of
from skytells_nb.client.transport.body_forms import decode_text, unwrapped
from skytells_nb.client.transport.rate_limits import read_retry_after
from skytells_nb.client.transport.sse import EventDecoder, is_event_stream
from skytells_nb.error_bodies import is_error, read_error, says_error
from skytells_nb.errors import APIError, InvalidResponseError, SkytellsError, api_error
from skytells_nb.sanitize import page_text, quoted, quoted_name
from skytells_nb.types.models import MAX_TOTAL, billed_tokens_out

EXCERPT_BYTES = 20_000
"""Bytes read of an error body that is not JSON."""


def not_events(
    content: bytes, kind: str, request_id: str | None, redact: Callable[[bytes], bytes]
) -> SkytellsError | None:
    """Return the error of a body that came in place of a stream of events; ``None`` for an answer in JSON."""
    if content.lstrip()[:1] in (b"{", b"[", b'"'):
        try:
            body = unwrapped(json.loads(content), ("choices", "output"))
        except (ValueError, RecursionError):
            # Lines of JSON, or what the reader of events says about it.
            return None
        error = error_in_success_body(body, request_id, ("choices", "output"))
        if error is not None or (isinstance(body, dict) and {"choices", "output", "type"} & body.keys()):
            return error
    start = beginning_of(redact(content[:EXCERPT_BYTES]))
    excerpt = f" It begins with {start!r}." if start else ""
    return InvalidResponseError(
        f"The response must be a stream of events, got {quoted(kind, 80)}.{excerpt}", request_id=request_id
    )


def beginning_of(content: bytes) -> str:
    """Return the first words of a body: of an HTML page those that a browser shows."""
    text = content[:EXCERPT_BYTES].decode("utf-8", "replace")
    shown = page_text(text) if text.lstrip("\ufeff \t\r\n").startswith("<") else ""
    return quoted(shown if shown.strip() else text[:4096], 80)


def error_from_response(response: httpx.Response, content: bytes) -> APIError:
    """Return the error for a response whose status is not 2xx; ``content`` is its body."""
    if response.has_redirect_location:
        return _redirect(response)
    body = _error_body(content)
    return api_error(
        response.status_code,
        body,
        request_id=request_id(response.headers),
        retry_after=read_retry_after(response.headers),
    )


def _error_body(content: bytes) -> Any:
    """Return the JSON of an error's body, also as the first event of a stream or the first line; else its text."""
    text = decode_text(content[:MAX_ERROR_BYTES])
    if is_event_stream(content[:EXCERPT_BYTES]):
        decoder = EventDecoder()
        events = [*decoder.feed(content[:MAX_ERROR_BYTES]), *decoder.close()]
        text = next((event.data for event in events if event.data.strip()[:1] in ("{", "[")), text)
    with contextlib.suppress(ValueError, RecursionError):
        # The first of several lines, but not the number that a text may begin with.
        start = text.lstrip()
        return _JSON.raw_decode(start)[0] if start[:1] in ("{", "[") else _JSON.decode(text)
    return text[:EXCERPT_BYTES]


_JSON = json.JSONDecoder(strict=False)
MAX_ERROR_BYTES = 1_000_000
"""Bytes read of an error body that is JSON."""


def error_in_success_body(body: Any, request_id: str | None, payload: Sequence[str] = ()) -> APIError | None:
    """Return the error that a body with status 200 is instead of an answer; ``payload`` is as in ``is_error``."""
    if "output" in payload and isinstance(body, Mapping) and body.get("status") in RESPONSE_STATUSES:
        # A response has a status and an error of its own.
        return None
    if not is_error(body, payload):
        return None
    error = api_error(200, body, request_id=request_id)
    error.tokens = _used_tokens(body)
    return error


def _used_tokens(body: Any) -> tuple[int, int] | None:
    """Return the tokens that a body reports beside its error, ``None`` without a usage that can be read."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    given, made = (
        next((usage[name] for name in names if isinstance(usage.get(name), int)), 0)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    total = usage.get("total_tokens")
    made = billed_tokens_out(
        given, made, total if isinstance(total, int) else 0, details if isinstance(details, Mapping) else {}
    )
    return (given, made) if given > 0 and 0 <= made <= MAX_TOTAL and given <= MAX_TOTAL else None


def error_in_event(body: Mapping[str, Any], payload: Sequence[str], request_id: str | None) -> APIError | None:
    """Return the error that an event of a stream is instead of a part of the answer."""
    if body.get("type") == "error" or says_error(body.get("error")):
        return api_error(200, _with_words(body), request_id=request_id)
    return api_error(200, _with_words(body), request_id=request_id) if is_error(body, payload) else None


def _with_words(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return body if read_error(body).message else {**body, "message": "The service reported an error within the stream."}


RESPONSE_STATUSES = ("queued", "in_progress", "completed", "incomplete", "failed", "cancelled")


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the service's id of this request, if a header contains it."""
    return quoted_name(headers.get("x-request-id"))


def _redirect(response: httpx.Response) -> APIError:
    here = origin_of(str(response.request.url))
    try:
        parts = urlsplit(urljoin(str(response.request.url), response.headers.get("location", "")))
        # Without path and user name: these belong to the other host, and may be secret.
        target = f"{parts.scheme}://{parts.hostname}" if parts.hostname else "an invalid address"
        target += f":{parts.port}" if parts.port else ""
    except ValueError:
        target = "an invalid address"
    where = "another path" if target == here else target
    return APIError(
        f"{here} redirected to {where}. It was not followed: the key goes to {here} only. "
        "If the service has moved, set base_url.",
        status=response.status_code,
        request_id=request_id(response.headers),
    )

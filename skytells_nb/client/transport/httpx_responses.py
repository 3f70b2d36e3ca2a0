"""Responses that httpx reads, behind proxies and in place of the network: within the same limits."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import NoReturn

import httpx

from skytells_nb.client.transport.http11 import DeadlineExceeded, RawResponse
from skytells_nb.client.transport.http_response import ERROR_BODY_BYTES, announced_length, too_large
from skytells_nb.errors import ReplayMissError, SkytellsError


def read_response(response: httpx.Response, max_bytes: int, deadline: float | None) -> RawResponse:
    """Read a response of httpx within its limits, as sent."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    if response.is_closed:
        # It was made with its content, which is decoded already.
        headers.pop("content-encoding", None)
        return RawResponse(response.status_code, headers, response.content)
    buffer = io.BytesIO()
    limit = max_bytes if response.is_success else min(max_bytes, ERROR_BODY_BYTES)
    length = announced_length(headers)
    if response.is_success and length is not None and length > limit:
        response.close()
        raise too_large(limit, length, headers)
    try:
        for piece in response.iter_raw():
            buffer.write(piece)
            if buffer.tell() > limit:
                if response.is_success:
                    raise too_large(limit, None, headers)
                break
            _check_time(deadline)
    finally:
        response.close()
    return RawResponse(response.status_code, headers, buffer.getvalue())


def iter_pieces(response: httpx.Response, max_bytes: int, deadline: float | None) -> Iterator[bytes]:
    received = 0
    for piece in response.iter_bytes():
        received += len(piece)
        if received > max_bytes:
            raise too_large(max_bytes, None, response.headers)
        _check_time(deadline)
        yield piece


def _check_time(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() > deadline:
        raise DeadlineExceeded


class OfflineTransport(httpx.BaseTransport):
    """Raises an error of this kind with this message for every request, before any socket is opened."""

    def __init__(self, message: str, kind: type[SkytellsError] = ReplayMissError) -> None:
        self._message = message
        self._kind = kind

    def handle_request(self, request: httpx.Request) -> NoReturn:
        raise self._kind(self._message)

"""Middleware of all requests: request id, host check, API key, size of the body, and client disconnects."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skytells_nb.local.errors import APIException

MAX_BODY_BYTES = 64 * 2**20
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""Accepted names in the Host header, besides the address that the server listens on."""

_log = logging.getLogger(__name__)


class RequestMiddleware:
    """ASGI middleware. Converts an APIException raised by the app into the service's error envelope."""

    def __init__(self, app: ASGIApp, *, api_key: str, host: str = "127.0.0.1") -> None:
        self._app = app
        self._key = api_key.encode()
        name = f"[{host}]" if ":" in host else host
        self._check_host = TrustedHostMiddleware(_host_accepted, [*LOOPBACK_HOSTS, name], www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        response = _ResponseState(send, request_id)
        try:
            # With DNS rebinding, the page of another site can send requests here, with that site's name as the host.
            await self._check_host(scope, receive, _reject_host)
            scope["state"]["openai_client"] = self._authorize(scope)
            scope["state"]["body"] = await _read_body(scope, receive)
            await _cancel_on_disconnect(self._app, scope, receive, response)
        except _ClientDisconnected:
            return
        except APIException as error:
            if response.started:
                raise
            unified = scope["path"].startswith("/v1/model") and error.error_id != "MODEL_NOT_FOUND"
            await error.to_response(request_id, unified=unified)(scope, receive, response)
        except Exception:
            if response.started:
                raise
            _log.exception("%s %s failed (request %s)", scope["method"], scope["path"], request_id)
            await APIException("INTERNAL_ERROR").to_response(request_id)(scope, receive, response)

    def _authorize(self, scope: Scope) -> bool:
        """Check the key; return whether it came as OpenAI's libraries send it: the service's own send x-api-key."""
        headers = Headers(scope=scope)
        api_key = headers.get("x-api-key")
        is_openai = api_key is None and "authorization" in headers
        if scope["path"] != "/":
            if api_key is None:
                scheme, _, token = headers.get("authorization", "").partition(" ")
                api_key = token.strip() if scheme.lower() == "bearer" else ""
            if not hmac.compare_digest(api_key.encode("utf-8", "surrogateescape"), self._key):
                raise APIException("UNAUTHORIZED")
        return is_openai


async def _host_accepted(scope: Scope, receive: Receive, send: Send) -> None:
    """Called by the host check for an accepted host; does nothing."""


async def _reject_host(message: Message) -> None:
    """Replace the response of the host check by an error with the service's envelope."""
    raise APIException("FORBIDDEN", "This local server accepts requests to 127.0.0.1, ::1 and localhost only.")


class _ClientDisconnected(Exception):
    """The client closed the connection."""


class _ResponseState:
    """A ``send`` that adds the request id to the headers and records how much of the response was sent."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            MutableHeaders(raw=message["headers"])["x-request-id"] = self._request_id
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.complete = True
        await self._send(message)


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    declared = Headers(scope=scope).get("content-length", "0")
    too_large = APIException(
        "INVALID_REQUEST", f"The body must be at most {MAX_BODY_BYTES // 2**20} MB.", status=413, code="body_too_large"
    )
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientDisconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise too_large
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _cancel_on_disconnect(app: ASGIApp, scope: Scope, receive: Receive, response: _ResponseState) -> None:
    """Run the app, and cancel it once the client disconnects, so that generation stops."""
    disconnected = asyncio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        disconnected.set()

    async def receive_disconnect() -> Message:
        await disconnected.wait()
        return {"type": "http.disconnect"}

    request = asyncio.ensure_future(_call(app, scope, receive_disconnect, response))
    watcher = asyncio.ensure_future(watch())
    try:
        await asyncio.wait({request, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not request.done() and not response.complete:
            raise _ClientDisconnected
        await request
    finally:
        for task in (request, watcher):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await request


async def _call(app: ASGIApp, scope: Scope, receive: Receive, send: Callable[[Message], Awaitable[None]]) -> None:
    await app(scope, receive, send)

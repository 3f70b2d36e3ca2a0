"""What every request passes first: loopback names only, an id, the key, a bounded body, and a watch on the client."""

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
"""Names of this machine, as a Host header has them. The address that is listened on is one too."""

_log = logging.getLogger(__name__)


class RequestMiddleware:
    """ASGI middleware; turns a Problem raised anywhere behind it into the service's error envelope."""

    def __init__(self, app: ASGIApp, *, api_key: str, host: str = "127.0.0.1") -> None:
        self._app = app
        self._key = api_key.encode()
        named = f"[{host}]" if ":" in host else host
        self._check_host = TrustedHostMiddleware(_admitted, [*LOOPBACK_HOSTS, named], www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        progress = _Progress(send, request_id)
        try:
            # A page of another site whose name was pointed at this machine (DNS rebinding) sends that name here.
            await self._check_host(scope, receive, _refuse)
            self._admit(scope)
            scope["state"]["body"] = await _read_body(scope, receive)
            await _while_connected(self._app, scope, receive, progress)
        except _Gone:
            return
        except APIException as problem:
            if progress.started:
                raise
            unified = scope["path"].startswith("/v1/model") and problem.error_id != "MODEL_NOT_FOUND"
            await problem.to_response(request_id, unified=unified)(scope, receive, progress)
        except Exception:
            if progress.started:
                raise
            _log.exception("%s %s failed (request %s)", scope["method"], scope["path"], request_id)
            await APIException("INTERNAL_ERROR").to_response(request_id)(scope, receive, progress)

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["path"] != "/":
            given = headers.get("x-api-key")
            if given is None:
                scheme, _, token = headers.get("authorization", "").partition(" ")
                given = token.strip() if scheme.lower() == "bearer" else ""
            if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._key):
                raise APIException("UNAUTHORIZED")


async def _admitted(scope: Scope, receive: Receive, send: Send) -> None:
    """What the host check calls for a host that is this machine's."""


async def _refuse(message: Message) -> None:
    """In place of the host check's own answer, which is no envelope of the service's."""
    raise APIException("FORBIDDEN", "This local server answers to 127.0.0.1 and localhost only.")


class _Gone(Exception):
    """The client left."""


class _Progress:
    """``send`` that puts the request id on the answer and knows how far it got."""

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
        "INVALID_REQUEST", f"The body is larger than {MAX_BODY_BYTES // 2**20} MB.", status=413, code="body_too_large"
    )
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        piece = message.get("body", b"")
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise too_large
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _while_connected(app: ASGIApp, scope: Scope, receive: Receive, progress: _Progress) -> None:
    """Run the app, and stop it as soon as the client is gone: nobody decodes for nobody."""
    gone = asyncio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async def receive_nothing() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    work = asyncio.ensure_future(_call(app, scope, receive_nothing, progress))
    watcher = asyncio.ensure_future(watch())
    try:
        await asyncio.wait({work, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and not progress.complete:
            raise _Gone
        await work
    finally:
        for task in (work, watcher):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await work


async def _call(app: ASGIApp, scope: Scope, receive: Receive, send: Callable[[Message], Awaitable[None]]) -> None:
    await app(scope, receive, send)

"""The steps of every inference request: counters, rate limits, faults, then the endpoint's handler."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pydantic_core
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from skytells_nb.errors import InputError
from skytells_nb.local.api.rate_limits import Account
from skytells_nb.local.api.request import KEEP_ALIVE_S, InferenceRequest, TokenUsage
from skytells_nb.local.api.stats import RequestRecord, Stats
from skytells_nb.local.errors import APIException
from skytells_nb.local.faults import FAULT_HEADER, Faults
from skytells_nb.local.generation.streaming import GenerationThreads
from skytells_nb.local.protocols import LocalModels

_MAX_TRACKED_BODIES = 100_000
MAX_NAME = 200
"""Characters of a model's name in the counters."""
_OTHER_ORIGIN = "https://elsewhere.invalid/v1/"
_PROXY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

Handler = Callable[[InferenceRequest], Awaitable[Response]]


@dataclass(slots=True)
class Service:
    """State that the endpoints share."""

    models: LocalModels
    faults: Faults
    account: Account | None
    stats: Stats = field(default_factory=Stats)
    threads: GenerationThreads = field(default_factory=GenerationThreads)
    attempts: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    keep_alive: float = KEEP_ALIVE_S

    def count_attempt(self, body: bytes) -> int:
        """Count a request and return the number of earlier requests with the same body."""
        key = hashlib.blake2b(body, digest_size=12).digest()
        count = self.attempts.pop(key, 0)
        self.attempts[key] = count + 1
        if len(self.attempts) > _MAX_TRACKED_BODIES:
            self.attempts.popitem(last=False)
        return count


class InferenceEndpoint:
    """An inference endpoint as an ASGI app; ``inputs`` returns the inputs of a body, for the counters."""

    def __init__(
        self, name: str, handler: Handler, inputs: Callable[[dict[str, Any]], list[str]], service: Service
    ) -> None:
        self._name = name
        self._handler = handler
        self._inputs = inputs
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, state = self._service, scope["state"]
        raw: bytes = state["body"]
        body = _parse(raw)
        model = body.get("model")
        inputs = self._inputs(body)
        attempt = service.count_attempt(self._name.encode() + raw)
        try:
            requested = service.faults.with_header(Headers(scope=scope).get(FAULT_HEADER))
        except InputError as error:
            raise APIException("INVALID_REQUEST", f"{FAULT_HEADER}: {error}") from None
        faults = requested.for_attempt(raw, attempt)
        record = RequestRecord(
            state["request_id"],
            self._name,
            model[:MAX_NAME] if isinstance(model, str) else "",
            len(inputs),
            body.get("stream") is True,
            attempt,
            str(faults),
        )
        sender = _Sender(scope, send, record, faults)
        hashes = service.stats.record_request(record, inputs)
        started_at = time.monotonic()
        try:
            usage = TokenUsage()
            if service.account is None:
                await self._respond(body, faults, sender, scope, receive, usage)
                return
            admission = service.account.acquire(record.model, started_at)
            sender.headers = admission.headers
            if not admission.allowed:
                raise admission.error(service.account.limits)
            try:
                await self._respond(body, faults, sender, scope, receive, usage)
            finally:
                service.account.release(record.model, usage.tokens_in, usage.tokens_out)
        except APIException as error:
            record.status = error.status
            error.headers.update(sender.headers)
            raise
        finally:
            record.seconds = time.monotonic() - started_at
            service.stats.record_response(record, hashes)

    async def _respond(
        self, body: dict[str, Any], faults: Faults, sender: _Sender, scope: Scope, receive: Receive, usage: TokenUsage
    ) -> None:
        delay = faults.latency + faults.latency_per_row * max(1, sender.record.inputs)
        if delay:
            await asyncio.sleep(delay)
        if faults.cut == "before":
            await sender.close_connection()
        if faults.cut == "headers":
            await sender.close_connection(b"HTTP/1.1 200 OK\r\ncontent-type: applica")
        error = faults.status_error()
        if error is not None:
            raise error
        if faults.redirect is not None:
            target = faults.redirect if "://" in faults.redirect else _OTHER_ORIGIN + self._name
            await Response(status_code=302, headers={"location": target})(scope, receive, sender)
            return
        if faults.html_error:
            await Response(_PROXY_PAGE, 502, media_type="text/html")(scope, receive, sender)
            return
        call = InferenceRequest(
            body,
            QueryParams(scope.get("query_string", b"")),
            scope["state"]["request_id"],
            faults,
            self._service.models,
            self._service.threads,
            sender.close_connection,
            usage,
            self._service.keep_alive,
        )
        response = await self._handler(call)
        await response(scope, receive, sender)


class _Sender:
    """A ``send`` that adds the rate-limit headers, records the status, and injects faults into the body."""

    def __init__(self, scope: Scope, send: Send, record: RequestRecord, faults: Faults) -> None:
        self._scope = scope
        self._send = send
        self._faults = faults
        self.record = record
        self.headers: dict[str, str] = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.record.status = message["status"]
            MutableHeaders(raw=message["headers"]).update(self.headers)
            await self._send(message)
            return
        body: bytes = message.get("body", b"")
        if self._faults.cut == "body" and body:
            await self._send({**message, "body": body[: len(body) // 2], "more_body": True})
            await self.close_connection()
        await self._send(message)
        if not message.get("more_body", False):
            self.record.complete = True

    async def close_connection(self, last: bytes = b"") -> None:
        """Close the connection after sending ``last``; never return."""
        transport: asyncio.Transport | None = self._scope["state"].get("transport")
        if transport is None:
            raise RuntimeError("Connections can be closed only when the app runs in a LocalServer.")
        if last:
            transport.write(last)
        transport.close()
        # The middleware notices the disconnect and cancels this task.
        await asyncio.Event().wait()


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body = pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise APIException(
            "INVALID_REQUEST", f"The body must be JSON: {error}.", details={"category": "request"}
        ) from None
    if not isinstance(body, dict):
        raise APIException("INVALID_REQUEST", "The body must be a JSON object.", details={"category": "request"})
    return body

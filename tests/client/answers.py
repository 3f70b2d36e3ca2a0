"""Streams and answers as the service sends them, and calls on a server that sends just these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from serving import KEY, Exchange, ScriptedServer, serving

from skytells_nb.client.chat import ChatStream
from skytells_nb.client.client import Skytells
from skytells_nb.client.responses import ResponseStream

SAFE = {"filtered": False, "severity": "safe"}
PROMPT_CHUNK = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "choices": [],
    "prompt_filter_results": [
        {
            "prompt_index": 0,
            "content_filter_results": {"hate": SAFE, "jailbreak": {"filtered": False, "detected": False}},
        }
    ],
}
DONE = b"data: [DONE]\n\n"


def chunk(delta: Any = None, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """One chunk of a chat; ``more`` goes to its choice."""
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish, "content_filter_results": {}, **more}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1773759400,
        "model": "gpt-5.4",
        "obfuscation": "x",
        "choices": [choice],
        "usage": None,
    }


def usage_chunk(tokens_in: int, tokens_out: int) -> dict[str, Any]:
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    return {**chunk(), "choices": [], "usage": usage}


def lines(*bodies: Any) -> bytes:
    """Events of these bodies; text and bytes as they are."""
    parts = []
    for body in bodies:
        if isinstance(body, bytes):
            parts.append(body)
        else:
            parts.append(f"data: {body if isinstance(body, str) else json.dumps(body)}\n\n".encode())
    return b"".join(parts)


def named(*events: dict[str, Any]) -> bytes:
    """Events of the Responses stream: each with its name, numbered."""
    return b"".join(
        f"event: {e['type']}\ndata: {json.dumps({**e, 'sequence_number': n})}\n\n".encode()
        for n, e in enumerate(events)
    )


@contextmanager
def replying(body: Any, status: int = 200, **headers: str) -> Iterator[tuple[Skytells, ScriptedServer]]:
    """A client of a server that gives this answer to every request."""
    with (
        serving(lambda e: e.reply(body, status, **headers)) as server,
        Skytells(KEY, base_url=server.url) as client,
    ):
        yield client, server


@contextmanager
def streaming(sent: bytes, **headers: str) -> Iterator[tuple[Skytells, ScriptedServer]]:
    """A client of a server that sends these bytes as a stream, then closes the connection."""

    def script(exchange: Exchange) -> None:
        exchange.begin(**headers)
        exchange.send(sent)

    with serving(script) as server, Skytells(KEY, base_url=server.url) as client:
        yield client, server


def chat_stream(client: Skytells) -> ChatStream:
    return client.chat.completions.create(model="gpt-5.4", messages="Count.", stream=True)


def response_stream(client: Skytells) -> ResponseStream:
    return client.responses.create(model="gpt-5.4", input="Capital?", stream=True)

"""Instant stand-ins for the three local models, and helpers that start a server on them and send requests."""

from __future__ import annotations

import hashlib
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from skytells_nb.local import LocalServer
from skytells_nb.local.generation.generator import ContextLengthExceeded

CATEGORIES = ("hate", "self_harm", "sexual", "violence", "jailbreak")
GATE_S = 120.0
"""A held answer comes after this time at the latest, so that a test that failed does not hold it forever."""


@dataclass(frozen=True)
class EchoPiece:
    text: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EchoGenerator:
    """Repeats the last message, one word per piece; with a schema, generates a minimal valid object.

    With ``gate``, every piece after the first waits until it is set, so that a test can hold a generation.
    """

    name = "local-echo"
    context = 200
    available = True
    reason: str | None = None

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate = gate
        self.closed = threading.Event()
        self.seeds: list[int | None] = []
        self.messages: list[list[dict[str, Any]]] = []

    def count_tokens(self, messages_or_text: list[dict[str, Any]] | str) -> int:
        if isinstance(messages_or_text, str):
            return len(messages_or_text.split())
        return sum(len(m["content"].split()) for m in messages_or_text)

    def stream(
        self,
        messages: list[dict[str, Any]],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float,
        stop: Sequence[str] = (),
        seed: int | None = None,
        presence_penalty: float = 0,
        frequency_penalty: float = 0,
        schema: dict[str, Any] | None = None,
        json: bool = False,
    ) -> Iterator[EchoPiece]:
        self.seeds.append(seed)
        self.messages.append(messages)
        if schema is not None and "not" in schema:
            raise ValueError("the keyword 'not' is not supported")
        tokens = self.count_tokens(messages)
        if tokens >= self.context:
            raise ContextLengthExceeded(tokens, self.context)
        text = messages[-1]["content"]
        if schema is not None or json:
            text = minimal(schema or {"type": "object"})
        words = [w + " " for w in text.split(" ")]
        words[-1] = words[-1].rstrip(" ")
        output = words[:max_tokens]
        try:
            for count, word in enumerate(output, 1):
                if count > 1 and self.gate is not None:
                    self.gate.wait(GATE_S)
                yield EchoPiece(word)
            yield EchoPiece("", "length" if len(words) > len(output) else "stop", tokens, len(output))
        finally:
            self.closed.set()


class HoldingGenerator(EchoGenerator):
    """Answers the first requests at once, and holds all others until ``go`` is set."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.go = threading.Event()
        self._first = first
        self._numbers = itertools.count()

    def stream(self, messages: list[dict[str, Any]], **parameters: Any) -> Iterator[EchoPiece]:
        if next(self._numbers) >= self._first:
            self.go.wait(GATE_S)
        return super().stream(messages, **parameters)


class NoGenerator(EchoGenerator):
    """A generator whose weights are not installed."""

    available = False
    reason = "The chat weights are missing; run: python -m skytells_nb local install"


Pairs = list[tuple[str, Any]]
"""Pairs of id and answer, in output order."""


class RowsGenerator(EchoGenerator):
    """Answers a JSON array of prompts with an object of id and prompt; other messages like EchoGenerator.

    Strings of a schema contain the prompt, so that each answer can be assigned to its prompt. ``corrupt`` changes the
    pairs of a batch, or returns the text to send in their place. ``most_words`` truncates it, with reason ``length``.
    """

    context = 4000

    def __init__(self, corrupt: Callable[[Pairs], Pairs | str] = lambda pairs: pairs, most_words: int = 10**6) -> None:
        super().__init__()
        self.corrupt = corrupt
        self.most_words = most_words
        self.batches: list[list[str]] = []
        self.single_prompts: list[str] = []
        self.limits: list[int] = []

    def stream(
        self,
        messages: list[dict[str, Any]],
        *,
        max_tokens: int,
        schema: dict[str, Any] | None = None,
        json: bool = False,
        **sampling: Any,
    ) -> Iterator[EchoPiece]:
        self.limits.append(max_tokens)
        text = messages[-1]["content"]
        rows = _rows(text)
        if rows:
            self.batches.append(list(rows.values()))
            properties = (schema or {}).get("properties", {})
            pairs = [(name, _answer(properties.get(name, {}), schema, words)) for name, words in rows.items()]
            corrupted = self.corrupt(pairs)
            text = corrupted if isinstance(corrupted, str) else written(corrupted)
            max_tokens = min(max_tokens, self.most_words)
        else:
            self.single_prompts.append(text)
            text = text if schema is None else written(list(_answer(schema, schema, text).items()))
        return super().stream([{"role": "user", "content": text}], max_tokens=max_tokens, **sampling)


def written(pairs: Pairs) -> str:
    """Return an object as JSON text, which may contain a name twice."""
    return "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in pairs) + "}"


def _rows(text: str) -> dict[str, str]:
    """Return prompts by id if the text is an array of them."""
    try:
        rows = json.loads(text)
    except ValueError:
        return {}
    is_rows = isinstance(rows, list) and all(isinstance(row, dict) and {"id", "message"} <= set(row) for row in rows)
    return {row["id"]: row["message"] for row in rows} if is_rows else {}


def _answer(schema: Any, root: Any, words: str) -> Any:
    """Return a value that is valid for the schema and contains these words."""
    while "$ref" in schema:
        schema = reduce(lambda part, step: part[step], schema["$ref"].removeprefix("#/").split("/"), root)
    if "enum" in schema:
        return next((value for value in schema["enum"] if str(value) in words), schema["enum"][0])
    if schema.get("type") == "object":
        return {name: _answer(part, root, words) for name, part in schema.get("properties", {}).items()}
    return words if schema.get("type", "string") == "string" else _value(schema)


class HashEmbedder:
    """Embeds texts by hashes of their words, so that texts with equal words are similar."""

    name = "local-hash-16"
    dimensions = 16

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().replace(".", " ").split():
                row[hashlib.blake2b(word.encode(), digest_size=2).digest()[0] % self.dimensions] += 1
            row /= np.linalg.norm(row) or 1
        return rows

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class WordModerator:
    """Scores by words in the text: "violence:high" is violence of that severity."""

    def score(self, texts: Sequence[str]) -> list[dict[str, str]]:
        scores = []
        for text in texts:
            severities = dict.fromkeys(CATEGORIES, "safe")
            for word in text.split():
                category, _, severity = word.strip('".,').partition(":")
                if category in severities and severity in ("low", "medium", "high"):
                    severities[category] = severity
            scores.append(severities)
        return scores


def minimal(schema: dict[str, Any]) -> str:
    """Return a small JSON text that is valid for the schema."""
    return json.dumps(_value(schema))


def _value(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    if kind == "object":
        return {name: _value(part) for name, part in schema.get("properties", {}).items()}
    return {"array": [], "integer": 1, "number": 1.5, "boolean": True, "null": None}.get(kind, "text")


def fake_server(**settings: Any) -> LocalServer:
    """Return a server on these models; start it or use it in a with statement."""
    models = {"embedder": HashEmbedder(), "moderator": WordModerator(), "generator": EchoGenerator()}
    return LocalServer(**{**models, **settings})


def client_of(server: LocalServer, **headers: str) -> httpx.Client:
    """Return an HTTP client with the server's key that ignores proxy settings."""
    return httpx.Client(
        base_url=server.base_url, headers={"x-api-key": server.api_key, **headers}, timeout=20, trust_env=False
    )


def events(text: str) -> list[tuple[str | None, Any]]:
    """Parse a stream into the name and JSON of every event; ``[DONE]`` remains a string."""
    parsed: list[tuple[str | None, Any]] = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        name, data = None, None
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data = value if value == "[DONE]" else json.loads(value)
        if data is not None:
            parsed.append((name, data))
    return parsed


def send_raw(server: LocalServer, path: str, body: dict[str, Any], fault: str = "") -> socket.socket:
    """Send a request on a plain socket and return the socket."""
    payload = json.dumps(body).encode()
    head = (
        f"POST /v1{path} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nx-api-key: {server.api_key}\r\n"
        f"content-length: {len(payload)}\r\nconnection: close\r\nx-skytells-fault: {fault}\r\n\r\n"
    )
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    sock.sendall(head.encode() + payload)
    return sock


def raw_exchange(server: LocalServer, path: str, body: dict[str, Any], fault: str = "") -> list[bytes]:
    """Send a request on a plain socket and return the data of each read until the connection closes."""
    chunks = []
    with send_raw(server, path, body, fault) as sock:
        while chunk := sock.recv(65536):
            chunks.append(chunk)
    return chunks


def chat_body(text: str, **parameters: Any) -> dict[str, Any]:
    """Return the body of a chat request with one user message."""
    return {"model": "gpt-5", "messages": [{"role": "user", "content": text}], **parameters}

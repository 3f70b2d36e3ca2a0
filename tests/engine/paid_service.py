"""A service on a real port that refuses what a test says, and bills what it answers."""

from __future__ import annotations

import base64
import json
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from serving import KEY, Exchange, serving

from skytells_nb.session import Session, connect

INPUT_PRICE, OUTPUT_PRICE = 1.0, 2.0
"""US dollars for a million tokens of every model here."""
MODEL, EMBEDDING_MODEL = "gpt-5", "skytells-embed-3-small"
_CATALOG = [
    {
        "name": name,
        "namespace": name,
        "type": "text",
        "pricing": {
            "currency": "USD",
            "criterias": [
                {"field": "input_tokens", "billable_price": INPUT_PRICE, "unit": "million_token"},
                {"field": "output_tokens", "billable_price": OUTPUT_PRICE, "unit": "million_token"},
            ],
        },
        "metadata": {"openai_compatible": True},
    }
    for name in (MODEL, EMBEDDING_MODEL)
]
Refusal = tuple[int, Any]


def refusal(status: int, message: str, **members: Any) -> Refusal:
    """A refusal in the usual envelope."""
    return status, {"error": {"message": message, **members}}


class PaidService:
    """``refuse(body)`` returns a refusal or ``None``; ``tokens_in(text)`` and ``tokens_out(body)`` are what is billed.

    ``usage`` returns the usage that is told, ``None`` for none; by default it is what is billed.
    """

    def __init__(
        self,
        refuse: Callable[[dict[str, Any]], Refusal | None] = lambda body: None,
        *,
        tokens_in: Callable[[str], int] = lambda text: len(text.encode()) // 4 + 1,
        tokens_out: Callable[[dict[str, Any]], int] = lambda body: 5,
        usage: Callable[[int, int], Any] | None = None,
        say: Callable[[dict[str, Any]], str] = lambda body: "an answer",
    ) -> None:
        self._refuse = refuse
        self._tokens_in = tokens_in
        self._tokens_out = tokens_out
        self._usage = usage
        self._say = say
        self._lock = threading.Lock()
        self.answered: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.billed = 0.0
        self.most_expensive = 0.0
        """What the most expensive request cost."""

    @property
    def requests(self) -> int:
        return len(self.answered) + len(self.refused)

    def __call__(self, exchange: Exchange) -> None:
        if exchange.method == "GET":
            exchange.reply(_CATALOG)
            return
        body = exchange.json
        refused = self._refuse(body)
        with self._lock:
            (self.answered if refused is None else self.refused).append(body)
        if refused is None:
            exchange.reply(self._answer(body, embeds=exchange.path.endswith("/embeddings")))
        else:
            exchange.reply(refused[1], status=refused[0])

    def _answer(self, body: dict[str, Any], *, embeds: bool) -> dict[str, Any]:
        texts = body["input"] if embeds else [message["content"] for message in body["messages"]]
        tokens_in = sum(map(self._tokens_in, [texts] if isinstance(texts, str) else texts))
        tokens_out = 0 if embeds else self._tokens_out(body)
        cost = (tokens_in * INPUT_PRICE + tokens_out * OUTPUT_PRICE) / 1e6
        with self._lock:
            self.billed += cost
            self.most_expensive = max(self.most_expensive, cost)
        total = tokens_in + tokens_out
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": total}
        told = self._usage(tokens_in, tokens_out) if self._usage is not None else usage
        answer: dict[str, Any] = {"model": body["model"], **({} if told is None else {"usage": told})}
        if embeds:
            vectors = [_vector(text, body.get("encoding_format")) for text in texts]
            data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
            return {"object": "list", "data": data, **answer}
        choice = {"index": 0, "message": {"role": "assistant", "content": self._say(body)}, "finish_reason": "stop"}
        return {"id": "c", "choices": [choice], **answer}


def _vector(text: str, encoding: str | None) -> Any:
    numbers = [float(zlib.crc32(text.encode("utf-8", "surrogatepass")) % 1000 + part) for part in range(4)]
    return base64.b64encode(struct.pack("<4f", *numbers)).decode() if encoding == "base64" else numbers


@contextmanager
def paid(service: PaidService, cache: Any = "memory", **settings: Any) -> Iterator[Session]:
    """A session at this service."""
    with serving(service) as server, connect(KEY, base_url=server.url, cache=cache, **settings) as session:
        yield session


def prompt_of(body: dict[str, Any]) -> str:
    """The last message of a completion's request."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else json.dumps(content)

"""A service on a real port whose answers are a function of the request, for answers that no model gives on demand."""

from __future__ import annotations

import base64
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

import skytells_nb as sky

Answer = Callable[[str], Any]
"""From the last message to what is said: a text, ``(status, body)``, or a whole choice as a dict."""


@dataclass
class Scripted:
    """What was asked so far, and how to answer from now on."""

    answer: Answer
    url: str = ""
    asked: list[str] = field(default_factory=list)
    """The last message of each completion."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    vector: Callable[[str], list[float]] = field(default=lambda text: _vector(text))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        self.asked, self.bodies, self.embedded = [], [], []

    def connect(self, cache: str | Path) -> sky.session.Session:
        return sky.connect("sk-test", base_url=self.url, model="gpt-5", cache=cache)


def _vector(text: str) -> list[float]:
    seed = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    return [float(x) for x in np.random.default_rng(seed).standard_normal(4).astype(np.float32)]


def blocked(category: str = "violence") -> tuple[int, dict[str, Any]]:
    """The response to a prompt that the filter blocks."""
    result = {category: {"filtered": True, "severity": "high"}}
    inner = {"content_filter_result": result}
    return 400, {"error": {"message": "The prompt was filtered.", "code": "content_filter", "innererror": inner}}


@contextmanager
def scripted(answer: Answer, cache: str | Path = "memory") -> Iterator[Scripted]:
    """A service that answers so, as the default session."""
    script = Scripted(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None: ...

        def do_GET(self) -> None:
            self.reply(200, [])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(*_respond(script, self.path, body))

        def reply(self, status: int, said: Any) -> None:
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        script.connect(cache)
        yield script
    finally:
        sky.session.reset()
        server.shutdown()
        server.server_close()
        thread.join()


def _respond(script: Scripted, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    if path.endswith("/embeddings"):
        with script.lock:
            script.embedded += body["input"]
        data = [
            {"object": "embedding", "index": i, "embedding": _coded(script.vector(text))}
            for i, text in enumerate(body["input"])
        ]
        return 200, {"object": "list", "model": body["model"], "data": data, "usage": _usage(len(data), 0)}
    last = body["messages"][-1]["content"]
    with script.lock:
        script.asked.append(last)
        script.bodies.append(body)
    said = script.answer(last)
    if isinstance(said, tuple):
        return said
    choice = {"index": 0, "finish_reason": "stop"}
    choice.update(said if isinstance(said, dict) else {"message": {"role": "assistant", "content": said}})
    return 200, {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
        "usage": _usage(10, 5),
    }


def _coded(vector: list[float] | None) -> str | None:
    return None if vector is None else base64.b64encode(np.array(vector, dtype="<f4").tobytes()).decode()


def _usage(tokens_in: int, tokens_out: int) -> dict[str, int]:
    return {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}

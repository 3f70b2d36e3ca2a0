"""A GGUF model in this process, by llama.cpp: prompts, tokens, decoding, and next-token probabilities."""

from __future__ import annotations

import ctypes
import http.client
import importlib
import importlib.util
import json
import platform
import secrets
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from skytells_nb.errors import LocalServerError

PROMPT_STEP_TOKENS = 128
"""Prompt tokens between two checks for cancellation: about 0.7 s on one core."""
_POLL_S = 0.05
_LOGIT_BIAS = 100.0
_SENTINEL = "@"


@dataclass(frozen=True)
class Decoded:
    """The end of a decoding: ``finish_reason`` (``stop``, ``length``, ``cancelled``) and llama.cpp's token counts."""

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def missing_requirement() -> str | None:
    """Return why the runtime cannot be loaded and how to fix it, or ``None``; imports nothing that could crash."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "the chat runtime xllamacpp is not installed. Install it with: pip install 'skytells-nb[local]'"
    if sys.platform.startswith("linux"):
        if platform.machine().lower() in ("x86_64", "amd64") and not _cpu_has("avx2", "fma", "bmi2"):
            return (
                "this processor has no AVX2, which the chat runtime requires. Embeddings and moderation work; "
                "use another machine for chat."
            )
        try:
            ctypes.CDLL("libgomp.so.1")
        except OSError:
            return "the system library libgomp.so.1 is missing. Install it with: apt-get install libgomp1"
    return None


def _cpu_has(*flags: str) -> bool:
    """Whether Linux lists these CPU features, or does not list any. Without them the import crashes the process."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                return set(flags) <= set(line.partition(":")[2].split())
    except OSError:
        pass
    return True


class Llama:
    """A loaded model for ``slots`` concurrent requests of ``context`` tokens each. Thread-safe.

    ``threads`` is 1 by default because llama.cpp's workers spin while they wait: on two shared cores a second thread
    reduced decoding from 54 to 3 tokens per second. ``compact`` stores the attention cache in 8 bits instead of 16,
    which some models do not support.
    """

    def __init__(
        self, path: Path, *, slots: int = 2, context: int = 2048, threads: int = 1, compact: bool = False
    ) -> None:
        xllamacpp: Any = importlib.import_module("xllamacpp")
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel = context * slots, slots
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_batch = params.n_ubatch = PROMPT_STEP_TOKENS
        if compact:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
        params.verbosity = 0
        params.warmup = False
        # Otherwise finished prompts are cached in memory, up to 8 GB.
        params.cache_ram_mib = 0
        # The server always listens on a loopback port: require a key, and disable its web page.
        self._key = secrets.token_urlsafe(32)
        params.api_keys = [self._key]
        params.ui = params.endpoint_slots = False
        params.n_threads_http = 2
        self._prompt_lock = threading.Semaphore(1)
        try:
            self._server: Any = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise LocalServerError(f"llama.cpp could not load {path}: {error}. Is it a complete GGUF file?") from error
        # Freeing a server that never completed a request deadlocks, so complete one now.
        self._server.handle_completions({"prompt": " ", "max_tokens": 1})
        self.address = urlsplit(self._server.listening_address).netloc

    def close(self) -> None:
        """Free the model; no decoding may be in progress."""
        self._server = None

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """Return the prompt that the model's chat template makes from messages."""
        return str(self._post("/apply-template", {"messages": list(messages)})["prompt"])

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Return the token ids of a prompt with special tokens, or of plain text with ``special=False``."""
        body = {"content": text, "add_special": special, "parse_special": special}
        return [int(token) for token in self._post("/tokenize", body)["tokens"]]

    def pieces(self, text: str) -> list[tuple[int, bytes]]:
        """Return the token ids of plain text, and the bytes that each stands for."""
        body = {"content": text, "add_special": False, "parse_special": False, "with_pieces": True}
        found = self._post("/tokenize", body)["tokens"]
        # A piece that is half a character is a list of bytes.
        return [
            (int(t["id"]), t["piece"].encode() if isinstance(t["piece"], str) else bytes(t["piece"])) for t in found
        ]

    def decode(
        self,
        prompt: str,
        on_text: Callable[[str], None],
        *,
        closed: Callable[[], bool],
        on_logprobs: Callable[[list[dict[str, Any]]], None] | None = None,
        **params: Any,
    ) -> Decoded:
        """Continue ``prompt``, calling ``on_text`` with each piece until the end, the limit or ``closed()``.

        With ``logprobs``, ``on_logprobs`` is called with the log probabilities of its tokens.

        Prompts are processed one at a time: llama.cpp spends whole steps on one of them, and the other could not be
        cancelled.
        """
        while not self._prompt_lock.acquire(timeout=_POLL_S):
            if closed():
                return Decoded("cancelled", 0, 0)
        held_locks = [self._prompt_lock]
        outcome: dict[str, Any] = {}

        def receive(chunk: Any) -> bool:
            # An exception from this callback would be lost in C++ code.
            try:
                for part in chunk if isinstance(chunk, list) else [chunk]:
                    progress = part.get("prompt_progress") or {"processed": 1, "total": 1}
                    if held_locks and progress["processed"] >= progress["total"]:
                        held_locks.pop().release()
                    if closed():
                        return True
                    if "error" in part:
                        outcome["error"] = part["error"]
                        return True
                    for choice in part.get("choices") or ():
                        if choice.get("text"):
                            on_text(choice["text"])
                        if on_logprobs is not None and choice.get("logprobs"):
                            on_logprobs(choice["logprobs"].get("content") or [])
                        outcome["reason"] = choice.get("finish_reason") or outcome.get("reason")
                    outcome["usage"] = part.get("usage") or outcome.get("usage")
            except BaseException as error:
                outcome["raised"] = error
                return True
            return False

        request = {"prompt": prompt, "stream": True, "stream_options": {"include_usage": True}, **params}
        # With progress, the callback also runs between the steps of a long prompt and can cancel it there.
        try:
            self._server.handle_completions({**request, "return_progress": True}, receive)
        finally:
            if held_locks:
                held_locks.pop().release()
        if "raised" in outcome:
            raise outcome["raised"]
        if "error" in outcome:
            raise LocalServerError(f"llama.cpp rejected the request: {outcome['error'].get('message')}")
        usage = outcome.get("usage") or {}
        reason = "cancelled" if closed() else outcome.get("reason") or "length"
        return Decoded(reason, int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))

    def probabilities(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """Return the probabilities of these next tokens, normalized among them."""
        answer = self._server.handle_completions(
            {
                "prompt": list(prompt),
                "max_tokens": 1,
                "temperature": 1.0,
                "top_k": 0,
                "top_p": 1.0,
                "min_p": 0.0,
                "seed": 0,
                "n_probs": len(tokens),
                "post_sampling_probs": True,
                # An equal bias preserves their order and ranks them above all other tokens.
                "logit_bias": [[token, _LOGIT_BIAS] for token in tokens],
            }
        )
        if "error" in answer:
            raise LocalServerError(f"llama.cpp rejected the request: {answer['error'].get('message')}")
        by_token = {
            part["id"]: float(part["prob"]) for part in answer["choices"][0]["logprobs"]["content"][0]["top_probs"]
        }
        return [by_token.get(token, 0.0) for token in tokens]

    def enforces(self, grammar: str) -> bool:
        """Whether llama.cpp enforces a grammar, whose texts must not start with ``@``.

        It silently ignores a JSON schema that it cannot compile, so decode one token with a bias towards ``@``.
        """
        request = {"prompt": "x", "max_tokens": 1, "temperature": 0, "logit_bias": [[_SENTINEL, _LOGIT_BIAS]]}
        try:
            answer = self._server.handle_completions({**request, "grammar": grammar})
        except (RuntimeError, ValueError):
            return False
        return "error" not in answer and _SENTINEL not in answer["choices"][0]["text"]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request that only the HTTP interface supports; it is on loopback, so proxy settings do not apply."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
            connection.request("POST", path, json.dumps(body).encode(), headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            message = answer.get("error", {}).get("message", "no reason given")
            raise LocalServerError(f"llama.cpp rejected the request: {message}")
        return answer

"""One GGUF model in this process, by llama.cpp: prompts, tokens, decoding, and the probabilities of next tokens."""

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
"""Prompt tokens between two looks at whether the reader is still there: about 0.7 s on one core."""
_POLL_S = 0.05
_BIAS = 100.0
_SENTINEL = "@"


@dataclass(frozen=True)
class Decoded:
    """How a decoding ended: ``finish_reason`` (``stop``, ``length``, ``cancelled``) and llama.cpp's token counts."""

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def missing_requirement() -> str | None:
    """What keeps the runtime from loading here, with the way out, or ``None``; imports nothing that could crash."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "the chat runtime xllamacpp is not installed. Install it with: pip install 'skytells-nb[local]'"
    if sys.platform.startswith("linux"):
        if platform.machine().lower() in ("x86_64", "amd64") and not _cpu_has("avx2", "fma", "bmi2"):
            return (
                "this processor has no AVX2, which the chat runtime needs. Embeddings and moderation work here; "
                "for chat use another machine."
            )
        try:
            ctypes.CDLL("libgomp.so.1")
        except OSError:
            return "the system library libgomp.so.1 is missing. Install it with: apt-get install libgomp1"
    return None


def _cpu_has(*flags: str) -> bool:
    """Whether Linux lists these features; true where it cannot be read. Without them the import ends the process."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                return set(flags) <= set(line.partition(":")[2].split())
    except OSError:
        pass
    return True


class Llama:
    """A loaded model with ``slots`` requests at once, ``context`` tokens each. Thread safe.

    ``threads`` is 1 by default because llama.cpp's workers spin while they wait: on two shared cores a second thread
    took decoding from 54 to 3 tokens a second. ``compact`` keeps the attention cache in 8 bits instead of 16, which
    some models do not allow.
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
        # Finished prompts would otherwise be kept in memory, up to 8 GB of them.
        params.cache_ram_mib = 0
        # It always listens on a port of this machine: nobody without the key gets in, and there is no page to open.
        self._key = secrets.token_urlsafe(32)
        params.api_keys = [self._key]
        params.ui = params.endpoint_slots = False
        params.n_threads_http = 2
        self._reading = threading.Semaphore(1)
        try:
            self._server: Any = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise LocalServerError(f"llama.cpp could not load {path}: {error}. Is it a complete GGUF file?") from error
        # Dropping a server that never answered hangs for ever, so it answers once, at once.
        self._server.handle_completions({"prompt": " ", "max_tokens": 1})
        self.address = urlsplit(self._server.listening_address).netloc

    def close(self) -> None:
        """Free the model; nothing may be decoding."""
        self._server = None

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """The prompt that the model's own chat template makes of these messages."""
        return str(self._ask("/apply-template", {"messages": list(messages)})["prompt"])

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """The token ids of a text; with ``special`` it is read as a prompt, else as plain text inside one."""
        body = {"content": text, "add_special": special, "parse_special": special}
        return [int(token) for token in self._ask("/tokenize", body)["tokens"]]

    def decode(
        self, prompt: str, on_text: Callable[[str], None], *, closed: Callable[[], bool], **params: Any
    ) -> Decoded:
        """Continue ``prompt``, calling ``on_text`` with each piece until the end, the limit or ``closed()``.

        Prompts are read one at a time: llama.cpp gives a whole step to one of them, and the other could not be stopped.
        """
        while not self._reading.acquire(timeout=_POLL_S):
            if closed():
                return Decoded("cancelled", 0, 0)
        reading = [self._reading]
        ended: dict[str, Any] = {}

        def receive(chunk: Any) -> bool:
            # What this callback raises would be swallowed on its way through C++.
            try:
                for part in chunk if isinstance(chunk, list) else [chunk]:
                    progress = part.get("prompt_progress") or {"processed": 1, "total": 1}
                    if reading and progress["processed"] >= progress["total"]:
                        reading.pop().release()
                    if closed():
                        return True
                    if "error" in part:
                        ended["error"] = part["error"]
                        return True
                    for choice in part.get("choices") or ():
                        if choice.get("text"):
                            on_text(choice["text"])
                        ended["reason"] = choice.get("finish_reason") or ended.get("reason")
                    ended["usage"] = part.get("usage") or ended.get("usage")
            except BaseException as error:
                ended["raised"] = error
                return True
            return False

        request = {"prompt": prompt, "stream": True, "stream_options": {"include_usage": True}, **params}
        # With progress the callback is called between the steps of a long prompt too, and can stop it there.
        try:
            self._server.handle_completions({**request, "return_progress": True}, receive)
        finally:
            if reading:
                reading.pop().release()
        if "raised" in ended:
            raise ended["raised"]
        if "error" in ended:
            raise LocalServerError(f"llama.cpp refused the request: {ended['error'].get('message')}")
        usage = ended.get("usage") or {}
        reason = "cancelled" if closed() else ended.get("reason") or "length"
        return Decoded(reason, int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))

    def probabilities(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """How probable each of these tokens is after the prompt's tokens, shared among them alone."""
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
                # The same bias for each keeps their order and lifts them over every other token.
                "logit_bias": [[token, _BIAS] for token in tokens],
            }
        )
        if "error" in answer:
            raise LocalServerError(f"llama.cpp refused the request: {answer['error'].get('message')}")
        found = {
            part["id"]: float(part["prob"]) for part in answer["choices"][0]["logprobs"]["content"][0]["top_probs"]
        }
        return [found.get(token, 0.0) for token in tokens]

    def enforces(self, grammar: str) -> bool:
        """Whether llama.cpp holds to this grammar, which must not begin with ``@``.

        It drops a JSON schema that it cannot compile without a word, so one step is decoded that prefers ``@``.
        """
        request = {"prompt": "x", "max_tokens": 1, "temperature": 0, "logit_bias": [[_SENTINEL, _BIAS]]}
        try:
            answer = self._server.handle_completions({**request, "grammar": grammar})
        except (RuntimeError, ValueError):
            return False
        return "error" not in answer and _SENTINEL not in answer["choices"][0]["text"]

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What only the inner port offers; plain loopback, so no proxy setting is looked at."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
            connection.request("POST", path, json.dumps(body).encode(), headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            said = answer.get("error", {}).get("message", "no reason given")
            raise LocalServerError(f"llama.cpp refused the request: {said}")
        return answer

"""The local chat model: text and JSON by llama.cpp, streamed, optionally constrained by a JSON schema."""

from __future__ import annotations

import atexit
import hashlib
import json as jsonlib
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skytells_nb.errors import LocalServerError
from skytells_nb.local.generation import json_grammar, weights
from skytells_nb.local.generation.json_writer import Part, TokenLogprobs, Writer, grammars, plan
from skytells_nb.local.generation.llama import Llama, missing_requirement
from skytells_nb.local.generation.streaming import BoundedQueue, ThreadStream

SYSTEM_PROMPT = "You are a helpful AI assistant that answers in short, clear English sentences."
"""Used if the messages have no system message: with its template's default, this model responds in bad French."""
JSON_SYSTEM_PROMPT = "You are a helpful assistant. Answer with JSON."
SEED_COUNT = 2**32 - 1
"""llama.cpp accepts seeds below this number, which itself means a random seed."""
_SLOT_POLL_S = 0.05
_MAX_CACHED_PLANS = 256
_ROLES = {"developer": "system", "tool": "user", "function": "user"}


@dataclass(frozen=True)
class Piece:
    """A part of a text. The last one has the ``finish_reason`` (``stop`` or ``length``) and the token counts."""

    text: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprobs: tuple[dict[str, Any], ...] = ()
    """Of the last one: the log probabilities of all tokens, where they were asked for."""


class ContextLengthExceeded(Exception):
    """The messages have ``tokens`` tokens; the model's context holds ``limit``, including the completion."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"The messages have {tokens} tokens; the context holds {limit}, including the completion.")
        self.tokens = tokens
        self.limit = limit


class Generator:
    """A chat model on this machine. It loads on first use, is thread-safe, and serves ``slots`` requests at once.

    ``path`` is a GGUF file, by default that of :func:`skytells_nb.local.generation.weights.find`. ``context`` is the
    number of tokens of a conversation including the completion. For ``threads`` see
    :class:`skytells_nb.local.generation.llama.Llama`.

    >>> generator = Generator()
    >>> if generator.available:
    ...     text = "".join(piece.text for piece in generator.stream(
    ...         [{"role": "user", "content": "Name a color."}], max_tokens=16, temperature=0, top_p=1))
    """

    gives_logprobs = True

    def __init__(self, path: Path | None = None, *, slots: int = 2, context: int = 2048, threads: int = 1) -> None:
        self.context = context
        self._path = path
        self._slots = slots
        self._threads = threads
        self._lock = threading.RLock()
        self._free_slots = threading.Semaphore(slots)
        self._llama: Llama | None = None
        self._closed = False
        self._in_flight: weakref.WeakSet[ThreadStream[Piece]] = weakref.WeakSet()
        self._plans: dict[str, Part] = {}
        # Freeing the model during interpreter shutdown, while it is decoding, would crash the process.
        atexit.register(_close_at_exit, weakref.ref(self))

    @property
    def name(self) -> str:
        """The model name in responses; it starts with ``local-``."""
        try:
            path = self._path or weights.find()
        except LocalServerError:
            path = None
        return "local-smollm2-135m" if path is None or path.name == weights.FILE_NAME else f"local-{path.stem.lower()}"

    @property
    def available(self) -> bool:
        """Whether the chat model can run on this machine."""
        return self.reason is None

    @property
    def reason(self) -> str | None:
        """Why the chat model cannot run and how to fix it, or ``None``."""
        if self._llama is not None:
            return None
        missing = missing_requirement()
        if missing is not None:
            return f"The local chat model cannot run: {missing}"
        try:
            path = self._path or weights.find()
        except LocalServerError as error:
            return str(error)
        if path is None or not path.is_file():
            return f"The weights of the local chat model are not installed. Run: {weights.INSTALL_COMMAND}"
        return None

    def start(self) -> None:
        """Load the model unless it is loaded; raise LocalServerError if that fails."""
        self._load()

    def count_tokens(self, messages_or_text: list[dict[str, Any]] | str) -> int:
        """Return the number of tokens of a text, or of the prompt made from messages."""
        llama = self._load()
        if isinstance(messages_or_text, str):
            return len(llama.tokenize(_encodable(messages_or_text), special=False))
        return len(llama.tokenize(llama.render(_plain_messages(messages_or_text, SYSTEM_PROMPT))))

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
        logprobs: int | None = None,
    ) -> ThreadStream[Piece]:
        """Return an iterator of text pieces, as they are generated.

        Its ``close``, from any thread, stops the generation and waits for its end. Temperature 0 is greedy; above 0 a
        missing ``seed`` is derived from the request, so that equal requests get equal texts. With ``schema``, or
        ``json`` for any object, the text is JSON that is valid for it, unless ``max_tokens`` truncates it
        (``finish_reason`` is then ``length``), and ``stop`` is ignored. ``logprobs`` is the number of alternatives of
        each token whose log probabilities are stated; ``None`` states none.

        Raise ContextLengthExceeded, LocalServerError if the model cannot be loaded, and ValueError for a schema that
        cannot be enforced: immediately for an unsupported keyword, at the first piece for a schema that the grammar
        engine rejects.
        """
        llama = self._load()
        output_schema = schema if schema is not None else json_grammar.ANY_OBJECT if json else None
        if output_schema is not None:
            json_grammar.check_schema(output_schema)
        prompt = llama.render(_plain_messages(messages, SYSTEM_PROMPT if output_schema is None else JSON_SYSTEM_PROMPT))
        tokens = len(llama.tokenize(prompt))
        if tokens >= self.context:
            raise ContextLengthExceeded(tokens, self.context)
        sampling: dict[str, Any] = {
            "temperature": temperature,
            "top_p": top_p,
            "presence_penalty": presence_penalty,
            "frequency_penalty": frequency_penalty,
        }
        sampling["seed"] = _derive_seed(prompt, sampling, max_tokens) if seed is None else seed % SEED_COUNT
        limit = max(1, min(max_tokens, self.context - tokens))

        known = None if logprobs is None else TokenLogprobs(logprobs)

        def produce(queue: BoundedQueue[Piece]) -> None:
            def put(text: str) -> None:
                queue.put(Piece(text))

            def closed() -> bool:
                return queue.closed

            while not self._free_slots.acquire(timeout=_SLOT_POLL_S):
                if queue.closed:
                    return
            try:
                if output_schema is not None:
                    part = self._plan(llama, output_schema)
                    reason, completion_tokens = Writer(llama, prompt, limit, sampling, put, closed, known).write(part)
                else:
                    stop_sequences = [text for text in stop if text]
                    decoded = llama.decode(
                        prompt,
                        put,
                        closed=closed,
                        max_tokens=limit,
                        stop=stop_sequences,
                        **sampling,
                        **({} if known is None else known.decoding()),
                    )
                    reason, completion_tokens = decoded.finish_reason, decoded.completion_tokens
            finally:
                self._free_slots.release()
            content = () if known is None else tuple(known.content)
            queue.put(Piece("", "length" if reason == "length" else "stop", tokens, completion_tokens, content))

        with self._lock:
            if self._closed:
                raise LocalServerError("The local chat model is closed.")
            stream = ThreadStream(produce)
            self._in_flight.add(stream)
        return stream

    def close(self) -> None:
        """Stop all generations in flight and free the model. The generator cannot be used again."""
        with self._lock:
            self._closed = True
            for stream in list(self._in_flight):
                stream.close()
            if self._llama is not None:
                self._llama.close()
                self._llama = None

    def _load(self) -> Llama:
        with self._lock:
            if self._closed:
                raise LocalServerError("The local chat model is closed.")
            if self._llama is None:
                reason = self.reason
                if reason is not None:
                    raise LocalServerError(reason)
                path = self._path or weights.find()
                assert path is not None
                compact = path.name == weights.FILE_NAME
                self._llama = Llama(
                    path, slots=self._slots, context=self.context, threads=self._threads, compact=compact
                )
            return self._llama

    def _plan(self, llama: Llama, schema: dict[str, Any]) -> Part:
        """Return how to write this schema, after testing once that the grammar engine enforces it."""
        key = jsonlib.dumps(schema)
        part = self._plans.get(key)
        if part is None:
            for candidate in (json_grammar.add_limits(schema), json_grammar.without_annotations(schema)):
                try:
                    part = plan(candidate, candidate)
                except (AttributeError, TypeError) as error:
                    raise ValueError(f"{json_grammar.NOT_A_SCHEMA} ({error})") from error
                if all(llama.enforces(grammar) for grammar in grammars(part)):
                    break
            else:
                raise ValueError(json_grammar.UNENFORCEABLE)
            if len(self._plans) >= _MAX_CACHED_PLANS:
                self._plans.clear()
            self._plans[key] = part
        return part


def _plain_messages(messages: Sequence[dict[str, Any]], system: str) -> list[dict[str, str]]:
    """Return the messages as role and text, with ``system`` first if there is no system message."""
    plain = []
    for message in messages:
        role = str(message.get("role", "user"))
        content = message.get("content")
        parts = content if isinstance(content, list) else [content]
        text = "\n".join(_text(part) for part in parts)
        plain.append({"role": _ROLES.get(role, role), "content": _encodable(text)})
    if all(message["role"] != "system" for message in plain):
        plain.insert(0, {"role": "system", "content": system})
    return plain


def _text(part: Any) -> str:
    """Return the text of a content part; an image becomes a placeholder, since this model takes text only."""
    if isinstance(part, dict):
        return "[image]" if "image" in str(part.get("type")) else str(part.get("text") or "")
    return part if isinstance(part, str) else ""


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _derive_seed(prompt: str, sampling: dict[str, Any], max_tokens: int) -> int:
    """Derive the seed from the request, so that equal requests have equal seeds."""
    content = jsonlib.dumps([prompt, sampling, max_tokens], sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % SEED_COUNT


def _close_at_exit(reference: weakref.ref[Generator]) -> None:
    generator = reference()
    if generator is not None:
        generator.close()

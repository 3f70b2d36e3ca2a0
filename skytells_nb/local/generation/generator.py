"""Chat on this machine: a small model by llama.cpp, streaming, held to a JSON schema where one is asked for."""

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
from skytells_nb.local.generation import json_grammar as constrain
from skytells_nb.local.generation import weights
from skytells_nb.local.generation.json_writer import Part, Writer, grammars, plan
from skytells_nb.local.generation.llama import Llama, missing_requirement
from skytells_nb.local.generation.streaming import BoundedQueue, ThreadStream

SYSTEM_PROMPT = "You are a helpful AI assistant that answers in short, clear English sentences."
"""Said where the messages have no system message: its template's own makes this model answer in bad French."""
JSON_SYSTEM_PROMPT = "You are a helpful assistant. Answer with JSON."
SEED_COUNT = 2**32 - 1
"""llama.cpp takes seeds below this; the next number means "any" to it."""
_SLOT_POLL_S = 0.05
_PLANS_KEPT = 256
_ROLES = {"developer": "system", "tool": "user", "function": "user"}


@dataclass(frozen=True)
class Piece:
    """A part of an answer. The last one has the ``finish_reason`` (``stop`` or ``length``) and the token counts."""

    text: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ContextLengthExceeded(Exception):
    """The messages have ``tokens`` tokens, and the model's window holds ``limit``, the answer included."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"The messages have {tokens} tokens; the model's window holds {limit}, the answer included.")
        self.tokens = tokens
        self.limit = limit


class Generator:
    """A chat model on this machine that loads when it is first asked; thread safe, ``slots`` answers at once.

    ``path`` names a GGUF file; by default :func:`skytells_nb.local.generation.weights.find` does. ``context`` is
    the tokens of one conversation with its answer. ``threads`` is 1 by
    default: see :class:`skytells_nb.local.generation.llama.Llama`.

    >>> generator = Generator()
    >>> if generator.available:
    ...     text = "".join(piece.text for piece in generator.stream(
    ...         [{"role": "user", "content": "Name a colour."}], max_tokens=16, temperature=0, top_p=1))
    """

    def __init__(self, path: Path | None = None, *, slots: int = 2, context: int = 2048, threads: int = 1) -> None:
        self.context = context
        self._path = path
        self._slots = slots
        self._threads = threads
        self._loading = threading.RLock()
        self._free = threading.Semaphore(slots)
        self._llama: Llama | None = None
        self._closed = False
        self._under_way: weakref.WeakSet[ThreadStream[Piece]] = weakref.WeakSet()
        self._plans: dict[str, Part] = {}
        # A model dropped by the interpreter's own clean-up, while decoding, would crash it.
        atexit.register(_close_at_exit, weakref.ref(self))

    @property
    def name(self) -> str:
        """The name that answers carry; it begins with ``local-``."""
        try:
            path = self._path or weights.find()
        except LocalServerError:
            path = None
        return "local-smollm2-135m" if path is None or path.name == weights.FILE_NAME else f"local-{path.stem.lower()}"

    @property
    def available(self) -> bool:
        """Whether this machine can answer chats."""
        return self.reason is None

    @property
    def reason(self) -> str | None:
        """Why not, with the one command to run; ``None`` where it can."""
        if self._llama is not None:
            return None
        problem = missing_requirement()
        if problem is not None:
            return f"The local chat model cannot run: {problem}"
        try:
            path = self._path or weights.find()
        except LocalServerError as error:
            return str(error)
        if path is None or not path.is_file():
            return f"The weights of the local chat model are not on this machine. Run: {weights.INSTALL_COMMAND}"
        return None

    def start(self) -> None:
        """Load the model now; nothing happens where it is loaded. Raises LocalServerError where it cannot be."""
        self._loaded()

    def count_tokens(self, messages_or_text: list[dict[str, Any]] | str) -> int:
        """Tokens of a text alone, or of messages as the whole prompt that they become, by the model's own tokenizer."""
        llama = self._loaded()
        if isinstance(messages_or_text, str):
            return len(llama.tokenize(_encodable(messages_or_text), special=False))
        return len(llama.tokenize(llama.render(_plain(messages_or_text, SYSTEM_PROMPT))))

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
    ) -> ThreadStream[Piece]:
        """The answer in pieces, as they are decoded.

        ``close`` on what is returned, from any thread, ends the decoding and waits until it has ended. Temperature 0 is
        greedy; above it a missing ``seed`` is derived from the request, so that the same request gets the same answer.
        With ``schema``, or ``json`` for any object, the text is JSON valid for it unless ``max_tokens`` cuts it
        (``finish_reason`` is then ``length``) and ``stop`` is not looked at.

        Raises ContextTooLong, LocalServerError where no model is, and ValueError for a schema that cannot be enforced:
        at once for a keyword, at the first piece for what only the grammar engine can tell.
        """
        llama = self._loaded()
        wanted = schema if schema is not None else constrain.ANY_OBJECT if json else None
        if wanted is not None:
            constrain.check_schema(wanted)
        prompt = llama.render(_plain(messages, SYSTEM_PROMPT if wanted is None else JSON_SYSTEM_PROMPT))
        tokens = len(llama.tokenize(prompt))
        if tokens >= self.context:
            raise ContextLengthExceeded(tokens, self.context)
        sampling: dict[str, Any] = {
            "temperature": temperature,
            "top_p": top_p,
            "presence_penalty": presence_penalty,
            "frequency_penalty": frequency_penalty,
        }
        sampling["seed"] = _seed(prompt, sampling, max_tokens) if seed is None else seed % SEED_COUNT
        limit = max(1, min(max_tokens, self.context - tokens))

        def produce(channel: BoundedQueue[Piece]) -> None:
            def put(text: str) -> None:
                channel.put(Piece(text))

            def closed() -> bool:
                return channel.closed

            while not self._free.acquire(timeout=_SLOT_POLL_S):
                if channel.closed:
                    return
            try:
                if wanted is not None:
                    part = self._plan(llama, wanted)
                    reason, completion = Writer(llama, prompt, limit, sampling, put, closed).write(part)
                else:
                    ends = [text for text in stop if text]
                    done = llama.decode(prompt, put, closed=closed, max_tokens=limit, stop=ends, **sampling)
                    reason, completion = done.finish_reason, done.completion_tokens
            finally:
                self._free.release()
            channel.put(Piece("", "length" if reason == "length" else "stop", tokens, completion))

        with self._loading:
            if self._closed:
                raise LocalServerError("The local chat model is closed.")
            answer = ThreadStream(produce)
            self._under_way.add(answer)
        return answer

    def close(self) -> None:
        """End every answer under way and free the model; it cannot be used again."""
        with self._loading:
            self._closed = True
            for answer in list(self._under_way):
                answer.close()
            if self._llama is not None:
                self._llama.close()
                self._llama = None

    def _loaded(self) -> Llama:
        with self._loading:
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
        """How to write this schema, tried on the grammar engine once."""
        key = jsonlib.dumps(schema)
        part = self._plans.get(key)
        if part is None:
            for candidate in (constrain.add_limits(schema), constrain.without_annotations(schema)):
                try:
                    part = plan(candidate, candidate)
                except (AttributeError, TypeError) as error:
                    raise ValueError(f"{constrain.NOT_A_SCHEMA} ({error})") from error
                if all(llama.enforces(grammar) for grammar in grammars(part)):
                    break
            else:
                raise ValueError(constrain.UNENFORCEABLE)
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            self._plans[key] = part
        return part


def _plain(messages: Sequence[dict[str, Any]], system: str) -> list[dict[str, str]]:
    """Messages as role and text, with ``system`` in front where they have none."""
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
    """The text of a content part; this model cannot see, so a picture becomes a note."""
    if isinstance(part, dict):
        return "[image]" if "image" in str(part.get("type")) else str(part.get("text") or "")
    return part if isinstance(part, str) else ""


def _encodable(text: str) -> str:
    """The text with lone surrogates, which JSON can carry and UTF-8 cannot, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _seed(prompt: str, sampling: dict[str, Any], max_tokens: int) -> int:
    """A seed that the same request always has."""
    content = jsonlib.dumps([prompt, sampling, max_tokens], sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % SEED_COUNT


def _close_at_exit(reference: weakref.ref[Generator]) -> None:
    generator = reference()
    if generator is not None:
        generator.close()

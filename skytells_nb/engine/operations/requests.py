"""What is asked for in one request: to send it, and to turn its answer into bytes worth keeping."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from skytells_nb.client.client import Skytells
from skytells_nb.engine.operations.cached import CachedCompletion as Completed
from skytells_nb.engine.operations.cached import dump_cached_error, load_cached_error
from skytells_nb.engine.operations.conversation import (
    Message,
    PromptOptions,
    build_messages,
    deserialize_messages,
    with_images,
)
from skytells_nb.engine.operations.endpoints import LIMITS, endpoint
from skytells_nb.engine.results import CompletionBuffer, ResultBuffer, Values, VectorBuffer
from skytells_nb.errors import ContentPolicyError, InvalidResponseError
from skytells_nb.types.embeddings import EmbeddingResponse

GUESSED_OUTPUT = 256.0
"""Tokens of an answer while nothing is known."""
MOST_ROOM = 16_384
"""Tokens that an answer is given at most where it is asked for again: what the upstream models take as a limit."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The answer to one request: a value for each of its inputs, as the cache keeps it, and what it used.

    ``None`` stands where an input got no usable answer among others; it is sent again alone.
    """

    values: Values
    tokens_in: int
    tokens_out: int
    rejected_attempts: int = 0
    """Requests beside this one that were refused for their form and cost nothing."""
    stored: bool = False
    """Whether the answers were kept as they were read, and ``values`` is empty."""


Read: TypeAlias = Callable[[Callable[[], BatchResult]], BatchResult]
"""Makes the call that reads a large answer, perhaps in another thread, and may keep what it returns."""


def read_here(call: Callable[[], BatchResult]) -> BatchResult:
    """Make it in this thread."""
    return call()


class Operation(Protocol):
    """One kind of request."""

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult: ...

    def answers(self, count: int) -> ResultBuffer:
        """Room for the answers to so many inputs."""
        ...

    def learn(self, values: Sequence[bytes]) -> None:
        """See some kept answers of this very job, for ``output_tokens``."""
        ...

    def kept(self, problem: Exception) -> bytes | None:
        """What to keep of an input that ended in this error, ``None`` where another try may end otherwise."""
        ...

    def refusal(self, value: bytes) -> Exception | None:
        """The error that a kept value stands for, ``None`` where it is an answer."""
        ...

    def output_tokens(self) -> float:
        """Tokens that an answer to one input is likely to have."""
        ...

    def most_output_tokens(self) -> float:
        """Tokens that it may have at most, as far as that is known, for the budget."""
        ...


class EmbeddingOperation:
    """Many texts in, a vector of float32 out for each."""

    def __init__(self, model: str, dimensions: int | None) -> None:
        self._model = model
        self._dimensions = dimensions
        self._size: int | None = dimensions

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        begun = client.embeddings.begin(model=self._model, input=inputs, dimensions=self._dimensions)
        if isinstance(begun, EmbeddingResponse):
            return self._delivery(begun, len(inputs))
        return read(lambda: self._delivery(begun.read(), len(inputs)))

    def _delivery(self, answer: EmbeddingResponse, count: int) -> BatchResult:
        matrix, finite = answer.checked
        if count == 1 or not finite.any():
            matrix = answer.matrix
        size = self._size = self._size or matrix.shape[1]
        if matrix.shape[1] != size:
            asked = "were asked for" if self._dimensions else "came before"
            raise InvalidResponseError(
                f"{size} dimensions {asked} and {matrix.shape[1]} came.", request_id=answer.request_id
            )
        # One bad vector takes no other with it: they are all paid for.
        values: Values = (
            matrix
            if finite.all()
            else [row.tobytes() if good else None for row, good in zip(matrix, finite.tolist(), strict=True)]
        )
        return BatchResult(values, answer.usage.prompt_tokens, 0)

    def answers(self, count: int) -> VectorBuffer:
        return VectorBuffer(count)

    def learn(self, values: Sequence[bytes]) -> None:
        pass

    def kept(self, problem: Exception) -> bytes | None:
        return None

    def refusal(self, value: bytes) -> Exception | None:
        return None

    def output_tokens(self) -> float:
        return 0.0

    def most_output_tokens(self) -> float:
        return 0.0


def limit_in(params: Mapping[str, Any]) -> tuple[str, int] | None:
    """The name and the value of the limit of tokens in these parameters."""
    return next(((name, int(params[name])) for name in LIMITS if params.get(name)), None)


class CompletionOperation:
    """One input in, one completion out.

    Where all tokens went to reasoning, so that the answer ended at its limit before it had a word, or where JSON was
    cut there, it is asked for once more with twice the room, which the run paces and pays like any request. Such a
    completion has the tokens of both.
    """

    def __init__(
        self, model: str, system: str | None, params: Mapping[str, Any], form: PromptOptions | None = None
    ) -> None:
        self._model = model
        self._params = dict(params)
        self.system = system
        self.form = form or PromptOptions()
        self.endpoint = endpoint(self.form.api)
        limit = limit_in(params)
        limits = [tokens for tokens in (limit[1] if limit else None, self.form.most_tokens) if tokens]
        self._asked = float(max(limits)) if limits else None
        self._lock = threading.Lock()
        self._count = 0
        self._tokens_out = 0
        self._most = 0
        self._room = 0
        self._unsaid: dict[str, tuple[Completed, int]] = {}

    @property
    def model(self) -> str:
        return self._model

    @property
    def params(self) -> Mapping[str, Any]:
        """What goes to the service with every input."""
        return self._params

    def turns(self, text: str) -> tuple[list[Message], dict[str, Any]]:
        """The messages that an input is, and its own parameters."""
        if not self.form.dialogues:
            return [{"role": "user", "content": text}], {}
        return deserialize_messages(text)

    def body(self, inputs: Sequence[str]) -> dict[str, Any]:
        """What is sent for this one input."""
        (text,) = inputs
        turns, own = self.turns(text)
        messages = build_messages(self.system, self.form.examples, with_images(turns, self.form.pictures))
        return self.endpoint.body(self.model, messages, {**self.params, **own, **self._widened(text, own)})

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        (text,) = inputs
        kept = Completed.of(self.endpoint.ask(client, self.body(inputs)))
        self._see(kept.tokens_out)
        paid = BatchResult([None], kept.tokens_in, kept.tokens_out)
        with self._lock:
            before, _ = self._unsaid.pop(text, (None, 0))
            if before is not None:
                kept = replace(
                    kept,
                    tokens_in=before.tokens_in + kept.tokens_in,
                    tokens_out=before.tokens_out + kept.tokens_out,
                )
            elif self.form.widen and self._is_useless(kept) and (room := self._room_for(text, kept)):
                self._unsaid[text] = kept, room
                self._room = max(self._room, room)
                return paid
        return replace(paid, values=[kept.to_bytes()])

    def answers(self, count: int) -> CompletionBuffer:
        return CompletionBuffer(count)

    def learn(self, values: Sequence[bytes]) -> None:
        for value in values:
            if load_cached_error(value) is None:
                self._see(Completed.from_bytes(value).tokens_out)

    def _see(self, tokens_out: int) -> None:
        with self._lock:
            self._count += 1
            self._tokens_out += tokens_out
            self._most = max(self._most, tokens_out)

    def _is_useless(self, kept: Completed) -> bool:
        """Whether it ended at its limit before there was anything to use."""
        if kept.is_empty_reasoning or kept.finish_reason != "length" or not self.params.get("response_format"):
            return kept.is_empty_reasoning
        try:
            json.loads(kept.text)
        except (ValueError, RecursionError):
            return True
        return False

    def _room_for(self, text: str, kept: Completed) -> int | None:
        """The limit to try again with, ``None`` where there is no more room."""
        limit = limit_in({**self.params, **self.turns(text)[1]})
        had = limit[1] if limit else kept.tokens_out
        room = min(2 * had, MOST_ROOM)
        return room if room > had else None

    def _widened(self, text: str, own: Mapping[str, Any]) -> dict[str, int]:
        if text not in self._unsaid:
            return {}
        limit = limit_in(own) or limit_in(self.params)
        return {limit[0] if limit else "max_tokens": self._unsaid[text][1]}

    def kept(self, problem: Exception) -> bytes | None:
        return dump_cached_error(problem) if isinstance(problem, ContentPolicyError) else None

    def refusal(self, value: bytes) -> Exception | None:
        return load_cached_error(value)

    def output_tokens(self) -> float:
        if self._count:
            return self._tokens_out / self._count
        return self._asked or GUESSED_OUTPUT

    def most_output_tokens(self) -> float:
        return max(self._asked or max(GUESSED_OUTPUT, 2.0 * self._most), self._room)

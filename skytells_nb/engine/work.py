"""What the two endpoints do with one request: send it, and turn its answer into bytes worth keeping."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from skytells_nb.client.client import Skytells
from skytells_nb.engine.answers import Answers, Completions, Values, Vectors
from skytells_nb.engine.refusal import refusal_in, refusal_to_bytes
from skytells_nb.errors import AnswerError, ContentPolicyError
from skytells_nb.wire.chat import ChatCompletion, ChatMessage, ChatUsage, Choice
from skytells_nb.wire.safety import Safety, findings


@dataclass(frozen=True, slots=True)
class Delivery:
    """The answer to one request: a value for each of its inputs, as the cache keeps it, and what it used.

    ``None`` stands where an input got no usable answer among others; it is sent again alone.
    """

    values: Values
    tokens_in: int
    tokens_out: int


class Work(Protocol):
    """One kind of request."""

    def send(self, client: Skytells, inputs: Sequence[str]) -> Delivery: ...

    def answers(self, count: int) -> Answers:
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


class EmbeddingWork:
    """Many texts in, a vector of float32 out for each."""

    def __init__(self, model: str, dimensions: int | None) -> None:
        self._model = model
        self._dimensions = dimensions
        self._size: int | None = dimensions

    def send(self, client: Skytells, inputs: Sequence[str]) -> Delivery:
        answer = client.embeddings.create(model=self._model, input=inputs, dimensions=self._dimensions)
        matrix, finite = answer.checked
        if len(inputs) == 1 or not finite.any():
            matrix = answer.matrix
        size = self._size = self._size or matrix.shape[1]
        if matrix.shape[1] != size:
            asked = "were asked for" if self._dimensions else "came before"
            raise AnswerError(f"{size} dimensions {asked} and {matrix.shape[1]} came.", request_id=answer.request_id)
        # One bad vector takes no other with it: they are all paid for.
        values: Values = (
            matrix
            if finite.all()
            else [row.tobytes() if good else None for row, good in zip(matrix, finite.tolist(), strict=True)]
        )
        return Delivery(values, answer.usage.prompt_tokens if answer.usage else 0, 0)

    def answers(self, count: int) -> Vectors:
        return Vectors(count)

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


@dataclass(frozen=True, slots=True)
class Completed:
    """One kept completion."""

    text: str
    finish_reason: str | None = None
    model: str = ""
    request_id: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    findings: Sequence[dict[str, Any]] = field(default_factory=tuple)
    blocked: bool = False
    rows: int = 1
    """Rows that the request held; its verdicts belong to all of them."""

    @property
    def safety(self) -> Safety:
        return Safety.from_records(self.findings, blocked=self.blocked)

    def to_bytes(self) -> bytes:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> Completed:
        return cls(**json.loads(value))

    def to_answer(self) -> ChatCompletion:
        """The completion as the client gives one."""
        answer = ChatCompletion(
            model=self.model,
            choices=[Choice(message=ChatMessage(content=self.text), finish_reason=self.finish_reason)],
            usage=ChatUsage(
                prompt_tokens=self.tokens_in,
                completion_tokens=self.tokens_out,
                total_tokens=self.tokens_in + self.tokens_out,
            ),
        )
        answer._request_id = self.request_id
        answer._streamed_safety = self.safety
        return answer

    @classmethod
    def of_blocked(cls, refusal: ContentPolicyError) -> Completed:
        """What is known of a prompt that the safety filter blocked: its verdict, and no text."""
        return cls(
            text="",
            finish_reason="content_filter",
            request_id=refusal.request_id,
            findings=Safety(findings(refusal.safety, "prompt")).records(),
            blocked=True,
        )

    @classmethod
    def of(cls, answer: ChatCompletion) -> Completed:
        usage, safety = answer.usage, answer.safety
        return cls(
            text=answer.text,
            finish_reason=answer.finish_reason,
            model=answer.model,
            request_id=answer.request_id,
            tokens_in=usage.prompt_tokens if usage else 0,
            tokens_out=usage.completion_tokens if usage else 0,
            findings=safety.records(),
            blocked=safety.blocked,
        )


class CompletionWork:
    """One prompt in, one completion out."""

    GUESSED_OUTPUT = 256.0

    def __init__(self, model: str, system: str | None, params: Mapping[str, Any]) -> None:
        self._model = model
        self._system = system
        self._params = dict(params)
        self._asked = next((float(params[n]) for n in ("max_tokens", "max_completion_tokens") if params.get(n)), None)
        self._lock = threading.Lock()
        self._count = 0
        self._tokens_out = 0
        self._most = 0

    def send(self, client: Skytells, inputs: Sequence[str]) -> Delivery:
        (prompt,) = inputs
        messages = [{"role": "system", "content": self._system}] if self._system else []
        messages.append({"role": "user", "content": prompt})
        answer = client.chat.completions.create(model=self._model, messages=messages, **self._params)
        if not answer.choices:
            raise AnswerError("The answer has no choices.", request_id=answer.request_id)
        kept = Completed.of(answer)
        self._see(kept.tokens_out)
        return Delivery([kept.to_bytes()], kept.tokens_in, kept.tokens_out)

    def answers(self, count: int) -> Completions:
        return Completions(count)

    def learn(self, values: Sequence[bytes]) -> None:
        for value in values:
            if refusal_in(value) is None:
                self._see(Completed.from_bytes(value).tokens_out)

    def _see(self, tokens_out: int) -> None:
        with self._lock:
            self._count += 1
            self._tokens_out += tokens_out
            self._most = max(self._most, tokens_out)

    def kept(self, problem: Exception) -> bytes | None:
        return refusal_to_bytes(problem) if isinstance(problem, ContentPolicyError) else None

    def refusal(self, value: bytes) -> Exception | None:
        return refusal_in(value)

    def output_tokens(self) -> float:
        if self._count:
            return self._tokens_out / self._count
        return self._asked or self.GUESSED_OUTPUT

    def most_output_tokens(self) -> float:
        return self._asked or max(self.GUESSED_OUTPUT, 2.0 * self._most)

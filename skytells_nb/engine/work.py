"""What the two endpoints do with one request: send it, and turn its answer into bytes worth keeping."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skytells_nb.client.client import Skytells
from skytells_nb.engine.refusal import refusal_in, refusal_to_bytes
from skytells_nb.errors import AnswerError, ContentPolicyError
from skytells_nb.wire.chat import ChatCompletion, ChatMessage, ChatUsage, Choice
from skytells_nb.wire.safety import Safety, findings


@dataclass(frozen=True, slots=True)
class Delivery:
    """The answer to one request: a value for each of its inputs, as the cache keeps it, and what it used."""

    values: Sequence[bytes]
    tokens_in: int
    tokens_out: int


class Work(Protocol):
    """One kind of request."""

    def send(self, client: Skytells, inputs: Sequence[str]) -> Delivery: ...

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
    """Many texts in, a vector's float32 bytes out for each."""

    def __init__(self, model: str, dimensions: int | None) -> None:
        self._model = model
        self._dimensions = dimensions

    def send(self, client: Skytells, inputs: Sequence[str]) -> Delivery:
        answer = client.embeddings.create(model=self._model, input=inputs, dimensions=self._dimensions)
        matrix = answer.matrix
        if self._dimensions is not None and matrix.shape[1] != self._dimensions:
            raise AnswerError(
                f"{self._dimensions} dimensions were asked for and {matrix.shape[1]} came.",
                request_id=answer.request_id,
            )
        tokens = answer.usage.prompt_tokens if answer.usage else 0
        del answer  # its text is larger than the vectors, and there are as many as requests under way
        return Delivery([row.tobytes() for row in matrix], tokens, 0)

    def kept(self, problem: Exception) -> bytes | None:
        return None

    def refusal(self, value: bytes) -> Exception | None:
        return None

    def output_tokens(self) -> float:
        return 0.0

    def most_output_tokens(self) -> float:
        return 0.0


def vectors(values: Sequence[bytes | None]) -> NDArray[np.float32]:
    """Kept vectors as one matrix (n, d); a row of zeros where there is none.

    Raises AnswerError where they differ in length: one model cannot have made them all.
    """
    lengths = {len(value) for value in values if value is not None}
    if not lengths:
        return np.zeros((len(values), 0), dtype=np.float32)
    if len(lengths) > 1:
        sizes = sorted(length // 4 for length in lengths)
        raise AnswerError(
            f"Vectors of {sizes} dimensions came for one model; they cannot share a column. Every answer is in the "
            "cache; pass dimensions= or another cache= to keep the kinds apart."
        )
    size = lengths.pop()
    empty = bytes(size)
    joined = b"".join(empty if value is None else value for value in values)
    return np.frombuffer(joined, dtype="<f4").reshape(len(values), size // 4)


@dataclass(frozen=True, slots=True)
class Completed:
    """One kept completion."""

    text: str
    finish_reason: str | None = None
    model: str = ""
    request_id: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    findings: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    blocked: bool = False

    @property
    def safety(self) -> Safety:
        return Safety.from_records(self.findings, blocked=self.blocked)

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=True, separators=(",", ":")).encode()

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
        self._count += 1
        self._tokens_out += kept.tokens_out
        self._most = max(self._most, kept.tokens_out)
        return Delivery([kept.to_bytes()], kept.tokens_in, kept.tokens_out)

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

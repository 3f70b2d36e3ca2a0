"""One completion, as the cache keeps it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic_core

from skytells_nb.errors import ContentPolicyError, api_error
from skytells_nb.types.chat import ChatCompletion, ChatMessage, ChatUsage, Choice
from skytells_nb.types.responses import Response
from skytells_nb.types.safety import Safety, findings


@dataclass(frozen=True, slots=True)
class CachedCompletion:
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
    def is_empty_reasoning(self) -> bool:
        """Whether all its tokens went to reasoning: it ended at its limit before it had a word."""
        return self.finish_reason == "length" and not self.text.strip()

    @property
    def safety(self) -> Safety:
        return Safety.from_records(self.findings, blocked=self.blocked)

    def to_bytes(self) -> bytes:
        fields = {name: getattr(self, name) for name in self.__slots__}
        try:
            return pydantic_core.to_json(fields)
        except (pydantic_core.PydanticSerializationError, UnicodeEncodeError):
            # Half a surrogate pair, which only escapes can hold.
            return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> CachedCompletion:
        try:
            return cls(**pydantic_core.from_json(value))
        except ValueError:
            # The escape of half a surrogate pair.
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
    def of_blocked(cls, refusal: ContentPolicyError) -> CachedCompletion:
        """What is known of a prompt that the safety filter blocked: its verdict, and no text."""
        return cls(
            text="",
            finish_reason="content_filter",
            request_id=refusal.request_id,
            findings=Safety(findings(refusal.safety, "prompt")).records(),
            blocked=True,
        )

    @classmethod
    def of(cls, answer: ChatCompletion | Response) -> CachedCompletion:
        tokens_in, tokens_out = answer.tokens
        safety = answer.safety
        return cls(
            text=str(answer),
            finish_reason=answer.finish_reason,
            model=answer.model,
            request_id=answer.request_id,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            findings=safety.records(),
            blocked=safety.blocked,
        )


_MARK = b'{"refused":'


def dump_cached_error(refusal: ContentPolicyError) -> bytes:
    """The refusal with its verdict, in a form that no kept completion has."""
    told = {"status": refusal.status, "request_id": refusal.request_id, "body": refusal.body}
    return json.dumps({"refused": told}, separators=(",", ":")).encode()


def load_cached_error(value: bytes) -> ContentPolicyError | None:
    """The refusal that a kept value is, ``None`` for a completion."""
    if not value.startswith(_MARK):
        return None
    told = json.loads(value)["refused"]
    problem = api_error(told["status"], told["body"], request_id=told["request_id"])
    return problem if isinstance(problem, ContentPolicyError) else None

"""Completions and cached errors, as the cache stores them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, overload

import pydantic_core

from skytells_nb.errors import ContentPolicyError, RefusalError, api_error
from skytells_nb.types.chat import ChatCompletion, ChatMessage, ChatUsage, Choice, documented_reason
from skytells_nb.types.responses import ContentPart, OutputItem, Response, ResponsesUsage
from skytells_nb.types.safety import Safety, Source, findings


class SharedFindings(Sequence[dict[str, Any]]):
    """The findings of a completion as a sequence of records, which are parsed where they are needed.

    Completions with equal findings have the same object: most answers of a column do.
    """

    __slots__ = ("_json",)

    def __init__(self, records: bytes) -> None:
        self._json = records

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return _records(self._json)[index]

    def __len__(self) -> int:
        return len(_records(self._json))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))

    def safety(self, *, blocked: bool) -> Safety:
        """Return them as the safety result of a completion."""
        return _safety(self._json, blocked)

    def text(self) -> str:
        """Return them as the text of a JSON list."""
        return _text(self._json)

    def of_source(self, source: Source) -> SharedFindings:
        """Return those of the prompt, or those of the completion."""
        return _of_source(self._json, source)


# A column has few different results, each of them thousands of times; with many, each is parsed as it is needed.
@lru_cache(maxsize=1024)
def _safety(records: bytes, blocked: bool) -> Safety:
    return Safety.from_records(_records(records), blocked=blocked)


@lru_cache(maxsize=1024)
def _text(records: bytes) -> str:
    return json.dumps(_records(records))


@lru_cache(maxsize=1024)
def _of_source(records: bytes, source: Source) -> SharedFindings:
    return SharedFindings(json.dumps([r for r in _records(records) if r["source"] == source]).encode())


def _records(records: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(records)
    return found


def findings_text(findings: Sequence[Mapping[str, Any]]) -> str:
    """Return findings as the text of a JSON list."""
    return findings.text() if isinstance(findings, SharedFindings) else json.dumps(list(findings))


@dataclass(frozen=True, slots=True)
class CachedCompletion:
    """One completion, as the cache stores it."""

    text: str
    finish_reason: str | None = None
    model: str = ""
    request_id: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    findings: Sequence[dict[str, Any]] = field(default_factory=tuple)
    blocked: bool = False
    rows: int = 1
    """Rows of its request; the safety findings are those of all of them."""
    reasoning: str = ""
    """What the model wrote before its answer, for a cell that shows it again."""
    logprobs: Sequence[Any] = ()
    """Where they were asked for: of each token its text (a character for each byte), its log probability, and pairs of
    the same for its alternatives."""

    @property
    def is_empty_reasoning(self) -> bool:
        """Whether all its tokens went to reasoning: it ended at its limit without a text."""
        return self.finish_reason == "length" and not self.text.strip()

    @property
    def is_silent(self) -> bool:
        """Whether it is empty without a reason: it ended as answers do, and nothing was withheld."""
        explained = self.blocked or self.finish_reason in ("length", "content_filter", "tool_calls")
        return not (explained or self.text.strip())

    @property
    def safety(self) -> Safety:
        if isinstance(self.findings, SharedFindings):
            return self.findings.safety(blocked=self.blocked)
        return Safety.from_records(self.findings, blocked=self.blocked)

    def to_bytes(self) -> bytes:
        fields = {name: value for name in self.__slots__ if (value := getattr(self, name)) or name not in _OPTIONAL}
        fields["findings"] = list(self.findings)
        try:
            return pydantic_core.to_json(fields)
        except (pydantic_core.PydanticSerializationError, UnicodeEncodeError):
            # Half a surrogate pair, which only an escape can represent.
            return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> CachedCompletion:
        if value.startswith(_SCHEMA_MISMATCH):
            value = value[len(_SCHEMA_MISMATCH) : -1]
        try:
            return cls(**pydantic_core.from_json(value))
        except ValueError:
            # The escape of half a surrogate pair.
            return cls(**json.loads(value))

    @classmethod
    def from_parts(cls, own: bytes, shared: bytes) -> CachedCompletion:
        """Return the completion whose parts these are, see ``StoredCompletions``."""
        if not shared:
            return cls.from_bytes(own)
        try:
            fields = pydantic_core.from_json(own)
        except ValueError:
            fields = json.loads(own)
        return cls(**fields, findings=_shared(shared))

    def to_completion(self) -> ChatCompletion:
        """Return the completion as the client does."""
        beside: dict[str, Any] = {"reasoning_content": self.reasoning} if self.reasoning else {}
        message = ChatMessage(content=self.text, **beside)
        completion = ChatCompletion(
            model=self.model,
            choices=[Choice(message=message, finish_reason=self.finish_reason)],
            usage=ChatUsage(
                prompt_tokens=self.tokens_in,
                completion_tokens=self.tokens_out,
                total_tokens=self.tokens_in + self.tokens_out,
            ),
        )
        completion._request_id = self.request_id
        completion._streamed_safety = self.safety
        return completion

    def to_response(self) -> Response:
        """Return the completion as the Responses API does."""
        parts = [ContentPart(type="output_text", text=self.text)] if self.text else []
        output = [OutputItem(type="message", role="assistant", content=parts)]
        if self.reasoning:
            summary = [{"type": "summary_text", "text": self.reasoning}]
            output.insert(0, OutputItem(type="reasoning", summary=summary))
        reason = {"length": "max_output_tokens"}.get(self.finish_reason or "", self.finish_reason)
        whole = reason in (None, "stop", "tool_calls")
        response = Response(
            model=self.model,
            status="completed" if whole else "incomplete",
            incomplete_details=None if whole else {"reason": reason},
            output=output,
            usage=ResponsesUsage(
                input_tokens=self.tokens_in,
                output_tokens=self.tokens_out,
                total_tokens=self.tokens_in + self.tokens_out,
            ),
        )
        response._request_id = self.request_id
        response._cached_safety = self.safety
        return response

    @classmethod
    def from_error(cls, error: ContentPolicyError | RefusalError) -> CachedCompletion:
        """Return what is known about a prompt that was blocked or refused: findings and tokens, without a text."""
        if isinstance(error, RefusalError):
            known = error.completion
            return known if isinstance(known, cls) else cls(text="", request_id=error.request_id)
        return cls(
            text="",
            finish_reason="content_filter",
            request_id=error.request_id,
            findings=Safety(findings(error.safety, "prompt")).records(),
            blocked=True,
        )

    @classmethod
    def from_response(cls, response: ChatCompletion | Response) -> CachedCompletion:
        """Return the completion of a response."""
        tokens_in, tokens_out = response.tokens
        safety = response.safety
        text, finish_reason = str(response), documented_reason(response.finish_reason)
        if not text and isinstance(response, ChatCompletion) and any(c.message.tool_calls for c in response.choices):
            # Some services say "stop" instead: it is not an empty answer.
            finish_reason = "tool_calls"
        return cls(
            text=text,
            finish_reason=finish_reason,
            model=response.model,
            request_id=response.request_id,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            findings=safety.records(),
            blocked=safety.blocked,
            logprobs=_token_logprobs(response) if isinstance(response, ChatCompletion) else (),
        )


_OPTIONAL = ("reasoning", "logprobs")
"""Fields that most completions do not have, which are stored where they do."""
MAX_LOGPROB_TOKENS = 256
"""Tokens whose probabilities are stored: those of a label or a few fields. Of a long text they would take a hundred
times its own bytes."""


def _token_logprobs(completion: ChatCompletion) -> list[list[Any]]:
    """Return the log probabilities of a completion's tokens; empty without them, or where they are not valid."""
    given = completion.choices[0].logprobs if completion.choices else None
    content = given.get("content") if isinstance(given, Mapping) else None
    if not isinstance(content, list) or len(content) > MAX_LOGPROB_TOKENS:
        return []
    try:
        return [[*_token(each), [_token(other) for other in each.get("top_logprobs") or ()]] for each in content]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def _token(token: Mapping[str, Any]) -> list[Any]:
    # The bytes where they are given: a token may be half a character.
    text, raw = token["token"], token.get("bytes")
    data = bytes(raw) if raw else str(text).encode("utf-8", "surrogatepass")
    logprob = float(token["logprob"])
    return [data.decode("latin-1"), max(logprob, -9999.0) if logprob == logprob else -9999.0]


@lru_cache(maxsize=1024)
def _shared(records: bytes) -> SharedFindings:
    return SharedFindings(records)


class StoredCompletions:
    """The format of completions in the cache, in two parts: the findings, which many share, and the rest."""

    def split(self, value: bytes) -> tuple[bytes, bytes]:
        """Return the completion without its findings, and its findings, empty if they are not apart."""
        # A quote inside of a JSON string has a backslash before it, so neither mark can be part of a text.
        start, end = value.rfind(_BEFORE_FINDINGS), value.rfind(_AFTER_FINDINGS)
        if start < 0 or end < start or value.startswith(_SCHEMA_MISMATCH):
            return value, b""
        return value[:start] + value[end + 1 :], value[start + len(_BEFORE_FINDINGS) - 1 : end + 1]

    def join(self, own: bytes, shared: bytes) -> bytes:
        """Return the completion as it was."""
        if not shared:
            return own
        place = own.rfind(_AFTER_FINDINGS[1:])
        return own[:place] + _BEFORE_FINDINGS[:-1] + shared + own[place:]

    def dump(self, completion: CachedCompletion) -> bytes:
        """Return the completion as it was."""
        return completion.to_bytes()


_BEFORE_FINDINGS, _AFTER_FINDINGS = b',"findings":[', b'],"blocked":'
_SCHEMA_MISMATCH = b'{"schema_mismatch":'
_MARK = b'{"refused":'


def dump_schema_mismatch(value: bytes) -> bytes:
    """Return a cached completion marked as one that did not match its schema; ``from_bytes`` reads it all the same."""
    return value if value.startswith(_SCHEMA_MISMATCH) else b"%s%s}" % (_SCHEMA_MISMATCH, value)


def matches_schema(value: bytes) -> bool:
    """Whether a cached value may answer a later call: false for a completion that did not match its schema."""
    return not value.startswith(_SCHEMA_MISMATCH)


def is_usable(value: bytes, *, is_text: bool, needs_text: bool = True) -> bool:
    """Whether a cached value answers its row: it matches, is not a refusal, is not withheld or empty, nor cut JSON.

    Without ``needs_text``, an empty or cut answer does too: what is asked for is what the safety filter says.
    """
    if value.startswith((_SCHEMA_MISMATCH, _MARK)):
        return False
    completed = CachedCompletion.from_bytes(value)
    if completed.blocked or completed.finish_reason == "content_filter":
        return False
    is_cut = completed.finish_reason == "length" and not is_text
    return not needs_text or not (is_cut or completed.is_empty_reasoning or completed.is_silent)


def dump_cached_error(error: ContentPolicyError | RefusalError) -> bytes:
    """Return the error with what is known of its answer, in a form that no cached completion has."""
    fields: dict[str, Any]
    if isinstance(error, RefusalError):
        known = CachedCompletion.from_error(error)
        fields = {"refusal": error.refusal, "completion": json.loads(known.to_bytes())}
    else:
        fields = {"status": error.status, "request_id": error.request_id, "body": error.body}
    return json.dumps({"refused": fields}, separators=(",", ":")).encode()


def load_cached_error(value: bytes) -> ContentPolicyError | RefusalError | None:
    """Return the error that a cached value stands for, ``None`` for a completion."""
    if not value.startswith(_MARK):
        return None
    fields = json.loads(value)["refused"]
    if "refusal" in fields:
        return refusal_error(fields["refusal"], CachedCompletion(**fields["completion"]))
    error = api_error(fields["status"], fields["body"], request_id=fields["request_id"])
    return error if isinstance(error, ContentPolicyError) else None


def refusal_error(refusal: str, completion: CachedCompletion) -> RefusalError:
    """Return the error of a row that the model refused to answer."""
    return RefusalError(
        refusal,
        request_id=completion.request_id,
        tokens=(completion.tokens_in, completion.tokens_out),
        completion=completion,
    )

"""Chat Completions: requests, whole responses and chunks."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from skytells_nb.types.base import DisplayedAsText, RequestModel, ResponseModel
from skytells_nb.types.models import billed_tokens_out
from skytells_nb.types.safety import (
    INCOMPLETE,
    PromptFilterResult,
    Safety,
    model_findings,
    prompt_findings,
    root_findings,
    with_unchecked,
)


class ChatRequest(RequestModel):
    """Body of ``POST /chat/completions``; parameters not named here pass through unchanged."""

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    n: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    user: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    stream_options: dict[str, Any] | None = None


def content_text(content: Any) -> Any:
    """Return the text of a ``content`` field that is a list of parts, as some routers send; others unchanged."""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        if refusal_text(content) is not None:
            raise ValueError("a part is a refusal")  # the lenient reader puts it where refusals are
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content


def refusal_text(content: Any) -> str | None:
    """Return the refusal in a ``content`` field that is a list of parts."""
    if not isinstance(content, list):
        return None
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "refusal"]
    texts = [text for part in parts if isinstance(text := part.get("refusal") or part.get("text"), str)]
    return "".join(texts) or None


Content: TypeAlias = Annotated[str, BeforeValidator(content_text)]
"""Text; the text parts of a list are joined."""


class FunctionCall(ResponseModel):
    name: str = ""
    arguments: str = ""


class ToolCall(ResponseModel):
    """One function the model wants called; ``arguments`` is JSON text. ``index`` is set in chunks only."""

    index: int | None = None
    id: str = ""
    type: str = "function"
    function: FunctionCall = Field(default_factory=FunctionCall)

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, value: Any) -> Any:
        """Take a call whose function is not in an object of its own."""
        if not isinstance(value, dict) or "function" in value or not isinstance(value.get("name"), str):
            return value
        own = {name: value[name] for name in ("name", "arguments") if name in value}
        return {**{n: v for n, v in value.items() if n not in own}, "function": own}


class ChatMessage(ResponseModel):
    """A message of the model: ``content`` is its text, empty if it only calls tools."""

    role: str = "assistant"
    content: Content = ""
    refusal: str | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)

    _parsed: Any = PrivateAttr(default=None)

    @property
    def parsed(self) -> Any:
        """The object that ``chat.completions.parse`` made of the text; ``None`` after any other call."""
        return self._parsed

    @property
    def text(self) -> str:
        """The same as ``content``."""
        return self.content


class ChatUsage(ResponseModel):
    """Tokens of one exchange, as the service counts them: most count reasoning as part of ``completion_tokens``."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    completion_tokens_details: dict[str, Any] = Field(default_factory=dict)
    prompt_tokens_details: dict[str, Any] = Field(default_factory=dict)


_REASONS = {
    **dict.fromkeys(("end_turn", "eos", "eos_token", "stop_sequence", "complete", "completed", "done"), "stop"),
    **dict.fromkeys(("max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit"), "length"),
    **dict.fromkeys(("model_context_window_exceeded",), "length"),
    **dict.fromkeys(("content_filtered", "safety", "sensitive", "guardrail_intervened", "blocklist"), "content_filter"),
    **dict.fromkeys(("prohibited_content", "recitation", "spii"), "content_filter"),
    **dict.fromkeys(("tool_use", "tool_call", "function_call"), "tool_calls"),
}
"""Why answers end, in the words of Anthropic, Bedrock, Gemini, Mistral, Text Generation Inference and Zhipu."""


def documented_reason(reason: str | None) -> str | None:
    """Return a finish reason in the documented words, where it is known what it means.

    >>> documented_reason("MAX_TOKENS"), documented_reason("content-filter"), documented_reason("other")
    ('length', 'content_filter', 'other')
    """
    if reason is None or reason in ("stop", "length", "tool_calls", "content_filter"):
        return reason
    name = reason.strip().lower().replace("-", "_")
    return _REASONS.get(name, name if name in ("stop", "length", "tool_calls", "content_filter") else reason)


class Choice(ResponseModel):
    index: int = 0
    message: ChatMessage = Field(default_factory=ChatMessage)
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    content_filter_results: dict[str, Any] | None = None


class ChatCompletion(DisplayedAsText, ResponseModel):
    """A whole completion. ``str(completion)`` is the text of its first choice."""

    id: str = ""
    object: str = "chat.completion"
    created: int = 0
    model: str = ""
    choices: list[Choice] = Field(default_factory=list)
    usage: ChatUsage | None = None
    system_fingerprint: str | None = None
    prompt_filter_results: list[PromptFilterResult] | None = None

    _request_id: str | None = PrivateAttr(default=None)
    _streamed_safety: Safety | None = PrivateAttr(default=None)

    @property
    def text(self) -> str:
        """Text of the first choice; empty without one."""
        return self.choices[0].message.text if self.choices else ""

    @property
    def parsed(self) -> Any:
        """The object that ``chat.completions.parse`` made of the first choice."""
        return self.choices[0].message.parsed if self.choices else None

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended: stop, length, tool_calls, content_filter, or interrupted (set by this client)."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def refusal(self) -> str | None:
        """What the model said instead of an answer; ``None`` for an answer."""
        message = self.choices[0].message if self.choices else None
        refusal = message.refusal if message is not None and not message.content.strip() else None
        return refusal if refusal and refusal.strip() else None

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens in and out, reasoning included; zeros if the service did not report them."""
        usage = self.usage
        if usage is None:
            return 0, 0
        given, made = usage.prompt_tokens, usage.completion_tokens
        return given, billed_tokens_out(given, made, usage.total_tokens, usage.completion_tokens_details)

    @property
    def request_id(self) -> str | None:
        """The service's id of this request, for support."""
        return self._request_id

    @property
    def safety(self) -> Safety:
        """Safety results of the prompt and of every choice."""
        results = prompt_findings(self.prompt_filter_results) + root_findings(self)
        blocked, whole = False, []
        for choice in self.choices:
            index, reason = choice.index, choice.finish_reason
            results += model_findings(choice, "completion", index)
            blocked = blocked or documented_reason(reason) == "content_filter"
            if choice.message.content and reason not in INCOMPLETE:
                whole.append(index)
        safety, streamed = Safety(results, blocked), self._streamed_safety
        return with_unchecked(safety if streamed is None else streamed.merge(safety), whole)

    def __str__(self) -> str:
        return self.text


class Delta(ResponseModel):
    """The additions of one chunk to a message; other fields are empty."""

    role: str = ""
    content: Content = ""
    refusal: str | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)


class ChunkChoice(ResponseModel):
    index: int = 0
    delta: Delta = Field(default_factory=Delta)
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    content_filter_results: dict[str, Any] | None = None
    content_filter_offsets: dict[str, Any] | None = None


class ChatCompletionChunk(ResponseModel):
    """One piece of a streamed completion. ``choices`` is empty in prompt-filter and usage chunks, and ids may be ""."""

    id: str = ""
    object: str = ""
    created: int = 0
    model: str = ""
    choices: list[ChunkChoice] = Field(default_factory=list)
    usage: ChatUsage | None = None
    system_fingerprint: str | None = None
    prompt_filter_results: list[PromptFilterResult] | None = None

    @property
    def text(self) -> str:
        """The text that this chunk adds to the first choice."""
        return "".join(choice.delta.content for choice in self.choices if choice.index == 0)

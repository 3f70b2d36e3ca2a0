"""Responses: requests, whole responses and the events of a stream."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PrivateAttr

from skytells_nb.types.base import DisplayedAsText, RequestModel, ResponseModel
from skytells_nb.types.models import billed_tokens_out
from skytells_nb.types.safety import INCOMPLETE, ContentFilter, Finding, Safety, with_unchecked

TERMINAL_EVENTS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
"""Events after which a stream is over; an ``error`` event ends it too."""


class ResponsesRequest(RequestModel):
    """Body of ``POST /responses``; parameters not named here pass through unchanged."""

    model: str
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    max_tool_calls: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    truncation: str | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)


class ContentPart(ResponseModel):
    """One part of a message's content."""

    type: str = "output_text"
    text: str = ""
    refusal: str | None = None
    annotations: list[Any] = Field(default_factory=list)


class OutputItem(ResponseModel):
    """One item of ``output``: a message, reasoning (no content), a function call, or an unknown type.

    Fields that its type does not have are empty.
    """

    type: str = "message"
    id: str = ""
    status: str = ""
    role: str = ""
    content: list[ContentPart] = Field(default_factory=list)
    summary: list[dict[str, Any]] = Field(default_factory=list)
    call_id: str = ""
    name: str = ""
    arguments: str = ""


class ResponsesUsage(ResponseModel):
    """Tokens of one exchange, as the service counts them: most count reasoning as part of ``output_tokens``."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: dict[str, Any] = Field(default_factory=dict)
    output_tokens_details: dict[str, Any] = Field(default_factory=dict)


class Response(DisplayedAsText, ResponseModel):
    """A whole response. ``str(response)`` is its text."""

    id: str = ""
    object: str = "response"
    created_at: int | float = 0
    completed_at: int | float | None = None
    status: str = "completed"
    model: str = ""
    output: list[OutputItem] = Field(default_factory=list)
    usage: ResponsesUsage | None = None
    content_filters: list[ContentFilter] | None = None
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    previous_response_id: str | None = None
    store: bool | None = None

    _request_id: str | None = PrivateAttr(default=None)
    _cached_safety: Safety | None = PrivateAttr(default=None)
    _output_parsed: Any = PrivateAttr(default=None)

    @property
    def output_parsed(self) -> Any:
        """The object that ``responses.parse`` made of the text; ``None`` after any other call."""
        return self._output_parsed

    @property
    def output_text(self) -> str:
        """Every text part of every message, joined; reasoning items are skipped.

        Where a gateway sends no items, the text that it sends beside them.
        """
        joined = "".join(
            part.text
            for item in self.output
            if item.type == "message"
            for part in item.content
            if part.type == "output_text"
        )
        beside = (self.model_extra or {}).get("output_text")
        return joined or (beside if isinstance(beside, str) else "")

    @property
    def refusal(self) -> str | None:
        """What the model said instead of an answer; ``None`` for an answer."""
        refusal = "".join(part.refusal or "" for item in self.output for part in item.content)
        return refusal if refusal.strip() and not self.output_text.strip() else None

    @property
    def finish_reason(self) -> str | None:
        """As in chat: stop, length, content_filter, tool_calls, or the status if none of these applies."""
        if self.status == "completed":
            return "tool_calls" if any(item.type == "function_call" for item in self.output) else "stop"
        if self.status == "incomplete":
            reason = (self.incomplete_details or {}).get("reason")
            return "length" if reason == "max_output_tokens" else reason or "incomplete"
        return self.status

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens in and out, reasoning included; zeros if the service did not report them."""
        usage = self.usage
        if usage is None:
            return 0, 0
        given, made = usage.input_tokens, usage.output_tokens
        return given, billed_tokens_out(given, made, usage.total_tokens, usage.output_tokens_details)

    @property
    def request_id(self) -> str | None:
        """The service's id of this request, for support."""
        return self._request_id

    @property
    def safety(self) -> Safety:
        """Safety results of the prompt and of the completion."""
        if self._cached_safety is not None:
            return self._cached_safety
        results: tuple[Finding, ...] = ()
        blocked = (self.incomplete_details or {}).get("reason") == "content_filter"
        for entry in self.content_filters or ():
            results += entry.findings
            blocked = blocked or entry.blocked
        # Several entries may have the same category; the worst of them counts.
        whole = bool(self.output_text) and self.finish_reason not in INCOMPLETE
        return with_unchecked(Safety().merge(Safety(results, blocked)), (0,) if whole else ())

    def __str__(self) -> str:
        return self.output_text


class ResponseEvent(ResponseModel):
    """One event of a stream, known or not: ``type`` is its type, and fields that it does not have are ``None``."""

    type: str = ""
    sequence_number: int | None = None
    response: Response | None = None
    item: OutputItem | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    delta: Any = None

    @property
    def text(self) -> str:
        """The text that this event adds to the response."""
        return self.delta if self.type == "response.output_text.delta" and isinstance(self.delta, str) else ""

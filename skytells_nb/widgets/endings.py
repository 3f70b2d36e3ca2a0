"""How an answer ended where that was not its own end, and what to do after an error: one wording for cell and panel."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skytells_nb.errors import (
    AuthenticationError,
    ConnectError,
    ContentPolicyError,
    ContextLengthError,
    ModelNotFoundError,
    PaymentRequiredError,
    RateLimitError,
    Retryable,
    StreamError,
    TruncatedStreamError,
)

INTERRUPTED = "interrupted"
TRUNCATED = "truncated"
FAILED = "error"
CUT = (INTERRUPTED, TRUNCATED, FAILED)
"""Finish reasons that we give: the service gave none, because it was not asked on or not heard to its end."""

_BEFORE_THE_END = {
    INTERRUPTED: "",
    TRUNCATED: "the stream stopped before its end; ",
    FAILED: "the stream failed; ",
    "failed": "the service gave this answer up; ",
    "cancelled": "the service gave this answer up; ",
}
ENDINGS = frozenset({*_BEFORE_THE_END, "content_filter", "length", "tool_calls"})
"""The finish reasons that ``ending`` has words for."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What doing something is called at one door; each a clause that goes on with "then" or ends."""

    again: str
    connect: str
    another_model: str
    shorten: str


def reason_for(problem: BaseException) -> str:
    """The finish reason of an answer that this ended."""
    if isinstance(problem, KeyboardInterrupt):
        return INTERRUPTED
    return TRUNCATED if isinstance(problem, TruncatedStreamError) else FAILED


def ending(reason: str | None, *, text: bool, tokens: int | None = None) -> str:
    """How an answer ended, in words; empty where it came to its own end.

    ``text`` is whether any of it came, ``tokens`` how many were billed for it, where that is known.

    >>> ending("interrupted", text=True)
    'interrupted: what came is above'
    """
    if reason in _BEFORE_THE_END:
        return f"{reason}: {_BEFORE_THE_END[reason]}{kept(text)}"
    used = f" after {tokens:,} tokens" if tokens is not None else ""
    match reason:
        case "content_filter" if text:
            return "The safety filter ended this answer: what is above is not all of it."
        case "content_filter":
            return "The safety filter withheld this answer."
        case "length" if text:
            return f"Cut at the length limit{used}"
        case "length":
            return f"The length limit was reached{used} before any text, by reasoning"
        case "tool_calls":
            return "The model asks for a tool call"
    return "" if text else "The answer has no text."


def kept(text: bool) -> str:
    return "what came is above" if text else "nothing had come"


def next_step(problem: Exception, steps: Steps) -> str:
    """What to do after an error, in a line; empty where its message says it or nothing helps."""
    match problem:
        case ContentPolicyError():
            return f"Change the prompt, then {steps.again}; the same prompt would be blocked again."
        case RateLimitError():
            wait = f"{math.ceil(problem.retry_after):,} s" if problem.retry_after else "a little"
            return f"Wait {wait}, then {steps.again}."
        case AuthenticationError():
            return steps.connect
        case PaymentRequiredError():
            return f"Add credit to the account, then {steps.again}."
        case ModelNotFoundError():
            return steps.another_model
        case ContextLengthError():
            return steps.shorten
        case TruncatedStreamError() | StreamError() | ConnectError() | Retryable():
            return f"{steps.again[:1].upper()}{steps.again[1:]}; it may succeed."
    return ""

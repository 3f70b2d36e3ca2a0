"""How an answer ended where that was not its own end, and what to do after an error: one wording for cell and panel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
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
from skytells_nb.types.safety import Finding, Safety, severity_rank

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
class NextSteps:
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


def next_step(problem: Exception, steps: NextSteps) -> str:
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


_SOURCES = {"prompt": "the prompt", "completion": "the answer"}


def found_words(flagged: Iterable[Finding], *, filtered: bool = True) -> str:
    """Categories with what was found in them, and where; with ``filtered``, which of them were withheld.

    >>> found_words([Finding("prompt", 0, "self_harm", "high", filtered=True)])
    'self harm high filtered in the prompt'
    """

    def facts(finding: Finding) -> list[str]:
        graded = finding.severity if severity_rank(finding.severity) > 0 else None
        found = graded or ("detected" if finding.detected else "")
        return [found, "filtered" if filtered and finding.filtered else ""]

    return _placed(flagged, facts)


def looked_words(safety: Safety) -> str:
    """What the filter looked at, and where, whatever it found."""
    return _placed(safety.findings, lambda finding: [])


def speaks_of_answer(safety: Safety) -> bool:
    """Whether there is any verdict on the answer: one on the prompt alone says nothing of it."""
    return any(finding.source == "completion" for finding in safety.findings)


def _placed(findings: Iterable[Finding], facts: Callable[[Finding], list[str]]) -> str:
    said: dict[str, list[str]] = {}
    for finding in findings:
        words = " ".join(filter(None, [finding.category.replace("_", " "), *facts(finding)]))
        said.setdefault(_SOURCES[finding.source], []).append(words)
    return "; ".join(f"{', '.join(dict.fromkeys(words))} in {place}" for place, words in said.items())

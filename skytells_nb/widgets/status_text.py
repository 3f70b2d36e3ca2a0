"""Why an answer ended early and what to do after an error, in the same words for cells and the chat panel."""

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
INCOMPLETE = (INTERRUPTED, TRUNCATED, FAILED)
"""Finish reasons set by this library, for answers that did not arrive completely."""

_ENDED_EARLY = {
    INTERRUPTED: "",
    TRUNCATED: "the stream ended early; ",
    FAILED: "the stream failed; ",
    "failed": "the service ended this answer; ",
    "cancelled": "the service ended this answer; ",
}
DESCRIBED_REASONS = frozenset({*_ENDED_EARLY, "content_filter", "length", "tool_calls"})
"""The finish reasons that ``describe_ending`` describes."""


@dataclass(frozen=True, slots=True)
class NextSteps:
    """The wording of each step in one front end; each is a clause that may follow "then"."""

    retry: str
    connect: str
    another_model: str
    shorten: str


def finish_reason_for(error: BaseException) -> str:
    """Return the finish reason of an answer that this exception ended."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return TRUNCATED if isinstance(error, TruncatedStreamError) else FAILED


def describe_ending(reason: str | None, *, text: bool, tokens: int | None = None) -> str:
    """Describe why an answer ended early; empty if it is complete.

    ``text`` is whether any text arrived, ``tokens`` the number of billed tokens if it is known.

    >>> describe_ending("interrupted", text=True)
    'interrupted: what arrived is above'
    """
    if reason in _ENDED_EARLY:
        return f"{reason}: {_ENDED_EARLY[reason]}{partial_text_note(text)}"
    after = f" after {tokens:,} tokens" if tokens is not None else ""
    match reason:
        case "content_filter" if text:
            return "The safety filter ended this answer early."
        case "content_filter":
            return "The safety filter withheld this answer."
        case "length" if text:
            return f"Cut at the length limit{after}"
        case "length":
            return f"The length limit was reached{after} by reasoning, before any text"
        case "tool_calls":
            return "The model asks for a tool call"
    return "" if text else "The answer has no text."


def partial_text_note(text: bool) -> str:
    """Return a note on whether any text arrived."""
    return "what arrived is above" if text else "nothing had arrived"


def next_step(error: Exception, steps: NextSteps) -> str:
    """Return one line on what to do after an error; empty if its message says it or nothing helps."""
    match error:
        case ContentPolicyError():
            return f"Change the prompt, then {steps.retry}; the same prompt would be blocked again."
        case RateLimitError():
            wait = f"{math.ceil(error.retry_after):,} s" if error.retry_after else "a moment"
            return f"Wait {wait}, then {steps.retry}."
        case AuthenticationError():
            return steps.connect
        case PaymentRequiredError():
            return f"Add credit to the account, then {steps.retry}."
        case ModelNotFoundError():
            return steps.another_model
        case ContextLengthError():
            return steps.shorten
        case TruncatedStreamError() | StreamError() | ConnectError() | Retryable():
            return f"{steps.retry[:1].upper()}{steps.retry[1:]}; it may succeed."
    return ""


_SOURCES = {"prompt": "the prompt", "completion": "the answer"}


def describe_findings(flagged: Iterable[Finding], *, filtered: bool = True) -> str:
    """Return the flagged categories with their severity and source; with ``filtered``, mark those that were withheld.

    >>> describe_findings([Finding("prompt", 0, "self_harm", "high", filtered=True)])
    'self harm high filtered in the prompt'
    """

    def labels(finding: Finding) -> list[str]:
        severity = finding.severity if severity_rank(finding.severity) > 0 else None
        label = severity or ("detected" if finding.detected else "")
        return [label, "filtered" if filtered and finding.filtered else ""]

    return _group_by_source(flagged, labels)


def describe_checks(safety: Safety) -> str:
    """Return the categories that the filter checked, by source, whether flagged or not."""
    return _group_by_source(safety.findings, lambda finding: [])


def covers_answer(safety: Safety) -> bool:
    """Whether any result covers the answer, rather than only the prompt."""
    return any(finding.source == "completion" for finding in safety.findings)


def _group_by_source(findings: Iterable[Finding], labels: Callable[[Finding], list[str]]) -> str:
    by_source: dict[str, list[str]] = {}
    for finding in findings:
        text = " ".join(filter(None, [finding.category.replace("_", " "), *labels(finding)]))
        by_source.setdefault(_SOURCES[finding.source], []).append(text)
    return "; ".join(f"{', '.join(dict.fromkeys(texts))} in {source}" for source, texts in by_source.items())

"""What to do next after a failed cell, where the error's own message does not say."""

from __future__ import annotations

import math
from typing import TypeVar

from skytells_nb.errors import (
    AuthenticationError,
    ConnectError,
    ContentPolicyError,
    ContextLengthError,
    ModelNotFoundError,
    NotFoundError,
    PaymentRequiredError,
    RateLimitError,
    Retryable,
    SkytellsError,
    StreamError,
    TruncatedStreamError,
)

E = TypeVar("E", bound=SkytellsError)


def advise(problem: E) -> E:
    """The same error, with a line that says what to do next where there is one to say."""
    line = _advice(problem)
    if line and line not in getattr(problem, "__notes__", ()):
        problem.add_note(line)
    return problem


def _advice(problem: SkytellsError) -> str:
    match problem:
        case ContentPolicyError():
            return "Change the prompt and run the cell again; the same prompt would be blocked again."
        case RateLimitError():
            wait = f"{math.ceil(problem.retry_after):,} s" if problem.retry_after else "a little"
            return f"Wait {wait}, then run the cell again."
        case AuthenticationError():
            return "Set SKYTELLS_API_KEY to a valid key, then %skytells connect."
        case PaymentRequiredError():
            return "Add credit to the account, then run the cell again."
        case ModelNotFoundError():
            return "%skytells models lists the models; choose one with -m."
        case ContextLengthError():
            return "Shorten the prompt, send less of a table, or begin another conversation."
        case NotFoundError() if problem.code == "previous_response_not_found":
            return "The service no longer has this conversation: %skytells conversations reset NAME begins it anew."
        case TruncatedStreamError() | StreamError() | ConnectError() | Retryable():
            return "Run the cell again; it may succeed."
    return ""

"""Which parameter a rejected request names: services say it in many words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from skytells_nb.errors import APIError, ContentPolicyError, ContextLengthError

REJECTION_STATUSES = frozenset([400, 404, 405, 406, 415, 422, 500, 501])
"""Statuses under which a parameter is rejected; gateways pass on their upstream's rejections as 500."""
_ECHOES = frozenset(["input", "ctx", "url", "request", "request_id", "messages", "prompt", "trace", "traceback"])
_MAX_DEPTH = 6


def rejects_parameter(problem: Exception, *words: str) -> bool:
    """Return whether a request was rejected in words, or for a parameter, that name one of these.

    Words are compared as a whole, in any case; what the service echoes of the request does not count.

    >>> rejects_parameter(APIError("`temperature` may only be 1", status=400), "temperature")
    True
    >>> rejects_parameter(APIError("`temperature` may only be 1", status=503), "temperature")
    False
    >>> rejects_parameter(ContextLengthError("temperature: too long", status=400), "temperature")
    False
    """
    if not isinstance(problem, APIError) or isinstance(problem, (ContentPolicyError, ContextLengthError)):
        return False
    if problem.status not in REJECTION_STATUSES:
        return False
    pattern = re.compile("|".join(rf"(?<![a-z0-9_]){re.escape(word)}(?![a-z0-9_])" for word in words), re.IGNORECASE)
    return any(pattern.search(text) is not None for text in rejection_texts(problem))


def rejection_texts(problem: APIError) -> Iterator[str]:
    """Yield what a service said about a rejection: its parameter, its message, and the texts of its body."""
    yield from (text for text in (problem.param, problem.message) if text)
    yield from _texts(problem.body, 0)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value[:2000]
    elif depth < _MAX_DEPTH and isinstance(value, Mapping):
        for name, member in list(value.items())[:50]:
            if name not in _ECHOES:
                yield from _texts(member, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, list):
        for member in value[:50]:
            yield from _texts(member, depth + 1)

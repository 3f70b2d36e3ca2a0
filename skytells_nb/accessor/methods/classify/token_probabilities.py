"""How probable a label was among all labels, by the probabilities of the tokens of an answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

MOST_ALTERNATIVES = 20
"""Alternatives of a token that a service names at most (OpenAI)."""
_VALUE = re.compile(r'"label"\s*:\s*"')


def alternatives(labels: int) -> int:
    """Return how many alternatives of each token to ask for."""
    return min(MOST_ALTERNATIVES, max(5, labels))


def label_probability(label: str, tokens: Sequence[Sequence[Any]], labels: Sequence[str]) -> float | None:
    """Return the probability of a label among all labels; ``None`` if the tokens are not those of such an answer.

    Each token is its text, its log probability, and pairs of the same for its alternatives; texts have a character for
    each byte, as ``CachedCompletion`` stores them. Where a token begins or continues the label, its probability is
    divided by that of all alternatives with which one of the labels could go on: what a model would have written
    besides a label does not count, whether or not the service kept it from doing so.

    >>> late = [['{"label": "', 0.0, []], ["la", -0.25, [["la", -0.25], ["ta", -1.75]]], ['te"}', 0.0, []]]
    >>> round(label_probability("late", late, ["late", "taste"]), 3)
    0.818
    """
    text = "".join(str(token[0]) for token in tokens)
    found = _VALUE.search(text)
    start = found.end() if found else len(text) - len(text.lstrip())
    end = None
    for ascii_only in (True, False):
        forms = [_bytes(json.dumps(name, ensure_ascii=ascii_only)[1:] if found else name) for name in labels]
        candidates = [(text[:start] + form).lower() for form in forms]
        own = candidates[list(labels).index(label)]
        if text.lower().startswith(own):
            end = len(own)
            break
    if end is None:
        return None
    total, position = 0.0, 0
    for token, logprob, others in tokens:
        before, position = position, position + len(token)
        if position <= start:
            continue
        if before >= end:
            break
        prefix = text[:before].lower()
        valid = {str(other): float(value) for other, value in others if _continues(prefix + other.lower(), candidates)}
        valid[str(token)] = float(logprob)
        total += float(logprob) - _log_sum(list(valid.values()))
    return math.exp(min(0.0, total))


def _continues(text: str, candidates: Sequence[str]) -> bool:
    return any(each.startswith(text) or text.startswith(each) for each in candidates)


def _log_sum(values: Sequence[float]) -> float:
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))


def _bytes(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("latin-1")

"""The base classes of requests (strict) and responses (tolerant)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict


class RequestModel(BaseModel):
    """Base of requests: types are checked before anything is sent; unknown parameters pass through unchanged."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=(), allow_inf_nan=False)


class ResponseModel(BaseModel):
    """Base of responses: unknown fields are stored, missing ones tolerated."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), populate_by_name=True)


MAX_TOTAL = 10_000_000
"""A total of tokens beyond this cannot be true, and tells nothing."""


def billed_tokens_out(tokens_in: int, tokens_out: int, total: int, details: Mapping[str, Any]) -> int:
    """Return the tokens out with those of reasoning, which some services count in the total or the details alone.

    >>> billed_tokens_out(5, 3, 208, {}), billed_tokens_out(5, 3, 0, {"reasoning_tokens": 200})
    (203, 203)
    >>> billed_tokens_out(5, 203, 208, {"reasoning_tokens": 200})
    203
    """
    reasoning = details.get("reasoning_tokens")
    beside = reasoning if isinstance(reasoning, int) and tokens_out < reasoning <= MAX_TOTAL else 0
    is_told = tokens_in > 0 and tokens_out > 0 and total <= MAX_TOTAL
    return max(tokens_out + beside, total - tokens_in) if is_told else tokens_out


class DisplayedAsText:
    """An answer that a notebook shows as its text, and not as its fields."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = str(self)
        if not text:
            return {}
        try:
            # By name: only a front end calls this, and types know none.
            render = import_module("skytells_nb.widgets.live").answer_bundle
            return dict(render(text))
        except ImportError:
            return {"text/plain": text}

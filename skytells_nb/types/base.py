"""The base classes of requests (strict) and responses (tolerant)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict


class RequestModel(BaseModel):
    """Base of requests: types are checked before anything is sent; unknown parameters pass through unchanged."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=(), allow_inf_nan=False)


class ResponseModel(BaseModel):
    """Base of responses: unknown fields are stored, missing ones tolerated."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), populate_by_name=True)


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

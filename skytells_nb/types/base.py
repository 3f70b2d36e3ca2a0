"""The base classes of requests (strict) and responses (tolerant)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RequestModel(BaseModel):
    """Base of requests: types are checked before anything is sent; unknown parameters pass through unchanged."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=(), allow_inf_nan=False)


class ResponseModel(BaseModel):
    """Base of responses: unknown fields are stored, missing ones tolerated."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), populate_by_name=True)

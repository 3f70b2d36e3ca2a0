"""The two bases of everything that travels: strict requests, tolerant answers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RequestModel(BaseModel):
    """What we send: types are checked before anything leaves; parameters we do not know pass through unchanged."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=(), allow_inf_nan=False)


class ResponseModel(BaseModel):
    """What comes back: unknown fields are kept, missing ones tolerated."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), populate_by_name=True)

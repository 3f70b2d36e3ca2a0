"""The JSON schema that describes what is read, which differs from the one that is sent.

What a model gives back has other names and types than what it takes in (aliases, computed fields, decimals).
"""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from skytells_nb.wire.strict_schema import generated, with_root

DECIMAL = "decimal"
AWARE = "date-time with offset"
"""Formats of our own, for what JSON schema has no word for."""


class _Read(GenerateJsonSchema):
    def decimal_schema(self, schema: core_schema.DecimalSchema) -> dict[str, Any]:
        limits = {"max_digits": schema.get("max_digits"), "decimal_places": schema.get("decimal_places")}
        return {"type": "string", "format": DECIMAL, **limits}

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> dict[str, Any]:
        return {"type": "string", "format": AWARE if schema.get("tz_constraint") == "aware" else "date-time"}


def read_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """The JSON schema of ``model_dump(mode="json")``, by the fields' own names.

    Raises InputError for a model with a type that no JSON can hold.
    """
    return with_root(generated(model, _Read, mode="serialization", by_alias=False))

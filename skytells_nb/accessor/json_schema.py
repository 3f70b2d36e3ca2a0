"""JSON schemas of pydantic models: the one that is sent, and the one that describes what is read.

They differ: a service in strict mode takes fewer words, and what a model gives back has other names and types than what
it takes in (aliases, computed fields, decimals).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from skytells_nb.errors import InputError

DECIMAL = "decimal"
AWARE = "date-time with offset"
"""Formats of our own, for what JSON schema has no word for."""

_FORMATS = frozenset({"date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
"""Formats that strict mode knows (OpenAI, structured outputs)."""
_DROPPED = frozenset({"default", "discriminator", "uniqueItems", "propertyNames"})
"""Words that strict mode refuses. What they ask for is checked when the answer is read."""
_NAMED = ("$defs", "definitions", "properties")


class _Sent(GenerateJsonSchema):
    def decimal_schema(self, schema: core_schema.DecimalSchema) -> dict[str, Any]:
        # As text it would need a pattern with look-around, which grammars do not have.
        made = super().decimal_schema(schema)
        numbers = [part for part in made.get("anyOf", ()) if part.get("type") == "number"]
        return numbers[0] if numbers else made


class _Read(GenerateJsonSchema):
    def decimal_schema(self, schema: core_schema.DecimalSchema) -> dict[str, Any]:
        limits = {"max_digits": schema.get("max_digits"), "decimal_places": schema.get("decimal_places")}
        return {"type": "string", "format": DECIMAL, **limits}

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> dict[str, Any]:
        return {"type": "string", "format": AWARE if schema.get("tz_constraint") == "aware" else "date-time"}


def sent_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """The JSON schema to hold a service to, as strict mode wants it: objects closed, every property required.

    Raises InputError for a model with a type that no JSON can hold.

    >>> class Animal(pydantic.BaseModel):
    ...     legs: int = 4
    >>> sent_schema(Animal)["required"]
    ['legs']
    """
    body = strict(_generated(model, _Sent, mode="validation", by_alias=True))
    assert isinstance(body, dict)
    return with_root(body)


def read_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """The JSON schema of ``model_dump(mode="json")``, by the fields' own names.

    Raises InputError like ``sent_schema``.
    """
    return with_root(_generated(model, _Read, mode="serialization", by_alias=False))


def _generated(model: type[pydantic.BaseModel], generator: type[GenerateJsonSchema], **how: Any) -> dict[str, Any]:
    try:
        return model.model_json_schema(schema_generator=generator, **how)
    except pydantic.errors.PydanticUserError as problem:
        why = " ".join(str(problem).partition("For further information")[0].split()).rstrip(".")
        raise InputError(
            f"The schema {model.__name__} has a type that cannot be asked for as JSON: {why}. Use text, numbers, "
            "booleans, dates, enums, lists, and models of these."
        ) from None


def strict(schema: Any) -> Any:
    """The schema in the words of strict mode."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _NAMED and isinstance(value, Mapping):
            made[word] = {name: strict(part) for name, part in value.items()}
        elif word in ("enum", "const", "examples"):
            made[word] = value
        elif not (word in _DROPPED or _unknown(word, value)):
            made["anyOf" if word == "oneOf" else word] = strict(value)
    if isinstance(made.get("properties"), dict):
        made["additionalProperties"] = False
        made["required"] = list(made["properties"])
    return made


def _unknown(word: str, value: Any) -> bool:
    return (word == "format" and value not in _FORMATS) or (word == "pattern" and "(?" in str(value))


def with_root(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema with its object at the top, where the top only refers to it (as recursive models do)."""
    if "$ref" not in schema:
        return schema
    return {**resolved(schema["$ref"], schema), **{word: part for word, part in schema.items() if word != "$ref"}}


def resolved(reference: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``root`` that a reference names; an empty schema, which takes anything, where there is none."""
    found: Any = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}

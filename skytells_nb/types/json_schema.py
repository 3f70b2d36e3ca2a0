"""The JSON schema that a service is held to: that of a pydantic model, in the words that strict mode takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from skytells_nb.errors import InputError

MAX_NAME_LENGTH = 64
"""Characters that the service takes in the name of a schema."""

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


def named_json_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Name, strictness and schema, as both APIs take them; raises InputError like ``sent_schema``."""
    # The name of a generic model has brackets, which the service refuses.
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in model.__name__)
    return {"name": kept[:MAX_NAME_LENGTH], "strict": True, "schema": to_strict_json_schema(model)}


def to_strict_json_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """The JSON schema to hold a service to, as strict mode wants it: objects closed, every property required.

    Raises InputError for a model with a type that no JSON can hold.

    >>> class Animal(pydantic.BaseModel):
    ...     legs: int = 4
    >>> sent_schema(Animal)["required"]
    ['legs']
    """
    body = apply_strict_mode(generate_schema(model, _Sent, mode="validation", by_alias=True))
    assert isinstance(body, dict)
    return inline_root(body)


def generate_schema(model: type[pydantic.BaseModel], generator: type[GenerateJsonSchema], **how: Any) -> dict[str, Any]:
    """The model's schema by this generator; raises InputError for a type that no JSON can hold."""
    try:
        return model.model_json_schema(schema_generator=generator, **how)
    except pydantic.errors.PydanticUserError as problem:
        why = " ".join(str(problem).partition("For further information")[0].split()).rstrip(".")
        raise InputError(
            f"The schema {model.__name__} has a type that cannot be asked for as JSON: {why}. Use text, numbers, "
            "booleans, dates, enums, lists, and models of these."
        ) from None


def apply_strict_mode(schema: Any) -> Any:
    """The schema in the words of strict mode."""
    if isinstance(schema, list):
        return [apply_strict_mode(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _NAMED and isinstance(value, Mapping):
            made[word] = {name: apply_strict_mode(part) for name, part in value.items()}
        elif word in ("enum", "const", "examples"):
            made[word] = value
        elif not (word in _DROPPED or _unknown(word, value)):
            made["anyOf" if word == "oneOf" else word] = apply_strict_mode(value)
    if isinstance(made.get("properties"), dict):
        made["additionalProperties"] = False
        made["required"] = list(made["properties"])
    return made


def _unknown(word: str, value: Any) -> bool:
    return (word == "format" and value not in _FORMATS) or (word == "pattern" and "(?" in str(value))


def inline_root(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema with its object at the top, where the top only refers to it (as recursive models do)."""
    if "$ref" not in schema:
        return schema
    return {**resolve_reference(schema["$ref"], schema), **{word: part for word, part in schema.items() if word != "$ref"}}


def resolve_reference(reference: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``root`` that a reference names; an empty schema, which takes anything, where there is none."""
    found: Any = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}

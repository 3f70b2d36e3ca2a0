"""Strict JSON schemas: those of pydantic models, limited to the keywords that strict mode supports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from skytells_nb.errors import InputError

MAX_NAME_LENGTH = 64
"""Characters that the service accepts in the name of a schema."""

_FORMATS = frozenset({"date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
"""Formats that strict mode supports (OpenAI, structured outputs)."""
_DROPPED = frozenset({"default", "discriminator", "uniqueItems", "propertyNames"})
"""Keywords that strict mode rejects. They are checked when the response is parsed."""
_NAMED = ("$defs", "definitions", "properties")


class _StrictGenerator(GenerateJsonSchema):
    def decimal_schema(self, schema: core_schema.DecimalSchema) -> dict[str, Any]:
        # As text it would need a pattern with look-around, which grammars do not support.
        result = super().decimal_schema(schema)
        numbers = [part for part in result.get("anyOf", ()) if part.get("type") == "number"]
        return numbers[0] if numbers else result


def named_json_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return name, strictness and schema in the form of both APIs; raises InputError like ``to_strict_json_schema``."""
    # The name of a generic model has brackets, which the service rejects.
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in model.__name__)
    return {"name": name[:MAX_NAME_LENGTH], "strict": True, "schema": to_strict_json_schema(model)}


def to_strict_json_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model for strict mode: objects closed, every property required.

    Raises InputError for a model with a type that JSON cannot represent.

    >>> class Animal(pydantic.BaseModel):
    ...     legs: int = 4
    >>> to_strict_json_schema(Animal)["required"]
    ['legs']
    """
    body = apply_strict_mode(generate_schema(model, _StrictGenerator, mode="validation", by_alias=True))
    assert isinstance(body, dict)
    return inline_root(body)


def generate_schema(model: type[pydantic.BaseModel], generator: type[GenerateJsonSchema], **how: Any) -> dict[str, Any]:
    """Return the model's schema by this generator; raises InputError for a type that JSON cannot represent."""
    try:
        return model.model_json_schema(schema_generator=generator, **how)
    except pydantic.errors.PydanticUserError as problem:
        why = " ".join(str(problem).partition("For further information")[0].split()).rstrip(".")
        raise InputError(
            f"The schema {model.__name__} has a type that JSON cannot represent: {why}. Use text, numbers, "
            "booleans, dates, enums, lists, and models of these."
        ) from None


def apply_strict_mode(schema: Any) -> Any:
    """Return the schema limited to the keywords of strict mode."""
    if isinstance(schema, list):
        return [apply_strict_mode(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _NAMED and isinstance(value, Mapping):
            result[keyword] = {name: apply_strict_mode(part) for name, part in value.items()}
        elif keyword in ("enum", "const", "examples"):
            result[keyword] = value
        elif not (keyword in _DROPPED or _is_unsupported(keyword, value)):
            result["anyOf" if keyword == "oneOf" else keyword] = apply_strict_mode(value)
    if isinstance(result.get("properties"), dict):
        result["additionalProperties"] = False
        result["required"] = list(result["properties"])
    return result


def _is_unsupported(keyword: str, value: Any) -> bool:
    return (keyword == "format" and value not in _FORMATS) or (keyword == "pattern" and "(?" in str(value))


def inline_root(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its object at the top, if the top is only a reference (as in recursive models)."""
    if "$ref" not in schema:
        return schema
    return {
        **resolve_reference(schema["$ref"], schema),
        **{keyword: part for keyword, part in schema.items() if keyword != "$ref"},
    }


def resolve_reference(reference: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``root`` that a reference names; an empty schema, which accepts anything, if there is none."""
    target: Any = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
    return dict(target) if isinstance(target, Mapping) else {}

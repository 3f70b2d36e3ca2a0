"""Types of the fields of a JSON schema, so that a column has the same dtype whatever the answers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pydantic
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from skytells_nb.types.json_schema import generate_schema, inline_root, resolve_reference

DECIMAL = "decimal"
AWARE = "date-time with offset"
"""Formats beyond those of JSON schema."""


class _SerializationSchema(GenerateJsonSchema):
    def decimal_schema(self, schema: core_schema.DecimalSchema) -> dict[str, Any]:
        limits = {"max_digits": schema.get("max_digits"), "decimal_places": schema.get("decimal_places")}
        return {"type": "string", "format": DECIMAL, **limits}

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> dict[str, Any]:
        return {"type": "string", "format": AWARE if schema.get("tz_constraint") == "aware" else "date-time"}


def serialization_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of ``model_dump(mode="json")``, with the names of the fields and not their aliases.

    Raises InputError for a model with a type that JSON cannot hold.
    """
    return inline_root(generate_schema(model, _SerializationSchema, mode="serialization", by_alias=False))


FieldTypeName: TypeAlias = Literal[
    "string",
    "integer",
    "number",
    "boolean",
    "date",
    "datetime",
    "instant",
    "duration",
    "decimal",
    "label",
    "list",
    "struct",
    "map",
    "any",
]


@dataclass(frozen=True, slots=True)
class FieldType:
    """The type of a field; every type includes missing values.

    ``any`` has no dtype of its own: values of different or unknown types, and recursive ones.
    """

    name: FieldTypeName
    labels: tuple[Any, ...] = ()
    """The values of a ``label``, in the schema's order."""
    parts: tuple[tuple[str, FieldType], ...] = ()
    """The fields of a ``struct``."""
    item: FieldType | None = None
    """The type of the items of a ``list``, or of the values of a ``map``, whose keys are strings."""
    digits: int | None = None
    places: int | None = None
    """Digits of a ``decimal``, and decimal places, if the schema limits the latter."""


ANY = FieldType("any")
_PLAIN: dict[str, FieldTypeName] = {"integer": "integer", "number": "number", "boolean": "boolean"}
_FORMATS: dict[str, FieldTypeName] = {"date": "date", "date-time": "datetime", AWARE: "instant", "duration": "duration"}
_MAX_DIGITS = 38
"""Digits of a 128-bit Arrow decimal."""


def field_types(schema: Mapping[str, Any]) -> dict[str, FieldType]:
    """Return the type of each top-level field of a JSON schema of an object, in order.

    >>> field_types({"properties": {"n": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}})["n"].name
    'integer'
    """
    properties = schema.get("properties")
    named = properties if isinstance(properties, Mapping) else {}
    return {str(name): _kind(part, schema, ("#",)) for name, part in named.items()}


def _kind(part: Any, root: Mapping[str, Any], within: tuple[str, ...]) -> FieldType:
    """Return the type that ``part`` describes; ``within`` holds the references that lead to it."""
    if not isinstance(part, Mapping):
        return ANY
    if "$ref" in part:
        reference = str(part["$ref"])
        return ANY if reference in within else _kind(resolve_reference(reference, root), root, (*within, reference))
    if "const" in part or "enum" in part:
        return _of_values([part["const"]] if "const" in part else part["enum"])
    for keyword in ("anyOf", "oneOf", "allOf"):
        choices = part.get(keyword)
        if isinstance(choices, list) and (keyword != "allOf" or len(choices) == 1):
            return _merged([_kind(choice, root, within) for choice in choices if not _is_null(choice)])
    kind = part.get("type")
    if isinstance(kind, list):
        return _merged([_kind({**part, "type": name}, root, within) for name in kind if name != "null"])
    if kind == "array":
        return _of_items(part, root, within)
    if kind == "object":
        return _of_object(part, root, within)
    return _of_text(part) if kind == "string" else FieldType(_PLAIN.get(str(kind), "any"))


def _is_null(part: Any) -> bool:
    return isinstance(part, Mapping) and (part.get("type") == "null" or part.get("const", "") is None)


def _of_values(values: Any) -> FieldType:
    present = [value for value in values if value is not None] if isinstance(values, (list, tuple)) else []
    if not present or any(isinstance(value, (list, dict)) for value in present):
        return ANY
    if all(isinstance(value, bool) for value in present):
        return FieldType("boolean")
    labels = tuple(dict.fromkeys(present))
    # 1, 1.0 and True are one category in pandas.
    return FieldType("label", labels=labels) if len({type(label) for label in labels}) == 1 else ANY


def _of_text(part: Mapping[str, Any]) -> FieldType:
    name = part.get("format")
    if name == DECIMAL:
        digits, places = part.get("max_digits") or _MAX_DIGITS, part.get("decimal_places")
        limited = places is not None and 0 <= places <= digits <= _MAX_DIGITS
        return FieldType("decimal", digits=digits, places=places) if limited else FieldType("decimal")
    return FieldType(_FORMATS.get(str(name), "string"))


def _of_items(part: Mapping[str, Any], root: Mapping[str, Any], within: tuple[str, ...]) -> FieldType:
    items = part.get("items")
    prefix_items = part.get("prefixItems")
    parts = [
        *(prefix_items if isinstance(prefix_items, list) else ()),
        *([items] if isinstance(items, Mapping) else ()),
    ]
    item = _inner(_merged([_kind(one, root, within) for one in parts if not _is_null(one)]))
    return ANY if item.name == "any" else FieldType("list", item=item)


def _inner(kind: FieldType) -> FieldType:
    """Return the type inside another: no Arrow type holds decimals of any length exactly, but strings do."""
    return FieldType("string") if kind.name == "decimal" and kind.digits is None else kind


def _of_object(part: Mapping[str, Any], root: Mapping[str, Any], within: tuple[str, ...]) -> FieldType:
    properties, additional = part.get("properties"), part.get("additionalProperties")
    if isinstance(properties, Mapping) and properties:
        parts = tuple((str(name), _inner(_kind(value, root, within))) for name, value in properties.items())
        # A struct cannot hold fields that the schema does not name.
        return ANY if additional or any(kind.name == "any" for _, kind in parts) else FieldType("struct", parts=parts)
    item = _inner(_kind(additional, root, within))
    return ANY if item.name == "any" else FieldType("map", item=item)


def _merged(kinds: Sequence[FieldType]) -> FieldType:
    """Return the one type that holds the values of all of these."""
    first, *rest = kinds or [ANY]
    for other in rest:
        first = _both(first, other)
    return first


def _both(one: FieldType, other: FieldType) -> FieldType:
    if one == other:
        return one
    names = {one.name, other.name}
    if names == {"integer", "number"}:
        return FieldType("number")
    if names <= {"date", "datetime"}:
        return FieldType("datetime")
    if names == {"label"}:
        return _of_values([*one.labels, *other.labels])
    if names == {"label", "string"}:
        labels = one.labels or other.labels
        return FieldType("string") if isinstance(labels[0], str) else ANY
    if names == {"list"} and one.item and other.item:
        item = _both(one.item, other.item)
        return ANY if item.name == "any" else FieldType("list", item=item)
    if names == {"struct"}:
        first, second = dict(one.parts), dict(other.parts)
        parts = {name: _both(kind, second.get(name, kind)) for name, kind in first.items()}
        parts.update((name, kind) for name, kind in second.items() if name not in parts)
        return (
            ANY
            if any(kind.name == "any" for kind in parts.values())
            else FieldType("struct", parts=tuple(parts.items()))
        )
    return ANY

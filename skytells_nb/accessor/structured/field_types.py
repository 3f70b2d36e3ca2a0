"""What a JSON schema says a field holds, so that its column has the same dtype whatever the answers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pydantic
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from skytells_nb.types.json_schema import generated, resolved, with_root

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


KindName: TypeAlias = Literal[
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
    """One kind of value; ``null`` is one of every kind.

    ``any`` is what has no dtype of its own: values of different kinds, of no stated kind, and nested ones without end.
    """

    name: KindName
    labels: tuple[Any, ...] = ()
    """The values of a ``label``, in the schema's order."""
    parts: tuple[tuple[str, FieldType], ...] = ()
    """The fields of a ``struct``."""
    item: FieldType | None = None
    """What a ``list`` holds, or a ``map`` under its keys, which are strings."""
    digits: int | None = None
    places: int | None = None
    """Digits of a ``decimal`` and those of them behind the point, where the schema limits the latter."""


ANY = FieldType("any")
_PLAIN: dict[str, KindName] = {"integer": "integer", "number": "number", "boolean": "boolean"}
_FORMATS: dict[str, KindName] = {"date": "date", "date-time": "datetime", AWARE: "instant", "duration": "duration"}
_MOST_DIGITS = 38
"""Of an Arrow decimal in 128 bits."""


def field_types(schema: Mapping[str, Any]) -> dict[str, FieldType]:
    """The kind of each top-level field of a JSON schema of an object, in order.

    >>> kinds_of({"properties": {"n": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}})["n"].name
    'integer'
    """
    properties = schema.get("properties")
    named = properties if isinstance(properties, Mapping) else {}
    return {str(name): _kind(part, schema, ("#",)) for name, part in named.items()}


def _kind(part: Any, root: Mapping[str, Any], within: tuple[str, ...]) -> FieldType:
    """The kind of what ``part`` describes; ``within`` are the references that led to it."""
    if not isinstance(part, Mapping):
        return ANY
    if "$ref" in part:
        reference = str(part["$ref"])
        return ANY if reference in within else _kind(resolved(reference, root), root, (*within, reference))
    if "const" in part or "enum" in part:
        return _of_values([part["const"]] if "const" in part else part["enum"])
    for word in ("anyOf", "oneOf", "allOf"):
        choices = part.get(word)
        if isinstance(choices, list) and (word != "allOf" or len(choices) == 1):
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
    found = [value for value in values if value is not None] if isinstance(values, (list, tuple)) else []
    if not found or any(isinstance(value, (list, dict)) for value in found):
        return ANY
    if all(isinstance(value, bool) for value in found):
        return FieldType("boolean")
    labels = tuple(dict.fromkeys(found))
    # 1, 1.0 and True are one category in pandas.
    return FieldType("label", labels=labels) if len({type(label) for label in labels}) == 1 else ANY


def _of_text(part: Mapping[str, Any]) -> FieldType:
    name = part.get("format")
    if name == DECIMAL:
        digits, places = part.get("max_digits") or _MOST_DIGITS, part.get("decimal_places")
        limited = places is not None and 0 <= places <= digits <= _MOST_DIGITS
        return FieldType("decimal", digits=digits, places=places) if limited else FieldType("decimal")
    return FieldType(_FORMATS.get(str(name), "string"))


def _of_items(part: Mapping[str, Any], root: Mapping[str, Any], within: tuple[str, ...]) -> FieldType:
    items = part.get("items")
    listed = part.get("prefixItems")
    parts = [*(listed if isinstance(listed, list) else ()), *([items] if isinstance(items, Mapping) else ())]
    item = _inner(_merged([_kind(one, root, within) for one in parts if not _is_null(one)]))
    return ANY if item.name == "any" else FieldType("list", item=item)


def _inner(kind: FieldType) -> FieldType:
    """The kind inside another: a decimal of any length has no Arrow type that holds it exactly, and its text has."""
    return FieldType("string") if kind.name == "decimal" and kind.digits is None else kind


def _of_object(part: Mapping[str, Any], root: Mapping[str, Any], within: tuple[str, ...]) -> FieldType:
    properties, others = part.get("properties"), part.get("additionalProperties")
    if isinstance(properties, Mapping) and properties:
        parts = tuple((str(name), _inner(_kind(value, root, within))) for name, value in properties.items())
        # Fields that nobody named have no place in a struct.
        return ANY if others or any(kind.name == "any" for _, kind in parts) else FieldType("struct", parts=parts)
    item = _inner(_kind(others, root, within))
    return ANY if item.name == "any" else FieldType("map", item=item)


def _merged(kinds: Sequence[FieldType]) -> FieldType:
    """The one kind that holds the values of all of these."""
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

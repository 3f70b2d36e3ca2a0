"""JSON schemas for a small model: which ones can be enforced, limits that make values end, and grammars.

All functions are pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = dict[str, Any]

MAX_STRING = 200
"""Characters of a string whose schema sets no limit: small models often fail to end a long string."""
MAX_ITEM_STRING = 60
MAX_ITEMS = 6
MAX_PROPERTIES = 8
_LARGEST = 1_000_000_000
_KEY = "^[A-Za-z_][A-Za-z0-9_ ]{0,23}$"
"""Pattern of property names that the model may invent."""
_SMALLEST_STEP = 0.0001

_UNSUPPORTED_KEYWORDS = frozenset(
    {
        *("not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames"),
        *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems"),
        *("$dynamicRef", "$recursiveRef"),
    }
)
_FORMATS = frozenset({"date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_MAX_FORMAT_LENGTHS = {"email": 40, "hostname": 40, "duration": 12, "date-time": 32, "time": 24}
_COMBINATORS = ("anyOf", "oneOf", "allOf")
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id"}
)
_OBJECT_KEYWORDS = _ANNOTATIONS | {"type", "properties", "required", "additionalProperties", "$defs", "definitions"}
NOT_A_SCHEMA = "The JSON schema is not valid: a keyword has a value of the wrong type."
UNENFORCEABLE = (
    "The local model cannot enforce this JSON schema: the grammar engine rejects it. Check that its types exist, that "
    "its limits allow at least one value, that its patterns use no look-around and that its oneOf branches exclude "
    "each other."
)
_SCALAR: Schema = {
    "anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]
}
ANY_OBJECT: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"anyOf": [*_SCALAR["anyOf"], {"type": "array", "items": {"type": "string"}}]},
}
"""The schema of ``json_object``: any JSON object."""


def check_schema(schema: Any) -> None:
    """Raise ValueError, naming the keyword and its location, if the grammar engine cannot enforce a schema."""
    try:
        _check(schema)
        add_limits(schema)
        # Raises ValueError for lone surrogates, which JSON can carry.
        json.dumps(schema, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("The JSON schema is nested too deeply.") from None
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{NOT_A_SCHEMA} ({error})") from error


def add_limits(schema: Schema) -> Schema:
    """Return a stricter schema, whose values are all valid for ``schema``, with limits on strings, lists and numbers.

    Objects with named properties allow no others, except next to ``allOf``, whose branches share one object. The values
    of a recursive schema can still continue up to the token limit.

    >>> add_limits({"type": "array", "items": {"type": "integer", "minimum": 0}})["maxItems"]
    6
    """
    schema = without_annotations(schema)
    has_all_of = any("allOf" in part for _, part in _walk(schema, "#"))
    limited: Schema = _map_schema(schema, lambda part: _limit(part, close_objects=not has_all_of))
    return limited


def listed_values(schema: Any, root: Schema) -> list[Any] | None:
    """Return the values of an enum, const, boolean or null schema, in its order; ``None`` for other schemas."""
    schema = _resolve_reference(schema, root)
    if schema is None or set(schema) - _ANNOTATIONS - {"type", "enum", "const"}:
        return None
    kind = schema.get("type")
    if "const" in schema:
        values = [schema["const"]]
    elif "enum" in schema:
        values = list(schema["enum"])
    elif kind == "boolean":
        values = [True, False]
    elif kind == "null":
        values = [None]
    else:
        return None
    types = None if kind is None else {kind} if isinstance(kind, str) else set(kind)
    if types is not None:
        values = [value for value in values if _json_types(value) & types]
    distinct = {json.dumps(value, sort_keys=True): value for value in values}
    return list(distinct.values()) or None


def object_properties(schema: Any, root: Schema) -> list[tuple[str, Any]] | None:
    """Return the properties of an object that can be written one by one, in order; ``None`` for other schemas."""
    if any(not reference.startswith(("#/$defs/", "#/definitions/")) for reference in _references(root)):
        return None
    schema = _resolve_reference(schema, root)
    if schema is None or set(schema) - _OBJECT_KEYWORDS or schema.get("type", "object") != "object":
        return None
    properties = schema.get("properties")
    if not properties or not set(schema.get("required", ())) <= set(properties):
        return None
    return list(properties.items())


def grammar(schema: Any, root: Schema, *, before: str = "", after: str = "") -> str:
    """Return an llguidance grammar for one JSON value between two fixed texts."""
    definitions = {name: root[name] for name in ("$defs", "definitions") if name in root}
    inner = {**definitions, **schema} if isinstance(schema, dict) else schema
    if isinstance(inner, dict):
        inner = {**inner, "x-guidance": {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}}
    rule = " ".join([*([json.dumps(before)] if before else []), "value", *([json.dumps(after)] if after else [])])
    return f"%llguidance {{}}\nstart: {rule}\nvalue: %json {json.dumps(inner)}"


def to_json(value: Any) -> str:
    """Return a value as JSON text in the style of the grammars."""
    return json.dumps(value, ensure_ascii=False)


def _check(schema: Any) -> None:
    if not isinstance(schema, dict):
        raise ValueError(f"A JSON schema must be an object, got {type(schema).__name__}.")
    for where, part in _walk(schema, "#"):
        for keyword in part:
            if keyword in _UNSUPPORTED_KEYWORDS:
                raise ValueError(_unsupported(f"the keyword {keyword!r}", where))
        for keyword in {"minProperties", "maxProperties"} & set(part) if part.get("properties") else ():
            raise ValueError(_unsupported(f"the keyword {keyword!r} next to 'properties'", where))
        if part.get("uniqueItems"):
            raise ValueError(_unsupported("the keyword 'uniqueItems'", where))
        if "format" in part and part["format"] not in _FORMATS:
            raise ValueError(_unsupported(f"the keyword 'format' with {part['format']!r}", where))
        reference = part.get("$ref", "#")
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise ValueError(
                _unsupported(f"the keyword '$ref' with {reference!r}, which is outside this schema", where)
            )


def _unsupported(what: str, where: str) -> str:
    return f"The local model cannot enforce this JSON schema: {what} at {where} is not supported."


def _walk(schema: Any, where: str) -> Iterator[tuple[str, Schema]]:
    """Yield the path and schema of a schema and all its subschemas, itself first."""
    if not isinstance(schema, dict):
        return
    yield where, schema
    for keyword in ("additionalProperties", "items", "additionalItems"):
        yield from _walk(schema.get(keyword), f"{where}/{keyword}")
    for keyword in (*_COMBINATORS, "prefixItems"):
        for index, part in enumerate(_as_list(schema.get(keyword))):
            yield from _walk(part, f"{where}/{keyword}/{index}")
    for keyword in ("properties", "patternProperties", "$defs", "definitions"):
        parts = schema.get(keyword)
        for name, part in parts.items() if isinstance(parts, dict) else ():
            yield from _walk(part, f"{where}/{keyword}/{name}")


def _references(schema: Schema) -> list[str]:
    return [str(part["$ref"]) for _, part in _walk(schema, "#") if "$ref" in part]


def _resolve_reference(schema: Any, root: Schema) -> Schema | None:
    """Follow plain references into the definitions; return ``None`` if the reference has sibling keywords."""
    for _ in range(16):
        if not isinstance(schema, dict):
            return None
        if "$ref" not in schema:
            return schema
        if set(schema) - _ANNOTATIONS - {"$ref", "$defs", "definitions"}:
            return None
        steps = str(schema["$ref"]).removeprefix("#/").split("/")
        target: Any = root
        for step in steps:
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        schema = target
    return None


def without_annotations(schema: Any) -> Any:
    """Return the schema without titles, descriptions and other keywords that do not constrain values."""
    return _map_schema(
        schema, lambda part: {name: value for name, value in part.items() if not _is_ignored(name, value)}
    )


def _is_ignored(keyword: str, value: Any) -> bool:
    return keyword in _ANNOTATIONS or (keyword == "uniqueItems" and value is False)


def _limit(part: Schema, *, close_objects: bool = True) -> Schema:
    """Return one schema with limits where it sets none."""
    if not part:
        return dict(_limit_all(_SCALAR))
    kind = part.get("type")
    if "enum" in part or "const" in part or not isinstance(kind, str):
        return part
    part = dict(part)
    if kind == "string" and "maxLength" not in part:
        part["maxLength"] = max(_MAX_FORMAT_LENGTHS.get(part.get("format", ""), MAX_STRING), part.get("minLength", 0))
    elif kind == "array" and "maxItems" not in part:
        part["maxItems"] = max(MAX_ITEMS, part.get("minItems", 0), len(part.get("prefixItems", ())))
        part.setdefault("items", dict(_limit_all(_SCALAR)))
        if isinstance(part["items"], dict) and part["items"].get("maxLength") == MAX_STRING:
            part["items"] = {**part["items"], "maxLength": max(MAX_ITEM_STRING, part["items"].get("minLength", 0))}
    elif kind in ("integer", "number"):
        if not {"minimum", "exclusiveMinimum"} & set(part):
            part["minimum"] = min(-_LARGEST, part.get("maximum", 0), part.get("exclusiveMaximum", 0) - 1)
        if not {"maximum", "exclusiveMaximum"} & set(part):
            part["maximum"] = max(_LARGEST, part.get("minimum", 0), part.get("exclusiveMinimum", 0) + 1)
        if kind == "number":
            part.setdefault("multipleOf", _SMALLEST_STEP)
    elif kind == "object" and close_objects and not {*_COMBINATORS, "$ref"} & set(part):
        if part.get("properties"):
            if set(part.get("required", ())) <= set(part["properties"]):
                part.setdefault("additionalProperties", False)
        elif not part.get("required"):
            part.setdefault("maxProperties", max(MAX_PROPERTIES, part.get("minProperties", 0)))
            if "patternProperties" not in part and part.get("additionalProperties") is not False:
                value = part.get("additionalProperties") or _limit_all(_SCALAR)
                part["patternProperties"], part["additionalProperties"] = {_KEY: value}, False
    return part


def _limit_all(schema: Schema) -> Schema:
    return {"anyOf": [_limit(part) for part in schema["anyOf"]]}


def _map_schema(schema: Any, change: Any) -> Any:
    """Apply ``change`` to a schema and all its subschemas, the innermost first."""
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    for keyword in ("additionalProperties", "items", "additionalItems"):
        if isinstance(result.get(keyword), dict):
            result[keyword] = _map_schema(result[keyword], change)
    for keyword in (*_COMBINATORS, "prefixItems"):
        if keyword in result:
            result[keyword] = [_map_schema(part, change) for part in _as_list(result[keyword])]
    for keyword in ("properties", "patternProperties", "$defs", "definitions"):
        if isinstance(result.get(keyword), dict):
            result[keyword] = {name: _map_schema(part, change) for name, part in result[keyword].items()}
    return change(result)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _json_types(value: Any) -> set[str]:
    """Return the JSON types of a value."""
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    if isinstance(value, float):
        return {"number", "integer"} if value.is_integer() else {"number"}
    return {"string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"}

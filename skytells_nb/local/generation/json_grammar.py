"""JSON schemas for a small model: what can be held to, bounds that make it end, and how an object is written.

All pure: schemas in, schemas, labels and grammars out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = dict[str, Any]

MAX_STRING = 200
"""Characters of a string whose schema names no limit: a small model does not find the end of a long one."""
MAX_ITEM_STRING = 60
MAX_ITEMS = 6
MAX_PROPERTIES = 8
_LARGEST = 1_000_000_000
_KEY = "^[A-Za-z_][A-Za-z0-9_ ]{0,23}$"
"""Names of properties that the model makes up."""
_SMALLEST_STEP = 0.0001

_UNSUPPORTED = frozenset(
    {
        *("not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames"),
        *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems"),
        *("$dynamicRef", "$recursiveRef"),
    }
)
_FORMATS = frozenset({"date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_LONGEST = {"email": 40, "hostname": 40, "duration": 12, "date-time": 32, "time": 24}
_CHOICES = ("anyOf", "oneOf", "allOf")
_NOTES = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id"}
)
_PLAIN_OBJECT = _NOTES | {"type", "properties", "required", "additionalProperties", "$defs", "definitions"}
NOT_A_SCHEMA = "This is not a valid JSON schema: a keyword has a value of the wrong type."
UNENFORCEABLE = (
    "The local model cannot be held to this JSON schema: the grammar engine refuses it. Check that its types exist, "
    "its limits leave a value, its patterns use no look-around and its oneOf branches exclude each other."
)
_SCALAR: Schema = {
    "anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]
}
ANY_OBJECT: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"anyOf": [*_SCALAR["anyOf"], {"type": "array", "items": {"type": "string"}}]},
}
"""What ``json_object`` asks for: some JSON object."""


def check_schema(schema: Any) -> None:
    """Raise ValueError, naming the keyword and where it is, for what the grammar engine cannot enforce."""
    try:
        _check(schema)
        add_limits(schema)
        # Lone surrogates, which JSON can carry, are a ValueError here.
        json.dumps(schema, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("This JSON schema is nested too deeply.") from None
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{NOT_A_SCHEMA} ({error})") from error


def add_limits(schema: Schema) -> Schema:
    """A schema whose values are fewer, all valid for ``schema``, and end: strings, lists and numbers get a limit.

    Objects with named properties get no others, except beside ``allOf``, whose branches share one object. A schema that
    leads to itself can still go on until the token limit.

    >>> bounded({"type": "array", "items": {"type": "integer", "minimum": 0}})["maxItems"]
    6
    """
    schema = without_annotations(schema)
    shared = any("allOf" in part for _, part in _walk(schema, "#"))
    limited: Schema = _rebuilt(schema, lambda part: _limit(part, closes=not shared))
    return limited


def listed_values(schema: Any, root: Schema) -> list[Any] | None:
    """The values that this schema allows, in its order, where they are listed: enum, const, boolean or null."""
    schema = _resolved(schema, root)
    if schema is None or set(schema) - _NOTES - {"type", "enum", "const"}:
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
    kinds = None if kind is None else {kind} if isinstance(kind, str) else set(kind)
    if kinds is not None:
        values = [value for value in values if _kinds(value) & kinds]
    distinct = {json.dumps(value, sort_keys=True): value for value in values}
    return list(distinct.values()) or None


def object_properties(schema: Any, root: Schema) -> list[tuple[str, Any]] | None:
    """The properties of an object that can be written one after the other, in order; ``None`` for other schemas."""
    if any(not reference.startswith(("#/$defs/", "#/definitions/")) for reference in _references(root)):
        return None
    schema = _resolved(schema, root)
    if schema is None or set(schema) - _PLAIN_OBJECT or schema.get("type", "object") != "object":
        return None
    properties = schema.get("properties")
    if not properties or not set(schema.get("required", ())) <= set(properties):
        return None
    return list(properties.items())


def grammar(schema: Any, root: Schema, *, before: str = "", after: str = "") -> str:
    """An llguidance grammar for one JSON value, between two fixed texts."""
    shared = {name: root[name] for name in ("$defs", "definitions") if name in root}
    inner = {**shared, **schema} if isinstance(schema, dict) else schema
    if isinstance(inner, dict):
        inner = {**inner, "x-guidance": {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}}
    rule = " ".join([*([json.dumps(before)] if before else []), "value", *([json.dumps(after)] if after else [])])
    return f"%llguidance {{}}\nstart: {rule}\nvalue: %json {json.dumps(inner)}"


def to_json(value: Any) -> str:
    """One value as the JSON text that the grammars write."""
    return json.dumps(value, ensure_ascii=False)


def _check(schema: Any) -> None:
    if not isinstance(schema, dict):
        raise ValueError(f"A JSON schema must be an object; found {type(schema).__name__}.")
    for where, part in _walk(schema, "#"):
        for word in part:
            if word in _UNSUPPORTED:
                raise ValueError(_cannot(f"the keyword {word!r}", where))
        for word in {"minProperties", "maxProperties"} & set(part) if part.get("properties") else ():
            raise ValueError(_cannot(f"the keyword {word!r} beside 'properties'", where))
        if part.get("uniqueItems"):
            raise ValueError(_cannot("the keyword 'uniqueItems'", where))
        if "format" in part and part["format"] not in _FORMATS:
            raise ValueError(_cannot(f"the keyword 'format' with {part['format']!r}", where))
        reference = part.get("$ref", "#")
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise ValueError(_cannot(f"the keyword '$ref' with {reference!r}, which is outside this schema", where))


def _cannot(what: str, where: str) -> str:
    return f"The local model cannot be held to this JSON schema: {what} at {where} is not supported."


def _walk(schema: Any, where: str) -> Iterator[tuple[str, Schema]]:
    """Every schema inside a schema, itself first; names of properties and values of enums are no schemas."""
    if not isinstance(schema, dict):
        return
    yield where, schema
    for word in ("additionalProperties", "items", "additionalItems"):
        yield from _walk(schema.get(word), f"{where}/{word}")
    for word in (*_CHOICES, "prefixItems"):
        for place, part in enumerate(_listed(schema.get(word))):
            yield from _walk(part, f"{where}/{word}/{place}")
    for word in ("properties", "patternProperties", "$defs", "definitions"):
        named = schema.get(word)
        for name, part in named.items() if isinstance(named, dict) else ():
            yield from _walk(part, f"{where}/{word}/{name}")


def _references(schema: Schema) -> list[str]:
    return [str(part["$ref"]) for _, part in _walk(schema, "#") if "$ref" in part]


def _resolved(schema: Any, root: Schema) -> Schema | None:
    """The schema behind a plain reference into the definitions; ``None`` where there is more to it."""
    for _ in range(16):
        if not isinstance(schema, dict):
            return None
        if "$ref" not in schema:
            return schema
        if set(schema) - _NOTES - {"$ref", "$defs", "definitions"}:
            return None
        steps = str(schema["$ref"]).removeprefix("#/").split("/")
        found: Any = root
        for step in steps:
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        schema = found
    return None


def without_annotations(schema: Any) -> Any:
    """The same schema without titles, examples and limits that mean nothing."""
    return _rebuilt(schema, lambda part: {word: value for word, value in part.items() if not _idle(word, value)})


def _idle(word: str, value: Any) -> bool:
    return word in _NOTES or (word == "uniqueItems" and value is False)


def _limit(part: Schema, *, closes: bool = True) -> Schema:
    """One schema with limits where it names none."""
    if not part:
        return dict(_limit_all(_SCALAR))
    kind = part.get("type")
    if "enum" in part or "const" in part or not isinstance(kind, str):
        return part
    part = dict(part)
    if kind == "string" and "maxLength" not in part:
        part["maxLength"] = max(_LONGEST.get(part.get("format", ""), MAX_STRING), part.get("minLength", 0))
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
    elif kind == "object" and closes and not {*_CHOICES, "$ref"} & set(part):
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


def _rebuilt(schema: Any, change: Any) -> Any:
    """The schema with ``change`` made to each schema inside it, the innermost first."""
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for word in ("additionalProperties", "items", "additionalItems"):
        if isinstance(made.get(word), dict):
            made[word] = _rebuilt(made[word], change)
    for word in (*_CHOICES, "prefixItems"):
        if word in made:
            made[word] = [_rebuilt(part, change) for part in _listed(made[word])]
    for word in ("properties", "patternProperties", "$defs", "definitions"):
        if isinstance(made.get(word), dict):
            made[word] = {name: _rebuilt(part, change) for name, part in made[word].items()}
    return change(made)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kinds(value: Any) -> set[str]:
    """The JSON types of a value."""
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    if isinstance(value, float):
        return {"number", "integer"} if value.is_integer() else {"number"}
    return {"string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"}

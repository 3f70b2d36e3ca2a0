"""Whether a JSON value fits a JSON schema, and what is wrong with it in the words that a model is told.

The words that schemas of answers use: types, enums and constants, bounds, lengths, patterns, properties, items, and
choices between schemas. A word it does not know asks for nothing, as JSON schema says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from skytells_nb.accessor.cells import shown
from skytells_nb.wire.strict_schema import resolved

Faults = Iterator[str]

_DEEPEST = 100
"""References that lead into each other; a schema that only names itself has no end."""


def faults(schema: Any, value: Any) -> list[str]:
    """What is wrong with the value, each with where it is; empty where it fits.

    >>> faults({"properties": {"n": {"type": "integer", "maximum": 3}}}, {"n": 4})
    ['n is 4, which is more than 3']
    """
    return list(_faults(schema, value, "", schema if isinstance(schema, Mapping) else {}, 0))


def _faults(schema: Any, value: Any, path: str, root: Mapping[str, Any], depth: int) -> Faults:
    if schema is False:
        yield _said(path, value, "may not be there")
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return
    if "$ref" in schema:
        yield from _faults(resolved(schema["$ref"], root), value, path, root, depth + 1)
    wrong = _of_kind(schema, value)
    if wrong:
        yield _said(path, value, wrong)
        return
    for word, (kinds, fault) in _LIMITS.items():
        if word in schema and isinstance(value, kinds) and not isinstance(value, bool):
            wrong = fault(schema[word], value)
            if wrong:
                yield _said(path, value, wrong)
    if isinstance(value, dict):
        yield from _of_object(schema, value, path, root, depth)
    if isinstance(value, list):
        yield from _of_list(schema, value, path, root, depth)
    yield from _of_choices(schema, value, path, root, depth)


def _said(path: str, value: Any, wrong: str) -> str:
    return f"{path or 'it'} is {shown(value)}, which {wrong}"


def _of_kind(schema: Mapping[str, Any], value: Any) -> str | None:
    kind = schema.get("type")
    kinds = [kind] if isinstance(kind, str) else kind if isinstance(kind, list) else []
    if kinds and not any(_is(value, each) for each in kinds):
        return f"is no {' or '.join(map(str, kinds))}"
    if "const" in schema and not _same(schema["const"], value):
        return f"is not {shown(schema['const'])}"
    if isinstance(schema.get("enum"), list | tuple) and not any(_same(each, value) for each in schema["enum"]):
        return f"is none of {', '.join(map(repr, schema['enum']))}"
    return None


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds: dict[str, Any] = {
        "string": str,
        "number": (int, float),
        "object": dict,
        "array": list,
        "null": type(None),
        "boolean": bool,
    }
    return isinstance(value, kinds.get(kind, object))


def _same(wanted: Any, value: Any) -> bool:
    """Equal in JSON, where true is not 1."""
    return bool(wanted == value) and isinstance(wanted, bool) == isinstance(value, bool)


def _of_object(schema: Mapping[str, Any], value: dict[str, Any], path: str, root: Any, depth: int) -> Faults:
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        yield f"{path or 'it'} lacks {', '.join(map(str, missing))}"
    properties = schema.get("properties")
    named = properties if isinstance(properties, Mapping) else {}
    others = schema.get("additionalProperties", True)
    for name, member in value.items():
        at = f"{path}.{name}" if path else name
        if name in named:
            yield from _faults(named[name], member, at, root, depth + 1)
        elif others is False and "patternProperties" not in schema:
            yield f"{at} is no field of {path or 'the schema'}"
        else:
            yield from _faults(others, member, at, root, depth + 1)


def _of_list(schema: Mapping[str, Any], value: list[Any], path: str, root: Any, depth: int) -> Faults:
    first = schema.get("prefixItems")
    parts = list(first) if isinstance(first, list) else []
    for place, item in enumerate(value):
        part = parts[place] if place < len(parts) else schema.get("items", True)
        yield from _faults(part, item, f"{path}.{place}" if path else str(place), root, depth + 1)
    if schema.get("uniqueItems") is True and any(
        _same(item, other) for n, item in enumerate(value) for other in value[:n]
    ):
        yield _said(path, value, "has the same item twice")


def _of_choices(schema: Mapping[str, Any], value: Any, path: str, root: Any, depth: int) -> Faults:
    for part in schema.get("allOf", ()):
        yield from _faults(part, value, path, root, depth + 1)
    for word in ("anyOf", "oneOf"):
        choices = schema.get(word)
        if not isinstance(choices, list):
            continue
        wrong = [list(_faults(choice, value, path, root, depth + 1)) for choice in choices]
        fitting = sum(not each for each in wrong)
        if not fitting:
            # The choice with the least to mend is the one that was most likely meant.
            yield from min(wrong, key=len)
        elif word == "oneOf" and fitting > 1:
            yield _said(path, value, "fits more than one of the choices")
    if "not" in schema and not list(_faults(schema["not"], value, path, root, depth + 1)):
        yield _said(path, value, "is what it may not be")


def _unmatched(pattern: Any, value: str) -> str | None:
    try:
        return None if re.search(str(pattern), value) else f"does not match {pattern}"
    except re.error:
        return None  # a pattern of another dialect


def _multiple(of: Any, value: float) -> str | None:
    parts = value / of if of else 0.0
    return None if abs(parts - round(parts)) < 1e-9 * max(1.0, abs(parts)) else f"is no multiple of {of}"


def _unless(fits: Callable[[Any, Any], bool], words: str) -> Callable[[Any, Any], str | None]:
    return lambda limit, value: None if fits(limit, value) else words.format(limit)


_NUMBERS = (int, float)
_LIMITS: dict[str, tuple[Any, Callable[[Any, Any], str | None]]] = {
    "minimum": (_NUMBERS, _unless(lambda limit, value: value >= limit, "is less than {}")),
    "maximum": (_NUMBERS, _unless(lambda limit, value: value <= limit, "is more than {}")),
    "exclusiveMinimum": (_NUMBERS, _unless(lambda limit, value: value > limit, "is not more than {}")),
    "exclusiveMaximum": (_NUMBERS, _unless(lambda limit, value: value < limit, "is not less than {}")),
    "multipleOf": (_NUMBERS, _multiple),
    "minLength": (str, _unless(lambda limit, value: len(value) >= limit, "has fewer than {} characters")),
    "maxLength": (str, _unless(lambda limit, value: len(value) <= limit, "has more than {} characters")),
    "pattern": (str, _unmatched),
    "minItems": (list, _unless(lambda limit, value: len(value) >= limit, "has fewer than {} items")),
    "maxItems": (list, _unless(lambda limit, value: len(value) <= limit, "has more than {} items")),
    "minProperties": (dict, _unless(lambda limit, value: len(value) >= limit, "has fewer than {} fields")),
    "maxProperties": (dict, _unless(lambda limit, value: len(value) <= limit, "has more than {} fields")),
}

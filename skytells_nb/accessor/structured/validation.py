"""Whether a JSON value is valid against a JSON schema, and what is wrong with it in the words that a model is told.

jsonschema decides; formats are annotations, as the standard has them. What differs from its own keywords is bounded:
patterns are matched in linear time, references are never fetched, and a check ends after ``MOST_STEPS`` keywords.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from skytells_nb.accessor.structured.coercion import shown
from skytells_nb.accessor.structured.patterns import matcher
from skytells_nb.errors import InputError

MOST_STEPS = 200_000
"""Keywords looked at in one value. References may lead into each other so that their number doubles at every one."""

_LITERAL = ("const", "enum")
"""Keywords whose value is JSON of the user's and no schema."""
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "prefixItems")
"""Keywords whose value holds schemas, by names of the user's or in a list."""
_REFERENCES = ("$ref", "$dynamicRef")
_LONGEST_MESSAGE = 200


_IRI_MODULE = "rfc3987_syntax"
_import_lock = threading.Lock()


def import_jsonschema() -> None:
    """Import jsonschema without compiling the grammar of ``rfc3987_syntax``, which takes seconds.

    Environments with Jupyter have that package, and jsonschema imports it for the formats "iri" and "iri-reference",
    which are not checked here. A placeholder defers the compilation to the first check of these formats, so that they
    still work for other users of jsonschema in the process.
    """
    with _import_lock:
        if "jsonschema" in sys.modules or _IRI_MODULE in sys.modules:
            return
        spec = importlib.util.find_spec(_IRI_MODULE)
        if spec is None:
            return
        placeholder = ModuleType(_IRI_MODULE)
        placeholder.__spec__, placeholder.__path__ = spec, list(spec.submodule_search_locations or ())
        placeholder.is_valid_syntax = _is_valid_syntax  # type: ignore[attr-defined]
        sys.modules[_IRI_MODULE] = placeholder
        try:
            import jsonschema  # noqa: F401
        finally:
            if sys.modules.get(_IRI_MODULE) is placeholder:
                del sys.modules[_IRI_MODULE]


def _is_valid_syntax(*arguments: Any, **keywords: Any) -> Any:
    return importlib.import_module(_IRI_MODULE).is_valid_syntax(*arguments, **keywords)


def faults(schema: Any, value: Any) -> list[str]:
    """What is wrong with the value, each with where it is; empty where it fits. Raises InputError like ``checker``.

    >>> faults({"properties": {"n": {"type": "integer", "maximum": 3}}}, {"n": 4})
    ['n is 4, which is more than 3']
    """
    return checker(schema)(value)


def checker(schema: Any) -> Callable[[Any], list[str]]:
    """A function from a value to what is wrong with it, for many values of one schema.

    Raises InputError for what is no JSON schema, for a reference to what is not in it, and for a pattern that cannot be
    matched in linear time.
    """
    # Imported here: only schemas that are dicts need it.
    import_jsonschema()
    from skytells_nb.accessor.structured.schema_keywords import StepsExceeded, start

    try:
        validator = _validator(schema)
    except RecursionError:
        raise InputError("schema must have fewer levels, got one that is nested too deep to be checked.") from None

    def check(value: Any) -> list[str]:
        start(MOST_STEPS)
        try:
            return [_described(error) for error in validator.iter_errors(value)]
        except StepsExceeded:
            return [f"it takes more than {MOST_STEPS:,} steps to check against the schema"]
        except RecursionError:
            return ["it is nested too deep"]

    return check


def _validator(given: Any) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry

    from skytells_nb.accessor.structured.schema_keywords import bounded

    draft: Any = validator_for(given if isinstance(given, Mapping) else True, default=Draft202012Validator)
    schema = _plain(given)
    wrong = best_match(draft(draft.META_SCHEMA).iter_errors(schema))
    if wrong is not None:
        at = ".".join(map(str, wrong.absolute_path)) or "its top"
        raise InputError(f"schema must be a valid JSON schema; at {at}, {_short(wrong.message)}.")
    # A registry of one's own: that of jsonschema fetches what it does not hold from the network.
    validator = bounded(draft)(schema, registry=Registry())
    _check_parts(schema, draft.META_SCHEMA["$schema"])
    return validator


def _plain(schema: Any, holds: str = "schema") -> Any:
    """The schema in lists and dicts, none of which names its draft: that would leave the bounded keywords."""
    if isinstance(schema, list | tuple):
        return [_located(part) if holds == "names" else _plain(part, holds) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    if holds == "names":
        return {name: _located(part) for name, part in schema.items()}
    if holds == "literal":
        return {name: _plain(part, holds) for name, part in schema.items()}
    kinds = {**dict.fromkeys(_LITERAL, "literal"), **dict.fromkeys(_NAMED, "names")}
    return {name: _plain(part, kinds.get(name, "schema")) for name, part in schema.items() if name != "$schema"}


def _located(part: Any) -> Any:
    """The part of a schema; where it is False, as one whose errors say where they are."""
    return {"not": {}} if part is False else _plain(part)


def _check_parts(schema: Any, dialect: str) -> None:
    """Raises InputError where a reference leads out of the schema, or a pattern cannot be matched."""
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    specification = specification_with(dialect)
    root = specification.create_resource(schema)
    left = [(root, REGISTRY.resolver_with_root(root))]
    seen: set[int] = set()
    while left:
        resource, resolver = left.pop()
        part = resource.contents
        if id(part) in seen or not isinstance(part, Mapping):
            continue
        seen.add(id(part))
        for pattern in (part.get("pattern"), *part.get("patternProperties", ())):
            if isinstance(pattern, str):
                matcher(pattern)
        for word in _REFERENCES:
            if isinstance(part.get(word), str):
                try:
                    found = resolver.lookup(part[word])
                except Unresolvable:
                    raise InputError(
                        f"{word} must lead to a part of the schema itself, got {part[word]!r}. Nothing is fetched."
                    ) from None
                left.append((specification.create_resource(found.contents), found.resolver))
        left.extend((inner, resolver.in_subresource(inner)) for inner in resource.subresources())


def _described(error: Any) -> str:
    steps = [str(step) for step in error.absolute_path]
    path = ".".join(steps)
    word, wanted = error.validator, error.validator_value
    if word in ("required", "dependentRequired"):
        return f"{path or 'it'} {error.message}"
    if word in ("additionalProperties", "unevaluatedProperties"):
        return f"{path} is no field of {'.'.join(steps[:-1]) or 'the schema'}"
    if error.schema is not False and error.schema.get(f"exclusive{str(word).capitalize()}") is True:
        word = f"exclusive{word.capitalize()}"  # as draft 4 has it
    described = _NOTHING_FITS if word == "not" and wanted == {} else _WORDS.get(word)
    if described is None:
        return f"{path or 'it'}: {_short(error.message)}"
    wrong = described(wanted)
    if "propertyNames" in error.absolute_schema_path:
        return f"{path or 'it'} has a field named {shown(error.instance)}, which {wrong}"
    return f"{path or 'it'} is {shown(error.instance)}, which {wrong}"


def _short(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 1]}…"


def _words(words: str) -> Callable[[Any], str]:
    return words.format


_NOTHING_FITS = _words("may not be there")
_WORDS: dict[str | None, Callable[[Any], str]] = {
    None: _NOTHING_FITS,
    "type": lambda wanted: f"is no {wanted if isinstance(wanted, str) else ' or '.join(map(str, wanted))}",
    "const": lambda wanted: f"is not {shown(wanted)}",
    "enum": lambda wanted: f"is none of {', '.join(map(repr, wanted))}",
    "minimum": _words("is less than {}"),
    "maximum": _words("is more than {}"),
    "exclusiveMinimum": _words("is not more than {}"),
    "exclusiveMaximum": _words("is not less than {}"),
    "multipleOf": _words("is no multiple of {}"),
    "minLength": _words("has fewer than {} characters"),
    "maxLength": _words("has more than {} characters"),
    "pattern": _words("does not match {}"),
    "minItems": _words("has fewer than {} items"),
    "maxItems": _words("has more than {} items"),
    "minProperties": _words("has fewer than {} fields"),
    "maxProperties": _words("has more than {} fields"),
    "uniqueItems": _words("has the same item twice"),
    "contains": _words("has no item of the kind that it must have"),
    "minContains": _words("has fewer than {} items of the kind that it must have"),
    "maxContains": _words("has more than {} items of a kind"),
    "unevaluatedItems": _words("has items that it may not have"),
    "oneOf": _words("fits more than one of the choices"),
    "not": _words("is what it may not be"),
}

"""Validation of JSON values against a JSON schema, with errors that a model can act on.

jsonschema decides; formats are annotations, as in the standard. Validation is bounded: patterns are matched in linear
time, references are never fetched, and it stops after ``MAX_STEPS`` keywords.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from skytells_nb.accessor.structured.coercion import abbreviate
from skytells_nb.accessor.structured.patterns import compile_pattern
from skytells_nb.errors import InputError

MAX_STEPS = 200_000
"""Keywords evaluated for one value. Their number can double with each reference that leads to others."""

_LITERAL = ("const", "enum")
"""Keywords whose value is JSON and not a schema."""
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "prefixItems")
"""Keywords whose value holds schemas, by name or in a list."""
_REFERENCES = ("$ref", "$dynamicRef")
_MAX_MESSAGE_CHARACTERS = 200


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


def validation_errors(schema: Any, value: Any) -> list[str]:
    """Return the errors of the value with their paths; empty if it is valid. Raises InputError as ``build_validator``.

    >>> validation_errors({"properties": {"n": {"type": "integer", "maximum": 3}}}, {"n": 4})
    ['n must be at most 3, got 4']
    """
    return build_validator(schema)(value)


def build_validator(schema: Any) -> Callable[[Any], list[str]]:
    """Return a function from a value to its errors, for many values of one schema.

    Raises InputError for an invalid JSON schema, for a reference out of it, and for a pattern that cannot be matched in
    linear time.
    """
    # Imported here: only schemas that are dicts need it.
    import_jsonschema()
    from skytells_nb.accessor.structured.schema_keywords import StepsExceeded, reset_steps

    try:
        validator = _validator(schema)
    except RecursionError:
        raise InputError("schema must have fewer levels: it is nested too deeply to be validated.") from None

    def validate(value: Any) -> list[str]:
        reset_steps(MAX_STEPS)
        try:
            return [_describe(error) for error in validator.iter_errors(value)]
        except StepsExceeded:
            return [f"it takes more than {MAX_STEPS:,} steps to validate against the schema"]
        except RecursionError:
            return ["it is nested too deeply"]

    return validate


def _validator(schema: Any) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry

    from skytells_nb.accessor.structured.schema_keywords import bounded_validator

    draft: Any = validator_for(schema if isinstance(schema, Mapping) else True, default=Draft202012Validator)
    schema = _normalize(schema)
    error = best_match(draft(draft.META_SCHEMA).iter_errors(schema))
    if error is not None:
        path = ".".join(map(str, error.absolute_path)) or "its top"
        raise InputError(f"schema must be a valid JSON schema; at {path}, {_shorten(error.message)}.")
    # An empty registry: jsonschema's own fetches unknown references from the network.
    validator = bounded_validator(draft)(schema, registry=Registry())
    _check_parts(schema, draft.META_SCHEMA["$schema"])
    return validator


def _normalize(schema: Any, holds: str = "schema") -> Any:
    """Return the schema as lists and dicts without "$schema", which would select unbounded keywords."""
    if isinstance(schema, list | tuple):
        return [_normalize_part(part) if holds == "names" else _normalize(part, holds) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    if holds == "names":
        return {name: _normalize_part(part) for name, part in schema.items()}
    if holds == "literal":
        return {name: _normalize(part, holds) for name, part in schema.items()}
    kinds = {**dict.fromkeys(_LITERAL, "literal"), **dict.fromkeys(_NAMED, "names")}
    return {name: _normalize(part, kinds.get(name, "schema")) for name, part in schema.items() if name != "$schema"}


def _normalize_part(part: Any) -> Any:
    """Normalize a part of a schema; False becomes a schema whose errors have a path."""
    return {"not": {}} if part is False else _normalize(part)


def _check_parts(schema: Any, dialect: str) -> None:
    """Raise InputError if a reference leads out of the schema, or a pattern cannot be matched."""
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    specification = specification_with(dialect)
    root = specification.create_resource(schema)
    pending = [(root, REGISTRY.resolver_with_root(root))]
    seen: set[int] = set()
    while pending:
        resource, resolver = pending.pop()
        part = resource.contents
        if id(part) in seen or not isinstance(part, Mapping):
            continue
        seen.add(id(part))
        for pattern in (part.get("pattern"), *part.get("patternProperties", ())):
            if isinstance(pattern, str):
                compile_pattern(pattern)
        for keyword in _REFERENCES:
            if isinstance(part.get(keyword), str):
                try:
                    target = resolver.lookup(part[keyword])
                except Unresolvable:
                    raise InputError(
                        f"{keyword} must lead to a part of the schema itself, got {part[keyword]!r}. "
                        "Nothing is fetched."
                    ) from None
                pending.append((specification.create_resource(target.contents), target.resolver))
        pending.extend((inner, resolver.in_subresource(inner)) for inner in resource.subresources())


def _describe(error: Any) -> str:
    steps = [str(step) for step in error.absolute_path]
    path = ".".join(steps) or "it"
    keyword, argument = error.validator, error.validator_value
    if keyword in ("required", "dependentRequired"):
        return f"{path} {error.message}"
    if keyword in ("additionalProperties", "unevaluatedProperties"):
        return f"{path} is not a field of {'.'.join(steps[:-1]) or 'the schema'}"
    if error.schema is not False and error.schema.get(f"exclusive{str(keyword).capitalize()}") is True:
        keyword = f"exclusive{keyword.capitalize()}"  # in draft 4
    requirement = _ABSENT if keyword == "not" and argument == {} else _REQUIREMENTS.get(keyword)
    if requirement is None:
        return f"{path}: {_shorten(error.message)}"
    subject = f"{path}: each field name" if "propertyNames" in error.absolute_schema_path else path
    return f"{subject} {requirement(argument)}, got {abbreviate(error.instance)}"


def _shorten(message: str) -> str:
    if len(message) <= _MAX_MESSAGE_CHARACTERS:
        return message
    return f"{message[: _MAX_MESSAGE_CHARACTERS - 1]}…"


def _type_requirement(types: str | list[str]) -> str:
    return f"must be {' or '.join(_TYPES.get(name, name) for name in ([types] if isinstance(types, str) else types))}"


_TYPES = {
    "array": "an array",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
_ABSENT = "must be absent".format
_REQUIREMENTS: dict[str | None, Callable[[Any], str]] = {
    None: _ABSENT,
    "type": _type_requirement,
    "const": lambda value: f"must be {abbreviate(value)}",
    "enum": lambda values: f"must be one of {', '.join(map(repr, values))}",
    "minimum": "must be at least {}".format,
    "maximum": "must be at most {}".format,
    "exclusiveMinimum": "must be more than {}".format,
    "exclusiveMaximum": "must be less than {}".format,
    "multipleOf": "must be a multiple of {}".format,
    "minLength": "must have at least {} characters".format,
    "maxLength": "must have at most {} characters".format,
    "pattern": "must match {}".format,
    "minItems": "must have at least {} items".format,
    "maxItems": "must have at most {} items".format,
    "minProperties": "must have at least {} fields".format,
    "maxProperties": "must have at most {} fields".format,
    "uniqueItems": "must not repeat an item".format,
    "contains": "must contain an item of the required kind".format,
    "minContains": "must contain at least {} items of the required kind".format,
    "maxContains": "must contain at most {} items of the limited kind".format,
    "unevaluatedItems": "must not have further items".format,
    "oneOf": "must fit exactly one of the choices".format,
    "not": "must not fit the excluded schema".format,
}

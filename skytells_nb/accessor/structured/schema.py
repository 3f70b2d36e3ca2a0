"""The schema of structured output: its response_format, and a parser of answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pydantic

from skytells_nb.accessor.structured.coercion import coerce_at
from skytells_nb.accessor.structured.field_types import FieldType, field_types, serialization_schema
from skytells_nb.accessor.structured.normalization import normalize
from skytells_nb.accessor.structured.python_types import as_schema
from skytells_nb.accessor.structured.validation import build_validator
from skytells_nb.errors import InputError
from skytells_nb.sanitize import quoted
from skytells_nb.types.json_schema import named_json_schema

_FENCED = re.compile(r"```[A-Za-z]*\s*\n(.*?)```", re.DOTALL)


def extract_object(text: str) -> str:
    """Return the text of the JSON object in an answer; the answer itself if it holds none.

    >>> extract_object('Here it is: {"legs": 4}. Anything else?')
    '{"legs": 4}'
    """
    stripped = text.strip()
    if stripped.startswith("{"):
        return stripped
    fenced = _FENCED.search(stripped)
    inner = fenced.group(1).strip() if fenced else stripped
    start, end = inner.find("{"), inner.rfind("}")
    return inner[start : end + 1] if 0 <= start < end else stripped


Schema: TypeAlias = type[Any] | Mapping[str, Any]
"""A pydantic model, dataclass, typed dictionary or named tuple, a dict of types by field, or a JSON schema."""

_MAX_ERRORS = 5


@dataclass(frozen=True, slots=True)
class Record:
    """One answer: its fields as Python objects, and as values of their columns."""

    fields: dict[str, Any]
    values: dict[str, Any]
    normalized: bool = False
    """Whether the answer matched its schema only as a person would read it."""


def response_format(schema: Schema) -> dict[str, Any]:
    """Return the ``response_format`` of a schema of an object.

    Raises InputError for anything but a schema of an object, and for a type that JSON cannot hold.
    """
    schema = as_schema(schema)
    if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel):
        named = named_json_schema(schema)
    elif isinstance(schema, Mapping):
        named = {"name": str(schema.get("title", "answer")), "strict": True, "schema": dict(schema)}
    else:
        raise InputError(
            "schema must be a pydantic model or a JSON schema (a dict), a dataclass, a TypedDict, or a dict of types "
            f"such as {{'name': str}}, got {_described(schema)}."
        )
    body = named["schema"]
    if body.get("type") != "object":
        raise InputError("schema must describe an object with fields (a JSON schema of type 'object').")
    body.setdefault("additionalProperties", False)
    return {"type": "json_schema", "json_schema": named}


def schema_field_types(schema: Schema) -> dict[str, FieldType]:
    """Return the type of each top-level field by its name, in order."""
    schema = as_schema(schema)
    return field_types(schema if isinstance(schema, Mapping) else serialization_schema(schema))


def answer_parser(schema: Schema) -> Callable[[str], Record]:
    """Return a function from an answer's text to its record; it raises ValueError with the reasons if it does not fit.

    A pydantic model validates the answer itself; jsonschema validates it against a dict, and columns check the formats
    that they hold. An answer that does not fit is read as a person would, and then has to. Raises InputError for a dict
    that is not a valid JSON schema.
    """
    schema = as_schema(schema)
    body = response_format(schema)["json_schema"]["schema"]
    kinds = schema_field_types(schema)
    if isinstance(schema, Mapping):
        validate = build_validator(schema)

        def strict(text: str) -> Record:
            return _parse_by_schema(schema, kinds, validate, text)
    else:

        def strict(text: str) -> Record:
            return _parse_by_model(schema, kinds, text)

    def parse(text: str) -> Record:
        try:
            return strict(text)
        except ValueError as problem:
            try:
                return replace(strict(json.dumps(normalize(body, text))), normalized=True)
            except (ValueError, TypeError, RecursionError):
                raise problem from None

    return parse


def _object_in(text: str) -> str:
    """Return the text of the object in an answer; raises ValueError for an answer without one."""
    found = extract_object(text)
    if found.startswith("{"):
        return found
    raise ValueError(f"it must be a JSON object, got {quoted(text, 60)!r}" if text.strip() else "it is empty")


def _parse_by_model(model: type[pydantic.BaseModel], kinds: Mapping[str, FieldType], text: str) -> Record:
    try:
        instance = model.model_validate_json(_object_in(text))
    except pydantic.ValidationError as problem:
        raise ValueError(_describe(problem)) from None
    return Record(
        instance.model_dump(by_alias=False), _column_values(kinds, instance.model_dump(mode="json", by_alias=False))
    )


def _parse_by_schema(
    schema: Mapping[str, Any], kinds: Mapping[str, FieldType], validate: Callable[[Any], list[str]], text: str
) -> Record:
    try:
        fields = json.loads(_object_in(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    missing = [name for name in schema.get("required", ()) if name not in fields]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    values = _column_values(kinds, fields)
    errors = validate(fields)
    if errors:
        raise ValueError(_join_errors(errors))
    return Record(fields, values)


def _column_values(kinds: Mapping[str, FieldType], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: coerce_at(name, kind, fields.get(name)) for name, kind in kinds.items()}


def _describe(problem: pydantic.ValidationError) -> str:
    errors = problem.errors(include_url=False, include_context=False, include_input=False)
    return _join_errors([": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in errors])


def _described(given: Any) -> str:
    return given.__name__ if isinstance(given, type) else f"{type(given).__name__} {str(given)[:60]!r}"


def _join_errors(errors: Sequence[str]) -> str:
    more = f"; and {len(errors) - _MAX_ERRORS} more" if len(errors) > _MAX_ERRORS else ""
    return "; ".join(errors[:_MAX_ERRORS]) + more

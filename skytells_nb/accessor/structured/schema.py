"""Answers with a shape: the schema that is asked for, and each answer read by it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pydantic

from skytells_nb.accessor.structured.coercion import coerce_at
from skytells_nb.accessor.structured.field_types import FieldType, field_types, read_schema
from skytells_nb.accessor.structured.validation import checker
from skytells_nb.errors import InputError
from skytells_nb.types.json_schema import named_json_schema

_FENCED = re.compile(r"```[A-Za-z]*\s*\n(.*?)```", re.DOTALL)


def object_text(text: str) -> str:
    """The text of the JSON object in an answer; the answer itself where it holds none.

    >>> object_text('Here it is: {"legs": 4}. Anything else?')
    '{"legs": 4}'
    """
    said = text.strip()
    if said.startswith("{"):
        return said
    fenced = _FENCED.search(said)
    inner = fenced.group(1).strip() if fenced else said
    start, end = inner.find("{"), inner.rfind("}")
    return inner[start : end + 1] if 0 <= start < end else said


Schema: TypeAlias = type[pydantic.BaseModel] | Mapping[str, Any]

_MOST_FAULTS = 5


@dataclass(frozen=True, slots=True)
class Record:
    """One answer: its fields as Python has them, and as cells of their columns."""

    fields: dict[str, Any]
    cells: dict[str, Any]


def response_format(schema: Schema) -> dict[str, Any]:
    """What to ask the service for: a pydantic model or a JSON schema of an object, as ``response_format``.

    Raises InputError for what is no schema of an object, and for a type that no JSON can hold.
    """
    if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel):
        asked = named_json_schema(schema)
    elif isinstance(schema, Mapping):
        asked = {"name": str(schema.get("title", "answer")), "strict": True, "schema": dict(schema)}
    else:
        raise InputError(f"schema is a pydantic model or a JSON schema as a dict; found {type(schema).__name__}.")
    body = asked["schema"]
    if body.get("type") != "object":
        raise InputError("schema must describe an object with fields (a JSON schema of type 'object').")
    body.setdefault("additionalProperties", False)
    return {"type": "json_schema", "json_schema": asked}


def schema_field_types(schema: Schema) -> dict[str, FieldType]:
    """The kind of each top-level field by its name, in order."""
    return field_types(schema if isinstance(schema, Mapping) else read_schema(schema))


def answer_parser(schema: Schema) -> Callable[[str], Record]:
    """A function from an answer's text to its record; raises ValueError, with what is wrong, where it does not fit.

    A pydantic model checks all that it says; a JSON schema is checked by jsonschema, formats where columns have them.
    Raises InputError for a dict that is no valid JSON schema.
    """
    if isinstance(schema, Mapping):
        check = checker(schema)
        kinds = schema_field_types(schema)
        return lambda text: _read_by_schema(schema, kinds, check, text)
    kinds = schema_field_types(schema)
    return lambda text: _read_by_model(schema, kinds, text)


def _read_by_model(model: type[pydantic.BaseModel], kinds: Mapping[str, FieldType], text: str) -> Record:
    try:
        found = model.model_validate_json(object_text(text))
    except pydantic.ValidationError as problem:
        raise ValueError(_told(problem)) from None
    return Record(found.model_dump(by_alias=False), _cells(kinds, found.model_dump(mode="json", by_alias=False)))


def _read_by_schema(
    schema: Mapping[str, Any], kinds: Mapping[str, FieldType], check: Callable[[Any], list[str]], text: str
) -> Record:
    try:
        fields = json.loads(object_text(text))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(fields, dict):
        raise ValueError("it is not an object")
    missing = [name for name in schema.get("required", ()) if name not in fields]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    cells = _cells(kinds, fields)
    wrong = check(fields)
    if wrong:
        raise ValueError(_few(wrong))
    return Record(fields, cells)


def _cells(kinds: Mapping[str, FieldType], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: coerce_at(name, kind, fields.get(name)) for name, kind in kinds.items()}


def _told(problem: pydantic.ValidationError) -> str:
    found = problem.errors(include_url=False, include_context=False, include_input=False)
    return _few([": ".join(filter(None, (".".join(map(str, f["loc"])), f["msg"]))) for f in found])


def _few(said: Sequence[str]) -> str:
    more = f"; and {len(said) - _MOST_FAULTS} more" if len(said) > _MOST_FAULTS else ""
    return "; ".join(said[:_MOST_FAULTS]) + more

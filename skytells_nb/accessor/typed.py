"""Answers with a shape: JSON schemas asked for, answers checked, fields as columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd
import pydantic

from skytells_nb.errors import InputError

Schema: TypeAlias = type[pydantic.BaseModel] | Mapping[str, Any]


def response_format(schema: Schema) -> dict[str, Any]:
    """What to ask the service for: a pydantic model or a JSON schema of an object, as ``response_format``."""
    if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel):
        name, body = schema.__name__, schema.model_json_schema()
    elif isinstance(schema, Mapping):
        name, body = str(schema.get("title", "answer")), dict(schema)
    else:
        raise InputError(f"schema is a pydantic model or a JSON schema as a dict; found {type(schema).__name__}.")
    if body.get("type") != "object":
        raise InputError("schema must describe an object with fields (a JSON schema of type 'object').")
    body.setdefault("additionalProperties", False)
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": body}}


def reader(schema: Schema) -> Callable[[str], dict[str, Any]]:
    """A function from an answer's text to its fields; raises ValueError where they do not fit."""
    if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel):
        model = schema
        return lambda text: model.model_validate_json(text).model_dump()
    required = list(schema.get("required", ()))
    choices = {name: part["enum"] for name, part in schema.get("properties", {}).items() if "enum" in part}

    def read(text: str) -> dict[str, Any]:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("the answer is not an object")
        missing = [name for name in required if name not in fields]
        if missing:
            raise ValueError(f"the answer lacks {', '.join(missing)}")
        for name, allowed in choices.items():
            if name in fields and fields[name] not in allowed:
                raise ValueError(f"{name} is {fields[name]!r}, which is none of {', '.join(map(repr, allowed))}")
        return fields

    return read


def field_names(schema: Schema) -> list[str]:
    """The names of the top-level fields, in order."""
    body = response_format(schema)["json_schema"]["schema"]
    return list(body.get("properties", {}))


def field_columns(
    records: Sequence[Mapping[str, Any] | None], names: Sequence[str], index: pd.Index[Any]
) -> pd.DataFrame:
    """One column a field, with the dtype that its values have; null where there is no answer."""
    frame = pd.DataFrame(
        {name: pd.Series([None if r is None else r.get(name) for r in records], dtype=object) for name in names}
    )
    frame.index = index
    return frame.convert_dtypes()


def label_schema(labels: Sequence[str]) -> dict[str, Any]:
    """A schema with one field ``label`` that is one of these."""
    return {
        "title": "classification",
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(labels)}},
        "required": ["label"],
        "additionalProperties": False,
    }


def check_labels(labels: Any) -> list[str]:
    """The labels as a list; raises InputError unless they are at least two different non-empty strings."""
    if isinstance(labels, str) or not isinstance(labels, (Sequence, pd.Index, pd.Series)):
        raise InputError(f"labels is a list of strings; found {labels!r}.")
    found = list(labels)
    wrong = [label for label in found if not isinstance(label, str) or not label.strip()]
    if wrong:
        raise InputError(f"Every label is a non-empty string; found {wrong[0]!r}.")
    if len(set(found)) != len(found):
        twice = next(label for label in found if found.count(label) > 1)
        raise InputError(f"The label {twice!r} stands twice.")
    if len(found) < 2:
        raise InputError(f"At least two labels are needed; found {found!r}.")
    return found

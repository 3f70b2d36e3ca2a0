"""JSON objects as answers: how they are requested and parsed.

Not every model accepts a JSON schema, and some accept no response format at all. So there are three modes, each weaker
than the one before: a strict schema, any JSON object with the schema in the prompt, and the prompt alone. The answer is
validated against the class in each mode.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import pydantic

from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.formats import unfenced
from skytells_nb.magics.variables import find_variable
from skytells_nb.types.json_schema import named_json_schema, to_strict_json_schema

JsonMode = Literal["schema", "object", "words"]

_FALLBACK: dict[JsonMode, JsonMode] = {"schema": "object", "object": "words"}
_MAX_ERRORS = 3


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """An object of a pydantic class, or any object if ``schema_class`` is ``None``, and the mode of requesting it."""

    schema_class: type[pydantic.BaseModel] | None = None
    mode: JsonMode = "schema"

    @property
    def name(self) -> str:
        return self.schema_class.__name__ if self.schema_class is not None else "JSON object"

    def fallback(self) -> JsonFormat | None:
        """Return the same with the next weaker mode; ``None`` if there is none."""
        mode = _FALLBACK.get(self.mode)
        return replace(self, mode=mode) if mode is not None else None

    def for_chat(self) -> dict[str, Any] | None:
        """Return ``response_format`` of Chat Completions."""
        if self.mode == "schema" and self.schema_class is not None:
            return {"type": "json_schema", "json_schema": named_json_schema(self.schema_class)}
        return {"type": "json_object"} if self.mode == "object" else None

    def for_responses(self) -> dict[str, Any] | None:
        """Return ``text.format`` of Responses, a flat form of the same."""
        if self.mode == "schema" and self.schema_class is not None:
            return {"type": "json_schema", **named_json_schema(self.schema_class)}
        return {"type": "json_object"} if self.mode == "object" else None

    @property
    def instruction(self) -> str:
        """The text for the system message; services reject a JSON object unless a message mentions JSON."""
        if self.schema_class is None:
            return "Answer with one JSON object and nothing else."
        if self.mode == "schema":
            return ""
        schema = json.dumps(to_strict_json_schema(self.schema_class), ensure_ascii=False)
        return f"Answer with one JSON object and nothing else. It fits this JSON schema: {schema}"

    def parse(self, text: str) -> Any:
        """Return the validated object, or a dict; raises ValueError, with the reason, if the answer is neither."""
        text = unfenced(text)
        if self.schema_class is None:
            parsed = _load_json(text)
            if not isinstance(parsed, dict):
                raise ValueError(f"it is a JSON {type(parsed).__name__}")
            return parsed
        try:
            return self.schema_class.model_validate_json(text)
        except pydantic.ValidationError as invalid:
            errors = invalid.errors(include_url=False, include_context=False, include_input=False)
        reasons = [": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in errors[:_MAX_ERRORS]]
        more = f"; and {len(errors) - _MAX_ERRORS} more" if len(errors) > _MAX_ERRORS else ""
        raise ValueError("; ".join(reasons) + more)


def get_json_format(schema: str | None, variables: Mapping[str, Any]) -> JsonFormat:
    """Return the format for the class of this name, or for any object.

    Raises MagicUsageError for a variable that is not a pydantic class.
    """
    if schema is None:
        return JsonFormat(mode="object")
    schema_class = find_variable("--schema", schema, variables)
    if not (isinstance(schema_class, type) and issubclass(schema_class, pydantic.BaseModel)):
        raise MagicUsageError(f"--schema {schema}: must be a pydantic class, got a {type(schema_class).__name__}")
    return JsonFormat(schema_class)


def _load_json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None

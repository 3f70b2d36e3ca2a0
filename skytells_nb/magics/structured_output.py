"""A JSON object as the answer: how it is asked for, and how the answer is read.

Not every model takes a JSON schema, and some take no form at all. So there are three ways of asking, each weaker than
the one before: a strict schema, any JSON object with the schema in words, words alone. What comes is checked against
the class each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import pydantic

from skytells_nb.errors import BadRequestError, ContentPolicyError, ContextLengthError, SkytellsError
from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.formats import unfenced
from skytells_nb.types.json_schema import named_json_schema, to_strict_json_schema

Way = Literal["schema", "object", "words"]

_WEAKER: dict[Way, Way] = {"schema": "object", "object": "words"}
_MOST_FAULTS = 3


@dataclass(frozen=True, slots=True)
class JsonForm:
    """An object of a pydantic class, or any object where ``kind`` is ``None``, and the way it is asked for."""

    kind: type[pydantic.BaseModel] | None = None
    way: Way = "schema"

    @property
    def name(self) -> str:
        return self.kind.__name__ if self.kind is not None else "JSON object"

    def weaker(self) -> JsonForm | None:
        """The same with the next weaker way; ``None`` where there is none."""
        way = _WEAKER.get(self.way)
        return replace(self, way=way) if way is not None else None

    def for_chat(self) -> dict[str, Any] | None:
        """``response_format`` of Chat Completions."""
        if self.way == "schema" and self.kind is not None:
            return {"type": "json_schema", "json_schema": named_json_schema(self.kind)}
        return {"type": "json_object"} if self.way == "object" else None

    def for_responses(self) -> dict[str, Any] | None:
        """``text.format`` of Responses, where the same is written flat."""
        if self.way == "schema" and self.kind is not None:
            return {"type": "json_schema", **named_json_schema(self.kind)}
        return {"type": "json_object"} if self.way == "object" else None

    @property
    def words(self) -> str:
        """What the system message has to say; a JSON object is refused where no message names JSON."""
        if self.kind is None:
            return "Answer with one JSON object and nothing else."
        if self.way == "schema":
            return ""
        schema = json.dumps(to_strict_json_schema(self.kind), ensure_ascii=False)
        return f"Answer with one JSON object and nothing else. It fits this JSON schema: {schema}"

    def read(self, text: str) -> Any:
        """The validated object, or a dict; raises ValueError, with what is wrong, where the answer is neither."""
        text = unfenced(text)
        if self.kind is None:
            found = _json(text)
            if not isinstance(found, dict):
                raise ValueError(f"it is a JSON {type(found).__name__}")
            return found
        try:
            return self.kind.model_validate_json(text)
        except pydantic.ValidationError as problem:
            faults = problem.errors(include_url=False, include_context=False, include_input=False)
        said = [": ".join(filter(None, (".".join(map(str, f["loc"])), f["msg"]))) for f in faults[:_MOST_FAULTS]]
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise ValueError("; ".join(said) + more)


def json_form(schema: str | None, namespace: Mapping[str, Any]) -> JsonForm:
    """The form for the class of this name, or for any object; raises MagicUsageError for what is no pydantic class."""
    if schema is None:
        return JsonForm(way="object")
    if schema not in namespace:
        raise MagicUsageError(f"--schema {schema}: there is no variable of this name")
    kind = namespace[schema]
    if not (isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)):
        raise MagicUsageError(f"--schema {schema}: this is no pydantic class but a {type(kind).__name__}")
    return JsonForm(kind)


def refuses_form(problem: SkytellsError) -> bool:
    """Whether a request was refused because of the form that was asked for."""
    if not isinstance(problem, BadRequestError) or isinstance(problem, (ContentPolicyError, ContextLengthError)):
        return False
    said = f"{problem.param} {problem.message}".lower()
    return any(word in said for word in ("response_format", "text.format", "schema", "json")) or problem.param == "text"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None

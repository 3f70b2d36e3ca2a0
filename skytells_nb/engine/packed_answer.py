"""What a packed request asks for and what comes back: one object with an answer under the id of each row.

The schema has a property for each id, and not a list of pairs: a service that keeps to a strict schema then cannot
lose, double or invent a row. What comes is checked all the same. The ids are ``r1`` to ``rk``, in that order, so that
requests of one size have one schema, which services compile once and keep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from skytells_nb.errors import InputError

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")
_ONE = frozenset(
    {
        *("additionalProperties", "items", "additionalItems", "contains", "propertyNames", "contentSchema"),
        *("unevaluatedItems", "unevaluatedProperties", "not", "if", "then", "else"),
    }
)
_LISTED = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_BASES = frozenset({"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"})


def row_id(number: int) -> str:
    """The id of the row at this place of a request, counted from 0."""
    return f"r{number + 1}"


class AnswerFormat:
    """The ``response_format`` of packed requests, from that of a single one; ``None`` where an answer is just text.

    Raises InputError for a format or a schema that cannot be a part of another.
    """

    def __init__(self, single: Mapping[str, Any] | None) -> None:
        self.is_text = True
        self._strict: Any = True
        self._property: dict[str, Any] = {"type": "string"}
        self._definitions: dict[str, Any] = {}
        kind = "text" if single is None else single.get("type")
        if kind == "text":
            return
        asked = single.get("json_schema") if single is not None and kind == "json_schema" else None
        if not isinstance(asked, Mapping) or not isinstance(asked.get("schema"), Mapping):
            raise InputError(
                f"rows_per_request asks for a JSON schema itself, so the response_format {kind!r} does not go with it. "
                "Pass schema= to say what each answer holds."
            )
        self.is_text = False
        self._strict = asked.get("strict", False)
        body = {word: value for word, value in asked["schema"].items() if word not in ("$id", "$schema")}
        taken = body.get("$defs", {})
        name = "answer"
        while name in taken:
            name += "_"
        place = f"#/$defs/{name}"
        moved = _moved(body, place)
        self._definitions = {word: moved.pop(word) for word in ("$defs", "definitions") if word in moved}
        self._definitions["$defs"] = {**self._definitions.get("$defs", {}), name: moved}
        self._property = {"$ref": place}

    def of(self, rows: int) -> dict[str, Any]:
        """The ``response_format`` of a request with this many rows."""
        ids = [row_id(number) for number in range(rows)]
        schema = {
            "type": "object",
            "properties": dict.fromkeys(ids, self._property),
            "required": ids,
            "additionalProperties": False,
            **self._definitions,
        }
        return {"type": "json_schema", "json_schema": {"name": "answers", "strict": self._strict, "schema": schema}}


def answers_in(text: str, rows: int) -> list[str | None]:
    """The JSON text of each row's answer, from the first object in this text.

    ``None`` for a row whose id is missing, came twice, or came after the text broke off or stopped being JSON.
    """
    numbers = {row_id(number): number for number in range(rows)}
    found: list[str | None] = [None] * rows
    seen: set[str] = set()
    for name, value in _members(text):
        if name in numbers:
            found[numbers[name]] = None if name in seen else value
            seen.add(name)
    return found


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Name and JSON text of each member of the object, as long as the text is well-formed."""
    place, mark = text.find("{"), "{"
    while text[place : place + 1] == mark and mark != "}":
        try:
            name, end = _DECODER.raw_decode(text, _skip(text, place + 1))
            colon = _skip(text, end)
            start = _skip(text, colon + 1)
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return
        place, mark = _skip(text, end), ","
        # What follows shows that the value is whole: 12 may be the beginning of 123.
        if not isinstance(name, str) or text[colon] != ":" or text[place : place + 1] not in (",", "}"):
            return
        yield name, text[start:end]


def _skip(text: str, place: int) -> int:
    """The place of the next character that is no blank."""
    blank = _BLANK.match(text, place)
    return place if blank is None else blank.end()


def _moved(schema: Any, place: str) -> Any:
    """A root schema as it reads at ``place``, while its definitions stay: references follow what they name."""
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _BASES:
            raise InputError(f"A schema with {word!r} does not go with rows_per_request. Refer to '#/$defs/…' instead.")
        if word == "$ref":
            made[word] = _pointed(value, place)
        elif word in _LISTED and isinstance(value, list):
            made[word] = [_moved(part, place) for part in value]
        elif word in _NAMED and isinstance(value, Mapping):
            made[word] = {name: _moved(part, place) for name, part in value.items()}
        else:
            made[word] = _moved(value, place) if word in _ONE else value
    return made


def _pointed(reference: Any, place: str) -> str:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise InputError(
            f"The schema refers to {reference!r}, which does not go with rows_per_request. Put what it names into the "
            "schema's own $defs."
        )
    stays = reference.startswith(("#/$defs/", "#/definitions/"))
    return reference if stays else place + reference.removeprefix("#")

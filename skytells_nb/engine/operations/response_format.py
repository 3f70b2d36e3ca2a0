"""JSON answers, in the format that a service supports: JSON schemas, only "some JSON object", or neither."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from skytells_nb.client.rejected_parameters import REJECTION_STATUSES
from skytells_nb.errors import APIError, BadRequestError, ContentPolicyError, ContextLengthError, SkytellsError

RESPONSE_FORMATS = ("json_schema", "json_object", "words")
"""From the strictest to the weakest; the last two state the schema in the system text."""

_FORMAT_WORDS = (
    *("response_format", "response format", "text.format", "json_schema", "json_object", "json mode", "json schema"),
    *("structured output", "guided decoding", "guided_json", "constrained decoding", "grammar"),
)
_NOT_THERE = re.compile(
    r"unsupported|not (?:supported|installed|implemented|available|enabled)|unknown|unrecogni[sz]ed"
)
_ONE_SCHEMA = re.compile(r"(?<!json_)(?<!json )schema", re.IGNORECASE)


def schema_name(requested: Mapping[str, Any]) -> str:
    """Return a digest that identifies a schema."""
    return hashlib.blake2b(json.dumps(requested, sort_keys=True).encode(), digest_size=16).hexdigest()


def schema_instruction(requested: Mapping[str, Any]) -> str:
    """Return the system text that states the schema where it cannot be sent; some services require "JSON" there."""
    schema = json.dumps(_schema_of(requested), ensure_ascii=False, separators=(",", ":"))
    return f"Answer with one JSON object and nothing else. It fits this JSON schema: {schema}"


def rejects_response_format(problem: SkytellsError) -> bool:
    """Whether a request was rejected because of its response format."""
    if not isinstance(problem, APIError) or isinstance(problem, (ContentPolicyError, ContextLengthError)):
        return False
    if problem.status not in REJECTION_STATUSES:
        return False
    root = (problem.param or "").partition(".")[0].partition("[")[0]
    if root not in ("", "messages", "input"):
        return root in ("response_format", "text")
    words = problem.message.lower()
    # An error of the service may also be that an attempt to write such an answer failed.
    is_rejection = isinstance(problem, BadRequestError) or _NOT_THERE.search(words) is not None
    return is_rejection and any(word in words for word in _FORMAT_WORDS)


def concerns_one_schema(problem: SkytellsError) -> bool:
    """Whether a format was rejected for what this schema contains."""
    return _ONE_SCHEMA.search(str(problem)) is not None


def apply_format(format_name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request, of either API, in this format."""
    text = dict(body.get("text") or {})
    requested = body.get("response_format") or text.pop("format", None)
    if (
        format_name == RESPONSE_FORMATS[0]
        or not isinstance(requested, Mapping)
        or requested.get("type") != RESPONSE_FORMATS[0]
    ):
        return dict(body)
    downgraded = {name: value for name, value in body.items() if name not in ("response_format", "text")}
    json_object = {"type": "json_object"} if format_name == "json_object" else None
    instruction = schema_instruction(requested)
    if "messages" in body:
        downgraded["messages"] = _with_instruction(body["messages"], instruction)
        return {**downgraded, "response_format": json_object} if json_object else downgraded
    downgraded["instructions"] = "\n\n".join(filter(None, (body.get("instructions"), instruction)))
    text.update({"format": json_object} if json_object else {})
    return {**downgraded, "text": text} if text else downgraded


def _with_instruction(messages: Sequence[Any], instruction: str) -> list[Any]:
    """Return the messages with an instruction at the end of their system text."""
    first, *rest = messages
    if first["role"] == "system" and isinstance(first["content"], str):
        return [{**first, "content": f"{first['content']}\n\n{instruction}"}, *rest]
    return [{"role": "system", "content": instruction}, *messages]


def _schema_of(requested: Mapping[str, Any]) -> Any:
    """Return the schema of a format, nested as in chat or flat as in Responses."""
    wrapper = requested.get("json_schema", requested)
    return wrapper.get("schema") if isinstance(wrapper, Mapping) else None

"""What the routes answer: a vector for each text, and the row's own mark for each prompt."""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.vectors import place, pool

MARK = re.compile(r"row-\d{6}")
CREATED = 1_700_000_000


class Vectors:
    """Vectors as JSON that is ready to send: making it costs the machine nothing while clients are measured."""

    def __init__(self) -> None:
        self._heads = [b'{"object":"embedding","index":%d,"embedding":' % i for i in range(2048)]

    def of(self, texts: Sequence[str], *, dimensions: int, encoding: str, model: str) -> bytes:
        ready = _as_base64(dimensions) if encoding == "base64" else _as_numbers(dimensions)
        data = b",".join([self._heads[i] + ready[place(text)] for i, text in enumerate(texts)])
        tokens = sum(map(len, texts)) // 4 + 1
        tail = json.dumps({"model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}).encode()
        return b'{"object":"list","data":[' + data + b"]," + tail[1:]


@functools.cache
def _as_base64(dimensions: int) -> list[bytes]:
    return [b'"' + base64.b64encode(row.tobytes()) + b'"}' for row in pool(dimensions)]


@functools.cache
def _as_numbers(dimensions: int) -> list[bytes]:
    return [json.dumps(row.tolist()).encode() + b"}" for row in pool(dimensions)]


def chat(body: Mapping[str, Any], number: int) -> tuple[dict[str, Any], list[str]]:
    """The completion for this body, and the marks of the rows in it."""
    text = spoken(body.get("messages"))
    asked = body.get("response_format") or {}
    tools = body.get("tools") or []
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    reason = "stop"
    if asked.get("type") == "json_schema":
        message["content"] = json.dumps(fitting(asked["json_schema"].get("schema", {}), text))
    elif tools and body.get("tool_choice") not in (None, "none", "auto"):
        wanted = tools[0]["function"]
        arguments = json.dumps(fitting(wanted.get("parameters", {}), text))
        call = {"id": "call_1", "type": "function", "function": {"name": wanted["name"], "arguments": arguments}}
        message["tool_calls"], reason = [call], "tool_calls"
    elif asked.get("type") == "json_object" or "JSON" in spoken(body.get("messages"), role="system"):
        message["content"] = json.dumps({"answer": _plain(text)})
    else:
        message["content"] = _plain(text)
    tokens = len(text) // 4 + 1
    answer = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": CREATED,
        "model": body.get("model", ""),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 5, "total_tokens": tokens + 5},
    }
    return answer, _marks(text)


def response(body: Mapping[str, Any], number: int) -> tuple[dict[str, Any], list[str]]:
    """The same for ``POST /responses``."""
    given = body.get("input")
    text = given if isinstance(given, str) else spoken(given)
    form = (body.get("text") or {}).get("format") or {}
    said = json.dumps(fitting(form.get("schema", {}), text)) if form.get("type") == "json_schema" else _plain(text)
    tokens = len(text) // 4 + 1
    part = {"type": "output_text", "text": said, "annotations": []}
    message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}
    answer = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": body.get("model", ""),
        "output": [message],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "text": {"format": form or {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens + 5,
        },
    }
    return answer, _marks(text)


def spoken(messages: Any, *, role: str | None = None) -> str:
    """The texts of these messages: all but the system's, or those of one role."""
    if not isinstance(messages, list):
        return ""
    wanted = [m for m in messages if (m.get("role") == role if role else m.get("role") != "system")]
    return "\n".join(_content(m.get("content")) for m in wanted)


def fitting(schema: Mapping[str, Any], text: str) -> Any:
    """A value that fits a small JSON schema, with the mark of its row in every string.

    A prompt that is JSON with a list of ``{"id": …}`` is many rows in one request: a list in the schema whose items
    have an ``id`` then gets one item for each of them.
    """
    return _fit(schema, schema.get("$defs") or schema.get("definitions") or {}, text, _packed(text))


def _fit(schema: Mapping[str, Any], defs: Mapping[str, Any], text: str, packed: Sequence[Mapping[str, Any]]) -> Any:
    if "$ref" in schema:
        return _fit(defs.get(schema["$ref"].rsplit("/", 1)[-1], {}), defs, text, packed)
    for branch in ("anyOf", "oneOf", "allOf"):
        if branch in schema:
            return _fit(schema[branch][0], defs, text, packed)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _fit(part, defs, text, packed) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        items = schema.get("items", {})
        example = _fit(items, defs, text, ())
        if packed and isinstance(example, dict) and "id" in example:
            return [{**_fit(items, defs, json.dumps(row), ()), "id": row["id"]} for row in packed]
        return [example]
    simple: dict[str, Any] = {"integer": 1, "number": 0.5, "boolean": True, "null": None}
    return simple[kind] if kind in simple else _plain(text)


def _packed(text: str) -> Sequence[Mapping[str, Any]]:
    try:
        given = json.loads(text)
    except ValueError:
        return ()
    lists = given.values() if isinstance(given, dict) else [given]
    for rows in lists:
        if isinstance(rows, list) and rows and all(isinstance(row, dict) and "id" in row for row in rows):
            return rows
    return ()


def _plain(text: str) -> str:
    marks = _marks(text)
    return f"ok {marks[-1]}" if marks else "ok"


def _marks(text: str) -> list[str]:
    return list(dict.fromkeys(MARK.findall(text)))


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part.get("text") or "" for part in parts if isinstance(part, dict))

"""What a body holds where it is not what the documentation shows: its text in other encodings, and its answer in other
forms, such as within a wrapper, encoded twice, or with the choices of older APIs.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_CHARSET = re.compile(r"charset=\s*\"?([\w.:-]+)", re.IGNORECASE)
_TEXT_ENCODINGS = re.compile(r"(?i)(?:iso-?8859|latin|windows|cp|gb|big5|shift|sjis|euc|koi8|us-?ascii|utf-?(?:16|32))")
"""Encodings of texts by the beginnings of their names; Python knows others, which are not about texts."""
_SINGLE_BYTES = "skytells_nb.single_bytes"
_WRAPPERS = ("data", "result", "results", "response", "body", "payload", "output", "completion", "answer")
"""Members in which gateways pass on an answer."""
_ENTRY = {
    "choices": frozenset(("message", "delta", "text", "finish_reason")),
    "data": frozenset(("embedding", "object")),
    "output": frozenset(("type", "role", "content")),
}
"""By which members one entry of a list is recognized."""
_MAX_DEPTH = 4


def decode_text(content: bytes, content_type: str = "") -> str:
    r"""Return the text of a body that should be UTF-8, also if it is UTF-16, Windows-1252 or what its header names.

    >>> decode_text('{"a": "Grüße"}'.encode("latin-1")), decode_text(b"\xef\xbb\xbf[]"), decode_text(b"a\xf0\x9f")
    ('{"a": "Grüße"}', '[]', 'a�')
    """
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        pass
    named = _CHARSET.search(content_type)
    if named is not None and _TEXT_ENCODINGS.match(named[1]):
        try:
            return content.decode(named[1])
        except (LookupError, UnicodeError):
            pass
    return content.decode(encoding, _SINGLE_BYTES if encoding == "utf-8" and is_single_byte(content) else "replace")


def is_single_byte(content: bytes) -> bool:
    """Whether no character in bytes that are not valid UTF-8 has several bytes."""
    return content.decode("utf-8", "ignore").isascii()


def decode_single_bytes(content: bytes) -> str:
    """Return a text in which a byte that is not UTF-8 is a character of Windows-1252, the superset of Latin-1."""
    return content.decode("utf-8", _SINGLE_BYTES)


def _read_single_byte(problem: UnicodeError) -> tuple[str, int]:
    assert isinstance(problem, UnicodeDecodeError)
    found = problem.object[problem.start : problem.end]
    # Several bytes are a part of one character of UTF-8.
    return found.decode("cp1252", "replace") if len(found) == 1 else "\ufffd", problem.end


codecs.register_error(_SINGLE_BYTES, _read_single_byte)


def documented_form(body: Any, payload: Sequence[str]) -> Any:
    """Return the body of a whole response in the documented form, as far as it holds an answer in another one.

    ``payload`` names the members that hold an answer. A body without one is returned as it is.

    >>> documented_form('{"choices": {"text": "Hello", "index": 0}}', ["choices"])
    {'choices': [{'index': 0, 'message': {'content': 'Hello'}}]}
    """
    body = unwrapped(body, payload)
    if not isinstance(body, dict):
        return body
    for name in payload:
        if body.get(name):
            body[name] = _entries(name, body[name])
    if "choices" in payload and isinstance(body.get("choices"), list):
        body["choices"] = [_with_member(choice, "message") for choice in body["choices"]]
    return body


def chunk_form(body: dict[str, Any]) -> bool:
    """Bring the choices of a piece of a stream into the form of deltas; return whether they are whole messages."""
    choices = _entries("choices", body.get("choices"))
    if not isinstance(choices, list):
        return False
    whole = any(isinstance(choice, dict) and choice.get("message") and "delta" not in choice for choice in choices)
    body["choices"] = [_with_member(choice, "delta") for choice in choices]
    return whole


def unwrapped(body: Any, payload: Sequence[str], depth: int = 0) -> Any:
    """Return the answer that is in a text of JSON, in a list of one, or in a member of a gateway's own object.

    A body that holds none is returned as it is, so that it is reported as it came.
    """
    if depth > _MAX_DEPTH:
        return body
    if isinstance(body, str):
        parsed = _parsed(body)
        return body if parsed is None else unwrapped(parsed, payload, depth + 1)
    if isinstance(body, list) and len(body) == 1:
        inner = unwrapped(body[0], payload, depth + 1)
        return inner if _has_answer(inner, payload) else body
    if not isinstance(body, dict):
        return body
    # The wrapper of vectors may have the name of what it wraps.
    is_wrapper = "data" in payload and isinstance(body.get("data"), (dict, str))
    if _has_answer(body, payload) and not is_wrapper:
        return body
    for name in _WRAPPERS:
        member = body.get(name)
        if isinstance(member, (dict, list, str)) and member:
            inner = unwrapped(member, payload, depth + 1)
            if isinstance(inner, dict) and _has_answer(inner, payload):
                return inner
    return body


def _has_answer(body: Any, payload: Sequence[str]) -> bool:
    return isinstance(body, dict) and any(body.get(name) for name in payload)


def _parsed(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return None
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _entries(name: str, value: Any) -> Any:
    """Return a list of entries in place of one entry, of a text, or of an object that has them by their numbers."""
    if isinstance(value, str) and name == "choices":
        return [value]
    if isinstance(value, str) and name == "output":
        return [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": value}]}]
    if isinstance(value, list) and name == "data" and value and isinstance(value[0], list):
        return [{"index": at, "embedding": vector} for at, vector in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if _ENTRY.get(name, frozenset()) & value.keys():
        return [value]
    if all(key.isdecimal() and len(key) < 9 and isinstance(entry, Mapping) for key, entry in value.items()):
        return [{**entry, "index": int(key)} for key, entry in value.items()]
    return value


def _with_member(choice: Any, name: str) -> Any:
    """Return a choice whose text is in a message, or in a delta, wherever it came."""
    if isinstance(choice, str):
        return {name: {"content": choice}}
    if not isinstance(choice, dict):
        return choice
    found = next((choice[each] for each in (name, "message", "delta") if choice.get(each)), None)
    rest = {each: value for each, value in choice.items() if each not in ("message", "delta")}
    if found is None and isinstance(choice.get("text"), str):
        found = rest.pop("text")
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, str):
        found = {"content": found}
    return choice if found is None else {**rest, name: found}

"""What a body says about an error, in whichever envelope a service or a gateway sends it.

One reader for whole responses, events of a stream and responses with an error status. Known envelopes: ``error`` as
an object, a text or a list; ``errors``; FastAPI's ``detail``; RFC 7807; ``message``, ``Message``, ``msg``,
``errorMessage`` and the like at the root; ``fault`` (Apigee); ``base_resp`` (MiniMax); lists of one error (Gemini); a
choice that ended with an error (OpenRouter); Skytells' own with ``"status": false``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NESTED = (
    "error",
    "Error",
    "fault",
    "errors",
    "Errors",
    "detail",
    "details",
    "base_resp",
    "ResponseMetadata",
    "Response",
    "err",
)
"""Members that may hold the error, as an object, a text or a list of either."""
_ENCODED = (*_NESTED, "message", "body")
"""Members that may hold the error as a text of JSON: what a gateway got from the service behind it."""
_EXCEPTION = re.compile(r"\w+(?:Exception|Error)").fullmatch
"""Names of members in which events of AWS hold an error."""
_WORDS = (
    *("message", "Message", "msg", "errorMessage", "error_message", "error_msg", "errMsg", "status_msg", "faultstring"),
    *("error_description", "detail", "title", "reason", "response", "description"),
)
"""Members that hold the service's words, the most specific ones first."""
_CODES = ("code", "Code", "errorCode", "error_code", "errcode", "status_code", "faultcode", "__type")
_TYPES = ("type", "Type", "error_type", "errorType")
_REQUEST_IDS = ("request_id", "requestId", "RequestId", "trace_id", "traceId")
_STATUSES = ("http_status", "status", "statusCode", "status_code", "code", "Code", "httpStatus", "error_code")
_ONLY_ERRORS = (
    "detail",
    "errors",
    "Errors",
    "fault",
    "statusCode",
    "errorMessage",
    "error_message",
    "error_msg",
    "exception",
)
"""Members that no response has which holds an answer."""
_MAX_DEPTH = 6
_MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The error in a body; ``None`` for what the body does not say."""

    message: str | None = None
    error_id: str | None = None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    request_id: str | None = None
    details: Any = None
    status: int | None = None
    """The HTTP status that the body names, whatever the response had."""


def read_error(body: Any) -> ErrorBody:
    """Return what a body says about the error that it is, whichever envelope it came in.

    >>> read_error({"errors": [{"code": 7003, "message": "No route."}]}).message
    'No route.'
    """
    levels = list(_levels(body))
    kind = _first_text(levels, _TYPES)
    return ErrorBody(
        message=_message(body, levels),
        error_id=_first_text(levels, ("error_id", "errorId")),
        code=_code(levels) or _label(levels),
        type=kind if kind != "error" else None,
        param=_first_text(levels, ("param",)) or _location(body),
        request_id=_first_text(levels, _REQUEST_IDS),
        details=next((level["details"] for level in levels if level.get("details") is not None), None),
        status=next((s for level in levels for s in map(_status, map(level.get, _STATUSES)) if s is not None), None),
    )


def is_error(body: Any, payload: Sequence[str] = ()) -> bool:
    """Whether a body is an error and not an answer; ``payload`` names the members that hold an answer.

    Where there is an answer, an error beside it counts only if the answer did not end. Words without an answer are an
    error where it is known what an answer has.

    >>> is_error({"detail": "boom"}, ["choices"]), is_error({"choices": [{"finish_reason": "stop"}]}, ["choices"])
    (True, False)
    """
    if isinstance(body, list):
        return bool(body) and all(isinstance(entry, Mapping) and is_error(entry, payload) for entry in body)
    if not isinstance(body, Mapping):
        return False
    if body.get("status") is False:
        return True
    choices = body.get("choices")
    if choices and isinstance(choices, list) and all(map(_is_failed_choice, choices)):
        return True
    data = body.get("data")
    if data and isinstance(data, list) and all(map(_is_failed_entry, data)):
        return True
    answered = any(body.get(name) for name in payload)
    if says_error(body.get("error")) or says_error(body.get("Error")):
        return not answered or (choices is not None and not _ended(choices))
    if answered:
        return False
    if body.get("success") is False or body.get("ok") is False:
        return True
    if any(str(body.get(name)).lower() == "error" for name in ("object", "type", "status")):
        return True
    if any(says_error(body.get(name)) for name in _ONLY_ERRORS) or any(map(_is_exception, body, body.values())):
        return True
    if any(name in body for name in payload):
        return False
    # Words in place of an answer: {"code": 500, "msg": "..."}.
    return bool(payload) and "object" not in body and any(map(_words, _levels(body)))


def says_error(value: Any) -> bool:
    """Whether the value of a member such as ``error`` says that there is one: not empty, nor full of nulls.

    >>> says_error({"code": None, "message": ""}), says_error("boom")
    (False, True)
    """
    if isinstance(value, Mapping):
        return any(says_error(member) for member in value.values())
    if isinstance(value, list):
        return any(map(says_error, value))
    if isinstance(value, str):
        return value.strip().lower() not in ("", "null", "none", "false", "0", "ok", "success")
    return bool(value)


_FAILED = frozenset(
    (
        *("error", "failed", "failure", "abort", "aborted", "cancelled", "canceled", "timeout", "network_error"),
        *("server_error", "internal_error", "engine_error", "insufficient_system_resource"),
    )
)
"""Finish reasons of an answer that did not end: of OpenRouter, vLLM, SGLang, Zhipu and DeepSeek among others."""


def ends_in_error(reason: Any) -> bool:
    """Whether a finish reason, a name or an object with its type, says that the model did not end its answer.

    >>> ends_in_error("stop"), ends_in_error("ERROR"), ends_in_error({"type": "abort", "message": "no memory"})
    (False, True, True)
    """
    if isinstance(reason, Mapping):
        reason = reason.get("type")
    return isinstance(reason, str) and reason.lower() in _FAILED


def choice_error(choice: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the error that a choice ended with as a body, ``None`` for one that did not.

    An error within its message counts where the message has no text.
    """
    error = _own_error(choice)
    if error is None and ends_in_error(choice.get("finish_reason")):
        error = {"message": _ended_with(choice)}
    return None if error is None else {"error": error}


def _own_error(choice: Mapping[str, Any]) -> Any:
    """Return what a choice says about its error, ``None`` if it says nothing."""
    parts = [part for name in ("message", "delta") if isinstance(part := choice.get(name), Mapping)]
    said = [choice.get("error"), *(part.get("error") for part in parts if not part.get("content"))]
    reason = choice.get("finish_reason")
    if isinstance(reason, Mapping) and ends_in_error(reason) and _words(reason):
        said.append(reason)
    return next(filter(says_error, said), None)


def _ended_with(choice: Mapping[str, Any]) -> str:
    """Describe the end of a choice that has no words about its error."""
    reasons = [r for name in ("native_finish_reason", "finish_reason") if isinstance(r := choice.get(name), str) and r]
    why = f" ({reasons[0]})" if reasons and reasons[0].lower() != "error" else ""
    return f"The model ended with an error instead of an answer{why}."


def _is_exception(name: str, value: Any) -> bool:
    return isinstance(value, Mapping) and _EXCEPTION(name) is not None and says_error(value)


def _is_failed_choice(choice: Any) -> bool:
    return isinstance(choice, Mapping) and choice_error(choice) is not None


def _is_failed_entry(entry: Any) -> bool:
    """Whether an entry of embeddings has an error in place of its vector."""
    return isinstance(entry, Mapping) and says_error(entry.get("error")) and not entry.get("embedding")


def _ended(choices: Any) -> bool:
    """Whether a choice ended as answers do."""
    return isinstance(choices, list) and any(
        isinstance(choice, Mapping) and choice.get("finish_reason") and not _is_failed_choice(choice)
        for choice in choices
    )


def _levels(body: Any, depth: int = 0) -> Iterable[Mapping[str, Any]]:
    """Yield the mappings that may describe the error: the innermost first."""
    if isinstance(body, list):
        body = body[0] if body else None
    if isinstance(body, str) and body.lstrip()[:1] in "{[" and body.strip():
        body = _parsed(body)
    if not isinstance(body, Mapping) or depth > _MAX_DEPTH:
        return
    choices = body.get("choices")
    failed = next(filter(_is_failed_choice, choices if isinstance(choices, list) else ()), None)
    if failed is not None:
        yield from _levels({"error": _own_error(failed)}, depth + 1)
    data = body.get("data")
    yield from _levels(next(filter(_is_failed_entry, data if isinstance(data, list) else ()), None), depth + 1)
    for name in _NESTED:
        inner = body.get(name)
        if isinstance(inner, (Mapping, list)) and inner and (name != "details" or depth == 0):
            yield from _levels(inner, depth + 1)
    for name, inner in body.items():
        if _is_exception(name, inner):
            yield from _levels({"code": name, **inner}, depth + 1)
        elif name in _ENCODED and isinstance(inner, str):
            yield from _levels(inner, depth + 1)
    yield body
    if failed is not None:
        yield {"message": _ended_with(failed)}
    raw = _provider(body)
    if raw is not None:
        yield from _levels(raw, depth + 1)


def _provider(level: Mapping[str, Any]) -> Any:
    """Return what the provider behind a gateway said, as OpenRouter passes it on."""
    metadata = level.get("metadata")
    return metadata.get("raw") if isinstance(metadata, Mapping) else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(body: Any, levels: list[Mapping[str, Any]]) -> str | None:
    """Return the service's words, with those that a gateway passes on from the provider behind it."""
    found = (
        _several(levels)
        or next((words for level in levels if (words := _words(level))), None)
        or (None if isinstance(body, str) else _listed(body))
    )
    for level in levels:
        raw = _provider(level)
        if raw and isinstance(raw, (str, Mapping)):
            provider = read_error(_parsed(raw) if isinstance(raw, str) and raw[:1] in "{[" else raw).message
            provider = provider or (raw if isinstance(raw, str) else None)
            return f"{found}: {provider}" if found and provider and provider not in found else found or provider
    return found


def _several(levels: list[Mapping[str, Any]]) -> str | None:
    """Return the words of a list of errors, such as one for each parameter."""
    for level in levels:
        for name in ("detail", "errors", "Errors"):
            entries = level.get(name)
            if isinstance(entries, list) and entries and isinstance(entries[0], Mapping):
                return _listed(entries)
    return None


def _words(level: Mapping[str, Any]) -> str | None:
    """Return the words of one level: a message, entries of a list, or the name of the error."""
    message = next((value for name in _WORDS if (value := _one(level.get(name)))), None)
    title, detail = _text(level.get("title")), _text(level.get("detail"))
    if title and detail and message in (title, detail):
        return f"{title.rstrip('.')}: {detail}"
    if message:
        return message
    for name in ("error", "errors", "Errors", "detail", "exception", "err"):
        if name in level and (listed := _listed(level[name])):
            return listed
    return None


def _one(value: Any) -> str | None:
    """Return a text, or the one that an object or a list of texts holds."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, list) and value and all(isinstance(entry, str) for entry in value):
        return "; ".join(value[:_MAX_LISTED])
    return None


def _listed(value: Any, depth: int = 0) -> str | None:
    """Return the words of the entries of a list or of an object, such as a message for each field."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, list):
        parts = [part for entry in value[:_MAX_LISTED] if (part := _listed(entry, depth + 1))]
        return "; ".join(parts) or None
    if not isinstance(value, Mapping):
        return None
    words = next((message for name in _WORDS if (message := _one(value.get(name)))), None)
    if words:
        place = _place(value.get("loc"))
        return f"{place}: {words}" if place else words
    parts = [
        f"{name}: {part}"
        for name, member in list(value.items())[:_MAX_LISTED]
        if isinstance(member, (list, Mapping)) and (part := _listed(member, depth + 1))
    ]
    return "; ".join(parts) or None


def _location(body: Any) -> str | None:
    """Return the parameter that FastAPI's ``loc`` names."""
    detail = body.get("detail") if isinstance(body, Mapping) else None
    first = detail[0] if isinstance(detail, list) and detail else None
    return _place(first.get("loc")) if isinstance(first, Mapping) else None


def _place(loc: Any) -> str | None:
    if not isinstance(loc, list) or not loc:
        return None
    steps = [step for step in loc if not (step == "body" and len(loc) > 1)]
    return ".".join(map(str, steps)) or None


def _label(levels: list[Mapping[str, Any]]) -> str | None:
    """Return an ``error`` that is one word, a code of OAuth and of others, beside the words."""
    for level in levels:
        label = level.get("error")
        if isinstance(label, str) and re.fullmatch(r"\w+", label):
            return label
    return None


def _code(levels: list[Mapping[str, Any]]) -> str | None:
    """Return the code, also one that is a number, unless that only is an HTTP status or says that all is well."""
    for value in (level.get(name) for level in levels for name in _CODES):
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and value and not 200 <= value < 600:
            return str(value)
    return None


def _first_text(levels: list[Mapping[str, Any]], names: Iterable[str]) -> str | None:
    names = tuple(names)
    return next((text for level in levels for name in names if (text := _text(level.get(name)))), None)


def _status(value: Any) -> int | None:
    """Return an HTTP error status in a number or a text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None

"""Typed requests to bytes, bytes to typed responses."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pydantic
import pydantic_core

from skytells_nb.client.parameters import check_numbers
from skytells_nb.client.transport.status_errors import beginning_of, error_in_success_body
from skytells_nb.client.transport.transport import ResponseBody
from skytells_nb.errors import InputError, InvalidResponseError
from skytells_nb.sanitize import quoted
from skytells_nb.types.base import RequestModel, ResponseModel

A = TypeVar("A", bound=pydantic.BaseModel)
R = TypeVar("R", bound=RequestModel)


def validate_request(kind: type[R], **fields: Any) -> R:
    """Return the request without parameters that are ``None``; raises InputError, which names a wrong parameter."""
    try:
        return kind(**{name: _builtin(value) for name, value in fields.items() if value is not None})
    except pydantic.ValidationError as problem:
        model = next((name for name, value in fields.items() if isinstance(value, type)), None)
        hint = f" To get an object of a pydantic model, pass {model} to parse() instead of create()." if model else ""
        raise InputError(f"{describe(problem)}{hint}") from None


def _builtin(value: Any) -> Any:
    """Return a scalar of numpy as Python's own, and a tuple as a list."""
    if type(value) is str:
        return value
    if isinstance(value, tuple):
        return [_builtin(item) for item in value]
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value


def describe(problem: pydantic.ValidationError) -> str:
    """Describe a validation error, one clause for each parameter."""
    clauses: dict[str, tuple[int, str]] = {}
    for error in problem.errors(include_url=False, include_context=False):
        name, *path = error["loc"] or ("the request",)
        where = f"{name}{''.join(f'[{step}]' for step in path if isinstance(step, int))}"
        # Of the types that a parameter may have, the one that matches deepest describes the problem best.
        if len(path) > clauses.get(str(name), (-1, ""))[0]:
            missing = error["type"] == "missing"
            fault = "is missing" if missing else f"cannot be {_short(error.get('input'))}: {error['msg']}"
            clauses[str(name)] = (len(path), f"{where} {fault}")
    return "; ".join(clause for _, clause in clauses.values()) + "."


def to_plain(items: Any) -> Any:
    """Return messages as dicts if they are mappings or models; others unchanged, for ``validate_request`` to reject."""
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        return items
    return [_plain(item) for item in items]


def _plain(item: Any) -> Any:
    if isinstance(item, ResponseModel):
        return _received(item)
    if isinstance(item, pydantic.BaseModel):
        return item.model_dump(exclude_none=True)
    return dict(item) if isinstance(item, Mapping) else item


def _received(value: Any) -> Any:
    """Return a part of a response as the service sent it: without the defaults of missing fields."""
    if isinstance(value, list):
        return [_received(part) for part in value]
    if not isinstance(value, ResponseModel):
        return value
    sent = value.model_fields_set
    return {name: _received(part) for name, part in value if part is not None and (part or name in sent)}


def dump_json(request: RequestModel) -> bytes:
    """Return the request as JSON bytes, without fields that were not set."""
    try:
        fields = request.model_dump(exclude_unset=True)
        body = pydantic_core.to_json(fields)
        if b"NaN" in body or b"Infinity" in body:
            check_numbers(fields)
        return body
    except (pydantic_core.PydanticSerializationError, UnicodeEncodeError) as problem:
        raise InputError(f"The request cannot be written as JSON: {problem}") from None


def parse_json(reply: ResponseBody, payload: Sequence[str] = ()) -> Any:
    """Return the JSON of a response; an error in a body with status 200 is raised. ``payload`` as in ``is_error``."""
    try:
        body = pydantic_core.from_json(reply.content)
    except ValueError:
        body = _odd_json(reply)
    if body is None:
        raise not_json(reply)
    if _is_completion(body):
        return body
    if "choices" in payload or not _is_documented(body, payload):
        from skytells_nb.client.transport.body_forms import documented_form

        body = documented_form(body, payload)
    error = error_in_success_body(body, reply.request_id, payload)
    if error is not None:
        # Not in the variables of a traceback: it may show the key.
        del body
        raise error
    return body


def _is_completion(body: Any) -> bool:
    """Whether JSON obviously is a completion, as nearly every response: it is not looked at for an error."""
    if type(body) is not dict or "error" in body or body.get("status") is False:
        return False
    choices = body.get("choices")
    first = choices[0] if type(choices) is list and choices else None
    if type(first) is not dict or type(message := first.get("message")) is not dict:
        return False
    if "error" in first or "error" in message:
        return False
    return type(reason := first.get("finish_reason")) is str and reason in _ENDS


def _is_documented(body: Any, payload: Sequence[str]) -> bool:
    """Whether JSON holds its answer where the documentation shows it."""
    lists = [body[name] for name in payload if type(body.get(name)) is list] if type(body) is dict else []
    return any(not entries or type(entries[0]) is dict for entries in lists)


_ENDS = frozenset(("stop", "length", "tool_calls", "content_filter"))


def parse(kind: type[A], reply: ResponseBody, payload: Sequence[str] = ()) -> A:
    """Return the response as its type; raises InvalidResponseError if it has another form."""
    return validate(kind, parse_json(reply, payload), request_id=reply.request_id, origin=reply.origin)


def validate(kind: type[A], body: Any, *, request_id: str | None, origin: str = "") -> A:
    """Return ``body`` as its type; raises InvalidResponseError if it has another form. A null counts as missing.

    Optional members that do not fit are kept in ``model_extra`` and reported once for each service (``origin``).
    """
    try:
        return kind.model_validate(body)
    except pydantic.ValidationError as problem:
        failure = problem
    from skytells_nb.client.lenient_parsing import read_leniently

    model = read_leniently(kind, body, failure, origin)
    if model is not None:
        return model
    found = describe(failure) if isinstance(body, dict) else quoted(repr(body), 80)
    invalid = InvalidResponseError(f"The response is not a {kind.__name__}: {found}", request_id=request_id)
    # Not in the variables of a traceback: they may show the key.
    del body, failure, found
    raise invalid


def _odd_json(reply: ResponseBody) -> Any:
    """Return the JSON of a response that strict parsers reject, ``None`` if it is none."""
    from skytells_nb.client.lenient_parsing import load_json

    try:
        return load_json(reply.content, reply.content_type)
    except ValueError:
        return None


def check_accompanying_error(answer: ResponseModel, origin: str) -> None:
    """Report an error that came with an answer, once for a service."""
    from skytells_nb.client.lenient_parsing import warn_accompanying_error
    from skytells_nb.error_bodies import says_error

    error = (answer.model_extra or {}).get("error")
    if says_error(error):
        warn_accompanying_error(answer, error, origin)


def not_an_answer(what: str, reply: ResponseBody) -> InvalidResponseError:
    """Return the error of JSON that has nothing of an answer, with its beginning."""
    start = quoted(reply.content[:4096].decode("utf-8", "replace"), 80)
    return InvalidResponseError(f"The response is not a {what}: {start}", request_id=reply.request_id)


def not_json(reply: ResponseBody) -> InvalidResponseError:
    """Return the error of a response that is not JSON, with its beginning."""
    compressed = next((name for start, name in _COMPRESSED.items() if reply.content.startswith(start)), None)
    if compressed:
        what = f"The response is compressed with {compressed} without a Content-Encoding header, so it cannot be read."
        return InvalidResponseError(what, request_id=reply.request_id)
    start = beginning_of(reply.content)
    return InvalidResponseError(f"The response is not JSON: {start!r}", request_id=reply.request_id)


_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def _short(value: Any) -> str:
    text = reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def check_parsed_model(kind: Any, name: str) -> None:
    """Raise InputError for what ``parse`` cannot parse into."""
    if not (isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)):
        raise InputError(f"{name} must be a class that inherits from pydantic.BaseModel, got {_short(kind)}.")


def check_not_streaming(params: Mapping[str, Any]) -> None:
    """Raise InputError for a stream, which ``parse`` does not make."""
    if params.get("stream"):
        raise InputError("stream must be False for parse, got True. Use create(stream=True) and validate the text.")


_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)


def parse_text(kind: type[A], text: str, finish_reason: str | None, request_id: str | None) -> A:
    """Return the text of a completion as an object; raises InvalidResponseError if it has another form."""
    ended = {
        "length": "was cut at the token limit; raise max_tokens",
        "content_filter": "was withheld by the safety filter",
    }
    if finish_reason in ended:
        raise InvalidResponseError(f"The completion {ended[finish_reason]}.", request_id=request_id)
    fenced = _FENCED.fullmatch(text)
    try:
        return kind.model_validate_json(fenced.group(1) if fenced else text)
    except pydantic.ValidationError as problem:
        failure = describe(problem)
    raise InvalidResponseError(f"The completion is not a {kind.__name__}: {failure}", request_id=request_id)

"""Typed request to bytes, bytes to typed answer."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import pydantic
import pydantic_core

from skytells_nb.client.transport.status_errors import error_in_success_body
from skytells_nb.client.transport.transport import ResponseBody
from skytells_nb.errors import InputError, InvalidResponseError
from skytells_nb.types.base import RequestModel, ResponseModel

A = TypeVar("A", bound=pydantic.BaseModel)
R = TypeVar("R", bound=RequestModel)


def validate_request(kind: type[R], **fields: Any) -> R:
    """The request, or an InputError that says which parameter is wrong; parameters that are ``None`` are left out."""
    try:
        return kind(**{name: value for name, value in fields.items() if value is not None})
    except pydantic.ValidationError as problem:
        raise InputError(describe(problem)) from None


def describe(problem: pydantic.ValidationError) -> str:
    """What a validation found, one clause a parameter."""
    clauses: dict[str, tuple[int, str]] = {}
    for error in problem.errors(include_url=False, include_context=False):
        name, *path = error["loc"] or ("the request",)
        where = f"{name}{''.join(f'[{step}]' for step in path if isinstance(step, int))}"
        # Of the kinds that a parameter may have, the one that fits furthest says best what is wrong.
        if len(path) > clauses.get(str(name), (-1, ""))[0]:
            missing = error["type"] == "missing"
            found = "is missing" if missing else f"cannot be {_short(error.get('input'))}: {error['msg']}"
            clauses[str(name)] = (len(path), f"{where} {found}")
    return "; ".join(clause for _, clause in clauses.values()) + "."


def to_plain(items: Any) -> Any:
    """Messages as dicts where they are mappings or answers' own models; the rest as it is, for ``build`` to refuse."""
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
    """A part of an answer as the service sent it: without the empty defaults that stand for missing fields."""
    if isinstance(value, list):
        return [_received(part) for part in value]
    if not isinstance(value, ResponseModel):
        return value
    there = value.model_fields_set
    return {name: _received(part) for name, part in value if part is not None and (part or name in there)}


def dump_json(request: RequestModel) -> bytes:
    """The request as JSON bytes, without the fields nobody set."""
    try:
        return pydantic_core.to_json(request.model_dump(exclude_unset=True))
    except (pydantic_core.PydanticSerializationError, UnicodeEncodeError) as problem:
        raise InputError(f"The request cannot be written as JSON: {problem}") from None


def parse_json(reply: ResponseBody) -> Any:
    """The JSON of an answer; an error that came with status 200 is raised as one."""
    try:
        body = pydantic_core.from_json(reply.content)
    except ValueError:
        body = None
    if body is None:
        start = reply.content[:80].decode("utf-8", "replace")
        raise InvalidResponseError(f"The answer is not JSON: {start!r}", request_id=reply.request_id)
    refusal = error_in_success_body(body, reply.request_id)
    if refusal is not None:
        raise refusal
    return body


def parse(kind: type[A], reply: ResponseBody) -> A:
    """The answer as its type; InvalidResponseError where it is something else."""
    return validate(kind, parse_json(reply), request_id=reply.request_id)


def validate(kind: type[A], body: Any, *, request_id: str | None) -> A:
    """``body`` as its type; InvalidResponseError where it is something else. A null counts as missing."""
    try:
        return kind.model_validate(body)
    except pydantic.ValidationError as problem:
        failure = problem
    if _drop_nulls(body, failure):
        return validate(kind, body, request_id=request_id)
    raise InvalidResponseError(f"The answer is not a {kind.__name__}: {describe(failure)}", request_id=request_id)


def _drop_nulls(body: Any, problem: pydantic.ValidationError) -> bool:
    """Take the nulls that a validation stumbled over out of ``body``; whether there was any."""
    dropped = False
    for error in problem.errors(include_url=False, include_context=False):
        place = body
        *path, name = error["loc"] or (None,)
        for step in path:
            try:
                place = place[step]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(place, dict) and name in place and place[name] is None:
                del place[name]
                dropped = True
    return dropped


def _short(value: Any) -> str:
    text = reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + "…"

"""Typed request to bytes, bytes to typed answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic
import pydantic_core

from skytells_nb.errors import AnswerError, InputError, api_error
from skytells_nb.transport.http import Reply
from skytells_nb.wire.base import Request

A = TypeVar("A", bound=pydantic.BaseModel)
R = TypeVar("R", bound=Request)


def build(kind: type[R], **fields: Any) -> R:
    """The request, or an InputError that says which parameter is wrong; parameters that are ``None`` are left out."""
    try:
        return kind(**{name: value for name, value in fields.items() if value is not None})
    except pydantic.ValidationError as problem:
        raise InputError(describe(problem)) from None


def describe(problem: pydantic.ValidationError) -> str:
    """What a validation found, one clause a parameter."""
    clauses = []
    for error in problem.errors(include_url=False, include_context=False):
        where = str(error["loc"][0]) if error["loc"] else "the request"
        if error["type"] == "missing":
            clauses.append(f"{where} is missing")
        else:
            clauses.append(f"{where} cannot be {_short(error.get('input'))}: {error['msg']}")
    return "; ".join(dict.fromkeys(clauses)) + "."


def encode(request: Request) -> bytes:
    """The request as JSON bytes, without the fields nobody set."""
    try:
        return pydantic_core.to_json(request.model_dump(exclude_unset=True))
    except (pydantic_core.PydanticSerializationError, UnicodeEncodeError) as problem:
        raise InputError(f"The request cannot be written as JSON: {problem}") from None


def parse_json(reply: Reply) -> Any:
    """The JSON of an answer; an error that came with status 200 is raised as one."""
    try:
        body = pydantic_core.from_json(reply.content)
    except ValueError:
        start = reply.content[:80].decode("utf-8", "replace")
        raise AnswerError(f"The answer is not JSON: {start!r}", request_id=reply.request_id) from None
    if isinstance(body, Mapping) and (
        body.get("status") is False or (isinstance(body.get("error"), Mapping) and "id" not in body)
    ):
        error = body.get("error")
        status = error.get("http_status") or error.get("status") if isinstance(error, Mapping) else None
        raise api_error(status if isinstance(status, int) else 500, body, request_id=reply.request_id)
    return body


def parse(kind: type[A], reply: Reply) -> A:
    """The answer as its type; AnswerError where it is something else."""
    return validate(kind, parse_json(reply), request_id=reply.request_id)


def validate(kind: type[A], body: Any, *, request_id: str | None) -> A:
    """``body`` as its type; AnswerError where it is something else."""
    try:
        return kind.model_validate(body)
    except pydantic.ValidationError as problem:
        raise AnswerError(f"The answer is not a {kind.__name__}: {describe(problem)}", request_id=request_id) from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"

"""The optional parameters of each endpoint: their names and types, and the check for misspelled ones."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from skytells_nb.client.transport.request_options import NO_OPTIONS, RequestOptions, Timeouts
from skytells_nb.errors import InputError

CLOSE = 0.85
"""Similarity from which a name counts as misspelled; ``top_k``, which other services have, is 0.8 to ``top_p``."""


_REQUEST_OPTIONS = frozenset(("extra_headers", "extra_query", "timeout"))


class ChatParams(TypedDict, total=False):
    """Optional parameters of ``chat.completions.create``; ``None`` leaves a parameter out."""

    temperature: float | None
    max_tokens: int | None
    max_completion_tokens: int | None
    top_p: float | None
    seed: int | None
    stop: str | list[str] | None
    n: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: dict[str, int] | None
    logprobs: bool | None
    top_logprobs: int | None
    response_format: dict[str, Any] | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    reasoning_effort: str | None
    verbosity: str | None
    stream_options: dict[str, Any] | None
    metadata: dict[str, Any] | None
    modalities: list[str] | None
    prediction: dict[str, Any] | None
    store: bool | None
    service_tier: str | None
    prompt_cache_key: str | None
    safety_identifier: str | None
    user: str | None
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | None
    timeout: float | Timeouts | None


class ResponsesParams(TypedDict, total=False):
    """Optional parameters of ``responses.create``; ``None`` leaves a parameter out."""

    instructions: str | None
    temperature: float | None
    max_output_tokens: int | None
    top_p: float | None
    text: dict[str, Any] | None
    reasoning: dict[str, Any] | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    max_tool_calls: int | None
    previous_response_id: str | None
    store: bool | None
    truncation: Literal["auto", "disabled"] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    top_logprobs: int | None
    stream_options: dict[str, Any] | None
    include: list[str] | None
    background: bool | None
    conversation: str | dict[str, Any] | None
    metadata: dict[str, Any] | None
    service_tier: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    safety_identifier: str | None
    user: str | None
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | None
    timeout: float | Timeouts | None


class EmbeddingParams(TypedDict, total=False):
    """Optional parameters of ``embeddings.create``; ``None`` leaves a parameter out."""

    user: str | None
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | None
    timeout: float | Timeouts | None


_CLIENT_OPTIONS = ("max_retries", "default_headers", "default_query")
"""What ``with_options`` takes. The service would ignore it within the body."""


def request_fields(kind: type, required: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of a request: the required ones, ``params``, and the entries of ``params["extra_body"]``.

    Raises InputError for a parameter whose name is close to a known one, and for an entry of ``extra_body`` that is
    passed as a parameter too. Other unknown parameters are sent as they are: the API may know them. What belongs to the
    request and not to its body, see ``request_options``, is checked and left out.
    """
    fields = {**required, **params}
    extra = fields.pop("extra_body", None)
    for name in _CLIENT_OPTIONS:
        if name in params or (isinstance(extra, Mapping) and name in extra):
            raise InputError(f"{name} is no parameter of a call: use client.with_options({name}=...).")
    check_names(params, (*kind.__annotations__, *required))
    if not fields.keys().isdisjoint(_REQUEST_OPTIONS):
        request_options(params)
        fields = {name: value for name, value in fields.items() if name not in _REQUEST_OPTIONS}
    check_numbers(params)
    if extra is None:
        return fields
    if not isinstance(extra, Mapping):
        raise InputError(f"extra_body must be a mapping of names to values, got {type(extra).__name__}.")
    twice = sorted(name for name in extra if fields.get(name) is not None)
    if twice:
        raise InputError(f"extra_body must not repeat a parameter of the call, got {twice[0]!r} in both.")
    return {**fields, **extra}


def request_options(params: Mapping[str, Any]) -> RequestOptions:
    """Return what the parameters say of the request beside its body: time limits, headers, a query.

    Raises InputError for what cannot be sent.
    """
    if params.keys().isdisjoint(_REQUEST_OPTIONS):
        return NO_OPTIONS
    return RequestOptions.of(params.get("timeout"), params.get("extra_headers"), params.get("extra_query"))


def check_numbers(value: Any, name: str = "") -> None:
    """Raise InputError for a number that JSON does not have: NaN or an infinity, however deep in a value.

    >>> check_numbers({"temperature": 0.5, "metadata": {"scores": [1, 2.5]}})
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{name or 'The request'} must have finite numbers, got {value}: JSON has no such number.")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(item, str):
                check_numbers(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            if not isinstance(item, str):
                check_numbers(item, f"{name}[{position}]")


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise InputError for a name that is not known and close to one that is.

    >>> check_names(["top_k"], ["temperature", "top_p"])
    """
    known = tuple(known)
    for name in given:
        if name not in known and (close := difflib.get_close_matches(name, known, n=1, cutoff=CLOSE)):
            raise InputError(
                f"Unknown parameter {name!r}; did you mean {close[0]!r}? "
                f"To send it as it is, pass extra_body={{{name!r}: ...}}."
            )

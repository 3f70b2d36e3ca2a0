"""The optional parameters of each endpoint: their names and types, and the check for misspelled ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from skytells_nb.errors import InputError

CLOSE = 0.85
"""Similarity from which a name counts as misspelled; ``top_k``, which other services have, is 0.8 to ``top_p``."""


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


class EmbeddingParams(TypedDict, total=False):
    """Optional parameters of ``embeddings.create``; ``None`` leaves a parameter out."""

    user: str | None
    extra_body: Mapping[str, Any] | None


def request_fields(kind: type, required: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of a request: the required ones, ``params``, and the entries of ``params["extra_body"]``.

    Raises InputError for a parameter whose name is close to a known one, and for an entry of ``extra_body`` that is
    passed as a parameter too. Other unknown parameters are sent as they are: the API may know them.
    """
    fields = {**required, **params}
    extra = fields.pop("extra_body", None)
    check_names(params, (*kind.__annotations__, *required))
    if extra is None:
        return fields
    if not isinstance(extra, Mapping):
        raise InputError(f"extra_body must be a mapping of names to values, got {type(extra).__name__}.")
    twice = sorted(name for name in extra if fields.get(name) is not None)
    if twice:
        raise InputError(f"extra_body must not repeat a parameter of the call, got {twice[0]!r} in both.")
    return {**fields, **extra}


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

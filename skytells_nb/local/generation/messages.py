"""Converts the messages of both APIs to plain roles and texts for a small model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from skytells_nb.local.cancellable_work import run_in_thread
from skytells_nb.local.errors import APIException, invalid_parameter
from skytells_nb.local.protocols import TextGenerator

_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
_IMAGE_PLACEHOLDER = "[image]"
"""Replaces an image: the local model takes text only."""

MAX_MESSAGES = 2_048
"""As at OpenAI."""
MAX_TOKEN_CHARACTERS = 64
"""Characters of a token, far above any text's mean: what is longer than so many times a limit is rejected uncounted."""

Message = dict[str, Any]


def from_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Convert the ``messages`` of chat; raise an error that names the first invalid one."""
    _check_count("messages", messages)
    function_names: dict[str, str] = {}
    converted: list[Message] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise invalid_parameter(
                f"{where}.role", f"{where}.role must be one of {', '.join(sorted(_ROLES))}, got {role!r}."
            )
        content = message.get("content")
        calls = message.get("tool_calls")
        if content is None and role != "assistant":
            raise invalid_parameter(f"{where}.content", f"{where} must have content.")
        text = _text(content, f"{where}.content") if content is not None else str(message.get("refusal") or "")
        if role == "assistant":
            for call in calls if isinstance(calls, list) else ():
                function = call.get("function") if isinstance(call, dict) else None
                if not isinstance(function, dict):
                    raise invalid_parameter(f"{where}.tool_calls", f"{where}.tool_calls must be function calls.")
                function_names[str(call.get("id"))] = str(function.get("name"))
                text = _join(text, _describe_call(function.get("name"), function.get("arguments")))
            converted.append({"role": "assistant", "content": text})
        elif role in ("tool", "function"):
            name = message.get("name") or function_names.get(str(message.get("tool_call_id")), "the function")
            converted.append({"role": "user", "content": _describe_result(name, text)})
        else:
            converted.append({"role": "system" if role == "developer" else role, "content": text})
    return converted


def from_input(items: str | Sequence[Mapping[str, Any]]) -> list[Message]:
    """Convert the ``input`` of responses: a string, messages, function calls and their outputs."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    if not items:
        raise invalid_parameter("input", "input must not be empty.")
    _check_count("input", items)
    function_names: dict[str, str] = {}
    converted: list[Message] = []
    for index, item in enumerate(items):
        where = f"input[{index}]"
        kind = item.get("type") or "message"
        if kind == "function_call":
            function_names[str(item.get("call_id"))] = str(item.get("name"))
            converted.append({"role": "assistant", "content": _describe_call(item.get("name"), item.get("arguments"))})
        elif kind == "function_call_output":
            output = item.get("output")
            name = function_names.get(str(item.get("call_id")), "the function")
            converted.append({"role": "user", "content": _describe_result(name, _text(output, f"{where}.output"))})
        elif kind == "message":
            try:
                converted += from_messages([item])
            except APIException as error:
                raise _with_location(error, where) from None
        elif kind != "reasoning":
            raise invalid_parameter(
                f"{where}.type",
                f"{where}.type must be message, function_call, function_call_output or reasoning, got {kind!r}.",
            )
    return converted


def _check_count(param: str, entries: Sequence[Any]) -> None:
    if len(entries) > MAX_MESSAGES:
        raise invalid_parameter(param, f"{param} must have at most {MAX_MESSAGES:,} entries, got {len(entries):,}.")


async def check_length(
    messages: Sequence[Message], generator: TextGenerator, param: str, *, more_characters: int = 0
) -> None:
    """Raise an error for messages that the model's context cannot hold, before anything else is done with them.

    ``more_characters`` are those of a schema and of tools, which are a part of the prompt too.
    """
    characters = sum(len(message["content"]) for message in messages) + more_characters
    if characters > generator.context * MAX_TOKEN_CHARACTERS:
        raise context_exceeded(f"{characters:,} characters", generator, param)
    if generator.available:
        tokens = await run_in_thread(lambda cancelled: generator.count_tokens(list(messages)))
        if tokens >= generator.context:
            raise context_exceeded(f"{tokens:,} tokens", generator, param)


def context_exceeded(size: str, generator: TextGenerator, param: str) -> APIException:
    """Return the error for a prompt of this size, which the model's context cannot hold."""
    return APIException(
        "context_length_exceeded",
        f"The prompt has {size}; the context of {generator.name}, a small local model, "
        f"holds {generator.context} tokens including the completion. Shorten the messages.",
        param=param,
    )


def prompt_texts(messages: Sequence[Message]) -> list[str]:
    """Return the texts that the prompt filter scores: all system texts and the last user text."""
    users = [m["content"] for m in messages if m["role"] == "user"]
    return [m["content"] for m in messages if m["role"] == "system"] + users[-1:]


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid_parameter(where, f"{where} must be a string or a list of parts, got {type(content).__name__}.")
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("image_url", "input_image"):
            texts.append(_IMAGE_PLACEHOLDER)
            continue
        value = part.get("text", part.get("refusal")) if isinstance(part, dict) else None
        if not isinstance(value, str):
            raise invalid_parameter(f"{where}[{index}]", f"{where}[{index}] must be a part with a text or an image.")
        texts.append(value)
    return "\n".join(texts)


def _describe_call(name: Any, arguments: Any) -> str:
    return f"Called {name} with {arguments if isinstance(arguments, str) else json.dumps(arguments)}"


def _describe_result(name: Any, text: str) -> str:
    return f"Result of {name}: {text}"


def _join(first: str, second: str) -> str:
    return f"{first}\n{second}" if first else second


def _with_location(error: APIException, where: str) -> APIException:
    """Return the error of a single message with its location in ``input``."""
    param = (error.param or "input").replace("messages[0]", where)
    return invalid_parameter(param, error.message.replace("messages[0]", where))

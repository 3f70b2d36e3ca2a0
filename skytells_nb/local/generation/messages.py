"""Messages of every shape the two sub-APIs take, as the plain role-and-text turns a small model reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from skytells_nb.local.errors import APIException, invalid_parameter

_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
_IMAGE = "[image]"
"""What stands for a picture: the local model cannot see."""

Message = dict[str, Any]


def from_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Chat's ``messages``; raises a 400 naming the one that does not fit."""
    names: dict[str, str] = {}
    found: list[Message] = []
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise invalid_parameter(f"{where}.role", f"{where}.role must be one of {', '.join(sorted(_ROLES))}; found {role!r}.")
        content = message.get("content")
        calls = message.get("tool_calls")
        if content is None and role != "assistant":
            raise invalid_parameter(f"{where}.content", f"{where} has no content.")
        text = _text(content, f"{where}.content") if content is not None else str(message.get("refusal") or "")
        if role == "assistant":
            for call in calls if isinstance(calls, list) else ():
                function = call.get("function") if isinstance(call, dict) else None
                if not isinstance(function, dict):
                    raise invalid_parameter(f"{where}.tool_calls", f"{where}.tool_calls must hold functions.")
                names[str(call.get("id"))] = str(function.get("name"))
                text = _join(text, _called(function.get("name"), function.get("arguments")))
            found.append({"role": "assistant", "content": text})
        elif role in ("tool", "function"):
            name = message.get("name") or names.get(str(message.get("tool_call_id")), "the function")
            found.append({"role": "user", "content": _result(name, text)})
        else:
            found.append({"role": "system" if role == "developer" else role, "content": text})
    return found


def from_input(items: str | Sequence[Mapping[str, Any]]) -> list[Message]:
    """Responses' ``input``: a string, messages with or without ``type``, function calls and their outputs."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    if not items:
        raise invalid_parameter("input", "input is empty.")
    names: dict[str, str] = {}
    found: list[Message] = []
    for place, item in enumerate(items):
        where = f"input[{place}]"
        kind = item.get("type") or "message"
        if kind == "function_call":
            names[str(item.get("call_id"))] = str(item.get("name"))
            found.append({"role": "assistant", "content": _called(item.get("name"), item.get("arguments"))})
        elif kind == "function_call_output":
            output = item.get("output")
            name = names.get(str(item.get("call_id")), "the function")
            found.append({"role": "user", "content": _result(name, _text(output, f"{where}.output"))})
        elif kind == "message":
            try:
                found += from_messages([item])
            except APIException as problem:
                raise _moved(problem, where) from None
        elif kind != "reasoning":
            raise invalid_parameter(f"{where}.type", f"{where}.type {kind!r} is not known here.")
    return found


def prompt_texts(messages: Sequence[Message]) -> list[str]:
    """What the prompt filter looks at: every system text and the last user text."""
    users = [m["content"] for m in messages if m["role"] == "user"]
    return [m["content"] for m in messages if m["role"] == "system"] + users[-1:]


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid_parameter(where, f"{where} must be a string or a list of parts; found {type(content).__name__}.")
    texts = []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("image_url", "input_image"):
            texts.append(_IMAGE)
            continue
        value = part.get("text", part.get("refusal")) if isinstance(part, dict) else None
        if not isinstance(value, str):
            raise invalid_parameter(f"{where}[{place}]", f"{where}[{place}] is no part with a text or an image.")
        texts.append(value)
    return "\n".join(texts)


def _called(name: Any, arguments: Any) -> str:
    return f"Called {name} with {arguments if isinstance(arguments, str) else json.dumps(arguments)}"


def _result(name: Any, text: str) -> str:
    return f"Result of {name}: {text}"


def _join(first: str, second: str) -> str:
    return f"{first}\n{second}" if first else second


def _moved(problem: APIException, where: str) -> APIException:
    """The same problem, told of the place it has in ``input``."""
    param = (problem.param or "input").replace("messages[0]", where)
    return invalid_parameter(param, problem.message.replace("messages[0]", where))

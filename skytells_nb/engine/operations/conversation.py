"""Conversations as inputs: messages serialized as one text, and the messages sent for an input."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from skytells_nb.client.images import Image
from skytells_nb.errors import InputError

Api = Literal["chat", "responses"]
Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool")
LEADING = ("system", "developer")
IMAGE_REFERENCE = "picture:"
"""Prefix of an image's digest, which replaces its URL in serialized messages. Part of cache keys."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """What the inputs of a completion job are, and how they are requested."""

    api: Api = "chat"
    examples: tuple[tuple[str, str], ...] = ()
    """Prompts and their answers, as messages before every input."""
    conversations: bool = False
    """Whether inputs are serialized messages, not prompts."""
    images: Mapping[str, Image] = field(default_factory=dict, repr=False, compare=False)
    """The images that messages refer to, by digest."""
    image_tokens: int = 0
    """Tokens of an input's images, on average."""
    max_tokens: int | None = None
    """The highest ``max_tokens`` among the parameters of inputs."""
    needs_text: bool = True
    """Whether an answer needs a text: one whose tokens all went to reasoning is retried once with a higher limit."""


def serialize_messages(messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any] | None = None) -> str:
    """Serialize a conversation, the same way for equal ones; ``params`` are parameters of this input alone.

    Raises InputError unless ``messages`` is a list of messages.

    >>> serialize_messages([{"role": "user", "content": "Hello"}])
    '[{"content":"Hello","role":"user"}]'
    """
    return dump_messages(check_messages(messages), params)


def dump_messages(messages: Sequence[Message], params: Mapping[str, Any] | None = None) -> str:
    """Serialize messages that ``check_messages`` returned."""
    try:
        return _ENCODER.encode({"messages": messages, "params": params} if params else messages)
    except (TypeError, ValueError) as problem:
        raise InputError(f"The messages cannot be serialized as JSON: {problem}") from None


def deserialize_messages(text: str) -> tuple[list[Message], dict[str, Any]]:
    """Return the messages and the parameters of what ``serialize_messages`` returned."""
    data = json.loads(text)
    return (data, {}) if isinstance(data, list) else (data["messages"], data["params"])


def check_messages(messages: Any) -> list[Message]:
    """Return the messages as dicts without items that are ``None``; raise InputError for anything else."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise InputError(f"Messages must be a list of {{'role': …, 'content': …}}, got {_preview(messages)}.")
    if not messages:
        raise InputError("The list of messages is empty.")
    return [_message(message, position) for position, message in enumerate(messages)]


def _message(message: Any, position: int) -> Message:
    where = f"Message {position}"
    if not isinstance(message, Mapping):
        raise InputError(f"{where} must be {{'role': …, 'content': …}}, got {_preview(message)}.")
    checked = _without_none(message)
    role, content, calls = checked.get("role"), checked.get("content"), checked.get("tool_calls")
    if role not in ROLES:
        raise InputError(f"The role of {where.lower()} must be one of {', '.join(ROLES)}, got {role!r}.")
    if calls is not None and not (isinstance(calls, (list, tuple)) and all(_is_call(call) for call in calls)):
        raise InputError(f"tool_calls of {where.lower()} must be a list of function calls, got {_preview(calls)}.")
    if isinstance(content, str) or (content is None and role == "assistant" and calls):
        return checked
    if not isinstance(content, (list, tuple)) or not content:
        raise InputError(f"The content of {where.lower()} must be a text or a list of parts, got {_preview(content)}.")
    invalid = next((part for part in content if not _is_part(part)), None)
    if invalid is not None:
        raise InputError(
            f"A part of {where.lower()} must be {{'type': 'text', 'text': …}} or the like, got {_preview(invalid)}."
        )
    return {**checked, "content": [_without_none(part) for part in content]}


def _without_none(members: Mapping[str, Any]) -> Message:
    return {name: value for name, value in members.items() if value is not None}


def _is_call(call: Any) -> bool:
    return isinstance(call, Mapping) and isinstance(call.get("function"), Mapping)


def _is_part(part: Any) -> bool:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        return False
    if part["type"] == "text":
        return isinstance(part.get("text"), str)
    image = part.get("image_url")
    return part["type"] != "image_url" or isinstance(image.get("url") if isinstance(image, Mapping) else image, str)


def build_messages(
    system: str | None, examples: Sequence[tuple[str, str]], messages: Sequence[Message]
) -> list[Message]:
    """Return all messages to send: system text, leading messages, examples, then the others."""
    leading = next((at for at, message in enumerate(messages) if message["role"] not in LEADING), len(messages))
    opening = [{"role": "system", "content": system}] if system else []
    few_shot = [
        {"role": role, "content": text}
        for pair in examples
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return [*opening, *messages[:leading], *few_shot, *messages[leading:]]


def with_images(messages: Sequence[Message], images: Mapping[str, Image]) -> list[Message]:
    """Return the messages with images in place of references."""

    def url(reference: str) -> str:
        digest = reference.removeprefix(IMAGE_REFERENCE)
        if digest == reference:
            return reference
        if digest not in images:
            raise InputError(f"The messages refer to the image {digest[:12]}…, which the call does not have.")
        return images[digest].url

    return map_images(messages, url)


def map_images(messages: Sequence[Message], url: Callable[[str], str]) -> list[Message]:
    """Return the messages with ``url`` applied to the URL of each image."""

    def mapped(part: Message) -> Message:
        image = part.get("image_url")
        if isinstance(image, str):
            return {**part, "image_url": url(image)}
        if isinstance(image, Mapping) and isinstance(image.get("url"), str):
            return {**part, "image_url": {**image, "url": url(image["url"])}}
        return part

    return [
        {**message, "content": [mapped(part) for part in content]}
        if type(content := message.get("content")) is list
        else message
        for message in messages
    ]


def _preview(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}{'…' if len(text) > 60 else ''}"

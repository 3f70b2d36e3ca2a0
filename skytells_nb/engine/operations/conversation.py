"""Inputs that are whole conversations: messages as one text, and the messages that are sent for an input."""

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
REFERENCE = "picture:"
"""What stands before the digest of a picture in a dialogue, where a message has the picture's URL."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """What the inputs of a completion job are, and how they are asked."""

    api: Api = "chat"
    examples: tuple[tuple[str, str], ...] = ()
    """Prompts and their answers, as turns that went before every input."""
    dialogues: bool = False
    """Whether inputs are what ``dialogue`` wrote, and not prompts."""
    pictures: Mapping[str, Image] = field(default_factory=dict, repr=False, compare=False)
    """Those that dialogues refer to, by digest."""
    picture_tokens: int = 0
    """Tokens that the pictures of an input have, on average."""
    most_tokens: int | None = None
    """The highest ``max_tokens`` that a dialogue brings itself."""
    widen: bool = True
    """Whether an answer whose tokens all went to reasoning is asked for once more, with more room."""


def serialize_messages(messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any] | None = None) -> str:
    """A conversation as one text, the same for equal ones; ``params`` are parameters of this input alone.

    Raises InputError for what is no list of messages.

    >>> dialogue([{"role": "user", "content": "Hello"}])
    '[{"content":"Hello","role":"user"}]'
    """
    return dump_messages(check_messages(messages), params)


def dump_messages(turns: Sequence[Message], params: Mapping[str, Any] | None = None) -> str:
    """``serialize_messages`` of messages that ``check_messages`` gave."""
    try:
        return _ENCODER.encode({"messages": turns, "params": params} if params else turns)
    except (TypeError, ValueError) as problem:
        raise InputError(f"The messages cannot be written as JSON: {problem}") from None


def deserialize_messages(text: str) -> tuple[list[Message], dict[str, Any]]:
    """The messages and the parameters of what ``serialize_messages`` wrote."""
    read = json.loads(text)
    return (read, {}) if isinstance(read, list) else (read["messages"], read["params"])


def check_messages(messages: Any) -> list[Message]:
    """The messages as dicts, without members that are ``None``; raises InputError for what is none."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise InputError(f"Messages are a list of {{'role': …, 'content': …}}; found {_shown(messages)}.")
    if not messages:
        raise InputError("The list of messages is empty.")
    return [_message(message, place) for place, message in enumerate(messages)]


def _message(message: Any, place: int) -> Message:
    where = f"Message {place}"
    if not isinstance(message, Mapping):
        raise InputError(f"{where} is {_shown(message)}, not {{'role': …, 'content': …}}.")
    made = _without_nulls(message)
    role, content, calls = made.get("role"), made.get("content"), made.get("tool_calls")
    if role not in ROLES:
        raise InputError(f"{where} has the role {role!r}; a role is one of {', '.join(ROLES)}.")
    if calls is not None and not (isinstance(calls, (list, tuple)) and all(_is_call(call) for call in calls)):
        raise InputError(f"{where} has {_shown(calls)} as tool_calls, not a list of functions that were called.")
    if isinstance(content, str) or (content is None and role == "assistant" and calls):
        return made
    if not isinstance(content, (list, tuple)) or not content:
        raise InputError(f"{where} has {_shown(content)} as content; content is a text or a list of parts.")
    wrong = next((part for part in content if not _is_part(part)), None)
    if wrong is not None:
        raise InputError(f"{where} has a part that is {_shown(wrong)}, not {{'type': 'text', 'text': …}} or the like.")
    return {**made, "content": [_without_nulls(part) for part in content]}


def _without_nulls(members: Mapping[str, Any]) -> Message:
    return {name: value for name, value in members.items() if value is not None}


def _is_call(call: Any) -> bool:
    return isinstance(call, Mapping) and isinstance(call.get("function"), Mapping)


def _is_part(part: Any) -> bool:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        return False
    if part["type"] == "text":
        return isinstance(part.get("text"), str)
    named = part.get("image_url")
    return part["type"] != "image_url" or isinstance(named.get("url") if isinstance(named, Mapping) else named, str)


def build_messages(system: str | None, examples: Sequence[tuple[str, str]], turns: Sequence[Message]) -> list[Message]:
    """All that is sent: the system text and whatever else leads, the examples, then the other turns."""
    lead = next((place for place, turn in enumerate(turns) if turn["role"] not in LEADING), len(turns))
    opening = [{"role": "system", "content": system}] if system else []
    shown = [
        {"role": role, "content": text}
        for pair in examples
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return [*opening, *turns[:lead], *shown, *turns[lead:]]


def with_images(turns: Sequence[Message], pictures: Mapping[str, Image]) -> list[Message]:
    """The messages with pictures in the place of references."""

    def url(found: str) -> str:
        digest = found.removeprefix(REFERENCE)
        if digest == found:
            return found
        if digest not in pictures:
            raise InputError(f"The messages refer to the picture {digest[:12]}…, which the call does not have.")
        return pictures[digest].url

    return map_images(turns, url)


def map_images(turns: Sequence[Message], url: Callable[[str], str]) -> list[Message]:
    """The messages with another URL for each picture's."""

    def part(given: Message) -> Message:
        named = given.get("image_url")
        if isinstance(named, str):
            return {**given, "image_url": url(named)}
        if isinstance(named, Mapping) and isinstance(named.get("url"), str):
            return {**given, "image_url": {**named, "url": url(named["url"])}}
        return given

    return [
        {**turn, "content": [part(given) for given in content]}
        if type(content := turn.get("content")) is list
        else turn
        for turn in turns
    ]


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}{'…' if len(text) > 60 else ''}"

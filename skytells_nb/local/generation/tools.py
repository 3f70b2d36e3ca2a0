"""Tool calls: parse tools in the formats of both APIs, and choose the one to call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic_core import to_json

from skytells_nb.local.cancellable_work import run_in_thread
from skytells_nb.local.errors import invalid_parameter
from skytells_nb.local.generation.messages import Message
from skytells_nb.local.protocols import TextEmbedder

MIN_SIMILARITY = 0.25
"""Minimum cosine similarity of the user's text and a tool's name and description for ``auto`` to call it. In a test
with two tools and ten requests, the five requests for a tool had 0.30 to 0.48, the other five at most 0.13."""


MAX_TOOLS = 128
"""As at OpenAI."""
MAX_COMPARED = 4_000
"""Characters of the user's text and of a description that are compared."""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None

    @property
    def takes_arguments(self) -> bool:
        return bool(self.parameters.get("properties"))

    def to_responses_format(self) -> dict[str, Any]:
        """Return the tool in the format of the Responses API."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description or None,
            "parameters": self.parameters,
            "strict": self.strict,
        }

    def instruction(self) -> str:
        about = f" ({self.description})" if self.description else ""
        return f"Call the function {self.name}{about}. Take its arguments from what the user says."


def read_tools(entries: Sequence[Mapping[str, Any]] | None) -> list[Tool]:
    """Parse tools in the nested format of chat or the flat one of responses; raise an error for an invalid one."""
    if len(entries or ()) > MAX_TOOLS:
        raise invalid_parameter("tools", f"tools must have at most {MAX_TOOLS} entries, got {len(entries or ()):,}.")
    tools = []
    for index, entry in enumerate(entries or ()):
        where = f"tools[{index}]"
        if entry.get("type") != "function":
            raise invalid_parameter(f"{where}.type", f"{where}.type must be 'function', got {entry.get('type')!r}.")
        function = entry.get("function", entry)
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise invalid_parameter(f"{where}.name", f"{where}.name must be a non-empty string, got {name!r}.")
        parameters = function.get("parameters")
        if parameters is not None and not isinstance(parameters, dict):
            raise invalid_parameter(f"{where}.parameters", f"{where}.parameters must be a JSON Schema object.")
        description = function.get("description")
        tool = Tool(name, description if isinstance(description, str) else "", strict=function.get("strict"))
        tools.append(Tool(name, tool.description, parameters, tool.strict) if parameters else tool)
    return tools


def json_characters(schema: Mapping[str, Any] | None, tools: Sequence[Tool]) -> int:
    """Return the characters of a schema and of tools, as JSON."""
    described = [schema or {}, *(tool.to_responses_format() for tool in tools)]
    return len(to_json(described)) if schema or tools else 0


async def choose_tool(
    tools: list[Tool], choice: Any, messages: Sequence[Message], embedder: TextEmbedder
) -> Tool | None:
    """Return the tool to call, or ``None`` to respond with text.

    A named tool is always called. ``required`` calls the one whose embedding is most similar to the user's last text;
    ``auto`` does so only from a similarity of :data:`MIN_SIMILARITY`, and never right after a tool's result, so that a
    conversation ends with text.
    """
    name = _chosen_name(choice)
    if name is not None:
        for tool in tools:
            if tool.name == name:
                return tool
        raise invalid_parameter("tool_choice", f"tool_choice must name one of the tools, got {name!r}.")
    if choice not in (None, "none", "auto", "required"):
        raise invalid_parameter(
            "tool_choice", f"tool_choice must be none, auto, required or a function, got {choice!r}."
        )
    if not tools:
        if choice == "required":
            raise invalid_parameter("tool_choice", "tool_choice 'required' needs at least one tool.")
        return None
    if choice == "none":
        return None
    if choice == "required" and len(tools) == 1:
        return tools[0]
    last = messages[-1] if messages else {"role": "user", "content": ""}
    if choice != "required" and (last["role"] != "user" or last["content"].startswith("Result of ")):
        return None
    texts = [last["content"], *(f"{tool.name.replace('_', ' ')}. {tool.description}" for tool in tools)]
    texts = [text[:MAX_COMPARED] for text in texts]
    vectors = await run_in_thread(lambda cancelled: embedder.encode(texts))
    similarities = vectors[1:] @ vectors[0]
    best = int(np.argmax(similarities))
    return tools[best] if choice == "required" or similarities[best] >= MIN_SIMILARITY else None


def _chosen_name(choice: Any) -> str | None:
    if not isinstance(choice, dict):
        return None
    function = choice.get("function", choice)
    name = function.get("name") if isinstance(function, dict) else None
    if choice.get("type") != "function" or not isinstance(name, str):
        raise invalid_parameter(
            "tool_choice", f"tool_choice must be none, auto, required or a function's name, got {choice!r}."
        )
    return name

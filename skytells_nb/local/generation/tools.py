"""Tools: the two shapes they come in, and which one to call. The model fills the arguments under the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import numpy as np

from skytells_nb.local.errors import invalid_parameter
from skytells_nb.local.generation.messages import Message
from skytells_nb.local.protocols import TextEmbedder

MIN_SIMILARITY = 0.25
"""Cosine of the user's text and a tool's name and description from which ``auto`` calls it. Of ten requests tried on
two tools, the five meant for one were at 0.30 to 0.48 of it, the five others at 0.13 at most."""


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
        """The shape Responses uses."""
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


def read_tools(given: Sequence[Mapping[str, Any]] | None) -> list[Tool]:
    """Tools in chat's nested shape or Responses' flat one; raises a 400 naming the one that does not fit."""
    tools = []
    for place, entry in enumerate(given or ()):
        where = f"tools[{place}]"
        if entry.get("type") != "function":
            raise invalid_parameter(f"{where}.type", f"{where}.type must be 'function' here; found {entry.get('type')!r}.")
        function = entry.get("function", entry)
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise invalid_parameter(f"{where}.name", f"{where} has no name.")
        parameters = function.get("parameters")
        if parameters is not None and not isinstance(parameters, dict):
            raise invalid_parameter(f"{where}.parameters", f"{where}.parameters must be a JSON Schema object.")
        description = function.get("description")
        tool = Tool(name, description if isinstance(description, str) else "", strict=function.get("strict"))
        tools.append(Tool(name, tool.description, parameters, tool.strict) if parameters else tool)
    return tools


async def choose_tool(tools: list[Tool], choice: Any, messages: Sequence[Message], embedder: TextEmbedder) -> Tool | None:
    """The tool to call, or ``None`` to answer in text.

    A named one is taken. ``required`` takes the one nearest to the user's last text by the embedder; ``auto`` does so
    only from a cosine of :data:`NEAR`, and never right after a tool's result, so that a conversation ends in words.
    """
    named = _named(choice)
    if named is not None:
        for tool in tools:
            if tool.name == named:
                return tool
        raise invalid_parameter("tool_choice", f"tool_choice names {named!r}, which is not among the tools.")
    if choice not in (None, "none", "auto", "required"):
        raise invalid_parameter("tool_choice", f"tool_choice must be none, auto, required or a function; found {choice!r}.")
    if not tools:
        if choice == "required":
            raise invalid_parameter("tool_choice", "tool_choice is 'required' and there are no tools.")
        return None
    if choice == "none":
        return None
    if choice == "required" and len(tools) == 1:
        return tools[0]
    last = messages[-1] if messages else {"role": "user", "content": ""}
    if choice != "required" and (last["role"] != "user" or last["content"].startswith("Result of ")):
        return None
    texts = [last["content"], *(f"{tool.name.replace('_', ' ')}. {tool.description}" for tool in tools)]
    vectors = await anyio.to_thread.run_sync(embedder.encode, texts, abandon_on_cancel=True)
    near = vectors[1:] @ vectors[0]
    best = int(np.argmax(near))
    return tools[best] if choice == "required" or near[best] >= MIN_SIMILARITY else None


def _named(choice: Any) -> str | None:
    if not isinstance(choice, dict):
        return None
    function = choice.get("function", choice)
    name = function.get("name") if isinstance(function, dict) else None
    if choice.get("type") != "function" or not isinstance(name, str):
        raise invalid_parameter("tool_choice", "tool_choice must be none, auto, required or a function's name.")
    return name

"""The two ways to ask for a completion: the same messages and parameters, as each API spells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from skytells_nb.client.client import Skytells
from skytells_nb.client.parameters import ChatParams, ResponsesParams, request_fields
from skytells_nb.client.serialization import validate_request
from skytells_nb.engine.operations.conversation import Api, Message
from skytells_nb.errors import InputError, InvalidResponseError
from skytells_nb.types.chat import ChatCompletion, ChatRequest
from skytells_nb.types.responses import Response, ResponsesRequest

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Names of the limit of tokens in one answer."""
_OURS = ("model", "messages", "input", "stream", "n")
_STATE = ("store", "previous_response_id", "background", "conversation", "instructions")
_CHAT_ONLY = ("stop", "logprobs", "logit_bias", "functions", "function_call", "stream_options")


class Endpoint(Protocol):
    """One API: ``body`` is what is sent, as keywords of the client's method that ``ask`` calls."""

    name: str

    def body(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> dict[str, Any]: ...

    def check(self, model: str, params: Mapping[str, Any]) -> None:
        """Raises InputError for a parameter that cannot be sent, or that is not the caller's to set."""
        ...

    def ask(self, client: Skytells, body: Mapping[str, Any]) -> ChatCompletion | Response: ...


class ChatEndpoint:
    """Chat Completions."""

    name = "chat/completions"

    def body(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": model, "messages": list(messages), **params}

    def check(self, model: str, params: Mapping[str, Any]) -> None:
        _refuse(params, _OURS, "each row is one prompt with one whole answer")
        validate_request(ChatRequest, **request_fields(ChatParams, self.body(model, _ANY, {}), params))

    def ask(self, client: Skytells, body: Mapping[str, Any]) -> ChatCompletion:
        answer: ChatCompletion = client.chat.completions.create(**body)
        if not answer.choices:
            raise InvalidResponseError("The answer has no choices.", request_id=answer.request_id)
        return answer


class ResponsesEndpoint:
    """Responses, with nothing stored at the service. Takes chat's names of parameters as well as its own."""

    name = "responses"

    def body(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> dict[str, Any]:
        turns = list(messages)
        given: dict[str, Any] = {"store": False}
        if turns and turns[0]["role"] == "system" and isinstance(turns[0]["content"], str) and len(turns) > 1:
            given["instructions"] = turns.pop(0)["content"]
        for name, value in params.items():
            if name in LIMITS:
                given["max_output_tokens"] = value
            elif name == "reasoning_effort":
                given["reasoning"] = {**given.get("reasoning", {}), "effort": value}
            elif name == "response_format":
                given["text"] = {**given.get("text", {}), "format": _flat(value, "json_schema")}
            elif name in ("reasoning", "text") and isinstance(value, Mapping):
                given[name] = {**value, **given.get(name, {})}
            elif name == "tools" and isinstance(value, (list, tuple)):
                given[name] = [_flat(tool, "function") for tool in value]
            else:
                given[name] = value
        return {"model": model, "input": [item for turn in turns for item in _items(turn)], **given}

    def check(self, model: str, params: Mapping[str, Any]) -> None:
        _refuse(params, _OURS, "each row is one prompt with one whole answer")
        _refuse(params, _STATE, "rows are asked apart from each other, and nothing is stored at the service")
        _refuse(params, _CHAT_ONLY, "the Responses API has no such parameter; use api='chat'")
        limits = [name for name in LIMITS if name in params]
        if len(limits) > 1:
            raise InputError(f"params holds {' and '.join(limits)}; give one of them.")
        validate_request(ResponsesRequest, **request_fields(ResponsesParams, {}, self.body(model, _ANY, params)))

    def ask(self, client: Skytells, body: Mapping[str, Any]) -> Response:
        answer: Response = client.responses.create(**body)
        if answer.status in ("failed", "cancelled"):
            told = (answer.error or {}).get("message") or (answer.error or {}).get("code")
            why = f": {told}" if told else ""
            raise InvalidResponseError(
                f"The service gave up on the answer ({answer.status}){why}.", request_id=answer.request_id
            )
        return answer


_ANY: list[Message] = [{"role": "user", "content": "…"}]
_ENDPOINTS: dict[Api, Endpoint] = {"chat": ChatEndpoint(), "responses": ResponsesEndpoint()}


def endpoint(api: Api) -> Endpoint:
    """The endpoint of this name; raises InputError for another one."""
    if api not in _ENDPOINTS:
        raise InputError(f"api is 'chat' or 'responses'; found {api!r}.")
    return _ENDPOINTS[api]


def _refuse(params: Mapping[str, Any], names: Sequence[str], reason: str) -> None:
    found = next((name for name in names if name in params), None)
    if found is not None:
        raise InputError(f"params cannot hold {found!r}: {reason}.")


def _flat(value: Any, kind: str) -> Any:
    """Chat nests what a format or a tool is, Responses does not."""
    nested = value.get(kind) if isinstance(value, Mapping) else None
    return {"type": value.get("type", kind), **nested} if isinstance(nested, Mapping) else value


def _items(turn: Message) -> list[Message]:
    """A message of chat as items of an input; calls of functions and their results are items of their own."""
    role, content = turn["role"], turn.get("content")
    if role == "tool":
        return [{"type": "function_call_output", "call_id": turn.get("tool_call_id"), "output": content}]
    calls = [
        {"type": "function_call", "call_id": call.get("id"), **call.get("function", {})}
        for call in turn.get("tool_calls") or ()
    ]
    if isinstance(content, list):
        content = [_part(part, role) for part in content]
    said = [{"role": role, "content": content}] if content else []
    return [*said, *calls]


def _part(part: Message, role: str) -> Message:
    if part["type"] == "text":
        return {**part, "type": "output_text" if role == "assistant" else "input_text"}
    if part["type"] == "image_url":
        named = part["image_url"]
        return {"type": "input_image", **({"image_url": named} if isinstance(named, str) else _picture(named))}
    return part


def _picture(named: Mapping[str, Any]) -> Message:
    return {"image_url": named["url"], **{name: value for name, value in named.items() if name != "url"}}

"""The two completion APIs: the same messages and parameters, in the format of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from skytells_nb.client.client import Skytells
from skytells_nb.client.parameters import ChatParams, ResponsesParams, request_fields
from skytells_nb.client.serialization import validate_request
from skytells_nb.engine.operations.conversation import Api, Message
from skytells_nb.errors import (
    AccountError,
    BadRequestError,
    InputError,
    InvalidResponseError,
    RateLimitError,
    api_error,
)
from skytells_nb.types.chat import ChatCompletion, ChatRequest
from skytells_nb.types.responses import Response, ResponsesRequest

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Names of the token limit of one answer."""
_RESERVED = ("model", "messages", "input", "stream", "n")
_STATE = ("store", "previous_response_id", "background", "conversation", "instructions")
_CHAT_ONLY = ("stop", "logprobs", "logit_bias", "functions", "function_call", "stream_options")


class Endpoint(Protocol):
    """One API: ``body`` returns what is sent, as keywords of the client's method that ``create`` calls."""

    name: str

    def body(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> dict[str, Any]: ...

    def check(self, model: str, params: Mapping[str, Any]) -> None:
        """Raise InputError for a parameter that cannot be sent, or that the caller cannot set."""
        ...

    def create(self, client: Skytells, body: Mapping[str, Any]) -> ChatCompletion | Response:
        """Send one request; raise InvalidResponseError, or the error that it names, for one without an answer."""
        ...


class ChatEndpoint:
    """Chat Completions."""

    name = "chat/completions"

    def body(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": model, "messages": list(messages), **params}

    def check(self, model: str, params: Mapping[str, Any]) -> None:
        _reject(params, _RESERVED, "each row is one prompt with one whole answer")
        validate_request(ChatRequest, **request_fields(ChatParams, self.body(model, _SAMPLE, {}), params))

    def create(self, client: Skytells, body: Mapping[str, Any]) -> ChatCompletion:
        response: ChatCompletion = client.chat.completions.create(**body)
        if not response.choices:
            raise InvalidResponseError("The response has no choices.", request_id=response.request_id)
        return response


class ResponsesEndpoint:
    """Responses, with nothing stored at the service. Accepts the parameter names of chat as well as its own."""

    name = "responses"

    def body(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> dict[str, Any]:
        remaining = list(messages)
        fields: dict[str, Any] = {"store": False}
        if (
            remaining
            and remaining[0]["role"] == "system"
            and isinstance(remaining[0]["content"], str)
            and len(remaining) > 1
        ):
            fields["instructions"] = remaining.pop(0)["content"]
        for name, value in params.items():
            if name in LIMITS:
                fields["max_output_tokens"] = value
            elif name == "reasoning_effort":
                fields["reasoning"] = {**fields.get("reasoning", {}), "effort": value}
            elif name == "response_format":
                fields["text"] = {**fields.get("text", {}), "format": _flat(value, "json_schema")}
            elif name in ("reasoning", "text") and isinstance(value, Mapping):
                fields[name] = {**value, **fields.get(name, {})}
            elif name == "tools" and isinstance(value, (list, tuple)):
                fields[name] = [_flat(tool, "function") for tool in value]
            else:
                fields[name] = value
        return {"model": model, "input": [item for message in remaining for item in _items(message)], **fields}

    def check(self, model: str, params: Mapping[str, Any]) -> None:
        _reject(params, _RESERVED, "each row is one prompt with one whole answer")
        _reject(params, _STATE, "rows are requested independently, and nothing is stored at the service")
        _reject(params, _CHAT_ONLY, "the Responses API has no such parameter; use api='chat'")
        limits = [name for name in LIMITS if name in params]
        if len(limits) > 1:
            raise InputError(f"params must have one token limit, got {' and '.join(limits)}.")
        validate_request(ResponsesRequest, **request_fields(ResponsesParams, {}, self.body(model, _SAMPLE, params)))

    def create(self, client: Skytells, body: Mapping[str, Any]) -> Response:
        response: Response = client.responses.create(**body)
        is_answer = bool(response.output_text or response.output) or response.status in ("completed", "incomplete")
        if response.status in ("failed", "cancelled") or not is_answer:
            tokens = response.tokens if response.tokens[0] else None
            known = api_error(200, {"error": response.error}, request_id=response.request_id)
            known.tokens = tokens
            if isinstance(known, (AccountError, BadRequestError, RateLimitError)):
                raise known
            message = (response.error or {}).get("message") or (response.error or {}).get("code")
            reason = f": {message}" if message else ""
            failed = InvalidResponseError(
                f"The service did not complete the response ({response.status}){reason}.",
                request_id=response.request_id,
            )
            failed.tokens = tokens
            raise failed
        return response


_SAMPLE: list[Message] = [{"role": "user", "content": "…"}]
_ENDPOINTS: dict[Api, Endpoint] = {"chat": ChatEndpoint(), "responses": ResponsesEndpoint()}


def endpoint(api: Api) -> Endpoint:
    """Return the endpoint of this name; raise InputError for another one."""
    if api not in _ENDPOINTS:
        raise InputError(f"api must be 'chat' or 'responses', got {api!r}.")
    return _ENDPOINTS[api]


def _reject(params: Mapping[str, Any], names: Sequence[str], reason: str) -> None:
    rejected = next((name for name in names if name in params), None)
    if rejected is not None:
        raise InputError(f"params cannot contain {rejected!r}: {reason}.")


def _flat(value: Any, kind: str) -> Any:
    """Flatten a format or a tool, which chat nests and Responses does not."""
    nested = value.get(kind) if isinstance(value, Mapping) else None
    return {"type": value.get("type", kind), **nested} if isinstance(nested, Mapping) else value


def _items(message: Message) -> list[Message]:
    """Return a chat message as input items; function calls and their results are separate items."""
    role, content = message["role"], message.get("content")
    if role == "tool":
        return [{"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": content}]
    calls = [
        {"type": "function_call", "call_id": call.get("id"), **call.get("function", {})}
        for call in message.get("tool_calls") or ()
    ]
    if isinstance(content, list):
        content = [_part(part, role) for part in content]
    text = [{"role": role, "content": content}] if content else []
    return [*text, *calls]


def _part(part: Message, role: str) -> Message:
    if part["type"] == "text":
        return {**part, "type": "output_text" if role == "assistant" else "input_text"}
    if part["type"] == "image_url":
        image = part["image_url"]
        return {"type": "input_image", **({"image_url": image} if isinstance(image, str) else _image(image))}
    return part


def _image(image: Mapping[str, Any]) -> Message:
    return {"image_url": image["url"], **{name: value for name, value in image.items() if name != "url"}}

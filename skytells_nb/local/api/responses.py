"""``POST /v1/responses``, as one response or as events, with the stored conversations."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

from skytells_nb.local.api.chat import obfuscation
from skytells_nb.local.api.models import resolve_chat_model
from skytells_nb.local.api.request import (
    InferenceRequest,
    check_token_limit,
    content_policy_error,
    extra_parameter,
    parse_body,
)
from skytells_nb.local.api.sse import Event, EventStreamResponse
from skytells_nb.local.errors import APIException, invalid_parameter, json_response
from skytells_nb.local.generation.completion import Finish, Generation, Text, generate
from skytells_nb.local.generation.messages import Message, check_length, from_input, prompt_texts
from skytells_nb.local.generation.streaming import wait_for_first, with_pauses
from skytells_nb.local.generation.tools import Tool, choose_tool, json_characters, read_tools
from skytells_nb.local.moderation.safety_fields import content_filter, is_filtered, prompt_results, score
from skytells_nb.types.responses import ResponsesRequest

MAX_CONVERSATIONS = 1000
"""Number of stored conversations; the oldest are dropped first."""


class ConversationStore:
    """Conversations stored with ``store: true``, by response id, until the server stops."""

    def __init__(self, max_conversations: int = MAX_CONVERSATIONS) -> None:
        self._max_conversations = max_conversations
        self._messages: OrderedDict[str, list[Message]] = OrderedDict()

    def put(self, response_id: str, messages: list[Message]) -> None:
        self._messages[response_id] = messages
        while len(self._messages) > self._max_conversations:
            self._messages.popitem(last=False)

    def get(self, response_id: str) -> list[Message]:
        """Return the conversation up to a response; raise an error with status 404 if it was not stored."""
        if response_id not in self._messages:
            raise APIException(
                "INVALID_REQUEST",
                f"Previous response with id '{response_id}' not found. "
                "Only responses created with store: true can be continued.",
                status=404,
                code="previous_response_not_found",
                param="previous_response_id",
            )
        return self._messages[response_id]

    async def respond(self, call: InferenceRequest) -> Response:
        """Handle a request; the response is streamed if the body or the query requests it."""
        request = parse_body(ResponsesRequest, call.body)
        check_token_limit("max_output_tokens", request.max_output_tokens)
        model = resolve_chat_model(request.model, call.models)
        previous = self.get(request.previous_response_id) if request.previous_response_id else []
        conversation = [*previous, *from_input(request.input)]
        generation, tools = await _generation(request, conversation, call)
        prompt_filter = await _moderate_prompt(generation, call)
        response = _ResponseBuilder(call, request, model, generation, tools, prompt_filter)
        if request.stream or call.query.get("stream", "").lower() in ("true", "1"):
            events = await wait_for_first(with_pauses(response.events(self, conversation), call.keep_alive))
            return EventStreamResponse(
                events,
                done=False,
                error_event=response.error_event,
                faults=call.faults,
                close_connection=call.close_connection,
                is_terminator=_is_terminal,
            )
        return json_response(await response.full(self, conversation))


async def _generation(
    request: ResponsesRequest, conversation: list[Message], call: InferenceRequest
) -> tuple[Generation, list[Tool]]:
    tools = read_tools(request.tools)
    # Instructions apply to this response only and are not stored.
    instructions = [{"role": "system", "content": request.instructions}] if request.instructions else []
    messages = [*instructions, *conversation]
    schema, any_json = _response_schema(request.text)
    await check_length(messages, call.models.generator, "input", more_characters=json_characters(schema, tools))
    tool = await choose_tool(tools, request.tool_choice, conversation, call.models.embedder)
    return Generation(
        messages,
        max_tokens=request.max_output_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        presence_penalty=float(extra_parameter(call.body, "presence_penalty", (int, float), 0.0)),
        frequency_penalty=float(extra_parameter(call.body, "frequency_penalty", (int, float), 0.0)),
        seed=extra_parameter(call.body, "seed", int),
        schema=schema,
        json=any_json,
        tool=tool,
        schema_param="text",
        prompt_param="input",
    ), tools


def _response_schema(text: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, bool]:
    """Return the schema in ``text.format``, and whether any JSON object is allowed."""
    text_format = (text or {}).get("format") or {"type": "text"}
    kind = text_format.get("type") if isinstance(text_format, dict) else None
    if kind == "json_schema":
        schema = text_format.get("schema")
        if not isinstance(schema, dict):
            raise invalid_parameter("text", "text.format.schema must be a JSON Schema object.")
        return schema, False
    if kind not in ("text", "json_object"):
        raise invalid_parameter("text", f"text.format.type must be text, json_object or json_schema, got {kind!r}.")
    return None, kind == "json_object"


async def _moderate_prompt(generation: Generation, call: InferenceRequest) -> dict[str, Any]:
    texts = prompt_texts(generation.messages)
    faults = call.faults
    severities = await score(call.models.moderator, texts)
    results = prompt_results(severities, block=faults.block_prompt, down=faults.filter_down)
    entry = content_filter(results, "prompt", sum(map(len, texts)))
    if is_filtered(results) or faults.block_prompt:
        raise content_policy_error(results, [{**entry, "blocked": True}], faults, "input")
    return entry


class _ResponseBuilder:
    """The response to one request, full or as events."""

    def __init__(
        self,
        call: InferenceRequest,
        request: ResponsesRequest,
        model: str,
        generation: Generation,
        tools: list[Tool],
        prompt_filter: dict[str, Any],
    ) -> None:
        self._call = call
        self._request = request
        self._generation = generation
        self._prompt_filter = prompt_filter
        self._reasoning = {"id": f"rs_{secrets.token_hex(16)}", "type": "reasoning", "summary": []}
        self._item_id = f"{'fc' if generation.tool else 'msg'}_{secrets.token_hex(16)}"
        self._call_id = f"call_{secrets.token_hex(12)}"
        self._sequence = -1
        self._snapshot = self._initial_snapshot(model, tools)

    def _initial_snapshot(self, model: str, tools: list[Tool]) -> dict[str, Any]:
        """Return the response before generation: the parameters of the request, with their defaults."""
        request, generation = self._request, self._generation
        return {
            "id": f"resp_{secrets.token_hex(16)}",
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "background": False,
            "model": model,
            "output": [],
            "usage": None,
            "content_filters": None,
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "previous_response_id": request.previous_response_id,
            "max_output_tokens": request.max_output_tokens,
            "max_tool_calls": request.max_tool_calls,
            "store": bool(request.store),
            "temperature": generation.temperature,
            "top_p": generation.top_p,
            "frequency_penalty": generation.frequency_penalty,
            "presence_penalty": generation.presence_penalty,
            "top_logprobs": request.top_logprobs or 0,
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "tools": [tool.to_responses_format() for tool in tools],
            "tool_choice": request.tool_choice or "auto",
            "truncation": request.truncation or "disabled",
            "text": {"format": {"type": "text"}, "verbosity": "medium"} | (request.text or {}),
            "reasoning": {"effort": None, "summary": None} | (request.reasoning or {}),
            "service_tier": "default",
            "user": request.user,
            "metadata": request.metadata or {},
        }

    def _generate(self) -> AsyncGenerator[Text | Finish, None]:
        call = self._call
        return generate(self._generation, call.models, call.threads, call.faults)

    async def full(self, conversations: ConversationStore, conversation: list[Message]) -> dict[str, Any]:
        texts: list[str] = []
        async with aclosing(self._generate()) as items:
            async for item in items:
                if isinstance(item, Text):
                    texts.append(item.text)
                else:
                    finish = item
        return self._final_snapshot("".join(texts), finish, conversations, conversation)

    async def events(
        self, conversations: ConversationStore, conversation: list[Message]
    ) -> AsyncGenerator[Event, None]:
        texts: list[str] = []
        tool = self._generation.tool
        item = {"item_id": self._item_id, "output_index": 1}
        async with aclosing(await wait_for_first(self._generate())) as items:
            yield self._event("response.created", response=self._snapshot)
            yield self._event("response.in_progress", response=self._snapshot)
            yield self._event("response.output_item.added", output_index=0, item=self._reasoning)
            yield self._event("response.output_item.done", output_index=0, item=self._reasoning)
            yield self._event("response.output_item.added", output_index=1, item=self._item(None, "in_progress"))
            part = {**item, "content_index": 0}
            if tool is None:
                yield self._event("response.content_part.added", **part, part=_part(""))
            async for generated in items:
                if isinstance(generated, Finish):
                    finish = generated
                    continue
                if not generated.text:
                    continue
                texts.append(generated.text)
                hidden_length = obfuscation(len(texts), self._call.faults)
                if tool is not None:
                    name = "response.function_call_arguments.delta"
                    yield self._event(name, **item, delta=generated.text, obfuscation=hidden_length)
                else:
                    name = "response.output_text.delta"
                    yield self._event(name, **part, delta=generated.text, logprobs=[], obfuscation=hidden_length)
        text = "".join(texts)
        final = self._final_snapshot(text, finish, conversations, conversation)
        if tool is not None:
            yield self._event("response.function_call_arguments.done", **item, name=tool.name, arguments=text)
        else:
            yield self._event("response.output_text.done", **part, text=text, logprobs=[])
            yield self._event("response.content_part.done", **part, part=_part(text))
        yield self._event("response.output_item.done", output_index=1, item=final["output"][1])
        yield self._event(f"response.{final['status']}", response=final)

    def error_event(self, error: Exception | None) -> Event:
        """Return the event for an error in mid-stream; ``None`` is an error requested by a fault."""
        if not isinstance(error, APIException):
            message = None if error is None else "The local model failed while generating the response."
            error = APIException("INFERENCE_ERROR", message)
        members = error.error_object(self._call.request_id)
        return self._event("error", code=error.code, message=error.message, param=error.param, error=members)

    def _event(self, kind: str, **members: Any) -> Event:
        self._sequence += 1
        return Event({"type": kind, "sequence_number": self._sequence, **members}, kind)

    def _item(self, text: str | None, status: str) -> dict[str, Any]:
        tool = self._generation.tool
        if tool is not None:
            head = {"id": self._item_id, "type": "function_call", "status": status, "call_id": self._call_id}
            return {**head, "name": tool.name, "arguments": text or ""}
        head = {"id": self._item_id, "type": "message", "status": status, "role": "assistant"}
        return {**head, "content": [] if text is None else [_part(text)]}

    def _final_snapshot(
        self, text: str, finish: Finish, conversations: ConversationStore, conversation: list[Message]
    ) -> dict[str, Any]:
        """Return the final snapshot, and store the conversation if the request asks for it."""
        self._call.usage.tokens_in, self._call.usage.tokens_out = finish.prompt_tokens, finish.completion_tokens
        reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish.finish_reason)
        status = "incomplete" if reason else "completed"
        item = self._item(text, status)
        completion_filter = content_filter(finish.filter_results, "completion", len(text))
        tool = self._generation.tool
        if self._request.store:
            content = f"Called {tool.name} with {text}" if tool else text
            conversations.put(self._snapshot["id"], [*conversation, {"role": "assistant", "content": content}])
        return self._snapshot | {
            "completed_at": int(time.time()) if reason is None else None,
            "status": status,
            "output": [self._reasoning, item],
            "usage": {
                "input_tokens": finish.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": finish.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": finish.reasoning_tokens},
                "total_tokens": finish.prompt_tokens + finish.completion_tokens,
            },
            "content_filters": [self._prompt_filter, completion_filter],
            "incomplete_details": {"reason": reason} if reason else None,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _is_terminal(event: Event) -> bool:
    return event.name in ("response.completed", "response.incomplete", "response.failed")

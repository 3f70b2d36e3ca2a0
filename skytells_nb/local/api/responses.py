"""``POST /v1/responses``, whole and as events, with the conversations that were stored."""

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
from skytells_nb.local.api.request import InferenceRequest, content_policy_error, extra_parameter, parse_body
from skytells_nb.local.api.sse import Event, EventStreamResponse
from skytells_nb.local.errors import APIException, invalid_parameter, json_response
from skytells_nb.local.generation.completion import Finish, Generation, Text, generate
from skytells_nb.local.generation.messages import Message, from_input, prompt_texts
from skytells_nb.local.generation.streaming import wait_for_first
from skytells_nb.local.generation.tools import Tool, choose_tool, read_tools
from skytells_nb.local.moderation.safety_fields import content_filter, is_filtered, prompt_results, score
from skytells_nb.types.responses import ResponsesRequest

MAX_CONVERSATIONS = 1000
"""Stored conversations; the oldest leave first."""


class ConversationStore:
    """What ``store: true`` keeps, by response id; it lives as long as the server."""

    def __init__(self, max_conversations: int = MAX_CONVERSATIONS) -> None:
        self._kept = max_conversations
        self._found: OrderedDict[str, list[Message]] = OrderedDict()

    def put(self, response_id: str, messages: list[Message]) -> None:
        self._found[response_id] = messages
        while len(self._found) > self._kept:
            self._found.popitem(last=False)

    def get(self, response_id: str) -> list[Message]:
        """The conversation up to this response; a 404 where it is unknown or was not stored."""
        if response_id not in self._found:
            raise APIException(
                "INVALID_REQUEST",
                f"Previous response with id '{response_id}' not found. Only responses with store: true can be chained.",
                status=404,
                code="previous_response_not_found",
                param="previous_response_id",
            )
        return self._found[response_id]

    async def respond(self, call: InferenceRequest) -> Response:
        """One answer; streamed when the body says so."""
        request = parse_body(ResponsesRequest, call.body)
        model = resolve_chat_model(request.model, call.models)
        earlier = self.get(request.previous_response_id) if request.previous_response_id else []
        talk = [*earlier, *from_input(request.input)]
        turn, tools = await _turn(request, talk, call)
        prompt = await _prompt_filter(turn, call)
        answer = _Answer(call, request, model, turn, tools, prompt)
        if request.stream or call.query.get("stream", "").lower() in ("true", "1"):
            events = await wait_for_first(answer.events(self, talk))
            return EventStreamResponse(
                events, done=False, failure=answer.failure, faults=call.faults, cut=call.close_connection, is_terminator=_is_terminal
            )
        return json_response(await answer.whole(self, talk))


async def _turn(
    request: ResponsesRequest, talk: list[Message], call: InferenceRequest
) -> tuple[Generation, list[Tool]]:
    tools = read_tools(request.tools)
    tool = await choose_tool(tools, request.tool_choice, talk, call.models.embedder)
    # Instructions are this turn's alone: they are not part of what is stored.
    opening = [{"role": "system", "content": request.instructions}] if request.instructions else []
    schema, any_json = _format(request.text)
    return Generation(
        [*opening, *talk],
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


def _format(text: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, bool]:
    given = (text or {}).get("format") or {"type": "text"}
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "json_schema":
        schema = given.get("schema")
        if not isinstance(schema, dict):
            raise invalid_parameter("text", "text.format.schema must be a JSON Schema object.")
        return schema, False
    if kind not in ("text", "json_object"):
        raise invalid_parameter("text", f"text.format.type {kind!r} is not known.")
    return None, kind == "json_object"


async def _prompt_filter(turn: Generation, call: InferenceRequest) -> dict[str, Any]:
    texts = prompt_texts(turn.messages)
    faults = call.faults
    severities = await score(call.models.moderator, texts)
    results = prompt_results(severities, block=faults.block_prompt, down=faults.filter_down)
    entry = content_filter(results, "prompt", sum(map(len, texts)))
    if is_filtered(results) or faults.block_prompt:
        raise content_policy_error(results, [{**entry, "blocked": True}], faults, "input")
    return entry


class _Answer:
    """One request's answer, in either form."""

    def __init__(
        self,
        call: InferenceRequest,
        request: ResponsesRequest,
        model: str,
        turn: Generation,
        tools: list[Tool],
        prompt: dict[str, Any],
    ) -> None:
        self._call = call
        self._request = request
        self._turn = turn
        self._prompt = prompt
        self._reasoning = {"id": f"rs_{secrets.token_hex(16)}", "type": "reasoning", "summary": []}
        self._item_id = f"{'fc' if turn.tool else 'msg'}_{secrets.token_hex(16)}"
        self._call_id = f"call_{secrets.token_hex(12)}"
        self._sequence = -1
        self._snapshot = self._echo(model, tools)

    def _echo(self, model: str, tools: list[Tool]) -> dict[str, Any]:
        """The answer before anything is known: the request, with its defaults filled in."""
        request, turn = self._request, self._turn
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
            "temperature": turn.temperature,
            "top_p": turn.top_p,
            "frequency_penalty": turn.frequency_penalty,
            "presence_penalty": turn.presence_penalty,
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

    def _play(self) -> AsyncGenerator[Text | Finish, None]:
        call = self._call
        return generate(self._turn, call.models, call.threads, call.faults)

    async def whole(self, conversations: ConversationStore, talk: list[Message]) -> dict[str, Any]:
        texts: list[str] = []
        async with aclosing(self._play()) as items:
            async for item in items:
                if isinstance(item, Text):
                    texts.append(item.text)
                else:
                    end = item
        return self._finish("".join(texts), end, conversations, talk)

    async def events(self, conversations: ConversationStore, talk: list[Message]) -> AsyncGenerator[Event, None]:
        texts: list[str] = []
        tool = self._turn.tool
        place = {"item_id": self._item_id, "output_index": 1}
        async with aclosing(await wait_for_first(self._play())) as items:
            yield self._event("response.created", response=self._snapshot)
            yield self._event("response.in_progress", response=self._snapshot)
            yield self._event("response.output_item.added", output_index=0, item=self._reasoning)
            yield self._event("response.output_item.done", output_index=0, item=self._reasoning)
            yield self._event("response.output_item.added", output_index=1, item=self._item(None, "in_progress"))
            part = {**place, "content_index": 0}
            if tool is None:
                yield self._event("response.content_part.added", **part, part=_part(""))
            async for item in items:
                if isinstance(item, Finish):
                    end = item
                    continue
                if not item.text:
                    continue
                texts.append(item.text)
                noise = obfuscation(len(texts), self._call.faults)
                if tool is not None:
                    name = "response.function_call_arguments.delta"
                    yield self._event(name, **place, delta=item.text, obfuscation=noise)
                else:
                    name = "response.output_text.delta"
                    yield self._event(name, **part, delta=item.text, logprobs=[], obfuscation=noise)
        text = "".join(texts)
        final = self._finish(text, end, conversations, talk)
        if tool is not None:
            yield self._event("response.function_call_arguments.done", **place, name=tool.name, arguments=text)
        else:
            yield self._event("response.output_text.done", **part, text=text, logprobs=[])
            yield self._event("response.content_part.done", **part, part=_part(text))
        yield self._event("response.output_item.done", output_index=1, item=final["output"][1])
        yield self._event(f"response.{final['status']}", response=final)

    def failure(self, problem: Exception | None) -> Event:
        """An error within the stream: asked for by a fault, or a real one."""
        if not isinstance(problem, APIException):
            problem = APIException("INFERENCE_ERROR", None if problem is None else "The local model failed midway.")
        members = problem.error_object(self._call.request_id)
        return self._event("error", code=problem.code, message=problem.message, param=problem.param, error=members)

    def _event(self, kind: str, **members: Any) -> Event:
        self._sequence += 1
        return Event({"type": kind, "sequence_number": self._sequence, **members}, kind)

    def _item(self, text: str | None, status: str) -> dict[str, Any]:
        tool = self._turn.tool
        if tool is not None:
            head = {"id": self._item_id, "type": "function_call", "status": status, "call_id": self._call_id}
            return {**head, "name": tool.name, "arguments": text or ""}
        head = {"id": self._item_id, "type": "message", "status": status, "role": "assistant"}
        return {**head, "content": [] if text is None else [_part(text)]}

    def _finish(self, text: str, end: Finish, conversations: ConversationStore, talk: list[Message]) -> dict[str, Any]:
        """The final snapshot; stored where the request asked for it."""
        self._call.usage.tokens_in, self._call.usage.tokens_out = end.prompt_tokens, end.completion_tokens
        reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(end.finish_reason)
        status = "incomplete" if reason else "completed"
        item = self._item(text, status)
        completion = content_filter(end.filter_results, "completion", len(text))
        tool = self._turn.tool
        if self._request.store:
            said = f"Called {tool.name} with {text}" if tool else text
            conversations.put(self._snapshot["id"], [*talk, {"role": "assistant", "content": said}])
        return self._snapshot | {
            "completed_at": int(time.time()) if reason is None else None,
            "status": status,
            "output": [self._reasoning, item],
            "usage": {
                "input_tokens": end.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": end.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": end.reasoning_tokens},
                "total_tokens": end.prompt_tokens + end.completion_tokens,
            },
            "content_filters": [self._prompt, completion],
            "incomplete_details": {"reason": reason} if reason else None,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _is_terminal(event: Event) -> bool:
    return event.name in ("response.completed", "response.incomplete", "response.failed")

"""``POST /v1/chat/completions``, whole and in chunks."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

from skytells_nb.local.api.models import resolve_chat_model
from skytells_nb.local.api.request import InferenceRequest, content_policy_error, extra_parameter, parse_body
from skytells_nb.local.api.sse import Event, EventStreamResponse
from skytells_nb.local.errors import APIException, invalid_parameter, json_response
from skytells_nb.local.faults import Faults
from skytells_nb.local.generation.completion import Finish, Generation, Text, generate
from skytells_nb.local.generation.messages import from_messages, prompt_texts
from skytells_nb.local.generation.streaming import wait_for_first
from skytells_nb.local.generation.tools import choose_tool, read_tools
from skytells_nb.local.moderation.safety_fields import content_filter, is_filtered, prompt_results, score
from skytells_nb.types.chat import ChatRequest

MAX_CHOICES = 16
MAX_STOPS = 4


async def chat_completions(call: InferenceRequest) -> Response:
    """One answer, or several with ``n``; streamed when the body or the query says so.

    ``logprobs`` is taken and answered with null: the local model tells none.
    """
    request = parse_body(ChatRequest, call.body)
    model = resolve_chat_model(request.model, call.models)
    choices = request.n or 1
    if choices > MAX_CHOICES:
        raise invalid_parameter("n", f"n is {choices}; {MAX_CHOICES} are the most here.")
    if request.top_logprobs and not request.logprobs:
        raise invalid_parameter("top_logprobs", "top_logprobs needs logprobs: true.")
    turn = await _turn(request, call)
    prompt = await _prompt_verdict(turn, call)
    answer = _Answer(call, model, turn, choices, prompt)
    if not (request.stream or call.query.get("stream", "").lower() in ("true", "1")):
        return json_response(await answer.whole())
    with_usage = (request.stream_options or {}).get("include_usage") is True
    # Everything that can be refused is found before the first byte.
    events = await wait_for_first(answer.chunks(with_usage))
    return EventStreamResponse(events, done=True, failure=lambda p: _failure(p, call), faults=call.faults, cut=call.close_connection)


async def _turn(request: ChatRequest, call: InferenceRequest) -> Generation:
    messages = from_messages(request.messages)
    tool = await choose_tool(read_tools(request.tools), request.tool_choice, messages, call.models.embedder)
    schema, any_json = _format(request.response_format)
    limit = request.max_tokens or extra_parameter(call.body, "max_completion_tokens", int)
    if limit is not None and limit < 1:
        raise invalid_parameter("max_completion_tokens", "max_completion_tokens is at least 1.")
    stops = [request.stop] if isinstance(request.stop, str) else list(request.stop or ())
    if len(stops) > MAX_STOPS:
        raise invalid_parameter("stop", f"stop has {len(stops)} sequences; {MAX_STOPS} are the most.")
    return Generation(
        messages,
        max_tokens=limit,
        temperature=0.7 if request.temperature is None else request.temperature,
        top_p=0.95 if request.top_p is None else request.top_p,
        stop=tuple(stops),
        seed=extra_parameter(call.body, "seed", int),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        schema=schema,
        json=any_json,
        tool=tool,
    )


def _format(given: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, bool]:
    """The schema that ``response_format`` holds, and whether any JSON object will do."""
    kind = (given or {}).get("type", "text")
    if kind == "json_schema":
        holder = (given or {}).get("json_schema")
        schema = holder.get("schema") if isinstance(holder, dict) else None
        if not isinstance(schema, dict):
            raise invalid_parameter("response_format", "response_format.json_schema.schema must be a JSON Schema object.")
        return schema, False
    if kind not in ("text", "json_object"):
        raise invalid_parameter("response_format", f"response_format.type {kind!r} is not known.")
    return None, kind == "json_object"


async def _prompt_verdict(turn: Generation, call: InferenceRequest) -> dict[str, Any]:
    texts = prompt_texts(turn.messages)
    severities = await score(call.models.moderator, texts)
    faults = call.faults
    results = prompt_results(severities, block=faults.block_prompt, down=faults.filter_down)
    if is_filtered(results) or faults.block_prompt:
        filters = [{**content_filter(results, "prompt", sum(map(len, texts))), "blocked": True}]
        raise content_policy_error(results, filters, faults, "messages")
    return results


class _Answer:
    """One request's answer, in either form."""

    def __init__(
        self, call: InferenceRequest, model: str, turn: Generation, choices: int, prompt: dict[str, Any]
    ) -> None:
        self._call = call
        self._turn = turn
        self._choices = choices
        self._prompt = [{"prompt_index": 0, "content_filter_results": prompt}]
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"fp_{hashlib.sha256(model.encode()).hexdigest()[:10]}",
        }

    def _play(self, index: int) -> AsyncGenerator[Text | Finish, None]:
        call = self._call
        return generate(self._turn.for_choice(index), call.models, call.threads, call.faults)

    async def whole(self) -> dict[str, Any]:
        choices = []
        ends = []
        for index in range(self._choices):
            texts: list[str] = []
            async with aclosing(self._play(index)) as items:
                async for item in items:
                    if isinstance(item, Text):
                        texts.append(item.text)
                    else:
                        end = item
            ends.append(end)
            choices.append(
                {
                    "index": index,
                    "finish_reason": self._finish(end),
                    "logprobs": None,
                    "message": self._message("".join(texts)),
                    "content_filter_results": end.filter_results,
                }
            )
        return {
            **{"id": self._head["id"], "object": "chat.completion"},
            **self._head,
            "choices": choices,
            "prompt_filter_results": self._prompt,
            "usage": _usage(ends),
        }

    def _message(self, text: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text, "annotations": [], "refusal": None}
        if self._turn.tool is not None:
            message["content"] = None
            message["tool_calls"] = [
                {"id": _call_id(), "type": "function", "function": {"name": self._turn.tool.name, "arguments": text}}
            ]
        return message

    def _finish(self, end: Finish) -> str:
        self._call.usage.tokens_in = end.prompt_tokens
        self._call.usage.tokens_out += end.completion_tokens
        return "tool_calls" if self._turn.tool is not None and end.finish_reason == "stop" else end.finish_reason

    async def chunks(self, with_usage: bool) -> AsyncGenerator[Event, None]:
        faults = self._call.faults
        ends: list[Finish] = []
        counter = 0
        for index in range(self._choices):
            async with aclosing(await wait_for_first(self._play(index))) as items:
                if index == 0 and not faults.no_prompt_chunk:
                    yield Event(_empty([], prompt_filter_results=self._prompt))
                async for choice in self._deltas(index, items, ends):
                    yield Event(self._chunk([choice], counter, with_usage))
                    counter += 1
            if ends[-1].filtered_late:
                for annotation in _annotations(index, ends[-1].filter_results):
                    yield Event(annotation)
        if with_usage and not any(end.finish_reason == "content_filter" for end in ends):
            # The upstream ends a filtered stream without its usage chunk.
            yield Event(self._chunk([], counter, with_usage) | {"usage": _usage(ends)})

    async def _deltas(
        self, index: int, items: AsyncGenerator[Text | Finish, None], ends: list[Finish]
    ) -> AsyncGenerator[dict[str, Any], None]:
        tool = self._turn.tool
        opening: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if tool is not None:
            first = {"id": _call_id(), "type": "function", "function": {"name": tool.name, "arguments": ""}}
            opening = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **first}]}
        yield _choice(index, opening)
        async for item in items:
            if isinstance(item, Finish):
                ends.append(item)
                verdict = item.filter_results if item.finish_reason == "content_filter" else {}
                yield _choice(index, {}, self._finish(item), verdict)
            elif not item.text:
                continue
            elif tool is not None:
                yield _choice(index, {"tool_calls": [{"index": 0, "function": {"arguments": item.text}}]})
            else:
                content: Any = [{"type": "text", "text": item.text}] if self._call.faults.list_content else item.text
                yield _choice(index, {"content": content}, None, item.filter_results)

    def _chunk(self, choices: list[dict[str, Any]], counter: int, with_usage: bool) -> dict[str, Any]:
        head = {"id": self._head["id"], "object": "chat.completion.chunk", **self._head}
        chunk = {**head, "obfuscation": obfuscation(counter, self._call.faults), "choices": choices}
        return {**chunk, "usage": None} if with_usage else chunk


def obfuscation(counter: int, faults: Faults) -> str:
    """The ``obfuscation`` of a chunk: text of varying length that hides the length of the delta."""
    digest = hashlib.sha256(counter.to_bytes(8, "big")).hexdigest()
    text = digest[1 : 1 + int(digest[0], 16)]
    # Something of several bytes must be in each chunk for a character to be cut in two.
    return text + "é" if faults.split_utf8 else text


def _choice(
    index: int, delta: dict[str, Any], finish_reason: str | None = None, verdict: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "index": index,
        "delta": delta,
        "logprobs": None,
        "finish_reason": finish_reason,
        "content_filter_results": dict(verdict or {}),
    }


def _empty(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A chunk that only the filter speaks in: its ids are empty."""
    return {"id": "", "object": "", "created": 0, "model": "", "choices": choices, **more}


def _annotations(index: int, verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the async filter says after the answer ended: one category a chunk, the block among them."""
    offsets = {"check_offset": 0, "start_offset": 0, "end_offset": 0}
    return [
        _empty(
            [
                {
                    "index": index,
                    "finish_reason": None,
                    "content_filter_results": {name: result},
                    "content_filter_offsets": offsets,
                }
            ]
        )
        for name, result in verdict.items()
    ]


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _usage(ends: list[Finish]) -> dict[str, Any]:
    prompt = ends[0].prompt_tokens
    completion = sum(end.completion_tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "audio_tokens": 0,
            "reasoning_tokens": sum(end.reasoning_tokens for end in ends),
            "rejected_prediction_tokens": 0,
        },
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
    }


def _failure(problem: Exception | None, call: InferenceRequest) -> Event:
    """An error within the stream: asked for by a fault, or a real one."""
    if not isinstance(problem, APIException):
        problem = APIException("INFERENCE_ERROR", None if problem is None else "The local model failed midway.")
    return Event({"error": problem.error_object(call.request_id)})

"""``POST /v1/chat/completions``, as one response or streamed in chunks."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

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
from skytells_nb.local.faults import Faults
from skytells_nb.local.generation.completion import Finish, Generation, Text, generate
from skytells_nb.local.generation.messages import check_length, from_messages, prompt_texts
from skytells_nb.local.generation.streaming import wait_for_first, with_pauses
from skytells_nb.local.generation.tools import choose_tool, json_characters, read_tools
from skytells_nb.local.moderation.safety_fields import content_filter, is_filtered, prompt_results, score
from skytells_nb.types.chat import ChatRequest

MAX_CHOICES = 16
MAX_STOPS = 4


async def chat_completions(call: InferenceRequest) -> Response:
    """Respond with one choice, or ``n`` choices; streamed if the body or the query requests it.

    ``logprobs`` are those of the local model: text that a schema fixes is certain, listed values (an enum) are as
    probable as they are among each other, everything else as the model has it. A stream has them at its end.
    """
    request = parse_body(ChatRequest, call.body)
    check_token_limit("max_tokens", request.max_tokens)
    check_token_limit("max_completion_tokens", extra_parameter(call.body, "max_completion_tokens", int))
    model = resolve_chat_model(request.model, call.models)
    choices = request.n or 1
    if choices > MAX_CHOICES:
        raise invalid_parameter("n", f"n must be at most {MAX_CHOICES}, got {choices}.")
    if request.top_logprobs and not request.logprobs:
        raise invalid_parameter("top_logprobs", "top_logprobs requires logprobs: true.")
    generation = await _generation(request, call)
    prompt_results = await _moderate_prompt(generation, call)
    completion = _Completion(call, model, generation, choices, prompt_results)
    if not (request.stream or call.query.get("stream", "").lower() in ("true", "1")):
        return json_response(await completion.full())
    with_usage = (request.stream_options or {}).get("include_usage") is True
    # All errors of the request are raised before the first byte is sent.
    events = await wait_for_first(with_pauses(completion.chunks(with_usage), call.keep_alive))
    return EventStreamResponse(
        events,
        done=True,
        error_event=lambda error: _error_event(error, call),
        faults=call.faults,
        close_connection=call.close_connection,
    )


async def _generation(request: ChatRequest, call: InferenceRequest) -> Generation:
    messages, tools = from_messages(request.messages), read_tools(request.tools)
    schema, any_json = _response_schema(request.response_format)
    await check_length(messages, call.models.generator, "messages", more_characters=json_characters(schema, tools))
    tool = await choose_tool(tools, request.tool_choice, messages, call.models.embedder)
    stops = [request.stop] if isinstance(request.stop, str) else list(request.stop or ())
    if len(stops) > MAX_STOPS:
        raise invalid_parameter("stop", f"stop must have at most {MAX_STOPS} sequences, got {len(stops)}.")
    return Generation(
        messages,
        max_tokens=request.max_tokens or extra_parameter(call.body, "max_completion_tokens", int),
        temperature=0.7 if request.temperature is None else request.temperature,
        top_p=0.95 if request.top_p is None else request.top_p,
        stop=tuple(stops),
        seed=extra_parameter(call.body, "seed", int),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        schema=schema,
        json=any_json,
        tool=tool,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )


def _response_schema(response_format: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, bool]:
    """Return the schema in ``response_format``, and whether any JSON object is allowed."""
    kind = (response_format or {}).get("type", "text")
    if kind == "json_schema":
        json_schema = (response_format or {}).get("json_schema")
        schema = json_schema.get("schema") if isinstance(json_schema, dict) else None
        if not isinstance(schema, dict):
            raise invalid_parameter(
                "response_format", "response_format.json_schema.schema must be a JSON Schema object."
            )
        return schema, False
    if kind not in ("text", "json_object"):
        raise invalid_parameter(
            "response_format", f"response_format.type must be text, json_object or json_schema, got {kind!r}."
        )
    return None, kind == "json_object"


async def _moderate_prompt(generation: Generation, call: InferenceRequest) -> dict[str, Any]:
    texts = prompt_texts(generation.messages)
    severities = await score(call.models.moderator, texts)
    faults = call.faults
    results = prompt_results(severities, block=faults.block_prompt, down=faults.filter_down)
    if is_filtered(results) or faults.block_prompt:
        filters = [{**content_filter(results, "prompt", sum(map(len, texts))), "blocked": True}]
        raise content_policy_error(results, filters, faults, "messages")
    return results


class _Completion:
    """The response to one request, full or as chunks."""

    def __init__(
        self, call: InferenceRequest, model: str, generation: Generation, choices: int, prompt_results: dict[str, Any]
    ) -> None:
        self._call = call
        self._generation = generation
        self._choices = choices
        self._prompt_filters = [{"prompt_index": 0, "content_filter_results": prompt_results}]
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"fp_{hashlib.sha256(model.encode()).hexdigest()[:10]}",
        }

    def _generate(self, index: int) -> AsyncGenerator[Text | Finish, None]:
        call = self._call
        return generate(self._generation.for_choice(index), call.models, call.threads, call.faults)

    async def full(self) -> dict[str, Any]:
        choices = []
        finishes = []
        for index in range(self._choices):
            texts: list[str] = []
            async with aclosing(self._generate(index)) as items:
                async for item in items:
                    if isinstance(item, Text):
                        texts.append(item.text)
                    else:
                        finish = item
            finishes.append(finish)
            choices.append(
                {
                    "index": index,
                    "finish_reason": self._finish_reason(finish),
                    "logprobs": _logprobs(finish),
                    "message": self._message("".join(texts)),
                    "content_filter_results": finish.filter_results,
                }
            )
        return {
            **{"id": self._head["id"], "object": "chat.completion"},
            **self._head,
            "choices": choices,
            "prompt_filter_results": self._prompt_filters,
            "usage": _usage(finishes),
        }

    def _message(self, text: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text, "annotations": [], "refusal": None}
        if self._generation.tool is not None:
            message["content"] = None
            message["tool_calls"] = [
                {
                    "id": _call_id(),
                    "type": "function",
                    "function": {"name": self._generation.tool.name, "arguments": text},
                }
            ]
        return message

    def _finish_reason(self, finish: Finish) -> str:
        """Count the tokens of a finished choice and return its finish reason."""
        self._call.usage.tokens_in = finish.prompt_tokens
        self._call.usage.tokens_out += finish.completion_tokens
        return (
            "tool_calls"
            if self._generation.tool is not None and finish.finish_reason == "stop"
            else finish.finish_reason
        )

    async def chunks(self, with_usage: bool) -> AsyncGenerator[Event, None]:
        faults = self._call.faults
        finishes: list[Finish] = []
        counter = 0
        for index in range(self._choices):
            async with aclosing(await wait_for_first(self._generate(index))) as items:
                if index == 0 and not faults.no_prompt_chunk:
                    yield Event(_filter_chunk([], prompt_filter_results=self._prompt_filters))
                async for choice in self._deltas(index, items, finishes):
                    yield Event(self._chunk([choice], counter, with_usage))
                    counter += 1
            if finishes[-1].filtered_late:
                for annotation in _annotations(index, finishes[-1].filter_results):
                    yield Event(annotation)
        if with_usage and not any(finish.finish_reason == "content_filter" for finish in finishes):
            # The upstream ends a filtered stream without the usage chunk.
            yield Event(self._chunk([], counter, with_usage) | {"usage": _usage(finishes)})

    async def _deltas(
        self, index: int, items: AsyncGenerator[Text | Finish, None], finishes: list[Finish]
    ) -> AsyncGenerator[dict[str, Any], None]:
        tool = self._generation.tool
        opening: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if tool is not None:
            first = {"id": _call_id(), "type": "function", "function": {"name": tool.name, "arguments": ""}}
            opening = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **first}]}
        yield _choice(index, opening)
        async for item in items:
            if isinstance(item, Finish):
                finishes.append(item)
                results = item.filter_results if item.finish_reason == "content_filter" else {}
                yield _choice(index, {}, self._finish_reason(item), results, _logprobs(item))
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
    """Return the ``obfuscation`` of a chunk: text of varying length that hides the length of the delta."""
    digest = hashlib.sha256(counter.to_bytes(8, "big")).hexdigest()
    text = digest[1 : 1 + int(digest[0], 16)]
    # Splitting a character requires a multi-byte character in each chunk.
    return text + "é" if faults.split_utf8 else text


def _choice(
    index: int,
    delta: dict[str, Any],
    finish_reason: str | None = None,
    results: Mapping[str, Any] | None = None,
    logprobs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "index": index,
        "delta": delta,
        "logprobs": logprobs,
        "finish_reason": finish_reason,
        "content_filter_results": dict(results or {}),
    }


def _logprobs(finish: Finish) -> dict[str, Any] | None:
    return {"content": list(finish.logprobs), "refusal": None} if finish.logprobs else None


def _filter_chunk(choices: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    """Return a chunk with filter results only: its id and model are empty."""
    return {"id": "", "object": "", "created": 0, "model": "", "choices": choices, **members}


def _annotations(index: int, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the chunks of the asynchronous filter, sent after the text: one category per chunk."""
    offsets = {"check_offset": 0, "start_offset": 0, "end_offset": 0}
    return [
        _filter_chunk(
            [
                {
                    "index": index,
                    "finish_reason": None,
                    "content_filter_results": {name: result},
                    "content_filter_offsets": offsets,
                }
            ]
        )
        for name, result in results.items()
    ]


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _usage(finishes: list[Finish]) -> dict[str, Any]:
    prompt = finishes[0].prompt_tokens
    completion = sum(finish.completion_tokens for finish in finishes)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "audio_tokens": 0,
            "reasoning_tokens": sum(finish.reasoning_tokens for finish in finishes),
            "rejected_prediction_tokens": 0,
        },
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
    }


def _error_event(error: Exception | None, call: InferenceRequest) -> Event:
    """Return the event for an error in mid-stream; ``None`` is an error requested by a fault."""
    if not isinstance(error, APIException):
        message = None if error is None else "The local model failed while generating the response."
        error = APIException("INFERENCE_ERROR", message)
    return Event({"error": error.error_object(call.request_id)})

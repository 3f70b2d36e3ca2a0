"""Chat Completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, Unpack, overload

import pydantic_core

from skytells_nb.client.parameters import ChatParams, request_fields, request_options
from skytells_nb.client.serialization import (
    check_accompanying_error,
    check_not_streaming,
    check_parsed_model,
    dump_json,
    not_an_answer,
    parse,
    parse_text,
    to_plain,
    validate,
    validate_request,
)
from skytells_nb.client.streaming import KEEP_ALIVE, Stream, buffered_events
from skytells_nb.client.transport.sse import ServerSentEvent
from skytells_nb.client.transport.transport import Transport
from skytells_nb.error_bodies import ends_in_error
from skytells_nb.types.base import ResponseModel
from skytells_nb.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatMessage,
    ChatRequest,
    ChatUsage,
    Choice,
    ChunkChoice,
    FunctionCall,
    ToolCall,
    documented_reason,
)
from skytells_nb.types.json_schema import named_json_schema
from skytells_nb.types.safety import Finding, PromptFilterResult, Safety, merge_results, model_findings, prompt_findings
from skytells_nb.types.signatures import expand_signature

Messages: TypeAlias = Sequence[Mapping[str, Any] | ChatMessage] | str
ChatStream: TypeAlias = Stream[ChatCompletionChunk, ChatCompletion]


class Completions:
    """``POST /chat/completions``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @overload
    def create(
        self, *, model: str, messages: Messages, stream: Literal[False] = False, **params: Unpack[ChatParams]
    ) -> ChatCompletion: ...
    @overload
    def create(
        self, *, model: str, messages: Messages, stream: Literal[True], **params: Unpack[ChatParams]
    ) -> ChatStream: ...
    @overload
    def create(
        self, *, model: str, messages: Messages, stream: bool, **params: Unpack[ChatParams]
    ) -> ChatCompletion | ChatStream: ...
    @expand_signature(ChatParams)
    def create(
        self, *, model: str, messages: Messages, stream: bool = False, **params: Unpack[ChatParams]
    ) -> ChatCompletion | ChatStream:
        """Ask the model for a completion, returned whole or as a stream of chunks.

        Parameters
        ----------
        model : str
            Name of the model, such as ``"deepbrain-router"``.
        messages : str or sequence of (mapping or ChatMessage)
            The conversation as ``{"role": ..., "content": ...}`` and the messages of earlier completions. A string is
            one message of the user.
        stream : bool, default False
            Whether to return a stream of chunks instead of the whole completion.
        **params : Unpack[ChatParams]
            Optional parameters of the API: ``temperature`` (0 to 2), ``max_tokens``, ``top_p`` (0 to 1), ``seed``,
            ``stop``, ``tools``, ``tool_choice``, ``response_format``, and more. ``None`` leaves a parameter out.
            ``extra_body`` is a mapping of further fields, sent as they are; ``extra_headers`` and ``extra_query`` are
            added to the request, and ``timeout`` (seconds) is its own.

        Returns
        -------
        ChatCompletion or ChatStream
            The completion, with ``.text``, ``.usage`` and ``.safety``; with ``stream=True`` an iterator of
            ChatCompletionChunk, whose ``.text`` iterates over the text and whose ``.final`` is the whole completion.

        Raises
        ------
        InputError
            If a parameter has the wrong type, is out of range or is misspelled; nothing is sent.
        APIError
            If the service responds with an error.
        TransportError
            If no response arrives.
        InvalidResponseError
            If the response is not a completion, or a stream ends early.

        Examples
        --------
        >>> completion = client.chat.completions.create(model="deepbrain-router", messages="Say hello.", max_tokens=1)
        >>> completion.finish_reason
        'length'
        >>> with client.chat.completions.create(model="deepbrain-router", messages="Count.", stream=True) as stream:
        ...     text = "".join(stream.text)
        >>> text == stream.final.text
        True
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        required = {"model": model, "messages": to_plain(messages), "stream": stream or None}
        request = validate_request(ChatRequest, **request_fields(ChatParams, required, params))
        if stream:
            source = self._transport.stream("/chat/completions", dump_json(request), request_options(params))
            return Stream(source, ChatAccumulator(source.origin))
        reply = self._transport.send("POST", "/chat/completions", dump_json(request), request_options(params))
        events = None if reply.content[:1] == b"{" else buffered_events(reply)
        if events is not None:
            return Stream(events, ChatAccumulator(reply.origin)).final
        completion = parse(ChatCompletion, reply, ("choices",))
        if "choices" not in completion.model_fields_set:
            del completion  # not in the variables of a traceback: a proxy may have put the key into it
            raise not_an_answer("completion", reply)
        completion._request_id = reply.request_id
        if completion.model_extra and completion.model_extra.get("error"):
            check_accompanying_error(completion, reply.origin)
        return completion

    def parse(self, *, model: str, messages: Messages, response_format: Any, **params: Any) -> ChatCompletion:
        """Ask the model for a completion that matches a pydantic model, and parse it.

        Parameters
        ----------
        model : str
            Name of the model.
        messages : str or sequence of (mapping or ChatMessage)
            As in ``create``.
        response_format : type of pydantic.BaseModel
            The model that the completion must match.
        **params
            As in ``create``.

        Returns
        -------
        ChatCompletion
            The completion. ``.parsed`` is the object of its first choice, ``.choices[0].message.parsed`` that of each;
            ``None`` for a refusal, or a choice that only calls tools.

        Raises
        ------
        InputError
            If ``response_format`` is not a pydantic model; nothing is sent.
        InvalidResponseError
            If the completion was cut or filtered, or does not match.

        Examples
        --------
        >>> class Animal(pydantic.BaseModel):
        ...     name: str
        >>> client.chat.completions.parse(model="m", messages="A cat.", response_format=Animal).parsed  # doctest: +SKIP
        Animal(name='cat')
        """
        check_parsed_model(response_format, "response_format")
        check_not_streaming(params)
        named = {"type": "json_schema", "json_schema": named_json_schema(response_format)}
        completion: ChatCompletion = self.create(model=model, messages=messages, **{**params, "response_format": named})
        for choice in completion.choices:
            message = choice.message
            if not message.refusal and (message.content or not message.tool_calls):
                message._parsed = parse_text(
                    response_format, message.content, documented_reason(choice.finish_reason), completion.request_id
                )
        return completion


class Chat:
    """The ``chat`` namespace; ``chat.completions.create`` is the call."""

    def __init__(self, transport: Transport) -> None:
        self.completions = Completions(transport)


class ChatAccumulator:
    """Assembles a streamed completion: text and tool calls by index, safety results merged, the last usage.

    What it has no name for is kept too: the parts of a message grow together, other members keep their last value.
    """

    ends_with_done = True
    payload = ("choices",)

    def __init__(self, origin: str = "") -> None:
        self.complete = False
        self._origin = origin
        self._head: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._choices: dict[int, _ChoiceBuilder] = {}
        self._usage: ChatUsage | None = None
        self._prompt_results: list[PromptFilterResult] = []
        self._safety = Safety()

    @property
    def ended(self) -> bool:
        return any(builder.finish_reason for builder in self._choices.values())

    def is_plain(self, body: Mapping[str, Any]) -> bool:
        choices = body.get("choices")
        if type(choices) is not list:
            return False
        if not choices:
            # The results of the prompt, or the usage.
            return bool(body.get("prompt_filter_results") or body.get("usage"))
        first = choices[0]
        if type(first) is not dict or "error" in first:
            return False
        reason, delta = first.get("finish_reason"), first.get("delta")
        ended = reason is None or reason in _ENDS or not ends_in_error(reason)
        return ended and not (type(delta) is dict and "error" in delta)

    def passes_over(self, body: Mapping[str, Any], event: ServerSentEvent) -> bool:
        if body.get("choices") or body.get("usage") or body.get("type") == "error":
            return False
        names = (body.get("type"), body.get("event"), body.get("object"), event.event)
        return not (body.keys() - {"type"}) or any(isinstance(n, str) and n.lower() in KEEP_ALIVE for n in names)

    def add(self, body: dict[str, Any]) -> ChatCompletionChunk:
        # A gateway that does not stream sends the whole completion as one piece.
        whole = not _has_delta(body) and _bring_into_chunk_form(body)
        chunk = validate(ChatCompletionChunk, body, request_id=None, origin=self._origin)
        for name in ("id", "created", "model", "system_fingerprint"):
            self._head[name] = self._head.get(name) or getattr(chunk, name)
        self._usage = chunk.usage or self._usage
        if chunk.model_extra:
            _keep_last(self._extra, chunk.model_extra)
        new_findings: tuple[Finding, ...] = ()
        if chunk.prompt_filter_results:
            self._prompt_results += chunk.prompt_filter_results
            new_findings = prompt_findings(chunk.prompt_filter_results)
        for choice in chunk.choices:
            self._choices.setdefault(choice.index, _ChoiceBuilder()).add(choice)
            new_findings += model_findings(choice, "completion", choice.index)
        if new_findings:
            self._safety = self._safety.merge(Safety(new_findings))
        self.complete = whole
        return chunk

    def text(self, piece: ChatCompletionChunk) -> str:
        return piece.text

    def partial_text(self) -> str:
        return "".join(self._choices[0].text) if 0 in self._choices else ""

    def build(self, finish_reason: str | None, request_id: str | None) -> ChatCompletion:
        choices = [builder.build(index, finish_reason) for index, builder in sorted(self._choices.items())]
        if not choices and finish_reason is not None:
            choices = [Choice(finish_reason=finish_reason, message=ChatMessage(content=""))]
        completion = ChatCompletion(
            id=self._head.get("id") or "",
            created=self._head.get("created") or 0,
            model=self._head.get("model") or "",
            system_fingerprint=self._head.get("system_fingerprint"),
            choices=choices,
            usage=self._usage,
            prompt_filter_results=self._prompt_results or None,
        )
        _set_extra(completion, self._extra)
        completion._request_id = request_id
        completion._streamed_safety = self._safety
        return completion


def _has_delta(body: Mapping[str, Any]) -> bool:
    """Whether the choices hold what is new in them, or there are none."""
    choices = body.get("choices")
    return not choices or (type(choices) is list and type(choices[0]) is dict and type(choices[0].get("delta")) is dict)


def _bring_into_chunk_form(body: dict[str, Any]) -> bool:
    from skytells_nb.client.transport.body_forms import chunk_form

    return chunk_form(body)


class _ChoiceBuilder:
    """Assembles one choice from its chunks."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.finish_reason: str | None = None
        self._refusal: list[str] = []
        self._calls: list[ToolCall] = []
        self._logprobs: dict[str, Any] = {}
        self._results: dict[str, Any] = {}
        self._offsets: dict[str, Any] | None = None
        self._extra: dict[str, Any] = {}
        self._message_extra: dict[str, Any] = {}

    def add(self, choice: ChunkChoice) -> None:
        delta = choice.delta
        if choice.finish_reason and self.finish_reason != "content_filter":
            self.finish_reason = choice.finish_reason
        if choice.logprobs:
            self._logprobs = merge_member(self._logprobs, choice.logprobs)
        if choice.content_filter_results:
            merge_results(self._results, choice.content_filter_results)
        self._offsets = choice.content_filter_offsets or self._offsets
        self.text.append(delta.content)
        if delta.refusal:
            self._refusal.append(delta.refusal)
        if delta.tool_calls:
            self._add_calls(delta.tool_calls)
        if choice.model_extra:
            _keep_last(self._extra, choice.model_extra)
        if delta.model_extra:
            for name, value in delta.model_extra.items():
                if value is not None and name not in _TYPED:
                    self._message_extra[name] = merge_member(self._message_extra.get(name), value)

    def _add_calls(self, parts: list[ToolCall]) -> None:
        """Add fragments of tool calls; indexes may be missing, or the same for calls that are not."""
        grown: list[ToolCall] = []
        for position, part in enumerate(parts):
            call = self._call_of(part, grown, position if len(parts) > 1 else None)
            if call is None:
                call = ToolCall(index=len(self._calls) if part.index is None else part.index, type=part.type)
                call.function = FunctionCall(name="", arguments="")
                self._calls.append(call)
            grown.append(call)
            name, call.id = part.function.name, part.id or call.id
            # Some services repeat the whole name with every fragment.
            if name and not (name == call.function.name and (part.id or call.function.arguments)):
                call.function.name += name
            call.function.arguments += part.function.arguments
            for owner, extra in ((call, part.model_extra), (call.function, part.function.model_extra)):
                if extra:
                    _set_extra(owner, {n: merge_member((owner.model_extra or {}).get(n), v) for n, v in extra.items()})

    def _call_of(self, part: ToolCall, grown: list[ToolCall], position: int | None) -> ToolCall | None:
        """Return the call that a fragment continues, ``None`` if it begins another one."""
        name = part.function.name
        if part.id:
            # Some services give every call the same id.
            known = [c for c in self._calls if c.id == part.id and (part.index in (None, c.index) or not name)]
            if known:
                call = known[-1]
                again = name and name != call.function.name and _is_json(call.function.arguments)
                return None if again or (name and any(call is other for other in grown)) else call
        if part.index is not None:
            same = [call for call in self._calls if call.index == part.index]
        elif position is not None and position < len(self._calls) and not part.id and not part.function.name:
            same = [self._calls[position]]
        else:
            same = self._calls[-1:]
        if not same:
            return None
        call = same[-1]
        # Within one chunk, or with a name after whole arguments, it is another call that has the same index.
        begins = bool(part.function.name) and (
            any(call is other for other in grown)
            or bool(part.id and call.id and part.id != call.id)
            or (part.index is None and bool(call.function.name) and not part.id and not _is_repeated(part, call))
            or (bool(call.function.arguments) and not _is_repeated(part, call) and _is_json(call.function.arguments))
        )
        if part.index is None and part.id and call.id and part.id != call.id:
            begins = True
        return None if begins else call

    def build(self, index: int, finish_reason: str | None) -> Choice:
        text = "".join(self.text)
        tools = sorted(self._calls, key=lambda call: call.index or 0)
        indexes = [call.index for call in tools]
        if len(set(indexes)) < len(indexes):
            tools = [call.model_copy(update={"index": place}) for place, call in enumerate(tools)]
        # Only received fields are set: a message that is sent back has the same fields.
        received: dict[str, Any] = {"content": text} if text or not tools else {}
        if tools:
            received["tool_calls"] = tools
        message = ChatMessage(refusal="".join(self._refusal) or None, **received)
        _set_extra(message, self._message_extra)
        choice = Choice(
            index=index,
            message=message,
            finish_reason=self.finish_reason or finish_reason,
            logprobs=self._logprobs or None,
            content_filter_results=self._results or None,
        )
        offsets = {} if self._offsets is None else {"content_filter_offsets": self._offsets}
        _set_extra(choice, {**self._extra, **offsets})
        return choice


_ENDS = ("stop", "length", "tool_calls", "content_filter")
_TYPED = frozenset(("content", "role", "refusal", "tool_calls", "delta", "message"))
_NAMES = frozenset(("id", "type", "role", "index", "format", "object", "status", "signature", "name", "mime_type"))
"""Members whose text is a name, which is repeated and does not grow."""


def _is_repeated(part: ToolCall, call: ToolCall) -> bool:
    """Whether a fragment says the call's own name again."""
    return part.function.name == call.function.name and part.id == call.id and bool(part.id)


def _is_json(text: str) -> bool:
    try:
        pydantic_core.from_json(text)
    except ValueError:
        return False
    return True


def merge_member(old: Any, new: Any) -> Any:
    """Return a member of a message after a delta: texts and lists grow, objects by their members.

    >>> merge_member({"text": "Hel"}, {"text": "lo"})
    {'text': 'Hello'}
    """
    if old is None or new is None:
        return new if old is None else old
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, dict) and isinstance(new, dict):
        return {
            **old,
            **{
                name: (value if value else old.get(name)) if name in _NAMES else merge_member(old.get(name), value)
                for name, value in new.items()
                if value is not None
            },
        }
    if isinstance(old, list) and isinstance(new, list):
        # Some services send the list so far, others what is new in it.
        return new if new[: len(old)] == old else _merge_lists(old, new)
    return new


def _merge_lists(old: list[Any], new: list[Any]) -> list[Any]:
    """Return a list with its new entries; entries with the index of an earlier one continue it."""
    merged = list(old)
    places = {e["index"]: n for n, e in enumerate(merged) if isinstance(e, dict) and isinstance(e.get("index"), int)}
    for entry in new:
        index = entry.get("index") if isinstance(entry, dict) else None
        if isinstance(index, int) and index in places:
            merged[places[index]] = merge_member(merged[places[index]], entry)
        else:
            if isinstance(index, int):
                places[index] = len(merged)
            merged.append(entry)
    return merged


def _keep_last(kept: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Keep the last value of each member; the padding against traffic analysis is nothing to keep."""
    for name, value in new.items():
        if value is not None and name != "obfuscation" and name not in _TYPED:
            old = kept.get(name)
            kept[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value


def _set_extra(model: ResponseModel, extra: Mapping[str, Any]) -> None:
    """Keep members that the model has no name for, or has none of."""
    for name, value in extra.items():
        if model.__pydantic_extra__ is not None and not (name in type(model).model_fields and getattr(model, name)):
            model.__pydantic_extra__[name] = value

"""Chat Completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, Unpack, overload

from skytells_nb.client.parameters import ChatParams, request_fields
from skytells_nb.client.serialization import dump_json, parse, to_plain, validate, validate_request
from skytells_nb.client.streaming import Stream
from skytells_nb.client.transport.transport import Transport
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
)
from skytells_nb.types.safety import Safety, findings, prompt_findings
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
            ``extra_body`` is a mapping of further fields, sent as they are.

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
            return Stream(self._transport.stream("/chat/completions", dump_json(request)), ChatAccumulator())
        reply = self._transport.send("POST", "/chat/completions", dump_json(request))
        completion = parse(ChatCompletion, reply, ("choices",))
        completion._request_id = reply.request_id
        return completion


class Chat:
    """The ``chat`` namespace; ``chat.completions.create`` is the call."""

    def __init__(self, transport: Transport) -> None:
        self.completions = Completions(transport)


class ChatAccumulator:
    """Assembles a streamed completion: text and tool calls by index, safety results merged, the last usage."""

    ends_with_done = True

    def __init__(self) -> None:
        self.complete = False
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _ChoiceBuilder] = {}
        self._usage: ChatUsage | None = None
        self._safety = Safety()

    def add(self, body: dict[str, Any]) -> ChatCompletionChunk:
        chunk = validate(ChatCompletionChunk, body, request_id=None)
        for name in ("id", "created", "model", "system_fingerprint"):
            self._head[name] = self._head.get(name) or getattr(chunk, name)
        self._usage = chunk.usage or self._usage
        new_findings = prompt_findings(chunk.prompt_filter_results)
        for choice in chunk.choices:
            self._choices.setdefault(choice.index, _ChoiceBuilder()).add(choice)
            new_findings += findings(choice.content_filter_results, "completion", choice.index)
        if new_findings:
            self._safety = self._safety.merge(Safety(new_findings))
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
        )
        completion._request_id = request_id
        completion._streamed_safety = self._safety
        return completion


class _ChoiceBuilder:
    """Assembles one choice from its chunks."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self._refusal: list[str] = []
        self._tools: dict[int, ToolCall] = {}
        self._logprobs: list[Any] = []
        self._finish_reason: str | None = None

    def add(self, choice: ChunkChoice) -> None:
        if self._finish_reason != "content_filter":
            self._finish_reason = choice.finish_reason or self._finish_reason
        self._logprobs += (choice.logprobs or {}).get("content") or ()
        self.text.append(choice.delta.content)
        if choice.delta.refusal:
            self._refusal.append(choice.delta.refusal)
        for position, part in enumerate(choice.delta.tool_calls):
            index = part.index if part.index is not None else position
            call = self._tools.setdefault(index, ToolCall(index=index, function=FunctionCall(name="", arguments="")))
            call.id = part.id or call.id
            call.function.name += part.function.name
            call.function.arguments += part.function.arguments

    def build(self, index: int, finish_reason: str | None) -> Choice:
        text = "".join(self.text)
        tools = [call for _, call in sorted(self._tools.items())]
        # Only received fields are set: a message that is sent back has the same fields.
        received: dict[str, Any] = {"content": text} if text or not tools else {}
        if tools:
            received["tool_calls"] = tools
        message = ChatMessage(refusal="".join(self._refusal) or None, **received)
        return Choice(
            index=index,
            message=message,
            finish_reason=self._finish_reason or finish_reason,
            logprobs={"content": self._logprobs} if self._logprobs else None,
        )

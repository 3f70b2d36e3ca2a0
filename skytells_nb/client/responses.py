"""Responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, Unpack, overload

from skytells_nb.client.parameters import ResponsesParams, request_fields, request_options
from skytells_nb.client.serialization import (
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
from skytells_nb.errors import InvalidResponseError
from skytells_nb.types.json_schema import named_json_schema
from skytells_nb.types.responses import (
    TERMINAL_EVENTS,
    ContentPart,
    OutputItem,
    Response,
    ResponseEvent,
    ResponsesRequest,
)
from skytells_nb.types.signatures import expand_signature

Input: TypeAlias = Sequence[Mapping[str, Any] | OutputItem] | str
ResponseStream: TypeAlias = Stream[ResponseEvent, Response]


class Responses:
    """``POST /responses``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @overload
    def create(
        self, *, model: str, input: Input, stream: Literal[False] = False, **params: Unpack[ResponsesParams]
    ) -> Response: ...
    @overload
    def create(
        self, *, model: str, input: Input, stream: Literal[True], **params: Unpack[ResponsesParams]
    ) -> ResponseStream: ...
    @overload
    def create(
        self, *, model: str, input: Input, stream: bool, **params: Unpack[ResponsesParams]
    ) -> Response | ResponseStream: ...
    @expand_signature(ResponsesParams)
    def create(
        self, *, model: str, input: Input, stream: bool = False, **params: Unpack[ResponsesParams]
    ) -> Response | ResponseStream:
        """Ask the model for a response, returned whole or as a stream of events.

        Parameters
        ----------
        model : str
            Name of the model, such as ``"gpt-5.4"``.
        input : str or sequence of (mapping or OutputItem)
            The text, or the items of a conversation, among them the items of an earlier ``response.output``.
        stream : bool, default False
            Whether to return a stream of events instead of the whole response.
        **params : Unpack[ResponsesParams]
            Optional parameters of the API: ``instructions``, ``temperature`` (0 to 2), ``max_output_tokens``, ``top_p``
            (0 to 1), ``text``, ``reasoning``, ``tools``, ``tool_choice``, and more. ``None`` leaves a parameter out. To
            continue a response pass its id as ``previous_response_id``; this needs ``store=True`` on the earlier one,
            whose default differs between deployments. ``extra_body`` is a mapping of further fields, sent as they are;
            ``extra_headers`` and ``extra_query`` are added to the request, and ``timeout`` (seconds) is its own.

        Returns
        -------
        Response or ResponseStream
            The response, with ``.output_text``, ``.usage`` and ``.safety``; with ``stream=True`` an iterator of
            ResponseEvent, events of unknown types among them.

        Raises
        ------
        InputError
            If a parameter has the wrong type, is out of range or is misspelled; nothing is sent.
        APIError
            If the service responds with an error.
        TransportError
            If no response arrives.
        InvalidResponseError
            If the response has another form, or a stream ends early.

        Examples
        --------
        >>> response = client.responses.create(model="gpt-5.4", input="Say hello.", max_output_tokens=1)
        >>> response.status, response.finish_reason
        ('incomplete', 'length')
        """
        required = {"model": model, "input": to_plain(input), "stream": stream or None}
        request = validate_request(ResponsesRequest, **request_fields(ResponsesParams, required, params))
        if stream:
            source = self._transport.stream("/responses", dump_json(request), request_options(params))
            return Stream(source, ResponseAccumulator(source.origin))
        reply = self._transport.send("POST", "/responses", dump_json(request), request_options(params))
        events = None if reply.content[:1] == b"{" else buffered_events(reply)
        if events is not None:
            return Stream(events, ResponseAccumulator(reply.origin)).final
        response = parse(Response, reply, ("output",))
        if not response.model_fields_set & {"output", "status"} and not response.output_text:
            del response  # not in the variables of a traceback: a proxy may have put the key into it
            raise not_an_answer("response", reply)
        response._request_id = reply.request_id
        return response

    def parse(self, *, model: str, input: Input, text_format: Any, **params: Any) -> Response:
        """Ask the model for a response that matches a pydantic model, and parse it.

        Parameters
        ----------
        model : str
            Name of the model.
        input : str or sequence of (mapping or OutputItem)
            As in ``create``.
        text_format : type of pydantic.BaseModel
            The model that the text must match.
        **params
            As in ``create``.

        Returns
        -------
        Response
            The response, with the object as ``.output_parsed``; ``None`` for a refusal, or a response that only calls
            tools.

        Raises
        ------
        InputError
            If ``text_format`` is not a pydantic model; nothing is sent.
        InvalidResponseError
            If the response was cut or filtered, or does not match.

        Examples
        --------
        >>> class Animal(pydantic.BaseModel):
        ...     name: str
        >>> client.responses.parse(model="m", input="A cat.", text_format=Animal).output_parsed  # doctest: +SKIP
        Animal(name='cat')
        """
        check_parsed_model(text_format, "text_format")
        check_not_streaming(params)
        named = {"type": "json_schema", **named_json_schema(text_format)}
        text = {**(params.get("text") or {}), "format": named}
        response: Response = self.create(model=model, input=input, **{**params, "text": text})
        kinds = {item.type for item in response.output}
        refused = any(part.type == "refusal" for item in response.output for part in item.content)
        if not refused and (response.output_text or "function_call" not in kinds):
            response._output_parsed = parse_text(
                text_format, response.output_text, response.finish_reason, response.request_id
            )
        return response


class ResponseAccumulator:
    """Follows a stream of events; the terminal event contains the whole response, or what had streamed completes it."""

    ends_with_done = False
    payload = ("type", "response", "output")

    def __init__(self, origin: str = "") -> None:
        self.complete = False
        self._origin = origin
        self._last: Response | None = None
        self._ended_as: str | None = None
        self._text: list[str] = []
        self._unstreamed: tuple[ResponseEvent, str] | None = None
        self._items: dict[int, _ItemBuilder] = {}

    @property
    def ended(self) -> bool:
        return self.complete

    def is_plain(self, body: Mapping[str, Any]) -> bool:
        kind = body.get("type")
        return type(kind) is str and kind.startswith("response.")

    def passes_over(self, body: Mapping[str, Any], event: ServerSentEvent) -> bool:
        # Events of other unknown types are passed on.
        kind = body.get("type")
        return not body or (isinstance(kind, str) and kind.lower() in KEEP_ALIVE)

    def add(self, body: dict[str, Any]) -> ResponseEvent:
        if "type" not in body and ("output" in body or body.get("object") == "response"):
            # A gateway that does not stream: the whole response is one piece.
            status = body.get("status")
            body = {"type": f"response.{status if isinstance(status, str) else 'completed'}", "response": body}
        try:
            event = validate(ResponseEvent, body, request_id=None, origin=self._origin)
        except InvalidResponseError:
            if body.get("type") in TERMINAL_EVENTS:
                raise
            # An unknown event may use these field names for other values.
            event = ResponseEvent.model_construct(**{**body, "response": None})
        if event.text:
            self._text.append(event.text)
        if event.output_index is not None or event.item is not None:
            self._items.setdefault(event.output_index or 0, _ItemBuilder()).add(event)
        elif event.text or event.type.startswith(_IN_PART):
            # A gateway that does not number its items.
            self._items.setdefault(0, _ItemBuilder()).add(event)
        if event.response is not None:
            self._last = _with_filters(event.response, self._last)
        if event.type in TERMINAL_EVENTS:
            self.complete = True
            self._ended_as = event.type.removeprefix("response.")
            # Of a text that came as a whole nothing has streamed.
            if not self._text and (unstreamed := self.build(None, None).output_text):
                self._unstreamed = event, unstreamed
        return event

    def text(self, piece: ResponseEvent) -> str:
        if self._unstreamed is not None and piece is self._unstreamed[0]:
            return self._unstreamed[1]
        return piece.text

    def partial_text(self) -> str:
        return "".join(self._text)

    def build(self, finish_reason: str | None, request_id: str | None) -> Response:
        response = self._last.model_copy() if self._last is not None else Response(status="in_progress")
        response._request_id = request_id
        if self.complete and response.status in ("in_progress", "queued") and self._ended_as is not None:
            response.status = self._ended_as
        # The terminal snapshot of some gateways lacks the output, as that of a failed response may.
        streamed = [builder.build() for _, builder in sorted(self._items.items())]
        has_text = any(part.text for item in streamed for part in item.content)
        if not self.complete or (streamed and (not response.output or (has_text and not response.output_text))):
            whole = self.complete and response.status == "completed"
            other_items = [item for item in response.output if item.type != "message"]
            known = {(item.type, item.id or item.call_id) for item in other_items}
            new = [item for item in streamed if (item.type, item.id or item.call_id) not in known]
            response.output = [*other_items, *(item for item in new if whole or _has_content(item))]
            for item in response.output:
                if item.type == "message" and not whole:
                    item.status = "incomplete"
        if not self.complete and finish_reason is not None:
            response.status, response.incomplete_details = "incomplete", {"reason": finish_reason}
        return response


class _ItemBuilder:
    """Assembles one item of the output from its events."""

    def __init__(self) -> None:
        self._done: OutputItem | None = None
        self._begun: OutputItem | None = None
        self._parts: dict[int, dict[str, Any]] = {}
        self._summary: dict[int, str] = {}
        self._arguments: list[str] = []

    def add(self, event: ResponseEvent) -> None:
        kind, extra = event.type, event.model_extra or {}
        if event.item is not None:
            if kind == "response.output_item.done":
                self._done = event.item
            else:
                self._begun = self._begun or event.item
            return
        part = self._parts.setdefault(event.content_index or 0, {}) if kind.startswith(_IN_PART) else {}
        delta = event.delta if isinstance(event.delta, str) else ""
        if kind in ("response.content_part.added", "response.content_part.done"):
            given = extra.get("part")
            part.update({n: v for n, v in given.items() if v} if isinstance(given, dict) else {})
        elif kind == "response.output_text.delta":
            part["text"] = part.get("text", "") + delta
            if isinstance(logprobs := extra.get("logprobs"), list):
                part["logprobs"] = [*part.get("logprobs", ()), *logprobs]
        elif kind == "response.output_text.done" and isinstance(extra.get("text"), str):
            part["text"] = extra["text"]
        elif kind == "response.output_text.annotation.added":
            part["annotations"] = [*part.get("annotations", ()), extra.get("annotation")]
        elif kind == "response.refusal.delta":
            part.update(type="refusal", refusal=part.get("refusal", "") + delta)
        elif kind == "response.refusal.done" and isinstance(extra.get("refusal"), str):
            part.update(type="refusal", refusal=extra["refusal"])
        elif kind == "response.function_call_arguments.delta":
            self._arguments.append(delta)
        elif kind == "response.function_call_arguments.done" and isinstance(extra.get("arguments"), str):
            self._arguments = [extra["arguments"]]
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            place = extra.get("summary_index")
            place = place if isinstance(place, int) else 0
            self._summary[place] = self._summary.get(place, "") + delta

    def build(self) -> OutputItem:
        """Return the item as far as it came; what streamed completes what its last event lacks."""
        item = self._done or self._begun or OutputItem(role="assistant")
        parts = [ContentPart.model_validate(part) for _, part in sorted(self._parts.items()) if part]
        update: dict[str, Any] = {}
        if parts and not any(part.text or part.refusal for part in item.content):
            update["content"] = parts
        elif any(part.annotations for part in parts) and not any(part.annotations for part in item.content):
            update["content"] = [
                part.model_copy(update={"annotations": grown.annotations})
                for part, grown in zip(item.content, parts, strict=False)
            ]
        if self._arguments and not item.arguments:
            update["arguments"] = "".join(self._arguments)
        if self._summary and not item.summary:
            update["summary"] = [{"type": "summary_text", "text": t} for _, t in sorted(self._summary.items())]
        return item.model_copy(update=update)


_IN_PART = ("response.content_part.", "response.output_text.", "response.refusal.")


def _with_filters(new: Response, old: Response | None) -> Response:
    """Return the last snapshot; safety results and usage that only an earlier one had are kept."""
    if old is not None:
        for name in ("content_filters", "usage"):
            if not getattr(new, name) and getattr(old, name):
                setattr(new, name, getattr(old, name))
    return new


def _has_content(item: OutputItem) -> bool:
    return item.type != "message" or any(part.text or part.refusal for part in item.content)

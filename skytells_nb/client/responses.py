"""Responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, Unpack, overload

from skytells_nb.client.parameters import ResponsesParams, request_fields
from skytells_nb.client.serialization import dump_json, parse, to_plain, validate, validate_request
from skytells_nb.client.streaming import Stream
from skytells_nb.client.transport.transport import Transport
from skytells_nb.errors import InvalidResponseError
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
            whose default differs between deployments. ``extra_body`` is a mapping of further fields, sent as they are.

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
            return Stream(self._transport.stream("/responses", dump_json(request)), ResponseAccumulator())
        reply = self._transport.send("POST", "/responses", dump_json(request))
        response = parse(Response, reply, ("output",))
        response._request_id = reply.request_id
        return response


class ResponseAccumulator:
    """Follows a stream of events; the terminal event contains the whole response."""

    ends_with_done = False

    def __init__(self) -> None:
        self.complete = False
        self._last: Response | None = None
        self._text: list[str] = []

    def add(self, body: dict[str, Any]) -> ResponseEvent:
        try:
            event = validate(ResponseEvent, body, request_id=None)
        except InvalidResponseError:
            if body.get("type") in TERMINAL_EVENTS:
                raise
            # An unknown event may use these field names for other values.
            event = ResponseEvent.model_construct(**{**body, "response": None})
        self._last = event.response or self._last
        self._text.append(event.text)
        self.complete = event.type in TERMINAL_EVENTS
        return event

    def text(self, piece: ResponseEvent) -> str:
        return piece.text

    def partial_text(self) -> str:
        return "".join(self._text)

    def build(self, finish_reason: str | None, request_id: str | None) -> Response:
        response = self._last.model_copy() if self._last is not None else Response(status="in_progress")
        response._request_id = request_id
        text = self.partial_text()
        # The snapshot of a failed response may lack the text that was streamed before.
        lacks_text = self.complete and response.status == "failed" and not response.output_text
        if lacks_text or not self.complete:
            partial = OutputItem(role="assistant", status="incomplete", content=[ContentPart(text=text)])
            reasoning = [item for item in response.output if item.type == "reasoning"]
            response.output = [*reasoning, *([partial] if text else [])]
        if not self.complete and finish_reason is not None:
            response.status, response.incomplete_details = "incomplete", {"reason": finish_reason}
        return response

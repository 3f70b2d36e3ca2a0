"""Embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack

import pydantic

from skytells_nb.client.exchange import build, encode, parse
from skytells_nb.client.parameters import EmbeddingParams, expand_signature, request_fields
from skytells_nb.errors import BadRequestError
from skytells_nb.transport.http import Pending, Reply, Transport
from skytells_nb.transport.refusal import hidden_refusal
from skytells_nb.wire.embeddings import EmbeddingRequest, EmbeddingResponse, answer_count_error


class Embeddings:
    """``POST /embeddings``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._base64_refused = False

    @expand_signature(EmbeddingParams)
    def create(
        self,
        *,
        model: str,
        input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        encoding_format: Literal["base64", "float"] = "base64",
        dimensions: int | None = None,
        **params: Unpack[EmbeddingParams],
    ) -> EmbeddingResponse:
        """One vector for each input, in order; ``.matrix`` is float32 (n, d).

        Vectors travel as base64 (2.5 times fewer bytes, no Python floats); a service that refuses that is asked again
        for numbers. Raises AnswerError where the number of vectors is not the number of inputs.

        >>> client.embeddings.create(model="skytells-embed-3-small", input=["a", "b"]).matrix.shape  # doctest: +SKIP
        (2, 1536)
        """
        begun = self.begin(model=model, input=input, encoding_format=encoding_format, dimensions=dimensions, **params)
        return begun if isinstance(begun, EmbeddingResponse) else begun.read()

    @expand_signature(EmbeddingParams)
    def begin(
        self,
        *,
        model: str,
        input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        encoding_format: Literal["base64", "float"] = "base64",
        dimensions: int | None = None,
        **params: Unpack[EmbeddingParams],
    ) -> EmbeddingResponse | PendingEmbeddings:
        """``create`` up to where a large answer begins to come: for who reads many, a few at a time."""
        inputs = input if isinstance(input, str) else _listed(input)
        form = "float" if self._base64_refused else encoding_format
        required = {"model": model, "input": inputs, "dimensions": dimensions, "encoding_format": form}
        fields = request_fields(EmbeddingParams, required, params)
        try:
            return self._begin(build(EmbeddingRequest, **fields))
        except BadRequestError as refusal:
            if form == "float" or refusal.param != "encoding_format":
                raise
            self._base64_refused = True
            return self._begin(build(EmbeddingRequest, **{**fields, "encoding_format": "float"}))

    def _begin(self, request: EmbeddingRequest) -> EmbeddingResponse | PendingEmbeddings:
        single = isinstance(request.input, str) or isinstance(request.input[0], int)
        expected = 1 if single else len(request.input)
        begun = self._transport.begin("POST", "/embeddings", encode(request))
        return _answer(begun, expected) if isinstance(begun, Reply) else PendingEmbeddings(begun, expected)


class PendingEmbeddings:
    """A large answer that begins to come: ``read`` it once, from any thread."""

    def __init__(self, pending: Pending, expected: int) -> None:
        self._pending = pending
        self._expected = expected

    def read(self) -> EmbeddingResponse:
        """The whole answer; raises like ``Embeddings.create``."""
        return _answer(self._pending.read(), self._expected)


def _answer(reply: Reply, expected: int) -> EmbeddingResponse:
    answer = _read(reply)
    answer._request_id = reply.request_id
    if len(answer.rows) != expected:
        raise answer_count_error(expected, len(answer.rows), answer.request_id)
    return answer


def _read(reply: Reply) -> EmbeddingResponse:
    """The answer, read from its JSON at once: 2,048 vectors of 1,536 are 17 MB of text, which is not made twice."""
    try:
        answer = EmbeddingResponse.model_validate_json(reply.content)
    except pydantic.ValidationError:
        # The long way says what is wrong, and reads what can be read all the same.
        return parse(EmbeddingResponse, reply)
    refusal = hidden_refusal(answer.model_extra, reply.request_id)
    if refusal is not None:
        raise refusal
    return answer


def _listed(values: Any) -> Any:
    """Sequences as lists; anything else as it is, for the validation to name."""
    if hasattr(values, "tolist"):  # arrays and series: their numbers as Python's own
        values = values.tolist()
    if isinstance(values, (bytes, Mapping)) or not isinstance(values, Iterable):
        return values
    # Texts first: asking an abstract class about each of 2,048 costs as much as reading the answer.
    return [
        v if type(v) is str else list(v) if isinstance(v, Sequence) and not isinstance(v, (str, bytes)) else v
        for v in values
    ]

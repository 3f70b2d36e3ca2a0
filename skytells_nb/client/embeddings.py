"""Embeddings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack

import pydantic

from skytells_nb.client.parameters import EmbeddingParams, request_fields, request_options
from skytells_nb.client.rejected_parameters import rejects_parameter
from skytells_nb.client.serialization import dump_json, parse, validate_request
from skytells_nb.client.transport.request_options import NO_OPTIONS, RequestOptions
from skytells_nb.client.transport.transport import PendingResponse, ResponseBody, Transport
from skytells_nb.errors import AccountError, APIError, ContentPolicyError, ContextLengthError, RateLimitError
from skytells_nb.types.embeddings import EmbeddingRequest, EmbeddingResponse, answer_count_error
from skytells_nb.types.signatures import expand_signature


class Embeddings:
    """``POST /embeddings``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

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
        """Embed texts: one vector for each input, in the order of the inputs.

        Parameters
        ----------
        model : str
            Name of the embedding model, such as ``"skytells-embed-3-small"``.
        input : str, sequence of str, or token ids
            One text, up to 2,048 texts, the token ids of one text, or a sequence of these.
        encoding_format : {"base64", "float"}, default "base64"
            How vectors travel. Base64 takes 2.5 times fewer bytes and makes no Python floats; where the service rejects
            it, the request is sent again for numbers.
        dimensions : int, optional
            Length of the vectors, where the model supports a shorter one; the default is the model's own.
        **params : Unpack[EmbeddingParams]
            Optional parameters of the API: ``user``, and ``extra_body``, a mapping of further fields, sent as they are.
            ``extra_headers`` and ``extra_query`` are added to the request, and ``timeout`` (seconds) is its own.

        Returns
        -------
        EmbeddingResponse
            ``.matrix`` holds the vectors, float32 of shape (n, d); ``.usage`` the tokens.

        Raises
        ------
        InputError
            If a parameter has the wrong type, is out of range or is misspelled; nothing is sent.
        APIError
            If the service responds with an error.
        TransportError
            If no response arrives.
        InvalidResponseError
            If the number of vectors is not the number of inputs.

        Examples
        --------
        >>> response = client.embeddings.create(
        ...     model="skytells-embed-3-small", input=["a cat", "a dog"], dimensions=256
        ... )
        >>> response.matrix.shape
        (2, 256)
        """
        started = self.begin(model=model, input=input, encoding_format=encoding_format, dimensions=dimensions, **params)
        return started if isinstance(started, EmbeddingResponse) else started.read()

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
        """Start ``create``, for callers that read many responses a few at a time.

        Parameters
        ----------
        model : str
            As in ``create``.
        input : str, sequence of str, or token ids
            As in ``create``.
        encoding_format : {"base64", "float"}, default "base64"
            As in ``create``.
        dimensions : int, optional
            As in ``create``.
        **params : Unpack[EmbeddingParams]
            As in ``create``.

        Returns
        -------
        EmbeddingResponse or PendingEmbeddings
            A small response whole; of a large one, the part that is still to be read.
        """
        inputs = input if isinstance(input, str) else _as_list(input)
        service = self._transport.origin, model
        form = "float" if service in _without_base64 else encoding_format
        required = {"model": model, "input": inputs, "dimensions": dimensions, "encoding_format": form}
        fields, options = required, NO_OPTIONS
        if params:
            fields, options = request_fields(EmbeddingParams, required, params), request_options(params)
        try:
            return self._begin(validate_request(EmbeddingRequest, **fields), options)
        except APIError as error:
            if form == "float" or not _refuses_base64(error):
                raise
        answer = self._begin(validate_request(EmbeddingRequest, **{**fields, "encoding_format": "float"}), options)
        # Known only now: the error may have had another reason, and quoted a text.
        _without_base64.add(service)
        return answer

    def refuses_base64(self, model: str) -> bool:
        """Return whether the service is known to send vectors of this model as numbers only.

        Parameters
        ----------
        model : str
            Name of the model.

        Returns
        -------
        bool
            ``True`` once a request for base64 was rejected and one for numbers was not.
        """
        return (self._transport.origin, model) in _without_base64

    def _begin(self, request: EmbeddingRequest, options: RequestOptions) -> EmbeddingResponse | PendingEmbeddings:
        single = isinstance(request.input, str) or isinstance(request.input[0], int)
        expected = 1 if single else len(request.input)
        started = self._transport.begin("POST", "/embeddings", dump_json(request), options)
        return (
            _checked(started, expected) if isinstance(started, ResponseBody) else PendingEmbeddings(started, expected)
        )


_without_base64: set[tuple[str, str]] = set()
"""Services, by origin and model, that send vectors as numbers only; for every client of this process."""
_REFUSES_BASE64 = re.compile(r"encoding[_ ]format|base[_ -]?64", re.IGNORECASE)


def _refuses_base64(error: APIError) -> bool:
    """Whether a request was rejected for its encoding, in whatever words."""
    if isinstance(error, (AccountError, RateLimitError, ContentPolicyError, ContextLengthError)):
        return False
    named = _REFUSES_BASE64.search(f"{error.param or ''} {error.message}") is not None
    return named or rejects_parameter(error, "encoding_format", "encodingFormat", "encoding", "base64", "b64", "float")


class PendingEmbeddings:
    """The body of a large response that has begun to arrive: ``read`` it once, from any thread."""

    def __init__(self, pending: PendingResponse, expected: int) -> None:
        self._pending = pending
        self._expected = expected

    def read(self) -> EmbeddingResponse:
        """Read the whole response; raises like ``Embeddings.create``.

        Returns
        -------
        EmbeddingResponse
            The response, as ``Embeddings.create`` returns it.
        """
        return _checked(self._pending.read(), self._expected)


def _checked(reply: ResponseBody, expected: int) -> EmbeddingResponse:
    response = _read(reply)
    response._request_id = reply.request_id
    if len(response.rows) != expected:
        raise answer_count_error(expected, len(response.rows), response.request_id)
    return response


def _read(reply: ResponseBody) -> EmbeddingResponse:
    """Parse the response from its JSON bytes: 2,048 vectors of 1,536 are 17 MB of text, which is not copied."""
    try:
        response = EmbeddingResponse.model_validate_json(reply.content)
    except pydantic.ValidationError:
        # The slow path reports what is wrong, and accepts what can be read nevertheless.
        return parse(EmbeddingResponse, reply, ("data",))
    # Without vectors it is an error, or an answer in another form.
    return response if response.rows else parse(EmbeddingResponse, reply, ("data",))


def _as_list(values: Any) -> Any:
    """Return sequences as lists; other values unchanged, for the validation to report."""
    if hasattr(values, "tolist"):  # arrays and series: their numbers as Python's own
        values = values.tolist()
    if isinstance(values, (bytes, Mapping)) or not isinstance(values, Iterable):
        return values
    # Strings first: checking 2,048 of them against an abstract class costs as much as parsing the response.
    return [
        v if type(v) is str else list(v) if isinstance(v, Sequence) and not isinstance(v, (str, bytes)) else v
        for v in values
    ]

"""``POST /v1/embeddings``: vectors of the local embedding model, in either encoding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from skytells_nb.local.api.models import resolve_embedding_model
from skytells_nb.local.api.request import InferenceRequest, parse_body
from skytells_nb.local.cancellable_work import Cancelled, WorkCancelled
from skytells_nb.local.errors import APIException, invalid_parameter, json_response
from skytells_nb.local.faults import Faults
from skytells_nb.local.generation.messages import MAX_TOKEN_CHARACTERS
from skytells_nb.local.protocols import TextEmbedder
from skytells_nb.types.embeddings import (
    MAX_INPUT_TOKENS,
    MAX_INPUTS,
    MAX_REQUEST_TOKENS,
    EmbeddingRequest,
    embedding_item,
)

TEXTS_PER_STEP = 16
"""Texts that are embedded before it is looked whether the client is still there: some 30 ms."""


async def embeddings(call: InferenceRequest) -> Response:
    """Respond with unit vectors in the order of the input; equal texts have equal vectors."""
    request = parse_body(EmbeddingRequest, call.body)
    embedder = call.models.embedder
    model = resolve_embedding_model(request.model, call.models)
    # Clients request base64 explicitly; the service's default is numbers.
    encoding = (call.body.get("encoding_format") or "float") if "encoding_format" in call.body else "float"
    if encoding not in ("float", "base64"):
        raise invalid_parameter("encoding_format", f"encoding_format must be float or base64, got {encoding!r}.")
    if encoding == "base64" and call.faults.float_only:
        raise invalid_parameter("encoding_format", "encoding_format base64 is not supported by this model.")
    native = embedder.dimensions
    size = request.dimensions or native
    if size > native:
        raise invalid_parameter("dimensions", f"dimensions must be at most {native} for {model}, got {size}.")
    texts, counts = _texts(request.input)
    tokens, vectors = await call.threads.compute(partial(_encode, embedder, texts, counts))
    if size < native:
        vectors = vectors[:, :size]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    items = [embedding_item(i, v, encoding) for i, v in enumerate(vectors)]
    data = _inject_faults(items, vectors, encoding, call.faults)
    call.usage.tokens_in = tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "model": model, "data": data, "usage": usage})


def inputs_of(body: dict[str, Any]) -> list[str]:
    """Return the inputs of a request body, for the counters; an empty list for an invalid body."""
    try:
        return _texts(body.get("input"))[0]
    except APIException:
        return []


def _texts(value: Any) -> tuple[list[str], list[int | None]]:
    """Return the texts to embed and, for inputs of token ids, their numbers of tokens.

    The ids of another model's tokenizer cannot be decoded. They are embedded as a text of numbers: equal ids have equal
    vectors, but the vectors do not represent the meaning.
    """
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise invalid_parameter("input", "input must not be empty.")
    if isinstance(value[0], int):
        value = [value]
    if len(value) > MAX_INPUTS:
        raise invalid_parameter("input", f"input must have at most {MAX_INPUTS} entries, got {len(value)}.")
    texts: list[str] = []
    counts: list[int | None] = []
    for index, entry in enumerate(value):
        if not entry:
            raise invalid_parameter("input", f"input[{index}] must not be empty.")
        if isinstance(entry, str):
            texts.append(entry)
            counts.append(None)
        elif isinstance(entry, list):
            texts.append("tokens " + " ".join(str(token) for token in entry))
            counts.append(len(entry))
        else:
            kind = type(entry).__name__
            raise invalid_parameter("input", f"input[{index}] must be a string or a list of token ids, got {kind}.")
    return texts, counts


def _encode(
    embedder: TextEmbedder, texts: Sequence[str], counts: Sequence[int | None], cancelled: Cancelled
) -> tuple[int, NDArray[np.float32]]:
    """Return the number of tokens and the vectors.

    Raise an error before any computation if a text is too long, or all together, and WorkCancelled once the client
    left.
    """
    total = 0
    for index, (text, known_count) in enumerate(zip(texts, counts, strict=True)):
        if cancelled():
            raise WorkCancelled
        if known_count is None and len(text) > MAX_INPUT_TOKENS * MAX_TOKEN_CHARACTERS:
            raise _too_long(index, f"{len(text):,} characters")
        count = embedder.count_tokens(text) if known_count is None else known_count
        if count > MAX_INPUT_TOKENS:
            raise _too_long(index, str(count))
        total += count
        if total > MAX_REQUEST_TOKENS:
            inputs = f" in its first {index + 1:,} of {len(texts):,} entries" if index + 1 < len(texts) else ""
            raise invalid_parameter(
                "input", f"input must have at most {MAX_REQUEST_TOKENS} tokens in total, got {total}{inputs}."
            )
    vectors = []
    for start in range(0, len(texts), TEXTS_PER_STEP):
        if cancelled():
            raise WorkCancelled
        vectors.append(embedder.encode(texts[start : start + TEXTS_PER_STEP]))
    return total, np.concatenate(vectors)


def _too_long(index: int, size: str) -> APIException:
    return APIException(
        "context_length_exceeded",
        f"input[{index}] must have at most {MAX_INPUT_TOKENS} tokens, got {size}.",
        param="input",
    )


def _inject_faults(
    data: list[dict[str, Any]], vectors: NDArray[np.float32], encoding: str, faults: Faults
) -> list[dict[str, Any]]:
    if faults.nan:
        with_nan = vectors[0].copy()
        with_nan[0] = np.nan
        data[0] = embedding_item(0, with_nan, encoding)
    if faults.wrong_dimension:
        last = len(data) - 1
        data[last] = embedding_item(last, vectors[last][: max(1, vectors.shape[1] // 2)], encoding)
    if faults.bad_base64:
        data[0]["embedding"] = "not base64!"
    if faults.bad_index:
        data[-1]["index"] = len(data) + 7
    if faults.wrong_count:
        # One item too few, or one too many where there is only one.
        data = data[:-1] if len(data) > 1 else [data[0], {**data[0], "index": 1}]
    return data

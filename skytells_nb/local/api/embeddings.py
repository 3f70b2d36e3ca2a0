"""``POST /v1/embeddings``: real vectors of a small model, in either encoding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from skytells_nb.local.api.models import resolve_embedding_model
from skytells_nb.local.api.request import InferenceRequest, parse_body
from skytells_nb.local.errors import APIException, invalid_parameter, json_response
from skytells_nb.local.faults import Faults
from skytells_nb.local.protocols import TextEmbedder
from skytells_nb.types.embeddings import (
    MAX_INPUT_TOKENS,
    MAX_INPUTS,
    MAX_REQUEST_TOKENS,
    EmbeddingRequest,
    embedding_item,
)


async def embeddings(call: InferenceRequest) -> Response:
    """Vectors of unit length in the order of the input; the same text always has the same vector."""
    request = parse_body(EmbeddingRequest, call.body)
    embedder = call.models.embedder
    model = resolve_embedding_model(request.model, call.models)
    # The client asks for base64 by itself; where nobody asks, the service answers with numbers.
    encoding = (call.body.get("encoding_format") or "float") if "encoding_format" in call.body else "float"
    if encoding not in ("float", "base64"):
        raise invalid_parameter("encoding_format", f"encoding_format must be float or base64; found {encoding!r}.")
    if encoding == "base64" and call.faults.float_only:
        raise invalid_parameter("encoding_format", "encoding_format base64 is not supported by this model.")
    native = embedder.dimensions
    size = request.dimensions or native
    if size > native:
        raise invalid_parameter("dimensions", f"dimensions is {size}; {model} has {native} at most.")
    texts, counts = _texts(request.input)
    tokens, vectors = await call.threads.compute(partial(_encode, embedder, texts, counts))
    if size < native:
        vectors = vectors[:, :size]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    data = _spoil([embedding_item(i, v, encoding) for i, v in enumerate(vectors)], vectors, encoding, call.faults)
    call.usage.tokens_in = tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "model": model, "data": data, "usage": usage})


def inputs_of(body: dict[str, Any]) -> list[str]:
    """The inputs of a request body, for the counters; empty where it is not one."""
    try:
        return _texts(body.get("input"))[0]
    except APIException:
        return []


def _texts(given: Any) -> tuple[list[str], list[int | None]]:
    """The texts to embed and, for token ids, how many tokens each has.

    Ids of another model's tokenizer cannot be turned back into its text: they are embedded as the numbers they are,
    which is stable but says nothing of their meaning.
    """
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        raise invalid_parameter("input", "input is empty.")
    if isinstance(given[0], int):
        given = [given]
    if len(given) > MAX_INPUTS:
        raise invalid_parameter("input", f"input has {len(given)} entries; {MAX_INPUTS} are the most in one request.")
    texts: list[str] = []
    counts: list[int | None] = []
    for place, entry in enumerate(given):
        if not entry:
            raise invalid_parameter("input", f"input[{place}] is empty.")
        if isinstance(entry, str):
            texts.append(entry)
            counts.append(None)
        elif isinstance(entry, list):
            texts.append("tokens " + " ".join(str(token) for token in entry))
            counts.append(len(entry))
        else:
            raise invalid_parameter("input", f"input[{place}] is neither a text nor a list of token ids.")
    return texts, counts


def _encode(
    embedder: TextEmbedder, texts: Sequence[str], counts: Sequence[int | None]
) -> tuple[int, NDArray[np.float32]]:
    """Total tokens and the vectors; raises a 400 before any work where a text is too long."""
    total = 0
    for place, (text, known) in enumerate(zip(texts, counts, strict=True)):
        count = embedder.count_tokens(text) if known is None else known
        if count > MAX_INPUT_TOKENS:
            raise APIException(
                "context_length_exceeded",
                f"input[{place}] has {count} tokens; {MAX_INPUT_TOKENS} are the most in one text.",
                param="input",
            )
        total += count
    if total > MAX_REQUEST_TOKENS:
        raise invalid_parameter("input", f"input has {total} tokens; {MAX_REQUEST_TOKENS} are the most in one request.")
    return total, embedder.encode(texts)


def _spoil(
    data: list[dict[str, Any]], vectors: NDArray[np.float32], encoding: str, faults: Faults
) -> list[dict[str, Any]]:
    if faults.nan:
        broken = vectors[0].copy()
        broken[0] = np.nan
        data[0] = embedding_item(0, broken, encoding)
    if faults.wrong_dimension:
        last = len(data) - 1
        data[last] = embedding_item(last, vectors[last][: max(1, vectors.shape[1] // 2)], encoding)
    if faults.bad_base64:
        data[0]["embedding"] = "not base64!"
    if faults.bad_index:
        data[-1]["index"] = len(data) + 7
    if faults.wrong_count:
        # One too few, or one too many where there was only one.
        data = data[:-1] if len(data) > 1 else [data[0], {**data[0], "index": 1}]
    return data

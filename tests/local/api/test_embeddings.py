"""``POST /v1/embeddings`` on a real port."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from local_fakes import HashEmbedder

from skytells_nb.types.embeddings import EmbeddingResponse


def embed(client: httpx.Client, value: Any, **parameters: Any) -> httpx.Response:
    return client.post("/embeddings", json={"model": "skytells-embed-3-small", "input": value, **parameters})


def test_numbers_and_base64_are_the_same_vectors(client: httpx.Client) -> None:
    """Float is the default; both are the float32 vectors of the model, in order."""
    texts = ["a cat", "two dogs", "a cat"]
    numbers = embed(client, texts).json()
    encoded = embed(client, texts, encoding_format="base64").json()
    assert isinstance(numbers["data"][0]["embedding"], list)
    assert isinstance(encoded["data"][0]["embedding"], str)
    expected = HashEmbedder().encode(texts)
    np.testing.assert_array_equal(EmbeddingResponse.model_validate(encoded).matrix, expected)
    np.testing.assert_allclose(EmbeddingResponse.model_validate(numbers).matrix, expected, rtol=1e-6)
    assert [item["index"] for item in numbers["data"]] == [0, 1, 2]
    assert numbers["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert (numbers["object"], numbers["model"]) == ("list", "local-hash-16")


def test_fewer_dimensions_are_truncated_and_normalized(client: httpx.Client) -> None:
    text = "the quick brown fox jumps over the lazy dog again and again"
    full = HashEmbedder().encode([text])[0]
    cut = EmbeddingResponse.model_validate(embed(client, text, dimensions=5).json()).matrix[0]
    np.testing.assert_allclose(cut, full[:5] / np.linalg.norm(full[:5]), rtol=1e-5)


def test_more_dimensions_than_the_model_has_are_rejected(client: httpx.Client) -> None:
    """The message contains the maximum."""
    answer = embed(client, "x", dimensions=1536)
    error = answer.json()["error"]
    assert (answer.status_code, error["error_id"], error["param"]) == (400, "INVALID_PARAMETER", "dimensions")
    assert "16" in error["message"]


@pytest.mark.parametrize(("given", "count"), [([1, 2, 3], 1), ([[1, 2], [3]], 2)])
def test_token_ids_are_accepted(client: httpx.Client, given: object, count: int) -> None:
    """A list of ids is one input, a list of lists several; usage counts the ids; equal ids have equal vectors."""
    first, second = embed(client, given).json(), embed(client, given).json()
    assert len(first["data"]) == count
    assert first["usage"]["prompt_tokens"] == 3
    assert first["data"] == second["data"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["fine", ""]}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": {"text": "x"}}, "input"),
        ({"input": [True]}, "input"),
        ({}, "input"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "dimensions": "8"}, "dimensions"),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_invalid_input_is_named(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    """Status 400 with the parameter."""
    answer = client.post("/embeddings", json={"model": "skytells-embed-3-small", **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["error_id"], error["param"]) == (400, "INVALID_PARAMETER", param)


def test_a_text_over_the_token_limit_is_rejected(client: httpx.Client) -> None:
    """8192 tokens are accepted, one more is not, and the message names the text."""
    assert embed(client, "a " * 8192).status_code == 200
    answer = embed(client, ["short", "a " * 8193])
    error = answer.json()["error"]
    assert (answer.status_code, error["error_id"], error["param"]) == (400, "context_length_exceeded", "input")
    assert "input[1]" in error["message"]


def test_the_maximum_of_2048_inputs_is_accepted(client: httpx.Client) -> None:
    answer = embed(client, [f"text {n}" for n in range(2048)], encoding_format="base64")
    assert EmbeddingResponse.model_validate(answer.json()).matrix.shape == (2048, 16)


def test_a_chat_model_is_rejected_with_an_alternative(client: httpx.Client) -> None:
    """Likewise an embedding model in a chat request."""
    wrong = client.post("/embeddings", json={"model": "gpt-5", "input": "x"})
    assert wrong.status_code == 400
    assert "chat model" in wrong.json()["error"]["message"]
    wrong = client.post(
        "/chat/completions", json={"model": "local-hash-16", "messages": [{"role": "user", "content": "x"}]}
    )
    assert wrong.status_code == 400
    assert "embedding model" in wrong.json()["error"]["message"]

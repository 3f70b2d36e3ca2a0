"""Invalid request bodies."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b'"text"', b'{"model": NaN}', b'{"a": "\\ud800"}', b"\xff", b"[" * 5000]
)
def test_a_body_that_is_not_a_json_object_is_rejected(client: httpx.Client, body: bytes) -> None:
    """400 INVALID_REQUEST."""
    for path in ("/chat/completions", "/responses", "/embeddings"):
        answer = client.post(path, content=body)
        assert (answer.status_code, answer.json()["error"]["error_id"]) == (400, "INVALID_REQUEST")

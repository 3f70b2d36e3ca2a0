"""Validation of request parameters."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from local_fakes import chat_body


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "queen", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages[0].content[0]"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 10**12}, "max_tokens"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens"),
        ({"max_completion_tokens": 10**400}, "max_completion_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 100}, "n"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"seed": True}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_an_invalid_parameter_is_named(client: httpx.Client, change: dict[str, Any], param: str) -> None:
    """400 INVALID_PARAMETER with ``param``."""
    answer = client.post("/chat/completions", json=chat_body("x") | change)
    error = answer.json()["error"]
    assert (answer.status_code, error["error_id"], error["param"]) == (400, "INVALID_PARAMETER", param)


def test_unknown_parameters_are_ignored(client: httpx.Client) -> None:
    """As the service does."""
    assert (
        client.post("/chat/completions", json=chat_body("x", reasoning_effort="low", brand_new=[1])).status_code == 200
    )

"""Unknown endpoints and arbitrary bodies: the server always responds with an envelope of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_fakes import client_of, fake_server

from skytells_nb.local import LocalServer

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries({}, optional={"type": st.sampled_from(["text", "input_image", "x"]), "text": VALUES})
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "system", "assistant", "tool", "function"]) | VALUES,
        "content": st.text(max_size=8) | st.lists(PARTS, max_size=2) | VALUES,
        "type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning"]) | VALUES,
        "tool_calls": VALUES,
        "name": VALUES,
        "output": VALUES,
    },
)
TOOLS = st.fixed_dictionaries(
    {"type": st.sampled_from(["function", "x"])}, optional={"function": VALUES, "name": VALUES, "parameters": VALUES}
)
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["gpt-5", "text-embedding-3-small", "local-echo", "other"])},
    optional={
        "messages": st.lists(MESSAGES, max_size=3) | VALUES,
        "input": st.text(max_size=8) | st.lists(MESSAGES, max_size=3) | VALUES,
        "stream": st.booleans() | VALUES,
        "n": st.integers(-1, 3),
        "stop": VALUES,
        "seed": VALUES,
        "max_tokens": VALUES,
        "max_output_tokens": VALUES,
        "temperature": VALUES,
        "tools": st.lists(TOOLS, max_size=2) | VALUES,
        "tool_choice": st.sampled_from(["auto", "required", "none"]) | VALUES,
        "response_format": st.fixed_dictionaries({"type": st.just("json_schema")}, optional={"json_schema": VALUES})
        | VALUES,
        "text": st.fixed_dictionaries({"format": VALUES}) | VALUES,
        "encoding_format": VALUES,
        "dimensions": VALUES,
        "stream_options": VALUES,
        "metadata": VALUES,
        "previous_response_id": VALUES,
    },
)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    server: LocalServer
    with fake_server() as server, client_of(server) as client:
        yield client


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["/chat/completions", "/responses", "/embeddings"]), BODIES | VALUES)
def test_no_body_causes_a_server_error(client: httpx.Client, path: str, body: Any) -> None:
    """Status 200, or an error of the 4xx kind whose envelope repeats status and request id."""
    answer = client.post(path, content=json.dumps(body).encode())
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["status"] == answer.status_code
        assert error["request_id"] == answer.headers["x-request-id"]
        assert error["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/batches"),
        ("POST", "/moderations"),
        ("GET", "/responses/resp_1"),
        ("GET", "/chat/completions"),
        ("POST", "/models"),
        ("GET", "/models/"),
    ],
)
def test_an_unknown_endpoint_is_not_found(client: httpx.Client, method: str, path: str) -> None:
    """404 ENDPOINT_NOT_FOUND with the inference envelope."""
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["error_id"]) == (404, "ENDPOINT_NOT_FOUND")
    assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]

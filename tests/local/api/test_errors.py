"""Keys, envelopes, the catalogue of models, and what the server refuses to read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from local_fakes import fake_server, chat_body

from skytells_nb.errors import AuthenticationError, LocalServerError, ModelNotFoundError, api_error
from skytells_nb.local import LocalServer
from skytells_nb.types.models import LISTED_PRICES, Model


def test_an_unknown_model_has_the_product_page_s_envelope(client: httpx.Client) -> None:
    """Member for member, on every route that takes a model; the id is the header's too."""
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/chat/completions", {"model": "unknown-model", "messages": [{"role": "user", "content": "x"}]}),
        ("POST", "/responses", {"model": "unknown-model", "input": "x"}),
        ("POST", "/embeddings", {"model": "unknown-model", "input": "x"}),
        ("GET", "/models/unknown-model", None),
        ("GET", "/model/unknown-model", None),
    ]
    for method, path, body in requests:
        answer = client.request(method, path, json=body)
        assert answer.status_code == 404
        assert answer.json() == {
            "error": {
                "message": "The model 'unknown-model' was not found.",
                "type": "server_error",
                "code": "model_not_found",
                "error_id": "MODEL_NOT_FOUND",
                "status": 404,
                "request_id": answer.headers["x-request-id"],
            }
        }
        assert isinstance(api_error(404, answer.json()), ModelNotFoundError)


def test_either_header_carries_the_key(server: LocalServer) -> None:
    """x-api-key, or a bearer token; where both are there, x-api-key counts."""
    right, wrong = server.api_key, "sk-wrong"
    cases = [
        ({"x-api-key": right}, 200),
        ({"authorization": f"Bearer {right}"}, 200),
        ({"x-api-key": right, "authorization": f"Bearer {wrong}"}, 200),
        ({"x-api-key": wrong, "authorization": f"Bearer {right}"}, 401),
        ({"authorization": f"Basic {right}"}, 401),
        ({"x-api-key": "é"}, 401),
        ({}, 401),
    ]
    for headers, status in cases:
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        answer = httpx.get(f"{server.base_url}/models", headers=encoded, trust_env=False)
        assert answer.status_code == status, headers


def test_a_wrong_key_is_told_in_the_route_s_own_envelope(server: LocalServer) -> None:
    """Inference routes use the inference envelope, /models the unified one; the key itself is in neither."""
    headers = {"x-api-key": "sk-not-the-key"}
    inference = httpx.post(f"{server.base_url}/chat/completions", headers=headers, json=chat_body("x"), trust_env=False)
    error = inference.json()["error"]
    assert (error["error_id"], error["type"], error["code"], error["status"]) == (
        "UNAUTHORIZED",
        "authentication_error",
        "invalid_api_key",
        401,
    )
    unified = httpx.get(f"{server.base_url}/models", headers=headers, trust_env=False)
    assert unified.json()["status"] is False
    assert unified.json()["error"]["http_status"] == 401
    assert isinstance(api_error(401, unified.json()), AuthenticationError)
    assert "sk-not-the-key" not in inference.text + unified.text


def test_the_catalogue_is_a_bare_array_with_prices(client: httpx.Client) -> None:
    """The local models first and free; the seed's models at their listed prices, marked as answered here."""
    models = [Model.model_validate(entry) for entry in client.get("/models").json()]
    names = [model.namespace for model in models]
    assert names[:2] == ["local-echo", "local-hash-16"]
    assert {model.namespace: model.price for model in models if model.namespace in LISTED_PRICES} == LISTED_PRICES
    assert all(model.openai_compatible for model in models)
    assert all((model.metadata or {})["answered_locally"] for model in models)
    for path in ("models", "model"):
        assert client.get(f"/{path}/gpt-5.4").json()["namespace"] == "gpt-5.4"


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
def test_an_unknown_route_is_not_found(client: httpx.Client, method: str, path: str) -> None:
    """404 ENDPOINT_NOT_FOUND with the inference envelope."""
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["error_id"]) == (404, "ENDPOINT_NOT_FOUND")
    assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b'"text"', b'{"model": NaN}', b'{"a": "\\ud800"}', b"\xff", b"[" * 5000]
)
def test_a_body_that_is_no_json_object_is_refused(client: httpx.Client, body: bytes) -> None:
    """400 INVALID_REQUEST."""
    for path in ("/chat/completions", "/responses", "/embeddings"):
        answer = client.post(path, content=body)
        assert (answer.status_code, answer.json()["error"]["error_id"]) == (400, "INVALID_REQUEST")


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
        ({"max_completion_tokens": "9"}, "max_completion_tokens"),
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
def test_a_parameter_of_the_wrong_type_is_named(client: httpx.Client, change: dict[str, Any], param: str) -> None:
    """400 INVALID_PARAMETER with ``param``."""
    answer = client.post("/chat/completions", json=chat_body("x") | change)
    error = answer.json()["error"]
    assert (answer.status_code, error["error_id"], error["param"]) == (400, "INVALID_PARAMETER", param)


def test_unknown_parameters_are_passed_over(client: httpx.Client) -> None:
    """As the service does."""
    assert client.post("/chat/completions", json=chat_body("x", reasoning_effort="low", brand_new=[1])).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "192.168.1.2", "127.0.0.1.evil.example", "", "[::2]", "[::1].evil.example"],
)
def test_another_host_name_is_refused(server: LocalServer, host: str) -> None:
    """A name that was pointed at this machine gets nothing, with the right key too (DNS rebinding)."""
    headers = {"host": host, "x-api-key": server.api_key}
    answer = httpx.get(f"{server.base_url}/models", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["error_id"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("host", ["localhost:99", "LOCALHOST", "127.0.0.1:80", "127.0.0.1", "[::1]:80", "[::1]"])
def test_loopback_names_are_answered(server: LocalServer, host: str) -> None:
    """With and without a port."""
    headers = {"host": host, "x-api-key": server.api_key}
    assert httpx.get(f"{server.base_url}/models", headers=headers, trust_env=False).status_code == 200


def test_the_address_that_is_listened_on_is_answered() -> None:
    """Any address of the loopback network, and no other one of it."""
    try:
        server = fake_server(host="127.0.0.5").start()
    except LocalServerError as problem:
        pytest.skip(str(problem))
    with server:
        url, key = f"{server.base_url}/models", {"x-api-key": server.api_key}
        assert url.startswith("http://127.0.0.5:")
        assert httpx.get(url, headers=key, trust_env=False).status_code == 200
        assert httpx.get(url, headers={**key, "host": "127.0.0.6"}, trust_env=False).status_code == 403


def test_no_other_origin_is_let_in(client: httpx.Client) -> None:
    """No CORS headers, and a preflight is just an unknown route."""
    answer = client.get("/models", headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = client.options("/chat/completions", headers={"origin": "https://evil.example"})
    assert preflight.status_code == 404


def test_a_body_over_64_mb_is_refused_unread(server: LocalServer) -> None:
    """By its declared length, before it is sent."""
    head = (
        f"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nx-api-key: {server.api_key}\r\n"
        f"content-length: {64 * 2**20 + 1}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(head.encode())
        answer = b""
        while b"64 MB" not in answer and (piece := sock.recv(65536)):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"64 MB" in answer


def test_a_chunked_body_over_64_mb_is_refused(server: LocalServer, client: httpx.Client) -> None:
    """Also where no length is declared."""

    def body() -> Iterator[bytes]:
        for _ in range(65):
            yield b" " * 2**20

    try:
        answer = client.post("/embeddings", content=body())
    except (httpx.WriteError, httpx.ReadError):
        # The server closed while this was still sending: refused all the same.
        return
    assert answer.status_code == 413


def test_every_answer_has_a_request_id_of_its_own(client: httpx.Client) -> None:
    """Good or bad."""
    ids = [client.get(path).headers["x-request-id"] for path in ("/models", "/models", "/nothing")]
    assert len(set(ids)) == 3
    assert all(name.startswith("req_") for name in ids)

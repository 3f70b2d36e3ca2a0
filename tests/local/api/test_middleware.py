"""Request ids, the host check, the API key, and the size of bodies."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from local_fakes import chat_body, fake_server

from skytells_nb.errors import AuthenticationError, LocalServerError, api_error
from skytells_nb.local import LocalServer


def test_either_header_can_carry_the_key(server: LocalServer) -> None:
    """x-api-key, or a bearer token; x-api-key has precedence."""
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


def test_a_wrong_key_has_the_envelope_of_the_endpoint(server: LocalServer) -> None:
    """The inference envelope, or the unified one for /models; neither contains the key."""
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


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "192.168.1.2", "127.0.0.1.evil.example", "", "[::2]", "[::1].evil.example"],
)
def test_another_host_name_is_rejected(server: LocalServer, host: str) -> None:
    """Even with the right key (DNS rebinding)."""
    headers = {"host": host, "x-api-key": server.api_key}
    answer = httpx.get(f"{server.base_url}/models", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["error_id"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("host", ["localhost:99", "LOCALHOST", "127.0.0.1:80", "127.0.0.1", "[::1]:80", "[::1]"])
def test_loopback_names_are_accepted(server: LocalServer, host: str) -> None:
    """With and without a port."""
    headers = {"host": host, "x-api-key": server.api_key}
    assert httpx.get(f"{server.base_url}/models", headers=headers, trust_env=False).status_code == 200


def test_the_address_of_the_server_is_accepted() -> None:
    """Any address of the loopback network, and no other one of it."""
    try:
        server = fake_server(host="127.0.0.5").start()
    except LocalServerError as error:
        pytest.skip(str(error))
    with server:
        url, key = f"{server.base_url}/models", {"x-api-key": server.api_key}
        assert url.startswith("http://127.0.0.5:")
        assert httpx.get(url, headers=key, trust_env=False).status_code == 200
        assert httpx.get(url, headers={**key, "host": "127.0.0.6"}, trust_env=False).status_code == 403


def test_no_other_origin_is_allowed(client: httpx.Client) -> None:
    """There are no CORS headers, and a preflight is an unknown endpoint."""
    answer = client.get("/models", headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = client.options("/chat/completions", headers={"origin": "https://evil.example"})
    assert preflight.status_code == 404


def test_a_body_over_64_mb_is_rejected_unread(server: LocalServer) -> None:
    """By its declared length, before it is sent."""
    head = (
        f"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nx-api-key: {server.api_key}\r\n"
        f"content-length: {64 * 2**20 + 1}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(head.encode())
        answer = b""
        while b"64 MB" not in answer and (chunk := sock.recv(65536)):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"64 MB" in answer


def test_a_chunked_body_over_64_mb_is_rejected(server: LocalServer, client: httpx.Client) -> None:
    """Even without a declared length."""

    def body() -> Iterator[bytes]:
        for _ in range(65):
            yield b" " * 2**20

    try:
        answer = client.post("/embeddings", content=body())
    except (httpx.WriteError, httpx.ReadError):
        # The server closed the connection before the body was sent, which rejects the request too.
        return
    assert answer.status_code == 413


def test_every_response_has_its_own_request_id(client: httpx.Client) -> None:
    """Successful or not."""
    ids = [client.get(path).headers["x-request-id"] for path in ("/models", "/models", "/nothing")]
    assert len(set(ids)) == 3
    assert all(name.startswith("req_") for name in ids)

"""The model catalog and the error for an unknown model."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from skytells_nb.errors import ModelNotFoundError, api_error
from skytells_nb.local import LocalServer
from skytells_nb.types.models import LISTED_PRICES, Model


def test_an_unknown_model_has_the_documented_envelope(client: httpx.Client) -> None:
    """On every endpoint that takes a model; the request id equals that of the header."""
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


def test_the_catalog_is_an_array_with_prices(client: httpx.Client) -> None:
    """The free local models first, then the service's models at their list prices, marked as served locally."""
    models = [Model.model_validate(entry) for entry in client.get("/models").json()]
    names = [model.namespace for model in models]
    assert names[:2] == ["local-echo", "local-hash-16"]
    assert {model.namespace: model.price for model in models if model.namespace in LISTED_PRICES} == LISTED_PRICES
    assert all(model.openai_compatible for model in models)
    assert all((model.metadata or {})["answered_locally"] for model in models)
    for path in ("models", "model"):
        assert client.get(f"/{path}/gpt-5.4").json()["namespace"] == "gpt-5.4"


def bearer(server: LocalServer, **headers: str) -> httpx.Client:
    """Return a client that sends the key as the OpenAI libraries do."""
    headers = {"authorization": f"Bearer {server.api_key}", **headers}
    return httpx.Client(base_url=server.base_url, headers=headers, timeout=20, trust_env=False)


def test_the_openai_libraries_get_their_form_of_the_list(server: LocalServer, client: httpx.Client) -> None:
    """The service's own libraries send x-api-key, alone or beside the other, and get the documented array."""
    with bearer(server) as openai_client, bearer(server, **{"x-api-key": server.api_key}) as both:
        listed, array = openai_client.get("/models").json(), client.get("/models").json()
        assert both.get("/models").json() == array
        one = openai_client.get("/models/gpt-4o-mini").json()
    assert listed == {"object": "list", "data": array}
    assert {"id", "object", "created", "owned_by"} <= one.keys()
    assert (one["id"], one["object"], one["namespace"]) == ("gpt-4o-mini", "model", "gpt-4o-mini")
    assert all(entry["id"] == entry["namespace"] for entry in array)


@pytest.mark.parametrize(
    "name",
    [
        *("gpt-4o", "gpt-4o-mini", "gpt-4o-mini-2024-07-18", "chatgpt-4o-latest", "gpt-4.1", "gpt-4.1-nano", "gpt-4"),
        *("gpt-4-turbo", "gpt-4-0613", "gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-3.5-turbo-16k", "gpt-5-mini"),
        *(
            "gpt-5-2025-08-07",
            "gpt-5-codex",
            "gpt-5.1",
            "gpt-5.1-codex-max",
            "o1",
            "o1-mini",
            "o3",
            "o3-mini",
            "o4-mini",
        ),
        "o3-mini-2025-01-31",
    ],
)
def test_usual_names_of_chat_models_work(name: str, client: httpx.Client) -> None:
    answer = client.post("/chat/completions", json={"model": name, "messages": [{"role": "user", "content": "x"}]})
    assert answer.json()["model"] == "local-echo"
    assert client.get(f"/models/{name}").json()["metadata"]["answered_by"] == "local-echo"
    wrong = client.post("/embeddings", json={"model": name, "input": "x"})
    assert "got the chat model" in wrong.json()["error"]["message"]


@pytest.mark.parametrize("name", ["text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"])
def test_usual_names_of_embedding_models_work(name: str, client: httpx.Client) -> None:
    assert client.post("/embeddings", json={"model": name, "input": "x"}).json()["model"] == "local-hash-16"
    assert client.get(f"/models/{name}").json()["id"] == name


@pytest.mark.parametrize(
    "name",
    ["gpt-9", "gpt-image-1", "gpt-4o-transcribe", "gpt-4o-mini-tts", "o2", "gpt", "gpt-4o-minii", "whisper-1", ""],
)
def test_names_of_other_models_do_not(name: str, client: httpx.Client) -> None:
    answer = client.post("/chat/completions", json={"model": name, "messages": [{"role": "user", "content": "x"}]})
    assert answer.status_code == 404

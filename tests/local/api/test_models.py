"""The model catalog and the error for an unknown model."""

from __future__ import annotations

from typing import Any

import httpx

from skytells_nb.errors import ModelNotFoundError, api_error
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

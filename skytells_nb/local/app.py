"""The Starlette app of the local Skytells server."""

from __future__ import annotations

from typing import Any

import pydantic_core
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from skytells_nb.local.api.chat import chat_completions
from skytells_nb.local.api.embeddings import embeddings, inputs_of
from skytells_nb.local.api.middleware import RequestMiddleware
from skytells_nb.local.api.models import find_model, model_catalog, openai_list
from skytells_nb.local.api.pipeline import InferenceEndpoint, Service
from skytells_nb.local.api.rate_limits import Account, LimitOptions
from skytells_nb.local.api.request import KEEP_ALIVE_S
from skytells_nb.local.api.responses import ConversationStore
from skytells_nb.local.errors import APIException, json_response
from skytells_nb.local.faults import Faults
from skytells_nb.local.protocols import LocalModels, TextEmbedder, TextGenerator, TextModerator


def create_app(
    *,
    api_key: str,
    embedder: TextEmbedder,
    moderator: TextModerator,
    generator: TextGenerator,
    faults: Faults = Faults(),  # noqa: B008 (frozen)
    limits: LimitOptions | None = None,
    host: str = "127.0.0.1",
    keep_alive: float = KEEP_ALIVE_S,
) -> Starlette:
    """Return the app that serves the API with these three models; ``app.state.stats`` holds its counters."""
    models = LocalModels(embedder, moderator, generator)
    service = Service(models, faults, Account(limits) if limits is not None else None, keep_alive=keep_alive)
    conversations = ConversationStore()

    async def list_models(request: Request) -> Response:
        entries = model_catalog(models)
        return json_response(openai_list(entries) if request.state.openai_client else entries)

    async def retrieve_model(request: Request) -> Response:
        return json_response(find_model(request.path_params["slug"], models))

    async def about(request: Request) -> Response:
        return json_response({"service": "local Skytells", "answered_by": [generator.name, embedder.name]})

    async def stats(request: Request) -> Response:
        return json_response(service.stats.snapshot())

    app = Starlette(
        routes=[
            _post(
                "/v1/chat/completions",
                InferenceEndpoint("chat", chat_completions, lambda body: _single_input(body, "messages"), service),
            ),
            _post(
                "/v1/responses",
                InferenceEndpoint("responses", conversations.respond, lambda b: _single_input(b, "input"), service),
            ),
            _post("/v1/embeddings", InferenceEndpoint("embeddings", embeddings, inputs_of, service)),
            Route("/v1/models", list_models),
            Route("/v1/models/{slug}", retrieve_model),
            Route("/v1/model/{slug}", retrieve_model),
            Route("/_stats", stats),
            Route("/", about),
        ],
        middleware=[Middleware(RequestMiddleware, api_key=api_key, host=host)],
        exception_handlers={404: _endpoint_not_found, 405: _endpoint_not_found},
    )
    app.router.redirect_slashes = False
    app.state.stats = service.stats
    return app


def _post(path: str, endpoint: InferenceEndpoint) -> Route:
    return Route(path, endpoint, methods=["POST"])


def _single_input(body: dict[str, Any], name: str) -> list[str]:
    """Return the one input of a chat or a response, as JSON, for the counters."""
    return [pydantic_core.to_json(body[name]).decode()] if name in body else []


async def _endpoint_not_found(request: Request, error: Exception) -> Response:
    message = f"There is no endpoint {request.method} {request.url.path}."
    return APIException("ENDPOINT_NOT_FOUND", message).to_response(request.state.request_id)

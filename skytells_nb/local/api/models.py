"""The model catalog: the local models by their own names, and the service's model names as aliases of them."""

from __future__ import annotations

from typing import Any

from skytells_nb.local.errors import APIException, model_not_found
from skytells_nb.local.protocols import LocalModels
from skytells_nb.types.models import LISTED_PRICES, Price

_CHAT_ALIASES = {
    "gpt-5": ("GPT-5", "OpenAI"),
    "gpt-5.4": ("GPT-5.4", "OpenAI"),
    "gpt-5.3-codex": ("GPT-5.3 Codex", "OpenAI"),
    "deepbrain-router": ("DeepBrain Router", "Skytells"),
    "gpt-5-nano": ("GPT-5 nano", "OpenAI"),
    "skytells-3": ("Skytells 3", "Skytells"),
}
_EMBEDDING_ALIASES = {
    "skytells-embed-3-small": ("Skytells Embed 3 Small", "Skytells"),
    "skytells-embed-3-large": ("Skytells Embed 3 Large", "Skytells"),
    "text-embedding-3-small": ("Text Embedding 3 Small", "OpenAI"),
}
_CHAT = ["text-to-text", "chat", "summarization", "instruction-following"]
_EMBEDDINGS = ["embeddings"]


def model_catalog(models: LocalModels) -> list[dict[str, Any]]:
    """Return every model that can be called, the local models first."""
    chat, embedding = models.generator.name, models.embedder.name
    entries = [
        _entry(chat, chat, "Local", _CHAT, chat, Price(0, 0)),
        _entry(embedding, embedding, "Local", _EMBEDDINGS, embedding, Price(0, 0)),
    ]
    for alias, (name, vendor) in _CHAT_ALIASES.items():
        entries.append(_entry(alias, name, vendor, _CHAT, chat, LISTED_PRICES.get(alias)))
    for alias, (name, vendor) in _EMBEDDING_ALIASES.items():
        entries.append(_entry(alias, name, vendor, _EMBEDDINGS, embedding, LISTED_PRICES.get(alias)))
    return entries


def find_model(slug: str, models: LocalModels) -> dict[str, Any]:
    """Return one model of the catalog; raise the service's error for an unknown model."""
    for entry in model_catalog(models):
        if entry["namespace"] == slug:
            return entry
    raise model_not_found(slug)


def resolve_chat_model(name: str, models: LocalModels) -> str:
    """Return the local model that serves a chat model's name."""
    if name == models.embedder.name or name in _EMBEDDING_ALIASES:
        raise APIException(
            "INVALID_PARAMETER",
            f"model must be a chat model, got the embedding model {name}. Use it with /v1/embeddings.",
            param="model",
        )
    if name != models.generator.name and name not in _CHAT_ALIASES:
        raise model_not_found(name)
    return models.generator.name


def resolve_embedding_model(name: str, models: LocalModels) -> str:
    """Return the local model that serves an embedding model's name."""
    if name == models.generator.name or name in _CHAT_ALIASES:
        raise APIException(
            "INVALID_PARAMETER",
            f"model must be an embedding model, got the chat model {name}. "
            f"Use {models.embedder.name} or skytells-embed-3-small.",
            param="model",
        )
    if name != models.embedder.name and name not in _EMBEDDING_ALIASES:
        raise model_not_found(name)
    return models.embedder.name


def _entry(
    namespace: str, name: str, vendor: str, capabilities: list[str], served_by: str, price: Price | None
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": name,
        "description": f"Served on this machine by the small model {served_by}.",
        "namespace": namespace,
        "type": "text",
        "privacy": "public",
        "vendor": {"name": vendor, "verified": False, "slug": vendor.lower()},
        "billable": False,
    }
    if price is not None:
        entry["pricing"] = {
            "amount": price.input,
            "currency": "USD",
            "unit": "million_token",
            "criterias": [
                _criterion("input_tokens", "Input", price.input),
                _criterion("output_tokens", "Output", price.output),
            ],
        }
    return entry | {
        "capabilities": capabilities,
        "metadata": {
            "edge_compatible": False,
            "openai_compatible": True,
            "cold_boot": False,
            "answered_locally": True,
            "answered_by": served_by,
        },
        "status": "operational",
    }


def _criterion(field: str, description: str, price: float) -> dict[str, Any]:
    return {
        "field": field,
        "description": description,
        "operator": "==",
        "value": True,
        "billable_price": price,
        "unit": "million_token",
    }

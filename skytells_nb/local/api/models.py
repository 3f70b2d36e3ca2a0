"""The model catalog: the local models by their own names, and the service's model names as aliases of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    "gpt-5-mini": ("GPT-5 mini", "OpenAI"),
    "gpt-4.1-mini": ("GPT-4.1 mini", "OpenAI"),
    "gpt-4o": ("GPT-4o", "OpenAI"),
    "gpt-4o-mini": ("GPT-4o mini", "OpenAI"),
    "gpt-3.5-turbo": ("GPT-3.5 Turbo", "OpenAI"),
    "skytells-3": ("Skytells 3", "Skytells"),
}
_EMBEDDING_ALIASES = {
    "skytells-embed-3-small": ("Skytells Embed 3 Small", "Skytells"),
    "skytells-embed-3-large": ("Skytells Embed 3 Large", "Skytells"),
    "text-embedding-3-small": ("Text Embedding 3 Small", "OpenAI"),
    "text-embedding-3-large": ("Text Embedding 3 Large", "OpenAI"),
    "text-embedding-ada-002": ("Text Embedding Ada 002", "OpenAI"),
}
_OPENAI_CHAT = re.compile(
    r"(?:chatgpt|gpt)-(?:3\.5|4|4o|4\.1|4\.5|5|5\.\d)(?:-(?:turbo|mini|nano|pro|codex|max|chat|16k|32k|latest|preview))*"
    r"|o[134](?:-(?:mini|pro|preview))*"
)
"""Names under which programs for OpenAI ask for a chat model; those of images, sound and search are not among them."""
_SNAPSHOT = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{4})$")
"""The date of a model's version, as in ``gpt-4o-mini-2024-07-18``."""
CREATED = 1_764_547_200
"""The date of every model of the catalog, in seconds since 1970."""
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
    """Return one model, of the catalog or another name of one; raise the service's error for an unknown model."""
    for entry in model_catalog(models):
        if entry["namespace"] == slug:
            return entry
    if _is_chat_alias(slug):
        return _entry(slug, slug, "OpenAI", _CHAT, models.generator.name, None)
    raise model_not_found(slug)


def openai_list(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the models in the form of OpenAI's list."""
    return {"object": "list", "data": list(entries)}


def resolve_chat_model(name: str, models: LocalModels) -> str:
    """Return the local model that serves a chat model's name."""
    if name in (models.embedder.name, *_EMBEDDING_ALIASES):
        raise APIException(
            "INVALID_PARAMETER",
            f"model must be a chat model, got the embedding model {name}. Use it with /v1/embeddings.",
            param="model",
        )
    if name != models.generator.name and not _is_chat_alias(name):
        raise model_not_found(name)
    return models.generator.name


def resolve_embedding_model(name: str, models: LocalModels) -> str:
    """Return the local model that serves an embedding model's name."""
    if name == models.generator.name or _is_chat_alias(name):
        raise APIException(
            "INVALID_PARAMETER",
            f"model must be an embedding model, got the chat model {name}. "
            f"Use {models.embedder.name} or skytells-embed-3-small.",
            param="model",
        )
    if name != models.embedder.name and name not in _EMBEDDING_ALIASES:
        raise model_not_found(name)
    return models.embedder.name


def _is_chat_alias(name: str) -> bool:
    return name in _CHAT_ALIASES or _OPENAI_CHAT.fullmatch(_SNAPSHOT.sub("", name)) is not None


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
        # What programs for OpenAI read; the service's own form has other names for it.
        "id": namespace,
        "object": "model",
        "created": CREATED,
        "owned_by": vendor.lower(),
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

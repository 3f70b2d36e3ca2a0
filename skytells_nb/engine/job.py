"""What a vectorised call asks for each of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skytells_nb.client.exchange import build
from skytells_nb.engine.plan import estimate_tokens
from skytells_nb.engine.work import CompletionWork, EmbeddingWork, Work
from skytells_nb.errors import InputError
from skytells_nb.wire.chat import ChatRequest
from skytells_nb.wire.embeddings import MAX_INPUT_TOKENS, MAX_INPUTS, EmbeddingRequest

EMBEDDING_LANES = 3
"""Full embedding requests under way at once: each holds about 30 MB while its answer is read (2,048 x 1,536)."""
CHAT_OVERHEAD_TOKENS = 8
"""Tokens that the chat format adds to a prompt."""


@dataclass(frozen=True, slots=True)
class Job:
    """One vectorised call: what is asked of the model for each input, and how much may go into one request."""

    operation: str
    endpoint: str
    model: str
    params: Mapping[str, Any]
    work: Work
    max_items: int
    lanes: int | None = None
    """Requests under way at once unless the call says; ``None`` leaves it to the session."""
    max_input_tokens: int | None = None
    overhead_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one call may send; ``None`` leaves it to what was set before and to what the service tells."""

    max_in_flight: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        most = self.max_in_flight
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise InputError(f"max_in_flight is a whole number, 1 or more; found {most!r}.")
        for name in ("requests_per_minute", "tokens_per_minute"):
            rate = getattr(self, name)
            if rate is not None and (isinstance(rate, (bool, str)) or not 0 < rate < float("inf")):
                raise InputError(f"{name} is more than 0; found {rate!r}.")


def embedding_job(model: str, dimensions: int | None = None) -> Job:
    """Embed each input. Raises InputError for a parameter that cannot be sent."""
    build(EmbeddingRequest, model=model, input=["…"], dimensions=dimensions)
    return Job(
        operation="embed",
        endpoint="embeddings",
        model=model,
        params={"dimensions": dimensions},
        work=EmbeddingWork(model, dimensions),
        max_items=MAX_INPUTS,
        lanes=EMBEDDING_LANES,
        max_input_tokens=MAX_INPUT_TOKENS,
    )


def completion_job(
    model: str, *, system: str | None = None, params: Mapping[str, Any] | None = None, operation: str = "complete"
) -> Job:
    """Complete each input, as one user message after an optional system text.

    Raises InputError for a parameter that cannot be sent, or that this sets itself.
    """
    if not isinstance(params or {}, Mapping):
        raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
    if system is not None and not isinstance(system, str):
        raise InputError(f"system is a text; found {type(system).__name__}.")
    given = {name: value for name, value in (params or {}).items() if value is not None}
    taken = [name for name in given if name in ("model", "messages", "stream", "n")]
    if taken:
        raise InputError(f"params cannot hold {taken[0]!r}: each row is one prompt with one whole answer.")
    build(ChatRequest, model=model, messages=[{"role": "user", "content": "…"}], **given)
    return Job(
        operation=operation,
        endpoint="chat/completions",
        model=model,
        params={"system": system, **given},
        work=CompletionWork(model, system, given),
        max_items=1,
        overhead_tokens=CHAT_OVERHEAD_TOKENS + (estimate_tokens(system) if system else 0),
    )

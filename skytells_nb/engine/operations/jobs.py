"""What a vectorised call asks for each of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from skytells_nb.client.serialization import validate_request
from skytells_nb.engine.operations.conversation import PromptOptions, serialize_messages
from skytells_nb.engine.operations.endpoints import endpoint
from skytells_nb.engine.operations.requests import CompletionOperation, EmbeddingOperation, Operation
from skytells_nb.engine.planning import estimate_tokens
from skytells_nb.errors import InputError
from skytells_nb.types.embeddings import MAX_INPUT_TOKENS, MAX_INPUTS, EmbeddingRequest

EMBEDDING_LANES = 8
"""Full embedding requests under way at once: more than a client can read at any latency, and few to lose on a kill."""
READ_AT_ONCE = 2
"""Of their answers, those that are read at once: each takes 30 to 40 MB until it is kept (2,048 x 1,536)."""
CHAT_OVERHEAD_TOKENS = 8
"""Tokens that the chat format adds to a prompt."""


@dataclass(frozen=True, slots=True)
class Job:
    """One vectorised call: what is asked of the model for each input, and how much may go into one request."""

    operation: str
    endpoint: str
    model: str
    params: Mapping[str, Any]
    work: Operation
    max_items: int
    max_concurrency: int | None = None
    """Requests under way at once unless the call says; ``None`` leaves it to the session."""
    read_at_once: int | None = None
    """Large answers that are read at once, whatever is under way; ``None`` is any number."""
    max_input_tokens: int | None = None
    overhead_tokens: int = 0
    single: CompletionOperation | None = None
    """How one input of a completion job is asked by itself."""
    body: Callable[[Sequence[str]], dict[str, Any]] | None = None
    """What a completion job sends for the inputs of one request."""


@dataclass(frozen=True, slots=True)
class RateOptions:
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
    validate_request(EmbeddingRequest, model=model, input=["…"], dimensions=dimensions)
    return Job(
        operation="embed",
        endpoint="embeddings",
        model=model,
        params={"dimensions": dimensions},
        work=EmbeddingOperation(model, dimensions),
        max_items=MAX_INPUTS,
        max_concurrency=EMBEDDING_LANES,
        read_at_once=READ_AT_ONCE,
        max_input_tokens=MAX_INPUT_TOKENS,
    )


def completion_job(
    model: str,
    *,
    system: str | None = None,
    params: Mapping[str, Any] | None = None,
    operation: str = "complete",
    dialogues: bool = False,
    form: PromptOptions | None = None,
) -> Job:
    """Complete each input, as one user message after an optional system text.

    With ``dialogues=True`` inputs are what ``dialogue`` wrote; ``form`` says that and more. Raises InputError for a
    parameter that cannot be sent, or that this sets itself.
    """
    if not isinstance(params or {}, Mapping):
        raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
    if system is not None and not isinstance(system, str):
        raise InputError(f"system is a text; found {type(system).__name__}.")
    form = form or PromptOptions()
    form = replace(form, dialogues=dialogues or form.dialogues)
    given = {name: value for name, value in (params or {}).items() if value is not None}
    asked = endpoint(form.api)
    asked.check(model, given)
    work = CompletionOperation(model, system, given, form)
    # Only what differs from a plain prompt: answers that are kept under the keys of those stay found.
    told: dict[str, Any] = {}
    if form.examples:
        told["examples"] = [list(pair) for pair in form.examples]
    if form.dialogues:
        told["dialogues"] = True
    opening = [system or "", *(text for pair in form.examples for text in pair)]
    return Job(
        operation=operation,
        endpoint=asked.name,
        model=model,
        params={"system": system, **given, **told},
        work=work,
        max_items=1,
        overhead_tokens=CHAT_OVERHEAD_TOKENS
        + form.picture_tokens
        + sum(estimate_tokens(text) for text in opening if text),
        single=work,
        body=work.body,
    )


def follow_up_job(job: Job) -> Job:
    """The job whose inputs are dialogues that go on from inputs of ``job``, see ``go_on``; each goes alone."""
    work = _alone(job)
    form = replace(work.form, dialogues=True)
    return completion_job(job.model, system=work.system, params=work.params, operation=job.operation, form=form)


def follow_up_input(job: Job, text: str, turns: Sequence[Mapping[str, Any]]) -> str:
    """An input of ``job`` with more turns after it, as an input of ``continued(job)``."""
    messages, own = _alone(job).turns(text)
    return serialize_messages([*messages, *turns], own)


def _alone(job: Job) -> CompletionOperation:
    if job.single is None:
        raise InputError(f"{job.operation} asks for no completions, so nothing can go on from its inputs.")
    return job.single

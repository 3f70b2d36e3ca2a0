"""What a vectorized call requests for each of its inputs: jobs, and the operations that send their requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

from skytells_nb.client.client import Skytells
from skytells_nb.client.serialization import validate_request
from skytells_nb.engine.operations.cached import (
    CachedCompletion,
    StoredCompletions,
    dump_cached_error,
    load_cached_error,
    refusal_error,
)
from skytells_nb.engine.operations.conversation import (
    Message,
    PromptOptions,
    build_messages,
    deserialize_messages,
    serialize_messages,
    with_images,
)
from skytells_nb.engine.operations.endpoints import LIMITS, endpoint
from skytells_nb.engine.planning import estimate_tokens
from skytells_nb.engine.report import is_plausible_usage
from skytells_nb.engine.results import CompletionBuffer, ResultBuffer, Values, VectorBuffer
from skytells_nb.engine.service.profile import ENCODING, ServiceProfile
from skytells_nb.errors import ContentPolicyError, InputError, InvalidResponseError, RefusalError
from skytells_nb.types.embeddings import MAX_INPUT_TOKENS, MAX_INPUTS, EmbeddingRequest, EmbeddingResponse

DEFAULT_OUTPUT_TOKENS = 256.0
"""Tokens that an answer is taken to have while nothing is known."""
MAX_RETRY_TOKENS = 16_384
"""Highest token limit of a retry: what the upstream models accept as a limit."""
EMBEDDING_CONCURRENCY = 8
"""Full embedding requests in flight at once: more than a client can read at any latency, and few to lose on a kill."""
EMBEDDING_READERS = 2
"""Embedding responses read at once: each takes 30 to 40 MB until it is stored (2,048 x 1,536)."""
CHAT_OVERHEAD_TOKENS = 8
"""Tokens that the chat format adds to a prompt."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The results of one request: a value for each of its inputs, as the cache stores it, and the tokens used.

    ``None`` stands for an input without a usable result; it is sent again alone.
    """

    values: Values
    tokens_in: int
    tokens_out: int
    rejected_attempts: int = 0
    """Requests besides this one that were rejected for their response format and cost nothing."""
    stored: bool = False
    """Whether the results were stored as they were read, and ``values`` is empty."""
    usage_known: bool = True
    """Whether the service reported the tokens."""


Read: TypeAlias = Callable[[Callable[[], BatchResult]], BatchResult]
"""Makes the call that reads a large response, perhaps in another thread, and may store what it returns."""


def read_here(call: Callable[[], BatchResult]) -> BatchResult:
    """Read in this thread."""
    return call()


class Operation(Protocol):
    """One kind of request."""

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        """Send one request for these inputs."""
        ...

    def make_buffer(self, count: int) -> ResultBuffer:
        """Return a buffer for so many results."""
        ...

    def observe(self, values: Sequence[bytes]) -> None:
        """Take cached results of this very job into account for ``output_tokens``."""
        ...

    def cacheable_error(self, problem: Exception) -> bytes | None:
        """Return what to cache for an input that failed like this, ``None`` if another attempt may end otherwise."""
        ...

    def cached_error(self, value: bytes) -> Exception | None:
        """Return the error that a cached value stands for, ``None`` if it is a result."""
        ...

    def output_tokens(self) -> float:
        """Return the expected tokens of the answer to one input."""
        ...

    def max_output_tokens(self) -> float:
        """Return the most tokens that it may have, as far as that is known, for the budget."""
        ...


class LibraryDefault(float):
    """A parameter that this library sets where the caller did not: where a service rejects it, it is left out."""


class EmbeddingOperation:
    """Many texts in, a float32 vector out for each."""

    def __init__(self, model: str, dimensions: int | None, profile: ServiceProfile | None = None) -> None:
        self._model = model
        self._requested_dimensions = dimensions
        self._dimensions: int | None = dimensions
        self._profile = profile

    def with_profile(self, profile: ServiceProfile) -> EmbeddingOperation:
        """Return the same operation, in the encoding that the service takes."""
        return EmbeddingOperation(self._model, self._requested_dimensions, profile)

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        profile, embeddings = self._profile, client.embeddings
        encoding: Literal["base64", "float"] = "float" if profile and profile.level(ENCODING) else "base64"
        response = embeddings.begin(
            model=self._model, input=inputs, dimensions=self._requested_dimensions, encoding_format=encoding
        )
        if profile is not None and not profile.level(ENCODING) and embeddings.refuses_base64(self._model):
            profile.learn(ENCODING, 1)
        if isinstance(response, EmbeddingResponse):
            return self._result(response, inputs)
        return read(lambda: self._result(response.read(), inputs))

    def _result(self, response: EmbeddingResponse, inputs: Sequence[str]) -> BatchResult:
        matrix, finite = response.checked
        if len(inputs) == 1 or not finite.any():
            matrix = response.matrix
        expected = self._dimensions = self._dimensions or matrix.shape[1]
        if matrix.shape[1] != expected:
            origin = "were requested" if self._requested_dimensions else "came before"
            raise InvalidResponseError(
                f"{expected} dimensions {origin} and {matrix.shape[1]} came.", request_id=response.request_id
            )
        # One invalid vector does not discard the others: they are all paid for.
        values: Values = (
            matrix
            if finite.all()
            else [row.tobytes() if valid else None for row, valid in zip(matrix, finite.tolist(), strict=True)]
        )
        tokens, size = response.usage.prompt_tokens, sum(map(len, inputs))
        is_known = is_plausible_usage(tokens, 0, size, answered=False)
        return BatchResult(values, tokens if is_known else 0, 0, usage_known=is_known)

    def make_buffer(self, count: int) -> VectorBuffer:
        return VectorBuffer(count)

    def observe(self, values: Sequence[bytes]) -> None:
        pass

    def cacheable_error(self, problem: Exception) -> bytes | None:
        return None

    def cached_error(self, value: bytes) -> Exception | None:
        return None

    def output_tokens(self) -> float:
        return 0.0

    def max_output_tokens(self) -> float:
        return 0.0


def token_limit(params: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the name and the value of the token limit in these parameters."""
    return next(((name, int(params[name])) for name in LIMITS if params.get(name)), None)


class CompletionOperation:
    """One input in, one completion out.

    If all tokens went to reasoning, so that the answer ended at its limit without a text, or if JSON was cut there, the
    input is requested once more with twice the limit; the run paces and pays for that like for any request. Such a
    completion has the tokens of both.
    """

    def __init__(
        self, model: str, system: str | None, params: Mapping[str, Any], options: PromptOptions | None = None
    ) -> None:
        self._model = model
        self._params = dict(params)
        self.system = system
        self.options = options or PromptOptions()
        self.endpoint = endpoint(self.options.api)
        limit = token_limit(params)
        limits = [tokens for tokens in (limit[1] if limit else None, self.options.max_tokens) if tokens]
        self._limit = float(max(limits)) if limits else None
        self._lock = threading.Lock()
        self._count = 0
        self._tokens_out = 0
        self._most_tokens_out = 0
        self._highest_retry_limit = 0
        self._truncated: dict[str, tuple[CachedCompletion, int]] = {}
        """Truncated answers by input, with the limit of the retry."""

    @property
    def model(self) -> str:
        return self._model

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters that are sent with every input."""
        return self._params

    def messages(self, text: str) -> tuple[list[Message], dict[str, Any]]:
        """Return the messages of an input, and its own parameters."""
        if not self.options.conversations:
            return [{"role": "user", "content": text}], {}
        return deserialize_messages(text)

    def body(self, inputs: Sequence[str]) -> dict[str, Any]:
        """Return what is sent for this one input."""
        (text,) = inputs
        options = self.options
        messages, own_params = self.messages(text)
        if options.conversations or options.examples:
            messages = build_messages(self.system, options.examples, with_images(messages, options.images))
        elif self.system:
            messages = [{"role": "system", "content": self.system}, *messages]
        params = {**self.params, **own_params, **self._retry_params(text, own_params)}
        return self.endpoint.body(self.model, messages, params)

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        (text,) = inputs
        response = self.endpoint.create(client, self.body(inputs))
        completion = CachedCompletion.from_response(response)
        self._count_output(completion.tokens_out)
        refusal = response.refusal
        if refusal is not None:
            with self._lock:
                self._truncated.pop(text, None)
            raise refusal_error(refusal, completion)
        is_known = is_plausible_usage(
            completion.tokens_in, completion.tokens_out, len(text), answered=bool(completion.text)
        )
        if not is_known:
            completion = replace(completion, tokens_in=0, tokens_out=0)
        tokens = completion.tokens_in, completion.tokens_out
        with self._lock:
            truncated, _ = self._truncated.pop(text, (None, 0))
            if truncated is not None:
                completion = replace(
                    completion,
                    tokens_in=truncated.tokens_in + completion.tokens_in,
                    tokens_out=truncated.tokens_out + completion.tokens_out,
                )
            elif (
                self.options.needs_text
                and self._is_truncated(completion)
                and (limit := self._retry_limit(text, completion))
            ):
                self._truncated[text] = completion, limit
                self._highest_retry_limit = max(self._highest_retry_limit, limit)
                return BatchResult([None], *tokens, usage_known=is_known)
        return BatchResult([completion.to_bytes()], *tokens, usage_known=is_known)

    def make_buffer(self, count: int) -> CompletionBuffer:
        return CompletionBuffer(count, StoredCompletions())

    def observe(self, values: Sequence[bytes]) -> None:
        for value in values:
            if load_cached_error(value) is None:
                self._count_output(CachedCompletion.from_bytes(value).tokens_out)

    def _count_output(self, tokens_out: int) -> None:
        with self._lock:
            self._count += 1
            self._tokens_out += tokens_out
            self._most_tokens_out = max(self._most_tokens_out, tokens_out)

    def _is_truncated(self, completion: CachedCompletion) -> bool:
        """Whether it ended at its limit before there was anything to use."""
        if (
            completion.is_empty_reasoning
            or completion.finish_reason != "length"
            or not self.params.get("response_format")
        ):
            return completion.is_empty_reasoning
        try:
            json.loads(completion.text)
        except (ValueError, RecursionError):
            return True
        return False

    def _retry_limit(self, text: str, completion: CachedCompletion) -> int | None:
        """The limit of the retry, ``None`` if it cannot be higher."""
        limit = token_limit({**self.params, **self.messages(text)[1]})
        current = limit[1] if limit else completion.tokens_out
        higher = min(2 * current, MAX_RETRY_TOKENS)
        return higher if higher > current else None

    def _retry_params(self, text: str, own_params: Mapping[str, Any]) -> dict[str, int]:
        if text not in self._truncated:
            return {}
        limit = token_limit(own_params) or token_limit(self.params)
        return {limit[0] if limit else "max_tokens": self._truncated[text][1]}

    def cacheable_error(self, problem: Exception) -> bytes | None:
        return dump_cached_error(problem) if isinstance(problem, (ContentPolicyError, RefusalError)) else None

    def cached_error(self, value: bytes) -> Exception | None:
        return load_cached_error(value)

    def output_tokens(self) -> float:
        if self._count:
            return self._tokens_out / self._count
        return self._limit or DEFAULT_OUTPUT_TOKENS

    def max_output_tokens(self) -> float:
        highest = self._limit or max(DEFAULT_OUTPUT_TOKENS, 2.0 * self._most_tokens_out)
        return max(highest, self._highest_retry_limit)


@dataclass(frozen=True, slots=True)
class Job:
    """One vectorized call: what is requested for each input, and how much may go into one request."""

    name: str
    endpoint: str
    model: str
    params: Mapping[str, Any]
    operation: Operation
    max_items: int
    max_concurrency: int | None = None
    """Requests in flight at once unless the call sets it; ``None`` leaves it to the session."""
    max_readers: int | None = None
    """Large responses that are read at once, however many are in flight; ``None`` is any number."""
    max_input_tokens: int | None = None
    overhead_tokens: int = 0
    single: CompletionOperation | None = None
    """How one input of a completion job is requested by itself."""
    body: Callable[[Sequence[str]], dict[str, Any]] | None = None
    """What a completion job sends for the inputs of one request."""
    learns_size: bool = False
    """Whether rejections show how much the service accepts in one request."""

    @property
    def has_forms(self) -> bool:
        """Whether it is sent in forms that a service may reject, where a weaker one would do."""
        return bool(self.params.get("response_format")) or any(
            isinstance(value, LibraryDefault) or name in LIMITS for name, value in self.params.items()
        )


@dataclass(frozen=True, slots=True)
class RateOptions:
    """How fast one call may send; ``None`` leaves it to the earlier setting and to what the service reports."""

    max_in_flight: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        count = self.max_in_flight
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise InputError(f"max_in_flight must be a positive integer, got {count!r}.")
        for name in ("requests_per_minute", "tokens_per_minute"):
            rate = getattr(self, name)
            if rate is not None and (isinstance(rate, (bool, str)) or not 0 < rate < float("inf")):
                raise InputError(f"{name} must be a number greater than 0, got {rate!r}.")


def embedding_job(model: str, dimensions: int | None = None) -> Job:
    """Embed each input. Raises InputError for a parameter that cannot be sent."""
    validate_request(EmbeddingRequest, model=model, input=["…"], dimensions=dimensions)
    return Job(
        name="embed",
        endpoint="embeddings",
        model=model,
        params={"dimensions": dimensions},
        operation=EmbeddingOperation(model, dimensions),
        max_items=MAX_INPUTS,
        max_concurrency=EMBEDDING_CONCURRENCY,
        max_readers=EMBEDDING_READERS,
        max_input_tokens=MAX_INPUT_TOKENS,
        learns_size=True,
    )


def completion_job(
    model: str,
    *,
    system: str | None = None,
    params: Mapping[str, Any] | None = None,
    operation: str = "complete",
    conversations: bool = False,
    options: PromptOptions | None = None,
) -> Job:
    """Complete each input, as one user message after an optional system text.

    With ``conversations=True`` inputs are what ``serialize_messages`` returned; ``options`` holds that and more. Raises
    InputError for a parameter that cannot be sent, or that this sets itself.
    """
    if not isinstance(params or {}, Mapping):
        raise InputError(f"params must be a dict of parameters such as {{'max_tokens': 100}}, got {params!r}.")
    if system is not None and not isinstance(system, str):
        raise InputError(f"system must be a string, got {type(system).__name__}.")
    options = options or PromptOptions()
    options = replace(options, conversations=conversations or options.conversations)
    set_params = {name: value for name, value in (params or {}).items() if value is not None}
    api = endpoint(options.api)
    api.check(model, set_params)
    operation_of_one = CompletionOperation(model, system, set_params, options)
    # Only what differs from a plain prompt, under these names: cached answers are found by them.
    key_params: dict[str, Any] = {}
    if options.examples:
        key_params["examples"] = [list(pair) for pair in options.examples]
    if options.conversations:
        key_params["dialogues"] = True  # codespell:ignore dialogues
    shared_texts = [system or "", *(text for pair in options.examples for text in pair)]
    return Job(
        name=operation,
        endpoint=api.name,
        model=model,
        params={"system": system, **set_params, **key_params},
        operation=operation_of_one,
        max_items=1,
        overhead_tokens=CHAT_OVERHEAD_TOKENS
        + options.image_tokens
        + sum(estimate_tokens(text) for text in shared_texts if text),
        single=operation_of_one,
        body=operation_of_one.body,
    )


def follow_up_job(job: Job) -> Job:
    """Return the job for inputs made by ``follow_up_input`` from inputs of ``job``; each is sent alone."""
    single = _single(job)
    options = replace(single.options, conversations=True)
    return completion_job(job.model, system=single.system, params=single.params, operation=job.name, options=options)


def follow_up_input(job: Job, text: str, more: Sequence[Mapping[str, Any]]) -> str:
    """Return an input of ``job`` with more messages after it, as an input of ``follow_up_job(job)``."""
    messages, own_params = _single(job).messages(text)
    return serialize_messages([*messages, *more], own_params)


def _single(job: Job) -> CompletionOperation:
    if job.single is None:
        raise InputError(f"{job.name} requests no completions, so its inputs cannot be continued.")
    return job.single

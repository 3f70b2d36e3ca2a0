"""One generated completion for both APIs: text pieces with filter results, then the finish reason and usage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from skytells_nb.errors import LocalServerError
from skytells_nb.local.cancellable_work import run_in_thread
from skytells_nb.local.errors import APIException, invalid_parameter
from skytells_nb.local.faults import Faults
from skytells_nb.local.generation.generator import ContextLengthExceeded
from skytells_nb.local.generation.messages import Message, context_exceeded
from skytells_nb.local.generation.streaming import GenerationThreads
from skytells_nb.local.generation.tools import Tool
from skytells_nb.local.moderation.safety_fields import CompletionModerator, completion_results, is_filtered
from skytells_nb.local.protocols import LocalModels

DEFAULT_MAX_TOKENS = 512
"""Token limit of requests that do not set one. The service documents 8192; this model's context is shorter, and its
completions rarely reach this limit."""

_BLOCK_AFTER = 3
"""Pieces sent before a completion filter that is requested by a fault takes effect."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The parameters of one generation."""

    messages: list[Message]
    max_tokens: int | None = None
    temperature: float = 0.7
    top_p: float = 0.95
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    schema: dict[str, Any] | None = None
    json: bool = False
    tool: Tool | None = None
    schema_param: str = "response_format"
    """The parameter to name in an error about the schema."""
    prompt_param: str = "messages"
    logprobs: int | None = None
    """Alternatives of each token whose log probabilities are stated; ``None`` states none."""

    @property
    def token_limit(self) -> int:
        return self.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def is_structured(self) -> bool:
        return self.json or self.schema is not None or self.tool is not None

    def for_choice(self, index: int) -> Generation:
        """Return the generation of choice ``index`` of ``n``: with another seed, but reproducible."""
        if index == 0:
            return self
        base = self.seed if self.seed is not None else _hash_messages(self.messages)
        return replace(self, seed=(base + index) % 2**31)


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text; ``filter_results`` is empty unless there are new results."""

    text: str
    filter_results: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a generation: the reason, the tokens used, and the filter results of the whole text."""

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    filter_results: dict[str, Any]
    reasoning_tokens: int = 0
    filtered_late: bool = False
    """The filter blocked the text after it was sent (asynchronous filter)."""
    logprobs: tuple[dict[str, Any], ...] = ()
    """Of the tokens of the text, where they were asked for and the generator has them."""


async def generate(
    generation: Generation, models: LocalModels, threads: GenerationThreads, faults: Faults
) -> AsyncGenerator[Text | Finish, None]:
    """Yield an empty Text once generation has started, then the text without stop sequences, then a Finish.

    Raise APIException before the first item if the request is invalid.
    """
    if not models.generator.available:
        raise APIException("SERVICE_UNAVAILABLE", models.generator.reason or "The chat model is not available.")
    moderator = CompletionModerator(models.moderator)
    pending = ""
    sent = received = prompt_tokens = completion_tokens = 0
    reason: str | None = None
    results: dict[str, Any] = {}
    logprobs: tuple[dict[str, Any], ...] = ()
    # A truncated JSON text is useless: structured output ignores stop sequences.
    stop_filter = StopFilter(() if generation.is_structured else generation.stop)
    async with aclosing(_generate_pieces(generation, models, threads, faults)) as pieces:
        async for text, finish_reason, token_counts, logprobs in pieces:  # noqa: B007 - the last ones are used below
            prompt_tokens, completion_tokens = token_counts
            if not received:
                # The request is valid: the headers can be sent before there is any text.
                yield Text("")
            received += 1
            if faults.filter_completion == "default" and sent >= _BLOCK_AFTER:
                pending, reason = "", "content_filter"
                break
            output = stop_filter.feed(text) + (stop_filter.flush() if finish_reason else "")
            reason = "stop" if stop_filter.stopped else finish_reason
            if output:
                # Delay by one piece: the last one carries the filter results of the whole text.
                if pending:
                    yield Text(pending, results)
                    results, sent = {}, sent + 1
                pending = output
                if await moderator.add(output):
                    results = completion_results(moderator.severities, whole=False, down=faults.filter_down)
                    if is_filtered(results):
                        pending, results, reason = "", {}, "content_filter"
            if reason is not None:
                break
    await moderator.finish()
    if not prompt_tokens:
        # Generation stopped here before the generator reported its counts.
        prompt_tokens = await run_in_thread(lambda cancelled: models.generator.count_tokens(generation.messages))
        completion_tokens = max(completion_tokens, received)
    severities = dict(moderator.severities)
    filtered_late = faults.filter_completion == "async"
    if faults.filter_completion is not None:
        severities["violence"] = "high"
        reason = reason if filtered_late else "content_filter"
    final = completion_results(severities, whole=True, down=faults.filter_down)
    if is_filtered(final) and not filtered_late:
        pending, reason = "", "content_filter"
    if pending:
        without_fault = {**severities, "violence": moderator.severities["violence"]}
        yield Text(pending, completion_results(without_fault, whole=False, down=faults.filter_down))
    yield Finish(
        reason or "stop",
        prompt_tokens,
        completion_tokens,
        final,
        reasoning_tokens=completion_tokens if faults.empty_length else 0,
        filtered_late=filtered_late,
        # They spell out what the filter withholds.
        logprobs=() if reason == "content_filter" else logprobs,
    )


async def _generate_pieces(
    generation: Generation, models: LocalModels, threads: GenerationThreads, faults: Faults
) -> AsyncGenerator[tuple[str, str | None, tuple[int, int], tuple[dict[str, Any], ...]], None]:
    """Yield text, finish reason and (prompt, completion) tokens; raise the generator's errors as APIException."""
    if faults.empty_length:
        word_count = sum(len(m["content"].split()) for m in generation.messages)
        yield "", "length", (word_count, generation.token_limit), ()
        return
    if generation.tool is not None and not generation.tool.takes_arguments:
        yield "{}", "stop", (sum(len(m["content"].split()) for m in generation.messages), 1), ()
        return
    start = partial(
        models.generator.stream,
        _with_tool(generation),
        max_tokens=min(generation.token_limit, models.generator.context),
        temperature=generation.temperature,
        top_p=generation.top_p,
        stop=() if generation.is_structured else generation.stop,
        seed=generation.seed,
        presence_penalty=generation.presence_penalty,
        frequency_penalty=generation.frequency_penalty,
        schema=generation.tool.parameters if generation.tool else generation.schema,
        json=generation.json,
        **({"logprobs": generation.logprobs} if generation.logprobs is not None and _gives_logprobs(models) else {}),
    )
    try:
        async with aclosing(threads.run(start)) as pieces:
            async for piece in pieces:
                counts = piece.prompt_tokens, piece.completion_tokens
                yield piece.text, piece.finish_reason, counts, getattr(piece, "logprobs", ())
    except ContextLengthExceeded as error:
        # With a tool the prompt is longer than the messages, which were counted before.
        raise context_exceeded(f"{error.tokens:,} tokens", models.generator, generation.prompt_param) from None
    except LocalServerError as error:
        raise APIException("SERVICE_UNAVAILABLE", str(error)) from None
    except ValueError as error:
        param = "tools" if generation.tool else generation.schema_param
        raise invalid_parameter(param, f"The schema is not supported: {error}") from None


def _gives_logprobs(models: LocalModels) -> bool:
    """Whether the generator states log probabilities, which not all can."""
    return bool(getattr(models.generator, "gives_logprobs", False))


def _with_tool(generation: Generation) -> list[Message]:
    if generation.tool is None:
        return generation.messages
    return [{"role": "system", "content": generation.tool.instruction()}, *generation.messages]


def _hash_messages(messages: Sequence[Mapping[str, Any]]) -> int:
    text = json.dumps(messages, sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")


class StopFilter:
    """Passes text through up to the first stop sequence, which may be split between pieces.

    >>> stop = StopFilter(["END"])
    >>> stop.feed("one E") + stop.feed("ND two"), stop.stopped
    ('one ', True)
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = [s for s in sequences if s]
        self._pending = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Add a piece and return the text that is certain not to belong to a stop sequence."""
        if self.stopped or not self._sequences:
            return "" if self.stopped else text
        self._pending += text
        positions = [position for s in self._sequences if (position := self._pending.find(s)) >= 0]
        if positions:
            self.stopped = True
            output, self._pending = self._pending[: min(positions)], ""
            return output
        overlap = max(self._overlap(s) for s in self._sequences)
        output = self._pending[: len(self._pending) - overlap]
        self._pending = self._pending[len(self._pending) - overlap :]
        return output

    def flush(self) -> str:
        """Return the rest of the text, at its end."""
        output, self._pending = ("" if self.stopped else self._pending), ""
        return output

    def _overlap(self, sequence: str) -> int:
        """Return the length of the end of the pending text that may start this sequence."""
        longest = min(len(sequence) - 1, len(self._pending))
        return next((n for n in range(longest, 0, -1) if self._pending.endswith(sequence[:n])), 0)

"""One answer of the model, as both sub-APIs need it: text as it comes, verdicts beside it, an end with its reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import anyio.to_thread

from skytells_nb.errors import LocalServerError
from skytells_nb.local.errors import APIException, invalid_parameter
from skytells_nb.local.faults import Faults
from skytells_nb.local.generation.generator import ContextLengthExceeded
from skytells_nb.local.generation.messages import Message
from skytells_nb.local.generation.streaming import GenerationThreads
from skytells_nb.local.generation.tools import Tool
from skytells_nb.local.moderation.safety_fields import CompletionModerator, completion_results, is_filtered
from skytells_nb.local.protocols import LocalModels

DEFAULT_MAX_TOKENS = 512
"""Tokens where the request names no limit. The service documents 8192; this model's context is shorter than that and
it rarely has more to say."""

_BLOCK_AFTER = 3
"""Pieces that are sent before a completion filter asked for by a fault strikes."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What is asked of the model."""

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
    """The parameter to name where the schema cannot be kept."""
    prompt_param: str = "messages"

    @property
    def token_limit(self) -> int:
        return self.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def is_structured(self) -> bool:
        return self.json or self.schema is not None or self.tool is not None

    def for_choice(self, index: int) -> Generation:
        """The same turn for choice ``index`` of ``n``: another seed, the same each time it is asked."""
        if index == 0:
            return self
        base = self.seed if self.seed is not None else _digest(self.messages)
        return replace(self, seed=(base + index) % 2**31)


@dataclass(frozen=True, slots=True)
class Text:
    """More text; ``verdict`` is the filter's results where they are fresh."""

    text: str
    filter_results: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finish:
    """Why it ended, what it cost, and the verdict on the whole."""

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    filter_results: dict[str, Any]
    reasoning_tokens: int = 0
    filtered_late: bool = False
    """The filter's block comes after the answer was sent (async filter)."""


async def generate(
    turn: Generation, engines: LocalModels, decoding: GenerationThreads, faults: Faults
) -> AsyncGenerator[Text | Finish, None]:
    """The answer to one turn: an empty Text once it is sure to come, more text without any stop sequence, its End.

    Raises a Problem before the first item where the request cannot be answered.
    """
    if not engines.generator.available:
        raise APIException("SERVICE_UNAVAILABLE", engines.generator.reason or "The chat model is not available.")
    judge = CompletionModerator(engines.moderator)
    held = ""
    sent = received = prompt_tokens = completion_tokens = 0
    reason: str | None = None
    verdict: dict[str, Any] = {}
    # Half a JSON text is worth nothing: where the form is given, stop sequences do not count.
    stopper = StopFilter(() if turn.is_structured else turn.stop)
    async with aclosing(_pieces(turn, engines, decoding, faults)) as pieces:
        async for text, ended, cost in pieces:
            prompt_tokens, completion_tokens = cost
            if not received:
                # Nothing can be refused from here on: headers may go out before there is text to show.
                yield Text("")
            received += 1
            if faults.filter_completion == "default" and sent >= _BLOCK_AFTER:
                held, reason = "", "content_filter"
                break
            shown = stopper.feed(text) + (stopper.flush() if ended else "")
            reason = "stop" if stopper.stopped else ended
            if shown:
                # One piece is held back: the last one carries the verdict on the whole.
                if held:
                    yield Text(held, verdict)
                    verdict, sent = {}, sent + 1
                held = shown
                if await judge.add(shown):
                    verdict = completion_results(judge.severities, whole=False, down=faults.filter_down)
                    if is_filtered(verdict):
                        held, verdict, reason = "", {}, "content_filter"
            if reason is not None:
                break
    await judge.finish()
    if not prompt_tokens:
        # Cut off here before the generator told its counts.
        count = partial(engines.generator.count_tokens, turn.messages)
        prompt_tokens = await anyio.to_thread.run_sync(count, abandon_on_cancel=True)
        completion_tokens = max(completion_tokens, received)
    severities = dict(judge.severities)
    late = faults.filter_completion == "async"
    if faults.filter_completion is not None:
        severities["violence"] = "high"
        reason = reason if late else "content_filter"
    final = completion_results(severities, whole=True, down=faults.filter_down)
    if is_filtered(final) and not late:
        held, reason = "", "content_filter"
    if held:
        clean = {**severities, "violence": judge.severities["violence"]}
        yield Text(held, completion_results(clean, whole=False, down=faults.filter_down))
    yield Finish(
        reason or "stop",
        prompt_tokens,
        completion_tokens,
        final,
        reasoning_tokens=completion_tokens if faults.empty_length else 0,
        filtered_late=late,
    )


async def _pieces(
    turn: Generation, engines: LocalModels, decoding: GenerationThreads, faults: Faults
) -> AsyncGenerator[tuple[str, str | None, tuple[int, int]], None]:
    """Text, finish reason and (prompt, completion) tokens, with the generator's complaints as Problems."""
    if faults.empty_length:
        words = sum(len(m["content"].split()) for m in turn.messages)
        yield "", "length", (words, turn.token_limit)
        return
    if turn.tool is not None and not turn.tool.takes_arguments:
        yield "{}", "stop", (sum(len(m["content"].split()) for m in turn.messages), 1)
        return
    start = partial(
        engines.generator.stream,
        _with_tool(turn),
        max_tokens=min(turn.token_limit, engines.generator.context),
        temperature=turn.temperature,
        top_p=turn.top_p,
        stop=() if turn.is_structured else turn.stop,
        seed=turn.seed,
        presence_penalty=turn.presence_penalty,
        frequency_penalty=turn.frequency_penalty,
        schema=turn.tool.parameters if turn.tool else turn.schema,
        json=turn.json,
    )
    try:
        async with aclosing(decoding.run(start)) as pieces:
            async for piece in pieces:
                yield piece.text, piece.finish_reason, (piece.prompt_tokens, piece.completion_tokens)
    except ContextLengthExceeded as problem:
        raise APIException(
            "context_length_exceeded",
            f"The prompt has {problem.tokens} tokens and this model's context is {problem.limit}. "
            f"({engines.generator.name} is a small local model.)",
            param=turn.prompt_param,
        ) from None
    except LocalServerError as problem:
        raise APIException("SERVICE_UNAVAILABLE", str(problem)) from None
    except ValueError as problem:
        param = "tools" if turn.tool else turn.schema_param
        raise invalid_parameter(param, f"The schema cannot be used here: {problem}") from None


def _with_tool(turn: Generation) -> list[Message]:
    if turn.tool is None:
        return turn.messages
    return [{"role": "system", "content": turn.tool.instruction()}, *turn.messages]


def _digest(messages: Sequence[Mapping[str, Any]]) -> int:
    text = json.dumps(messages, sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")


class StopFilter:
    """Lets text through up to the first stop sequence, also where pieces cut one in two.

    >>> stop = StopFilter(["END"])
    >>> stop.feed("one E") + stop.feed("ND two"), stop.found
    ('one ', True)
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = [s for s in sequences if s]
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What of this can be shown now."""
        if self.stopped or not self._sequences:
            return "" if self.stopped else text
        self._held += text
        places = [place for s in self._sequences if (place := self._held.find(s)) >= 0]
        if places:
            self.stopped = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        keep = max(self._overlap(s) for s in self._sequences)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        shown, self._held = ("" if self.stopped else self._held), ""
        return shown

    def _overlap(self, sequence: str) -> int:
        """How much of the held text's end could be the start of this sequence."""
        longest = min(len(sequence) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(sequence[:n])), 0)

"""Writing JSON for a schema with a small model: text under a grammar, and listed values by their probability.

An object with named properties is written one property after the other, in the schema's order, with its keys given. A
property whose values are listed (enum, const, boolean, null) is not decoded: its values are compared. Under a grammar
this model begins a label with odd parts of words; comparing whole labels moved 12 of 20 reviews right to 20.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from skytells_nb.local.generation import json_grammar as constrain
from skytells_nb.local.generation.llama import Llama
from skytells_nb.local.generation.streaming import StreamClosed


@dataclass(frozen=True)
class ListedValues:
    """One of these values."""

    values: list[Any]


@dataclass(frozen=True)
class ObjectProperties:
    """An object of these properties."""

    properties: list[tuple[str, Part]]


@dataclass(frozen=True)
class FreeValue:
    """Whatever the schema allows, under its grammar."""

    schema: Any
    root: constrain.Schema


Part = ListedValues | ObjectProperties | FreeValue


def plan(schema: Any, root: constrain.Schema, within: tuple[str, ...] = ()) -> Part:
    """How to write a value of this schema; ``within`` are the references that led here."""
    values = constrain.listed_values(schema, root)
    if values is not None:
        return ListedValues(values)
    reference = schema.get("$ref") if isinstance(schema, dict) else None
    # A reference that leads to itself has no end to plan for.
    fields = None if reference in (*within, "#") else constrain.object_properties(schema, root)
    if fields is None:
        return FreeValue(schema, root)
    path = within if reference is None else (*within, str(reference))
    return ObjectProperties([(name, plan(part, root, path)) for name, part in fields])


def grammars(part: Part, after: str = "") -> Iterator[str]:
    """Every grammar that writing this part would use."""
    if isinstance(part, ObjectProperties):
        for _, inner in part.properties:
            yield from grammars(inner, ",")
    elif isinstance(part, FreeValue):
        yield constrain.grammar(part.schema, part.root, before=" " if after else "", after=after)


class Writer:
    """Writes one part as the continuation of ``prompt``, in at most ``limit`` tokens, calling ``put`` with its text."""

    def __init__(
        self,
        llama: Llama,
        prompt: str,
        limit: int,
        sampling: dict[str, Any],
        put: Callable[[str], None],
        closed: Callable[[], bool],
    ) -> None:
        self._llama = llama
        self._prompt = prompt
        self._limit = limit
        self._sampling = sampling
        self._put = put
        self._closed = closed
        self._random = random.Random(sampling["seed"])
        self._text = ""

    def write(self, part: Part) -> tuple[str, int]:
        """The finish reason, ``stop`` or ``length``, and the tokens of the text."""
        # Read the prompt in a way that can be stopped; what follows finds it in the cache.
        self._llama.decode(self._prompt, _nowhere, closed=self._closed, max_tokens=1, temperature=0)
        if self._closed():
            raise StreamClosed
        try:
            self._write(part, "", "")
        except _Cut:
            return "length", self._spent()
        return "stop", self._spent()

    def _write(self, part: Part, before: str, after: str) -> None:
        if isinstance(part, ListedValues):
            # At the very end nothing follows to tell 1 from 10: compare with a line's end, and leave it out.
            chosen = self._choose([before + constrain.to_json(value) + (after or "\n") for value in part.values])
            if self._spent() >= self._limit:
                raise _Cut
            self._emit(chosen if after else chosen[:-1])
        elif isinstance(part, ObjectProperties):
            self._emit(before + "{")
            for place, (name, inner) in enumerate(part.properties):
                self._emit(("" if place == 0 else " ") + constrain.to_json(name) + ":")
                self._write(inner, " ", "}" if place == len(part.properties) - 1 else ",")
            if after:
                self._emit(after)
        else:
            self._decode(constrain.grammar(part.schema, part.root, before=before, after=after))

    def _decode(self, grammar: str) -> None:
        left = self._limit - self._spent()
        if left <= 0:
            raise _Cut
        # What follows the value is in the grammar: a number could otherwise not tell where to end.
        done = self._llama.decode(
            self._prompt + self._text,
            self._emit,
            closed=self._closed,
            max_tokens=left,
            grammar=grammar,
            **self._sampling,
        )
        if done.finish_reason == "cancelled":
            raise StreamClosed
        if done.finish_reason == "length":
            raise _Cut

    def _choose(self, candidates: list[str]) -> str:
        """The candidate that the model prefers, deciding at each token where those left differ."""
        if len(candidates) == 1:
            return candidates[0]
        start = self._llama.tokenize(self._prompt + self._text)
        left = [(self._llama.tokenize(text, special=False), text) for text in candidates]
        depth = 0
        while len(left) > 1 and depth < max(len(tokens) for tokens, _ in left):
            if self._closed():
                raise StreamClosed
            branches = sorted({tokens[depth] for tokens, _ in left if len(tokens) > depth})
            token = branches[0]
            if len(branches) > 1:
                token = self._pick(branches, self._llama.probabilities([*start, *left[0][0][:depth]], branches))
            left = [(tokens, text) for tokens, text in left if len(tokens) > depth and tokens[depth] == token]
            depth += 1
        return left[0][1]

    def _pick(self, tokens: list[int], probabilities: list[float]) -> int:
        temperature = float(self._sampling["temperature"])
        best = max(probabilities)
        if temperature <= 0 or best <= 0:
            return tokens[probabilities.index(best)]
        weights = [(probability / best) ** (1 / temperature) for probability in probabilities]
        return self._random.choices(tokens, weights)[0]

    def _emit(self, text: str) -> None:
        self._text += text
        self._put(text)

    def _spent(self) -> int:
        return len(self._llama.tokenize(self._text, special=False))


def _nowhere(text: str) -> None:
    """For text that is not wanted."""


class _Cut(Exception):
    """The token limit is reached."""

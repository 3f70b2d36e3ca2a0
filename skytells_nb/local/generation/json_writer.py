"""Writes JSON for a schema with a small model: free text under a grammar, listed values by their probability.

An object with named properties is written property by property, in the schema's order; its keys are fixed text. A
property with listed values (enum, const, boolean, null) is not generated: the values are compared by probability. Under
a grammar this model starts a label with unlikely tokens; comparing whole labels raised correctly classified reviews
from 12 of 20 to 20.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from skytells_nb.local.generation import json_grammar
from skytells_nb.local.generation.llama import Llama
from skytells_nb.local.generation.streaming import StreamClosed


@dataclass(frozen=True)
class ListedValues:
    """One of the listed values."""

    values: list[Any]


@dataclass(frozen=True)
class ObjectProperties:
    """An object of these properties."""

    properties: list[tuple[str, Part]]


@dataclass(frozen=True)
class FreeValue:
    """Any value of the schema, generated under its grammar."""

    schema: Any
    root: json_grammar.Schema


Part = ListedValues | ObjectProperties | FreeValue


def plan(schema: Any, root: json_grammar.Schema, within: tuple[str, ...] = ()) -> Part:
    """Return how to write a value of a schema; ``within`` are the references followed so far."""
    values = json_grammar.listed_values(schema, root)
    if values is not None:
        return ListedValues(values)
    reference = schema.get("$ref") if isinstance(schema, dict) else None
    # A recursive reference cannot be planned completely.
    properties = None if reference in (*within, "#") else json_grammar.object_properties(schema, root)
    if properties is None:
        return FreeValue(schema, root)
    path = within if reference is None else (*within, str(reference))
    return ObjectProperties([(name, plan(part, root, path)) for name, part in properties])


def grammars(part: Part, after: str = "") -> Iterator[str]:
    """Yield all grammars that are needed to write this part."""
    if isinstance(part, ObjectProperties):
        for _, inner in part.properties:
            yield from grammars(inner, ",")
    elif isinstance(part, FreeValue):
        yield json_grammar.grammar(part.schema, part.root, before=" " if after else "", after=after)


class TokenLogprobs:
    """The log probabilities of the tokens of a text as they are generated, as OpenAI has them.

    ``alternatives`` is how many of each token's most probable alternatives are kept.
    """

    def __init__(self, alternatives: int) -> None:
        self._alternatives = alternatives
        self.content: list[dict[str, Any]] = []

    def decoding(self) -> dict[str, Any]:
        """Return the keywords of a decoding with log probabilities."""
        return {"logprobs": max(1, self._alternatives), "on_logprobs": self._decoded}

    def _decoded(self, content: list[dict[str, Any]]) -> None:
        for token in content:
            known = [self._named(each["bytes"], each["logprob"]) for each in token.get("top_logprobs") or ()]
            own = self._named(token["bytes"], token["logprob"])
            self.content.append({**own, "top_logprobs": known[: self._alternatives]})

    def token(self, text: bytes, probabilities: list[tuple[bytes, float]]) -> dict[str, Any]:
        """Return a token with its probability among these."""
        ranked = sorted(probabilities, key=lambda each: -each[1])
        known = [self._named(list(other), _log(p)) for other, p in ranked[: self._alternatives]]
        own = next(p for other, p in probabilities if other == text)
        return {**self._named(list(text), _log(own)), "top_logprobs": known}

    def add(self, tokens: list[dict[str, Any]], trim: int = 0) -> None:
        """Add tokens of the text, without so many bytes of the last one."""
        for number, token in enumerate(tokens):
            if trim and number == len(tokens) - 1:
                kept = token["bytes"][:-trim]
                token = {**token, **self._named(kept, token["logprob"])}
                if not kept:
                    continue
            self.content.append(token)

    @staticmethod
    def _named(text: list[int], logprob: float) -> dict[str, Any]:
        return {"token": bytes(text).decode("utf-8", "replace"), "logprob": max(logprob, LEAST_LOGPROB), "bytes": text}


LEAST_LOGPROB = -9999.0
"""What OpenAI states for a token that is too improbable to have one."""


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else LEAST_LOGPROB


class Writer:
    """Writes a part as the continuation of ``prompt``, in at most ``limit`` tokens; calls ``put`` with the text.

    ``logprobs`` takes the log probabilities: text that the schema fixes is certain, listed values are as probable as
    they are among each other.
    """

    def __init__(
        self,
        llama: Llama,
        prompt: str,
        limit: int,
        sampling: dict[str, Any],
        put: Callable[[str], None],
        closed: Callable[[], bool],
        logprobs: TokenLogprobs | None = None,
    ) -> None:
        self._logprobs = logprobs
        self._llama = llama
        self._prompt = prompt
        self._limit = limit
        self._sampling = sampling
        self._put = put
        self._closed = closed
        self._random = random.Random(sampling["seed"])
        self._text = ""
        self._chosen: list[dict[str, Any]] = []

    def write(self, part: Part) -> tuple[str, int]:
        """Write the part; return the finish reason, ``stop`` or ``length``, and the number of tokens."""
        # Process the prompt in a way that can be cancelled; the later steps find it in the cache.
        self._llama.decode(self._prompt, _discard, closed=self._closed, max_tokens=1, temperature=0)
        if self._closed():
            raise StreamClosed
        try:
            self._write(part, "", "")
        except _LimitReached:
            return "length", self._token_count()
        return "stop", self._token_count()

    def _write(self, part: Part, before: str, after: str) -> None:
        if isinstance(part, ListedValues):
            # At the end of the text nothing distinguishes 1 from 10: compare with a newline, and omit it.
            chosen = self._choose([before + json_grammar.to_json(value) + (after or "\n") for value in part.values])
            if self._token_count() >= self._limit:
                raise _LimitReached
            self._put_text(chosen if after else chosen[:-1])
            if self._logprobs is not None:
                self._logprobs.add(self._chosen, trim=0 if after else 1)
        elif isinstance(part, ObjectProperties):
            self._emit(before + "{")
            for index, (name, inner) in enumerate(part.properties):
                self._emit(("" if index == 0 else " ") + json_grammar.to_json(name) + ":")
                self._write(inner, " ", "}" if index == len(part.properties) - 1 else ",")
            if after:
                self._emit(after)
        else:
            self._decode(json_grammar.grammar(part.schema, part.root, before=before, after=after))

    def _decode(self, grammar: str) -> None:
        remaining = self._limit - self._token_count()
        if remaining <= 0:
            raise _LimitReached
        # The text after the value is part of the grammar, so that a number has a definite end.
        decoded = self._llama.decode(
            self._prompt + self._text,
            self._put_text,
            closed=self._closed,
            max_tokens=remaining,
            grammar=grammar,
            **self._sampling,
            **({} if self._logprobs is None else self._logprobs.decoding()),
        )
        if decoded.finish_reason == "cancelled":
            raise StreamClosed
        if decoded.finish_reason == "length":
            raise _LimitReached

    def _choose(self, candidates: list[str]) -> str:
        """Return the most probable candidate, decided token by token among the remaining candidates."""
        if self._logprobs is not None:
            return self._choose_with_logprobs(candidates)
        if len(candidates) == 1:
            return candidates[0]
        start = self._llama.tokenize(self._prompt + self._text)
        remaining = [(self._llama.tokenize(text, special=False), text) for text in candidates]
        depth = 0
        while len(remaining) > 1 and depth < max(len(tokens) for tokens, _ in remaining):
            if self._closed():
                raise StreamClosed
            branches = sorted({tokens[depth] for tokens, _ in remaining if len(tokens) > depth})
            token = branches[0]
            if len(branches) > 1:
                token = self._pick(branches, self._llama.probabilities([*start, *remaining[0][0][:depth]], branches))
            remaining = [(tokens, text) for tokens, text in remaining if len(tokens) > depth and tokens[depth] == token]
            depth += 1
        return remaining[0][1]

    def _choose_with_logprobs(self, candidates: list[str]) -> str:
        """Choose in the same way; ``_chosen`` has the tokens of the candidate with their log probabilities."""
        assert self._logprobs is not None
        start = self._llama.tokenize(self._prompt + self._text)
        remaining = [(self._llama.pieces(text), text) for text in candidates]
        self._chosen = []
        depth = 0
        while len(remaining) > 1 and depth < max(len(pieces) for pieces, _ in remaining):
            if self._closed():
                raise StreamClosed
            branches = sorted({pieces[depth][0] for pieces, _ in remaining if len(pieces) > depth})
            texts = dict(pieces[depth] for pieces, _ in remaining if len(pieces) > depth)
            before = [token for token, _ in remaining[0][0][:depth]]
            probabilities = [1.0]
            if len(branches) > 1:
                probabilities = self._llama.probabilities([*start, *before], branches)
            token = self._pick(branches, probabilities) if len(branches) > 1 else branches[0]
            total = sum(probabilities) or 1.0
            each = [(texts[one], p / total) for one, p in zip(branches, probabilities, strict=True)]
            self._chosen.append(self._logprobs.token(texts[token], each))
            remaining = [(p, text) for p, text in remaining if len(p) > depth and p[depth][0] == token]
            depth += 1
        pieces, text = remaining[0]
        self._chosen += [self._logprobs.token(piece, [(piece, 1.0)]) for _, piece in pieces[depth:]]
        return text

    def _pick(self, tokens: list[int], probabilities: list[float]) -> int:
        temperature = float(self._sampling["temperature"])
        best = max(probabilities)
        if temperature <= 0 or best <= 0:
            return tokens[probabilities.index(best)]
        weights = [(probability / best) ** (1 / temperature) for probability in probabilities]
        return self._random.choices(tokens, weights)[0]

    def _emit(self, text: str) -> None:
        self._put_text(text)
        if self._logprobs is not None:
            self._logprobs.add([self._logprobs.token(text.encode(), [(text.encode(), 1.0)])])

    def _put_text(self, text: str) -> None:
        self._text += text
        self._put(text)

    def _token_count(self) -> int:
        return len(self._llama.tokenize(self._text, special=False))


def _discard(text: str) -> None:
    """Ignore the text."""


class _LimitReached(Exception):
    """The token limit was reached."""

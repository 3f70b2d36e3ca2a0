"""Planning, as pure functions on arrays: distinct inputs, invalid rows, batching into requests, token counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.engine.budget import Reservation, TokenBounds
from skytells_nb.engine.report import Timeline
from skytells_nb.engine.service.request_size import SplitGroup
from skytells_nb.errors import InputError
from skytells_nb.formatting import blank_texts, is_blank

BYTES_PER_TOKEN = 4.0
"""UTF-8 bytes in a token, on average: within about a third of the true total for text, worse for numbers and JSON."""
REJECTION_FACTOR = 1.6
"""A text is only rejected unsent if its estimate exceeds the limit by this factor, so that none that fits is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which distinct input each row is, and which rows are not sent.

    ``codes`` (n,) holds the number of a distinct input, or -1 for a row that is missing or invalid; ``invalid`` maps
    the invalid rows to their errors.
    """

    codes: NDArray[np.int64]
    inputs: list[str]
    nulls: int
    invalid: Mapping[int, InputError]

    @property
    def rows(self) -> int:
        return len(self.codes)

    def rows_of(self, numbers: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        """Return the rows of any of these distinct inputs, ascending."""
        return np.flatnonzero(np.isin(self.codes, np.asarray(numbers, dtype=np.int64)))

    def counts(self) -> NDArray[np.int64]:
        """Return the number of rows of each distinct input, (k,)."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.inputs)).astype(np.int64)


def plan(texts: Sequence[str | None] | NDArray[Any], *, max_tokens: int | None = None) -> Plan:
    """Return the plan for these rows: ``None`` is missing, text that is empty or certainly too long is invalid.

    ``max_tokens`` is the service's limit for one input.
    """
    # The interpreter's own loops: a row costs a fifth of what it does in a Python loop.
    inputs: list[str] = [text for text in dict.fromkeys(texts) if text is not None]
    if len(inputs) == len(texts):
        # Nothing to look up: the table would take up to 100 bytes a row.
        codes = np.arange(len(texts))
    else:
        numbers: dict[str | None, int] = dict(zip(inputs, range(len(inputs)), strict=True))
        numbers[None] = -1
        codes = np.fromiter(map(numbers.__getitem__, texts), dtype=np.int64, count=len(texts))
        del numbers
    nulls = int(np.count_nonzero(codes < 0))
    invalid: dict[int, InputError] = {}
    problems = _problems(inputs, max_tokens)
    if problems:
        for row in np.flatnonzero(np.isin(codes, list(problems))):
            invalid[int(row)] = problems[int(codes[row])]
        valid = np.array([number not in problems for number in range(len(inputs))])
        renumber = np.where(valid, np.cumsum(valid) - 1, -1)
        codes = np.where(codes >= 0, renumber[codes], -1)
        inputs = [text for text, is_valid in zip(inputs, valid, strict=True) if is_valid]
    return Plan(codes, inputs, nulls, invalid)


def _problems(texts: Sequence[str], max_tokens: int | None) -> dict[int, InputError]:
    """Return the errors of texts that cannot be sent, by number."""
    sizes, ascii_only = _sizes(texts)
    suspects = ~ascii_only
    suspects[blank_texts(texts)] = True
    if max_tokens is not None:
        suspects |= sizes > max_tokens
    checked = ((number, _problem(texts[number], max_tokens)) for number in np.flatnonzero(suspects).tolist())
    return {number: problem for number, problem in checked if problem is not None}


def _problem(text: str, max_tokens: int | None) -> InputError | None:
    if is_blank(text):
        return InputError("the text is empty; empty texts are not sent")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as problem:
            surrogate = text[problem.start]
            return InputError(
                f"the text has invalid Unicode (an unpaired surrogate, {surrogate!r}), which cannot be sent; clean the "
                "column first"
            )
    if max_tokens is not None and len(text) > max_tokens:
        tokens = estimate_tokens(text)
        if tokens > max_tokens * REJECTION_FACTOR:
            return InputError(f"the text has about {tokens:,} tokens and the limit is {max_tokens:,}; cut or split it")
    return None


def estimate_tokens(text: str) -> int:
    """Return an estimate of a text's tokens: a quarter of its UTF-8 bytes, at least 1."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return max(1, round(size / BYTES_PER_TOKEN))


def token_estimates(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return ``estimate_tokens`` of each text, int64 (n,)."""
    sizes, ascii_only = _sizes(texts)
    for number in np.flatnonzero(~ascii_only).tolist():
        sizes[number] = len(texts[number].encode("utf-8", "surrogatepass"))
    return np.maximum(1, np.rint(sizes / BYTES_PER_TOKEN)).astype(np.int64)


def _sizes(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the characters of each text, and whether it has as many bytes."""
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return sizes, np.fromiter(map(str.isascii, texts), dtype=np.bool_, count=len(texts))


def pack_requests(
    numbers: NDArray[np.int64], tokens: NDArray[np.int64], *, max_items: int, max_tokens: int
) -> list[NDArray[np.int64]]:
    """Split inputs, in order, into requests of at most ``max_items`` inputs and ``max_tokens`` tokens.

    ``tokens`` are those of ``numbers``. An input that exceeds ``max_tokens`` by itself gets a request of its own.
    """
    count = len(numbers)
    starts = np.arange(count)
    if max_items > 1:
        ends = np.cumsum(tokens)
        full = np.searchsorted(ends, ends - tokens + max_tokens, side="right")
        # Where a request that starts here would stop; followed from request to request.
        stops = np.minimum(np.maximum(full, starts + 1), starts + max_items)
        places, start = [], 0
        while start < count:
            places.append(start)
            start = int(stops[start])
        starts = np.array(places, dtype=np.int64)
    bounds = [*starts.tolist(), count]
    return [numbers[start:stop] for start, stop in pairwise(bounds)]


@dataclass(slots=True)
class PlannedRequest:
    """Distinct inputs of one request, the number of their rows, and their expected input tokens."""

    numbers: NDArray[np.int64]
    rows: int
    tokens: float
    estimated: float
    """Tokens estimated from bytes alone, without calibration."""
    failures: int = 0
    wait: float = 0.0
    """Seconds that it should wait by itself after a rejection."""
    too_large: bool = False
    """Whether it was rejected for its size, so that it has to be sent in parts."""
    group: SplitGroup | None = None
    """The parts of a rejected request, of which it is one."""
    reservation: Reservation | None = None
    """What is reserved for it while it is in flight, if the call has a budget."""

    @property
    def most_tokens(self) -> float:
        """Input tokens that it may have at most: a token is a byte or more, and each input has a few of its own."""
        return BYTES_PER_TOKEN * (self.estimated + len(self.numbers))

    def token_bounds(self, max_output_tokens: float) -> TokenBounds:
        """Return what it may use, where each input has an answer of at most so many tokens."""
        count = len(self.numbers)
        return TokenBounds(count, self.tokens, self.most_tokens, max_output_tokens * count)


@dataclass
class RunCounters:
    """What a run has done so far; only changed under its lock."""

    errors: dict[int, Exception] = field(default_factory=dict)
    answered: int = 0
    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    """US dollars for the tokens that the service reported."""
    missing_usage: int = 0
    """Requests that were answered without a usage that can be true."""
    rows_done: int = 0
    rows_failed: int = 0
    timeline: Timeline = field(default_factory=Timeline)

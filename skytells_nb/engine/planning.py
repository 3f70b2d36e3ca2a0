"""Planning, as pure functions on arrays: distinct inputs, invalid rows, batching into requests, token counts."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat
from typing import Any, Protocol, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from skytells_nb.engine.budget import Reservation, TokenBounds
from skytells_nb.engine.report import Timeline
from skytells_nb.engine.service.request_size import SplitGroup
from skytells_nb.errors import InputError
from skytells_nb.formatting import BLANK, BLANK_BEGINNINGS, first_character
from skytells_nb.types.embeddings import MAX_REQUEST_TOKENS

BYTES_PER_TOKEN = 4.0
"""UTF-8 bytes in a token, on average: within about a third of the true total for text, worse for numbers and JSON."""
REJECTION_FACTOR = 1.6
"""A text is only rejected unsent if its estimate exceeds the limit by this factor, so that none that fits is."""
TEXTS_AT_ONCE = 65_536
"""Texts in memory at once, of a source that makes them when they are asked for."""


class TextSource(Protocol):
    """Texts by row, made when they are asked for: for more of them than are to be in memory at once."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[Any]:
        """Return the texts of these rows, ``None`` for a missing one, in an object array."""
        ...


RowTexts: TypeAlias = Sequence[str | None] | NDArray[Any] | TextSource
"""The texts of the rows of a call, ``None`` for a missing one."""


class Inputs(Sequence[str]):
    """The texts of these rows of a source, made when they are asked for.

    >>> inputs = Inputs(np.array(["a", None, "b"], dtype=object), np.array([0, 2]))
    >>> inputs[1], list(inputs)
    ('b', ['a', 'b'])
    """

    def __init__(self, texts: NDArray[Any] | TextSource, rows: NDArray[np.int64]) -> None:
        self._texts = texts
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice | NDArray[np.int64]) -> list[str]: ...
    def __getitem__(self, number: int | slice | NDArray[np.int64]) -> str | list[str]:
        rows = self._rows[number]
        if isinstance(number, slice | np.ndarray):
            texts: list[str] = _texts_of_rows(self._texts, rows).tolist()
            return texts
        return self[np.array([number])][0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), TEXTS_AT_ONCE):
            yield from self[start : start + TEXTS_AT_ONCE]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which distinct input each row is, and which rows are not sent.

    ``codes`` (n,) holds the number of a distinct input, or -1 for a row that is missing or invalid; ``weights`` (k,)
    the number of rows of each input; ``invalid`` maps the invalid rows to their errors.
    """

    codes: NDArray[np.int64]
    inputs: Sequence[str]
    weights: NDArray[np.int64]
    nulls: int
    invalid: Mapping[int, InputError]

    @property
    def rows(self) -> int:
        return len(self.codes)

    def rows_of(self, numbers: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        """Return the rows of any of these distinct inputs, ascending."""
        return np.flatnonzero(np.isin(self.codes, np.asarray(numbers, dtype=np.int64)))

    def texts(self, numbers: NDArray[np.int64]) -> list[str]:
        """Return the texts of these distinct inputs."""
        inputs = self.inputs
        if isinstance(inputs, list):
            return [inputs[number] for number in numbers.tolist()]
        assert isinstance(inputs, Inputs)
        return inputs[numbers]


def plan(texts: RowTexts, *, max_tokens: int | None = None) -> Plan:
    """Return the plan for these rows: ``None`` is missing, text that is empty or certainly too long is invalid.

    ``max_tokens`` is the service's limit for one input. Texts of a source are never all in memory.
    """
    if isinstance(texts, Sequence):
        given, texts = texts, np.empty(len(texts), dtype=object)
        texts[:] = given
    rows, codes = _distinct(texts)
    nulls = int(np.count_nonzero(codes < 0))
    problems: dict[int, InputError] = {}
    for start in range(0, len(rows), TEXTS_AT_ONCE):
        found = _problems(_texts_of_rows(texts, rows[start : start + TEXTS_AT_ONCE]).tolist(), max_tokens)
        problems.update((start + number, problem) for number, problem in found.items())
    invalid: dict[int, InputError] = {}
    if problems:
        for row in np.flatnonzero(np.isin(codes, list(problems))):
            invalid[int(row)] = problems[int(codes[row])]
        valid = np.ones(len(rows), dtype=np.bool_)
        valid[list(problems)] = False
        renumber = np.where(valid, np.cumsum(valid) - 1, -1)
        codes = np.where(codes >= 0, renumber[codes], -1)
        rows = rows[valid]
    if len(rows) == len(codes) - nulls - len(invalid):
        # One of which every element is the same: no memory a row.
        weights = np.broadcast_to(np.int64(1), len(rows))
    else:
        weights = np.bincount(codes[codes >= 0], minlength=len(rows)).astype(np.int64, copy=False)
    in_memory = isinstance(texts, np.ndarray)
    inputs = _texts_of_rows(texts, rows).tolist() if in_memory else Inputs(texts, rows)
    return Plan(codes, inputs, weights, nulls, invalid)


def _distinct(texts: NDArray[Any] | TextSource) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each different text, ascending, and of which of these texts each row is, -1 for ``None``.

    By the texts' hashes, 8 bytes a row where a dictionary takes 100 and holds all texts.
    """
    count = len(texts)
    hashes = np.empty(count, dtype=np.int64)
    for start in range(0, count, TEXTS_AT_ONCE):
        block = texts[start : start + TEXTS_AT_ONCE]
        hashes[start : start + len(block)] = np.fromiter(map(hash, block), dtype=np.int64, count=len(block))
    nones = np.flatnonzero(hashes == hash(None))
    are_none = map(operator.is_, _texts_of_rows(texts, nones), repeat(None))
    nones = nones[np.fromiter(are_none, dtype=np.bool_, count=len(nones))]
    ordered = np.sort(hashes)
    if (ordered[1:] == ordered[:-1]).any():
        del ordered
        first = _first_rows(hashes)
        repeated = np.flatnonzero(first != np.arange(count))
        for start in range(0, len(repeated), TEXTS_AT_ONCE):
            block = repeated[start : start + TEXTS_AT_ONCE]
            if not all(map(operator.eq, _texts_of_rows(texts, block), _texts_of_rows(texts, first[block]))):
                # Two texts of one hash: about once in a million calls with ten million rows.
                seen: dict[str | None, int] = {}
                first = np.fromiter(map(seen.setdefault, texts[:], range(count)), dtype=np.int64, count=count)
                break
    else:
        del ordered, hashes
        first = np.arange(count)
        if not len(nones):
            return first, first
    first[nones] = -1
    rows = np.flatnonzero(first == np.arange(count))
    numbers = np.full(count + 1, -1, dtype=np.int64)
    numbers[rows] = np.arange(len(rows))
    return rows, numbers[first]


def _first_rows(hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row the first row of the same hash."""
    order = np.argsort(hashes, kind="stable")
    starts = np.empty(len(hashes), dtype=np.bool_)
    starts[:1] = True
    ordered = hashes[order]
    np.not_equal(ordered[1:], ordered[:-1], out=starts[1:])
    del ordered
    heads = np.where(starts, np.arange(len(hashes)), 0)
    np.maximum.accumulate(heads, out=heads)
    first = np.empty_like(order)
    first[order] = order[heads]
    return first


def _texts_of_rows(texts: NDArray[Any] | TextSource, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the texts of these rows; of consecutive ones at once, which a source makes three times as fast."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return texts[int(rows[0]) : int(rows[-1]) + 1]
    return texts[rows]


def _problems(texts: Sequence[str], max_tokens: int | None) -> dict[int, InputError]:
    """Return the errors of texts that cannot be sent, by number."""
    sizes, ascii_only = _sizes(texts)
    suspects = ~ascii_only
    begins_blank = map(BLANK_BEGINNINGS.__contains__, map(first_character, map(str.lstrip, texts)))
    suspects |= np.fromiter(begins_blank, dtype=np.bool_, count=len(texts))
    if max_tokens is not None:
        suspects |= sizes > max_tokens
    checked = ((number, _problem(texts[number], max_tokens)) for number in np.flatnonzero(suspects).tolist())
    return {number: problem for number, problem in checked if problem is not None}


def _problem(text: str, max_tokens: int | None) -> InputError | None:
    # The look-up first: to strip so many characters takes longer than the rest.
    if text.lstrip()[:1] in BLANK_BEGINNINGS and not text.strip(BLANK):
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


def plan_requests(
    planned: Plan,
    numbers: NDArray[np.int64],
    *,
    overhead_tokens: int,
    token_factor: float,
    max_items: int,
    max_bytes: float | None,
) -> list[PlannedRequest]:
    """Return the requests for these inputs, of whose texts one block is in memory at a time.

    Each input has ``overhead_tokens`` beside its text; ``token_factor`` calibrates estimates from bytes. A request has
    at most ``max_items`` inputs, and ``max_bytes`` bytes if the service is known to take no more.
    """
    requests: list[PlannedRequest] = []
    while len(numbers):
        block = numbers[:TEXTS_AT_ONCE]
        estimates = token_estimates(planned.texts(block)) + overhead_tokens
        tokens = sizes = np.ceil(estimates * token_factor).astype(np.int64)
        if max_bytes is not None:
            scale = MAX_REQUEST_TOKENS * BYTES_PER_TOKEN / max_bytes
            sizes = np.maximum(tokens, np.ceil(estimates * scale).astype(np.int64))
        batches = pack_requests(block, sizes, max_items=max_items, max_tokens=MAX_REQUEST_TOKENS)
        if len(block) < len(numbers) and len(batches) > 1:
            # The last one may take inputs of the next block too.
            block = block[: -len(batches.pop())]
        starts = np.cumsum([0, *map(len, batches)])[:-1]
        columns = (planned.weights[block], tokens[: len(block)], estimates[: len(block)])
        sums = (np.add.reduceat(column, starts).tolist() for column in columns)
        requests += [PlannedRequest(*fields) for fields in zip(batches, *sums, strict=True)]
        numbers = numbers[len(block) :]
    return requests


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

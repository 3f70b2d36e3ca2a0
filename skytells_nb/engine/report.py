"""What a run did: rows, requests, tokens, dollars, failures."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal


@dataclass
class UsageTotals:
    """What was used: requests, tokens, US dollars (``None`` where a price was not known), safety verdicts."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0
    filtered: int = 0
    blocked: int = 0
    unchecked: int = 0
    by_model: dict[str, UsageTotals] = field(default_factory=dict)

    def add(self, model: str, requests: int, tokens_in: int, tokens_out: int, cost: float | None) -> None:
        for totals in (self, self.by_model.setdefault(model, UsageTotals())):
            totals.requests += requests
            totals.input_tokens += tokens_in
            totals.output_tokens += tokens_out
            totals.cost = None if cost is None or totals.cost is None else totals.cost + cost


RunState = Literal["running", "done", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. Rows count input rows; ``cost`` is US dollars, ``None`` where no price is known."""

    label: str
    state: RunState
    rows: int
    done: int
    cached: int
    failed: int
    requests: int
    tokens: int
    cost: float | None
    seconds: float
    retries: int = 0
    in_flight: int = 0
    """Requests under way just now."""
    limit: str | None = None
    """The account's limit as far as it is known, such as "25 requests per 60 s"."""
    waiting: str | None = None
    """What is waited for just now, such as "12 s for the account's limit"."""

    @property
    def rate(self) -> float:
        """Rows a second since the start, cached ones not counted."""
        return (self.done - self.cached) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the rate so far; ``None`` before anything came back."""
        rate = self.rate
        return (self.rows - self.done) / rate if rate > 0 else None


ProgressCallback = Callable[[Progress], None]


def no_progress(event: Progress) -> None:
    """The listener for runs that nobody watches."""


LEAST_S = 0.001
PER_DOUBLING = 4
"""Latencies are counted in steps of a fourth of a doubling, so that a percentile is right within 9 %."""
STEPS = 80
"""From a millisecond to seventeen minutes."""
STRETCHES = 240
"""Stretches of time at most; a run that lasts longer has longer ones."""


@dataclass
class Timeline:
    """What became of requests over time, in a few kB however many they are.

    ``latencies[i]`` counts answers that took from ``LEAST_S * 2 ** (i / PER_DOUBLING)`` seconds to the next step.
    ``answered[i]`` and ``refused[i]`` count requests in the ``i``-th stretch of ``stretch`` seconds since ``started``
    (Unix time); ``permitted[i]`` is the rate, in requests a second, that was known to be permitted then (``None``:
    no limit was known). Changed under its owner's lock only.
    """

    started: float = field(default_factory=time.time)
    stretch: float = 1.0
    latencies: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    permitted: list[float | None] = field(default_factory=list)

    def record_answer(self, at: float, seconds: float, permitted: float) -> None:
        """A request was answered ``at`` seconds after the start, having taken so many."""
        step = int(PER_DOUBLING * math.log2(seconds / LEAST_S)) if seconds > LEAST_S else 0
        if step >= len(self.latencies):
            self.latencies.extend([0] * (min(step, STEPS - 1) + 1 - len(self.latencies)))
        self.latencies[min(step, STEPS - 1)] += 1
        # The lists may be made anew while the place is found.
        place = self._stretch(at, permitted)
        self.answered[place] += 1

    def record_rejection(self, at: float, permitted: float) -> None:
        """A request was refused for the account's limit, ``at`` seconds after the start."""
        place = self._stretch(at, permitted)
        self.refused[place] += 1

    def copy(self) -> Timeline:
        """What is known now."""
        return replace(
            self,
            latencies=self.latencies.copy(),
            answered=self.answered.copy(),
            refused=self.refused.copy(),
            permitted=self.permitted.copy(),
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, with the bounds of the latencies."""
        names = ("started", "stretch", "latencies", "answered", "refused", "permitted")
        return {**{name: getattr(self, name) for name in names}, "least": LEAST_S, "per_doubling": PER_DOUBLING}

    def _stretch(self, at: float, permitted: float) -> int:
        """The place of this moment, where what is permitted is noted."""
        while at >= STRETCHES * self.stretch:
            self._halve()
        place = max(0, int(at / self.stretch))
        while place >= len(self.answered):
            self.answered.append(0)
            self.refused.append(0)
            self.permitted.append(None)
        self.permitted[place] = permitted if permitted < math.inf else None
        return place

    def _halve(self) -> None:
        """Join each two stretches to one twice as long."""
        self.stretch *= 2
        self.answered = _pairs(self.answered)
        self.refused = _pairs(self.refused)
        odd = self.permitted[1::2] + [None] * (len(self.permitted) % 2)
        self.permitted = [
            later if later is not None else earlier for earlier, later in zip(self.permitted[::2], odd, strict=True)
        ]


def _pairs(counts: list[int]) -> list[int]:
    return [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did.

    ``rows`` are input rows; each is one of ``answered``, ``nulls``, ``failed`` and, where the run ended early,
    ``unsent``. ``distinct`` counts the different inputs that can be sent; ``cached`` those answered from the cache,
    ``sent`` those answered by the service. Tokens are the service's own count; ``cost`` is US dollars by the known
    price, ``None`` where none is known. ``limit`` is the account's limit as far as the service told it. ``errors``
    maps a row's position to its error, and ``partial`` holds the column as far as an interrupted run had come.
    ``course`` says how long answers took and what was answered and refused when.
    """

    operation: str
    model: str
    state: RunState
    rows: int = 0
    distinct: int = 0
    nulls: int = 0
    cached: int = 0
    sent: int = 0
    answered: int = 0
    failed: int = 0
    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None
    seconds: float = 0.0
    limit: str | None = None
    errors: Mapping[int, Exception] = field(default_factory=dict)
    partial: Any = field(default=None, repr=False)
    course: Timeline | None = field(default=None, repr=False)

    @property
    def unsent(self) -> int:
        """Rows that the run did not come to."""
        return self.rows - self.answered - self.nulls - self.failed

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values; errors as text by row position."""
        figures = {name: value for name, value in _fields(self).items() if name not in ("errors", "partial", "course")}
        errors = {row: str(error) for row, error in self.errors.items()}
        course = None if self.course is None else self.course.to_dict()
        return {**figures, "unsent": self.unsent, "errors": errors, "course": course}

    def reasons(self, most: int = 3) -> list[str]:
        """The commonest errors with their number of rows, most frequent first; request ids make no difference."""
        alike: dict[str, list[str]] = {}
        for error in self.errors.values():
            text = f"{type(error).__name__}: {str(error).rstrip('.')}"
            request = getattr(error, "request_id", None)
            alike.setdefault(text.replace(request, "") if request else text, []).append(text)
        ranked = sorted(alike.values(), key=lambda texts: -len(texts))
        return [f"{len(texts):,} row{'s' if len(texts) > 1 else ''}: {texts[0]}" for texts in ranked[:most]]

    def __str__(self) -> str:
        return "\n".join(f"{name:<9} {value}" for name, value in self._lines())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._lines()
        )
        return f"<table>{rows}</table>"

    def _lines(self) -> list[tuple[str, str]]:
        unsent = f", {self.unsent:,} not sent" if self.unsent else ""
        lines = [
            ("operation", f"{self.operation} with {self.model} ({self.state})"),
            ("rows", f"{self.rows:,} ({self.distinct:,} distinct, {self.nulls:,} null)"),
            ("", f"{self.answered:,} answered, {self.failed:,} failed{unsent}"),
            ("answers", f"{self.cached:,} from the cache, {self.sent:,} from the service"),
            ("requests", f"{self.requests:,} ({self.retries:,} of them tried again)"),
            ("tokens", f"{self.tokens_in:,} in, {self.tokens_out:,} out"),
            ("cost", "no price known" if self.cost is None else dollars(self.cost)),
            ("seconds", f"{self.seconds:.1f}"),
            *([("limit", self.limit)] if self.limit else []),
        ]
        return lines + [("errors", reason) for reason in self.reasons()]


def _fields(report: Report) -> dict[str, Any]:
    return {name: getattr(report, name) for name in report.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do. Tokens are estimated, so dollars are too.

    Input tokens come from bytes, within about a third; once the service has counted some for this model in this
    process, they are scaled by what it counted (``calibrated``). Output tokens are the mean of this call's kept
    answers, else ``max_tokens``, else 256 a row.
    """

    operation: str
    model: str
    rows: int
    distinct: int
    cached: int
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    minutes: float | None
    """At the account's known limit; ``None`` before the service has told it."""
    limit: str | None = None
    """That limit, such as "25 requests per 60 s"."""
    calibrated: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        cost = "no price known" if self.cost is None else f"about {dollars(self.cost)}"
        text = (
            f"{self.operation} with {self.model}: {self.rows:,} rows, {self.distinct:,} distinct, "
            f"{self.cached:,} cached, {self.requests:,} requests, "
            f"about {self.tokens_in:,} tokens in and {self.tokens_out:,} out, {cost}"
        )
        return text if self.minutes is None else f"{text}, {self.minutes:.1f} min at {self.limit or 'the known limit'}"


def dollars(amount: float) -> str:
    """US dollars: $12.34; below a cent with as many digits as it takes."""
    if amount == 0 or abs(amount) >= 0.00995:
        return f"${amount:,.2f}"
    return f"${amount:.6f}".rstrip("0") if abs(amount) >= 0.000001 else "<$0.000001"

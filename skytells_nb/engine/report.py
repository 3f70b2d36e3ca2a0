"""Reports of runs: usage, timeline, estimate."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from skytells_nb.formatting import format_cost, format_dollars
from skytells_nb.progress.events import Progress as Progress
from skytells_nb.progress.events import RunState as RunState
from skytells_nb.types.models import Price

MAX_TOKENS = 1_000_000_000
MAX_ADDED_TOKENS, MAX_TOKENS_OUT, MAX_TOKENS_PER_CHARACTER = 100_000, 262_144, 16
"""Tokens beyond which a usage cannot be true: of any request; what a gateway adds to a prompt; of one answer with its
reasoning; for a character of the input."""


def is_plausible_usage(
    tokens_in: int, tokens_out: int, characters: int | None = None, *, answered: bool = False
) -> bool:
    """Return whether a usage can be true for one answer to so many characters; ``answered`` is whether it has a text.

    Without ``characters`` it can be the sum of many.

    >>> is_plausible_usage(12, 5, 40, answered=True), is_plausible_usage(12, 0, 40, answered=True)
    (True, False)
    """
    if characters is None:
        return 0 <= tokens_in <= MAX_TOKENS and 0 <= tokens_out <= MAX_TOKENS and tokens_in + tokens_out > 0
    max_in = MAX_ADDED_TOKENS + MAX_TOKENS_PER_CHARACTER * characters
    return 0 < tokens_in <= max_in and bool(answered) <= tokens_out <= MAX_TOKENS_OUT


@dataclass
class UsageTotals:
    """Usage: requests, tokens, US dollars (``None`` if a price was not known), safety results."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0
    filtered: int = 0
    blocked: int = 0
    unchecked: int = 0
    by_model: dict[str, UsageTotals] = field(default_factory=dict)
    missing_usage: int = 0
    """Answers whose usage the service did not report: they are in no tokens and no dollars."""

    def add(
        self, model: str, requests: int, tokens_in: int, tokens_out: int, cost: float | None, missing_usage: int = 0
    ) -> None:
        """Add the usage of one model."""
        for totals in (self, self.by_model.setdefault(model, UsageTotals())):
            totals.requests += requests
            totals.missing_usage += missing_usage
            totals.input_tokens += tokens_in
            totals.output_tokens += tokens_out
            totals.cost = None if cost is None or totals.cost is None else totals.cost + cost


MIN_LATENCY_S = 0.001
PER_DOUBLING = 4
"""Latency steps per doubling: a percentile is exact within 9 %."""
LATENCY_STEPS = 80
"""From a millisecond to seventeen minutes."""
MAX_INTERVALS = 240
"""Most intervals; a longer run has longer ones."""


@dataclass
class Timeline:
    """Requests over time, in a few kB however many they are.

    ``latencies[i]`` counts answers that took from ``MIN_LATENCY_S * 2 ** (i / PER_DOUBLING)`` seconds to the next step.
    ``answered[i]`` and ``refused[i]`` count requests in the ``i``-th interval of ``interval`` seconds since ``started``
    (Unix time); ``permitted[i]`` is the rate known to be permitted then, in requests a second (``None``: no limit was
    known). Only changed under its owner's lock.
    """

    started: float = field(default_factory=time.time)
    interval: float = 1.0
    latencies: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    permitted: list[float | None] = field(default_factory=list)

    def record_response(self, at: float, seconds: float, permitted: float) -> None:
        """A request was answered ``at`` seconds after the start, after a latency of ``seconds``."""
        step = int(PER_DOUBLING * math.log2(seconds / MIN_LATENCY_S)) if seconds > MIN_LATENCY_S else 0
        if step >= len(self.latencies):
            self.latencies.extend([0] * (min(step, LATENCY_STEPS - 1) + 1 - len(self.latencies)))
        self.latencies[min(step, LATENCY_STEPS - 1)] += 1
        # Finding the index may replace the lists.
        index = self._index(at, permitted)
        self.answered[index] += 1

    def record_rejection(self, at: float, permitted: float) -> None:
        """A request was rejected by the account's limit, ``at`` seconds after the start."""
        index = self._index(at, permitted)
        self.refused[index] += 1

    def mean_latency(self) -> tuple[float, int]:
        """Return the mean latency in seconds, within 9 %, and the number of answers; 0 without one."""
        count = sum(self.latencies)
        if not count:
            return 0.0, 0
        total = sum(n * 2 ** ((step + 0.5) / PER_DOUBLING) for step, n in enumerate(self.latencies) if n)
        return MIN_LATENCY_S * total / count, count

    def latency(self, share: float) -> float | None:
        """Return the seconds within which this share of the answers came, within 9 %; ``None`` without one."""
        needed, seen = share * sum(self.latencies), 0
        for step, count in enumerate(self.latencies):
            seen += count
            if count and seen >= needed:
                return float(MIN_LATENCY_S * 2 ** ((step + 0.5) / PER_DOUBLING))
        return None

    def copy(self) -> Timeline:
        """Return a copy of the present state."""
        return replace(
            self,
            latencies=self.latencies.copy(),
            answered=self.answered.copy(),
            refused=self.refused.copy(),
            permitted=self.permitted.copy(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, with the bounds of the latencies."""
        names = ("started", "interval", "latencies", "answered", "refused", "permitted")
        return {**{name: getattr(self, name) for name in names}, "least": MIN_LATENCY_S, "per_doubling": PER_DOUBLING}

    def _index(self, at: float, permitted: float) -> int:
        """Return the index of the interval at this time, with the permitted rate recorded."""
        while at >= MAX_INTERVALS * self.interval:
            self._halve()
        index = max(0, int(at / self.interval))
        while index >= len(self.answered):
            self.answered.append(0)
            self.refused.append(0)
            self.permitted.append(None)
        self.permitted[index] = permitted if permitted < math.inf else None
        return index

    def _halve(self) -> None:
        """Merge each two intervals into one twice as long."""
        self.interval *= 2
        self.answered = _sum_pairs(self.answered)
        self.refused = _sum_pairs(self.refused)
        later_half = self.permitted[1::2] + [None] * (len(self.permitted) % 2)
        self.permitted = [
            later if later is not None else earlier
            for earlier, later in zip(self.permitted[::2], later_half, strict=True)
        ]


def _sum_pairs(counts: list[int]) -> list[int]:
    return [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]


@dataclass(frozen=True)
class CascadeReport:
    """What a cascade left to its proxy: ``by_proxy`` rows, while the model was ``asked`` about so many texts.

    ``bound`` is the least agreement of the proxy with the model on those rows, at the confidence ``level``; ``None``
    where ``agree`` could not be certified, for the ``reason``, and the model was asked about everything.
    ``saved_cost`` and ``saved_minutes`` are estimates of what asking about them would have taken.
    """

    agree: float
    level: float
    rows: int
    asked: int
    by_proxy: int
    bound: float | None = None
    saved_cost: float | None = None
    saved_minutes: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.bound is None:
            return f"{self.agree:.1%} cannot be guaranteed, so the model was asked about every text: {self.reason}"
        saved = [] if self.saved_cost is None else [format_dollars(self.saved_cost)]
        saved += [] if self.saved_minutes is None else [f"{self.saved_minutes:.1f} min"]
        return (
            f"{self.by_proxy:,} of {self.rows:,} rows by a softmax on embeddings, which agrees with the model in at "
            f"least {self.bound:.1%} ({self.level:.0%} confidence); saved {' and '.join(saved) or 'their requests'}"
        )


@dataclass(frozen=True)
class RecipeReport:
    """How the rows of a frame compare with those of the frame whose columns a recipe makes for it.

    ``reused`` have the values of a row of that frame, ``changed`` the index label of one whose values are gone, ``new``
    are all others.
    """

    new: int
    changed: int
    reused: int

    def __str__(self) -> str:
        return f"{self.new:,} rows are new, {self.changed:,} changed, {self.reused:,} reused"


@dataclass(frozen=True)
class RankingReport:
    """What a ranking compared: so many of the different ``texts``, in pairs, each in both orders.

    ``first_share`` is the share of the answers that chose the first text, 0.5 without a position bias, and ``reversed``
    the share of the pairs with another answer in the other order; ``None`` where nothing was answered.
    """

    texts: int
    compared: int
    comparisons: int
    limit: int
    first_share: float | None = None
    reversed: float | None = None

    def __str__(self) -> str:
        left_out = "" if self.compared == self.texts else f" of {self.texts:,}"
        bias = "" if self.first_share is None else f"; the first text was chosen in {self.first_share:.1%}"
        changed = "" if self.reversed is None else f", and {self.reversed:.1%} of the pairs changed with the order"
        counted = f"{self.comparisons:,} comparisons (at most {self.limit:,}) of {self.compared:,}{left_out} texts"
        return f"{counted}{bias}{changed}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did.

    ``rows`` are input rows; each is one of ``answered``, ``nulls``, ``failed`` and, if the run ended early,
    ``skipped``. ``distinct`` counts the different inputs that can be sent; ``cached`` those answered from the
    cache, ``sent`` those answered by the service. Tokens are the service's own count; ``cost`` is US dollars by the
    known price, ``None`` if none is known. ``missing_usage`` counts the answers whose usage the service did not report,
    or reported in a way that cannot be true: they are in no tokens and no dollars. ``cost_upper_bound`` is what counts
    against ``budget=``, where these are at the most that they may have cost; ``None`` without a budget. ``limit`` is
    the account's limit as far as the service reported it. ``errors`` maps a row's position to its error; ``normalized``
    counts the answered rows whose answer matched its schema only as a person would read it (in another case, without
    its object, yes in place of true), and ``partial`` holds the column of an interrupted run with its partial results.
    ``timeline`` holds latencies, and the requests answered and rejected over time.
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
    missing_usage: int = 0
    cost_upper_bound: float | None = None
    seconds: float = 0.0
    limit: str | None = None
    errors: Mapping[int, Exception] = field(default_factory=dict)
    normalized: int = 0
    partial: Any = field(default=None, repr=False)
    timeline: Timeline | None = field(default=None, repr=False)
    recall: float | None = None
    """The measured share of near rows that an approximate comparison saw; ``None`` where every pair was compared."""
    cascade: CascadeReport | None = None
    """What a cascade (``agree=``) left to its proxy."""
    ranking: RankingReport | None = None
    """What ``rank`` compared, and how far its answers follow the order of the texts."""
    recipe: RecipeReport | None = None
    """How the rows of ``recipe().apply()`` compare with those of the frame before."""
    notes: tuple[str, ...] = ()
    """What else is to be known about the call, such as what would do better."""

    @property
    def skipped(self) -> int:
        """Rows that the run did not reach."""
        return self.rows - self.answered - self.nulls - self.failed

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values; errors as text by row position."""
        apart = ("errors", "partial", "timeline", "cascade", "ranking", "recipe")
        figures = {name: value for name, value in _fields(self).items() if name not in apart}
        errors = {row: str(error) for row, error in self.errors.items()}
        timeline = None if self.timeline is None else self.timeline.to_dict()
        cascade = None if self.cascade is None else asdict(self.cascade)
        ranking = None if self.ranking is None else asdict(self.ranking)
        recipe = None if self.recipe is None else asdict(self.recipe)
        more = {"errors": errors, "timeline": timeline, "cascade": cascade, "ranking": ranking, "recipe": recipe}
        return {**figures, "skipped": self.skipped, **more}

    def reasons(self, most: int = 3) -> list[str]:
        """Return the most frequent errors with their number of rows; differing request ids count as the same error."""
        grouped: dict[str, list[str]] = {}
        for error in self.errors.values():
            text = f"{type(error).__name__}: {str(error).rstrip('.')}"
            request = getattr(error, "request_id", None)
            grouped.setdefault(text.replace(request, "") if request else text, []).append(text)
        ranked = sorted(grouped.values(), key=lambda texts: -len(texts))
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
        skipped = f", {self.skipped:,} skipped" if self.skipped else ""
        lines = [
            ("operation", f"{self.operation} with {self.model} ({self.state})"),
            ("rows", f"{self.rows:,} ({self.distinct:,} distinct, {self.nulls:,} missing)"),
            ("", f"{self.answered:,} answered, {self.failed:,} failed{skipped}"),
            ("answers", f"{self.cached:,} from the cache, {self.sent:,} from the service"),
            *(
                [("", f"{self.normalized:,} accepted after normalization (case, quotes, yes for true)")]
                if self.normalized
                else []
            ),
            ("requests", f"{self.requests:,} ({self.retries:,} of them retries)"),
            ("tokens", f"{self.tokens_in:,} in, {self.tokens_out:,} out"),
            ("cost", format_cost(self.cost, self.missing_usage)),
            ("seconds", f"{self.seconds:.1f}"),
            *([("limit", self.limit)] if self.limit else []),
            *([("recall", f"{self.recall:.1%}, measured on a sample")] if self.recall is not None else []),
            *([("cascade", str(self.cascade))] if self.cascade is not None else []),
            *([("ranking", str(self.ranking))] if self.ranking is not None else []),
            *([("recipe", str(self.recipe))] if self.recipe is not None else []),
        ]
        return [*lines, *(("errors", reason) for reason in self.reasons()), *(("note", note) for note in self.notes)]


def _fields(report: Report) -> dict[str, Any]:
    return {name: getattr(report, name) for name in report.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do. Tokens are estimated, so dollars are too.

    Input tokens are estimated from bytes, within about a third; once the service has counted some for this model in
    this process, they are scaled by its count (``calibrated``). Output tokens are the mean of this call's cached
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
    """At the account's known limit, or the speed of the local models; ``None`` before the service has reported one."""
    limit: str | None = None
    """That limit, such as "25 requests per 60 s"."""
    calibrated: bool = False
    unit_price: Price | None = None
    """US dollars for a million tokens, where one is known and all runs have the same model."""
    notes: tuple[str, ...] = ()
    """What else is to be known: where the price is from, what is an upper limit, which rows cannot be sent."""
    recipe: RecipeReport | None = None
    """How the rows of ``recipe().apply()`` compare with those of the frame before."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        cost = "no price known" if self.cost is None else f"about {format_dollars(self.cost)}"
        text = (
            f"{self.operation} with {self.model}: {self.rows:,} rows, {self.distinct:,} distinct, "
            f"{self.cached:,} cached, {self.requests:,} requests, "
            f"about {self.tokens_in:,} tokens in and {self.tokens_out:,} out, {cost}"
        )
        if self.minutes is not None:
            text = f"{text}, {self.minutes:.1f} min at {self.limit or 'the known limit'}"
        return "\n".join([text, *(f"  {note}" for note in self.notes)])


def log_line(report: Report) -> str:
    """Return a run as one line of the log."""
    return (
        f"{report.operation} with {report.model} {report.state}: {report.rows:,} rows, {report.distinct:,} distinct, "
        f"{report.cached:,} cached, {report.sent:,} sent, {report.failed:,} failed, {report.requests:,} requests, "
        f"{report.retries:,} retries, {report.tokens_in:,}+{report.tokens_out:,} tokens, {report.seconds:.1f} s"
    )

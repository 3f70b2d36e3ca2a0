"""What a run did: rows, requests, tokens, dollars, failures."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from skytells_nb.engine.course import Course
from skytells_nb.engine.events import State


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
    state: State
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
    course: Course | None = field(default=None, repr=False)

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

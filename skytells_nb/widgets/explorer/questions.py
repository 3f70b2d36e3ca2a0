"""Requests of an explorer to the service, and their total cost."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import skytells_nb.session as sessions
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import Job, completion_job, embedding_job
from skytells_nb.engine.report import Report
from skytells_nb.engine.results import RunResult
from skytells_nb.errors import InvalidResponseError
from skytells_nb.formatting import format_cost, format_dollars
from skytells_nb.topics.names import SINGLE_SYSTEM, read_name, single_prompt
from skytells_nb.vectors.arrays import Floats
from skytells_nb.widgets.safe_text import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skytells_nb.session import Session


MAX_TOKENS = 300
"""Enough for models whose reasoning counts as output; only the first line of the answer is used."""


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a selection, and its usage."""

    text: str
    rows: int
    model: str
    tokens_in: int
    tokens_out: int
    cost: float | None
    """US dollars; 0 for an answer from the cache, ``None`` if no price is known."""
    cached: bool

    def __str__(self) -> str:
        return self.text

    @property
    def facts(self) -> str:
        """The model, tokens and cost as text."""
        used = "from the cache" if self.cached else f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        return f"{self.model} · {used} · {format_dollars(self.cost)}"


def naming_job(model: str) -> Job:
    """Return the job that asks a chat model for a name."""
    return completion_job(model, system=SINGLE_SYSTEM, params={"max_tokens": MAX_TOKENS}, operation="name")


def _name_from(answer: str, rows: int, report: Report) -> Name:
    """Return the name in an answer; raises InvalidResponseError if there is none."""
    name = read_name(plain(answer))
    if not name:
        raise InvalidResponseError("The model returned no name for these rows. Try again or choose another chat_model.")
    return Name(
        name,
        rows,
        report.model,
        report.tokens_in,
        report.tokens_out,
        0.0 if not report.requests else report.cost,
        not report.requests,
    )


class Questions:
    """Sends requests through the session's engine, so that repeated ones are answered from the cache."""

    def __init__(
        self, session: Session | None, model: str | None, dimensions: int | None, chat_model: str | None
    ) -> None:
        self._session = session
        self._model, self._dimensions, self._chat_model = model, dimensions, chat_model
        self._lock = threading.Lock()
        self.cost: float | None = 0.0
        """US dollars so far; ``None`` after a request without a known price."""

    def embed(self, question: str) -> tuple[Floats, str]:
        """Return the question's embedding (d,), and its usage as text."""
        session = self._find_session()
        model = self._model or session.settings.embedding_model
        outcome = self._run(session, embedding_job(model, self._dimensions), question)
        return outcome.matrix[0], _describe_usage(outcome.report)

    def name(self, texts: Sequence[str], rows: int) -> Name:
        """Return a name for ``rows`` rows, from some of their texts."""
        session = self._find_session()
        job = naming_job(self._chat_model or session.settings.model)
        outcome = self._run(session, job, single_prompt(texts))
        value = outcome.values[0]
        answer = CachedCompletion("") if value is None else CachedCompletion.from_bytes(value)
        session.record_safety([answer.safety])
        return _name_from(answer.text, rows, outcome.report)

    def _run(self, session: Session, job: Job, text: str) -> RunResult:
        texts = np.array([text], dtype=object)
        outcome = session.engine.run(job, texts, on_error="raise", on_end=session.record_run)
        spent = outcome.report.cost if outcome.report.requests else 0.0
        with self._lock:
            self.cost = None if spent is None or self.cost is None else self.cost + spent
        return outcome

    def _find_session(self) -> Session:
        return self._session if self._session is not None else sessions.current()


def _describe_usage(report: Report) -> str:
    if not report.requests:
        return "from the cache · $0.00"
    return f"{report.model} · {report.tokens_in:,} tokens · {format_cost(report.cost, report.missing_usage)}"

"""Single questions to the service, and what they cost together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

import skytells_nb.session as sessions
from skytells_nb.engine.job import Job, embedding_job
from skytells_nb.engine.outcome import Outcome
from skytells_nb.engine.report import Report, dollars
from skytells_nb.engine.work import Completed
from skytells_nb.widgets.explorer_naming import Name, named, naming_job, prompt
from skytells_nb.widgets.explorer_rows import Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skytells_nb.session import Session


class Asking:
    """Asks through the session's engine, so that the cache answers what was asked before."""

    def __init__(
        self, session: Session | None, model: str | None, dimensions: int | None, chat_model: str | None
    ) -> None:
        self._session = session
        self._model, self._dimensions, self._chat_model = model, dimensions, chat_model
        self._lock = threading.Lock()
        self.cost: float | None = 0.0
        """US dollars so far; ``None`` once a price was not known."""

    def vector(self, question: str) -> tuple[Floats, str]:
        """The question's embedding (d,), and in words what it took."""
        session = self._find_session()
        model = self._model or session.settings.embedding_model
        outcome = self._run(session, embedding_job(model, self._dimensions), question)
        return outcome.matrix[0], _used(outcome.report)

    def name(self, texts: Sequence[str], rows: int) -> Name:
        """A name for so many rows, from these texts of theirs."""
        session = self._find_session()
        job = naming_job(self._chat_model or session.settings.model)
        outcome = self._run(session, job, prompt(texts))
        value = outcome.values[0]
        answer = Completed("") if value is None else Completed.from_bytes(value)
        session.record_safety([answer.safety])
        return named(answer.text, rows, outcome.report)

    def _run(self, session: Session, job: Job, text: str) -> Outcome:
        texts = np.array([text], dtype=object)
        outcome = session.engine.run(job, texts, on_error="raise", ended=session.record_run)
        spent = outcome.report.cost if outcome.report.requests else 0.0
        with self._lock:
            self.cost = None if spent is None or self.cost is None else self.cost + spent
        return outcome

    def _find_session(self) -> Session:
        return self._session if self._session is not None else sessions.current()


def _used(report: Report) -> str:
    if not report.requests:
        return "from the cache · $0.00"
    cost = "no price known" if report.cost is None else dollars(report.cost)
    return f"{report.model} · {report.tokens_in:,} tokens · {cost}"

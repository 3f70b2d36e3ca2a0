"""Answers that do not fit their schema are asked for again, with what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from typing import Any

import numpy as np

from skytells_nb.accessor.forms import in_any_form
from skytells_nb.accessor.one_report import summed
from skytells_nb.accessor.runs import Call, completions, spread
from skytells_nb.accessor.typed import Record
from skytells_nb.engine.completed import Completed
from skytells_nb.engine.job import Job, continued, go_on
from skytells_nb.engine.report import Report
from skytells_nb.errors import AnswerError, ContentPolicyError, InputError

REPAIRS = 2
MOST_REPAIRS = 10
_LONGEST_FAULT = 200
"""Characters of what is wrong that a row's error quotes."""
_ASK_AGAIN = "That answer cannot be used: {fault}. Answer again with one JSON object that fits, and nothing else."


def check_repair(repair: Any) -> int:
    """How often an answer may be asked for again; raises InputError for what is no such number."""
    if not isinstance(repair, Integral) or isinstance(repair, bool) or not 0 <= int(repair) <= MOST_REPAIRS:
        raise InputError(
            f"repair says how often an answer that does not fit is asked for again, 0 to {MOST_REPAIRS}; "
            f"found {repair!r}."
        )
    return int(repair)


@dataclass(slots=True)
class Reading:
    """The answer to one distinct input, and what became of reading it."""

    completed: Completed
    """With the tokens of all tries."""
    record: Record | None = None
    fault: str = ""
    """What is wrong with the last answer."""
    final: bool = False
    """Whether asking again would not help."""
    failure: str = ""
    """Why the last try to ask again brought no answer."""
    tries: int = 1
    said: list[dict[str, str]] = field(default_factory=list)
    """What was said after the prompt: each bad answer, and what is wrong with it."""

    @property
    def error(self) -> AnswerError | None:
        """The error of the rows that this answers, ``None`` where it fits."""
        if self.record is not None:
            return None
        asked = f", asked {self.tries} times" if self.tries > 1 else ""
        return AnswerError(
            f"The answer does not fit the schema{asked}: {self.fault[:_LONGEST_FAULT]}{self.failure}",
            request_id=self.completed.request_id,
        )

    def read(self, read: Callable[[str], Record]) -> None:
        """Read the answer that is there now."""
        completed = self.completed
        try:
            self.record = read(completed.text)
            return
        except Exception as problem:
            # A schema's validators are the caller's code and may raise anything.
            told = str(problem) if isinstance(problem, ValueError) else f"{type(problem).__name__}: {problem}"
        self.fault = " ".join(told.split())
        if completed.blocked or completed.finish_reason == "content_filter":
            self.fault, self.final = "the safety filter withheld it", True
        elif completed.finish_reason == "length":
            self.fault, self.final = "it was cut before it was whole; give it more room with max_tokens", True
        answer = [{"role": "assistant", "content": completed.text}] if completed.text.strip() else []
        self.said += [*answer, {"role": "user", "content": _ASK_AGAIN.format(fault=self.fault.rstrip("."))}]

    def again(self, completed: Completed, read: Callable[[str], Record]) -> None:
        """Read the answer of another try."""
        before = self.completed
        self.completed = replace(
            completed,
            tokens_in=before.tokens_in + completed.tokens_in,
            tokens_out=before.tokens_out + completed.tokens_out,
        )
        self.tries += 1
        self.read(read)


@dataclass(frozen=True)
class RepairCall(Call):
    """A call for the rows of another one; that one shows and keeps the report of both."""

    reports: list[Report] = field(default_factory=list)

    @classmethod
    def of(cls, call: Call) -> RepairCall:
        given = {one.name: getattr(call, one.name) for one in fields(Call)}
        return cls(**{**given, "asker": None, "on_error": "null"})

    def ended(self, report: Report) -> None:
        self.session.record_run(report)
        self.reports.append(report)

    def revise(self, report: Report, **more: Any) -> Report:
        revised = super().revise(report, **more)
        self.reports[:] = [revised if known is report else known for known in self.reports]
        return revised


def repair(
    call: RepairCall,
    job: Job,
    prompts: Sequence[str],
    readings: Mapping[int, Reading],
    read: Callable[[str], Record],
    rounds: int,
    first: Report,
) -> None:
    """Ask again, up to ``rounds`` times, for those of ``readings`` (by number of their prompt) that do not fit.

    Each is a conversation of its own: the prompt, the answer that did not fit, what is wrong with it. Raises what any
    run raises; ``call.reports`` then has all that was done.
    """
    asked = replace(in_any_form(continued(job), call.session.origin), operation="repair")
    for _ in range(rounds):
        wrong = [n for n, reading in readings.items() if reading.record is None and not reading.final]
        if not wrong:
            return
        spent = summed(first, *call.reports).cost
        left = None if call.budget is None else max(0.0, call.budget - (spent or 0.0))
        texts = np.array([go_on(job, prompts[n], readings[n].said) for n in wrong], dtype=object)
        outcome = replace(call, budget=left).run(asked, texts, column=lambda _: None)
        answers = spread(list(completions(outcome)), outcome.answered)
        for place, (number, completed) in enumerate(zip(wrong, answers, strict=True)):
            reading, problem = readings[number], outcome.report.errors.get(place)
            if completed is not None:
                reading.again(completed, read)
            else:
                reading.final, reading.failure = True, f". Asking again failed: {type(problem).__name__}: {problem}"
            if isinstance(problem, ContentPolicyError):
                completed = Completed.of_blocked(problem)
            call.session.record_safety([] if completed is None else [completed.safety])

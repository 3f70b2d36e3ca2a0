"""Groups of texts of any size, each reduced to one text: parts first, then summaries of parts, until one is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.chunks import chunks, pieces, prompt_of
from skytells_nb.accessor.row_problems import told
from skytells_nb.accessor.runs import Call
from skytells_nb.accessor.texts import Texts
from skytells_nb.accessor.values import Answers, complete_texts
from skytells_nb.accessor.verb_runs import VerbRuns
from skytells_nb.engine.job import Job
from skytells_nb.engine.work import Completed
from skytells_nb.errors import AnswerError
from skytells_nb.wire.safety import Safety


@dataclass
class Group:
    """One group on its way: what is left to summarise, and what is known of it."""

    texts: list[str]
    problem: Exception | None = None
    verdict: Safety = field(default_factory=Safety)

    def see(self, completed: Completed | None) -> None:
        """Take the verdict on a part into that of the whole."""
        if completed is not None:
            self.verdict = self.verdict.merge(completed.safety)


@dataclass(frozen=True)
class SummaryTree:
    """How groups are reduced: what is asked of a part and of the whole, and how much goes into one request.

    Parts and their order follow from the texts and ``window`` alone, so a second run finds every answer in the cache.
    """

    part: Job
    whole: Job
    window: int
    """Estimated tokens of the texts in one request."""

    def reduce(self, runs: VerbRuns, groups: Sequence[Group], index: pd.Index[Any], into: Any) -> Answers:
        """A summary for each group, null where it has no texts or a part of it failed."""
        level = 0
        while parted := {
            number: parts for number, group in enumerate(groups) if len(parts := self._parts(group, level)) > 1
        }:
            self._shorten(runs, groups, parted, level)
            level += 1
        call = runs.call(of_rows=True)
        answers = told(call, complete_texts(call, self.whole, _prompts(groups), index, into, None), {})
        answers = _whole(answers, groups, call)
        runs.add(answers.report)
        return answers

    def _parts(self, group: Group, level: int) -> list[list[str]]:
        return chunks(group.texts, self.window, least=2 if level else 1)

    def _shorten(
        self, runs: VerbRuns, groups: Sequence[Group], parted: Mapping[int, list[list[str]]], level: int
    ) -> None:
        """Put summaries of its parts in the place of each group's texts."""
        # A summary that is left over at the end of a level goes up as it is.
        asked = [
            (number, place)
            for number, parts in parted.items()
            for place, part in enumerate(parts)
            if level == 0 or len(part) > 1
        ]
        prompts = _array([prompt_of(parted[number][place]) for number, place in asked])
        call = runs.call()
        # A part that failed is a failure of its group, which is told of at the end.
        quiet = call if call.on_error == "raise" else replace(call, on_error="null")
        answers = complete_texts(quiet, self.part, prompts, pd.RangeIndex(len(prompts)), "part", None)
        runs.add(answers.report)
        shortened = {number: [prompt_of(part) for part in parts] for number, parts in parted.items()}
        for row, (number, place) in enumerate(asked):
            groups[number].see(answers.rows[row])
            problem = _problem(answers, row)
            if problem is not None:
                groups[number].problem = groups[number].problem or problem
            else:
                shortened[number][place] = next(pieces(answers.column.iloc[row], self.window // 2))
        for number, texts in shortened.items():
            groups[number].texts = [] if groups[number].problem else texts


def _problem(answers: Answers, row: int) -> Exception | None:
    """Why this part has no summary."""
    text = answers.column.iloc[row]
    if isinstance(text, str) and text.strip():
        return None
    completed = answers.rows[row]
    return answers.report.errors.get(row) or AnswerError(
        "A part of the group got an empty summary.", request_id=completed.request_id if completed else None
    )


def _prompts(groups: Sequence[Group]) -> Texts:
    return _array([prompt_of(group.texts) if group.texts else None for group in groups])


def _array(values: Sequence[str | None]) -> Texts:
    texts = np.empty(len(values), dtype=object)
    texts[:] = values
    return texts


def _whole(answers: Answers, groups: Sequence[Group], call: Call) -> Answers:
    """The answers with what is known from the parts: verdicts, and groups that failed on the way."""
    failed = {number: group.problem for number, group in enumerate(groups) if group.problem is not None}
    for group, completed in zip(groups, answers.rows, strict=True):
        group.see(completed)
    rows = [
        replace(completed or Completed(text=""), findings=group.verdict.records(), blocked=group.verdict.blocked)
        if completed is not None or group.verdict.findings or group.verdict.blocked
        else None
        for group, completed in zip(groups, answers.rows, strict=True)
    ]
    report = answers.report
    if failed:
        errors = dict(sorted({**report.errors, **failed}.items()))
        report = call.revise(report, errors=errors, failed=len(errors), nulls=report.nulls - len(failed))
        call.warn_of_failures(replace(report, errors=failed, failed=len(failed)))
    return replace(answers, rows=rows, report=report)

"""What the verbs that ask a model share: one question about each text, and columns from its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from skytells_nb.accessor.base import FrameDoor
from skytells_nb.accessor.policies import SafetyChoice, SafetyPolicy
from skytells_nb.accessor.repair import REPAIRS
from skytells_nb.accessor.row_problems import told
from skytells_nb.accessor.runs import Call
from skytells_nb.accessor.texts import Template, Texts, column_of, texts_of
from skytells_nb.accessor.typed import Schema
from skytells_nb.accessor.values import Answers, complete_texts, prompt_job
from skytells_nb.accessor.withhold import withhold
from skytells_nb.errors import InputError

STEADY: Mapping[str, Any] = {"temperature": 0.0}
"""Parameters of questions that have one right answer; ``params`` may replace them, ``None`` leaves one out."""


@dataclass(frozen=True)
class Question:
    """What is asked about each text: the words, and the form of the answer."""

    operation: str
    system: str
    schema: Schema | None
    params: Mapping[str, Any] | None = None
    model: str | None = None
    rows_per_request: int | None = None
    repair: int = REPAIRS


class AskDoor(FrameDoor):
    """A frame whose texts a model is asked about."""

    def _texts(self, column: Any) -> Texts:
        return texts_of(column_of(self._frame, column), name=column)

    def _prompts(self, source: Any) -> Texts:
        """The texts of a column, or of a template that is no column's name."""
        if isinstance(source, str) and "{" in source and source not in self._frame.columns:
            return Template(source).fill(self._frame)
        return self._texts(source)

    def _ask(
        self,
        question: Question,
        texts: Texts,
        into: Any,
        call: Call,
        safety: SafetyChoice,
        columns: Callable[[Answers], Mapping[Any, pd.Series[Any]]],
    ) -> tuple[dict[Any, pd.Series[Any]], Answers]:
        """The columns that ``columns`` makes of the answers, as far as the safety policy shows them."""
        policy = SafetyPolicy.of(safety)
        params = question.params
        if params is not None and not isinstance(params, Mapping):
            raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
        job = prompt_job(
            call,
            question.model,
            question.system,
            question.schema,
            {**STEADY, **(params or {})},
            question.operation,
            question.rows_per_request,
        )
        answers = complete_texts(call, job, texts, self._frame.index, into, question.schema, question.repair)
        answers = told(call, answers, {})
        return withhold(policy, answers, columns(answers), call), answers


def words(name: str, given: Any) -> str:
    """A text that says something; raises InputError for anything else."""
    if not isinstance(given, str) or not given.strip():
        raise InputError(f"{name} is a text that is not empty; found {given!r}.")
    return given.strip()

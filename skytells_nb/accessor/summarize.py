"""``summarize``: one text for each group of texts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from numbers import Integral
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.asking import STEADY, AskDoor, words
from skytells_nb.accessor.policies import SafetyChoice, SafetyPolicy
from skytells_nb.accessor.runs import Call, RunOptions, check_options, remember
from skytells_nb.accessor.summary_tree import Group, SummaryTree
from skytells_nb.accessor.texts import column_of
from skytells_nb.accessor.values import prompt_job
from skytells_nb.accessor.verb_runs import VerbRuns
from skytells_nb.accessor.withhold import withhold
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.events import Listener
from skytells_nb.errors import InputError

WINDOW, LOCAL_WINDOW = 8000, 1000
"""Estimated tokens of the texts in one request: a third more, and the answer, fit the smallest window in use."""
LEAST_WINDOW = 100
COUNT = "texts"
"""The column that says how many texts a summary is of."""

WHOLE = "Summarize the user's texts, which are separated by lines of ---, as one text. Answer with the summary alone."
PART = (
    "The user's texts, separated by lines of ---, are a part of a larger collection. Summarize what they say in at "
    "most {words} words; a summary of the whole collection is made from this one and those of the other parts."
)


class Summarize(AskDoor):
    """Many texts in a few words."""

    def summarize(
        self,
        column: Any,
        by: Any = None,
        *,
        instructions: str | None = None,
        into: Any = "summary",
        window: int | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        on_error: OnError = "warn",
        progress: bool | Listener = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """A frame with one row for each group: how many ``texts`` it has, and their ``summary``.

        ``by`` is a column or a list of columns, and the index holds its values, sorted, as ``groupby`` gives them (rows
        where it is null are left out); without it all texts are one group. Nulls and empty texts count for nothing. A
        group of any size fits: texts are taken in order, in parts of ``window`` estimated tokens (8,000; 1,000 on the
        local Skytells), summaries of parts are summarised again, and so on; one longer than half of ``window`` is cut
        there. The parts are the same each time, so a second call finds them in the cache. ``instructions`` say what the
        summary is to be: ``"Three bullet points on what customers dislike."``

        A group is null, and an error of the report, where one of its parts failed. The report and ``budget`` are of all
        levels together; ``safety`` goes by the worst verdict on any part of a group.

        >>> df = pd.DataFrame({"shop": ["A", "B", "A"], "review": ["Fast.", "Slow.", "Friendly."]})
        >>> df.skytells.summarize("review", by="shop", progress=False)["texts"].to_dict()
        {'A': 2, 'B': 1}
        """
        check_options(options)
        more = "" if instructions is None else f" The summary is to be like this: {words('instructions', instructions)}"
        texts = self._texts(column)
        if not isinstance(into, Hashable) or into == COUNT:
            raise InputError(f"into is the name of a column other than {COUNT!r}; found {into!r}.")
        policy = SafetyPolicy.of(safety)
        numbers, index = self._groups(by)
        call = Call.open(on_error, progress, options, asker=self._frame)
        most = _window(window, LOCAL_WINDOW if call.session.is_local else WINDOW)
        if params is not None and not isinstance(params, Mapping):
            raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
        steady = {**STEADY, **(params or {})}
        part, whole = (
            prompt_job(call, model, f"{task}{more}", None, steady, "summarize")
            for task in (PART.format(words=most // 8), WHOLE)
        )
        groups = [Group([]) for _ in index]
        for number, text in zip(numbers.tolist(), texts, strict=True):
            if number >= 0 and text is not None and text.strip():
                groups[number].texts.append(text)
        counts = [len(group.texts) for group in groups]
        with VerbRuns("summarize", len(index), lambda: call) as runs:
            answers = SummaryTree(part, whole, most).reduce(runs, groups, index, into)
        made = withhold(policy, answers, {into: answers.column}, call)
        result = pd.DataFrame({COUNT: pd.Series(counts, index=index, dtype="int64"), **made}, index=index)
        remember(result, runs.report, {into: answers.rows})
        return result

    def _groups(self, by: Any) -> tuple[NDArray[np.int64], pd.Index[Any]]:
        """The number of each row's group, -1 for none, and what the groups are."""
        if by is None:
            return np.zeros(len(self._frame), dtype=np.int64), pd.RangeIndex(1)
        keys = [column_of(self._frame, name) for name in (by if isinstance(by, list) else [by])]
        if not keys:
            raise InputError("by is a column or a list of columns; found an empty list.")
        try:
            grouped = self._frame.groupby(keys if len(keys) > 1 else keys[0], sort=True, observed=True)
            numbers, index = grouped.ngroup(), grouped.size().index
        except TypeError as problem:
            raise InputError(f"The rows cannot be grouped by {by!r}: {problem}.") from None
        return np.asarray(numbers.fillna(-1), dtype=np.int64), index


def _window(given: Any, usual: int) -> int:
    if given is None:
        return usual
    if not isinstance(given, Integral) or isinstance(given, bool) or int(given) < LEAST_WINDOW:
        raise InputError(f"window is a number of tokens, {LEAST_WINDOW} or more; found {given!r}.")
    return int(given)

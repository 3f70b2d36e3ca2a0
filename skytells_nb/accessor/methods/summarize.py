"""``summarize``: one text for each group of texts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import DETERMINISTIC, PromptMethods, non_empty_text
from skytells_nb.accessor.call import RunOptions, VectorizedCall, attach_report, check_options
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.results import CompletionColumns, build_job, complete_texts, merge_row_errors
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy, apply_policy
from skytells_nb.accessor.text_columns import Texts, column_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.planning import BYTES_PER_TOKEN, token_estimates
from skytells_nb.engine.report import ProgressCallback
from skytells_nb.errors import InputError, InvalidResponseError
from skytells_nb.types.safety import Safety

BETWEEN = "\n\n---\n\n"
"""What separates texts in one prompt."""
BETWEEN_TOKENS = 2


def split_text(text: str, most: int) -> Iterator[str]:
    """The text in pieces of at most ``most`` estimated tokens, cut at white space where there is some.

    >>> list(pieces("one two three four", 2))
    ['one two', 'three', 'four']
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        # Half a character cannot be sent, and the engine says so.
        size = 0
    limit = int(most * BYTES_PER_TOKEN)
    if size <= limit:
        yield text
        return
    start = 0
    while start < len(text):
        held = text[start : start + limit].encode()[:limit].decode(errors="ignore")
        stop = len(text) if start + len(held) >= len(text) else start + _cut(held, text[start + len(held)])
        piece = text[start:stop].strip()
        if piece:
            yield piece
        start = stop


def _cut(held: str, after: str) -> int:
    """Where to end a piece: the last white space of its second half, else its end."""
    if after.isspace():
        return len(held)
    space = max(held.rfind(" "), held.rfind("\n"))
    return space if space > len(held) // 2 else max(1, len(held))


def chunks(texts: Iterable[str], most: int, *, least: int = 1) -> list[list[str]]:
    """Texts in order, in chunks of at most ``most`` estimated tokens; a longer text goes in as its pieces.

    A chunk before the last holds ``least`` texts at least, so that with two of them a tree always gets smaller.

    >>> chunks(["four words of text", "two", "more"], 6)
    [['four words of text'], ['two', 'more']]
    """
    parts = [piece for text in texts for piece in split_text(text, most)]
    made: list[list[str]] = []
    room = 0
    for part, tokens in zip(parts, token_estimates(parts).tolist(), strict=True):
        needed = tokens + BETWEEN_TOKENS
        if made and (needed <= room or len(made[-1]) < least):
            made[-1].append(part)
        else:
            made.append([part])
            room = most + BETWEEN_TOKENS
        room -= needed
    return made


def prompt_of(chunk: Sequence[str]) -> str:
    """The texts of a chunk as one prompt."""
    return BETWEEN.join(chunk)


@dataclass
class SummaryGroup:
    """One group on its way: what is left to summarise, and what is known of it."""

    texts: list[str]
    problem: Exception | None = None
    verdict: Safety = field(default_factory=Safety)

    def see(self, completed: CachedCompletion | None) -> None:
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

    def reduce(
        self, runs: MultiRun, groups: Sequence[SummaryGroup], index: pd.Index[Any], into: Any
    ) -> CompletionColumns:
        """A summary for each group, null where it has no texts or a part of it failed."""
        level = 0
        while parted := {
            number: parts for number, group in enumerate(groups) if len(parts := self._parts(group, level)) > 1
        }:
            self._shorten(runs, groups, parted, level)
            level += 1
        call = runs.call(of_rows=True)
        answers = merge_row_errors(call, complete_texts(call, self.whole, _prompts(groups), index, into, None), {})
        answers = _whole(answers, groups, call)
        runs.add(answers.report)
        return answers

    def _parts(self, group: SummaryGroup, level: int) -> list[list[str]]:
        return chunks(group.texts, self.window, least=2 if level else 1)

    def _shorten(
        self, runs: MultiRun, groups: Sequence[SummaryGroup], parted: Mapping[int, list[list[str]]], level: int
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
                shortened[number][place] = next(split_text(answers.column.iloc[row], self.window // 2))
        for number, texts in shortened.items():
            groups[number].texts = [] if groups[number].problem else texts


def _problem(answers: CompletionColumns, row: int) -> Exception | None:
    """Why this part has no summary."""
    text = answers.column.iloc[row]
    if isinstance(text, str) and text.strip():
        return None
    completed = answers.rows[row]
    return answers.report.errors.get(row) or InvalidResponseError(
        "A part of the group got an empty summary.", request_id=completed.request_id if completed else None
    )


def _prompts(groups: Sequence[SummaryGroup]) -> Texts:
    return _array([prompt_of(group.texts) if group.texts else None for group in groups])


def _array(values: Sequence[str | None]) -> Texts:
    texts = np.empty(len(values), dtype=object)
    texts[:] = values
    return texts


def _whole(answers: CompletionColumns, groups: Sequence[SummaryGroup], call: VectorizedCall) -> CompletionColumns:
    """The answers with what is known from the parts: verdicts, and groups that failed on the way."""
    failed = {number: group.problem for number, group in enumerate(groups) if group.problem is not None}
    for group, completed in zip(groups, answers.rows, strict=True):
        group.see(completed)
    rows = [
        replace(completed or CachedCompletion(text=""), findings=group.verdict.records(), blocked=group.verdict.blocked)
        if completed is not None or group.verdict.findings or group.verdict.blocked
        else None
        for group, completed in zip(groups, answers.rows, strict=True)
    ]
    report = answers.report
    if failed:
        errors = dict(sorted({**report.errors, **failed}.items()))
        report = call.amend(report, errors=errors, failed=len(errors), nulls=report.nulls - len(failed))
        call.warn_of_failures(replace(report, errors=failed, failed=len(failed)))
    return replace(answers, rows=rows, report=report)


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


class Summarize(PromptMethods):
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
        progress: bool | ProgressCallback = True,
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
        more = (
            ""
            if instructions is None
            else f" The summary is to be like this: {non_empty_text('instructions', instructions)}"
        )
        texts = self._texts(column)
        if not isinstance(into, Hashable) or into == COUNT:
            raise InputError(f"into is the name of a column other than {COUNT!r}; found {into!r}.")
        policy = SafetyPolicy.of(safety)
        numbers, index = self._groups(by)
        call = VectorizedCall.open(on_error, progress, options, asker=self._frame)
        most = _window(window, LOCAL_WINDOW if call.session.is_local else WINDOW)
        if params is not None and not isinstance(params, Mapping):
            raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
        steady = {**DETERMINISTIC, **(params or {})}
        part, whole = (
            build_job(call, model, f"{task}{more}", None, steady, "summarize")
            for task in (PART.format(words=most // 8), WHOLE)
        )
        groups = [SummaryGroup([]) for _ in index]
        for number, text in zip(numbers.tolist(), texts, strict=True):
            if number >= 0 and text is not None and text.strip():
                groups[number].texts.append(text)
        counts = [len(group.texts) for group in groups]
        with MultiRun("summarize", len(index), lambda: call) as runs:
            answers = SummaryTree(part, whole, most).reduce(runs, groups, index, into)
        made = apply_policy(policy, answers, {into: answers.column}, call)
        result = pd.DataFrame({COUNT: pd.Series(counts, index=index, dtype="int64"), **made}, index=index)
        attach_report(result, runs.report, {into: answers.rows})
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

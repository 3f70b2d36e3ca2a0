"""``summarize``: one text for each group of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import DETERMINISTIC, PromptMethods, non_empty_text
from skytells_nb.accessor.call import VectorizedCall, attach_report
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.options import ModelOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.results import CompletionColumns, build_job, complete_texts, merge_row_errors
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy, apply_policy
from skytells_nb.accessor.text_columns import STRING_DTYPE, Texts
from skytells_nb.columns import column_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.planning import BYTES_PER_TOKEN, token_estimates
from skytells_nb.engine.report import Report
from skytells_nb.errors import (
    ContentPolicyError,
    ContextLengthError,
    InputError,
    InvalidResponseError,
    RowError,
    warn,
)
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.types.safety import Safety

BETWEEN = "\n\n---\n\n"
"""What separates texts in one prompt."""
BETWEEN_TOKENS = 2


def split_text(text: str, most: int) -> Iterator[str]:
    """Yield the text in pieces of at most ``most`` estimated tokens, cut at white space where there is some.

    >>> list(split_text("one two three four", 2))
    ['one two', 'three', 'four']
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        # A lone surrogate cannot be sent, and the engine reports it.
        size = 0
    limit = int(most * BYTES_PER_TOKEN)
    if size <= limit:
        yield text
        return
    start = 0
    while start < len(text):
        chunk = text[start : start + limit].encode()[:limit].decode(errors="ignore")
        stop = len(text) if start + len(chunk) >= len(text) else start + _cut(chunk, text[start + len(chunk)])
        piece = text[start:stop].strip()
        if piece:
            yield piece
        start = stop


def _cut(chunk: str, after: str) -> int:
    """Return the end of a piece: the last white space of the second half of the chunk, else the end of the chunk."""
    if after.isspace():
        return len(chunk)
    space = max(chunk.rfind(" "), chunk.rfind("\n"))
    return space if space > len(chunk) // 2 else max(1, len(chunk))


def chunks(texts: Iterable[str], most: int, *, least: int = 1) -> list[list[str]]:
    """Return the texts in order, in chunks of at most ``most`` estimated tokens; a longer text is split into pieces.

    Every chunk but the last has at least ``least`` texts, so that with two of them a tree always gets smaller.

    >>> chunks(["four words of text", "two", "more"], 6)
    [['four words of text'], ['two', 'more']]
    """
    parts = [piece for text in texts for piece in split_text(text, most)]
    result: list[list[str]] = []
    remaining = 0
    for part, tokens in zip(parts, token_estimates(parts).tolist(), strict=True):
        needed = tokens + BETWEEN_TOKENS
        if result and (needed <= remaining or len(result[-1]) < least):
            result[-1].append(part)
        else:
            result.append([part])
            remaining = most + BETWEEN_TOKENS
        remaining -= needed
    return result


def prompt_of(chunk: Sequence[str]) -> str:
    """Return the texts of a chunk as one prompt."""
    return BETWEEN.join(chunk)


@dataclass
class SummaryGroup:
    """The state of one group: the texts left to summarize, its first error, and its safety results so far."""

    texts: list[str]
    problem: Exception | None = None
    safety: Safety = field(default_factory=Safety)
    left_out: list[Exception] = field(default_factory=list)
    """Why texts are not in the summary: each could not be sent, or was blocked by itself."""
    safety_left_out: Safety = field(default_factory=Safety)
    """The safety results of requests with such texts, which no summary is made of."""

    def merge_safety(self, completed: CachedCompletion | None) -> None:
        """Merge the safety result of a part into that of the group."""
        if completed is not None:
            self.safety = self.safety.merge(completed.safety)

    def leave_out(self, completed: CachedCompletion | None) -> None:
        """Keep the safety result of a part that is asked about again without one of its texts."""
        if completed is not None:
            self.safety_left_out = self.safety_left_out.merge(completed.safety)


@dataclass
class _Part:
    """Texts of a group that are summarized in one request, and their summary."""

    group: int
    place: int
    texts: list[str]
    summary: str | None = None


@dataclass(frozen=True)
class SummaryTree:
    """Map-reduce summaries: the jobs for a part and for the whole, and how much is sent in one request.

    Parts and their order depend only on the texts and ``window``, so a second run finds every completion in the cache.
    A part that is blocked or too long is asked about in halves, until the text is found that must be left out.
    """

    part: Job
    whole: Job
    window: int
    """Estimated tokens of the texts in one request."""
    assemble: Callable[[CompletionColumns, Report], Any] | None = None
    """Makes the frame of an error that ends the run of the whole."""

    def reduce(
        self, runs: MultiRun, groups: Sequence[SummaryGroup], index: pd.Index[Any], into: Any
    ) -> CompletionColumns:
        """Return a summary for each group, missing if it has no texts or none could be summarized."""
        numbers = range(len(groups))
        self._reduce_parts(runs, groups, numbers)
        call = replace(runs.call(main=True), assemble=self.assemble)
        answers = self._ask_whole(runs, call, groups, index, into)
        divided = {
            number: halves
            for number in numbers
            if call.on_error != "raise" and (halves := self._halves_of_whole(answers, number, groups[number]))
        }
        if divided:
            self._shorten(runs, groups, divided, level=0)
            self._reduce_parts(runs, groups, list(divided))
            again = [groups[number] for number in divided]
            second = self._ask_whole(runs, runs.call(), again, index[list(divided)], into)
            answers = _replaced(call, answers, second, list(divided))
        answers = _with_parts(answers, groups, call)
        runs.replace_main(answers.report)
        call.warn_of_failures(answers.report)
        return answers

    def _reduce_parts(self, runs: MultiRun, groups: Sequence[SummaryGroup], numbers: Sequence[int]) -> None:
        """Summarize parts of these groups, level by level, until each fits one request."""
        level = 0
        while parted := {number: parts for number in numbers if len(parts := self._parts(groups[number], level)) > 1}:
            self._shorten(runs, groups, parted, level)
            level += 1

    def _ask_whole(
        self,
        runs: MultiRun,
        call: VectorizedCall,
        groups: Sequence[SummaryGroup],
        index: pd.Index[Any],
        into: Any,
    ) -> CompletionColumns:
        quiet = replace(call, defers_warning=True)
        answers = merge_row_errors(quiet, complete_texts(quiet, self.whole, _prompts(groups), index, into, None), {})
        runs.add(answers.report)
        return answers

    def _parts(self, group: SummaryGroup, level: int) -> list[list[str]]:
        return chunks(group.texts, self.window, least=2 if level else 1)

    def _halves_of_whole(self, answers: CompletionColumns, number: int, group: SummaryGroup) -> list[list[str]]:
        """Return the halves of a group whose request failed for one of its texts, else nothing."""
        problem = None if group.problem else _problem(answers, number)
        if problem is None or not group.texts or not _is_divisible(problem, answers.rows[number]):
            return []
        return self._halves(group.texts, problem)

    def _halves(self, texts: list[str], problem: Exception) -> list[list[str]]:
        """Return the texts in two halves; none for a single text that is not too long."""
        if len(texts) == 1 and isinstance(problem, ContextLengthError):
            tokens = int(token_estimates(texts)[0])
            texts = list(split_text(texts[0], max(1, tokens // 2))) if tokens > MIN_WINDOW // 2 else texts
        middle = (len(texts) + 1) // 2
        return [texts[:middle], texts[middle:]] if len(texts) > 1 else []

    def _shorten(
        self, runs: MultiRun, groups: Sequence[SummaryGroup], parted: Mapping[int, list[list[str]]], level: int
    ) -> None:
        """Replace the texts of each group by summaries of its parts."""
        parts = {number: [_Part(number, at, texts) for at, texts in enumerate(of)] for number, of in parted.items()}
        # A part of a single summary at the end of a level moves up unchanged.
        pending = [part for of in parts.values() for part in of if level == 0 or len(part.texts) > 1]
        for part in (part for of in parts.values() for part in of if level and len(part.texts) == 1):
            part.summary = part.texts[0]
        while pending:
            pending = self._ask_parts(runs, groups, parts, pending)
        for number, of in parts.items():
            group = groups[number]
            by_place: dict[int, list[str]] = {}
            for part in of:
                if part.summary is not None:
                    by_place.setdefault(part.place, []).append(part.summary)
            # What was one part stays one text above the first level, so that every level is shorter than the one below.
            texts = [t for of_place in by_place.values() for t in (of_place if level == 0 else [self._cut(of_place)])]
            if not texts and group.left_out:
                group.problem = group.problem or group.left_out[0]
            group.texts = [] if group.problem else texts

    def _ask_parts(
        self,
        runs: MultiRun,
        groups: Sequence[SummaryGroup],
        parts: dict[int, list[_Part]],
        pending: Sequence[_Part],
    ) -> list[_Part]:
        """Ask about these parts; return the halves of those that failed for one of their texts."""
        prompts = _array([prompt_of(part.texts) for part in pending])
        call = runs.call()
        # A part that failed is an error of its group, which is reported at the end.
        quiet = call if call.on_error == "raise" else replace(call, on_error="null")
        answers = complete_texts(quiet, self.part, prompts, pd.RangeIndex(len(prompts)), "part", None)
        runs.add(answers.report)
        divided: list[_Part] = []
        for row, part in enumerate(pending):
            group, completed, problem = groups[part.group], answers.rows[row], _problem(answers, row)
            if problem is None:
                group.merge_safety(completed)
                part.summary = self._cut([answers.column.iloc[row]])
            elif not _is_divisible(problem, completed):
                group.merge_safety(completed)
                group.problem = group.problem or problem
            else:
                group.leave_out(completed)
                halves = [_Part(part.group, part.place, texts) for texts in self._halves(part.texts, problem)]
                if not halves:
                    group.left_out.append(problem)
                of_group = parts[part.group]
                at = next(at for at, known in enumerate(of_group) if known is part)
                of_group[at : at + 1] = halves
                divided += halves
        return divided

    def _cut(self, summaries: Sequence[str]) -> str:
        """Return summaries as one text, cut at half of the window."""
        return next(split_text(prompt_of(summaries), self.window // 2))


def _problem(answers: CompletionColumns, row: int) -> Exception | None:
    """Return the error of a part without a summary."""
    text = answers.column.iloc[row]
    if isinstance(text, str) and text.strip():
        return None
    completed = answers.rows[row]
    return answers.report.errors.get(row) or InvalidResponseError(
        "A part of the group got an empty summary.", request_id=completed.request_id if completed else None
    )


def _is_divisible(problem: Exception, completed: CachedCompletion | None) -> bool:
    """Whether a request failed for its texts, so that a part of them may be summarized."""
    if isinstance(problem, (ContentPolicyError, ContextLengthError)):
        return True
    return completed is not None and completed.finish_reason == "content_filter"


def _replaced(
    call: VectorizedCall, first: CompletionColumns, second: CompletionColumns, numbers: Sequence[int]
) -> CompletionColumns:
    """Return the first summaries, with those of ``second`` for the groups of these numbers."""
    column, rows = first.column.copy(), list(first.rows)
    column.iloc[list(numbers)] = second.column.to_numpy(dtype=object)
    for number, completed in zip(numbers, second.rows, strict=True):
        rows[number] = completed
    kept = {number: error for number, error in first.report.errors.items() if number not in set(numbers)}
    errors = {**kept, **{numbers[row]: error for row, error in second.report.errors.items()}}
    failed_before = sum(number in first.report.errors for number in numbers)
    report = call.amend(
        first.report,
        errors=dict(sorted(errors.items())),
        failed=len(errors),
        # A withheld summary counted as answered.
        answered=first.report.answered - (len(numbers) - failed_before) + second.report.answered,
        nulls=first.report.nulls + second.report.nulls,
    )
    return replace(first, column=column, rows=rows, report=report)


def _prompts(groups: Sequence[SummaryGroup]) -> Texts:
    return _array([prompt_of(group.texts) if group.texts else None for group in groups])


def _array(values: Sequence[str | None]) -> Texts:
    texts = np.empty(len(values), dtype=object)
    texts[:] = values
    return texts


def _with_parts(answers: CompletionColumns, groups: Sequence[SummaryGroup], call: VectorizedCall) -> CompletionColumns:
    """Add what the parts contribute: their safety results, and errors of groups that failed on a lower level."""
    failed = {number: group.problem for number, group in enumerate(groups) if group.problem is not None}
    for number, (group, completed) in enumerate(zip(groups, answers.rows, strict=True)):
        if number in failed:
            group.safety = group.safety.merge(group.safety_left_out)
        group.merge_safety(completed)
    rows = [_with_safety(completed, group.safety) for group, completed in zip(groups, answers.rows, strict=True)]
    report = answers.report
    if failed:
        errors = dict(sorted({**report.errors, **failed}.items()))
        nulls = report.nulls - len(failed.keys() - report.errors.keys())
        report = call.amend(report, errors=errors, failed=len(errors), nulls=nulls)
    return replace(answers, rows=rows, report=report)


def _with_safety(completed: CachedCompletion | None, safety: Safety) -> CachedCompletion | None:
    """Return the completion with this safety result in place of its own."""
    if completed is None and not safety.findings and not safety.blocked:
        return None
    return replace(completed or CachedCompletion(text=""), findings=safety.records(), blocked=safety.blocked)


def sendable(texts: Texts) -> tuple[Texts, int]:
    """Return the texts with ``None`` for those that cannot be sent, and how many those are."""
    kept = texts.copy()
    for row, text in enumerate(texts):
        if text is not None and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                kept[row] = None
    return kept, int(sum(before is not after for before, after in zip(texts, kept, strict=True)))


def warn_of_left_out(groups: Sequence[SummaryGroup], n_unsendable: int, n_texts: int) -> None:
    """Emit one warning for the texts that are in no summary; those of a group that failed are reported with it."""
    reasons = Counter(
        # Without the request id, which differs each time.
        f"{type(problem).__name__}: {getattr(problem, 'message', str(problem)).rstrip('.')}"
        for group in groups
        if group.problem is None
        for problem in group.left_out
    )
    count = n_unsendable + sum(reasons.values())
    if count:
        unsendable = (
            [f"{n_unsendable:,} with invalid Unicode (an unpaired surrogate), which cannot be sent"]
            if n_unsendable
            else []
        )
        listed = "; ".join([*unsendable, *(f"{n:,}: {reason}" for reason, n in reasons.most_common(MAX_REASONS))])
        warn(f"{count:,} of {n_texts:,} texts are left out of the summaries. {listed}.")


MAX_REASONS = 3
"""Reasons that the warning of texts left out names."""
WINDOW, LOCAL_WINDOW = 8000, 1000
"""Estimated tokens of the texts in one request: a third more, and the completion, fit the smallest window in use."""
MIN_WINDOW = 100
COUNT = "texts"
"""Name of the column with the number of texts that a summary is of."""

WHOLE = "Summarize the user's texts, which are separated by lines of ---, as one text. Answer with the summary alone."
PART = (
    "The user's texts, separated by lines of ---, are a part of a larger collection. Summarize what they say in at "
    "most {words} words; a summary of the whole collection is made from this one and those of the other parts."
)


class Summarize(PromptMethods):
    """The ``summarize`` method."""

    @expand_options(ModelOptions, defaults=DETERMINISTIC)
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
        **options: Unpack[ModelOptions],
    ) -> pd.DataFrame:
        """Return a summary of the texts of each group.

        Parameters
        ----------
        column : hashable
            Name of the column of texts. Missing and empty texts are left out.
        by : hashable or list of hashable, optional
            Column or columns to group by; rows with a missing value there are left out. By default all texts are one
            group.
        instructions : str, optional
            What the summary is to be like, such as ``"Three bullet points on what customers dislike."``.
        into : hashable, default "summary"
            Name of the column of summaries.
        window : int, optional
            Estimated tokens of the texts in one request: by default 8,000, or 1,000 on the local Skytells. A group of
            any size fits: texts are taken in order, in parts of ``window`` tokens, summaries of parts are summarized
            again, and so on; one longer than half of ``window`` is cut there. The parts are the same each time, so a
            second call finds them in the cache.
        safety : {"keep", "mask", "raise"}, str or mapping, default "keep"
            As in ``complete``, by the worst result of any part of a group.

        Returns
        -------
        pandas.DataFrame
            A row for each group, with its values of ``by`` as index, sorted as by ``groupby``: the number of its
            ``texts``, and their summary. A text that cannot be sent or is blocked by the safety filter is left out, and
            one warning has their number; a group is missing, and an error of the report, if none is left, or if a part
            failed for another reason. The report is of all levels together.

        Raises
        ------
        InputError
            If an argument is wrong, or a column is missing or not text; nothing is sent.
        RowError
            If requests fail with ``on_error="raise"``.

        Examples
        --------
        >>> df = pd.DataFrame({"shop": ["A", "B", "A"], "review": ["Fast.", "Slow.", "Friendly."]})
        >>> df.skytells.summarize("review", by="shop", progress=False)["texts"].to_dict()
        {'A': 2, 'B': 1}
        """
        check_options(options, self.summarize)
        parameters = model_parameters(options, params, DETERMINISTIC)
        more = (
            ""
            if instructions is None
            else f" The summary is to be like this: {non_empty_text('instructions', instructions)}"
        )
        texts = self._texts(column)
        n_texts, n_unsendable = int(sum(text is not None for text in texts)), 0
        if on_error != "raise":
            texts, n_unsendable = sendable(texts)
        if not isinstance(into, Hashable) or into == COUNT:
            raise InputError(f"into must be the name of a column other than {COUNT!r}, got {into!r}.")
        policy = SafetyPolicy.of(safety)
        numbers, index = self._groups(by)
        call = VectorizedCall.open(on_error, progress, options, owner=self._frame)
        rows = pd.DataFrame(index=index)
        call = replace(call, rows=lambda: rows)
        most = _window(window, LOCAL_WINDOW if call.session.is_local else WINDOW)
        part, whole = (
            build_job(call, model, f"{task}{more}", None, parameters, "summarize")
            for task in (PART.format(words=most // 8), WHOLE)
        )
        groups = [SummaryGroup([]) for _ in index]
        for number, text in zip(numbers.tolist(), texts, strict=True):
            if number >= 0 and text is not None and text.strip():
                groups[number].texts.append(text)
        counts = [len(group.texts) for group in groups]
        given = [group.texts for group in groups]

        def table(summaries: Mapping[Any, pd.Series[Any]]) -> pd.DataFrame:
            return pd.DataFrame({COUNT: pd.Series(counts, index=index, dtype="int64"), **summaries}, index=index)

        def assemble(answers: CompletionColumns, report: Report) -> pd.DataFrame:
            quiet, masking = replace(call, on_error="null"), replace(policy, action="mask") if policy.acts else policy
            return table(apply_policy(masking, answers, {into: answers.column}, quiet))

        def unfinished(report: Report) -> pd.DataFrame:
            return table({into: pd.Series([None] * len(index), index=index, dtype=STRING_DTYPE)})

        with MultiRun("summarize", len(index), lambda: call, unfinished) as runs:
            answers = SummaryTree(part, whole, most, assemble).reduce(runs, groups, index, into)
            for number, group in enumerate(groups):
                if group.problem is None:
                    counts[number] = max(0, len(given[number]) - len(group.left_out))
            if on_error == "warn":
                warn_of_left_out(groups, n_unsendable, n_texts)
        try:
            summaries = apply_policy(policy, answers, {into: answers.column}, call)
        except RowError as problem:
            problem.report, problem.frame = runs.report, assemble(answers, runs.report)
            raise
        result = table(summaries)
        completions = [
            _with_safety(completed, group.safety.merge(group.safety_left_out))
            for group, completed in zip(groups, answers.rows, strict=True)
        ]
        attach_report(result, runs.report, {into: completions})
        return result

    def _groups(self, by: Any) -> tuple[NDArray[np.int64], pd.Index[Any]]:
        """Return the number of each row's group, -1 for none, and the index of the groups."""
        if by is None:
            return np.zeros(len(self._frame), dtype=np.int64), pd.RangeIndex(1)
        # A tuple may be the name of a column with several levels.
        several = isinstance(by, list) or (isinstance(by, tuple) and by not in self._frame.columns)
        keys = [column_of(self._frame, name) for name in (by if several else [by])]
        if not keys:
            raise InputError("by must be a column or a list of columns, got an empty list.")
        try:
            grouped = self._frame.groupby(keys if len(keys) > 1 else keys[0], sort=True, observed=True)
            numbers, index = grouped.ngroup(), grouped.size().index
        except TypeError as problem:
            raise InputError(f"The rows cannot be grouped by {by!r}: {problem}.") from None
        return np.asarray(numbers.fillna(-1), dtype=np.int64), index


def _window(given: Any, usual: int) -> int:
    if given is None:
        return usual
    if not isinstance(given, Integral) or isinstance(given, bool) or int(given) < MIN_WINDOW:
        raise InputError(f"window must be an integer of at least {MIN_WINDOW} tokens, got {given!r}.")
    return int(given)

"""``moderate``: the safety filter's result for existing texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import PromptMethods, policed
from skytells_nb.accessor.call import VectorizedCall, distinct, spread, take
from skytells_nb.accessor.methods.cascade import (
    CascadeOptions,
    CascadeResult,
    mark_proxy,
    merge_answers,
    report_rows,
    run_cascade,
)
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.options import RowOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.results import CompletionColumns, build_job, complete_texts, details_frame
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy, is_filtered
from skytells_nb.accessor.text_columns import STRING_DTYPE, Texts
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.cached import CachedCompletion, SharedFindings
from skytells_nb.engine.operations.conversation import PromptOptions
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.report import Report
from skytells_nb.errors import ContentPolicyError, InputError, RefusalError, RowError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.types.safety import SEVERITIES, Safety
from skytells_nb.vectors.arrays import Indices

MINIMAL_COMPLETION: Mapping[str, Any] = {"max_tokens": 1}
"""Defaults that generate as little as possible: the filter's result for a prompt comes with any completion."""


OWN = ("severity", "filtered", "categories", "checked", "allowed")
"""The columns that the method adds with or without details."""


class Moderate(PromptMethods):
    """The ``moderate`` method."""

    @expand_options(RowOptions, defaults=MINIMAL_COMPLETION)
    def moderate(
        self,
        column: Any,
        *,
        into: Any = "moderation",
        agree: float | None = None,
        level: float = 0.9,
        embedding: Any = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RowOptions],
    ) -> pd.DataFrame:
        """Add the safety filter's result for each text, which is sent as a prompt with ``max_tokens=1``.

        Parameters
        ----------
        column : hashable
            Name of the column of texts.
        into : hashable, default "moderation"
            Prefix of the new columns.
        agree : float, optional
            Makes it a cascade as in ``classify``: texts whose result a softmax on embeddings tells as the service does,
            in at least this share of them, are not sent. The result is all of severity, filtered and categories.
        level : float, default 0.9
            Confidence of that guarantee.
        embedding : hashable, optional
            Name of a column of embeddings for ``agree``, as in ``classify``.
        safety : {"keep", "raise"}, str or mapping, default "keep"
            A policy as in ``complete``: adds ``<into>_allowed``, whether the policy accepts the text. ``"raise"``
            raises RowError if there is a text that it does not accept.
        details : bool, default False
            Whether to add tokens, cost, error and the result as JSON.

        Returns
        -------
        pandas.DataFrame
            The frame with ``<into>_severity`` (an ordered category: safe, low, medium, high), ``_filtered`` (the
            service blocks such a prompt), ``_categories`` (those found, as text) and ``_checked`` (false where the
            filter returned no result, which does not mean safe). All are missing where the text is missing or its
            request failed. A blocked prompt is a result and not an error. ``df.skytells.safety(into)`` returns the
            finding of each category.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``, or the policy raises.

        Notes
        -----
        A model that rejects a ``max_tokens`` of 1 needs ``max_tokens=None, max_completion_tokens=16``.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["Have a nice day.", None]})
        >>> df.skytells.moderate("text", progress=False)["moderation_filtered"].isna().tolist()
        [False, True]
        """
        check_options(options, self.moderate)
        parameters = model_parameters(options, params, MINIMAL_COMPLETION)
        if on_error not in ("warn", "raise", "null"):
            raise InputError(f"on_error must be 'warn', 'raise' or 'null', got {on_error!r}.")
        policy = SafetyPolicy.of(safety)
        texts = self._texts(column)
        self._check_into(into)
        own = [f"{into}_{name}" for name in OWN]
        self._check_details(into, details, ignore=own)
        cascade = CascadeOptions.of(self._frame, agree, level, embedding)

        def finished(answers: CompletionColumns, report: Report) -> pd.DataFrame:
            return self._moderated(into, answers, policy, details)

        def open_call() -> VectorizedCall:
            return VectorizedCall.open(on_error, progress, options, owner=self._frame)

        def job(call: VectorizedCall) -> Job:
            return build_job(call, model, None, None, parameters, "moderate", options=PromptOptions(needs_text=False))

        def ask(call: VectorizedCall, part: Texts, before: CompletionColumns | None = None) -> CompletionColumns:
            def together(answers: CompletionColumns, report: Report) -> pd.DataFrame:
                return finished(answers if before is None else merge_answers(before, answers), report)

            call = replace(call, assemble=together)
            # A blocked prompt and a completion of one token are neither warned of nor an error.
            answers = complete_texts(replace(call, on_error="null"), job(call), part, self._frame.index, into, None)
            return _prompt_results(answers, call)

        by_proxy = None
        if cascade is None:
            call = open_call()
            answers = ask(call, texts)
        else:
            nothing: pd.Series[Any] = pd.Series([None] * len(texts), index=self._frame.index, dtype=object)

            def unfinished(report: Report) -> pd.DataFrame:
                return finished(CompletionColumns(nothing, [None] * len(texts), report, None, None), report)

            with MultiRun("moderate", len(texts), open_call, unfinished) as runs:
                runs.check_budget_for(model)
                verdicts = _Verdicts()
                result = run_cascade(
                    runs, texts, None, cascade, ask, verdicts.numbers, lambda call, part: call.estimate(job(call), part)
                )
                result = report_rows(runs, verdicts.filled(result), texts)
                call = replace(runs.call(), assemble=finished)
            answers, by_proxy = replace(result.answers, report=runs.report), result.by_proxy
        if policy.action == "raise":
            policed(policy, answers, {}, replace(call, assemble=finished))
        return self._moderated(into, answers, policy, details, by_proxy)

    def _moderated(
        self,
        into: Any,
        answers: CompletionColumns,
        policy: SafetyPolicy,
        details: bool,
        by_proxy: NDArray[np.bool_] | None = None,
    ) -> pd.DataFrame:
        """Return the frame with the results of these answers."""
        new = _columns(answers, into)
        if policy.acts:
            each, codes = distinct(answers.rows)
            results = [None if c is None else c.safety for c in each]
            allowed = [
                None if result is None else not filtered
                for result, filtered in zip(results, is_filtered(policy, results), strict=True)
            ]
            new[f"{into}_allowed"] = spread(allowed, codes, "boolean", self._frame.index)
        extra: dict[Any, Any] = details_frame(into, answers) if details else {}
        if details and by_proxy is not None:
            extra = mark_proxy(into, extra, by_proxy)
        return self._with({**extra, **new}, answers.report, {into: answers.rows})


class _Verdicts:
    """The different results that the service returned, by number, with an answer that has each."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._answers: list[CachedCompletion] = []

    def numbers(self, answers: CompletionColumns) -> Indices:
        """Return the number of each row's result; -1 without one, or where the filter returned none."""
        each, codes = distinct(answers.rows)
        found: Indices = np.array([*map(self._number, each)], dtype=np.int64)[codes]
        return found

    def filled(self, result: CascadeResult) -> CascadeResult:
        """Return the answers with the results of the proxy in its rows, which took no tokens."""
        proxied = [replace(answer, tokens_in=0, tokens_out=0, request_id=None, model="") for answer in self._answers]
        rows = list(result.answers.rows)
        for row in np.flatnonzero(result.by_proxy).tolist():
            rows[row] = proxied[int(result.labels[row])]
        return replace(result, answers=replace(result.answers, rows=rows))

    def _number(self, answer: CachedCompletion | None) -> int:
        safety = None if answer is None else answer.safety
        if answer is None or safety is None or not safety.checked:
            return -1
        key = (safety.severity, safety.filtered, _categories(safety))
        if key not in self._numbers:
            self._numbers[key] = len(self._answers)
            self._answers.append(answer)
        return self._numbers[key]


def _prompt_results(answers: CompletionColumns, call: VectorizedCall) -> CompletionColumns:
    """Reduce safety results to those of the prompts; a blocked prompt counts as answered.

    Warn or raise for rows that failed otherwise.
    """
    each, codes = distinct(answers.rows)
    reduced = [None if completed is None else _prompt_result(completed) for completed in each]
    report = answers.report
    # A refusal has a result of the prompt too.
    known = (ContentPolicyError, RefusalError)
    errors = {row: error for row, error in report.errors.items() if not isinstance(error, known)}
    if len(errors) < len(report.errors):
        blocked_rows = len(report.errors) - len(errors)
        report = call.amend(report, errors=errors, failed=len(errors), answered=report.answered + blocked_rows)
    results = replace(answers, rows=take(reduced, codes).tolist(), report=report)
    if errors and call.on_error == "raise":
        error = RowError(
            f"{len(errors):,} of {report.rows:,} texts have no safety result: {next(iter(errors.values()))}",
            report=report,
        )
        call.attach_results(error, report, results)
        raise error
    call.warn_of_failures(report)
    return results


def _prompt_result(completed: CachedCompletion) -> CachedCompletion:
    """Return the completion with the findings of its prompt only."""
    findings: Sequence[dict[str, Any]]
    if isinstance(completed.findings, SharedFindings):
        findings = completed.findings.of_source("prompt")
    else:
        findings = [finding for finding in completed.findings if finding["source"] == "prompt"]
    blocked = completed.blocked and completed.finish_reason == "content_filter" and not completed.model
    return replace(completed, findings=findings, blocked=blocked)


def _columns(answers: CompletionColumns, into: Any) -> dict[Any, pd.Series[Any]]:
    index = answers.column.index
    each, codes = distinct(answers.rows)
    results = [None if completed is None else completed.safety for completed in each]
    severities = [None if v is None or (not v.checked and v.severity == "safe") else v.severity for v in results]
    columns = {
        "severity": spread(severities, codes, _severity_dtype(severities), index),
        "filtered": spread([None if v is None else v.filtered for v in results], codes, "boolean", index),
        "categories": spread([_categories(v) for v in results], codes, STRING_DTYPE, index),
        "checked": spread([None if v is None else v.checked for v in results], codes, "boolean", index),
    }
    return {f"{into}_{name}": series for name, series in columns.items()}


def _categories(result: Safety | None) -> str | None:
    return None if result is None else ", ".join(dict.fromkeys(finding.category for finding in result.flagged))


def _severity_dtype(severities: Sequence[str | None]) -> pd.CategoricalDtype:
    """Return the dtype of severities in order; values that are not known rank above "safe"."""
    unknown = sorted({severity for severity in severities if severity is not None} - set(SEVERITIES))
    return pd.CategoricalDtype([SEVERITIES[0], *unknown, *SEVERITIES[1:]], ordered=True)

"""``moderate``: the safety filter's result for existing texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import pandas as pd

from skytells_nb.accessor.base import PromptMethods, policed
from skytells_nb.accessor.call import VectorizedCall, distinct, spread, take
from skytells_nb.accessor.options import RowOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.results import CompletionColumns, build_job, complete_texts, details_frame
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy, is_filtered
from skytells_nb.accessor.text_columns import STRING_DTYPE
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.cached import CachedCompletion, SharedFindings
from skytells_nb.engine.operations.conversation import PromptOptions
from skytells_nb.engine.report import Report
from skytells_nb.errors import ContentPolicyError, InputError, RefusalError, RowError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.types.safety import SEVERITIES, Safety

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

        def finished(answers: CompletionColumns, report: Report) -> pd.DataFrame:
            return self._moderated(into, answers, policy, details)

        call = VectorizedCall.open(on_error, progress, options, owner=self._frame)
        call = replace(call, assemble=finished)
        job = build_job(call, model, None, None, parameters, "moderate", options=PromptOptions(needs_text=False))
        # A blocked prompt and a completion of one token are neither warned of nor an error.
        answers = complete_texts(replace(call, on_error="null"), job, texts, self._frame.index, into, None)
        answers = _prompt_results(answers, call)
        if policy.action == "raise":
            policed(policy, answers, {}, call)
        return self._moderated(into, answers, policy, details)

    def _moderated(self, into: Any, answers: CompletionColumns, policy: SafetyPolicy, details: bool) -> pd.DataFrame:
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
        extra = details_frame(into, answers) if details else {}
        return self._with({**extra, **new}, answers.report, {into: answers.rows})


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

"""``moderate``: the safety filter's verdict on texts that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import pandas as pd

from skytells_nb.accessor.base import PromptMethods
from skytells_nb.accessor.call import RunOptions, VectorizedCall, check_options
from skytells_nb.accessor.results import CompletionColumns, build_job, complete_texts, details_frame
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy, apply_policy, is_filtered
from skytells_nb.accessor.text_columns import STRING_DTYPE
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.conversation import PromptOptions
from skytells_nb.engine.report import ProgressCallback
from skytells_nb.errors import ContentPolicyError, InputError, RowError
from skytells_nb.types.safety import SEVERITIES, Safety

LEAST: Mapping[str, Any] = {"max_tokens": 1}
"""Parameters that have as little generated as can be: the verdict on a prompt comes with any answer."""


class Moderate(PromptMethods):
    """Safety verdicts on texts."""

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
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The frame with the safety filter's verdict on each text, which is sent as a prompt with ``max_tokens=1``.

        Adds ``<into>_severity`` (an ordered category: safe, low, medium, high), ``_filtered`` (the service blocks such
        a prompt), ``_categories`` (those found, as text) and ``_checked`` (false where the filter gave no verdict,
        which is no pass). All are null where the text is, or where the request failed. A blocked prompt is a verdict
        and no error. ``df.skytells.safety(into)`` gives the finding of each category.

        ``safety`` adds ``<into>_allowed``, what that policy lets through; "raise" raises RowError where there is one
        that it does not. ``details=True`` adds tokens, cost, error and the verdict as JSON. A model that takes no
        ``max_tokens`` of 1 needs ``params``, such as ``{"max_tokens": None, "max_completion_tokens": 16}``.

        >>> df = pd.DataFrame({"text": ["Have a nice day.", None]})
        >>> df.skytells.moderate("text", progress=False)["moderation_filtered"].isna().tolist()
        [False, True]
        """
        check_options(options)
        if on_error not in ("warn", "raise", "null"):
            raise InputError(f"on_error is 'warn', 'raise' or 'null'; found {on_error!r}.")
        if params is not None and not isinstance(params, Mapping):
            raise InputError(f"params is a dict of parameters such as {{'max_tokens': 16}}; found {params!r}.")
        policy = SafetyPolicy.of(safety)
        texts = self._texts(column)
        self._check_into(into)
        call = VectorizedCall.open(on_error, progress, options, asker=self._frame)
        given = {**LEAST, **(params or {})}
        job = build_job(call, model, None, None, given, "moderate", form=PromptOptions(widen=False))
        # Neither a blocked prompt nor an answer of one token is anything to warn of or to stop at.
        answers = complete_texts(replace(call, on_error="null"), job, texts, self._frame.index, into, None)
        answers = _verdicts_of_prompts(answers, call)
        made = _columns(answers, into)
        if policy.acts:
            if policy.action == "raise":
                apply_policy(policy, answers, {}, call)
            verdicts = [None if c is None else c.safety for c in answers.rows]
            allowed = [
                None if v is None else not no for v, no in zip(verdicts, is_filtered(policy, verdicts), strict=True)
            ]
            made[f"{into}_allowed"] = pd.Series(allowed, index=self._frame.index, dtype="boolean")
        extra = details_frame(into, answers) if details else {}
        return self._with({**extra, **made}, answers.report, {into: answers.rows})


def _verdicts_of_prompts(answers: CompletionColumns, call: VectorizedCall) -> CompletionColumns:
    """The verdicts on the prompts alone; a blocked one is an answer. Warns or raises of what failed otherwise."""
    known: dict[int, CachedCompletion] = {}
    for completed in answers.rows:
        if completed is not None and id(completed) not in known:
            findings = [finding for finding in completed.findings if finding["source"] == "prompt"]
            blocked = completed.blocked and completed.finish_reason == "content_filter" and not completed.model
            known[id(completed)] = replace(completed, findings=findings, blocked=blocked)
    report = answers.report
    errors = {row: error for row, error in report.errors.items() if not isinstance(error, ContentPolicyError)}
    if len(errors) < len(report.errors):
        judged = len(report.errors) - len(errors)
        report = call.amend(report, errors=errors, failed=len(errors), answered=report.answered + judged)
    if errors and call.on_error == "raise":
        raise RowError(
            f"{len(errors):,} of {report.rows:,} texts have no verdict: {next(iter(errors.values()))}", report=report
        )
    call.warn_of_failures(report)
    rows = [None if completed is None else known[id(completed)] for completed in answers.rows]
    return replace(answers, rows=rows, report=report)


def _columns(answers: CompletionColumns, into: Any) -> dict[Any, pd.Series[Any]]:
    index = answers.column.index
    verdicts = [None if completed is None else completed.safety for completed in answers.rows]
    severities = [None if v is None or (not v.checked and v.severity == "safe") else v.severity for v in verdicts]
    columns = {
        "severity": pd.Series(pd.Categorical(severities, dtype=_scale(severities)), index=index),
        "filtered": pd.Series([None if v is None else v.filtered for v in verdicts], index=index, dtype="boolean"),
        "categories": pd.Series([_found(v) for v in verdicts], index=index, dtype=STRING_DTYPE),
        "checked": pd.Series([None if v is None else v.checked for v in verdicts], index=index, dtype="boolean"),
    }
    return {f"{into}_{name}": series for name, series in columns.items()}


def _found(verdict: Safety | None) -> str | None:
    return None if verdict is None else ", ".join(dict.fromkeys(finding.category for finding in verdict.flagged))


def _scale(severities: Sequence[str | None]) -> pd.CategoricalDtype:
    """The severities in order; words that the service may have beside the known ones rank above "safe"."""
    unknown = sorted({word for word in severities if word is not None} - set(SEVERITIES))
    return pd.CategoricalDtype([SEVERITIES[0], *unknown, *SEVERITIES[1:]], ordered=True)

"""Cascades: a model labels a sample, a softmax on embeddings the texts that it surely labels as the model does.

The model labels a random sample of the different texts. On one part a softmax learns the labels from embeddings; the
other part shows from which confidence on both agree. Texts below go to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import PromptMethods, TextPrompt, policed
from skytells_nb.accessor.call import VectorizedCall
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.results import CompletionColumns, details_frame, embed_texts
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy
from skytells_nb.accessor.text_columns import Texts
from skytells_nb.accessor.text_or_vector_column import EmbeddingOptions, TextOrVectorColumn
from skytells_nb.embedding_columns import UnitVectors
from skytells_nb.engine.report import CascadeReport, Estimate, Report
from skytells_nb.errors import InputError, warn
from skytells_nb.statistics.certified_agreement import Certified, cascade_sample, certify, texts_for_cascade
from skytells_nb.vectors.arrays import Floats, Indices
from skytells_nb.vectors.softmax import fit_softmax

EMBEDDING = "embedding"
"""The column of vectors that is used where the frame has one and none is named."""
SEED = 0
PROXY = "softmax on embeddings"
"""What the details name as the model of a row that was not sent."""


@dataclass(frozen=True)
class CascadeOptions:
    """The agreement that is wanted, how sure it must be, and the column of vectors, ``None`` to embed the texts."""

    agree: float
    level: float
    vectors: TextOrVectorColumn | None

    @classmethod
    def of(cls, frame: pd.DataFrame, agree: Any, level: Any, embedding: Any) -> CascadeOptions | None:
        """Check the options of a call; ``None`` if it is no cascade."""
        if agree is None:
            if embedding is not None:
                raise InputError("embedding is for a cascade, which agree= asks for, such as agree=0.95. Leave it out.")
            return None
        options = cls.without_column(agree, level)
        name = EMBEDDING if embedding is None and EMBEDDING in frame.columns else embedding
        column = None if name is None else TextOrVectorColumn(frame, name)
        if column is not None and (column.texts is not None or not column.present.any()):
            if embedding is not None:
                raise InputError(f"Column {embedding!r} must hold embeddings, as embed() makes them.")
            column = None
        return replace(options, vectors=column)

    @classmethod
    def without_column(cls, agree: Any, level: Any) -> CascadeOptions:
        """Check the options of a cascade whose vectors are no column."""
        for name, value in (("agree", agree), ("level", level)):
            if not isinstance(value, Real) or isinstance(value, bool) or not 0.5 <= float(value) < 1:
                raise InputError(f"{name} must be a number from 0.5 up to 1, such as 0.95, got {value!r}.")
        return cls(float(agree), float(level), None)


@dataclass(frozen=True)
class CascadeResult:
    """The model's answers by row, and the rows that the proxy labeled, with the number of the label of each."""

    answers: CompletionColumns
    by_proxy: NDArray[np.bool_]
    labels: Indices
    outcome: CascadeReport
    distinct: int
    """How many different texts there are."""


def run_cascade(
    runs: MultiRun,
    texts: Texts,
    labels: int | None,
    options: CascadeOptions,
    ask: Callable[[VectorizedCall, Texts, CompletionColumns | None], CompletionColumns],
    decide: Callable[[CompletionColumns], Indices],
    estimate: Callable[[VectorizedCall, Texts], Estimate],
    vectors_of: Callable[[Indices], UnitVectors] | None = None,
    *,
    main_run: bool = True,
) -> CascadeResult:
    """Label the texts of a method.

    ``ask`` asks the model about the texts that are not missing, after the answers of an earlier run; ``decide`` returns
    the number of the label of each row, -1 without one, below ``labels`` (``None``: those that the sample has);
    ``estimate`` what asking about texts costs. ``vectors_of`` returns the vectors of the texts at these positions,
    where they are not those of the options. ``main_run`` is whether the texts are the rows of the method.
    """
    codes, distinct = pd.factorize(texts, use_na_sentinel=True)
    codes = codes.astype(np.int64)
    first = np.unique(codes, return_index=True)[1][-len(distinct) :] if len(distinct) else np.empty(0, dtype=np.int64)
    sizes = cascade_sample(len(distinct), options.agree, options.level)
    proxied = np.zeros(len(distinct), dtype=bool)
    proxy_labels = np.full(len(distinct), -1, dtype=np.int64)
    certified, reason, answers = None, "", None
    sampled = np.zeros(len(distinct), dtype=bool)
    if not len(distinct):
        reason = "there is no text"
    elif sizes is None:
        least = texts_for_cascade(options.agree, options.level)
        reason = f"{len(distinct):,} different texts are too few to certify it; {least:,} would do"
    else:
        vectors = distinct_vectors(runs, options, distinct, first) if vectors_of is None else vectors_of(first)
        if runs.is_dry_run:
            runs.note("upper limit: texts that the proxy labels are not sent")
            ask(runs.call(main=main_run, last=True), texts, None)
        usable = vectors.rows
        order = np.random.default_rng(SEED).permutation(len(usable))[: sizes.training + sizes.test]
        sampled[usable[order]] = True
        answers = ask(runs.call(main=main_run), _only(texts, codes, sampled), None)
        runs.add(answers.report)
        decided = decide(answers)[first]
        training, test = order[: sizes.training], order[sizes.training :]
        with runs.step("fitting the proxy"):
            found = _learn(vectors.matrix, decided[usable], training, test, labels, options)
        if found is None:
            reason = "no confidence can be certified: the proxy disagrees with the model too often"
        else:
            certified, confidence, guesses = found
            sure = (confidence >= certified.threshold) & ~sampled[usable]
            proxied[usable[sure]] = True
            proxy_labels[usable[sure]] = guesses[sure]
    rest = ~(sampled | proxied)
    if rest.any() or answers is None:
        part = _only(texts, codes, rest)
        more = ask(runs.call(main=main_run and answers is None, last=True), part, answers)
        runs.add(more.report)
        answers = more if answers is None else merge_answers(answers, more)
    by_proxy = _of_rows(proxied, codes)
    saved = estimate(runs.call(), _only(texts, codes, proxied)) if proxied.any() else None
    outcome = CascadeReport(
        agree=options.agree,
        level=options.level,
        rows=len(texts),
        asked=int((sampled | rest).sum()),
        by_proxy=int(by_proxy.sum()),
        bound=None if certified is None else certified.low,
        saved_cost=0.0 if saved is None else saved.cost,
        saved_minutes=0.0 if saved is None else saved.minutes,
        reason=reason,
    )
    if reason and len(distinct):
        warn(f"agree={options.agree:g} cannot be guaranteed, so the model is asked about every text: {reason}.")
    labels_of_rows = np.append(proxy_labels, -1)[codes]
    return CascadeResult(answers, by_proxy, labels_of_rows, outcome, len(distinct))


def report_rows(runs: MultiRun, result: CascadeResult, texts: Texts) -> CascadeResult:
    """Return the result with the report of the whole method: the rows of the proxy are answered."""
    whole = _whole_report(result.answers.report, texts, result.distinct, result.outcome)
    runs.replace_main(whole)
    return replace(result, answers=replace(result.answers, report=runs.report))


def distinct_vectors(runs: MultiRun, options: CascadeOptions, distinct: Any, first: Indices) -> UnitVectors:
    """Return the vectors of the different texts; one without has none, and is asked about."""
    if options.vectors is None:
        call = replace(runs.call(last=False), on_error="null")
        series, report = embed_texts(call, np.asarray(distinct, dtype=object), pd.RangeIndex(len(distinct)), None, None)
        runs.add(report)
        return UnitVectors.of(series)
    known = options.vectors.vectors(runs, EmbeddingOptions())
    places = np.full(len(options.vectors.present), -1, dtype=np.int64)
    places[known.rows] = np.arange(len(known.rows))
    found = places[first]
    return UnitVectors(known.matrix[found[found >= 0]], np.flatnonzero(found >= 0).astype(np.int64))


def _only(texts: Texts, codes: Indices, chosen: NDArray[np.bool_]) -> Texts:
    """Return the texts with all others missing, which are not sent."""
    part = texts.copy()
    part[~_of_rows(chosen, codes)] = None
    return part


def _of_rows(chosen: NDArray[np.bool_], codes: Indices) -> NDArray[np.bool_]:
    """Return whether the text of each row is chosen; a missing one, whose code is -1, is not."""
    return np.append(chosen, False)[codes]


def _learn(
    vectors: Floats, decided: Indices, training: Indices, test: Indices, labels: int | None, options: CascadeOptions
) -> tuple[Certified, NDArray[np.float64], Indices] | None:
    """Return the certified confidence, and the confidence and the guess of the proxy for each vector."""
    training = training[decided[training] >= 0]
    if not len(training):
        return None
    number = int(decided.max()) + 1 if labels is None else labels
    probabilities = fit_softmax(vectors[training], decided[training], number).probabilities(vectors)
    guesses = probabilities.argmax(axis=1).astype(np.int64)
    confidence = probabilities.max(axis=1)
    pool = np.ones(len(vectors), dtype=bool)
    pool[training] = False
    tested = np.zeros(len(vectors), dtype=bool)
    tested[test] = True
    # A text without an answer of the model is a disagreement: the proxy would give it a label.
    certified = certify(confidence[pool], tested[pool], (guesses == decided)[pool], options.agree, options.level)
    return None if certified is None else (certified, confidence, guesses)


def merge_answers(first: CompletionColumns, second: CompletionColumns) -> CompletionColumns:
    """Return the answers of two runs over different rows as those of one."""
    values = first.column.to_numpy(dtype=object).copy()
    has_second = second.column.notna().to_numpy(dtype=bool)
    values[has_second] = second.column.to_numpy(dtype=object)[has_second]
    column = pd.Series(values, index=first.column.index, dtype=first.column.dtype, name=first.column.name)
    records = [b if b is not None else a for a, b in zip(first.records, second.records, strict=True)]
    rows = [b if b is not None else a for a, b in zip(first.rows, second.rows, strict=True)]
    one, two = first.report, second.report
    report = replace(
        one,
        errors=dict(sorted({**one.errors, **two.errors}.items())),
        answered=one.answered + two.answered,
        failed=one.failed + two.failed,
        cached=one.cached + two.cached,
        sent=one.sent + two.sent,
        normalized=one.normalized + two.normalized,
        state=two.state,
    )
    return replace(first, column=column, rows=rows, records=records, report=report)


def _whole_report(report: Report, texts: Texts, distinct: int, outcome: CascadeReport) -> Report:
    """Return the report of the rows of the method: those of the proxy are answered."""
    nulls = sum(text is None for text in texts)
    answered = report.answered + outcome.by_proxy
    return replace(report, nulls=nulls, answered=answered, distinct=distinct, rows=len(texts), cascade=outcome)


class CascadeMethods(PromptMethods):
    """Methods that may leave texts to a proxy, ``agree=``."""

    def _cascade(
        self,
        prompt: TextPrompt,
        texts: Texts,
        into: Any,
        labels: int,
        options: CascadeOptions,
        open_call: Callable[[], VectorizedCall],
        safety: SafetyChoice,
        columns: Callable[[CompletionColumns], Mapping[Any, pd.Series[Any]]],
        decide: Callable[[CompletionColumns], Indices],
        fill: Callable[[CascadeResult, dict[Any, pd.Series[Any]]], dict[Any, pd.Series[Any]]],
        *,
        details: bool,
    ) -> tuple[dict[Any, pd.Series[Any]], CascadeResult]:
        """Label the texts; return the new columns, and the details where they are wanted, with the answers.

        ``fill`` adds the labels of the proxy to the columns that were made of the model's answers.
        """
        policy = SafetyPolicy.of(safety)

        def unfinished(report: Report) -> pd.DataFrame:
            nothing: pd.Series[Any] = pd.Series([None] * len(texts), index=self._frame.index, dtype=object)
            rows: list[Any] = [None] * len(texts)
            return self._with(columns(CompletionColumns(nothing, rows, report, prompt.schema, None)), report)

        with MultiRun(prompt.operation, len(texts), open_call, unfinished) as runs:

            def ask(call: VectorizedCall, part: Texts, before: CompletionColumns | None) -> CompletionColumns:
                def together(answers: CompletionColumns) -> Mapping[Any, pd.Series[Any]]:
                    return columns(answers if before is None else merge_answers(before, answers))

                return self._answers(prompt, part, into, self._assembling(call, into, policy, False, together))

            runs.check_budget_for(prompt.model)
            result = run_cascade(
                runs, texts, labels, options, ask, decide, lambda call, part: call.estimate(prompt.job(call), part)
            )
            result = report_rows(runs, result, texts)
            call = self._assembling(runs.call(), into, policy, details, columns)
            new = fill(result, policed(policy, result.answers, columns(result.answers), call))
            result = replace(result, answers=replace(result.answers, report=runs.report))
        if details:
            new |= mark_proxy(into, details_frame(into, result.answers), result.by_proxy)
        return new, result


def mark_proxy(into: Any, columns: Mapping[Any, Any], by_proxy: NDArray[np.bool_]) -> dict[Any, Any]:
    """Return the details with the proxy as the model of the rows that it labeled."""
    name = f"{into}_model"
    marked = dict(columns)
    marked[name] = marked[name].mask(by_proxy, PROXY)
    return marked

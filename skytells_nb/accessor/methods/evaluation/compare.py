"""``compare``: prompts or models on the same rows, before one of them is paid for on all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from numbers import Integral
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import PromptMethods, check_count
from skytells_nb.accessor.call import DryRunComplete, VectorizedCall, attach_report, dry_run_of, get_report
from skytells_nb.accessor.methods.evaluation.comparison import Comparison
from skytells_nb.accessor.methods.evaluation.gold import Judged, drawn_weights, gold_codes, read_gold
from skytells_nb.accessor.methods.evaluation.variants import ANSWERS, Variant, read_variants
from skytells_nb.accessor.multi_call import budget_note, sum_reports
from skytells_nb.accessor.options import ModelOptions, check_options, expand_options, given_parameters
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.report import Report
from skytells_nb.errors import BudgetExceededError, InputError, Interrupted, SkytellsError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.statistics.agreement import accuracy, cohen_kappa, holm, mcnemar_exact
from skytells_nb.statistics.intervals import UNKNOWN, Reals, check_level
from skytells_nb.vectors.arrays import Indices

GOLD = "gold"
_RUN_OPTIONS = (
    *("budget", "max_in_flight", "requests_per_minute", "tokens_per_minute", "cache", "session", "fresh", "retry"),
    "sample",
)


class Compare(PromptMethods):
    """The ``compare`` method."""

    @expand_options(ModelOptions)
    def compare(
        self,
        column: Any,
        variants: Any,
        n: int = 100,
        gold: Any = None,
        *,
        labels: Any = None,
        question: str | None = None,
        sample_seed: int = 0,
        level: float = 0.95,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> Comparison:
        """Ask several prompts or models about the same rows: how far they agree, which is right, and what each costs.

        The answers are cached under the keys of the call itself, so that the call on all rows with the variant that
        you choose does not pay for them again.

        Parameters
        ----------
        column : hashable
            Name of the column of texts.
        variants : mapping of str to variant, or sequence of variants
            At least two, by name. A variant is the name of a model, or a prompt (a text with spaces): the instructions
            of ``classify`` where ``labels`` are given, the question of ``filter`` where ``question`` is, else a
            template of ``complete``, or its system message if it has no field. Or it is a dict of keywords of one of
            these methods, such as ``{"labels": [...], "model": "gpt-5", "examples": [...]}``, ``{"labels": [...],
            "via": "embedding"}``, ``{"question": "..."}`` or ``{"template": "...", "system": "..."}``.
        n : int, default 100
            Number of rows with different texts, drawn at random; judged rows are taken first.
        gold : pandas.Series or pandas.DataFrame, optional
            The judged answers by index, as for ``evaluate``: labels, for a question True and False.
        labels : sequence of str, mapping of str to str, enum.Enum class or Literal, optional
            Labels of all variants that have none of their own.
        question : str, optional
            Question with the answer yes or no of all variants that have none of their own.
        sample_seed : int, default 0
            Seed of the sample.
        level : float, default 0.95
            Confidence level of the limits.

        Returns
        -------
        Comparison
            ``frame`` by variant (accuracy with limits, kappa, dollars for a thousand rows, median and 95th percentile
            of the seconds of a request, share of the answers with a safety finding), ``pairs`` (kappa, McNemar's exact
            test and Holm's adjustment for several), ``rows`` with those that differ first, and ``plot()``.

        Raises
        ------
        InputError
            If an argument of the call or of a variant is wrong, or ``gold`` has labels that no variant has; nothing is
            sent.
        BudgetExceededError
            If ``budget`` ends it; ``frame`` has the rows with the answers so far.

        See Also
        --------
        evaluate : Precision and recall of a column on all rows, weighted as they were drawn.

        Notes
        -----
        Variants are asked one after the other. Answers to ``complete`` are equal if they differ only in case, space,
        quotes and a full stop. In ``accuracy`` rows of ``gold_sample`` count as they were drawn, where the frame has
        the labels that they were drawn by, others by a column ``weight`` of ``gold``, or all the same; McNemar's test
        counts rows. Dollars count all tokens of an answer, also of a cached one; seconds are those of the requests
        that were sent now.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["It broke.", "I love it!", "It is late."]})
        >>> plain, described = {"labels": ["good", "bad"]}, {"labels": {"good": "praise", "bad": "a complaint"}}
        >>> found = df.skytells.compare("text", {"plain": plain, "described": described}, n=3, progress=False)
        >>> found.frame.index.tolist(), found.pairs.shape[0], found.rows.columns.tolist()
        (['plain', 'described'], 1, ['text', 'plain', 'described', 'answers'])
        """
        check_options(options, self.compare)
        check_level(level)
        count = check_count("n", n)
        if not isinstance(sample_seed, Integral) or isinstance(sample_seed, bool) or sample_seed < 0:
            raise InputError(f"sample_seed must be an integer, 0 or more, got {sample_seed!r}.")
        shared: dict[str, Any] = {"labels": labels, "question": question, "model": model, "params": params}
        shared = {name: value for name, value in shared.items() if value is not None}
        shared |= {name: options[name] for name in given_parameters(options)}
        if labels is not None and question is not None:
            raise InputError("labels and question are for different methods; pass one of them.")
        methods = {name: getattr(self, name) for name in ("classify", "complete", "filter")}
        chosen = read_variants(variants, shared, methods)
        rows, judged = self._rows_to_compare(column, gold, count, int(sample_seed), chosen)
        sample = self._frame.iloc[rows]
        run = _VariantRuns(self, sample, column, on_error, progress, options)
        # All are checked before any is paid for.
        run.estimate(chosen)
        if run.collected is not None:
            # Of a sample of the call, which then pays for nothing that the call does not need.
            run.collected.codes = np.full(len(self._frame), -1, dtype=np.int64)
            run.collected.codes[rows] = np.arange(len(rows))
            raise DryRunComplete
        answered = run.ask(chosen)
        return _comparison(column, sample, answered, judged, level, run.total())

    def _rows_to_compare(
        self, column: Any, gold: Any, n: int, seed: int, variants: Sequence[Variant]
    ) -> tuple[Indices, _JudgedSample | None]:
        """Return the positions of the rows, and what was judged of them."""
        texts = self._texts(column)
        present = np.array([text is not None for text in texts], dtype=bool)
        if not present.any():
            raise InputError(f"Column {column!r} has no text to ask about.")
        random = np.random.default_rng(seed)
        first = pd.Series(texts).drop_duplicates().index.to_numpy()
        different = random.permutation(first[present[first]])
        if gold is None:
            return np.sort(different[:n]).astype(np.int64), None
        judged = read_gold(self._frame, None, gold)
        _check_gold(judged, variants, column)
        usable = judged.rows[present[judged.rows]]
        if not len(usable):
            raise InputError("No judged row of gold has a text to ask about.")
        chosen = random.permutation(usable)[:n]
        others = different[~np.isin(different, chosen)]
        rows = np.sort(np.concatenate([chosen, others[: n - len(chosen)]])).astype(np.int64)
        judged = judged.part(np.isin(judged.rows, rows))
        return rows, _JudgedSample.of(judged, drawn_weights(self._frame, judged, present), rows)


@dataclass(frozen=True)
class _JudgedSample:
    """What was judged of the rows of a sample, missing where nothing was, and the weight of each."""

    values: pd.Series[Any]
    weights: Reals
    weighted: bool
    """Whether it is known how the rows were drawn."""

    @classmethod
    def of(cls, judged: Judged, weights: Reals | None, rows: Indices) -> _JudgedSample:
        each = np.ones(len(judged.rows)) if weights is None else weights
        table = pd.DataFrame({"value": judged.values.array, "weight": each}, index=judged.rows).reindex(rows)
        filled = table["weight"].fillna(0.0).to_numpy(dtype=np.float64)
        return cls(table["value"].reset_index(drop=True), filled, weights is not None)


def _check_gold(judged: Judged, variants: Sequence[Variant], column: Any) -> None:
    """Raise InputError for a judged label that no variant can answer."""
    if all(each.labels is not None for each in variants):
        names = list(dict.fromkeys(label for each in variants for label in each.labels or ()))
        gold_codes(names, judged.values, column, "the variants do")


@dataclass(frozen=True)
class _Answered:
    """The answers of a variant by row of the sample, and what they took."""

    variant: Variant
    values: pd.Series[Any]
    completions: Sequence[CachedCompletion | None]
    report: Report
    model: str
    cost_per_1000: float | None


class _VariantRuns:
    """The calls of all variants on the rows of a sample, with one budget and one report."""

    def __init__(
        self,
        accessor: Compare,
        sample: pd.DataFrame,
        column: Any,
        on_error: OnError,
        progress: bool | ProgressCallback,
        options: ModelOptions,
    ) -> None:
        self.collected = dry_run_of(options)
        self._type: Any = type(accessor)
        self._sample = sample
        self._column = column
        self._options: dict[str, Any] = {name: options[name] for name in _RUN_OPTIONS if name in options}  # type: ignore[literal-required]
        self._run: dict[str, Any] = {"on_error": on_error, "progress": progress}
        self._call = VectorizedCall.open(on_error, progress, options, owner=accessor._frame)
        self._reports: list[Report] = []

    def estimate(self, variants: Sequence[Variant]) -> None:
        """Check the call of each variant, and add what it would send to the estimate that is asked for, if any."""
        for variant in variants:
            options = {**self._options, **self._run, "progress": False, "sample": None}
            accessor = self._accessor()
            try:
                if self.collected is None:
                    self._method(accessor, variant)(dry_run=True, **options)
                else:
                    with suppress(DryRunComplete):
                        self._method(accessor, variant)(dry_run=self.collected, **options)
            except InputError as problem:
                raise InputError(f"The variant {variant.name!r} cannot be asked: {problem}") from None

    def ask(self, variants: Sequence[Variant]) -> list[_Answered]:
        """Ask about every row; an error has the answers so far as its frame, and the sum of the reports."""
        answered: list[_Answered] = []
        for number, variant in enumerate(variants):
            accessor = self._accessor()
            try:
                result = self._method(accessor, variant)(**{**self._options, **self._run, **self._budget()})
            except (Interrupted, SkytellsError) as problem:
                report = problem.report or get_report(accessor._frame)[0]
                if isinstance(report, Report):
                    self._reports.append(report)
                if self._reports:
                    problem.report = self.total()
                    if isinstance(problem, BudgetExceededError) and self._call.budget is not None:
                        problem.add_note(budget_note(self._call.budget, problem.report))
                done = {each.variant.name: each.values.array for each in answered}
                if isinstance(problem.frame, pd.DataFrame) and ANSWERS in problem.frame:
                    done[variant.name] = problem.frame[ANSWERS].array
                problem.frame = self._sample[[self._column]].assign(**done)
                raise
            report, completions = get_report(result)
            if report is None:
                raise TypeError(f"{variant.method} attached no report.")
            self._reports.append(report)
            answered.append(self._answered(variant, result, completions.get(ANSWERS), report))
            self.total(done=number == len(variants) - 1)
        return answered

    def total(self, *, done: bool = False) -> Report:
        """Return the report of all variants so far, whose rows are those of the sample, once for each variant."""
        size, parts = len(self._sample), self._reports
        total = sum_reports(parts[-1], *parts[:-1])
        errors = {size * number + row: error for number, part in enumerate(parts) for row, error in part.errors.items()}
        counts = {
            name: sum(getattr(part, name) for part in parts)
            for name in ("rows", "distinct", "nulls", "cached", "sent", "answered", "failed", "normalized")
        }
        models = ", ".join(dict.fromkeys(name for part in parts for name in part.model.split(", ")))
        total = replace(total, operation="compare", model=models, errors=errors, partial=None, timeline=None, **counts)
        sample = self._sample
        attach_report(self._call.owner, total, rows=lambda: pd.concat([sample] * len(parts)))  # type: ignore[arg-type]
        if done:
            self._call.session.revise_report(parts[-1], total, *parts[:-1])
        return total

    def _accessor(self) -> Any:
        # A copy, so that the report of a variant is attached to nothing that anyone has.
        return self._type(self._sample.copy(deep=False))

    def _method(self, accessor: Any, variant: Variant) -> Any:
        def call(**options: Any) -> Any:
            return getattr(accessor, variant.method)(**variant.arguments(self._column), **options)

        return call

    def _budget(self) -> dict[str, float]:
        budget = self._call.budget
        if budget is None:
            return {}
        spent = sum(report.cost_upper_bound or report.cost or 0.0 for report in self._reports)
        return {"budget": max(0.0, budget - spent)}

    def _answered(
        self,
        variant: Variant,
        result: pd.DataFrame,
        completions: Sequence[CachedCompletion | None] | None,
        report: Report,
    ) -> _Answered:
        settings = self._call.session.settings
        rows = [None] * len(self._sample) if completions is None else list(completions)
        if variant.options.get("via") == "embedding":
            model = variant.options.get("model") or settings.embedding_model
            options = {**self._options, "fresh": True, "retry": None, "progress": False, "dry_run": True}
            options["sample"] = None
            estimate = self._method(self._accessor(), variant)(**options)
            cost = None if estimate.cost is None else 1000 * estimate.cost / max(estimate.distinct, 1)
        else:
            model = variant.options.get("model") or settings.model
            price = self._call.session.price(model)
            known = [each for each in rows if each is not None and not each.blocked and each.tokens_in]
            each_costs = [0.0 if price is None else price.cost(each.tokens_in, each.tokens_out) for each in known]
            cost = None if price is None or not known else 1000 * float(np.mean(each_costs))
        return _Answered(variant, result[ANSWERS].reset_index(drop=True), rows, report, model, cost)


def _comparison(
    column: Any,
    sample: pd.DataFrame,
    answered: Sequence[_Answered],
    judged: _JudgedSample | None,
    level: float,
    report: Report,
) -> Comparison:
    values = [each.values.astype(object) for each in answered]
    gold = None if judged is None else judged.values.astype(object)
    # Labels and texts of one comparison are compared as texts.
    is_text = any(each.variant.labels is None for each in answered)
    keys = [_keys(each, texts=is_text) for each in values]
    everything = keys if gold is None else [*keys, _keys(gold, texts=is_text)]
    numbers = pd.factorize(pd.concat(everything, ignore_index=True), use_na_sentinel=True)[0].astype(np.int64)
    table: NDArray[np.int64] = numbers.reshape(len(everything), len(sample))
    codes, truth = table[: len(answered)], None if gold is None else table[-1]
    size = int(numbers.max(initial=0)) + 1
    weights = np.ones(len(sample)) if judged is None else judged.weights
    pairs = _pairs([each.variant.name for each in answered], codes, truth, size, level)
    right = [UNKNOWN if truth is None else _accuracy(each, truth, weights, level) for each in codes]
    index = pd.Index([each.variant.name for each in answered], name="variant")
    frame = pd.DataFrame([_measured(each) for each in answered], index=index)
    frame.insert(2, "accuracy", [each.estimate for each in right])
    frame.insert(3, "accuracy_low", [each.low for each in right])
    frame.insert(4, "accuracy_high", [each.high for each in right])
    counted = [0 if truth is None else int(((truth >= 0) & (each >= 0)).sum()) for each in codes]
    frame.insert(5, "n_gold", counted)
    first, second = pairs.index.get_level_values(0), pairs.index.get_level_values(1)
    kappas = [pairs["kappa"][(first == name) | (second == name)].mean() for name in index]
    frame.insert(6, "kappa", kappas)
    rows = _shown_rows(column, sample, answered, gold, codes)
    n_gold = 0 if truth is None else int((truth >= 0).sum())
    weighted = judged is not None and judged.weighted
    return Comparison(column, len(sample), n_gold, level, weighted, frame, pairs, rows, report)


def _keys(values: pd.Series[Any], *, texts: bool) -> pd.Series[Any]:
    """Return what is compared: labels as they are, texts without case, space at the ends, quotes and a full stop."""
    if not texts:
        return values.where(values.notna(), None)
    return values.map(lambda value: None if pd.isna(value) else " ".join(str(value).split()).strip("\"'`.").casefold())


def _accuracy(codes: Indices, truth: Indices, weights: Reals, level: float) -> Any:
    both = (codes >= 0) & (truth >= 0)
    return accuracy(truth[both], codes[both], weights[both], level)


def _measured(each: _Answered) -> dict[str, Any]:
    """Return what a variant took, by its completions and its report."""
    timeline, report = each.report.timeline, each.report
    half, most = (None, None) if timeline is None else (timeline.latency(0.5), timeline.latency(0.95))
    known = [completed.safety for completed in each.completions if completed is not None]
    # Without a result it is not known whether there is something to find.
    flagged = [safety.filtered or bool(safety.flagged) for safety in known if safety.checked or safety.flagged]
    tokens = [(c.tokens_in, c.tokens_out) for c in each.completions if c is not None and not c.blocked]
    return {
        "method": each.variant.method,
        "model": each.model,
        "cost_per_1000": np.nan if each.cost_per_1000 is None else each.cost_per_1000,
        "latency_p50": np.nan if half is None else half,
        "latency_p95": np.nan if most is None else most,
        "safety_rate": float(np.mean(flagged)) if flagged else np.nan,
        "tokens_in": float(np.mean([a for a, _ in tokens])) if tokens else np.nan,
        "tokens_out": float(np.mean([b for _, b in tokens])) if tokens else np.nan,
        "answered": report.answered,
        "failed": report.failed,
        "cached": report.cached,
        "requests": report.requests,
    }


def _pairs(
    names: Sequence[str], codes: NDArray[np.int64], truth: Indices | None, labels: int, level: float
) -> pd.DataFrame:
    """Return how each two variants agree, and whether one of them is more often right."""
    records = []
    for first, second in combinations(range(len(names)), 2):
        a, b = codes[first], codes[second]
        both = (a >= 0) & (b >= 0)
        ones = np.ones(int(both.sum()))
        kappa = cohen_kappa(a[both], b[both], labels, ones, level) if both.any() else UNKNOWN
        record: dict[str, Any] = {
            "n": int(both.sum()),
            "agreement": float((a == b)[both].mean()) if both.any() else np.nan,
            "kappa": kappa.estimate,
            "kappa_low": kappa.low,
            "kappa_high": kappa.high,
        }
        if truth is not None:
            judged = both & (truth >= 0)
            only_first = int(((a == truth) & (b != truth) & judged).sum())
            only_second = int(((b == truth) & (a != truth) & judged).sum())
            p = mcnemar_exact(only_first, only_second) if judged.any() else np.nan
            record |= {"only_first_right": only_first, "only_second_right": only_second, "p_value": p}
        records.append(record)
    index = pd.MultiIndex.from_tuples(list(combinations(names, 2)), names=["first", "second"])
    table = pd.DataFrame(records, index=index)
    if truth is not None:
        table["p_adjusted"] = holm(table["p_value"].tolist())
    return table


def _shown_rows(
    column: Any,
    sample: pd.DataFrame,
    answered: Sequence[_Answered],
    gold: pd.Series[Any] | None,
    codes: NDArray[np.int64],
) -> pd.DataFrame:
    """Return the rows with all answers: those with the most different ones first, of these the judged ones."""
    table: dict[Any, Any] = {column: sample[column].array}
    if gold is not None:
        table[GOLD] = gold.array
    table |= {each.variant.name: each.values.array for each in answered}
    different = np.array([len(set(row)) for row in codes.T.tolist()], dtype=np.int64)
    table["answers"] = different
    judged = np.zeros(len(sample), dtype=bool) if gold is None else gold.notna().to_numpy(dtype=bool)
    order = np.lexsort((~judged, -different))
    return pd.DataFrame(table, index=sample.index).iloc[order]

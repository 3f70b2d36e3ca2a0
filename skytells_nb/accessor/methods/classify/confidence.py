"""How sure a label is: by votes, by the probabilities of its tokens, or by what similar texts were labeled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import TextPrompt, check_count, policed
from skytells_nb.accessor.call import VectorizedCall
from skytells_nb.accessor.methods.cascade import CascadeMethods, CascadeOptions, distinct_vectors
from skytells_nb.accessor.methods.classify.token_probabilities import alternatives, label_probability
from skytells_nb.accessor.methods.evaluation.gold import Judged, drawn_weights, gold_codes, read_gold
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.prompts.labels import Labels
from skytells_nb.accessor.results import CompletionColumns, complete_texts, details_frame
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy
from skytells_nb.accessor.text_columns import Texts
from skytells_nb.client.rejected_parameters import rejects_parameter
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import LibraryDefault
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError, LowConfidenceError
from skytells_nb.statistics.calibration import LEAST_JUDGED, fit_calibration
from skytells_nb.statistics.intervals import Reals
from skytells_nb.types.safety import severity_rank
from skytells_nb.vectors.arrays import Indices
from skytells_nb.vectors.softmax import fit_softmax

Confidence: TypeAlias = Literal["votes", "logprobs", "proxy"]
"""What a confidence is made of."""

DEFAULT_VOTES = 5
MOST_VOTES = 100
VOTE_TEMPERATURE = LibraryDefault(1.0)
"""The model's own distribution, of which the share of the votes is an estimate."""
LOGPROBS = "logprobs"
"""The fact of a service's profile: 1 where a model gives log probabilities, 0 where it does not."""
PROBES = 3
"""Texts that are tried, where the first are blocked, before all are sent."""
FOLDS = 5
LEAST_TEXTS = 25
"""Different texts that the softmax of ``"proxy"`` learns from at least."""
SEED = 0


@dataclass(frozen=True)
class ConfidenceOptions:
    """What the confidence is made of, from where on a label counts, and the rows that calibrate it."""

    kind: Confidence
    abstain: float | None
    votes: int
    judged: Judged | None

    @classmethod
    def of(
        cls, frame: pd.DataFrame, kind: Any, abstain: Any, votes: Any, gold: Any, column: Any, labels: Labels
    ) -> ConfidenceOptions | None:
        """Check the options of a call; ``None`` if it wants no confidence."""
        if kind is None:
            for name, value in (("abstain", abstain), ("votes", votes), ("gold", gold)):
                if value is not None:
                    raise InputError(f"{name} is for a confidence, which confidence='votes' adds. Leave it out.")
            return None
        if kind not in ("votes", "logprobs", "proxy"):
            raise InputError(f"confidence must be 'votes', 'logprobs' or 'proxy', got {kind!r}.")
        if abstain is not None and (
            not isinstance(abstain, Real) or isinstance(abstain, bool) or not 0 < float(abstain) <= 1
        ):
            raise InputError(f"abstain must be a number above 0 and at most 1, such as 0.7, got {abstain!r}.")
        if votes is not None and kind != "votes":
            raise InputError(f"votes is for confidence='votes', got confidence={kind!r}. Leave it out.")
        count = DEFAULT_VOTES if votes is None else check_count("votes", votes)
        if kind == "votes" and not 2 <= count <= MOST_VOTES:
            raise InputError(f"votes must be from 2 to {MOST_VOTES}, got {count}.")
        judged = None if gold is None else read_gold(frame, None, gold)
        if judged is not None:
            judged = replace(judged, weights=drawn_weights(frame, judged, np.ones(len(frame), dtype=bool)))
            gold_codes(labels.names, judged.values, column, "the labels do")
            if len(judged.rows) < LEAST_JUDGED:
                raise InputError(
                    f"gold must have at least {LEAST_JUDGED} judged rows to calibrate a confidence, got "
                    f"{len(judged.rows)}."
                )
        return cls(kind, None if abstain is None else float(abstain), count, judged)


@dataclass(frozen=True)
class Labeled:
    """The answers by row, the number of the label of each (-1 without one), and how sure it is, NaN if not known."""

    answers: CompletionColumns
    codes: Indices
    confidence: Reals


Decide: TypeAlias = Callable[[CompletionColumns], Indices]
Ask: TypeAlias = Callable[[VectorizedCall, TextPrompt, Sequence[CompletionColumns]], CompletionColumns]
"""Asks a prompt about all texts, after the answers of earlier votes."""


class ConfidenceMethods(CascadeMethods):
    """Methods whose labels may have a confidence."""

    def _sure_labels(
        self,
        prompt: TextPrompt,
        texts: Texts,
        into: Any,
        labels: Labels,
        options: ConfidenceOptions,
        embedding: Any,
        open_call: Callable[[], VectorizedCall],
        safety: SafetyChoice,
        decide: Decide,
        *,
        details: bool,
    ) -> tuple[dict[Any, pd.Series[Any]], CompletionColumns]:
        """Return the columns of labels and confidences, and of the details where they are wanted, with the answers."""
        policy, name = SafetyPolicy.of(safety), confidence_name(into)
        dtype, index = pd.CategoricalDtype(list(labels.names)), self._frame.index

        def columns(codes: Indices, confidence: Reals) -> dict[Any, pd.Series[Any]]:
            chosen = pd.Categorical.from_codes(codes, dtype=dtype)
            return {into: pd.Series(chosen, index=index), name: pd.Series(confidence, index=index, dtype="float64")}

        def so_far(votes: Sequence[CompletionColumns]) -> dict[Any, pd.Series[Any]]:
            codes, share = count_votes([decide(each) for each in votes], len(labels.names))
            unknown = np.full(len(texts), np.nan)
            return columns(codes, share if options.kind == "votes" else unknown)

        def unfinished(report: Report) -> pd.DataFrame:
            none = np.full(len(texts), -1, dtype=np.int64)
            return self._with(columns(none, np.full(len(texts), np.nan)), report)

        def ask(call: VectorizedCall, asked: TextPrompt, before: Sequence[CompletionColumns]) -> CompletionColumns:
            # A row fails only if all votes on it do, so the method itself warns of those.
            quiet = call if not before and options.kind != "votes" else replace(call, defers_warning=True)
            quiet = replace(quiet, on_error="null") if before and call.on_error == "raise" else quiet
            assembling = self._assembling(quiet, into, policy, False, lambda new: so_far([*before, new]))
            return self._answers(asked, texts, into, assembling)

        vectors = CascadeOptions.of(self._frame, 0.95, 0.9, embedding) if options.kind == "proxy" else None
        check_texts(texts, options)
        with MultiRun(prompt.operation, len(texts), open_call, unfinished) as runs:
            runs.check_budget_for(prompt.model)
            if options.kind == "votes":
                labeled = by_votes(runs, prompt, options.votes, len(labels.names), ask, decide)
            elif options.kind == "logprobs":
                labeled = by_logprobs(runs, prompt, texts, labels, ask, decide)
            else:
                assert vectors is not None
                labeled = by_proxy(runs, prompt, texts, len(labels.names), vectors, ask, decide)
            labeled = calibrated(labeled, options.judged, labels, into)
            labeled, report = abstaining(labeled, options.abstain)
            runs.replace_main(report)
            answers = replace(labeled.answers, report=report)
            call = runs.call()
            if options.kind == "votes":
                failures = {row: e for row, e in report.errors.items() if not isinstance(e, LowConfidenceError)}
                call.warn_of_failures(replace(report, errors=failures, failed=len(failures)))
            assembling = self._assembling(
                call, into, policy, details, lambda _: columns(labeled.codes, labeled.confidence)
            )
            new = policed(policy, answers, columns(labeled.codes, labeled.confidence), assembling)
            answers = replace(answers, report=runs.report)
        return {**new, **(details_frame(into, answers) if details else {})}, answers


def confidence_name(into: Any) -> Any:
    """Return the name of the column of confidences."""
    return (f"{into[0]}_confidence", *into[1:]) if isinstance(into, tuple) else f"{into}_confidence"


def check_texts(texts: Texts, options: ConfidenceOptions) -> None:
    """Raise InputError if there are too few texts to learn from."""
    different = len({text for text in texts if text is not None})
    if options.kind == "proxy" and 0 < different < LEAST_TEXTS:
        raise InputError(
            f"confidence='proxy' learns from the labels of the other texts and needs at least {LEAST_TEXTS} different "
            f"ones, got {different}. Use confidence='votes'."
        )


def check_vote_parameters(params: Mapping[str, Any]) -> None:
    """Raise InputError for parameters with which all votes would be the same."""
    temperature, seed = params.get("temperature"), params.get("seed")
    if temperature is not None and not isinstance(temperature, LibraryDefault) and not temperature > 0:
        raise InputError(f"temperature must be above 0 for confidence='votes', got {temperature!r}: votes would agree.")
    if seed is not None and (not isinstance(seed, Integral) or isinstance(seed, bool)):
        raise InputError(f"seed must be an integer for confidence='votes', got {seed!r}.")


def by_votes(runs: MultiRun, prompt: TextPrompt, votes: int, labels: int, ask: Ask, decide: Decide) -> Labeled:
    """Ask several times with different seeds; the label is that of most votes, the confidence their share."""
    given = dict(prompt.params)
    if isinstance(given.get("temperature"), LibraryDefault):
        given["temperature"] = VOTE_TEMPERATURE
    asked: list[CompletionColumns] = []
    for vote in range(votes):
        seed: Any = prompt.params.get("seed")
        # Where a model takes no seed, requests of the same form are answered by chance all the same.
        given["seed"] = LibraryDefault(vote) if seed is None else int(seed) + vote
        call = runs.call(main=vote == 0, last=vote == votes - 1)
        answers = ask(call, replace(prompt, params=given), asked)
        asked.append(answers)
        runs.add(answers.report)
    codes, share = count_votes([decide(each) for each in asked], labels)
    return Labeled(merge_votes(asked, codes), codes, share)


def count_votes(votes: Sequence[Indices], labels: int) -> tuple[Indices, Reals]:
    """Return the label with most votes of each row, of equal ones that which was voted first, and its share.

    Votes without a label, -1, do not count.

    >>> [part.tolist() for part in count_votes([np.array([1, 0]), np.array([2, -1]), np.array([1, -1])], 3)]
    [[1, 0], [0.6666666666666666, 1.0]]
    """
    table = np.stack(votes)
    rows = np.arange(table.shape[1])
    counts = np.zeros((table.shape[1], labels))
    for number, vote in enumerate(table):
        voted = vote >= 0
        # The earlier of two labels with as many votes is ahead by less than any vote.
        counts[rows[voted], vote[voted]] += 1 + 1e-6 / (1 + number)
    total = (table >= 0).sum(axis=0)
    codes = np.where(total > 0, counts.argmax(axis=1), -1).astype(np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total > 0, (table == codes).sum(axis=0) / total, np.nan)
    return codes, share


def merge_votes(votes: Sequence[CompletionColumns], codes: Indices) -> CompletionColumns:
    """Return the first vote with the tokens of all, the worst safety result of a row, and errors where all failed."""
    first = votes[0]

    def merged(row: Sequence[CachedCompletion | None]) -> CachedCompletion | None:
        known = [each for each in row if each is not None]
        if not known:
            return None
        worst = max(known, key=lambda each: (each.safety.filtered, severity_rank(each.safety.severity)))
        return replace(
            worst, tokens_in=sum(each.tokens_in for each in known), tokens_out=sum(each.tokens_out for each in known)
        )

    rows = [merged(row) for row in zip(*(each.rows for each in votes), strict=True)]
    errors: dict[int, Exception] = {}
    for each in votes:
        errors |= {row: error for row, error in each.report.errors.items() if codes[row] < 0 and row not in errors}
    report = first.report
    changed = len(report.errors) - len(errors)
    report = replace(
        report, errors=dict(sorted(errors.items())), failed=report.failed - changed, answered=report.answered + changed
    )
    return replace(first, rows=rows, report=report)


def by_logprobs(runs: MultiRun, prompt: TextPrompt, texts: Texts, labels: Labels, ask: Ask, decide: Decide) -> Labeled:
    """Ask with the log probabilities of the tokens; raise InputError before much is spent if there are none."""
    asked = replace(prompt, params={**prompt.params, "logprobs": True, "top_logprobs": alternatives(len(labels.names))})
    call = runs.call(last=False)
    model = call.chat_model(prompt.model)
    profile = call.engine.profile(model)
    if profile.get_fact(LOGPROBS) == 0:
        raise InputError(_no_logprobs(model))
    if profile.get_fact(LOGPROBS) is None and call.dry_run is None:
        for text in list(dict.fromkeys(text for text in texts if text is not None))[:PROBES]:
            given = _gives_logprobs(runs, asked, text)
            if given is not None:
                profile.set_fact(LOGPROBS, int(given))
                if not given:
                    raise InputError(_no_logprobs(model))
                break
    answers = ask(runs.call(main=True), asked, ())
    runs.add(answers.report)
    codes = decide(answers)
    confidence = np.full(len(texts), np.nan)
    known: dict[int, float | None] = {}
    for row, code in enumerate(codes.tolist()):
        completed = answers.rows[row]
        if code >= 0 and completed is not None and completed.logprobs:
            if id(completed) not in known:
                known[id(completed)] = label_probability(labels.names[code], completed.logprobs, labels.names)
            value = known[id(completed)]
            confidence[row] = np.nan if value is None else value
    return Labeled(answers, codes, confidence)


def _gives_logprobs(runs: MultiRun, prompt: TextPrompt, text: str) -> bool | None:
    """Return whether an answer has log probabilities, ``None`` if there was no answer."""
    for fresh in (False, True):
        call = replace(runs.call(last=False), on_error="null", assemble=None, fresh=fresh).without_progress()
        one = np.array([text], dtype=object)
        answers = complete_texts(call, prompt.job(call), one, pd.RangeIndex(1), "probe", prompt.schema, 0)
        runs.add(answers.report)
        problem = answers.report.errors.get(0)
        if problem is not None and any(rejects_parameter(problem, name) for name in ("logprobs", "top_logprobs")):
            return False
        completed = answers.rows[0]
        if completed is None or not completed.text:
            return None
        if completed.logprobs:
            return True
        if not answers.report.cached:
            return False
    return False


def _no_logprobs(model: str) -> str:
    return (
        f"{model!r} gives no log probabilities of its tokens, which confidence='logprobs' needs. Use "
        "confidence='votes' (several answers for each text) or 'proxy' (embeddings)."
    )


def by_proxy(
    runs: MultiRun, prompt: TextPrompt, texts: Texts, labels: int, options: CascadeOptions, ask: Ask, decide: Decide
) -> Labeled:
    """Ask once; the confidence is the probability of the label by a softmax on the embeddings of other texts.

    Each fifth of the different texts is judged by the other four (cross-fitting).
    """
    codes, different = pd.factorize(texts, use_na_sentinel=True)
    first = np.unique(codes, return_index=True)[1][-len(different) :] if len(different) else np.empty(0, np.int64)
    vectors = distinct_vectors(runs, options, different, first.astype(np.int64)) if len(different) else None
    answers = ask(runs.call(main=True), prompt, ())
    runs.add(answers.report)
    decided = decide(answers)
    confidence = np.full(len(different) + 1, np.nan)
    if vectors is not None:
        known = decided[first[vectors.rows]]
        usable = np.flatnonzero(known >= 0)
        fold = np.random.default_rng(SEED).permutation(len(usable)) % FOLDS
        for number in range(FOLDS if len(usable) >= LEAST_TEXTS else 0):
            train, test = usable[fold != number], usable[fold == number]
            probabilities = fit_softmax(vectors.matrix[train], known[train], labels).probabilities(vectors.matrix[test])
            confidence[vectors.rows[test]] = probabilities[np.arange(len(test)), known[test]]
    of_rows = np.where(decided >= 0, confidence[codes], np.nan)
    return Labeled(answers, decided, of_rows)


def calibrated(labeled: Labeled, judged: Judged | None, labels: Labels, into: Any) -> Labeled:
    """Return the labels with the confidence that judged rows calibrate, where there are any."""
    if judged is None:
        return labeled
    truth = gold_codes(labels.names, judged.values, into)
    known = (labeled.codes[judged.rows] >= 0) & ~np.isnan(labeled.confidence[judged.rows])
    rows = judged.rows[known]
    if len(rows) < LEAST_JUDGED:
        raise InputError(
            f"gold must have at least {LEAST_JUDGED} judged rows with a label and a confidence, got {len(rows)}. The "
            "answers are cached."
        )
    weights = np.ones(len(rows)) if judged.weights is None else judged.weights[known]
    # Equal weights are one each: what a row stands for makes the sample no larger.
    curve = fit_calibration(
        labeled.confidence[rows], labeled.codes[rows] == truth[known], weights * (len(rows) / weights.sum())
    )
    return replace(labeled, confidence=curve.probabilities(labeled.confidence))


def abstaining(labeled: Labeled, abstain: float | None) -> tuple[Labeled, Report]:
    """Return the labels without those of a confidence below ``abstain``, and the report with the reasons."""
    report = labeled.answers.report
    if abstain is None:
        return labeled, report
    below = (labeled.codes >= 0) & ~(labeled.confidence >= abstain - 1e-9)
    unknown = np.isnan(labeled.confidence)
    unsure, missing = (
        LowConfidenceError(f"The confidence is below abstain={abstain:g}."),
        LowConfidenceError("The confidence is not known: the answer came without what it is made of."),
    )
    rows = np.flatnonzero(below).tolist()
    errors = {**report.errors, **{row: missing if unknown[row] else unsure for row in rows}}
    report = replace(
        report,
        errors=dict(sorted(errors.items())),
        failed=report.failed + len(rows),
        answered=report.answered - len(rows),
    )
    return replace(labeled, codes=np.where(below, -1, labeled.codes)), report

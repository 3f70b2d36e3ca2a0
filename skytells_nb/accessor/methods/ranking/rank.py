"""``rank``: the rows of which a criterion holds most, by comparing their texts with each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import (
    DETERMINISTIC,
    PromptMethods,
    SimilarityMethods,
    check_count,
    non_empty_text,
)
from skytells_nb.accessor.call import (
    DryRun,
    DryRunComplete,
    VectorizedCall,
    attach_report,
    completions,
    dry_run_of,
    take,
)
from skytells_nb.accessor.methods.ranking.score import score_prompt, scores_of
from skytells_nb.accessor.methods.ranking.tournament import best, most_comparisons
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.options import ModelOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.results import CompletionColumns, build_job, complete_texts
from skytells_nb.accessor.structured.schema import answer_parser
from skytells_nb.accessor.text_columns import Texts
from skytells_nb.accessor.text_or_vector_column import EmbeddingOptions, TextOrVectorColumn, embed_column, embed_queries
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.report import RankingReport, Report
from skytells_nb.errors import InputError, warn
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.vectors.arrays import Indices, check_dimensions

FIRST, SECOND = "first", "second"
SCHEMA: Mapping[str, Any] = {
    "title": "comparison",
    "type": "object",
    "properties": {"better": {"type": "string", "enum": [FIRST, SECOND]}},
    "required": ["better"],
    "additionalProperties": False,
}
SCORES = (1, 10)
"""The least and the highest score of ``by="scores"``."""
MANY_REVERSED = 1 / 3
"""Share of the pairs with another answer in the other order from which on a warning says so; chance gives half."""
FEW_PAIRS = 10


class Rank(PromptMethods, SimilarityMethods):
    """The ``rank`` method."""

    @expand_options(ModelOptions, defaults=DETERMINISTIC)
    def rank(
        self,
        column: Any,
        criterion: str,
        k: int = 10,
        *,
        by: Literal["pairs", "scores"] = "pairs",
        prefilter: int | None = None,
        comparisons: int | None = None,
        embedding: Any = None,
        into: Any = "rank",
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.DataFrame:
        """Return the rows of which a criterion holds most, best first.

        Texts are compared two at a time, each pair in both orders, since models prefer what they read first, or last.
        A pair with another answer in the other order is decided by neither; the report says how many there were.

        Parameters
        ----------
        column : hashable
            Name of the column of texts.
        criterion : str
            What the best text has most of, in plain words, such as ``"how urgent it is"``.
        k : int, default 10
            Number of rows.
        by : {"pairs", "scores"}, default "pairs"
            ``"scores"`` scores each text from 1 to 10 and compares none: one request a text, and many equal scores.
        prefilter : int, optional
            Compare only so many different texts, those whose embeddings are nearest to the criterion: for a criterion
            that names a subject.
        comparisons : int, optional
            Limit of the comparisons, two requests each; more than n + k log2 n of n different texts are never needed.
            If it is too low for them, the error says which ``prefilter`` would do.
        embedding : hashable, optional
            Name of a column of embeddings for ``prefilter``; by default the texts are embedded.
        into : hashable, default "rank"
            Name of the new column: 1 for the best; equal texts have the same.
        model : str, optional
            Name of the chat model; by default that of the session.
        rows_per_request : int, optional
            Comparisons that share a request, 2 to 100; by default each has its own.

        Returns
        -------
        pandas.DataFrame
            ``k`` rows with their index and the new column, or fewer where fewer have a text. ``report.ranking`` has the
            comparisons, the share of answers that chose the first text (0.5 without a bias) and the share of pairs
            whose answer changed with the order.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or not text; nothing is sent.

        See Also
        --------
        score : A number for each text.
        search : The rows most similar to a query, without a chat model.

        Notes
        -----
        A knock-out tournament over the different texts finds the best in n - 1 comparisons, and each next in log2 n
        more. If the answers are a total order, the rows are exactly the best.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat", "a house", "a mountain", None]})
        >>> df.skytells.rank("text", "how large it is", 2, progress=False)["rank"].tolist()
        [1, 2]
        """
        check_options(options, self.rank)
        parameters = model_parameters(options, params, DETERMINISTIC)
        asked, most = non_empty_text("criterion", criterion).rstrip("."), check_count("k", k)
        if by not in ("pairs", "scores"):
            raise InputError(f"by must be 'pairs' or 'scores', got {by!r}.")
        if by == "scores" and comparisons is not None:
            raise InputError("comparisons is for by='pairs'; leave it out.")
        if embedding is not None and prefilter is None:
            raise InputError("embedding is for prefilter=, the number of texts that are compared. Leave it out.")
        if rows_per_request is not None:
            from skytells_nb.engine.operations.row_packing import check_rows

            check_rows(rows_per_request)
        texts = self._texts(column)
        self._check_into(into, column)
        codes, different = pd.factorize(texts, use_na_sentinel=True)
        kept = len(different) if prefilter is None else min(check_count("prefilter", prefilter), len(different))
        limit = _limit(comparisons, kept, most) if by == "pairs" else 0
        vectors = None if embedding is None else TextOrVectorColumn(self._frame, embedding)
        if vectors is not None and vectors.texts is not None:
            raise InputError(f"Column {embedding!r} must hold embeddings, as embed() makes them.")

        def unfinished(report: Report) -> pd.DataFrame:
            return self._ranked([], codes.astype(np.int64), most, into)

        def rows() -> pd.DataFrame:
            return self._frame

        with self._runs("rank", on_error, progress, options, unfinished, rows) as runs:
            if options.get("budget") is not None:
                runs.check_budget_for(model)
            candidates = np.arange(len(different), dtype=np.int64)
            if kept < len(different):
                candidates = self._nearest(runs, asked, different, codes.astype(np.int64), vectors, kept)
            first = np.unique(codes[codes >= 0], return_index=True)[1] if len(different) else np.empty(0, np.int64)
            positions = np.flatnonzero(codes >= 0)[first]
            chosen = np.array([*different, None], dtype=object)[:-1][candidates]
            places = positions[candidates]
            ranking: RankingReport | None = None
            if by == "scores":
                order, errors = _by_scores(runs, asked, chosen, places, parameters, model, rows_per_request)
            else:
                pairs = _Pairs(runs, asked, chosen, places, parameters, model, rows_per_request)
                dry_run = dry_run_of(options)
                if dry_run is not None:
                    pairs.expect(most, limit, dry_run)
                with runs.step("comparing", limit, "pairs") as on_progress:
                    order = best(len(chosen), min(most, len(chosen)), lambda each: pairs.compare(each, on_progress))
                ranking, errors = pairs.report(len(different), limit), pairs.errors
            result = self._ranked(candidates[order].tolist(), codes.astype(np.int64), most, into)
            if self._has_answers(by, chosen):
                runs.revise(errors, int((codes < 0).sum()), ranking=ranking)
            attach_report(result, runs.report, rows=rows)
        return result

    def _nearest(
        self,
        runs: MultiRun,
        criterion: str,
        different: Any,
        codes: Indices,
        column: TextOrVectorColumn | None,
        count: int,
    ) -> Indices:
        """Return the numbers of the texts nearest to the criterion, nearest first."""
        options = EmbeddingOptions()
        if column is None:
            known = embed_column(runs, np.asarray(different, dtype=object), options, last=False)
            numbers = known.rows
        else:
            known = column.vectors(runs, options)
            numbers = codes[known.rows]
        query = embed_queries(runs, [criterion], options)
        if not len(known):
            return np.arange(min(count, len(different)), dtype=np.int64)
        if known.matrix.shape[1] != query.shape[1] and runs.is_dry_run:
            return np.arange(count, dtype=np.int64)
        check_dimensions(query, "The criterion", known.matrix, "the column of embeddings")
        score = np.full(len(different), -np.inf)
        inside = numbers >= 0
        score[numbers[inside]] = (known.matrix @ query[0])[inside]
        nearest: Indices = np.argsort(-score, kind="stable")[:count].astype(np.int64)
        return nearest

    @staticmethod
    def _has_answers(by: str, texts: Texts) -> bool:
        """Whether a model was asked: a single text needs no comparison."""
        return len(texts) > (1 if by == "pairs" else 0)

    def _ranked(self, order: Sequence[int], codes: Indices, k: int, into: Any) -> pd.DataFrame:
        """Return the rows of the texts in this order, at most ``k``."""
        rows = [row for number in order for row in np.flatnonzero(codes == number).tolist()][:k]
        ranks = {number: place for place, number in enumerate(order, 1)}
        result = self._frame.iloc[rows].copy(deep=False)
        result[self._full(into)] = np.array([ranks[int(codes[row])] for row in rows], dtype=np.int64)
        return result


def _limit(comparisons: Any, n: int, k: int) -> int:
    """Return how many comparisons the ranking may take; raise InputError if they are too few."""
    needed = most_comparisons(n, k)
    if comparisons is None:
        return needed
    if check_count("comparisons", comparisons) < needed:
        fits = max((size for size in range(1, n) if most_comparisons(size, k) <= comparisons), default=0)
        instead = f" or prefilter={fits}" if fits >= k else ""
        raise InputError(
            f"comparisons must be at least {needed:,} for the best {min(k, n):,} of {n:,} different texts, got "
            f"{comparisons:,}. Pass more{instead}, or a smaller k."
        )
    return needed


class _NotCached(Exception):
    """The answers of a round are not in the cache, so what follows from them is not known."""


@dataclass
class _Pairs:
    """Compares texts in pairs, in both orders, and counts what follows from the order."""

    runs: MultiRun
    criterion: str
    texts: Texts
    positions: Indices
    """The row of each text, for the errors of the report."""
    params: Mapping[str, Any]
    model: str | None
    rows_per_request: int | None
    asked: int = 0
    first: int = 0
    second: int = 0
    both: int = 0
    reversed: int = 0
    failed: int = 0
    errors: dict[int, Exception] = field(default_factory=dict)

    def compare(self, pairs: Sequence[tuple[int, int]], on_progress: Any) -> list[int]:
        """Return the winner of each pair; the earlier one where the orders contradict each other."""
        answers = self._ask(pairs, self.runs.call(last=False))
        chosen = [None if fields is None else fields["better"] for fields in answers.column]
        winners = self._winners(pairs, chosen, answers.report.errors)
        on_progress(self.asked)
        return winners

    def _winners(
        self, pairs: Sequence[tuple[int, int]], chosen: Sequence[str | None], problems: Mapping[int, Exception]
    ) -> list[int]:
        winners = []
        for number, (a, b) in enumerate(pairs):
            forward, backward = chosen[2 * number], chosen[2 * number + 1]
            votes = [b if forward == SECOND else a] * (forward is not None)
            votes += [b if backward == FIRST else a] * (backward is not None)
            self.first += (forward == FIRST) + (backward == FIRST)
            self.second += (forward == SECOND) + (backward == SECOND)
            self.both += len(votes) == 2
            self.reversed += len(set(votes)) == 2
            self.failed += not votes
            # Of contradicting answers, and of none, the text that came first in the frame or was nearer wins.
            winners.append(votes[0] if len(set(votes)) == 1 else min(a, b))
            problem = problems.get(2 * number) or problems.get(2 * number + 1)
            if problem is not None and not votes:
                self.errors |= {int(self.positions[each]): problem for each in (a, b)}
        self.asked += len(pairs)
        return winners

    def expect(self, k: int, limit: int, dry_run: DryRun) -> None:
        """Estimate the requests of a ranking in place of sending them; raises DryRunComplete.

        Rounds whose answers are all cached are played; of the first other one on, it is the limit that counts.
        """
        known: set[frozenset[int]] = set()
        parser = answer_parser(SCHEMA)

        def read(text: str) -> str | None:
            try:
                return str(parser(text).fields["better"])
            except ValueError:
                return None

        def play(pairs: Sequence[tuple[int, int]]) -> list[int]:
            known.update(map(frozenset, pairs))
            call = self._quiet(self.runs.call(last=False))
            outcome = call.run(*self._request(pairs, call), column=lambda _: None)
            if dry_run.has_placeholders:
                raise _NotCached
            answers = take(list(completions(outcome)), outcome.result_index)
            chosen = [None if each is None else read(each.text) for each in answers]
            return self._winners(pairs, chosen, outcome.report.errors)

        n = len(self.texts)
        with suppress(_NotCached):
            best(n, k, play)
        rest = limit - len(known) if dry_run.has_placeholders else 0
        pairs = [(a, (a + gap) % n) for gap in range(1, n) for a in range(n)]
        further = [pair for pair in pairs if frozenset(pair) not in known][:rest]
        if further:
            self.runs.note("upper limit of the comparisons")
            call = self._quiet(self.runs.call(last=True))
            call.run(*self._request(further, call), column=lambda _: None)
        raise DryRunComplete

    def _quiet(self, call: VectorizedCall) -> VectorizedCall:
        return (replace(call, on_error="null") if call.on_error == "warn" else call).without_progress()

    def _request(self, pairs: Sequence[tuple[int, int]], call: VectorizedCall) -> tuple[Job, Texts]:
        """Return the job, and its inputs: each pair in both orders."""
        system = (
            "The user shows two texts, the first and the second. Say which of both is better by this criterion, the "
            f"first or the second: {self.criterion}."
        )
        ordered = [order for a, b in pairs for order in ((a, b), (b, a))]
        asked = [json.dumps({FIRST: self.texts[a], SECOND: self.texts[b]}, ensure_ascii=False) for a, b in ordered]
        job = build_job(call, self.model, system, SCHEMA, self.params, "compare", self.rows_per_request)
        return job, np.array([*asked, None], dtype=object)[:-1]

    def _ask(self, pairs: Sequence[tuple[int, int]], call: VectorizedCall) -> CompletionColumns:
        quiet = self._quiet(call)
        job, texts = self._request(pairs, quiet)
        answers = complete_texts(quiet, job, texts, pd.RangeIndex(len(texts)), "better", SCHEMA)
        self.runs.add(answers.report)
        return answers

    def report(self, texts: int, limit: int) -> RankingReport:
        """Return what was compared; warns where the answers follow the order rather than the texts."""
        answers = self.first + self.second
        share = None if not answers else self.first / answers
        changed = None if not self.both else self.reversed / self.both
        if self.failed and self.runs.warns:
            warn(f"{self.failed:,} of {self.asked:,} pairs failed in both orders; the earlier text won.")
        if changed is not None and self.both >= FEW_PAIRS and changed >= MANY_REVERSED:
            warn(
                f"{changed:.0%} of {self.both:,} pairs had another answer in the other order (the first text was "
                f"chosen in {share:.0%}), so much of the ranking is by chance: guessing gives half. Use a larger "
                "model, or a clearer criterion."
            )
        return RankingReport(texts, len(self.texts), self.asked, limit, share, changed)


def _by_scores(
    runs: MultiRun,
    criterion: str,
    texts: Texts,
    positions: Indices,
    params: Mapping[str, Any],
    model: str | None,
    rows_per_request: int | None,
) -> tuple[list[int], dict[int, Exception]]:
    """Return the numbers of the texts with a score, the highest first, and the errors by row of the others."""
    prompt = score_prompt(criterion, *SCORES, None, params, model, rows_per_request)
    call = runs.call(last=True)
    answers = complete_texts(call, prompt.job(call), texts, pd.RangeIndex(len(texts)), "score", prompt.schema)
    runs.add(answers.report)
    errors = {int(positions[row]): problem for row, problem in answers.report.errors.items()}
    scores = scores_of(answers).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    order = np.argsort(-scores, kind="stable")
    return [number for number in order.tolist() if not np.isnan(scores[number])], errors

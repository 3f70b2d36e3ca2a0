"""``join``: rows of two frames by similarity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import DETERMINISTIC, SimilarityMethods, check_count, check_recall, check_threshold
from skytells_nb.accessor.call import DryRunComplete, VectorizedCall, attach_report, dry_run_of
from skytells_nb.accessor.methods.cascade import CascadeOptions, run_cascade
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.options import (
    ModelOptions,
    check_options,
    expand_options,
    given_parameters,
    model_parameters,
)
from skytells_nb.accessor.results import CompletionColumns, build_job, complete_texts
from skytells_nb.accessor.text_columns import Texts, resolve_texts
from skytells_nb.accessor.text_or_vector_column import EmbeddingOptions, TextOrVectorColumn, embed_column
from skytells_nb.embedding_columns import UnitVectors
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.report import Estimate, Report
from skytells_nb.errors import InputError, warn
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.vectors.arrays import Floats, Indices, check_dimensions
from skytells_nb.vectors.inverted_file import nearest_approximately
from skytells_nb.vectors.neighbors import COSINE_TOLERANCE

How = Literal["inner", "left"]


@dataclass(frozen=True)
class Pairs:
    """Positions of left and right rows (p,) and their cosines, in the order of the left rows, the best pair first."""

    left: Indices
    right: Indices
    score: Floats
    recall: float = 1.0

    def where(self, keep: NDArray[np.bool_]) -> Pairs:
        return Pairs(self.left[keep], self.right[keep], self.score[keep], self.recall)


def nearest_pairs(
    left: UnitVectors,
    right: UnitVectors,
    k: int,
    threshold: float | None,
    recall: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Pairs:
    """Pair each left row with its ``k`` most similar right rows, leaving out those below the threshold."""
    places, scores, measured = nearest_approximately(
        left.matrix, right.matrix, k, recall=recall, on_progress=on_progress
    )
    each = places.shape[1]
    found = places.ravel() >= 0
    right_rows = right.rows[places.ravel()] if len(right) else places.ravel()
    pairs = Pairs(np.repeat(left.rows, each), right_rows, scores.ravel(), measured).where(found)
    return pairs if threshold is None else pairs.where(pairs.score >= threshold - COSINE_TOLERANCE)


def result_names(
    left: pd.Index[Any], right: pd.Index[Any], suffixes: tuple[str, str], into: Any
) -> tuple[list[Any], list[Any]]:
    """Return the names of both sides' columns in the result; raise InputError if two of them would be the same."""
    for side in (left, right):
        if side.nlevels > 1:
            raise InputError("Columns must have one level for join. Flatten the names first.")
    both = set(left) & set(right)
    names = [
        [f"{name}{suffix}" if name in both and suffix else name for name in side]
        for side, suffix in zip((left, right), suffixes, strict=True)
    ]
    every = [*names[0], *names[1], into]
    duplicate = next((name for name in every if every.count(name) > 1), None)
    if duplicate is not None:
        raise InputError(f"The result would have two columns {duplicate!r}. Choose other suffixes= or another into=.")
    return names[0], names[1]


def merged(
    frame: pd.DataFrame,
    other: pd.DataFrame,
    pairs: Pairs,
    how: How,
    names: tuple[list[Any], list[Any]],
    into: Any,
) -> pd.DataFrame:
    """Return the columns of both frames side by side, with the left index and the cosines in ``into``.

    ``how="left"`` keeps left rows without a pair, with missing values on the right.
    """
    right, score = pairs.right, pairs.score
    rows = pairs.left
    if how == "left":
        missing = np.setdiff1d(np.arange(len(frame)), rows)
        rows = np.concatenate([rows, missing])
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        right = np.concatenate([right, np.full(len(missing), -1)])[order]
        score = np.concatenate([score, np.full(len(missing), np.nan, dtype=np.float32)])[order]
    left_rows = frame.iloc[rows]
    right_rows = other.set_axis(pd.RangeIndex(len(other)), axis=0).reindex(right).set_axis(left_rows.index)
    # As columns and not as arrays, from which pandas would infer another dtype for an object column of texts.
    new: Mapping[Any, Any] = {
        **{name: left_rows.iloc[:, at] for at, name in enumerate(names[0])},
        **{name: right_rows.iloc[:, at] for at, name in enumerate(names[1])},
        into: score,
    }
    return pd.DataFrame(new, index=left_rows.index)


QUESTION = "Do both texts mean the same thing?"
SCHEMA: Mapping[str, Any] = {
    "title": "decision",
    "type": "object",
    "properties": {"match": {"type": "boolean"}},
    "required": ["match"],
    "additionalProperties": False,
}


class JoinMethod(SimilarityMethods):
    """The ``join`` method."""

    @expand_options(ModelOptions, defaults=DETERMINISTIC)
    def join(
        self,
        other: pd.DataFrame,
        on: Any,
        *,
        k: int = 1,
        threshold: float | None = None,
        recall: float | None = None,
        confirm: bool | str = False,
        agree: float | None = None,
        level: float = 0.9,
        text: Any = None,
        how: How = "inner",
        suffixes: Sequence[str] = ("_x", "_y"),
        into: Any = "score",
        model: str | None = None,
        dimensions: int | None = None,
        chat_model: str | None = None,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.DataFrame:
        """Join each row with the most similar rows of another frame, side by side.

        Parameters
        ----------
        other : pandas.DataFrame
            The right frame.
        on : hashable or pair of hashable
            Name of the column in both frames, or the names of the left and the right one; each holds texts, which are
            embedded first, or embeddings.
        k : int, default 1
            Number of rows of ``other`` for each row.
        threshold : float, optional
            Cosine similarity, above 0 and at most 1, below which pairs are left out.
        recall : float, optional
            Share of the most similar rows that are found, above 0 and at most 1. By default up to 20 billion pairs are
            all compared; above that an inverted file compares most of them, with a recall of 0.99, which is measured
            on a sample and stated in the report. 1 compares every pair however long it takes.
        confirm : bool or str, default False
            Whether a chat model is asked about each pair: with ``True`` whether both texts mean the same, or a question
            of your own, such as ``"Is it the same company?"``. Pairs without a yes are left out.
        agree : float, optional
            Makes the confirmation a cascade as in ``classify``: a softmax on the embeddings of both sides decides pairs
            on which it agrees with the model in at least this share. ``report.cascade`` counts pairs.
        level : float, default 0.9
            Confidence of that guarantee.
        text : hashable or pair of hashable, optional
            Like ``on``: names of the columns of texts to confirm, where ``on`` names embeddings; by default the only
            column of texts.
        how : {"inner", "left"}, default "inner"
            ``"left"`` keeps rows without a pair, with missing values on the right.
        suffixes : pair of str, default ("_x", "_y")
            Suffixes for columns that both frames have, as in pandas.
        into : hashable, default "score"
            Name of the column of cosine similarities.
        model : str, optional
            Name of the embedding model; by default that of the session.
        chat_model : str, optional
            Name of the chat model that confirms pairs; by default that of the session.
        rows_per_request : int, optional
            Pairs that share a request, 2 to 100; by default each pair has its own.

        Returns
        -------
        pandas.DataFrame
            The columns of both frames, with the left index and order, the best pair of a row first. Errors of the
            report are numbered by left rows, then right rows; a pair without a completion is an error of its left row.

        Raises
        ------
        InputError
            If an argument is wrong, or a column is missing or holds neither texts nor embeddings; nothing is sent.

        Examples
        --------
        >>> left = pd.DataFrame({"animal": ["a kitten", "a puppy"]})
        >>> right = pd.DataFrame({"pet": ["dog", "cat"], "food": ["bones", "fish"]})
        >>> left.skytells.join(right, on=("animal", "pet"), progress=False)["food"].tolist()
        ['fish', 'bones']
        """
        check_options(options, self.join)
        parameters = model_parameters(options, params, DETERMINISTIC)
        most = check_count("k", k)
        floor = None if threshold is None else check_threshold(threshold)
        check_recall(recall)
        question = _question(confirm)
        if agree is not None and question is None:
            raise InputError("agree is for a model that confirms pairs, and only confirm= asks one. Leave it out.")
        cascade = None if agree is None else CascadeOptions.without_column(agree, level)
        if rows_per_request is not None:
            from skytells_nb.engine.operations.row_packing import check_rows

            check_rows(rows_per_request)
        chat_only = given_parameters(options) + (["params"] if params is not None else [])
        if chat_only and question is None:
            raise InputError(f"{chat_only[0]} is for a chat model, and only confirm= asks one. Leave it out.")
        if not isinstance(other, pd.DataFrame):
            raise InputError(f"other must be a DataFrame, got {type(other).__name__}.")
        if how not in ("inner", "left"):
            raise InputError(f"how must be 'inner' or 'left', got {how!r}.")
        self._check_into(into)
        names = result_names(self._frame.columns, other.columns, _suffixes(suffixes), into)
        left_on, right_on = _pair("on", on)
        left_column = TextOrVectorColumn(self._frame, left_on, "join", progress)
        right_column = TextOrVectorColumn(other, right_on, "join", progress)
        comparable = left_column.present.any() and right_column.present.any()
        texts = None
        if question is not None and comparable:
            texts = self._texts_to_confirm(other, left_column, right_column, text)

        def both() -> pd.DataFrame:
            return pd.concat([self._frame, other])

        def unfinished(report: Report) -> pd.DataFrame:
            none = np.empty(0, dtype=np.int64)
            pairs = Pairs(none, none, np.empty(0, dtype=np.float32))
            return merged(self._frame, other, pairs, "left", names, into)

        with self._runs("join", on_error, progress, options, unfinished, both) as runs:
            if texts is not None and options.get("budget") is not None:
                runs.check_budget_for(chat_model)
            prompt = None
            if question is not None and texts is not None:
                prompt = _PairPrompt(question, texts[0], texts[1], chat_model, parameters, rows_per_request)
            embedding = EmbeddingOptions(model, dimensions)
            left, right = _sides(runs, left_column, right_column, embedding, last=prompt is None)
            dry_run = dry_run_of(options)
            if dry_run is not None and dry_run.has_placeholders and prompt is not None:
                _confirmed(runs, _expected_pairs(left_column, right_column, prompt.left, most), prompt)
                dry_run.notes += [] if floor is None else ["upper limit: pairs below threshold= are not sent"]
                dry_run.notes += [] if cascade is None else ["upper limit: pairs that the proxy decides are not sent"]
                raise DryRunComplete
            check_dimensions(left.matrix, f"Column {left_on!r}", right.matrix, f"column {right_on!r}")
            with runs.step("comparing", len(left), prepares=True) as on_progress:
                pairs = nearest_pairs(left, right, most, floor, recall, on_progress)
            runs.set_recall(pairs.recall)
            if prompt is not None and len(pairs.left):
                if cascade is None:
                    pairs = _confirmed(runs, pairs, prompt)
                else:
                    pairs = _confirmed_by_cascade(runs, pairs, prompt, cascade, left, right)
            result = merged(self._frame, other, pairs, how, names, into)
            attach_report(result, runs.report, rows=both)
        return result

    def _texts_to_confirm(
        self, other: pd.DataFrame, left: TextOrVectorColumn, right: TextOrVectorColumn, text: Any
    ) -> list[Texts]:
        named = (None, None) if text is None else _pair("text", text)
        return [
            side.texts
            if side.texts is not None and name is None
            else resolve_texts(frame, name, "The texts to confirm")
            for frame, side, name in zip((self._frame, other), (left, right), named, strict=True)
        ]


@dataclass(frozen=True)
class _PairPrompt:
    """The question about pairs of texts, the texts of both frames, and how it is asked."""

    question: str
    left: Texts
    right: Texts
    model: str | None
    parameters: Mapping[str, Any]
    rows_per_request: int | None

    def texts(self, pairs: Pairs) -> Texts:
        """Return what is asked about each pair, ``None`` where a text is missing."""
        inputs = [
            None if left is None or right is None else f"First: {left}\n\nSecond: {right}"
            for left, right in zip(self.left[pairs.left], self.right[pairs.right], strict=True)
        ]
        return np.array([*inputs, None], dtype=object)[:-1]

    def job(self, call: VectorizedCall) -> Job:
        """Return the job whose answer is ``{"match": True}`` if that to the question is yes."""
        system = (
            "The user shows two texts, the first and the second. Answer with true for yes or false for no: "
            f"{self.question}"
        )
        return build_job(call, self.model, system, SCHEMA, self.parameters, "confirm", self.rows_per_request)


def _sides(
    runs: MultiRun, left: TextOrVectorColumn, right: TextOrVectorColumn, embedding: EmbeddingOptions, *, last: bool
) -> tuple[UnitVectors, UnitVectors]:
    """Return the vectors of both sides; nothing is sent if either side has nothing to compare.

    ``last`` is whether nothing is sent after that.
    """
    if not left.present.any() or not right.present.any():
        return UnitVectors.none(), UnitVectors.none()
    if left.texts is None or right.texts is None:
        return left.vectors(runs, embedding, last=last), right.vectors(runs, embedding, last=last)
    # One run sends a text that is on both sides once.
    both = embed_column(runs, np.concatenate([left.texts, right.texts]), embedding, last=last)
    count = int(np.searchsorted(both.rows, len(left.texts)))
    return (
        UnitVectors(both.matrix[:count], both.rows[:count]),
        UnitVectors(both.matrix[count:], both.rows[count:] - len(left.texts)),
    )


def _expected_pairs(left: TextOrVectorColumn, right: TextOrVectorColumn, texts: Texts, k: int) -> Pairs:
    """Return as many pairs as there will be at most, for an estimate of what it costs to confirm them.

    Left rows with equal ``texts`` are paired with the same right rows.
    """
    rows, others = np.flatnonzero(left.present), np.flatnonzero(right.present)
    each = min(k, len(others))
    numbers = pd.factorize(texts[rows])[0]
    chosen = others[(numbers[:, None] * each + np.arange(each)).ravel() % len(others)]
    return Pairs(np.repeat(rows, each), chosen, np.ones(len(chosen), dtype=np.float32))


def _complete_pairs(call: VectorizedCall, texts: Texts, prompt: _PairPrompt) -> CompletionColumns:
    return complete_texts(call, prompt.job(call), texts, pd.RangeIndex(len(texts)), "match", SCHEMA)


def _silent(call: VectorizedCall) -> VectorizedCall:
    """Return the call without a warning of its own: one says how many pairs failed."""
    return replace(call, on_error="null") if call.on_error == "warn" else call


def _confirmed(runs: MultiRun, pairs: Pairs, prompt: _PairPrompt) -> Pairs:
    """Return the pairs that the model confirms."""
    call = runs.call()
    answers = _complete_pairs(_silent(call), prompt.texts(pairs), prompt)
    runs.add(answers.report)
    _note_failures(runs, pairs, answers.report, call.on_error)
    return pairs.where(_decisions(answers) == 1)


def _confirmed_by_cascade(
    runs: MultiRun, pairs: Pairs, prompt: _PairPrompt, cascade: CascadeOptions, left: UnitVectors, right: UnitVectors
) -> Pairs:
    """Return the pairs that the model confirms, or the proxy, which learns from the vectors of both texts."""

    def ask(call: VectorizedCall, part: Texts, before: CompletionColumns | None) -> CompletionColumns:
        return _complete_pairs(_silent(call), part, prompt)

    def vectors_of(first: Indices) -> UnitVectors:
        features = pair_features(
            left.matrix[np.searchsorted(left.rows, pairs.left[first])],
            right.matrix[np.searchsorted(right.rows, pairs.right[first])],
        )
        return UnitVectors(features, np.arange(len(first), dtype=np.int64))

    def estimate(call: VectorizedCall, part: Texts) -> Estimate:
        return call.estimate(prompt.job(call), part)

    texts = prompt.texts(pairs)
    result = run_cascade(runs, texts, 2, cascade, ask, _decisions, estimate, vectors_of, main_run=False)
    runs.set_cascade(result.outcome)
    _note_failures(runs, pairs, result.answers.report, runs.call().on_error)
    return pairs.where(np.where(result.by_proxy, result.labels, _decisions(result.answers)) == 1)


PROJECTED = 64
"""Numbers that the differences and the products of two vectors are projected to."""


def pair_features(left: Floats, right: Floats) -> Floats:
    """Return what tells whether two texts belong together (p, ...): cosine, absolute differences and products.

    Of vectors (p, d) with more than ``PROJECTED`` dimensions random projections of the latter two, which keep their
    distances (Johnson and Lindenstrauss 1984) in a fraction of the memory.
    """
    products = left * right
    cosines = products.sum(axis=1, keepdims=True)
    # So that both weigh about as much as the cosine does.
    parts = [np.abs(left - right), products * np.float32(left.shape[1] ** 0.5)]
    if left.shape[1] > PROJECTED:
        random = np.random.default_rng(0).standard_normal((left.shape[1], PROJECTED), dtype=np.float32)
        parts = [part @ (random / np.float32(PROJECTED**0.5)) for part in parts]
    features: Floats = np.hstack([cosines, *parts])
    return features


def _decisions(answers: CompletionColumns) -> Indices:
    """Return 1 for yes, 0 for no and -1 for no answer."""
    return np.array([-1 if fields is None else int(fields["match"]) for fields in answers.column], dtype=np.int64)


def _note_failures(runs: MultiRun, pairs: Pairs, report: Report, on_error: OnError) -> None:
    """Warn of the pairs that failed, and add their errors to their left rows."""
    if report.errors and on_error == "warn":
        reasons = "; ".join(report.reasons())
        warn(f"{len(report.errors):,} of {len(pairs.left):,} pairs failed and are left out. {reasons}.")
    runs.add_errors({int(pairs.left[pair]): problem for pair, problem in report.errors.items()})


def _pair(what: str, given: Any) -> tuple[Any, Any]:
    """Return the names for the left and the right frame."""
    if isinstance(given, (tuple, list)):
        if len(given) != 2:
            raise InputError(f"{what} must be one column, or the pair of a left and a right one, got {given!r}.")
        return given[0], given[1]
    return given, given


def _question(confirm: Any) -> str | None:
    if isinstance(confirm, bool):
        return QUESTION if confirm else None
    if not isinstance(confirm, str) or not confirm.strip():
        raise InputError(f"confirm must be True, False or a question about the two texts, got {confirm!r}.")
    return confirm.strip()


def _suffixes(given: Any) -> tuple[str, str]:
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not all(isinstance(part, str) for part in given):
        raise InputError(f"suffixes must be two strings, such as ('_x', '_y'), got {given!r}.")
    return given[0], given[1]

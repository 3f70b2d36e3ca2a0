"""``join``: rows of two frames that mean the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.base import SimilarityMethods, check_count, check_threshold
from skytells_nb.accessor.call import RunOptions, VectorizedCall, attach_report, check_options
from skytells_nb.accessor.embeddings import EmbeddingOptions, TextOrVectorColumn, UnitVectors, embed_column
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.results import CompletionColumns, build_job, complete_texts
from skytells_nb.accessor.text_columns import Texts, belonging_texts
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.row_packing import check_rows
from skytells_nb.engine.report import ProgressCallback
from skytells_nb.errors import InputError, warn
from skytells_nb.vectors.arrays import Floats, Indices, check_dimensions
from skytells_nb.vectors.neighbors import EXACTNESS, nearest_by_cosine

How = Literal["inner", "left"]


@dataclass(frozen=True)
class Pairs:
    """Positions of rows (p,) left and right, and their cosines; the rows of the left in order, the best pair first."""

    left: Indices
    right: Indices
    score: Floats

    def where(self, keep: NDArray[np.bool_]) -> Pairs:
        return Pairs(self.left[keep], self.right[keep], self.score[keep])


def nearest_pairs(left: UnitVectors, right: UnitVectors, k: int, threshold: float | None) -> Pairs:
    """Each left row with its ``k`` nearest right rows, those below the threshold left out."""
    places, scores = nearest_by_cosine(left.matrix, right.matrix, k)
    each = places.shape[1]
    pairs = Pairs(np.repeat(left.rows, each), right.rows[places.ravel()], scores.ravel())
    return pairs if threshold is None else pairs.where(pairs.score >= threshold - EXACTNESS)


def result_names(
    left: pd.Index[Any], right: pd.Index[Any], suffixes: tuple[str, str], into: Any
) -> tuple[list[Any], list[Any]]:
    """The names of both sides' columns in the result; raises InputError where two of them would be the same."""
    for side in (left, right):
        if side.nlevels > 1:
            raise InputError("join takes frames whose columns have one level; flatten the names first.")
    both = set(left) & set(right)
    names = [
        [f"{name}{suffix}" if name in both and suffix else name for name in side]
        for side, suffix in zip((left, right), suffixes, strict=True)
    ]
    every = [*names[0], *names[1], into]
    twice = next((name for name in every if every.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"The result would have two columns {twice!r}: choose other suffixes= or another into=.")
    return names[0], names[1]


def merged(
    frame: pd.DataFrame,
    other: pd.DataFrame,
    pairs: Pairs,
    how: How,
    names: tuple[list[Any], list[Any]],
    into: Any,
) -> pd.DataFrame:
    """The columns of both frames side by side, with the left one's index and the cosines in ``into``.

    ``how="left"`` keeps left rows without a pair, with nulls on the right.
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
    mine = frame.iloc[rows]
    theirs = other.set_axis(pd.RangeIndex(len(other)), axis=0).reindex(right).set_axis(mine.index)
    # As columns and not as arrays: pandas would make an object column of texts one of another dtype.
    made: Mapping[Any, Any] = {
        **{name: mine.iloc[:, at] for at, name in enumerate(names[0])},
        **{name: theirs.iloc[:, at] for at, name in enumerate(names[1])},
        into: score,
    }
    return pd.DataFrame(made, index=mine.index)


QUESTION = "Do both texts mean the same thing?"
SCHEMA: Mapping[str, Any] = {
    "title": "decision",
    "type": "object",
    "properties": {"match": {"type": "boolean"}},
    "required": ["match"],
    "additionalProperties": False,
}


def confirmations(
    call: VectorizedCall, question: str, left: Texts, right: Texts, model: str | None, rows_per_request: int | None
) -> CompletionColumns:
    """The model's answers on each pair of texts: ``{"match": True}`` where its answer to the question is yes."""
    system = f"The user shows two texts, the first and the second. Answer with true for yes or false for no: {question}"
    asked = [None if a is None or b is None else f"First: {a}\n\nSecond: {b}" for a, b in zip(left, right, strict=True)]
    job = build_job(call, model, system, SCHEMA, {"temperature": 0.0}, "confirm", rows_per_request)
    texts = np.array([*asked, None], dtype=object)[:-1]
    return complete_texts(call, job, texts, pd.RangeIndex(len(texts)), "match", SCHEMA)


class JoinMethod(SimilarityMethods):
    """Two frames side by side, by meaning."""

    def join(
        self,
        other: pd.DataFrame,
        on: Any,
        *,
        k: int = 1,
        threshold: float | None = None,
        confirm: bool | str = False,
        text: Any = None,
        how: How = "inner",
        suffixes: Sequence[str] = ("_x", "_y"),
        into: Any = "score",
        model: str | None = None,
        dimensions: int | None = None,
        chat_model: str | None = None,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """Each row with the ``k`` rows of ``other`` nearest in meaning, side by side, their cosine in ``into``.

        ``on`` is the column in both frames, or the pair of the left and the right one; each holds texts or embeddings.
        Pairs below ``threshold`` are left out. The result keeps the left index and order, the best pair of a row first;
        ``how="left"`` keeps rows without a pair, with nulls beside them. Columns that both frames have get
        ``suffixes``, as in pandas.

        ``confirm=True`` asks ``chat_model`` about each pair whether both texts mean the same, ``confirm="Is it the same
        company?"`` what you say, and pairs without a yes are left out; ``rows_per_request`` pairs share a request. The
        texts are those of ``on``, or where it names embeddings those of ``text``, given like ``on``; it may be left out
        where only one column has texts. Errors of the report are numbered by left rows, then right rows; a pair without
        an answer is an error of its left row.

        >>> left = pd.DataFrame({"animal": ["a kitten", "a puppy"]})
        >>> right = pd.DataFrame({"pet": ["dog", "cat"], "food": ["bones", "fish"]})
        >>> left.skytells.join(right, on=("animal", "pet"), progress=False)["food"].tolist()
        ['fish', 'bones']
        """
        check_options(options)
        most = check_count("k", k)
        floor = None if threshold is None else check_threshold(threshold)
        question = _question(confirm)
        check_rows(rows_per_request)
        if not isinstance(other, pd.DataFrame):
            raise InputError(f"join takes a DataFrame; found {type(other).__name__}.")
        if how not in ("inner", "left"):
            raise InputError(f"how is 'inner' or 'left'; found {how!r}.")
        self._check_into(into)
        names = result_names(self._frame.columns, other.columns, _suffixes(suffixes), into)
        mine, theirs = _both("on", on)
        here, there = TextOrVectorColumn(self._frame, mine), TextOrVectorColumn(other, theirs)
        comparable = here.present.any() and there.present.any()
        texts = self._texts_to_confirm(other, here, there, text) if question is not None and comparable else None
        with self._runs("join", on_error, progress, options) as runs:
            if texts is not None and options.get("budget") is not None:
                runs.check_budget_for(chat_model)
            left, right = _sides(runs, here, there, EmbeddingOptions(model, dimensions))
            check_dimensions(left.matrix, f"Column {mine!r}", right.matrix, f"column {theirs!r}")
            pairs = nearest_pairs(left, right, most, floor)
            if question is not None and texts is not None and len(pairs.left):
                asked = _Asked(question, texts[0][pairs.left], texts[1][pairs.right], chat_model, rows_per_request)
                pairs = _confirmed(runs, pairs, asked)
            result = merged(self._frame, other, pairs, how, names, into)
            attach_report(result, runs.report)
        return result

    def _texts_to_confirm(
        self, other: pd.DataFrame, left: TextOrVectorColumn, right: TextOrVectorColumn, text: Any
    ) -> list[Texts]:
        named = (None, None) if text is None else _both("text", text)
        return [
            side.texts
            if side.texts is not None and name is None
            else belonging_texts(frame, name, "The texts to confirm")
            for frame, side, name in zip((self._frame, other), (left, right), named, strict=True)
        ]


@dataclass(frozen=True)
class _Asked:
    """What is asked about pairs."""

    question: str
    left: Texts
    right: Texts
    model: str | None
    rows_per_request: int | None


def _sides(
    runs: MultiRun, left: TextOrVectorColumn, right: TextOrVectorColumn, embedding: EmbeddingOptions
) -> tuple[UnitVectors, UnitVectors]:
    """The vectors of both sides; neither is sent where the other has nothing to compare it with."""
    if not left.present.any() or not right.present.any():
        return UnitVectors.none(), UnitVectors.none()
    if left.texts is None or right.texts is None:
        return left.vectors(runs, embedding), right.vectors(runs, embedding)
    # One run sends a text that stands on both sides once.
    both = embed_column(runs, np.concatenate([left.texts, right.texts]), embedding)
    count = int(np.searchsorted(both.rows, len(left.texts)))
    return (
        UnitVectors(both.matrix[:count], both.rows[:count]),
        UnitVectors(both.matrix[count:], both.rows[count:] - len(left.texts)),
    )


def _confirmed(runs: MultiRun, pairs: Pairs, asked: _Asked) -> Pairs:
    """The pairs that the model confirms."""
    call = runs.call()
    silent = replace(call, on_error="null") if call.on_error == "warn" else call
    answers = confirmations(silent, asked.question, asked.left, asked.right, asked.model, asked.rows_per_request)
    runs.add(answers.report)
    problems = answers.report.errors
    if problems and call.on_error == "warn":
        reasons = "; ".join(answers.report.reasons())
        warn(f"{len(problems):,} of {len(pairs.left):,} pairs have no answer and are left out. {reasons}.")
    runs.add_errors({int(pairs.left[pair]): problem for pair, problem in problems.items()})
    yes = np.array([fields is not None and fields["match"] for fields in answers.column], dtype=bool)
    return pairs.where(yes)


def _both(what: str, given: Any) -> tuple[Any, Any]:
    """The names for the left and the right."""
    if isinstance(given, (tuple, list)):
        if len(given) != 2:
            raise InputError(f"{what} is one column, or the pair of a left and a right one; found {given!r}.")
        return given[0], given[1]
    return given, given


def _question(confirm: Any) -> str | None:
    if isinstance(confirm, bool):
        return QUESTION if confirm else None
    if not isinstance(confirm, str) or not confirm.strip():
        raise InputError(f"confirm is True, False or a question about the two texts; found {confirm!r}.")
    return confirm.strip()


def _suffixes(given: Any) -> tuple[str, str]:
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not all(isinstance(part, str) for part in given):
        raise InputError(f"suffixes are two texts, such as ('_x', '_y'); found {given!r}.")
    return given[0], given[1]

"""``classify``: the label, or the labels, that fit each text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb import columns
from skytells_nb.accessor.base import DETERMINISTIC, TextPrompt, non_empty_text
from skytells_nb.accessor.call import VectorizedCall, current_clock
from skytells_nb.accessor.methods.cascade import CascadeOptions, CascadeResult
from skytells_nb.accessor.methods.classify.confidence import (
    Confidence,
    ConfidenceMethods,
    ConfidenceOptions,
    check_vote_parameters,
    confidence_name,
)
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.options import (
    RowOptions,
    check_options,
    expand_options,
    given_parameters,
    model_parameters,
)
from skytells_nb.accessor.prompts.labels import (
    Examples,
    LabelChoice,
    Labels,
    choice_schema,
    flags_schema,
    read_examples,
)
from skytells_nb.accessor.results import CompletionColumns, embed_texts
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.accessor.text_columns import Texts
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError, RowError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.vectors.arrays import Indices, unit_vectors


def nearest_labels(
    call: VectorizedCall, texts: Texts, index: pd.Index[Any], labels: Labels, model: str | None
) -> tuple[pd.Series[Any], Report]:
    """Return the name of the label nearest to each text by cosine, missing where the text is missing or failed.

    The vector of a label is the mean of the unit vectors of its name, with its meaning where it has one, and of its
    examples. Raise RowError if one of those has no embedding.
    """
    assemble = call.assemble

    def unfinished(report: Report) -> Any:
        return assemble and assemble(pd.Series([None] * len(texts), index=index, dtype=object), report)

    with MultiRun("classify", len(texts), lambda: replace(call, assemble=None), unfinished) as runs:
        targets = _targets(runs, labels, model)

        def nearest(series: pd.Series[Any]) -> pd.Series[Any]:
            matrix, valid = columns.to_matrix(series)
            values = np.full(len(texts), None, dtype=object)
            if len(matrix):
                # Not divided by the length of the text's own vector, which does not change the order of the labels.
                values[valid] = np.array(labels.names, dtype=object)[np.argmax(matrix @ targets.T, axis=1)]
            return pd.Series(values, index=index, dtype=object)

        main = runs.call(main=True)
        if assemble is not None:
            main = replace(main, assemble=lambda series, report: assemble(nearest(series), report))
        series, report = embed_texts(main, texts, index, model, None)
        runs.add(report)
        return nearest(series), runs.report


def _targets(runs: MultiRun, labels: Labels, model: str | None) -> NDArray[np.float32]:
    """Return a unit vector for each label, float32 (labels, dimensions)."""
    names = [f"{name}: {labels.meanings[name]}" if name in labels.meanings else name for name in labels.names]
    texts = [*names, *(text for text, _ in labels.examples)]
    owners = [*range(len(names)), *(labels.names.index(example[0]) for _, example in labels.examples)]
    call = runs.call().without_progress()
    series, report = embed_texts(call, np.array(texts, dtype=object), pd.RangeIndex(len(texts)), model, None)
    runs.add(report)
    matrix, valid = columns.to_matrix(series)
    if not valid.all():
        first = int(np.argmin(valid))
        reason = report.errors.get(first) or next(iter(report.errors.values()))
        raise RowError(f"The label {labels.names[owners[first]]!r} could not be embedded: {reason}", report=report)
    sums = np.zeros((len(names), matrix.shape[1]), dtype=np.float32)
    np.add.at(sums, owners, unit_vectors(matrix))
    return unit_vectors(sums)


ONE = "Choose the label that fits the user's text best."
ON_LOCAL = (
    "The chat model of the local Skytells is small, and gives many texts another label than a person would: "
    "via='embedding' does better here, and compare() measures it."
)
DESCRIBED = "Describe the labels for it, as in labels={'late': 'the parcel has not come', ...}."
SEVERAL = "Decide for each label whether it fits the user's text. Several may fit, or none."


class Classify(ConfidenceMethods):
    """The ``classify`` method."""

    @expand_options(RowOptions, defaults=DETERMINISTIC)
    def classify(
        self,
        column: Any,
        labels: LabelChoice,
        *,
        into: Any = "label",
        multi: bool = False,
        other: str | None = None,
        examples: Examples | None = None,
        via: Literal["model", "embedding"] = "model",
        instructions: str | None = None,
        agree: float | None = None,
        level: float = 0.9,
        embedding: Any = None,
        confidence: Confidence | None = None,
        abstain: float | None = None,
        votes: int | None = None,
        gold: Any = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RowOptions],
    ) -> pd.DataFrame:
        """Add a categorical column with the label that fits each text best.

        Parameters
        ----------
        column : hashable
            Name of the column of texts.
        labels : sequence of str, mapping of str to str, enum.Enum class or Literal
            At least two labels in an order (a list, Series, Index, categories, ...), an enumeration, a ``Literal``, or
            a mapping of labels to what each means. An answer is one of them; where it differs only in case, space,
            quotes or a full stop, it is read as that label, and counted as ``normalized`` in the report.
        into : hashable, default "label"
            Name of the new column; with ``multi`` the prefix of the new columns.
        multi : bool, default False
            Whether several labels may fit: a boolean column ``<into>_<label>`` for each label, as
            ``pandas.get_dummies`` names them.
        other : str, optional
            Another label, for texts that none of ``labels`` fits; with ``multi`` it is true where all others are false.
        examples : sequence of (str, str) or pandas.DataFrame, optional
            Pairs of a text and its label (a list of labels with ``multi``), or a frame with both columns. They are sent
            with every row, so keep them few.
        via : {"model", "embedding"}, default "model"
            ``"embedding"`` takes the label whose embedding, with its meaning and examples, is nearest: one embedding
            per text and no completion.
        instructions : str, optional
            What to judge, in place of the default question.
        agree : float, optional
            Makes it a cascade: the model labels a random sample of the texts and those that are hard, a softmax on
            embeddings the others, on which it agrees with the model in at least this share, such as 0.95. Where that
            cannot be guaranteed, the model is asked about every text, and a warning says why. ``report.cascade`` has
            the rows of each, the bound and what was saved.
        level : float, default 0.9
            Confidence of that guarantee.
        embedding : hashable, optional
            Name of a column of embeddings for ``agree`` and ``confidence="proxy"``; by default ``"embedding"`` where
            there is one, else the texts are embedded.
        confidence : {"votes", "logprobs", "proxy"}, optional
            Adds ``<into>_confidence``, from 0 to 1. ``"votes"`` asks several times at a temperature of 1 with
            different seeds; the label is that of most votes, the confidence their share. ``"logprobs"`` asks once, and
            takes the probability of the label among all labels, by those of its tokens; a model that gives none is
            refused after one request. ``"proxy"`` asks once, and takes the probability of the label by a softmax on
            the embeddings of the other texts and their labels.
        abstain : float, optional
            The confidence from which on a label counts, such as 0.7. Rows below are missing, and an error of the
            report (``failed()`` lists them); they are not paid for again.
        votes : int, optional
            How often ``"votes"`` asks about each text, 5 by default.
        gold : pandas.Series or pandas.DataFrame, optional
            Judged labels by index, as for ``evaluate``, at least 20: the confidence is calibrated, so that of rows with
            0.8 about four in five are right (Platt's scaling).
        model : str, optional
            Name of the chat model, or with ``via="embedding"`` of the embedding model; by default that of the session.

        Returns
        -------
        pandas.DataFrame
            The frame with the new column or columns; missing where the text is missing or its row failed.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or not text; nothing is sent.
        RowError
            If a label cannot be embedded, or rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> df = pd.DataFrame({"review": ["I love it!", "It broke at once."]})
        >>> df.skytells.classify("review", ["positive", "negative"], progress=False)["label"].cat.categories.tolist()
        ['positive', 'negative']
        >>> about = df.skytells.classify("review", ["price", "quality"], multi=True, into="about", progress=False)
        >>> about.columns[1:].tolist()
        ['about_price', 'about_quality']
        """
        check_options(options, self.classify)
        parameters = model_parameters(options, params, DETERMINISTIC)
        chosen = Labels.of(labels, other)
        texts = self._texts(column)
        chosen = replace(chosen, examples=read_examples(examples, chosen, column, into, multi=bool(multi)))
        names = [f"{into}_{name}" for name in chosen.names] if multi else [into]
        sure = ConfidenceOptions.of(self._frame, confidence, abstain, votes, gold, column, chosen)
        names += [] if sure is None else [confidence_name(into)]
        for name in names:
            self._check_into(name, column)
        self._check_details(into, details, *names)
        is_proxy = sure is not None and sure.kind == "proxy"
        cascade = CascadeOptions.of(self._frame, agree, level, None if is_proxy else embedding)
        for option, given in (("agree", cascade), ("confidence", sure)):
            if given is not None and multi:
                raise InputError(f"{option} is for one label for each text; leave out multi=True.")
        if cascade is not None and sure is not None:
            raise InputError("agree and confidence must not be given together: a proxy is not asked how sure it is.")
        if via == "embedding":
            _refuse(
                agree=agree,
                confidence=confidence,
                multi=multi,
                other=other,
                instructions=instructions,
                params=params,
                safety=None if safety == "keep" else safety,
                details=details,
                rows_per_request=rows_per_request,
                **dict.fromkeys(given_parameters(options), True),
            )

            def assemble(nearest: pd.Series[Any], report: Report) -> pd.DataFrame:
                return self._with({into: nearest.astype(pd.CategoricalDtype(list(chosen.names)))}, report)

            call = VectorizedCall.open(on_error, progress, options, owner=self._frame)
            call = replace(call, assemble=assemble)
            return assemble(*nearest_labels(call, texts, self._frame.index, chosen, model))
        if via != "model":
            raise InputError(f"via must be 'model' or 'embedding', got {via!r}.")

        def open_call() -> VectorizedCall:
            call = VectorizedCall.open(on_error, progress, options, owner=self._frame)
            if call.session.is_local and not multi:
                _say(call, ON_LOCAL if chosen.meanings else f"{ON_LOCAL} {DESCRIBED}")
            return call

        prompt = TextPrompt(
            "classify",
            _system(chosen, instructions, multi=bool(multi)),
            flags_schema(chosen) if multi else choice_schema(chosen),
            parameters,
            model,
            rows_per_request,
        )

        def columns(answers: CompletionColumns) -> dict[Any, pd.Series[Any]]:
            return _flags(answers, chosen, into) if multi else {into: _choice(answers, chosen)}

        def decide(answers: CompletionColumns) -> Indices:
            return _choice(answers, chosen).cat.codes.to_numpy().astype(np.int64)

        if sure is not None:
            if sure.kind == "votes":
                check_vote_parameters(parameters)
            new, answers = self._sure_labels(
                prompt, texts, into, chosen, sure, embedding, open_call, safety, decide, details=details
            )
            return self._with(new, answers.report, {into: answers.rows})
        if cascade is not None:

            def fill(result: CascadeResult, new: dict[Any, pd.Series[Any]]) -> dict[Any, pd.Series[Any]]:
                codes = np.where(result.by_proxy, result.labels, new[into].cat.codes.to_numpy())
                categories = pd.Categorical.from_codes(codes.astype(np.int64), dtype=_dtype(chosen))
                return {**new, into: pd.Series(categories, index=new[into].index)}

            size = len(chosen.names)
            new, result = self._cascade(
                prompt, texts, into, size, cascade, open_call, safety, columns, decide, fill, details=details
            )
            return self._with(new, result.answers.report, {into: result.answers.rows})
        new, answers = self._ask(prompt, texts, into, open_call(), safety, columns, details=details)
        return self._finish(into, new, answers, details)


def _say(call: VectorizedCall, text: str) -> None:
    """Say in the report of the call and where its progress ends, or in its estimate, what is to be known about it."""
    if call.dry_run is not None:
        call.dry_run.notes.append(text)
    clock = current_clock()
    if clock is not None:
        clock.note(text)


def _system(labels: Labels, instructions: str | None, *, multi: bool) -> str:
    default = SEVERAL if multi else ONE
    ask = default if instructions is None else non_empty_text("instructions", instructions)
    asked = labels if not multi or labels.other is None else replace(labels, names=labels.names[:-1])
    fallback = f" Choose {labels.other!r} where none of the others fits." if labels.other and not multi else ""
    return f"{ask} {asked.described()}{fallback}{labels.shown(multi=multi)}"


def _choice(answers: CompletionColumns, labels: Labels) -> pd.Series[Any]:
    """Return one of the labels for each row, as a category."""
    values = [None if fields is None else fields["label"] for fields in answers.column]
    return pd.Series(pd.Categorical(values, dtype=_dtype(labels)), index=answers.column.index)


def _dtype(labels: Labels) -> pd.CategoricalDtype[Any]:
    return pd.CategoricalDtype(list(labels.names))


def _flags(answers: CompletionColumns, labels: Labels, into: Any) -> dict[Any, pd.Series[Any]]:
    """Return a boolean column for each label, missing where there is no completion."""
    asked = [name for name in labels.names if name != labels.other]
    records = list(answers.column)
    flags = {
        name: pd.Series([None if r is None else bool(r[name]) for r in records], answers.column.index, dtype="boolean")
        for name in asked
    }
    if labels.other is not None:
        fits = pd.DataFrame(flags)
        none = (~fits.any(axis=1)).astype("boolean").mask(fits.isna().any(axis=1))
        flags[labels.other] = none
    return {f"{into}_{name}": series for name, series in flags.items()}


def _refuse(**given: Any) -> None:
    """Raise InputError for the first of these that only a chat model takes."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise InputError(f"{name} is for a chat model, and via='embedding' asks none. Leave it out.")

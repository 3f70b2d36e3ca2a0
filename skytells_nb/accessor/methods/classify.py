"""``classify``: the label, or the labels, that fit each text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb import columns
from skytells_nb.accessor.base import PromptMethods, TextPrompt, non_empty_text
from skytells_nb.accessor.call import RunOptions, VectorizedCall, check_options
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.results import CompletionColumns, embed_texts
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.accessor.text_columns import Texts, column_of, texts_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import ProgressCallback, Report
from skytells_nb.errors import InputError, RowError
from skytells_nb.vectors.arrays import unit_vectors

MOST_FLAGS = 100
"""Labels that can be asked about at once where several may fit: properties of a strict schema where the limit is lowest
(Azure OpenAI, structured outputs)."""

Examples: TypeAlias = Sequence[tuple[str, str | Sequence[str]]] | pd.DataFrame
"""Few-shot examples: pairs of a text and its label (or labels), or a frame that has both columns."""


@dataclass(frozen=True)
class Labels:
    """The labels in order, what each means where that was said, and examples as texts with their labels."""

    names: tuple[str, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)
    other: str | None = None
    """The one for texts that none of the others fits; it is the last of ``names``."""
    examples: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, given: Any, other: str | None = None) -> Labels:
        """From a list of names, or a dict of names and what they mean; raises InputError for what is neither."""
        meanings = _meanings(given) if isinstance(given, Mapping) else {}
        names = list(meanings) if meanings else given
        if isinstance(names, (str, Mapping)) or not isinstance(names, (Sequence, pd.Index, pd.Series, pd.Categorical)):
            raise InputError(f"labels is a list of strings, or a dict of labels and what they mean; found {given!r}.")
        found = [*names, *([other] if other is not None else [])]
        wrong = [label for label in found if not isinstance(label, str) or not label.strip()]
        if wrong:
            raise InputError(f"Every label is a non-empty string; found {wrong[0]!r}.")
        if len(set(found)) != len(found):
            twice = next(label for label in found if found.count(label) > 1)
            raise InputError(f"The label {twice!r} stands twice.")
        if len(found) < 2:
            raise InputError(f"At least two labels are needed; found {found!r}.")
        return cls(tuple(found), meanings, other)

    def described(self) -> str:
        """The labels and their meanings, as the model is told them."""
        if not self.meanings:
            return f"The labels are: {', '.join(self.names)}."
        lines = [f"- {name}: {self.meanings[name]}" if name in self.meanings else f"- {name}" for name in self.names]
        return "\n".join(["The labels are:", *lines])

    def shown(self, *, multi: bool) -> str:
        """The examples, as the model is told them; empty where there are none."""
        if not self.examples:
            return ""
        lines = [
            json.dumps(
                {"text": text, **({"labels": list(found)} if multi else {"label": found[0]})}, ensure_ascii=False
            )
            for text, found in self.examples
        ]
        return "\n".join(["\nExamples:", *lines])


def choice_schema(labels: Labels) -> dict[str, Any]:
    """A schema with one field ``label`` that is one of these."""
    return {
        "title": "classification",
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(labels.names)}},
        "required": ["label"],
        "additionalProperties": False,
    }


def flags_schema(labels: Labels) -> dict[str, Any]:
    """A schema with a field for each label that says whether it fits; ``other`` follows from the rest.

    A model that has to decide on each label leaves out fewer than one that writes a list.
    """
    asked = [name for name in labels.names if name != labels.other]
    if len(asked) > MOST_FLAGS:
        raise InputError(f"multi=True takes at most {MOST_FLAGS} labels; found {len(asked)}.")
    return {
        "title": "classification",
        "type": "object",
        "properties": {name: {"type": "boolean", "enum": [True, False]} for name in asked},
        "required": asked,
        "additionalProperties": False,
    }


def read_examples(
    given: Any, labels: Labels, column: Any, into: Any, *, multi: bool
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Examples as texts with their labels, from what was passed as ``examples``.

    Raises InputError for a text that is empty, and for a label that is none of ``labels``.
    """
    if given is None:
        return ()
    if isinstance(given, pd.DataFrame):
        pairs = _flagged_pairs(given, labels, column, into) if multi else _labelled_pairs(given, column, into)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        pairs = [_pair(each, multi=multi) for each in given]
    else:
        raise InputError(
            f"examples is a list of pairs (text, label), or a frame with the columns {column!r} and {into!r}; "
            f"found {type(given).__name__}."
        )
    for text, found in pairs:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"The text of an example is not empty; found {text!r}. Drop such rows first.")
        for label in found:
            if label not in labels.names:
                raise InputError(f"An example has the label {label!r}, which is none of {', '.join(labels.names)}.")
    return tuple(pairs)


def _meanings(given: Mapping[Any, Any]) -> dict[str, str]:
    for name, meaning in given.items():
        if not isinstance(meaning, str) or not meaning.strip():
            raise InputError(f"What a label means is a text that is not empty; found {meaning!r} for {name!r}.")
    return dict(given)


def _pair(given: Any, *, multi: bool) -> tuple[str, tuple[str, ...]]:
    kind = "(text, [labels])" if multi else "(text, label)"
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        raise InputError(f"An example is a pair {kind}; found {given!r}.")
    text, label = given
    several = isinstance(label, Sequence) and not isinstance(label, str)
    if several and not multi:
        raise InputError(f"An example is a pair {kind}; found {given!r}. multi=True takes several labels.")
    return text, tuple(label) if several else (label,)


def _labelled_pairs(frame: pd.DataFrame, column: Any, into: Any) -> list[tuple[str, tuple[str, ...]]]:
    texts, found = column_of(frame, column), column_of(frame, into)
    return [(text, (label,)) for text, label in zip(texts_of(texts, name=column), texts_of(found), strict=True)]


def _flagged_pairs(frame: pd.DataFrame, labels: Labels, column: Any, into: Any) -> list[tuple[str, tuple[str, ...]]]:
    texts = texts_of(column_of(frame, column), name=column)
    flags = {name: column_of(frame, f"{into}_{name}") for name in labels.names}
    for name, flag in flags.items():
        if not pd.api.types.is_bool_dtype(flag) or flag.isna().any():
            raise InputError(f"The column {f'{into}_{name}'!r} of examples is true or false in every row.")
    rows = [
        tuple(name for name, fits in zip(flags, row, strict=True) if fits) for row in zip(*flags.values(), strict=True)
    ]
    return list(zip(texts, rows, strict=True))


def nearest_labels(
    call: VectorizedCall, texts: Texts, index: pd.Index[Any], labels: Labels, model: str | None
) -> tuple[pd.Series[Any], Report]:
    """The name of the label nearest to each text by cosine, null where the text is null or failed.

    A label stands where its name does, with its meaning and its examples where there are any: at the mean of their unit
    vectors. Raises RowError where one of those has no embedding.
    """
    with MultiRun("classify", len(texts), lambda: call) as runs:
        targets = _targets(runs, labels, model)
        series, report = embed_texts(runs.call(of_rows=True), texts, index, model, None)
        runs.add(report)
        matrix, valid = columns.to_matrix(series)
        values = np.full(len(texts), None, dtype=object)
        if len(matrix):
            # Not divided by the length of a text's own vector: that moves no label before another.
            values[valid] = np.array(labels.names, dtype=object)[np.argmax(matrix @ targets.T, axis=1)]
        return pd.Series(values, index=index, dtype=object), runs.report


def _targets(runs: MultiRun, labels: Labels, model: str | None) -> NDArray[np.float32]:
    """A unit vector for each label, float32 (labels, dimensions)."""
    said = [f"{name}: {labels.meanings[name]}" if name in labels.meanings else name for name in labels.names]
    texts = [*said, *(text for text, _ in labels.examples)]
    owners = [*range(len(said)), *(labels.names.index(found[0]) for _, found in labels.examples)]
    call, shown = runs.call().without_progress(), np.array(texts, dtype=object)
    series, report = embed_texts(call, shown, pd.RangeIndex(len(texts)), model, None)
    runs.add(report)
    matrix, known = columns.to_matrix(series)
    if not known.all():
        first = int(np.argmin(known))
        reason = report.errors.get(first) or next(iter(report.errors.values()))
        raise RowError(f"The label {labels.names[owners[first]]!r} could not be embedded: {reason}", report=report)
    sums = np.zeros((len(said), matrix.shape[1]), dtype=np.float32)
    np.add.at(sums, owners, unit_vectors(matrix))
    return unit_vectors(sums)


ONE = "Choose the label that fits the user's text best."
SEVERAL = "Decide for each label whether it fits the user's text. Several may fit, or none."


class Classify(PromptMethods):
    """Labels for texts."""

    def classify(
        self,
        column: Any,
        labels: Sequence[str] | Mapping[str, str],
        *,
        into: Any = "label",
        multi: bool = False,
        other: str | None = None,
        examples: Examples | None = None,
        via: Literal["model", "embedding"] = "model",
        instructions: str | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The frame with a categorical column: the one of ``labels`` that fits each text best.

        ``labels`` are at least two strings, or a dict of labels and what each means. The model answers with one of them
        and nothing else. ``other`` adds a label for texts that none fits. ``multi=True`` gives a boolean column
        ``<into>_<label>`` for each label instead, as ``pandas.get_dummies`` names them (``other`` is true where all are
        false). ``examples`` are pairs of a text and its label (a list of labels with ``multi``), or a frame with both
        columns; they go with every row, so keep them few. ``instructions`` say in your words what to judge.

        ``via="embedding"`` takes the label whose embedding is nearest (with its meaning, and its examples): that costs
        one embedding a text and no completion. ``rows_per_request`` has several texts judged in one request, as
        ``complete`` describes; ``safety`` and ``details`` are those of ``complete`` too.

        >>> df = pd.DataFrame({"review": ["I love it!", "It broke at once."]})
        >>> df.skytells.classify("review", ["positive", "negative"], progress=False)["label"].cat.categories.tolist()
        ['positive', 'negative']
        >>> about = df.skytells.classify("review", ["price", "quality"], multi=True, into="about", progress=False)
        >>> about.columns[1:].tolist()
        ['about_price', 'about_quality']
        """
        check_options(options)
        chosen = Labels.of(labels, other)
        texts = self._texts(column)
        chosen = replace(chosen, examples=read_examples(examples, chosen, column, into, multi=bool(multi)))
        names = [f"{into}_{name}" for name in chosen.names] if multi else [into]
        for name in names:
            self._check_into(name, column)
        if via == "embedding":
            _refuse(
                multi=multi,
                other=other,
                instructions=instructions,
                params=params,
                safety=None if safety == "keep" else safety,
                details=details,
                rows_per_request=rows_per_request,
            )
            call = VectorizedCall.open(on_error, progress, options, asker=self._frame)
            nearest, report = nearest_labels(call, texts, self._frame.index, chosen, model)
            return self._with({into: nearest.astype(pd.CategoricalDtype(list(chosen.names)))}, report)
        if via != "model":
            raise InputError(f"via is 'model' or 'embedding'; found {via!r}.")
        call = VectorizedCall.open(on_error, progress, options, asker=self._frame)
        question = TextPrompt(
            "classify",
            _system(chosen, instructions, multi=bool(multi)),
            flags_schema(chosen) if multi else choice_schema(chosen),
            params,
            model,
            rows_per_request,
        )

        def columns(answers: CompletionColumns) -> dict[Any, pd.Series[Any]]:
            return _flags(answers, chosen, into) if multi else {into: _choice(answers, chosen)}

        made, answers = self._ask(question, texts, into, call, safety, columns)
        return self._finish(into, made, answers, details)


def _system(labels: Labels, instructions: str | None, *, multi: bool) -> str:
    default = SEVERAL if multi else ONE
    ask = default if instructions is None else non_empty_text("instructions", instructions)
    asked = labels if not multi or labels.other is None else replace(labels, names=labels.names[:-1])
    fallback = f" Choose {labels.other!r} where none of the others fits." if labels.other and not multi else ""
    return f"{ask} {asked.described()}{fallback}{labels.shown(multi=multi)}"


def _choice(answers: CompletionColumns, labels: Labels) -> pd.Series[Any]:
    """One of the labels for each row, as a category."""
    found = [None if fields is None else fields["label"] for fields in answers.column]
    kind = pd.CategoricalDtype(list(labels.names))
    return pd.Series(pd.Categorical(found, dtype=kind), index=answers.column.index)


def _flags(answers: CompletionColumns, labels: Labels, into: Any) -> dict[Any, pd.Series[Any]]:
    """A boolean column for each label, null where there is no answer."""
    asked = [name for name in labels.names if name != labels.other]
    records = list(answers.column)
    made = {
        name: pd.Series([None if r is None else bool(r[name]) for r in records], answers.column.index, dtype="boolean")
        for name in asked
    }
    if labels.other is not None:
        fits = pd.DataFrame(made)
        none = (~fits.any(axis=1)).astype("boolean").mask(fits.isna().any(axis=1))
        made[labels.other] = none
    return {f"{into}_{name}": series for name, series in made.items()}


def _refuse(**given: Any) -> None:
    """Raises InputError for the first of these that says something to a model."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise InputError(f"via='embedding' asks no model: {name} does not go with it.")

"""``classify``: the label, or the labels, that fit each text."""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb import columns
from skytells_nb.accessor.base import DETERMINISTIC, TextPrompt, non_empty_text
from skytells_nb.accessor.call import VectorizedCall
from skytells_nb.accessor.methods.cascade import CascadeMethods, CascadeOptions, CascadeResult
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.options import (
    ModelOptions,
    check_options,
    expand_options,
    given_parameters,
    model_parameters,
)
from skytells_nb.accessor.results import CompletionColumns, embed_texts
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.accessor.text_columns import Texts, texts_of
from skytells_nb.columns import column_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError, RowError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.vectors.arrays import Indices, unit_vectors

MAX_FLAGS = 100
"""Limit of labels with ``multi=True``: properties of a strict schema where the limit is lowest (Azure OpenAI,
structured outputs)."""

Examples: TypeAlias = Sequence[tuple[str, str | Sequence[str]]] | pd.DataFrame
"""Few-shot examples: pairs of a text and its label (or labels), or a frame that has both columns."""


LabelChoice: TypeAlias = Iterable[str] | Mapping[str, str] | type[enum.Enum] | Any
"""What ``labels`` takes: names in an order, a dict of names and meanings, an enumeration or a ``Literal``."""


@dataclass(frozen=True)
class Labels:
    """The labels in order, their meanings where these are given, and examples as texts with their labels."""

    names: tuple[str, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)
    other: str | None = None
    """The label for texts that none of the others fits; it is the last of ``names``."""
    examples: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, given: Any, other: str | None = None) -> Labels:
        """Read names in an order, or a dict of names and their meanings; raise InputError for anything else."""
        meanings = _meanings(given) if isinstance(given, Mapping) else {}
        names = list(meanings) if meanings else _label_names(given)
        labels = [*names, *([other] if other is not None else [])]
        invalid = [label for label in labels if not isinstance(label, str) or not label.strip()]
        if invalid:
            raise InputError(f"Every label must be a non-empty string, got {invalid[0]!r}.")
        if len(set(labels)) != len(labels):
            duplicate = next(label for label in labels if labels.count(label) > 1)
            raise InputError(f"labels must differ, got {duplicate!r} twice.")
        if len(labels) < 2:
            raise InputError(f"labels must have at least two labels, got {labels!r}.")
        return cls(tuple(labels), meanings, other)

    def described(self) -> str:
        """Return the labels and their meanings, as the prompt states them."""
        if not self.meanings:
            return f"The labels are: {', '.join(self.names)}."
        lines = [f"- {name}: {self.meanings[name]}" if name in self.meanings else f"- {name}" for name in self.names]
        return "\n".join(["The labels are:", *lines])

    def shown(self, *, multi: bool) -> str:
        """Return the examples, as the prompt states them; empty if there are none."""
        if not self.examples:
            return ""
        lines = [
            json.dumps(
                {"text": text, **({"labels": list(names)} if multi else {"label": names[0]})}, ensure_ascii=False
            )
            for text, names in self.examples
        ]
        return "\n".join(["\nExamples:", *lines])


def choice_schema(labels: Labels) -> dict[str, Any]:
    """Return a schema with one field ``label`` that is one of these."""
    return {
        "title": "classification",
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(labels.names)}},
        "required": ["label"],
        "additionalProperties": False,
    }


def flags_schema(labels: Labels) -> dict[str, Any]:
    """Return a schema with a boolean field for each label; ``other`` follows from the rest.

    A model that has to decide on each label omits fewer than one that writes a list.
    """
    asked = [name for name in labels.names if name != labels.other]
    if len(asked) > MAX_FLAGS:
        raise InputError(f"labels must be at most {MAX_FLAGS} with multi=True, got {len(asked)}.")
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
    """Read the ``examples`` of a call as texts with their labels.

    Raise InputError for an empty text, and for a label that is not among ``labels``.
    """
    if given is None:
        return ()
    if isinstance(given, pd.DataFrame):
        pairs = _flagged_pairs(given, labels, column, into) if multi else _labeled_pairs(given, column, into)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        pairs = [_pair(each, multi=multi) for each in given]
    else:
        raise InputError(
            f"examples must be a list of pairs (text, label), or a frame with the columns {column!r} and {into!r}, "
            f"got {type(given).__name__}."
        )
    for text, names in pairs:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"The text of an example must be a non-empty string, got {text!r}. Drop such rows first.")
        for label in names:
            if label not in labels.names:
                raise InputError(f"The label of an example must be one of {', '.join(labels.names)}, got {label!r}.")
    return tuple(pairs)


def _meanings(given: Mapping[Any, Any]) -> dict[str, str]:
    for name, meaning in given.items():
        if not isinstance(meaning, str) or not meaning.strip():
            raise InputError(f"The meaning of {name!r} must be a non-empty string, got {meaning!r}.")
    return {_label(name): meaning for name, meaning in given.items()}


def _label_names(given: Any) -> list[Any]:
    """Return the labels of any collection in an order, of an enumeration, or of a ``Literal``."""
    if isinstance(given, (set, frozenset)):
        raise InputError(
            f"labels must be in an order, got a {type(given).__name__}: its order changes from run to run, and with it "
            "the prompt and its cached answers. Pass a list, such as sorted(labels)."
        )
    if isinstance(given, enum.EnumMeta):
        # Without aliases, which are other names of the same member.
        return list(dict.fromkeys(map(_label, given.__members__.values())))
    literals = _literals(given)
    if literals:
        return [_label(name) for name in literals]
    if isinstance(given, pd.CategoricalDtype):
        return [_label(name) for name in given.categories]
    if isinstance(given, (str, bytes, Mapping, pd.DataFrame)) or not isinstance(given, Iterable):
        raise InputError(f"labels must be a list of strings, or a dict of labels and what they mean, got {given!r}.")
    names = list(given)
    categories = getattr(given, "categories", getattr(getattr(given, "dtype", None), "categories", None))
    if isinstance(categories, pd.Index) and (len(set(names)) < len(names) or pd.isna(pd.Series(names)).any()):
        # A column of labels, and not the labels of a column.
        names = list(categories)
    return [_label(name) for name in names]


def _literals(value: Any) -> tuple[Any, ...]:
    """Return the values of a ``Literal``, of a union of them, or of a name for one."""
    value = getattr(value, "__value__", value)
    origin, parts = typing.get_origin(value), typing.get_args(value)
    if origin is Literal:
        return parts
    if origin in (typing.Union, types.UnionType) and parts:
        values = [_literals(part) for part in parts]
        return tuple(dict.fromkeys(literal for each in values for literal in each)) if all(values) else ()
    return ()


def _label(value: Any) -> Any:
    """Return a label as a plain string: the value of a member of an enumeration, or its name if that is no string."""
    if isinstance(value, enum.Enum):
        value = value.value if isinstance(value.value, str) else value.name
    return str(value) if isinstance(value, str) else value


def _pair(value: Any, *, multi: bool) -> tuple[str, tuple[str, ...]]:
    kind = "(text, [labels])" if multi else "(text, label)"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"An example must be a pair {kind}, got {value!r}.")
    text, label = value
    several = isinstance(label, Sequence) and not isinstance(label, str)
    if several and not multi:
        raise InputError(f"An example must be a pair {kind}, got {value!r}. multi=True takes several labels.")
    return text, tuple(label) if several else (label,)


def _labeled_pairs(frame: pd.DataFrame, column: Any, into: Any) -> list[tuple[str, tuple[str, ...]]]:
    texts, labels = column_of(frame, column), column_of(frame, into)
    return [(text, (label,)) for text, label in zip(texts_of(texts, name=column), texts_of(labels), strict=True)]


def _flagged_pairs(frame: pd.DataFrame, labels: Labels, column: Any, into: Any) -> list[tuple[str, tuple[str, ...]]]:
    texts = texts_of(column_of(frame, column), name=column)
    flags = {name: column_of(frame, f"{into}_{name}") for name in labels.names}
    for name, flag in flags.items():
        if not pd.api.types.is_bool_dtype(flag) or flag.isna().any():
            raise InputError(f"The column {f'{into}_{name}'!r} of examples must be true or false in every row.")
    rows = [
        tuple(name for name, fits in zip(flags, row, strict=True) if fits) for row in zip(*flags.values(), strict=True)
    ]
    return list(zip(texts, rows, strict=True))


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
SEVERAL = "Decide for each label whether it fits the user's text. Several may fit, or none."


class Classify(CascadeMethods):
    """The ``classify`` method."""

    @expand_options(ModelOptions, defaults=DETERMINISTIC)
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
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
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
            Name of a column of embeddings for ``agree``; by default ``"embedding"`` where there is one, else the texts
            are embedded.
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
        for name in names:
            self._check_into(name, column)
        self._check_details(into, details, *names)
        cascade = CascadeOptions.of(self._frame, agree, level, embedding)
        if cascade is not None and multi:
            raise InputError("agree is for one label for each text; leave out multi=True.")
        if via == "embedding":
            _refuse(
                agree=agree,
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
            return VectorizedCall.open(on_error, progress, options, owner=self._frame)

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

        if cascade is not None:

            def decide(answers: CompletionColumns) -> Indices:
                return _choice(answers, chosen).cat.codes.to_numpy().astype(np.int64)

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

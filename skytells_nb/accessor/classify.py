"""``classify``: the label, or the labels, that fit each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack

import pandas as pd

from skytells_nb.accessor.asking import AskDoor, Question, words
from skytells_nb.accessor.labels import Examples, Labels, choice_schema, flags_schema, read_examples
from skytells_nb.accessor.nearest_label import nearest_labels
from skytells_nb.accessor.policies import SafetyChoice
from skytells_nb.accessor.runs import Call, RunOptions, check_options
from skytells_nb.accessor.values import Answers
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.events import Listener
from skytells_nb.errors import InputError

ONE = "Choose the label that fits the user's text best."
SEVERAL = "Decide for each label whether it fits the user's text. Several may fit, or none."


class Classify(AskDoor):
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
        progress: bool | Listener = True,
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
            call = Call.open(on_error, progress, options, asker=self._frame)
            nearest, report = nearest_labels(call, texts, self._frame.index, chosen, model)
            return self._with({into: nearest.astype(pd.CategoricalDtype(list(chosen.names)))}, report)
        if via != "model":
            raise InputError(f"via is 'model' or 'embedding'; found {via!r}.")
        call = Call.open(on_error, progress, options, asker=self._frame)
        question = Question(
            "classify",
            _system(chosen, instructions, multi=bool(multi)),
            flags_schema(chosen) if multi else choice_schema(chosen),
            params,
            model,
            rows_per_request,
        )

        def columns(answers: Answers) -> dict[Any, pd.Series[Any]]:
            return _flags(answers, chosen, into) if multi else {into: _choice(answers, chosen)}

        made, answers = self._ask(question, texts, into, call, safety, columns)
        return self._finish(into, made, answers, details)


def _system(labels: Labels, instructions: str | None, *, multi: bool) -> str:
    default = SEVERAL if multi else ONE
    ask = default if instructions is None else words("instructions", instructions)
    asked = labels if not multi or labels.other is None else replace(labels, names=labels.names[:-1])
    fallback = f" Choose {labels.other!r} where none of the others fits." if labels.other and not multi else ""
    return f"{ask} {asked.described()}{fallback}{labels.shown(multi=multi)}"


def _choice(answers: Answers, labels: Labels) -> pd.Series[Any]:
    """One of the labels for each row, as a category."""
    found = [None if fields is None else fields["label"] for fields in answers.column]
    kind = pd.CategoricalDtype(list(labels.names))
    return pd.Series(pd.Categorical(found, dtype=kind), index=answers.column.index)


def _flags(answers: Answers, labels: Labels, into: Any) -> dict[Any, pd.Series[Any]]:
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

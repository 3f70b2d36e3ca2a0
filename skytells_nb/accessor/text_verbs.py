"""What language models do with a column of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import pandas as pd

from skytells_nb.accessor.base import FrameDoor
from skytells_nb.accessor.runs import Call, RunOptions, check_options
from skytells_nb.accessor.texts import column_of, texts_of
from skytells_nb.accessor.typed import check_labels, label_schema
from skytells_nb.accessor.values import classify_texts, complete_texts, prompt_job
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.events import Listener
from skytells_nb.errors import InputError


class TextVerbs(FrameDoor):
    """Verbs that ask a language model about each text."""

    def classify(
        self,
        column: Any,
        labels: Sequence[str],
        *,
        into: Any = "label",
        model: str | None = None,
        via: Literal["model", "embedding"] = "model",
        instructions: str | None = None,
        details: bool = False,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | Listener = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The frame with a categorical column: the one of ``labels`` that fits each text best.

        The model answers with one of the labels and nothing else; ``via="embedding"`` instead takes the label whose
        embedding is nearest, which costs one embedding a text and no completion. ``instructions`` say in your words
        what to judge. ``rows_per_request`` has several texts judged in one request, as ``complete`` describes.

        >>> df = pd.DataFrame({"review": ["I love it!", "It broke at once."]})
        >>> df.skytells.classify("review", ["positive", "negative"], progress=False)["label"].cat.categories.tolist()
        ['positive', 'negative']
        """
        check_options(options)
        found = check_labels(labels)
        texts = texts_of(column_of(self._frame, column), name=column)
        self._check_into(into, column)
        call = Call.open(on_error, progress, options, asker=self._frame)
        kind = pd.CategoricalDtype(found)
        if via == "embedding":
            if details or instructions or rows_per_request is not None:
                raise InputError(
                    "via='embedding' asks no model: details, instructions and rows_per_request do not go with it."
                )
            series, report = classify_texts(call, texts, self._frame.index, found, model)
            return self._with({into: series.astype(kind)}, report)
        if via != "model":
            raise InputError(f"via is 'model' or 'embedding'; found {via!r}.")
        schema = label_schema(found)
        ask = instructions or "Choose the label that fits the user's text best."
        system = f"{ask} The labels are: {', '.join(found)}."
        job = prompt_job(call, model, system, schema, {"temperature": 0.0}, "classify", rows_per_request)
        answers = complete_texts(call, job, texts, self._frame.index, into, schema)
        made = {into: answers.fields()["label"].astype(object).astype(kind)}
        return self._finish(into, made, answers, details)

"""Pairs of texts that a model confirms, or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.runs import Call
from skytells_nb.accessor.texts import Texts
from skytells_nb.accessor.values import Answers, complete_texts, prompt_job

QUESTION = "Do both texts mean the same thing?"
SCHEMA: Mapping[str, Any] = {
    "title": "decision",
    "type": "object",
    "properties": {"match": {"type": "boolean"}},
    "required": ["match"],
    "additionalProperties": False,
}


def confirmations(
    call: Call, question: str, left: Texts, right: Texts, model: str | None, rows_per_request: int | None
) -> Answers:
    """The model's answers on each pair of texts: ``{"match": True}`` where its answer to the question is yes."""
    system = f"The user shows two texts, the first and the second. Answer with true for yes or false for no: {question}"
    asked = [None if a is None or b is None else f"First: {a}\n\nSecond: {b}" for a, b in zip(left, right, strict=True)]
    job = prompt_job(call, model, system, SCHEMA, {"temperature": 0.0}, "confirm", rows_per_request)
    texts = np.array([*asked, None], dtype=object)[:-1]
    return complete_texts(call, job, texts, pd.RangeIndex(len(texts)), "match", SCHEMA)

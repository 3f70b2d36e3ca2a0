"""Few-shot examples before every prompt: pairs, or the rows of a frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd
import pydantic

from skytells_nb.accessor.prompts.rows import RowFunction, render_rows
from skytells_nb.accessor.prompts.template import Template
from skytells_nb.columns import column_of
from skytells_nb.errors import InputError

Examples: TypeAlias = pd.DataFrame | Sequence[tuple[str, Any]]
"""A frame with the template's columns and a column of answers, or pairs of a prompt and its answer."""


def few_shot(template: str | RowFunction, examples: Examples | None, answer: Any = None) -> tuple[tuple[str, str], ...]:
    """Return pairs of a prompt and its answer.

    A frame's prompts are ``template`` filled with its rows; ``answer`` names its column of answers, by default the one
    that the template does not name. Answers other than strings are serialized to JSON. Raises InputError for anything
    else.
    """
    if examples is None:
        if answer is not None:
            raise InputError(f"answer={answer!r} names a column of examples=, which is missing.")
        return ()
    if isinstance(examples, pd.DataFrame):
        return _of_frame(template, examples, answer)
    if answer is not None:
        raise InputError("answer must be None unless examples is a DataFrame: it names the column of answers.")
    if isinstance(examples, (str, bytes, Mapping)) or not isinstance(examples, Sequence):
        raise InputError(
            f"examples must be a DataFrame or a list of (prompt, answer) pairs, got {type(examples).__name__}."
        )
    return tuple(_pair(pair, position) for position, pair in enumerate(examples))


def _of_frame(template: str | RowFunction, examples: pd.DataFrame, answer: Any) -> tuple[tuple[str, str], ...]:
    try:
        fields = Template(template).columns(examples) if isinstance(template, str) else []
        name = _answer_column(examples, fields) if answer is None else answer
        answers = list(column_of(examples, name))
        prompts = _fill(template, examples)
    except InputError as problem:
        raise InputError(f"examples: {problem}") from None
    for label, prompt in zip(examples.index, prompts, strict=True):
        if not isinstance(prompt, str):
            reason = "a value is missing" if prompt is None else "the function returned messages"
            raise InputError(f"examples: the prompt of row {label!r} must be a string: {reason}.")
    return tuple(
        (prompt, _answer(value, f"row {label!r}"))
        for label, prompt, value in zip(examples.index, prompts, answers, strict=True)
    )


def _fill(template: str | RowFunction, examples: pd.DataFrame) -> Sequence[Any]:
    return list(Template(template).fill(examples)) if isinstance(template, str) else render_rows(examples, template)


def _answer_column(examples: pd.DataFrame, fields: Sequence[Any]) -> Any:
    others = [name for name in examples.columns if name not in fields]
    if len(others) != 1 or not fields:
        raise InputError(f"name the column of answers with answer=; the columns are {list(examples.columns)}.")
    return others[0]


def _pair(pair: Any, position: int) -> tuple[str, str]:
    if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise InputError(f"examples: item {position} must be a pair (prompt, answer), got {pair!r}.")
    prompt, answer = pair
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"examples: the prompt of item {position} must be a non-empty string, got {prompt!r}.")
    return prompt, _answer(answer, f"item {position}")


def _answer(value: Any, source: str) -> str:
    """Return the answer as the model would write it."""
    if isinstance(value, str):
        if not value.strip():
            raise InputError(f"examples: the answer of {source} must not be empty.")
        return value
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump_json()
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    if pd.isna(value):
        raise InputError(f"examples: the answer of {source} must not be missing.")
    return str(value)

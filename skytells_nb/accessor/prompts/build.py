"""What is asked for each row: a template or a function, with examples, pictures and conversations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from skytells_nb.accessor.options import ModelOptions
from skytells_nb.accessor.prompts.few_shot import Examples, few_shot
from skytells_nb.accessor.prompts.images import IMAGE_TOKENS, ImageStore, image_cells
from skytells_nb.accessor.prompts.rows import RenderedPrompt, RowFunction, params_of_rows, render_rows
from skytells_nb.accessor.prompts.template import Template
from skytells_nb.accessor.text_columns import Texts, column_of
from skytells_nb.engine.operations.conversation import Api, Message, PromptOptions, check_messages, dump_messages
from skytells_nb.engine.operations.endpoints import LIMITS, endpoint
from skytells_nb.errors import InputError

PromptSource: TypeAlias = str | RowFunction
"""A template with ``{column}`` fields, or a function from a row to a text or messages."""


class PromptArguments(ModelOptions, total=False):
    """How the prompts of rows are built, in addition to the template.

    Parameters
    ----------
    examples : pandas.DataFrame or sequence of (str, str), optional
        Few-shot examples: a frame with the template's columns and one of completions, or pairs of a prompt and its
        completion.
    answer : hashable, optional
        Name of the column of completions in ``examples``, where there are several.
    images : hashable or list of hashable, optional
        Names of columns of images: paths, URLs, bytes, PIL images, or lists of them. They follow the prompt; one
        that cannot be read is an error of its row.
    conversation : hashable, optional
        Name of a column of message lists, to which the prompt is the next turn.
    row_params : mapping of str to hashable, optional
        Parameters of the model from columns, such as ``{"temperature": "t"}``; a missing value leaves the parameter
        out.
    api : {"chat", "responses"}, default "chat"
        The API to use; with the Responses API nothing is stored at the service.
    """

    examples: Examples | None
    answer: Any
    images: Any
    conversation: Any
    row_params: Mapping[str, Any] | None
    api: Api


@dataclass(frozen=True)
class Prompts:
    """The inputs of a call, (n,), ``None`` for a row that is not sent, and what they are."""

    texts: Texts
    options: PromptOptions
    sources: tuple[Any, ...]
    """The columns that they are made of, as far as that is known."""
    errors: Mapping[int, InputError] = field(default_factory=dict)
    """Why a row that is no null is not sent."""


PROMPT_ARGUMENTS = tuple(name for name in PromptArguments.__annotations__ if name not in ModelOptions.__annotations__)


def prompt_arguments(options: PromptArguments) -> dict[str, Any]:
    """Return those of the options that ``build_prompts`` takes."""
    return {name: options[name] for name in PROMPT_ARGUMENTS if name in options}  # type: ignore[literal-required]


def build_prompts(
    frame: pd.DataFrame,
    template: PromptSource,
    *,
    examples: Examples | None = None,
    answer: Any = None,
    images: Any = None,
    conversation: Any = None,
    row_params: Mapping[str, Any] | None = None,
    api: Api = "chat",
) -> Prompts:
    """What is asked for each row. Raises InputError for what is wrong with the call; a bad picture concerns its row."""
    endpoint(api)
    sources: list[Any] = []
    asked: Sequence[RenderedPrompt]
    if callable(template):
        asked = render_rows(frame, template)
    else:
        made = Template(template)
        asked = made.fill(frame, constant=images is not None or conversation is not None).tolist()
        sources += made.fields
    shown = few_shot(template, examples, answer)
    plain = images is None and conversation is None and not row_params
    if plain and all(one is None or isinstance(one, str) for one in asked):
        return Prompts(_array(asked), PromptOptions(api, shown), tuple(sources))
    album = ImageStore()
    problems = {
        number: InputError("the text is empty; empty texts are not sent")
        for number, one in enumerate(asked)
        if isinstance(one, str) and not one.strip()
    }
    turns = [_turns(one) for one in asked]
    if images is not None:
        names, cells = image_cells(frame, images)
        sources += names
        turns = [
            _illustrated(row, pictures, frame.index[number], number, album, problems)
            for number, (row, pictures) in enumerate(zip(turns, cells, strict=True))
        ]
    if conversation is not None:
        sources.append(conversation)
        before = column_of(frame, conversation)
        turns = [_after(cell, row, label) for cell, row, label in zip(before, turns, frame.index, strict=True)]
    own: Sequence[dict[str, Any]] = [{}] * len(frame)
    if row_params:
        own = params_of_rows(frame, row_params, api)
        sources += row_params.values()
    texts = [
        _written(row, params, album, frame.index[number]) if row is not None and number not in problems else None
        for number, (row, params) in enumerate(zip(turns, own, strict=True))
    ]
    sent = sum(text is not None for text in texts)
    limits = [int(params[name]) for params in own for name in LIMITS if name in params]
    form = PromptOptions(
        api,
        shown,
        conversations=True,
        images=album.images,
        image_tokens=round(IMAGE_TOKENS * album.count / max(1, sent)),
        max_tokens=max(limits, default=None),
    )
    return Prompts(_array(texts), form, tuple(sources), problems)


def _array(values: Sequence[Any]) -> Texts:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _turns(asked: RenderedPrompt) -> list[Message] | None:
    return [{"role": "user", "content": asked}] if isinstance(asked, str) else asked


def _illustrated(
    turns: list[Message] | None,
    pictures: list[Any] | None,
    label: Any,
    number: int,
    album: ImageStore,
    problems: dict[int, InputError],
) -> list[Message] | None:
    """The row's turns with its pictures in the last one."""
    if turns is None or pictures is None:
        return None
    *earlier, last = turns
    if last["role"] != "user":
        raise InputError(f"images go into a user's message, and the last one at row {label!r} is the {last['role']}'s.")
    try:
        parts = [album.part(value) for value in pictures]
    except InputError as problem:
        problems[number] = problem
        return turns
    content = last["content"]
    words = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [*earlier, {**last, "content": [*words, *parts] if parts else content}]


def _after(cell: Any, turns: list[Message] | None, label: Any) -> list[Message] | None:
    """The row's conversation with its turns after it; ``None`` where it has none."""
    if turns is None or cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell):
        return None
    try:
        found = json.loads(cell) if isinstance(cell, str) else cell
    except ValueError:
        raise InputError(f"The conversation at row {label!r} is a text that is no JSON list of messages.") from None
    if isinstance(found, np.ndarray):
        found = found.tolist()
    if isinstance(found, (list, tuple)) and not found:
        return turns
    try:
        return [*check_messages(found), *turns]
    except InputError as problem:
        raise InputError(f"The conversation at row {label!r} cannot be sent: {problem}") from None


def _written(turns: list[Message], params: Mapping[str, Any], album: ImageStore, label: Any) -> str:
    try:
        return dump_messages(album.take(turns), params)
    except InputError as problem:
        raise InputError(f"Row {label!r} cannot be sent: {problem}") from None

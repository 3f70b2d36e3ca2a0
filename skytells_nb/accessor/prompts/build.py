"""What is asked for each row: a template or a function, with examples, pictures and conversations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from skytells_nb.accessor.call import RunOptions, check_options
from skytells_nb.accessor.prompts.few_shot import Examples, few_shot
from skytells_nb.accessor.prompts.images import IMAGE_TOKENS, ImageStore, image_cells
from skytells_nb.accessor.prompts.rows import Asked, RowFunction, params_of_rows, render_rows
from skytells_nb.accessor.prompts.template import Template
from skytells_nb.accessor.text_columns import Texts, column_of
from skytells_nb.engine.operations.conversation import Api, Message, PromptOptions, check_messages, dump_messages
from skytells_nb.engine.operations.endpoints import LIMITS, endpoint
from skytells_nb.errors import InputError

PromptSource: TypeAlias = str | RowFunction
"""A template with ``{column}`` fields, or a function from a row to a text or messages."""


class PromptArguments(RunOptions, total=False):
    """What says how rows are asked, beside the template; see ``df.skytells.complete``."""

    examples: Examples | None
    answer: Any
    images: Any
    conversation: Any
    row_params: Mapping[str, Any] | None
    api: Api
    reasoning_effort: str | None


@dataclass(frozen=True)
class Prompts:
    """The inputs of a call, (n,), ``None`` for a row that is not sent, and what they are."""

    texts: Texts
    form: PromptOptions
    sources: tuple[Any, ...]
    """The columns that they are made of, as far as that is known."""
    problems: Mapping[int, InputError] = field(default_factory=dict)
    """Why a row that is no null is not sent."""


def split_options(options: PromptArguments) -> tuple[dict[str, Any], str | None, RunOptions]:
    """What ``prompts_of`` takes, the reasoning effort, and the options of the run; InputError for unknown ones."""
    names = PromptArguments.__annotations__.keys() - RunOptions.__annotations__.keys() - {"reasoning_effort"}
    asked = {name: value for name, value in options.items() if name in names}
    rest = {name: value for name, value in options.items() if name not in names and name != "reasoning_effort"}
    check_options(rest)
    return asked, options.get("reasoning_effort"), RunOptions(**rest)  # type: ignore[typeddict-item]


def with_effort(params: Mapping[str, Any] | None, effort: str | None) -> Mapping[str, Any] | None:
    """``params`` with the reasoning effort among them."""
    if effort is None:
        return params
    if not isinstance(effort, str) or not effort.strip():
        raise InputError(f"reasoning_effort is a word such as 'low' or 'high'; found {effort!r}.")
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
    if "reasoning_effort" in (params or {}):
        raise InputError("reasoning_effort is given twice: as a keyword and in params.")
    return {**(params or {}), "reasoning_effort": effort}


def prompts_of(
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
    asked: Sequence[Asked]
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
        dialogues=True,
        pictures=album.pictures,
        picture_tokens=round(IMAGE_TOKENS * album.shown / max(1, sent)),
        most_tokens=max(limits, default=None),
    )
    return Prompts(_array(texts), form, tuple(sources), problems)


def _array(values: Sequence[Any]) -> Texts:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _turns(asked: Asked) -> list[Message] | None:
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

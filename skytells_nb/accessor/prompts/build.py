"""Prompts of rows from a template or a function, with examples, images and conversations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from skytells_nb.accessor.options import ModelParameters, SessionOptions
from skytells_nb.accessor.prompts.few_shot import Examples, few_shot
from skytells_nb.accessor.prompts.images import IMAGE_TOKENS, ImageStore, image_cells, image_folder
from skytells_nb.accessor.prompts.rows import RenderedPrompt, RowFunction, params_of_rows, render_rows
from skytells_nb.accessor.prompts.template import Template
from skytells_nb.accessor.text_columns import Texts, is_missing
from skytells_nb.columns import column_of, is_blank
from skytells_nb.engine.operations.conversation import Api, Message, PromptOptions, check_messages, dump_messages
from skytells_nb.engine.operations.endpoints import LIMITS, endpoint
from skytells_nb.errors import InputError

PromptSource: TypeAlias = str | RowFunction
"""A template with ``{column}`` fields, or a function from a row to a text or messages."""


class PromptArguments(ModelParameters, SessionOptions, total=False):
    """How the prompts of rows are built, in addition to the template.

    Parameters
    ----------
    examples : pandas.DataFrame or sequence of (str, str), optional
        Few-shot examples: a frame with the template's columns and one of completions, or pairs of a prompt and its
        completion.
    answer : hashable, optional
        Name of the column of completions in ``examples``, where there are several.
    images : hashable or list of hashable, optional
        Names of columns of images: URLs, paths of files below ``images_from``, bytes, PIL images, or lists of them.
        They follow the prompt; one that cannot be read is an error of its row.
    images_from : str or Path, optional
        Folder of the images that cells name by path, by default the working directory. Cells are data, so no other
        file is read and sent: not by an absolute path, ``..``, ``~`` or a link that leads out of the folder.
    conversation : hashable, optional
        Name of a column of message lists, to which the prompt is the next turn.
    row_params : mapping of str to hashable, optional
        Parameters of the model from columns, such as ``{"temperature": "t"}``; a missing value leaves the parameter
        out.
    missing : str, optional
        What a template has in place of a missing or blank value; by default such a row is missing and not sent.
    api : {"chat", "responses"}, default "chat"
        The API to use; with the Responses API nothing is stored at the service.
    """

    examples: Examples | None
    answer: Any
    images: Any
    images_from: str | Path | None
    conversation: Any
    row_params: Mapping[str, Any] | None
    missing: str | None
    api: Api


@dataclass(frozen=True)
class Prompts:
    """The inputs of a call, (n,), ``None`` for a row that is not sent, and their options."""

    texts: Texts
    options: PromptOptions
    sources: tuple[Any, ...]
    """The columns that the inputs come from, as far as they are known."""
    errors: Mapping[int, InputError] = field(default_factory=dict)
    """Why a row is not sent although its values are not missing."""


PROMPT_ARGUMENTS = tuple(
    name
    for name in PromptArguments.__annotations__
    if name not in {**ModelParameters.__annotations__, **SessionOptions.__annotations__}
)


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
    images_from: str | Path | None = None,
    conversation: Any = None,
    row_params: Mapping[str, Any] | None = None,
    missing: str | None = None,
    api: Api = "chat",
) -> Prompts:
    """Return the prompts of all rows; one that is blank is missing.

    Raises InputError for invalid arguments; an image that cannot be sent is an error of its row.
    """
    endpoint(api)
    sources: list[Any] = []
    rendered: Sequence[RenderedPrompt]
    if callable(template):
        if missing is not None:
            raise InputError("missing= is for the fields of a template; a function of the row writes what it likes.")
        rendered = render_rows(frame, template)
    else:
        parsed = Template(template)
        sources += parsed.columns(frame)
        constant = images is not None or conversation is not None
        rendered = parsed.fill(frame, constant=constant, missing=missing).tolist()
    pairs = () if examples is None and answer is None else few_shot(template, examples, answer)
    rendered = [None if isinstance(prompt, str) and is_blank(prompt) else prompt for prompt in rendered]
    text_only = images is None and conversation is None and not row_params
    if text_only and all(prompt is None or isinstance(prompt, str) for prompt in rendered):
        return Prompts(_object_array(rendered), PromptOptions(api, pairs), tuple(sources))
    uses_folder = images is not None or images_from is not None
    store = ImageStore(image_folder(images_from) if uses_folder else Path())
    errors: dict[int, InputError] = {}
    messages = [_as_messages(prompt) for prompt in rendered]
    if images is not None:
        names, images_of_rows = image_cells(frame, images)
        sources += names
        messages = [
            _add_images(row, row_images, frame.index[number], number, store, errors)
            for number, (row, row_images) in enumerate(zip(messages, images_of_rows, strict=True))
        ]
    if conversation is not None:
        sources.append(conversation)
        earlier = column_of(frame, conversation)
        messages = [
            _add_to_conversation(cell, row, label)
            for cell, row, label in zip(earlier, messages, frame.index, strict=True)
        ]
    params_by_row: Sequence[dict[str, Any]] = [{}] * len(frame)
    if row_params:
        params_by_row = params_of_rows(frame, row_params, api)
        sources += row_params.values()
    texts = [
        _serialize(row, params, store, frame.index[number]) if row is not None and number not in errors else None
        for number, (row, params) in enumerate(zip(messages, params_by_row, strict=True))
    ]
    n_sent = sum(text is not None for text in texts)
    limits = [int(params[name]) for params in params_by_row for name in LIMITS if name in params]
    options = PromptOptions(
        api,
        pairs,
        conversations=True,
        images=store.images,
        image_tokens=round(IMAGE_TOKENS * store.count / max(1, n_sent)),
        max_tokens=max(limits, default=None),
    )
    return Prompts(_object_array(texts), options, tuple(sources), errors)


def _object_array(values: Sequence[Any]) -> Texts:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _as_messages(prompt: RenderedPrompt) -> list[Message] | None:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _add_images(
    messages: list[Message] | None,
    images: list[Any] | None,
    label: Any,
    number: int,
    store: ImageStore,
    errors: dict[int, InputError],
) -> list[Message] | None:
    """Return the row's messages with its images in the last one."""
    if messages is None or images is None:
        return None
    *earlier, last = messages
    if last["role"] != "user":
        raise InputError(
            f"images need a last message of the role 'user', got {last['role']!r} at row {label!r}. Nothing was sent."
        )
    try:
        parts = [store.part(value) for value in images]
    except InputError as problem:
        errors[number] = problem
        return messages
    content = last["content"]
    text_parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [*earlier, {**last, "content": [*text_parts, *parts] if parts else content}]


def _add_to_conversation(cell: Any, messages: list[Message] | None, label: Any) -> list[Message] | None:
    """Return the row's conversation followed by its messages; ``None`` if either is missing."""
    if messages is None or is_missing(cell):
        return None
    try:
        conversation = json.loads(cell) if isinstance(cell, str) else cell
    except ValueError:
        raise InputError(f"The conversation at row {label!r} must be a list of messages or its JSON text.") from None
    if isinstance(conversation, np.ndarray):
        conversation = conversation.tolist()
    if isinstance(conversation, (list, tuple)) and not conversation:
        return messages
    try:
        return [*check_messages(conversation), *messages]
    except InputError as problem:
        raise InputError(f"The conversation at row {label!r} cannot be sent: {problem}") from None


def _serialize(messages: list[Message], params: Mapping[str, Any], store: ImageStore, label: Any) -> str:
    try:
        return dump_messages(store.replace_data(messages), params)
    except InputError as problem:
        raise InputError(f"Row {label!r} cannot be sent: {problem}") from None

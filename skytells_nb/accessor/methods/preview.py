"""``preview``: the requests that ``complete`` would send."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import pandas as pd

from skytells_nb.accessor.base import FrameMethods, check_count
from skytells_nb.accessor.call import VectorizedCall
from skytells_nb.accessor.options import check_options, expand_options, model_parameters
from skytells_nb.accessor.prompts.build import (
    PromptArguments,
    Prompts,
    PromptSource,
    build_prompts,
    prompt_arguments,
)
from skytells_nb.accessor.results import build_job
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.errors import InputError

SHOWN = 2_000
"""Characters of one message that the repr shows."""


_SHOWN_APART = ("model", "messages", "input", "instructions")
"""Fields of a request that the repr does not list as parameters."""


class Preview(list[list[dict[str, Any]]]):
    """The messages of each request.

    ``requests`` has all that is sent, ``labels`` the rows of each request, ``problems`` the rows that cannot be sent
    and why, by label. The repr cuts long texts and shows images by type and size; the messages themselves are whole.
    """

    def __init__(
        self, requests: Sequence[dict[str, Any]], labels: Sequence[list[Any]], problems: Mapping[Any, InputError]
    ) -> None:
        super().__init__(_messages(request) for request in requests)
        self.requests = list(requests)
        self.labels = list(labels)
        self.problems = dict(problems)

    def __repr__(self) -> str:
        blocks = [_block(request, labels) for request, labels in zip(self.requests, self.labels, strict=True)]
        blocks += [f"Row {label!r} cannot be sent: {problem}" for label, problem in self.problems.items()]
        return "\n\n".join(blocks) or "Nothing would be sent: every row is missing."


class PreviewMethod(FrameMethods):
    """The ``preview`` method."""

    @expand_options(PromptArguments, like=PromptArguments, defaults={"api": "chat"})
    def preview(
        self,
        template: PromptSource,
        n: int = 3,
        *,
        model: str | None = None,
        system: str | None = None,
        schema: Schema | None = None,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        **options: Unpack[PromptArguments],
    ) -> Preview:
        """Return the messages that ``complete`` would send for the first rows; nothing is sent.

        Parameters
        ----------
        template : str or callable
            As in ``complete``.
        n : int, default 3
            Number of different rows.
        system : str, optional
            As in ``complete``.
        schema : type or mapping, optional
            As in ``complete``.

        Returns
        -------
        Preview
            A list with the messages of each request; its ``requests`` have the parameters too.

        Raises
        ------
        InputError
            If ``complete`` would raise it before it sends anything.

        Examples
        --------
        >>> df = pd.DataFrame({"word": ["cat", "dog"]})
        >>> df.skytells.preview("Translate {word}.", 1, system="Be brief.")[0]
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Translate cat.'}]
        """
        n = check_count("n", n)
        check_options(options, self.preview)
        parameters = model_parameters(options, params)
        call = VectorizedCall.open("null", False, options, sends=False)
        prompts, rows = _first_rows(self._frame, template, n, prompt_arguments(options))
        job = call.engine.prepare(
            build_job(
                call,
                model,
                system,
                schema,
                parameters,
                rows_per_request=rows_per_request,
                options=prompts.options,
            )
        )
        index = self._frame.index
        batches = [rows[at : at + job.max_items] for at in range(0, len(rows), job.max_items)]
        requests = [_body(job, [prompts.texts[row] for row in batch]) for batch in batches]
        labels = [[index[row] for row in batch] for batch in batches]
        return Preview(requests, labels, {index[row]: problem for row, problem in prompts.errors.items()})


def _first_rows(
    frame: pd.DataFrame, template: PromptSource, n: int, arguments: Mapping[str, Any]
) -> tuple[Prompts, list[int]]:
    """Return the prompts of enough rows to have ``n`` different ones, and the first row of each."""
    size = n
    while True:
        prompts = build_prompts(frame.iloc[:size], template, **arguments)
        rows: dict[str, int] = {}
        for row, text in enumerate(prompts.texts):
            if text is not None and text.strip():
                rows.setdefault(text, row)
        if len(rows) >= n or size >= len(frame):
            return prompts, list(rows.values())[:n]
        size *= 8


def _body(job: Job, inputs: Sequence[str]) -> dict[str, Any]:
    assert job.body is not None
    return job.body(inputs)


def _messages(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a request of either API."""
    if "messages" in request:
        return list(request["messages"])
    opening = [{"role": "system", "content": request["instructions"]}] if "instructions" in request else []
    return [*opening, *request["input"]]


def _block(request: Mapping[str, Any], labels: Sequence[Any]) -> str:
    sent = {name: value for name, value in request.items() if name not in _SHOWN_APART}
    params = f" with {json.dumps(sent, ensure_ascii=False, default=str)}" if sent else ""
    head = f"Row{'s' if len(labels) > 1 else ''} {', '.join(map(repr, labels))} to {request['model']}{params}"
    return _printable("\n".join([head, *(_line(message) for message in _messages(request))]))


def _line(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    texts = [_format(part) for part in parts if part is not None]
    if rest:
        texts.append(json.dumps(rest, ensure_ascii=False, default=str))
    return f"  {message.get('role', message.get('type'))}: " + "\n    ".join("\n".join(texts).splitlines())


def _format(part: Any) -> str:
    """Return the text of a part of a message."""
    if isinstance(part, Mapping):
        named = part.get("image_url")
        url = named.get("url") if isinstance(named, Mapping) else named
        if isinstance(url, str):
            kind, _, data = url.removeprefix("data:").partition(";base64,")
            return f"[{kind}, {len(data) * 3 // 4:,} bytes]" if data else f"[image {url}]"
        part = part["text"] if isinstance(part.get("text"), str) else json.dumps(part, ensure_ascii=False, default=str)
    text = str(part)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text) - SHOWN:,} characters more)"


def _printable(text: str) -> str:
    """Replace control characters, which a terminal would interpret."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)

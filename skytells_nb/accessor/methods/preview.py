"""What would be sent, without sending it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import pandas as pd

from skytells_nb.accessor.base import FrameMethods
from skytells_nb.accessor.call import VectorizedCall
from skytells_nb.accessor.prompts.build import (
    PromptArguments,
    Prompts,
    PromptSource,
    prompts_of,
    split_options,
    with_effort,
)
from skytells_nb.accessor.results import build_job
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.errors import InputError

SHOWN = 2_000
"""Characters of one message that the repr shows."""


_SAID = ("model", "messages", "input", "instructions")


class Preview(list[list[dict[str, Any]]]):
    """The messages of each request; ``requests`` has all that is sent, ``labels`` the rows that a request answers.

    ``problems`` says by label what cannot be sent. The repr cuts long texts and names pictures by kind and size; the
    messages themselves are whole.
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
        return "\n\n".join(blocks) or "Nothing would be sent: every row is null."


class PreviewMethod(FrameMethods):
    """A frame whose requests can be looked at."""

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
        """The messages that ``complete`` would send for the first ``n`` different rows; sends nothing.

        Takes what ``complete`` takes. A list with the messages of each request; its ``requests`` hold the parameters
        too. Raises InputError where ``complete`` would before it sends anything.

        >>> df = pd.DataFrame({"word": ["cat", "dog"]})
        >>> df.skytells.preview("Translate {word}.", 1, system="Be brief.")[0]
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Translate cat.'}]
        """
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise InputError(f"n is how many rows to show, 1 or more; found {n!r}.")
        asked, effort, rest = split_options(options)
        call = VectorizedCall.open("null", False, rest)
        prompts, first = _first(self._frame, template, n, asked)
        job = build_job(
            call,
            model,
            system,
            schema,
            with_effort(params, effort),
            rows_per_request=rows_per_request,
            form=prompts.form,
        )
        index = self._frame.index
        together = [first[at : at + job.max_items] for at in range(0, len(first), job.max_items)]
        requests = [_body(job, [prompts.texts[row] for row in rows]) for rows in together]
        labels = [[index[row] for row in rows] for rows in together]
        return Preview(requests, labels, {index[row]: problem for row, problem in prompts.problems.items()})


def _first(frame: pd.DataFrame, template: PromptSource, n: int, asked: Mapping[str, Any]) -> tuple[Prompts, list[int]]:
    """The prompts of so many rows that ``n`` different ones are among them, and the rows that show those first."""
    size = n
    while True:
        prompts = prompts_of(frame.iloc[:size], template, **asked)
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
    """The messages of a request of either API."""
    if "messages" in request:
        return list(request["messages"])
    opening = [{"role": "system", "content": request["instructions"]}] if "instructions" in request else []
    return [*opening, *request["input"]]


def _block(request: Mapping[str, Any], labels: Sequence[Any]) -> str:
    given = {
        name: value for name, value in request.items() if name not in ("model", "messages", "input", "instructions")
    }
    params = f" with {json.dumps(given, ensure_ascii=False, default=str)}" if given else ""
    head = f"Row{'s' if len(labels) > 1 else ''} {', '.join(map(repr, labels))} to {request['model']}{params}"
    return _printable("\n".join([head, *(_line(message) for message in _messages(request))]))


def _line(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    said = content if isinstance(content, list) else [content]
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    words = [_shown(part) for part in said if part is not None]
    if rest:
        words.append(json.dumps(rest, ensure_ascii=False, default=str))
    return f"  {message.get('role', message.get('type'))}: " + "\n    ".join("\n".join(words).splitlines())


def _shown(part: Any) -> str:
    """A part of a message in words."""
    if isinstance(part, Mapping):
        named = part.get("image_url")
        url = named.get("url") if isinstance(named, Mapping) else named
        if isinstance(url, str):
            kind, _, data = url.removeprefix("data:").partition(";base64,")
            return f"[{kind}, {len(data) * 3 // 4:,} bytes]" if data else f"[picture {url}]"
        part = part["text"] if isinstance(part.get("text"), str) else json.dumps(part, ensure_ascii=False, default=str)
    text = str(part)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text) - SHOWN:,} characters more)"


def _printable(text: str) -> str:
    """Texts of a column may hold what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)

"""Many rows in one request: prompts go out under ids, and each row gets its own part of the one answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from numbers import Integral
from typing import Any

from skytells_nb.client.client import Skytells
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.endpoints import LIMITS
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.operations.requests import BatchResult, CompletionOperation, Read, read_here
from skytells_nb.engine.planning import estimate_tokens, token_estimates
from skytells_nb.engine.results import ResultBuffer
from skytells_nb.errors import BadRequestError, InputError, InvalidResponseError

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")
_ONE = frozenset(
    {
        *("additionalProperties", "items", "additionalItems", "contains", "propertyNames", "contentSchema"),
        *("unevaluatedItems", "unevaluatedProperties", "not", "if", "then", "else"),
    }
)
_LISTED = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_BASES = frozenset({"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"})


def row_id(number: int) -> str:
    """The id of the row at this place of a request, counted from 0."""
    return f"r{number + 1}"


class AnswerFormat:
    """The ``response_format`` of packed requests, from that of a single one; ``None`` where an answer is just text.

    Raises InputError for a format or a schema that cannot be a part of another.
    """

    def __init__(self, single: Mapping[str, Any] | None) -> None:
        self.is_text = True
        self._strict: Any = True
        self._property: dict[str, Any] = {"type": "string"}
        self._definitions: dict[str, Any] = {}
        kind = "text" if single is None else single.get("type")
        if kind == "text":
            return
        asked = single.get("json_schema") if single is not None and kind == "json_schema" else None
        if not isinstance(asked, Mapping) or not isinstance(asked.get("schema"), Mapping):
            raise InputError(
                f"rows_per_request asks for a JSON schema itself, so the response_format {kind!r} does not go with it. "
                "Pass schema= to say what each answer holds."
            )
        self.is_text = False
        self._strict = asked.get("strict", False)
        body = {word: value for word, value in asked["schema"].items() if word not in ("$id", "$schema")}
        taken = body.get("$defs", {})
        name = "answer"
        while name in taken:
            name += "_"
        place = f"#/$defs/{name}"
        moved = _moved(body, place)
        self._definitions = {word: moved.pop(word) for word in ("$defs", "definitions") if word in moved}
        self._definitions["$defs"] = {**self._definitions.get("$defs", {}), name: moved}
        self._property = {"$ref": place}

    def of(self, rows: int) -> dict[str, Any]:
        """The ``response_format`` of a request with this many rows."""
        ids = [row_id(number) for number in range(rows)]
        schema = {
            "type": "object",
            "properties": dict.fromkeys(ids, self._property),
            "required": ids,
            "additionalProperties": False,
            **self._definitions,
        }
        return {"type": "json_schema", "json_schema": {"name": "answers", "strict": self._strict, "schema": schema}}


def answers_in(text: str, rows: int) -> list[str | None]:
    """The JSON text of each row's answer, from the first object in this text.

    ``None`` for a row whose id is missing, came twice, or came after the text broke off or stopped being JSON.
    """
    numbers = {row_id(number): number for number in range(rows)}
    found: list[str | None] = [None] * rows
    seen: set[str] = set()
    for name, value in _members(text):
        if name in numbers:
            found[numbers[name]] = None if name in seen else value
            seen.add(name)
    return found


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Name and JSON text of each member of the object, as long as the text is well-formed."""
    place, mark = text.find("{"), "{"
    while text[place : place + 1] == mark and mark != "}":
        try:
            name, end = _DECODER.raw_decode(text, _skip(text, place + 1))
            colon = _skip(text, end)
            start = _skip(text, colon + 1)
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return
        place, mark = _skip(text, end), ","
        # What follows shows that the value is whole: 12 may be the beginning of 123.
        if not isinstance(name, str) or text[colon] != ":" or text[place : place + 1] not in (",", "}"):
            return
        yield name, text[start:end]


def _skip(text: str, place: int) -> int:
    """The place of the next character that is no blank."""
    blank = _BLANK.match(text, place)
    return place if blank is None else blank.end()


def _moved(schema: Any, place: str) -> Any:
    """A root schema as it reads at ``place``, while its definitions stay: references follow what they name."""
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _BASES:
            raise InputError(f"A schema with {word!r} does not go with rows_per_request. Refer to '#/$defs/…' instead.")
        if word == "$ref":
            made[word] = _pointed(value, place)
        elif word in _LISTED and isinstance(value, list):
            made[word] = [_moved(part, place) for part in value]
        elif word in _NAMED and isinstance(value, Mapping):
            made[word] = {name: _moved(part, place) for name, part in value.items()}
        else:
            made[word] = _moved(value, place) if word in _ONE else value
    return made


def _pointed(reference: Any, place: str) -> str:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise InputError(
            f"The schema refers to {reference!r}, which does not go with rows_per_request. Put what it names into the "
            "schema's own $defs."
        )
    stays = reference.startswith(("#/$defs/", "#/definitions/"))
    return reference if stays else place + reference.removeprefix("#")


MOST_ROWS = 100
"""Properties that a strict schema may have where the limit is lowest (Azure OpenAI, structured outputs)."""
ROW_TOKENS = 12
"""Tokens that an id and the JSON around it add to a row, in the prompt as in the answer."""
FORM = "The user message is a JSON list of messages, each with an id."
TASK = (
    "Answer each message separately from the others. The whole answer is one JSON object with the id of every message, "
    "in the same order, and under it the answer to that message as a"
)
"""Plain words on purpose: talk of rules and of what to ignore is what filters of prompts take for a jailbreak."""

Check = Callable[[str], object]
"""Takes the JSON text of an answer, and raises where that does not fit what was asked for."""

_TOOL = "a call in the one answer could not be told to belong to a row"
_WHOLE = "they are told of the whole answer and not of a row"
_UNFIT = {
    **dict.fromkeys(("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"), _TOOL),
    **dict.fromkeys(("logprobs", "top_logprobs"), _WHOLE),
    "stop": "it would end the answers of all rows that follow",
}


def check_rows(rows: Any) -> int:
    """The number of rows for a request, 1 for ``None``; raises InputError for what is none."""
    if rows is None:
        return 1
    if not isinstance(rows, Integral) or isinstance(rows, bool) or not 1 <= int(rows) <= MOST_ROWS:
        raise InputError(f"rows_per_request is a whole number from 1 to {MOST_ROWS}; found {rows!r}.")
    return int(rows)


def batch_rows(job: Job, rows: int, check: Check | None = None) -> Job:
    """A completion job with up to ``rows`` inputs in each request.

    An answer that does not pass ``check`` is asked for again alone. Raises InputError for parameters and schemas that
    make no sense for several rows.
    """
    alone = job.single
    if alone is None or alone.form.dialogues:
        raise InputError(
            "rows_per_request packs prompts that are texts: it does not go with images, conversation, row_params or a "
            "function that gives messages."
        )
    for name, reason in _UNFIT.items():
        if job.params.get(name) is not None:
            raise InputError(f"{name} does not go with rows_per_request: {reason}.")
    shared = job.overhead_tokens + estimate_tokens(FORM + TASK)
    work = BatchedCompletion(alone, check)
    return replace(
        job,
        work=work,
        body=work.body,
        max_items=rows,
        # An answer made among others is another one than an answer made alone; among how many makes no difference.
        params={**job.params, "packed": True},
        overhead_tokens=ROW_TOKENS + math.ceil(shared / rows),
    )


class BatchedCompletion:
    """Several prompts in, a completion for each out; a single one goes the way of ``alone``.

    ``params`` are those of one row, ``max_tokens`` too. Each completion has the verdicts of the request, and a share of
    its tokens: they are shared among the rows that got an answer, so that rows cost together what the request did.
    """

    def __init__(self, alone: CompletionOperation, check: Check | None = None) -> None:
        given = dict(alone.params)
        self._alone = alone
        self._format = AnswerFormat(given.pop("response_format", None))
        self._limits = {name: int(given.pop(name)) for name in LIMITS if given.get(name)}
        self._params = given
        self._check = check
        self._constrained = True
        self._unanswered: set[tuple[str, ...]] = set()

    def body(self, inputs: Sequence[str]) -> dict[str, Any]:
        """What is sent for these inputs."""
        if len(inputs) == 1:
            return self._alone.body(inputs)
        rows, alone = len(inputs), self._alone
        limits = {name: (tokens + ROW_TOKENS) * rows for name, tokens in self._limits.items()}
        params: dict[str, Any] = {**self._params, **limits}
        if self._constrained:
            params["response_format"] = self._format.of(rows)
        asked = messages(alone.system, inputs, is_text=self._format.is_text, examples=alone.form.examples)
        return alone.endpoint.body(alone.model, asked, params)

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        if len(inputs) == 1:
            return self._alone.send(client, inputs)
        try:
            return self._send(client, inputs)
        except InvalidResponseError:
            # The run tries once more what nobody could read, as it does with a single row; then each row goes alone.
            if tuple(inputs) not in self._unanswered:
                self._unanswered.add(tuple(inputs))
                raise
            return BatchResult([None] * len(inputs), 0, 0)
        except BadRequestError as problem:
            # Where the service knows no schemas, the words alone say what to answer with; the run sends the rows again.
            if self._format.is_text and "response_format" in f"{problem.param} {problem.message}":
                self._constrained = False
            raise

    def _send(self, client: Skytells, inputs: Sequence[str]) -> BatchResult:
        rows = len(inputs)
        whole = CachedCompletion.of(self._alone.endpoint.ask(client, self.body(inputs)))
        withheld = whole.finish_reason == "content_filter"
        found = [None] * rows if withheld else answers_in(whole.text, rows)
        return BatchResult(self._completions(whole, inputs, found), whole.tokens_in, whole.tokens_out)

    def answers(self, count: int) -> ResultBuffer:
        return self._alone.answers(count)

    def learn(self, values: Sequence[bytes]) -> None:
        self._alone.learn(values)

    def kept(self, problem: Exception) -> bytes | None:
        return self._alone.kept(problem)

    def refusal(self, value: bytes) -> Exception | None:
        return self._alone.refusal(value)

    def output_tokens(self) -> float:
        return self._alone.output_tokens()

    def most_output_tokens(self) -> float:
        return self._alone.most_output_tokens() + ROW_TOKENS

    def _completions(
        self, whole: CachedCompletion, inputs: Sequence[str], found: Sequence[str | None]
    ) -> list[bytes | None]:
        texts = {
            number: text for number, value in enumerate(found) if value and (text := self._text(value)) is not None
        }
        tokens_in = shares(whole.tokens_in, _weights([inputs[number] for number in texts]))
        tokens_out = shares(whole.tokens_out, _weights(list(texts.values())))
        values: list[bytes | None] = [None] * len(inputs)
        for (number, text), paid_in, paid_out in zip(texts.items(), tokens_in, tokens_out, strict=True):
            completed = replace(
                whole, text=text, finish_reason="stop", tokens_in=paid_in, tokens_out=paid_out, rows=len(inputs)
            )
            values[number] = completed.to_bytes()
        self._alone.learn([value for value in values if value is not None])
        return values

    def _text(self, value: str) -> str | None:
        """What a row shows of its answer's JSON text; ``None`` where it is not what was asked for."""
        if not value.startswith('"' if self._format.is_text else "{"):
            return None
        try:
            if self._check is not None:
                self._check(value)
            text = str(json.loads(value)) if self._format.is_text else value
            text.encode()
        except Exception:
            # A check is the caller's code and may raise anything; JSON can spell half a character, which no column has.
            return None
        return text


def messages(
    system: str | None, prompts: Sequence[str], *, is_text: bool, examples: Sequence[tuple[str, str]] = ()
) -> list[dict[str, str]]:
    """What is sent for these prompts: the system text with our instruction, then the prompts as JSON data.

    Examples go before them as one such exchange. Raises InputError for an answer among them that is no JSON where
    answers are objects.
    """
    form = f"{system}\n\n{FORM} The above applies to each message." if system else FORM
    task = f"{TASK} {'string' if is_text else 'JSON object'}."
    shown = []
    if examples:
        answers = {row_id(number): _value(answer, is_text) for number, (_, answer) in enumerate(examples)}
        shown = [
            {"role": "user", "content": _data([prompt for prompt, _ in examples])},
            {"role": "assistant", "content": json.dumps(answers, ensure_ascii=False)},
        ]
    opening = {"role": "system", "content": f"{form} {task}"}
    return [opening, *shown, {"role": "user", "content": _data(prompts)}]


def _data(prompts: Sequence[str]) -> str:
    data = [{"id": row_id(number), "message": prompt} for number, prompt in enumerate(prompts)]
    return json.dumps(data, ensure_ascii=False)


def _value(answer: str, is_text: bool) -> Any:
    """An example's answer as a member of the one answer."""
    if is_text:
        return answer
    try:
        return json.loads(answer)
    except ValueError:
        raise InputError(f"The example's answer {answer[:60]!r} is no JSON, and a schema asks for JSON.") from None


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` in proportion to the weights, as whole numbers that add up to it."""
    whole = sum(weights)
    ends = [total * weight // whole for weight in accumulate(weights)]
    return [end - start for start, end in pairwise([0, *ends])]


def _weights(texts: Sequence[str]) -> list[int]:
    """About the tokens that these texts take in a packed request."""
    weights: list[int] = (token_estimates(texts) + ROW_TOKENS).tolist()
    return weights

"""Several rows in one request: prompts are sent under ids, and each row gets its part of the answer."""

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
from skytells_nb.engine.operations.jobs import BatchResult, CompletionOperation, Job, Read, read_here
from skytells_nb.engine.operations.response_format import rejects_response_format
from skytells_nb.engine.planning import estimate_tokens, token_estimates
from skytells_nb.engine.report import is_plausible_usage
from skytells_nb.engine.results import ResultBuffer
from skytells_nb.errors import BadRequestError, InputError, InvalidResponseError

_DECODER = json.JSONDecoder()
_WHITESPACE = re.compile(r"[ \t\r\n]*")
_SCHEMA_KEYWORDS = frozenset(
    {
        *("additionalProperties", "items", "additionalItems", "contains", "propertyNames", "contentSchema"),
        *("unevaluatedItems", "unevaluatedProperties", "not", "if", "then", "else"),
    }
)
_SCHEMA_LIST_KEYWORDS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_SCHEMA_MAP_KEYWORDS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_BASE_KEYWORDS = frozenset({"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"})


def row_id(number: int) -> str:
    """Return the id of the row at this index of a request."""
    return f"r{number + 1}"


class PackedFormat:
    """The ``response_format`` of a request for several rows, from that of one row (``None`` for text).

    Raises InputError for a format or a schema that cannot be part of another.
    """

    def __init__(self, single: Mapping[str, Any] | None) -> None:
        self.is_text = True
        self._strict: Any = True
        self._property: dict[str, Any] = {"type": "string"}
        self._definitions: dict[str, Any] = {}
        kind = "text" if single is None else single.get("type")
        if kind == "text":
            return
        wrapper = single.get("json_schema") if single is not None and kind == "json_schema" else None
        if not isinstance(wrapper, Mapping) or not isinstance(wrapper.get("schema"), Mapping):
            raise InputError(
                "rows_per_request sets a JSON schema itself, so it cannot be combined with the response_format "
                f"{kind!r}. Pass schema= to specify the answer of each row."
            )
        self.is_text = False
        self._strict = wrapper.get("strict", False)
        root = {keyword: value for keyword, value in wrapper["schema"].items() if keyword not in ("$id", "$schema")}
        definitions = root.get("$defs", {})
        name = "answer"
        while name in definitions:
            name += "_"
        pointer = f"#/$defs/{name}"
        moved = _relocate(root, pointer)
        self._definitions = {keyword: moved.pop(keyword) for keyword in ("$defs", "definitions") if keyword in moved}
        self._definitions["$defs"] = {**self._definitions.get("$defs", {}), name: moved}
        self._property = {"$ref": pointer}

    def for_rows(self, rows: int) -> dict[str, Any]:
        """Return the ``response_format`` of a request with this many rows."""
        ids = [row_id(number) for number in range(rows)]
        schema = {
            "type": "object",
            "properties": dict.fromkeys(ids, self._property),
            "required": ids,
            "additionalProperties": False,
            **self._definitions,
        }
        return {"type": "json_schema", "json_schema": {"name": "answers", "strict": self._strict, "schema": schema}}


def split_response(text: str, rows: int) -> list[str | None]:
    """Return the JSON text of each row's answer, from the first object in this text.

    ``None`` for a row whose id is missing, occurs twice, or follows the point where the text ends or is not JSON.
    """
    numbers = {row_id(number): number for number in range(rows)}
    answers: list[str | None] = [None] * rows
    seen: set[str] = set()
    for name, value in _members(text):
        if name in numbers:
            answers[numbers[name]] = None if name in seen else value
            seen.add(name)
    return answers


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the JSON text of each member of the object, as long as the text is well-formed."""
    at, delimiter = text.find("{"), "{"
    while text[at : at + 1] == delimiter and delimiter != "}":
        try:
            name, end = _DECODER.raw_decode(text, _skip_whitespace(text, at + 1))
            colon = _skip_whitespace(text, end)
            start = _skip_whitespace(text, colon + 1)
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return
        at, delimiter = _skip_whitespace(text, end), ","
        # What follows shows that the value is complete: 12 may be the beginning of 123.
        if not isinstance(name, str) or text[colon] != ":" or text[at : at + 1] not in (",", "}"):
            return
        yield name, text[start:end]


def _skip_whitespace(text: str, at: int) -> int:
    """Return the index of the next non-whitespace character."""
    whitespace = _WHITESPACE.match(text, at)
    return at if whitespace is None else whitespace.end()


def _relocate(schema: Any, pointer: str) -> Any:
    """Return a root schema as it reads at ``pointer``, while its definitions stay: references are adapted."""
    if not isinstance(schema, Mapping):
        return schema
    moved: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _BASE_KEYWORDS:
            raise InputError(
                f"A schema with {keyword!r} cannot be combined with rows_per_request. Refer to '#/$defs/…' instead."
            )
        if keyword == "$ref":
            moved[keyword] = _adapt_reference(value, pointer)
        elif keyword in _SCHEMA_LIST_KEYWORDS and isinstance(value, list):
            moved[keyword] = [_relocate(part, pointer) for part in value]
        elif keyword in _SCHEMA_MAP_KEYWORDS and isinstance(value, Mapping):
            moved[keyword] = {name: _relocate(part, pointer) for name, part in value.items()}
        else:
            moved[keyword] = _relocate(value, pointer) if keyword in _SCHEMA_KEYWORDS else value
    return moved


def _adapt_reference(reference: Any, pointer: str) -> str:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise InputError(
            f"The schema refers to {reference!r}, which cannot be combined with rows_per_request. Move the definition "
            "into the schema's own $defs."
        )
    stays = reference.startswith(("#/$defs/", "#/definitions/"))
    return reference if stays else pointer + reference.removeprefix("#")


MAX_ROWS = 100
"""Properties that a strict schema may have where the limit is lowest (Azure OpenAI, structured outputs)."""
ROW_TOKENS = 12
"""Tokens that an id and the JSON around it add to a row, in the prompt as in the answer."""
FORM = "The user message is a JSON list of messages, each with an id."
TASK = (
    "Answer each message separately from the others. The whole answer is one JSON object with the id of every message, "
    "in the same order, and under it the answer to that message as a"
)
"""Plain words on purpose: prompt filters take rules, and what to ignore, for a jailbreak."""

Check = Callable[[str], object]
"""Receives the JSON text of an answer, and raises if it does not have the requested form."""

_NO_ROW = "a tool call in the answer cannot be assigned to a row"
_WHOLE_ANSWER = "they describe the whole answer and not a row"
_UNSUPPORTED = {
    **dict.fromkeys(("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"), _NO_ROW),
    **dict.fromkeys(("logprobs", "top_logprobs"), _WHOLE_ANSWER),
    "stop": "it would end the answers of all following rows",
}


def check_rows(rows: Any) -> int:
    """Return the number of rows for a request, 1 for ``None``; raise InputError for an invalid one."""
    if rows is None:
        return 1
    if not isinstance(rows, Integral) or isinstance(rows, bool) or not 1 <= int(rows) <= MAX_ROWS:
        raise InputError(f"rows_per_request must be an integer from 1 to {MAX_ROWS}, got {rows!r}.")
    return int(rows)


def batch_rows(job: Job, rows: int, check: Check | None = None) -> Job:
    """Return a completion job with up to ``rows`` inputs in each request.

    An input whose answer does not pass ``check`` is retried alone. Raises InputError for parameters and schemas that
    cannot be used for several rows.
    """
    single = job.single
    if single is None or single.options.conversations:
        raise InputError(
            "rows_per_request batches prompts that are texts: it cannot be combined with images, conversation, "
            "row_params or a function that returns messages."
        )
    for name, reason in _UNSUPPORTED.items():
        if job.params.get(name) is not None:
            raise InputError(f"{name} cannot be combined with rows_per_request: {reason}.")
    shared = job.overhead_tokens + estimate_tokens(FORM + TASK)
    operation = BatchedCompletion(single, check)
    return replace(
        job,
        operation=operation,
        body=operation.body,
        max_items=rows,
        # An answer generated among others differs from one generated alone; among how many makes no difference.
        params={**job.params, "packed": True},
        overhead_tokens=ROW_TOKENS + math.ceil(shared / rows),
    )


class BatchedCompletion:
    """Several prompts in, a completion for each out; one prompt is sent by ``single``.

    Its parameters are those of one row, also ``max_tokens``. Each completion has the safety findings of the request,
    and a share of its tokens, which are distributed over the rows that got an answer: together they cost what the
    request did.
    """

    def __init__(self, single: CompletionOperation, check: Check | None = None) -> None:
        params = dict(single.params)
        self._single = single
        self._format = PackedFormat(params.pop("response_format", None))
        self._limits = {name: int(params.pop(name)) for name in LIMITS if params.get(name)}
        self._params = params
        self._check = check
        self._constrained = True
        self._unreadable: set[tuple[str, ...]] = set()

    def body(self, inputs: Sequence[str]) -> dict[str, Any]:
        """Return what is sent for these inputs."""
        if len(inputs) == 1:
            return self._single.body(inputs)
        rows, single = len(inputs), self._single
        limits = {name: (tokens + ROW_TOKENS) * rows for name, tokens in self._limits.items()}
        params: dict[str, Any] = {**self._params, **limits}
        if self._constrained:
            params["response_format"] = self._format.for_rows(rows)
        messages = batch_messages(single.system, inputs, is_text=self._format.is_text, examples=single.options.examples)
        return single.endpoint.body(single.model, messages, params)

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        if len(inputs) == 1:
            return self._single.send(client, inputs)
        try:
            return self._send(client, inputs)
        except InvalidResponseError:
            # The run retries an unreadable response once, as it does for one row; then each row is sent alone.
            if tuple(inputs) not in self._unreadable:
                self._unreadable.add(tuple(inputs))
                raise
            return BatchResult([None] * len(inputs), 0, 0, usage_known=False)
        except BadRequestError as problem:
            # If the service does not support schemas, the prompt alone describes the answer; the run splits the batch.
            if self._format.is_text and rejects_response_format(problem):
                self._constrained = False
            raise

    def _send(self, client: Skytells, inputs: Sequence[str]) -> BatchResult:
        rows = len(inputs)
        whole = CachedCompletion.from_response(self._single.endpoint.create(client, self.body(inputs)))
        filtered = whole.finish_reason == "content_filter"
        answers = [None] * rows if filtered else split_response(whole.text, rows)
        is_known = is_plausible_usage(
            whole.tokens_in, whole.tokens_out, sum(map(len, inputs)), answered=bool(whole.text)
        )
        if not is_known:
            whole = replace(whole, tokens_in=0, tokens_out=0)
        return BatchResult(
            self._completions(whole, inputs, answers), whole.tokens_in, whole.tokens_out, usage_known=is_known
        )

    def make_buffer(self, count: int) -> ResultBuffer:
        return self._single.make_buffer(count)

    def observe(self, values: Sequence[bytes]) -> None:
        self._single.observe(values)

    def cacheable_error(self, problem: Exception) -> bytes | None:
        return self._single.cacheable_error(problem)

    def cached_error(self, value: bytes) -> Exception | None:
        return self._single.cached_error(value)

    def output_tokens(self) -> float:
        return self._single.output_tokens()

    def max_output_tokens(self) -> float:
        return self._single.max_output_tokens() + ROW_TOKENS

    def _completions(
        self, whole: CachedCompletion, inputs: Sequence[str], answers: Sequence[str | None]
    ) -> list[bytes | None]:
        texts = {
            number: text for number, value in enumerate(answers) if value and (text := self._text(value)) is not None
        }
        tokens_in = split_proportionally(whole.tokens_in, _weights([inputs[number] for number in texts]))
        tokens_out = split_proportionally(whole.tokens_out, _weights(list(texts.values())))
        values: list[bytes | None] = [None] * len(inputs)
        for (number, text), row_tokens_in, row_tokens_out in zip(texts.items(), tokens_in, tokens_out, strict=True):
            completion = replace(
                whole,
                text=text,
                finish_reason="stop",
                tokens_in=row_tokens_in,
                tokens_out=row_tokens_out,
                rows=len(inputs),
            )
            values[number] = completion.to_bytes()
        self._single.observe([value for value in values if value is not None])
        return values

    def _text(self, value: str) -> str | None:
        """Return the text of a row from its answer's JSON text; ``None`` if it does not have the requested form."""
        # A check reads what is nearly an answer too, such as a bare label.
        if not value.startswith('"' if self._format.is_text else "{") and (self._format.is_text or not self._check):
            return None
        try:
            if self._check is not None:
                self._check(value)
            text = str(json.loads(value)) if self._format.is_text else value
            text.encode()
        except Exception:
            # A check is the caller's code and may raise anything; JSON can encode half a character, a column cannot.
            return None
        return text


def batch_messages(
    system: str | None, prompts: Sequence[str], *, is_text: bool, examples: Sequence[tuple[str, str]] = ()
) -> list[dict[str, str]]:
    """Return the messages for these prompts: the system text with the instruction, then the prompts as JSON data.

    Examples precede them as one such exchange. Raises InputError for an example's answer that is not JSON if answers
    are objects.
    """
    form = f"{system}\n\n{FORM} The above applies to each message." if system else FORM
    task = f"{TASK} {'string' if is_text else 'JSON object'}."
    few_shot = []
    if examples:
        answers = {row_id(number): _value(answer, is_text) for number, (_, answer) in enumerate(examples)}
        few_shot = [
            {"role": "user", "content": _data([prompt for prompt, _ in examples])},
            {"role": "assistant", "content": json.dumps(answers, ensure_ascii=False)},
        ]
    opening = {"role": "system", "content": f"{form} {task}"}
    return [opening, *few_shot, {"role": "user", "content": _data(prompts)}]


def _data(prompts: Sequence[str]) -> str:
    data = [{"id": row_id(number), "message": prompt} for number, prompt in enumerate(prompts)]
    return json.dumps(data, ensure_ascii=False)


def _value(answer: str, is_text: bool) -> Any:
    """Return an example's answer as a member of the whole answer."""
    if is_text:
        return answer
    try:
        return json.loads(answer)
    except ValueError:
        raise InputError(f"The example's answer {answer[:60]!r} is not JSON, which the schema requires.") from None


def split_proportionally(total: int, weights: Sequence[int]) -> list[int]:
    """Split ``total`` in proportion to the weights, into integers that add up to it."""
    weight_sum = sum(weights)
    ends = [total * weight // weight_sum for weight in accumulate(weights)]
    return [end - start for start, end in pairwise([0, *ends])]


def _weights(texts: Sequence[str]) -> list[int]:
    """Return the estimated tokens of these texts in a request for several rows."""
    weights: list[int] = (token_estimates(texts) + ROW_TOKENS).tolist()
    return weights

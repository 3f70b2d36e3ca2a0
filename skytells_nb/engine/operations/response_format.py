"""JSON answers, whether a service supports JSON schemas, only "some JSON object", or neither.

Which of them it supports shows when a request is rejected. The rejected one costs nothing and is sent again at once in
the next weaker format, so no row is paid for twice; the process then remembers. The cache stores an answer under the
requested format, in whatever format it was sent.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar, cast

from skytells_nb.client.client import Skytells
from skytells_nb.engine.operations.jobs import BatchResult, Job, Operation, Read, read_here
from skytells_nb.engine.planning import estimate_tokens
from skytells_nb.engine.results import ResultBuffer
from skytells_nb.errors import BadRequestError, ContentPolicyError, ContextLengthError, SkytellsError

T = TypeVar("T")

RESPONSE_FORMATS = ("json_schema", "json_object", "words")
"""From the strictest to the weakest; the last two state the schema in the system text."""
PROBE_TIMEOUT_S = 2.0
"""A format is rejected before anything is generated, so a request that takes longer is being answered."""

_FORMAT_WORDS = ("response_format", "text.format", "json_schema", "json_object", "structured output")
_ONE_SCHEMA = re.compile(r"(?<!json_)(?<!json )schema", re.IGNORECASE)


class CompletionWithBody(Operation, Protocol):
    """An operation on completions, which can show what it sends."""

    def body(self, inputs: Sequence[str]) -> dict[str, Any]:
        """Return what is sent for these inputs."""
        ...


def with_format_fallback(job: Job, origin: str) -> Job:
    """Return the same job with a ``response_format`` that is weakened if the service rejects it."""
    requested = job.params.get("response_format")
    if not isinstance(requested, Mapping) or requested.get("type") != RESPONSE_FORMATS[0]:
        return job
    support, name = _support(origin, job.model), schema_name(requested)
    instruction_tokens = (
        0
        if support.format_for(name) == RESPONSE_FORMATS[0]
        else math.ceil(estimate_tokens(schema_instruction(requested)) / job.max_items)
    )
    work = cast(CompletionWithBody, job.work)
    return replace(
        job, work=FormatFallbackOperation(work, support, name), overhead_tokens=job.overhead_tokens + instruction_tokens
    )


def schema_name(requested: Mapping[str, Any]) -> str:
    """Return a digest that identifies a schema."""
    return hashlib.blake2b(json.dumps(requested, sort_keys=True).encode(), digest_size=16).hexdigest()


def schema_instruction(requested: Mapping[str, Any]) -> str:
    """Return the system text that states the schema where it cannot be sent; some services require "JSON" there."""
    schema = json.dumps(_schema_of(requested), ensure_ascii=False, separators=(",", ":"))
    return f"Answer with one JSON object and nothing else. It fits this JSON schema: {schema}"


def rejects_response_format(problem: SkytellsError) -> bool:
    """Whether a request was rejected because of its response format."""
    if not isinstance(problem, BadRequestError) or isinstance(problem, (ContentPolicyError, ContextLengthError)):
        return False
    root = (problem.param or "").partition(".")[0].partition("[")[0]
    if root not in ("", "messages", "input"):
        return root in ("response_format", "text")
    return any(word in problem.message.lower() for word in _FORMAT_WORDS)


class FormatSupport:
    """Formats that one model at one origin accepts, as far as known. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._weakest = 0
        self._of_schema: dict[str, int] = {}
        self._settled: set[str] = set()
        self._probes: dict[str, threading.Thread] = {}

    def format_for(self, name: str) -> str:
        """Return the format to use for the schema of this name."""
        return RESPONSE_FORMATS[self._level(name)]

    def send(self, name: str, send: Callable[[str], T]) -> T:
        """Return the result of ``send`` in the strictest format that is not rejected.

        While that is not known, one thread probes and the others wait for it, so that it is found out once.
        """
        while True:
            self._begin_probe(name)
            level = self._level(name)
            try:
                result = send(RESPONSE_FORMATS[level])
            except SkytellsError as problem:
                if level + 1 == len(RESPONSE_FORMATS) or not rejects_response_format(problem):
                    raise
                self._downgrade(name, level, str(problem))
                continue
            finally:
                self._end_probe(name)
            self._settle(name)
            return result

    def _level(self, name: str) -> int:
        return max(self._weakest, self._of_schema.get(name, 0))

    def _begin_probe(self, name: str) -> None:
        this_thread = threading.current_thread()
        with self._changed:
            if name not in self._settled and self._probes.setdefault(name, this_thread) is not this_thread:
                self._changed.wait_for(lambda: name in self._settled or name not in self._probes, PROBE_TIMEOUT_S)

    def _end_probe(self, name: str) -> None:
        with self._changed:
            if self._probes.get(name) is threading.current_thread():
                del self._probes[name]
                self._changed.notify_all()

    def _settle(self, name: str) -> None:
        if name not in self._settled:
            with self._changed:
                self._settled.add(name)
                self._changed.notify_all()

    def _downgrade(self, name: str, level: int, message: str) -> None:
        with self._changed:
            if self._level(name) != level:
                return
            # Either this schema or all of them are rejected, and one must not weaken the others.
            if level == 0 and _ONE_SCHEMA.search(message):
                self._of_schema[name] = level + 1
            else:
                self._weakest = level + 1


class FormatFallbackOperation:
    """An operation whose format is weakened when it is rejected; everything else is that of ``work``."""

    def __init__(self, work: CompletionWithBody, support: FormatSupport, name: str) -> None:
        self._work = work
        self._support = support
        self._name = name

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        fallback = _FallbackClient(client, self._support, self._name)
        result = self._work.send(cast(Skytells, fallback), inputs)
        return replace(result, rejected_attempts=fallback.rejected)

    def body(self, inputs: Sequence[str]) -> dict[str, Any]:
        """Return what is sent for these inputs, in the format that is known to be accepted."""
        return apply_format(self._support.format_for(self._name), self._work.body(inputs))

    def make_buffer(self, count: int) -> ResultBuffer:
        return self._work.make_buffer(count)

    def observe(self, values: Sequence[bytes]) -> None:
        self._work.observe(values)

    def cacheable_error(self, problem: Exception) -> bytes | None:
        return self._work.cacheable_error(problem)

    def cached_error(self, value: bytes) -> Exception | None:
        return self._work.cached_error(value)

    def output_tokens(self) -> float:
        return self._work.output_tokens()

    def max_output_tokens(self) -> float:
        return self._work.max_output_tokens()


class _FallbackClient:
    """A client whose completions fall back to a weaker format."""

    def __init__(self, client: Skytells, support: FormatSupport, name: str) -> None:
        self.chat = SimpleNamespace(completions=_FallbackMethod(client.chat.completions.create, support, name))
        self.responses = _FallbackMethod(client.responses.create, support, name)

    @property
    def rejected(self) -> int:
        """Requests that were rejected for their format."""
        return int(self.chat.completions.rejected) + self.responses.rejected


class _FallbackMethod:
    def __init__(self, create: Callable[..., Any], support: FormatSupport, name: str) -> None:
        self._create = create
        self._support = support
        self._name = name
        self.rejected = 0

    def create(self, **body: Any) -> Any:
        attempts = 0

        def send(format_name: str) -> Any:
            nonlocal attempts
            attempts += 1
            return self._create(**apply_format(format_name, body))

        response = self._support.send(self._name, send)
        self.rejected += attempts - 1
        return response


_by_model: dict[tuple[str, str], FormatSupport] = {}
_lock = threading.Lock()


def _support(origin: str, model: str) -> FormatSupport:
    with _lock:
        return _by_model.setdefault((origin, model), FormatSupport())


def apply_format(format_name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request, of either API, in this format."""
    text = dict(body.get("text") or {})
    requested = body.get("response_format") or text.pop("format", None)
    if (
        format_name == RESPONSE_FORMATS[0]
        or not isinstance(requested, Mapping)
        or requested.get("type") != RESPONSE_FORMATS[0]
    ):
        return dict(body)
    weakened = {name: value for name, value in body.items() if name not in ("response_format", "text")}
    json_object = {"type": "json_object"} if format_name == "json_object" else None
    instruction = schema_instruction(requested)
    if "messages" in body:
        weakened["messages"] = _with_instruction(body["messages"], instruction)
        return {**weakened, "response_format": json_object} if json_object else weakened
    weakened["instructions"] = "\n\n".join(filter(None, (body.get("instructions"), instruction)))
    text.update({"format": json_object} if json_object else {})
    return {**weakened, "text": text} if text else weakened


def _with_instruction(messages: Sequence[Any], instruction: str) -> list[Any]:
    """Return the messages with an instruction at the end of their system text."""
    first, *rest = messages
    if first["role"] == "system" and isinstance(first["content"], str):
        return [{**first, "content": f"{first['content']}\n\n{instruction}"}, *rest]
    return [{"role": "system", "content": instruction}, *messages]


def _schema_of(requested: Mapping[str, Any]) -> Any:
    """Return the schema of a format, nested as in chat or flat as in Responses."""
    wrapper = requested.get("json_schema", requested)
    return wrapper.get("schema") if isinstance(wrapper, Mapping) else None

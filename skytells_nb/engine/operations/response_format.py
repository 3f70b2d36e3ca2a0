"""Asking for JSON of a schema, whether a service takes schemas, only "some JSON object", or neither.

Which of them it is shows when a request is refused. The refused one costs nothing and is sent again at once in the next
weaker form, so that no row is paid twice; the process then remembers. The cache keeps an answer under what was wanted,
in whatever form it was asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from skytells_nb.client.client import Skytells
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.operations.requests import BatchResult, CompletionOperation, Read, read_here
from skytells_nb.engine.operations.row_packing import BatchedCompletion
from skytells_nb.engine.planning import estimate_tokens
from skytells_nb.engine.results import ResultBuffer
from skytells_nb.errors import BadRequestError, ContentPolicyError, ContextLengthError, SkytellsError

T = TypeVar("T")

RESPONSE_FORMATS = ("json_schema", "json_object", "words")
"""From the strictest to the weakest; the last two say the schema in the system text."""
REFUSED_WITHIN_S = 2.0
"""A form is refused before anything is computed, so a request that took longer is being answered."""

_FORM_WORDS = ("response_format", "text.format", "json_schema", "json_object", "structured output")
_OF_ONE_SCHEMA = re.compile(r"(?<!json_)(?<!json )schema", re.IGNORECASE)


def with_format_fallback(job: Job, origin: str) -> Job:
    """The same job, whose ``response_format`` gives way where the service refuses it."""
    wanted = job.params.get("response_format")
    if not isinstance(wanted, Mapping) or wanted.get("type") != RESPONSE_FORMATS[0]:
        return job
    known, name = _known(origin, job.model), schema_name(wanted)
    words = (
        0
        if known.form(name) == RESPONSE_FORMATS[0]
        else math.ceil(estimate_tokens(schema_words(wanted)) / job.max_items)
    )
    work = cast(CompletionOperation | BatchedCompletion, job.work)
    return replace(job, work=FormatFallbackOperation(work, known, name), overhead_tokens=job.overhead_tokens + words)


def schema_name(wanted: Mapping[str, Any]) -> str:
    """What tells one schema from another."""
    return hashlib.blake2b(json.dumps(wanted, sort_keys=True).encode(), digest_size=16).hexdigest()


def schema_words(wanted: Mapping[str, Any]) -> str:
    """What the system text says where the schema cannot be sent as such; some services want to read "JSON" there."""
    schema = json.dumps(_schema_of(wanted), ensure_ascii=False, separators=(",", ":"))
    return f"Answer with one JSON object and nothing else. It fits this JSON schema: {schema}"


def rejects_response_format(problem: SkytellsError) -> bool:
    """Whether a request was refused because of the form that was asked for."""
    if not isinstance(problem, BadRequestError) or isinstance(problem, (ContentPolicyError, ContextLengthError)):
        return False
    root = (problem.param or "").partition(".")[0].partition("[")[0]
    if root not in ("", "messages", "input"):
        return root in ("response_format", "text")
    return any(word in problem.message.lower() for word in _FORM_WORDS)


class FormatSupport:
    """What one model at one origin has taken and refused so far. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._weakest = 0
        self._of_schema: dict[str, int] = {}
        self._settled: set[str] = set()
        self._probes: dict[str, threading.Thread] = {}

    def form(self, name: str) -> str:
        """The form to ask in for the schema of this name."""
        return RESPONSE_FORMATS[self._level(name)]

    def ask(self, name: str, send: Callable[[str], T]) -> T:
        """What ``send`` gives in the strictest form that is not refused.

        While nobody knows which that is, one thread tries and the others wait for it, so that it is found out once.
        """
        while True:
            self._enter(name)
            level = self._level(name)
            try:
                answer = send(RESPONSE_FORMATS[level])
            except SkytellsError as problem:
                if level + 1 == len(RESPONSE_FORMATS) or not rejects_response_format(problem):
                    raise
                self._downgrade(name, level, str(problem))
                continue
            finally:
                self._leave(name)
            self._settle(name)
            return answer

    def _level(self, name: str) -> int:
        return max(self._weakest, self._of_schema.get(name, 0))

    def _enter(self, name: str) -> None:
        me = threading.current_thread()
        with self._changed:
            if name not in self._settled and self._probes.setdefault(name, me) is not me:
                self._changed.wait_for(lambda: name in self._settled or name not in self._probes, REFUSED_WITHIN_S)

    def _leave(self, name: str) -> None:
        with self._changed:
            if self._probes.get(name) is threading.current_thread():
                del self._probes[name]
                self._changed.notify_all()

    def _settle(self, name: str) -> None:
        if name not in self._settled:
            with self._changed:
                self._settled.add(name)
                self._changed.notify_all()

    def _downgrade(self, name: str, level: int, said: str) -> None:
        with self._changed:
            if self._level(name) != level:
                return
            # Refused may be this schema or all of them, and the other schemas must not suffer for one.
            if level == 0 and _OF_ONE_SCHEMA.search(said):
                self._of_schema[name] = level + 1
            else:
                self._weakest = level + 1


class FormatFallbackOperation:
    """Work whose requests are asked in any form; everything else is that of ``work``."""

    def __init__(self, work: CompletionOperation | BatchedCompletion, known: FormatSupport, name: str) -> None:
        self._work = work
        self._known = known
        self._name = name

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        asking = _AskingClient(client, self._known, self._name)
        delivery = self._work.send(cast(Skytells, asking), inputs)
        return replace(delivery, rejected_attempts=asking.refused)

    def body(self, inputs: Sequence[str]) -> dict[str, Any]:
        """What is sent for these inputs, in the form that is known to be taken."""
        return in_format(self._known.form(self._name), self._work.body(inputs))

    def answers(self, count: int) -> ResultBuffer:
        return self._work.answers(count)

    def learn(self, values: Sequence[bytes]) -> None:
        self._work.learn(values)

    def kept(self, problem: Exception) -> bytes | None:
        return self._work.kept(problem)

    def refusal(self, value: bytes) -> Exception | None:
        return self._work.refusal(value)

    def output_tokens(self) -> float:
        return self._work.output_tokens()

    def most_output_tokens(self) -> float:
        return self._work.most_output_tokens()


class _AskingClient:
    """A client whose completions are asked for in any form."""

    def __init__(self, client: Skytells, known: FormatSupport, name: str) -> None:
        self.chat = SimpleNamespace(completions=_Asked(client.chat.completions.create, known, name))
        self.responses = _Asked(client.responses.create, known, name)

    @property
    def refused(self) -> int:
        """Requests that were refused for their form."""
        return int(self.chat.completions.refused) + self.responses.refused


class _Asked:
    def __init__(self, create: Callable[..., Any], known: FormatSupport, name: str) -> None:
        self._create = create
        self._known = known
        self._name = name
        self.refused = 0

    def create(self, **body: Any) -> Any:
        tries = 0

        def send(form: str) -> Any:
            nonlocal tries
            tries += 1
            return self._create(**in_format(form, body))

        answer = self._known.ask(self._name, send)
        self.refused += tries - 1
        return answer


@dataclass(frozen=True, slots=True)
class _Place:
    origin: str
    model: str


_places: dict[_Place, FormatSupport] = {}
_lock = threading.Lock()


def _known(origin: str, model: str) -> FormatSupport:
    with _lock:
        return _places.setdefault(_Place(origin, model), FormatSupport())


def in_format(form: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request, of either API, as this form has it."""
    text = dict(body.get("text") or {})
    wanted = body.get("response_format") or text.pop("format", None)
    if form == RESPONSE_FORMATS[0] or not isinstance(wanted, Mapping) or wanted.get("type") != RESPONSE_FORMATS[0]:
        return dict(body)
    made = {name: value for name, value in body.items() if name not in ("response_format", "text")}
    plain = {"type": "json_object"} if form == "json_object" else None
    words = schema_words(wanted)
    if "messages" in body:
        made["messages"] = _with_words(body["messages"], words)
        return {**made, "response_format": plain} if plain else made
    made["instructions"] = "\n\n".join(filter(None, (body.get("instructions"), words)))
    text.update({"format": plain} if plain else {})
    return {**made, "text": text} if text else made


def _with_words(messages: Sequence[Any], words: str) -> list[Any]:
    """The messages with these words at the end of their system text."""
    first, *rest = messages
    if first["role"] == "system" and isinstance(first["content"], str):
        return [{**first, "content": f"{first['content']}\n\n{words}"}, *rest]
    return [{"role": "system", "content": words}, *messages]


def _schema_of(wanted: Mapping[str, Any]) -> Any:
    """The schema in a format as chat nests it, or flat as Responses has it."""
    holder = wanted.get("json_schema", wanted)
    return holder.get("schema") if isinstance(holder, Mapping) else None

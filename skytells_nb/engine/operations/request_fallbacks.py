"""Requests in the forms that a service takes: formats of answers, names of parameters, defaults of this library.

What is rejected shows when a request is. The rejected one costs nothing and is sent again at once in the next weaker
form, so no row is paid for twice; the profile of the service then holds it. The cache stores an answer under the
requested form, in whatever form it was sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Protocol, cast

from skytells_nb.client.client import Skytells
from skytells_nb.client.rejected_parameters import rejects_parameter
from skytells_nb.engine.operations.jobs import (
    BatchResult,
    Job,
    LibraryDefault,
    Operation,
    Read,
    read_here,
)
from skytells_nb.engine.operations.response_format import (
    RESPONSE_FORMATS,
    apply_format,
    concerns_one_schema,
    rejects_response_format,
    schema_instruction,
    schema_name,
)
from skytells_nb.engine.planning import estimate_tokens
from skytells_nb.engine.results import ResultBuffer
from skytells_nb.engine.service.profile import Downgrade, ServiceProfile
from skytells_nb.errors import BadRequestError, ContentPolicyError, ContextLengthError, SkytellsError

FORMAT = "format"
OTHER_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The limit of tokens has two names, and some models take one of them only."""
_UNKNOWN_NAME = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|extra|not permitted|not allowed|deprecated|removed|no longer|"
    r"unsupported|does not (?:accept|exist)|invalid (?:parameter|argument|field)|instead",
    re.IGNORECASE,
)


def with_fallbacks(job: Job, profile: ServiceProfile) -> Job:
    """Return the same job, sent in the forms that the service takes."""
    forms = _forms(job)
    if not forms or job.body is None:
        return job
    requested = job.params.get("response_format")
    instruction_tokens = 0
    if FORMAT in forms and isinstance(requested, Mapping) and profile.level(*forms_of_schema(requested)):
        instruction_tokens = math.ceil(estimate_tokens(schema_instruction(requested)) / job.max_items)
    operation = FallbackOperation(cast(CompletionWithBody, job.operation), profile, forms)
    return replace(
        job, operation=operation, body=operation.body, overhead_tokens=job.overhead_tokens + instruction_tokens
    )


def forms_of_schema(requested: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of the levels of a requested format: of every schema, and of this one."""
    return FORMAT, f"{FORMAT} {schema_name(requested)}"


def _forms(job: Job) -> list[str]:
    requested = job.params.get("response_format")
    is_schema = isinstance(requested, Mapping) and requested.get("type") == RESPONSE_FORMATS[0]
    forms = [*(forms_of_schema(requested) if is_schema and isinstance(requested, Mapping) else ())]
    forms += [name for name, value in job.params.items() if isinstance(value, LibraryDefault)]
    # The Responses API has one name for the limit.
    return forms + [name for name in OTHER_NAMES if job.endpoint == "chat/completions" and job.params.get(name)]


class CompletionWithBody(Operation, Protocol):
    """An operation on completions, which can show what it sends."""

    def body(self, inputs: Sequence[str]) -> dict[str, Any]:
        """Return what is sent for these inputs."""
        ...


class FallbackOperation:
    """An operation whose requests are downgraded where they are rejected; everything else is that of ``operation``."""

    def __init__(self, operation: CompletionWithBody, profile: ServiceProfile, forms: Sequence[str]) -> None:
        self._operation = operation
        self._profile = profile
        self._forms = forms

    def send(self, client: Skytells, inputs: Sequence[str], read: Read = read_here) -> BatchResult:
        fallback = _FallbackClient(client, self._profile, self._forms)
        result = self._operation.send(cast(Skytells, fallback), inputs)
        return replace(result, rejected_attempts=fallback.rejected)

    def body(self, inputs: Sequence[str]) -> dict[str, Any]:
        """Return what is sent for these inputs, in the forms that are known to be taken."""
        return downgrade_body(self._operation.body(inputs), {name: self._profile.level(name) for name in self._forms})

    def make_buffer(self, count: int) -> ResultBuffer:
        return self._operation.make_buffer(count)

    def observe(self, values: Sequence[bytes]) -> None:
        self._operation.observe(values)

    def cacheable_error(self, problem: Exception) -> bytes | None:
        return self._operation.cacheable_error(problem)

    def cached_error(self, value: bytes) -> Exception | None:
        return self._operation.cached_error(value)

    def output_tokens(self) -> float:
        return self._operation.output_tokens()

    def max_output_tokens(self) -> float:
        return self._operation.max_output_tokens()


class _FallbackClient:
    """A client whose completions are sent again in a weaker form."""

    def __init__(self, client: Skytells, profile: ServiceProfile, forms: Sequence[str]) -> None:
        self.chat = SimpleNamespace(completions=_FallbackMethod(client.chat.completions.create, profile, forms))
        self.responses = _FallbackMethod(client.responses.create, profile, forms)

    @property
    def rejected(self) -> int:
        """Requests that were rejected for their form."""
        return int(self.chat.completions.rejected) + self.responses.rejected


class _FallbackMethod:
    def __init__(self, create: Callable[..., Any], profile: ServiceProfile, forms: Sequence[str]) -> None:
        self._create = create
        self._profile = profile
        self._forms = forms
        self.rejected = 0

    def create(self, **body: Any) -> Any:
        attempts = 0

        def attempt(levels: Mapping[str, int]) -> Any:
            nonlocal attempts
            attempts += 1
            return self._create(**downgrade_body(body, levels))

        response = self._profile.send(self._forms, attempt, _choose_downgrade(self._profile, body))
        self.rejected += attempts - 1
        return response


def _choose_downgrade(profile: ServiceProfile, body: Mapping[str, Any]) -> Downgrade:
    """Return the function that chooses what to downgrade in this body after a rejection."""

    def choose(problem: SkytellsError, levels: Mapping[str, int]) -> tuple[str, int] | None:
        defaults = [name for name in levels if isinstance(body.get(name), LibraryDefault) and not levels[name]]
        for name in defaults:
            if rejects_parameter(problem, name):
                return name, 1
        for name, other in OTHER_NAMES.items():
            if name in levels and name in body and rejects_parameter(problem, other if levels[name] else name):
                return _other_name(problem, name, other, levels[name])
        formats = [name for name in levels if name.startswith(FORMAT)]
        if formats and rejects_response_format(problem):
            level = max(levels[name] for name in formats)
            if level + 1 < len(RESPONSE_FORMATS):
                # Either this schema or all of them are rejected, and one must not downgrade the others.
                return formats[level == 0 and concerns_one_schema(problem)], level + 1
        # A rejection that names nothing, before this library's own default was ever accepted: tried once without it.
        if defaults and profile.get_fact(defaults[0]) is None and not profile.trial_made and _is_unexplained(problem):
            profile.trial_made = True
            return defaults[0], 1
        return None

    return choose


def _other_name(problem: SkytellsError, name: str, other: str, level: int) -> tuple[str, int] | None:
    """Return the other name of a limit, unless its value was rejected and not its name."""
    named = rejects_parameter(problem, other) and not level
    return (name, 1) if not level and (named or _UNKNOWN_NAME.search(str(problem))) else None


def _is_unexplained(problem: SkytellsError) -> bool:
    return (
        isinstance(problem, BadRequestError)
        and not isinstance(problem, (ContentPolicyError, ContextLengthError))
        and problem.param is None
    )


def downgrade_body(body: Mapping[str, Any], levels: Mapping[str, int]) -> dict[str, Any]:
    """Return the body of a request, of either API, in forms of these levels."""
    weaker = dict(body)
    for name, value in body.items():
        if isinstance(value, LibraryDefault):
            # Only the parameter of the whole job: that of a single row is its own and has no such type.
            if levels.get(name):
                del weaker[name]
            else:
                weaker[name] = int(value) if name == "seed" else float(value)
    for name, other in OTHER_NAMES.items():
        if levels.get(name) and name in weaker:
            weaker[other] = weaker.pop(name)
    level = max((level for name, level in levels.items() if name.startswith(FORMAT)), default=0)
    return apply_format(RESPONSE_FORMATS[level], weaker)

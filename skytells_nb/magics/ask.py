"""Send one question to a model, and show the response as it arrives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skytells_nb.errors import (
    APIError,
    ContentPolicyError,
    InvalidResponseError,
    ReplayMissError,
    SkytellsError,
)
from skytells_nb.magics.question import Answer, CellQuestion
from skytells_nb.magics.structured_output import JsonMode
from skytells_nb.types.responses import Response
from skytells_nb.widgets.growing_text import separate_reasoning
from skytells_nb.widgets.status_text import INTERRUPTED, finish_reason_for

if TYPE_CHECKING:
    from skytells_nb.engine.operations.jobs import Job
    from skytells_nb.magics.output import CellOutput
    from skytells_nb.session import Session

NOT_RECORDED = "A recording holds df.skytells calls and cells with --cache, and nothing else."


@dataclass(frozen=True, slots=True)
class AskOutcome:
    """The answer as far as it arrived (``None`` if nothing did), and what stopped it.

    ``reasoning`` is what the model wrote before its answer, which is no part of it. ``json_mode`` is how JSON was
    requested in the end, if it was.
    """

    answer: Answer | None
    error: KeyboardInterrupt | SkytellsError | None = None
    cached: bool = False
    reasoning: str = ""
    json_mode: JsonMode | None = None


def ask_with_cache(session: Session, question: CellQuestion, output: CellOutput) -> AskOutcome:
    """Return the cached answer if the cell uses the cache and there is one; otherwise ask and cache a complete answer.

    In replay mode every answer comes from the cache; raises ReplayMissError if it was not recorded.
    """
    entry = question.as_job() if question.cache or session.recording else None
    if entry is None:
        return ask(session, question, output)
    job, text = entry
    try:
        with session.engine.hold(job, text) as cached:
            if cached is None:
                outcome = ask(session, question, output)
                _store(session, question, outcome, job, text)
                return outcome
    except ContentPolicyError as error:
        return AskOutcome(None, error, cached=True)
    except ReplayMissError as missing:
        missing.add_note(NOT_RECORDED)
        raise
    except KeyboardInterrupt as interrupt:
        # Nothing was sent: another process is requesting the answer.
        return AskOutcome(question.empty_answer(INTERRUPTED), interrupt)
    from skytells_nb.engine.operations.cached import CachedCompletion

    answer = question.cached_answer(CachedCompletion.from_bytes(cached))
    output.write(question.display_parts(answer))
    return AskOutcome(separate_reasoning(answer)[1], cached=True)


def _store(session: Session, question: CellQuestion, outcome: AskOutcome, job: Job, text: str) -> None:
    """Cache a complete answer in the requested format, or an error that would be the same again."""
    from skytells_nb.engine.operations.cached import CachedCompletion

    record: bytes | None = None
    if outcome.error is not None:
        record = job.operation.cacheable_error(outcome.error) if isinstance(outcome.error, Exception) else None
    elif outcome.answer is not None and question.matches_format(outcome.answer):
        # A cell that shows the cached answer shows its reasoning too.
        completion = CachedCompletion.from_response(outcome.answer)
        reasoning = outcome.reasoning or question.reasoning(outcome.answer)
        record = replace(completion, reasoning=reasoning).to_bytes()
    if record is not None:
        session.engine.store(job, text, record)


def ask(session: Session, question: CellQuestion, output: CellOutput) -> AskOutcome:
    """Send the question and show the answer as it arrives; retry with a weaker JSON mode if the service rejects one.

    An interrupt or an error does not raise: the connection is closed, and the outcome holds what arrived, with the
    finish reason "interrupted", "truncated" or "error".
    """
    while True:
        outcome = _without_reasoning(_ask_once(session, question, output))
        json_format = question.json_format
        weaker = json_format.fallback() if json_format is not None and _rejects_format(outcome) else None
        if weaker is None:
            return replace(outcome, json_mode=json_format.mode if json_format is not None else None)
        question = replace(question, json_format=weaker)


def _without_reasoning(outcome: AskOutcome) -> AskOutcome:
    if outcome.answer is None:
        return outcome
    reasoning, answer = separate_reasoning(outcome.answer)
    return replace(outcome, answer=answer, reasoning=reasoning)


def _rejects_format(outcome: AskOutcome) -> bool:
    """Whether the service rejected the request because of the response format."""
    if not isinstance(outcome.error, APIError):
        return False
    from skytells_nb.engine.operations.response_format import rejects_response_format

    return rejects_response_format(outcome.error)


def _ask_once(session: Session, question: CellQuestion, output: CellOutput) -> AskOutcome:
    stream = None
    try:
        if not question.stream:
            answer: Answer = question.send(session.client)
            output.write(question.display_parts(answer))
            return AskOutcome(answer, _failure(answer))
        stream = question.open_stream(session.client)
        with stream:
            for piece in stream:
                output.write(question.display_parts(piece))
        answer = stream.partial(finish_reason=None)
        return AskOutcome(answer, _failure(answer))
    except (KeyboardInterrupt, SkytellsError) as error:
        reason = finish_reason_for(error)
        if stream is not None:
            return AskOutcome(stream.partial(finish_reason=reason), error)
        return AskOutcome(question.empty_answer(reason) if reason == INTERRUPTED else None, error)


def _failure(answer: Answer) -> InvalidResponseError | None:
    """Return an error if the service reports a complete response as failed."""
    if not isinstance(answer, Response) or answer.status not in ("failed", "cancelled"):
        return None
    details = answer.error or {}
    reason = ": ".join(str(details[name]) for name in ("code", "message") if details.get(name)) or "no reason was sent"
    return InvalidResponseError(
        f"The service ended the response as {answer.status}: {reason}", request_id=answer.request_id
    )

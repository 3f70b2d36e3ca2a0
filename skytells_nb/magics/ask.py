"""One question to a model, its answer shown while it comes, and kept however it ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skytells_nb.errors import ContentPolicyError, InvalidResponseError, ReplayMissError, SkytellsError
from skytells_nb.magics.question import Answer, CellQuestion
from skytells_nb.magics.structured_output import Way, refuses_form
from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.responses import Response
from skytells_nb.widgets.messages import INTERRUPTED, reason_for

if TYPE_CHECKING:
    from skytells_nb.magics.output import CellOutput
    from skytells_nb.session import Session

NOT_RECORDED = "A recording holds df.skytells calls and %%skytells_chat cells with --cache, no others."


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer as far as it came (``None`` where nothing did), and what stopped it.

    ``way`` is how JSON was asked for in the end, where it was.
    """

    answer: Answer | None
    problem: KeyboardInterrupt | SkytellsError | None = None
    cached: bool = False
    way: Way | None = None


def answer_to(session: Session, question: CellQuestion, screen: CellOutput) -> Answered:
    """The kept answer where one is wanted and there, else ``ask``, whose whole answer is kept where that is wanted.

    In replay mode the kept answer is always wanted; raises ReplayMissError where it was not recorded.
    """
    key = question.key() if question.cache or session.recording else None
    if key is None:
        return ask(session, question, screen)
    from skytells_nb.engine.operations.cached import CachedCompletion

    job, text = key
    try:
        kept = session.engine.recall(job, text)
    except ContentPolicyError as refusal:
        return Answered(None, refusal, cached=True)
    except ReplayMissError as missing:
        missing.add_note(NOT_RECORDED)
        raise
    if kept is not None:
        answer = CachedCompletion.from_bytes(kept).to_answer()
        screen.show(question.pieces(answer))
        return Answered(answer, cached=True)
    outcome = ask(session, question, screen)
    if outcome.problem is not None:
        worth_keeping = job.work.kept(outcome.problem) if isinstance(outcome.problem, Exception) else None
    else:
        whole = outcome.answer if isinstance(outcome.answer, ChatCompletion) else None
        worth_keeping = CachedCompletion.of(whole).to_bytes() if whole is not None and question.fits(whole) else None
    if worth_keeping is not None:
        session.engine.keep(job, text, worth_keeping)
    return outcome


def ask(session: Session, question: CellQuestion, screen: CellOutput) -> Answered:
    """Send the question and show the answer as it arrives; JSON in a weaker way where the service refuses one.

    An interrupt or an error does not raise: the connection is closed, and the outcome holds what came with the
    finish_reason "interrupted", "truncated" or "error".
    """
    while True:
        outcome = _ask_once(session, question, screen)
        refused = isinstance(outcome.problem, SkytellsError) and refuses_form(outcome.problem)
        weaker = question.form.weaker() if question.form is not None and refused else None
        if weaker is None:
            return replace(outcome, way=question.form.way if question.form is not None else None)
        question = replace(question, form=weaker)


def _ask_once(session: Session, question: CellQuestion, screen: CellOutput) -> Answered:
    stream = None
    try:
        if not question.stream:
            answer: Answer = question.send(session.client)
            screen.show(question.pieces(answer))
            return Answered(answer, _failure(answer))
        stream = question.begin(session.client)
        with stream:
            for piece in stream:
                screen.show(question.pieces(piece))
        answer = stream.partial(finish_reason=None)
        return Answered(answer, _failure(answer))
    except (KeyboardInterrupt, SkytellsError) as problem:
        reason = reason_for(problem)
        if stream is not None:
            return Answered(stream.partial(finish_reason=reason), problem)
        return Answered(question.nothing(reason) if reason == INTERRUPTED else None, problem)


def _failure(answer: Answer) -> InvalidResponseError | None:
    """What went wrong where the service itself says of a whole answer that it failed."""
    if not isinstance(answer, Response) or answer.status not in ("failed", "cancelled"):
        return None
    told = answer.error or {}
    why = ": ".join(str(told[name]) for name in ("code", "message") if told.get(name)) or "it does not say why"
    return InvalidResponseError(
        f"The service gave the answer up as {answer.status}: {why}", request_id=answer.request_id
    )

"""One question to a model, its answer shown while it comes, and kept however it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skytells_nb.errors import ContentPolicyError, SkytellsError, TruncatedStreamError
from skytells_nb.widgets.live import Live
from skytells_nb.wire.chat import ChatCompletion, ChatMessage, Choice

if TYPE_CHECKING:
    from skytells_nb.session import Session

INTERRUPTED = "interrupted"
TRUNCATED = "truncated"
FAILED = "error"


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent."""

    model: str
    prompt: str
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stream: bool = True
    cache: bool = False

    def options(self) -> dict[str, Any]:
        """What is sent beside the messages, where it was given."""
        given = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in given.items() if value is not None}

    def parameters(self) -> dict[str, Any]:
        """The arguments of ``client.chat.completions.create``, without ``stream``."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": self.prompt}],
            **self.options(),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer as far as it came (``None`` where nothing did), and what stopped it."""

    answer: ChatCompletion | None
    problem: KeyboardInterrupt | SkytellsError | None = None
    cached: bool = False


def answer_to(session: Session, question: Question, live: Live) -> Outcome:
    """The kept answer where one is wanted and there, else ``ask``, whose whole answer is kept where that is wanted."""
    if not question.cache:
        return ask(session, question, live)
    from skytells_nb.engine.job import completion_job
    from skytells_nb.engine.work import Completed

    # The same key as df.skytells.complete has for this prompt: either finds what the other paid for.
    job = completion_job(question.model, system=question.system, params=question.options())
    try:
        kept = session.engine.recall(job, question.prompt)
    except ContentPolicyError as refusal:
        return Outcome(None, refusal, cached=True)
    if kept is not None:
        answer = Completed.from_bytes(kept).to_answer()
        live.write(answer.text)
        return Outcome(answer, cached=True)
    outcome = ask(session, question, live)
    if outcome.problem is not None:
        worth_keeping = job.work.kept(outcome.problem) if isinstance(outcome.problem, Exception) else None
    else:
        worth_keeping = Completed.of(outcome.answer).to_bytes() if outcome.answer is not None else None
    if worth_keeping is not None:
        session.engine.keep(job, question.prompt, worth_keeping)
    return outcome


def ask(session: Session, question: Question, live: Live) -> Outcome:
    """Send the question and write the answer to ``live`` as it arrives.

    An interrupt or an error does not raise: the connection is closed, and the outcome holds what came with the
    finish_reason "interrupted", "truncated" or "error".
    """
    completions = session.client.chat.completions
    parameters = question.parameters()
    stream = None
    try:
        if not question.stream:
            answer = completions.create(**parameters)
            live.write(answer.text)
            return Outcome(answer)
        stream = completions.create(**parameters, stream=True, stream_options={"include_usage": True})
        with stream:
            for piece in stream.text:
                live.write(piece)
        return Outcome(stream.so_far(finish_reason=None))
    except (KeyboardInterrupt, SkytellsError) as problem:
        reason = _reason(problem)
        if stream is not None:
            return Outcome(stream.so_far(finish_reason=reason), problem)
        if reason == INTERRUPTED:
            nothing = Choice(finish_reason=reason, message=ChatMessage(content=""))
            return Outcome(ChatCompletion(model=question.model, choices=[nothing]), problem)
        return Outcome(None, problem)


def _reason(problem: BaseException) -> str:
    if isinstance(problem, KeyboardInterrupt):
        return INTERRUPTED
    return TRUNCATED if isinstance(problem, TruncatedStreamError) else FAILED

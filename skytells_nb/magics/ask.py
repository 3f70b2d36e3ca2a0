"""One question to a model, its answer shown while it comes, and kept however it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skytells_nb.errors import SkytellsError, TruncatedStreamError
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

    def parameters(self) -> dict[str, Any]:
        """The arguments of ``client.chat.completions.create``, without ``stream``."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        options = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": self.prompt}],
            **{name: value for name, value in options.items() if value is not None},
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer as far as it came (``None`` where nothing did), and what stopped it."""

    answer: ChatCompletion | None
    problem: KeyboardInterrupt | SkytellsError | None = None


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

"""One question under way: a thread reads the stream, and anyone may end it."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skytells_nb.engine.threads import WakeEvent
from skytells_nb.errors import ContentPolicyError
from skytells_nb.types.chat import ChatCompletion, ChatMessage, Choice
from skytells_nb.types.safety import Safety, findings
from skytells_nb.widgets.chat_panel.transcript import advice
from skytells_nb.widgets.chat_panel.turns import Turn, TurnError
from skytells_nb.widgets.messages import FAILED, INTERRUPTED, finish_reason_for

if TYPE_CHECKING:
    from skytells_nb.client.chat import ChatStream
    from skytells_nb.client.client import Skytells
    from skytells_nb.session import Session
    from skytells_nb.types.models import Price

POLL_INTERVAL_S = 0.1


class Exchange:
    """Asks in a thread of its own. ``write`` gets the text as it comes, ``ended`` the outcome, once, at the end.

    ``find_session`` is called in the thread: finding a key or starting the local Skytells may take a moment. The
    outcome is the session, the answer as far as it came (``None`` where nothing did) and what went wrong.
    """

    def __init__(
        self,
        find_session: Callable[[], Session],
        parameters: dict[str, Any],
        write: Callable[[str], None],
        ended: Callable[[Session | None, ChatCompletion | None, Exception | None], None],
    ) -> None:
        self._find_session = find_session
        self._parameters = parameters
        self._write = write
        self._ended = ended
        self._lock = threading.Lock()
        self._client: Skytells | None = None
        self._stopped = False
        self._over = False
        self._bell = WakeEvent()
        # The copied context tells the kernel which cell the thread's output belongs to.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="skytells-panel", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the connection now; the outcome is what had come."""
        with self._lock:
            self._stopped = True
            client = self._client
        if client is not None:
            client.abort()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it was over within ``timeout`` seconds, its outcome handed on."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._over:
            left = POLL_INTERVAL_S if end is None else min(POLL_INTERVAL_S, end - time.monotonic())
            if left <= 0:
                break
            self._bell.wait(left)
        return self._over

    def join(self, timeout: float) -> None:
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        session = answer = problem = None
        try:
            try:
                session = self._find_session()
                answer, problem = self._ask(session)
            except Exception as found:  # the panel must come back to its user whatever happened in here
                problem = found
            self._ended(session, answer, problem)
        finally:
            self._over = True
            self._bell.set()

    def _ask(self, session: Session) -> tuple[ChatCompletion | None, Exception | None]:
        # A client of its own: only its abort ends a read that waits for the service.
        with session.new_client() as client:
            with self._lock:
                self._client = client
                stopped = self._stopped
            if stopped:
                return self._nothing(), None
            stream: ChatStream | None = None
            try:
                stream = client.chat.completions.create(
                    **self._parameters, stream=True, stream_options={"include_usage": True}
                )
                with stream:
                    for piece in stream.text:
                        self._write(piece)
                return stream.partial(finish_reason=None), None
            except Exception as problem:  # a fault in showing it must not lose what came either
                if self._stopped:
                    return (stream.partial(INTERRUPTED) if stream is not None else self._nothing()), None
                if stream is None:
                    return None, problem
                return stream.partial(finish_reason_for(problem)), problem

    def _nothing(self) -> ChatCompletion:
        choice = Choice(finish_reason=INTERRUPTED, message=ChatMessage(content=""))
        return ChatCompletion(model=self._parameters["model"], choices=[choice])


def answered(answer: ChatCompletion | None, model: str, price: Price | None, problem: Exception | None) -> Turn:
    """The assistant's turn: the answer as far as it came, and what stopped it."""
    told = None if problem is None else TurnError(type(problem).__name__, str(problem), advice(problem))
    if answer is None:
        safety = None
        if isinstance(problem, ContentPolicyError):
            safety = Safety(findings(problem.safety, "prompt"), blocked=True)
        request_id = getattr(problem, "request_id", None)
        return Turn("assistant", "", model, FAILED, safety=safety, request_id=request_id, problem=told)
    used = answer.usage
    return Turn(
        "assistant",
        answer.text,
        answer.model or model,
        answer.finish_reason,
        used.prompt_tokens if used else None,
        used.completion_tokens if used else None,
        price.cost(*answer.tokens) if used and price is not None else None,
        answer.safety,
        answer.request_id,
        told,
    )

"""One question in flight: a thread reads the stream, and any thread may stop it."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from skytells_nb.engine.report import is_plausible_usage
from skytells_nb.engine.single_flight import WakeEvent
from skytells_nb.errors import ContentPolicyError
from skytells_nb.types.chat import ChatCompletion, ChatCompletionChunk, ChatMessage, Choice
from skytells_nb.types.safety import Safety, findings
from skytells_nb.widgets.chat_panel.transcript import advice
from skytells_nb.widgets.chat_panel.turns import Turn, TurnError
from skytells_nb.widgets.growing_text import Part, ReasoningSplitter, field_reasoning, separate_reasoning
from skytells_nb.widgets.status_text import FAILED, INTERRUPTED, finish_reason_for

if TYPE_CHECKING:
    from skytells_nb.client.chat import ChatStream
    from skytells_nb.client.client import Skytells
    from skytells_nb.session import Session
    from skytells_nb.types.models import Price

POLL_INTERVAL_S = 0.1


class Exchange:
    """A request in its own thread: ``on_part`` gets reasoning and text as they arrive, ``on_end`` the outcome, once.

    ``find_session`` is called in the thread: finding a key or starting the local Skytells may take a moment. The
    outcome is the session, the answer as far as it arrived (``None`` if nothing did) and the error.
    """

    def __init__(
        self,
        find_session: Callable[[], Session],
        parameters: dict[str, Any],
        on_part: Callable[[Part], None],
        on_end: Callable[[Session | None, ChatCompletion | None, Exception | None], None],
    ) -> None:
        self._find_session = find_session
        self._parameters = parameters
        self._on_part = on_part
        self._on_end = on_end
        self._lock = threading.Lock()
        self._client: Skytells | None = None
        self._stopped = False
        self._finished = False
        self._done = WakeEvent()
        # The copied context tells the kernel which cell the thread's output belongs to.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="skytells-panel", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the connection now; the outcome is what had arrived."""
        with self._lock:
            self._stopped = True
            client = self._client
        if client is not None:
            client.abort()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; return whether ``on_end`` was called within ``timeout`` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._finished:
            left = POLL_INTERVAL_S if end is None else min(POLL_INTERVAL_S, end - time.monotonic())
            if left <= 0:
                break
            self._done.wait(left)
        return self._finished

    def join(self, timeout: float) -> None:
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        session = answer = error = None
        try:
            try:
                session = self._find_session()
                answer, error = self._ask(session)
            except Exception as failure:  # the panel must stay usable after any error
                error = failure
            self._on_end(session, answer, error)
        finally:
            self._finished = True
            self._done.set()

    def _ask(self, session: Session) -> tuple[ChatCompletion | None, Exception | None]:
        # A separate client, because only aborting it ends a read that waits for the service.
        with session.new_client() as client:
            with self._lock:
                self._client = client
                stopped = self._stopped
            if stopped:
                return self._empty_answer(), None
            stream: ChatStream | None = None
            try:
                stream = client.chat.completions.create(
                    **self._parameters, stream=True, stream_options={"include_usage": True}
                )
                splitter = ReasoningSplitter()
                with stream:
                    for chunk in stream:
                        for part in _parts(chunk, splitter):
                            self._on_part(part)
                for part in splitter.finish():
                    self._on_part(part)
                return stream.partial(finish_reason=None), None
            except Exception as error:  # an error in showing the text must not lose what arrived
                if self._stopped:
                    return (stream.partial(INTERRUPTED) if stream is not None else self._empty_answer()), None
                if stream is None:
                    return None, error
                return stream.partial(finish_reason_for(error)), error

    def _empty_answer(self) -> ChatCompletion:
        choice = Choice(finish_reason=INTERRUPTED, message=ChatMessage(content=""))
        return ChatCompletion(model=self._parameters["model"], choices=[choice])


def _parts(chunk: ChatCompletionChunk, splitter: ReasoningSplitter) -> Iterator[Part]:
    first = next((choice.delta for choice in chunk.choices if choice.index == 0), None)
    if first is not None and first.model_extra and (reasoning := field_reasoning(first)):
        yield "reasoning", reasoning
    if chunk.text:
        yield from splitter.feed(chunk.text)


def assistant_turn(answer: ChatCompletion | None, model: str, price: Price | None, problem: Exception | None) -> Turn:
    """Return the assistant's turn: the answer as far as it arrived, and what stopped it."""
    turn_error = None if problem is None else TurnError(type(problem).__name__, str(problem), advice(problem))
    if answer is None:
        safety = None
        if isinstance(problem, ContentPolicyError):
            safety = Safety(findings(problem.safety, "prompt"), blocked=True)
        request_id = getattr(problem, "request_id", None)
        return Turn("assistant", "", model, FAILED, safety=safety, request_id=request_id, problem=turn_error)
    reasoning, answer = separate_reasoning(answer)
    is_known = is_plausible_usage(*answer.tokens)
    tokens_in, tokens_out = answer.tokens if is_known else (None, None)
    return Turn(
        "assistant",
        answer.text,
        answer.model or model,
        answer.finish_reason,
        tokens_in,
        tokens_out,
        price.cost(*answer.tokens) if is_known and price is not None else None,
        answer.safety,
        answer.request_id,
        turn_error,
        reasoning,
    )

"""A conversation with a model in a panel under a cell."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import skytells_nb.session as sessions
from skytells_nb.errors import InputError, Interrupted, MissingExtraError
from skytells_nb.types.models import LISTED_PRICES
from skytells_nb.widgets.chat_panel.attachments import Attachment, attach
from skytells_nb.widgets.chat_panel.exchange import Exchange, assistant_turn
from skytells_nb.widgets.chat_panel.notebook import (
    attachable_names,
    notebook_variable,
    notebook_variables,
    put_into_new_cell,
)
from skytells_nb.widgets.chat_panel.transcript import Transcript, describe_usage, turns_for_page, unanswered_note
from skytells_nb.widgets.chat_panel.turns import COLUMNS, Turn, messages, read_messages
from skytells_nb.widgets.display import Mode, cell_publish, display_mode, model_id, new_display_id, next_name
from skytells_nb.widgets.growing_text import Part
from skytells_nb.widgets.live import StreamingOutput
from skytells_nb.widgets.reasoning import ReasoningOutput

if TYPE_CHECKING:
    import pandas as pd

    from skytells_nb.session import Session
    from skytells_nb.types.chat import ChatCompletion

CLOSE_WAIT_S = 5.0
"""How long ``close`` and an interrupt wait for a stopped answer."""


class ChatPanel:
    """A chat below the cell that shows it: answers stream in, Stop or Escape ends one, and the notebook stores it all.

    Making it sends nothing. Enter sends, Shift+Enter starts a new line, Escape stops. On the page the last answer can
    be tried again, a question edited and sent again, a block of code copied or put into a new cell, a variable or an
    image attached, and a new chat begun. The page shows the panel while the kernel lives, also after a reload; beside
    it the cell stores a transcript as plain HTML, for readers without a kernel. An error is shown in the panel, which
    stays usable; a question without any answer is not sent again with the next one. Answers that others replaced are
    part of the cost. It is a context manager that closes itself at the end.

    Parameters
    ----------
    session : Session, optional
        The session; by default the default session at the time of each question.
    model : str, optional
        The model; by default the session's.
    system : str, optional
        The system text, sent before every question.
    messages : iterable of mapping, optional
        An earlier conversation as ``{"role": ..., "content": ...}``, such as another panel's ``messages``.
    title : str, default "Skytells chat"
        Title of the panel.
    remote_images : bool, default False
        Whether answers load the images that they link to. This tells their servers that they are shown, and what the
        model put into the addresses.

    Raises
    ------
    InputError
        If ``messages`` is not a conversation.
    MissingExtraError
        If the extra ``notebook`` is not installed.

    Examples
    --------
    >>> panel = ChatPanel(system="Answer in one word.")
    >>> turn = panel.send("What color is the sky?")
    >>> turn.role, panel.to_frame()["role"].tolist()
    ('assistant', ['user', 'assistant'])
    >>> panel.close()
    """

    def __init__(
        self,
        session: Session | None = None,
        *,
        model: str | None = None,
        system: str | None = None,
        messages: Iterable[Mapping[str, Any]] | None = None,
        title: str = "Skytells chat",
        remote_images: bool = False,
    ) -> None:
        for module in ("anywidget", "markdown_it", "nh3"):
            if find_spec(module) is None:
                raise MissingExtraError(f"The chat panel ({module} is missing)", "notebook")
        from skytells_nb.widgets.chat_panel.view import PanelView

        found_system, self._turns = read_messages(messages or ())
        self._session = session
        self._remote_images = remote_images
        self._replaced: list[Turn] = []
        self._attachments: tuple[Attachment, ...] = ()
        self._lock = threading.RLock()
        self._exchange: Exchange | None = None
        self._live: StreamingOutput | None = None
        self._busy = False
        self._failure: Exception | None = None
        self._display_id = new_display_id()
        self._display_mode: Mode | None = None
        self._closed = False
        names = self._known_models()
        name = next_name("panel")
        self._view = PanelView(
            model_id=model_id(name),
            title=title,
            models=list(dict.fromkeys([*([model] if model else []), *names])),
            model=model or names[0],
            system=(found_system or "") if system is None else system,
            turns=turns_for_page(self._turns, remote_images=remote_images),
            saved_class=name,
        )
        self._view.on_msg(self._on_message)

    @property
    def model(self) -> str:
        """The model that the next question goes to."""
        return str(self._view.model)

    @model.setter
    def model(self, name: str) -> None:
        self._view.models = list(dict.fromkeys([*self._view.models, name]))
        self._view.model = name

    @property
    def system(self) -> str:
        """The system text, sent before every question; empty for none."""
        return str(self._view.system)

    @system.setter
    def system(self, text: str | None) -> None:
        self._view.system = text or ""

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Every turn that the panel shows, in order."""
        with self._lock:
            return tuple(self._turns)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation as ``{"role", "content"}``, system text first; unanswered questions are left out.

        The content of a question with images is a list of parts.
        """
        return messages(self.turns, self.system)

    @property
    def busy(self) -> bool:
        """Whether an answer is in flight."""
        return self._busy

    @property
    def partial(self) -> str:
        """The text so far of the answer in flight; empty without one."""
        live = self._live
        return live.text if live is not None and self.busy else ""

    @property
    def widget(self) -> Any:
        """The widget itself, to be put into a layout of other widgets."""
        return self._view

    def send(self, text: str, *, wait: bool = True) -> Turn | None:
        """Send a question, and wait for the answer.

        While the call waits the kernel is busy, so the panel's own Stop button has to wait too.

        Parameters
        ----------
        text : str
            The question.
        wait : bool, default True
            Whether to wait; otherwise call ``wait()`` later.

        Returns
        -------
        Turn or None
            The answer's turn; ``None`` with ``wait=False``.

        Raises
        ------
        InputError
            If the text is empty, another answer is in flight, or the panel is closed.
        SkytellsError
            Whatever ended the answer, after the panel has shown it.
        Interrupted
            If Ctrl-C stopped the answer; what arrived is in the panel.

        Examples
        --------
        >>> with ChatPanel() as panel:
        ...     panel.send("Say hello.").role
        'assistant'
        """
        self._ask(text)
        return self.wait() if wait else None

    def retry(self, *, wait: bool = True) -> Turn | None:
        """Ask the last question again, of the model chosen now; the new answer replaces the last one.

        The replaced answer stays in the cost of the panel. If no text arrives, it stays in the conversation too.

        Parameters
        ----------
        wait : bool, default True
            As in ``send``.

        Returns
        -------
        Turn or None
            As in ``send``.

        Raises
        ------
        InputError
            If there is no question yet, another answer is in flight, or the panel is closed.
        SkytellsError
            As in ``send``.

        Examples
        --------
        >>> with ChatPanel() as panel:
        ...     turns = panel.send("Say hello."), panel.retry()
        ...     len(panel.turns)
        2
        """
        self._ask_again(None, None)
        return self.wait() if wait else None

    def edit(self, text: str, *, turn: int | None = None, wait: bool = True) -> Turn | None:
        """Replace a question, and everything after it, by another question, and send it.

        The replaced answers stay in the cost of the panel. If no text arrives, they stay in the conversation too.
        Attachments of the question are sent again.

        Parameters
        ----------
        text : str
            The new question.
        turn : int, optional
            The number of the question, as in ``to_frame()``; by default the last one.
        wait : bool, default True
            As in ``send``.

        Returns
        -------
        Turn or None
            As in ``send``.

        Raises
        ------
        InputError
            If there is no such question, the text is empty, another answer is in flight, or the panel is closed.
        SkytellsError
            As in ``send``.

        Examples
        --------
        >>> with ChatPanel() as panel:
        ...     turns = panel.send("Say hello."), panel.edit("Say goodbye.")
        ...     panel.messages[0]["content"]
        'Say goodbye.'
        """
        self._ask_again(text, turn)
        return self.wait() if wait else None

    def attach(self, **values: Any) -> None:
        """Attach values to the next question, under their names.

        Bytes, a path and a PIL image are sent as an image (PNG, JPEG, GIF or WebP). Everything else is sent as text
        below the question, as ``-v`` of a cell writes it: of a DataFrame its shape, its types and its first rows.

        Parameters
        ----------
        **values : object
            The values by name.

        Raises
        ------
        InputError
            If a value has no text form, or is an image that cannot be sent.

        Examples
        --------
        >>> panel = ChatPanel()
        >>> panel.attach(total=12.5)
        >>> panel.widget.attachments
        [{'name': 'total', 'kind': 'float'}]
        """
        added = tuple(attach(name, value) for name, value in values.items())
        with self._lock:
            kept = (a for a in self._attachments if a.name not in values)
            self._show_attachments((*kept, *added))

    def wait(self, timeout: float | None = None) -> Turn | None:
        """Wait until the answer is complete.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Returns
        -------
        Turn or None
            The answer's turn; ``None`` if there is none within ``timeout``.

        Raises
        ------
        SkytellsError
            As in ``send``.

        Examples
        --------
        >>> with ChatPanel() as panel:
        ...     panel.send("Say hello.", wait=False)
        ...     panel.wait().role
        'assistant'
        """
        exchange = self._exchange
        if exchange is None:
            return None
        try:
            over = exchange.wait(timeout)
        except KeyboardInterrupt:
            exchange.stop()
            exchange.wait(CLOSE_WAIT_S)
            raise Interrupted("The answer was stopped; what had arrived is in the panel.") from None
        if not over:
            return None
        with self._lock:
            failure, self._failure = self._failure, None
            turn = self._turns[-1] if self._turns else None
        if failure is not None:
            raise failure
        return turn

    def stop(self) -> None:
        """End the answer in flight: its connection closes, what arrived stays, marked as interrupted.

        Examples
        --------
        >>> ChatPanel().stop()
        """
        exchange = self._exchange
        if exchange is not None:
            exchange.stop()

    def clear(self) -> None:
        """Start a new chat: remove every turn and attachment, after stopping an answer in flight.

        Model and system text stay.

        Examples
        --------
        >>> panel = ChatPanel(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}])
        >>> panel.clear()
        >>> panel.messages
        []
        """
        self._stop_and_wait()
        with self._lock:
            self._turns, self._replaced = [], []
            self._view.notice = ""
            self._show_attachments(())
        self._update()

    def to_frame(self) -> pd.DataFrame:
        """Return the conversation as a frame.

        Returns
        -------
        pandas.DataFrame
            One row for each turn: turn, role, text, model, finish_reason, tokens_in, tokens_out, cost, filtered,
            severity, request_id. Tokens are nullable integers, cost is in US dollars; what does not apply or is unknown
            is missing.

        Examples
        --------
        >>> panel = ChatPanel(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}])
        >>> panel.to_frame()["text"].tolist()
        ['Hi', 'Hello!']
        """
        import pandas as pd

        rows = [turn.record(number) for number, turn in enumerate(self.turns, 1)]
        kinds = {"turn": "int64", "tokens_in": "Int64", "tokens_out": "Int64", "cost": "float64", "filtered": "boolean"}
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(kinds)

    def freeze(self) -> Transcript:
        """Return a snapshot of the conversation, as static HTML and text that need no kernel and no widget.

        Returns
        -------
        Transcript
            With ``.html()`` and ``.text``; as the last line of a cell it shows itself.

        Examples
        --------
        >>> panel = ChatPanel(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}])
        >>> "Hello!" in panel.freeze().html()
        True
        """
        with self._lock:
            turns, replaced = tuple(self._turns), tuple(self._replaced)
        return Transcript(str(self._view.title), self.system, turns, self._remote_images, replaced)

    def close(self) -> None:
        """Stop an answer in flight and take the panel off the page; turns and exports stay. Idempotent.

        Examples
        --------
        >>> panel = ChatPanel()
        >>> panel.close()
        """
        if self._closed:
            return
        self._closed = True
        self._stop_and_wait()
        layout = self._view.layout
        self._view.close()
        layout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ChatPanel(model={self.model!r}, turns={len(self._turns)})"

    def _ipython_display_(self) -> None:
        """Publish two outputs: the panel, and the transcript that remains without a kernel.

        In a single output the transcript would never be shown: JupyterLab prefers a widget, even without a kernel.
        """
        self._display_mode = display_mode()
        publish = cell_publish()
        if self._display_mode != "plain":
            data, metadata = self._view._repr_mimebundle_() or ({}, {})
            publish({**data, "text/plain": repr(self)}, metadata, display_id=new_display_id(), update=False)
        publish(self._static_bundle(), {}, display_id=self._display_id, update=False)

    def _display_(self) -> Any:
        """Return what marimo shows: the widget."""
        return self._view

    def _on_message(self, view: object, content: Any, buffers: Any) -> None:
        """Handle a message from the page."""
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind == "stop":
            return self.stop()
        try:
            done = self._answer(kind, content, buffers)
        except InputError as error:
            done = {"kind": "refused", "why": str(error)}
        if done is not None:
            self._view.send(done)
        return None

    def _answer(self, kind: Any, content: dict[str, Any], buffers: Any) -> dict[str, Any] | None:
        """Do what the page requests, and return what to tell it; ``None`` for an unknown request."""
        match kind:
            case "variables":
                return {"kind": "variables", "names": attachable_names(notebook_variables())}
            case "cell":
                return {"kind": "cell", "note": put_into_new_cell(content.get("text"))}
            case "send":
                self._ask(content.get("text"))
            case "retry":
                self._ask_again(None, None)
            case "edit":
                self._ask_again(str(content.get("text")), content.get("turn"))
            case "new":
                self.clear()
            case "attach":
                name = str(content.get("name", "")).strip()
                self.attach(**{name: bytes(buffers[0]) if buffers else notebook_variable(name)})
            case "detach":
                with self._lock:
                    self._show_attachments(tuple(a for a in self._attachments if a.name != content.get("name")))
            case _:
                return None
        return {"kind": "accepted"}

    def _ask_again(self, text: str | None, number: int | None) -> None:
        """Ask a question again, ``None`` for the last; ``text`` replaces its text."""
        with self._lock:
            asked = [at for at, turn in enumerate(self._turns, 1) if turn.role == "user"]
            if not asked:
                raise InputError("There is no question to ask again; send one first.")
            number = asked[-1] if number is None else number
            if number not in asked:
                raise InputError(f"turn must be the number of a question, one of {asked}, got {number!r}.")
            self._ask(self._turns[number - 1].text if text is None else text, at=number - 1)

    def _ask(self, text: Any, *, at: int | None = None) -> None:
        """Send a question, in place of the turns from ``at`` on."""
        if not isinstance(text, str) or not text.strip():
            raise InputError("The message must be a non-empty text; write one first.")
        with self._lock:
            if self._closed:
                raise InputError("This panel is closed; create another with messages=panel.messages.")
            if self.busy:
                raise InputError("An answer is still in flight; wait for it, or stop() it first.")
            self._failure = None
            replaced = [] if at is None else self._turns[at:]
            attachments = replaced[0].attachments if replaced else self._attachments
            self._turns = [*self._turns[:at], Turn("user", text, attachments=attachments)]
            if at is None:
                self._show_attachments(())
            self._view.notice = ""
            model = self.model
            parameters = {"model": model, "messages": messages(self._turns, self.system)}
            live = self._live = StreamingOutput(publish=self._send_part, remote_images=self._remote_images)

            reasoning = ReasoningOutput("live", self._send_part)

            def on_part(part: Part) -> None:
                kind, text = part
                if kind == "reasoning":
                    reasoning.add(text)
                else:
                    reasoning.show()
                    live.write(text)

            def on_end(session: Session | None, answer: ChatCompletion | None, error: Exception | None) -> None:
                try:
                    reasoning.show()
                    live.close()
                finally:
                    self._finish_exchange(model, session, answer, error, replaced)

            self._exchange = Exchange(self._find_session, parameters, on_part, on_end)
            self._busy = True
            self._update()
            try:
                self._exchange.start()
            except KeyboardInterrupt:
                # Starting a thread waits until it runs, and Ctrl-C may come then too.
                self._exchange.stop()
                raise Interrupted("The answer was stopped before any of it was shown.") from None

    def _send_part(self, data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None:
        self._view.send({"kind": "part", "id": display_id, "html": data["text/html"]})

    def _finish_exchange(
        self,
        model: str,
        session: Session | None,
        answer: ChatCompletion | None,
        error: Exception | None,
        replaced: list[Turn],
    ) -> None:
        price = session.price(model) if session is not None else None
        if session is not None and answer is not None:
            session.record(answer, model=model)
        turn = assistant_turn(answer, model, price, error)
        with self._lock:
            self._failure = error
            if turn.text or not any(earlier.text for earlier in replaced if earlier.role == "assistant"):
                self._turns.append(turn)
                self._replaced += [earlier for earlier in replaced if earlier.role == "assistant"]
                if not turn.text and not replaced:
                    # The page puts the question back into its field; what went along with it belongs to it.
                    self._show_attachments((*self._turns[-2].attachments, *self._attachments))
            else:
                self._turns[-1:] = replaced
                self._replaced.append(turn)
                self._view.notice = unanswered_note(turn)
            self._busy = False
            self._update()

    def _show_attachments(self, attachments: tuple[Attachment, ...]) -> None:
        self._attachments = attachments
        self._view.attachments = [{"name": a.name, "kind": a.kind} for a in attachments]

    def _update(self) -> None:
        """Update the page and the saved transcript."""
        with self._lock:
            # The transcript comes first, so that it is up to date once the page shows a complete answer.
            if self._display_mode == "live" and not self._busy:
                saved = self._static_bundle()
                cell_publish()(saved, {}, display_id=self._display_id, update=True)
                # After a reload the page no longer finds the output by its display id.
                self._view.send({"kind": "saved", "data": saved})
            with self._view.hold_sync():
                self._view.turns = turns_for_page(self._turns, remote_images=self._remote_images)
                self._view.totals = describe_usage(self._turns, self._replaced)
                self._view.busy = self._busy

    def _static_bundle(self) -> dict[str, str]:
        return self.freeze().mime_bundle(str(self._view.saved_class))

    def _stop_and_wait(self) -> None:
        """Stop an answer in flight and wait until its turn is stored."""
        exchange = self._exchange
        if exchange is not None:
            exchange.stop()
            exchange.join(CLOSE_WAIT_S)

    def _find_session(self) -> Session:
        return self._session if self._session is not None else sessions.current()

    def _known_models(self) -> list[str]:
        """Return the names of chat models, the default first, without a request."""
        session = self._session or (sessions.current() if sessions.has_current() else None)
        if session is None:
            return list(dict.fromkeys([sessions.settings().model, *LISTED_PRICES]))
        settings = session.settings
        return [n for n in session.known_models() if n == settings.model or n != settings.embedding_model]

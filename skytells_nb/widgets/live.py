"""A streamed answer in a cell: shown while it grows, saved whole, and never faster than a front end can take.

A notebook server drops messages above 1,000 a second, and updates that repeat the whole text cost the square of its
length. So updates are spaced by what they weigh, what has grown long becomes an output of its own that is not sent
again, and of the open part only the last block is rendered anew.
"""

from __future__ import annotations

import contextvars
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from skytells_nb.widgets.display import Mode, Publish, cell_publish, display_mode, new_display_id
from skytells_nb.widgets.growing_text import Format, TextSegment, split_at_lines
from skytells_nb.widgets.safe_html import escape, plain

MIN_INTERVAL_S = 1 / 8
MAX_INTERVAL_S = 1.0
BYTES_PER_S = 12_000
SEAL_CHARS = 8_000
MOST_PARTS = 10
"""Later parts are longer than this share of the text: JupyterLab shows 50 outputs of a cell, and hides the rest."""
STALL_CHECK_S = 0.2
READ_PAUSE_S = 0.1
MOST_READ_PAUSE_S = 0.25
"""A reader that wakes for each token spends ten times what tokens cost that are read together: most of the time in
waking. Between two updates there is nothing to be seen, so it sleeps up to the next, but for the end of the answer.
"""
WAITED_S = 0.015
"""A reader that waited so long for pieces has all that had come; less may be another thread's doing."""
TRICKLE_CHARS_PER_S = 5_000
"""A faster stream comes together as it is, and is not held up."""

_UNFINISHED_ESCAPE = re.compile(r"(?:\r|\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]{0,500})?)\Z")


class StreamingOutput:
    """Text that grows in the output of the running cell.

    ``write`` takes the next piece, ``close`` shows the final state with ``notes`` under it; nothing is sent after that.
    ``mode`` is how (``live``: an output that is updated, and another for every ``SEAL_CHARS`` or more; ``final``: one
    output at the end; ``plain``: to ``out`` as it comes), chosen for the place by default. What is saved holds the text
    as HTML that cannot act, with images from the web only by ``remote_images``, and as text/plain.

    >>> with Live(mode="plain") as live:
    ...     live.write("Hello, ")
    ...     live.write("world")
    Hello, world
    """

    def __init__(
        self,
        *,
        format: Format = "markdown",
        remote_images: bool = False,
        mode: Mode | None = None,
        publish: Publish | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
        out: TextIO | None = None,
        watch_stalls: bool = True,
    ) -> None:
        self.mode = mode or ("live" if publish is not None else display_mode())
        self._publish = publish
        if self.mode != "plain" and publish is None:
            self._publish = cell_publish()
        self._clock = clock
        self._pause = pause
        self._out = out if out is not None else sys.stdout
        self._watch_stalls = watch_stalls and self.mode == "live"
        self._watching = False
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._parts: list[str] = []
        self._tail = ""
        self._part = TextSegment(format, remote_images=remote_images)
        self._sealed: list[str] = []
        self._pending = False
        self._due = clock()
        self._display_id = new_display_id()
        self._shown = False
        self._line_open = False
        self._length = 0
        self._told, self._held = 0, False
        self._waited, self._returned = 0.0, clock()
        self._counted, self._counted_from = 0, self._returned

    def __enter__(self) -> StreamingOutput:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    @property
    def text(self) -> str:
        """Everything written so far."""
        return "".join(self._parts)

    def write(self, piece: str, language: str = "") -> None:
        """Add a piece, with the format ``code`` in this language; the first is shown at once.

        Where pieces trickle in, this returns a little later than it could, so that the next ones are read together.
        """
        now = self._clock()
        self._waited += now - self._returned
        with self._lock:
            if self._over.is_set() or not piece:
                return
            self._parts.append(piece)
            self._length += len(piece)
            if self.mode == "plain":
                self._print(piece)
                return
            self._part.add(piece, language)
            self._pending = True
            if self.mode == "live":
                self.flush_due()
        if self._watch_stalls and not self._watching:
            self._watching = True
            # The copied context tells the kernel which cell the thread's output belongs to.
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(self._watch,), name="skytells-live", daemon=True).start()
        since = now - self._counted_from
        if self._waited >= WAITED_S and since >= READ_PAUSE_S and self.mode == "live":
            trickles = self._length - self._counted < TRICKLE_CHARS_PER_S * since
            self._counted, self._counted_from = self._length, now
            if trickles:
                self._pause(min(max(READ_PAUSE_S, self._due - now), MOST_READ_PAUSE_S))
                self.flush_due()
            self._waited = 0.0
        self._returned = self._clock()

    def replace(self, text: str, language: str = "") -> None:
        """Put ``text`` in the place of everything that was shown, in the same outputs; what is written next follows it.

        A terminal cannot take back what it shows: there it comes after that.
        """
        if self.mode == "plain":
            self.write(text, language)
            return
        with self._lock:
            if self._over.is_set():
                return
            self._parts, self._length = [text], len(text)
            open_id, open_shown = self._display_id, self._shown
            *sealed, last = split_at_lines(text, len(self._sealed) + 1)
            for display_id, piece in zip(self._sealed, sealed, strict=True):
                self._part = self._part.new_segment()
                self._part.add(piece, language)
                self._display_id, self._shown = display_id, True
                self._send(final=True)
            self._part = self._part.new_segment()
            self._part.add(last, language)
            self._display_id, self._shown, self._pending = open_id, open_shown, True

    def flush_due(self, late: float = 0.0) -> None:
        """Show what is pending, if an update has been due for so many seconds."""
        with self._lock:
            if self._over.is_set() or not self._pending or self._clock() < self._due + late:
                return
            weight = self._seal()
            if not weight and self._soon_sealed():
                return
            if not weight:
                weight = self._send(final=False)
                self._pending = False
            self._told, self._held = self._length, False
            # What is left after a cut waits for the next time: of a fast stream it would be sent for each part.
            self._due = self._clock() + min(max(MIN_INTERVAL_S, weight / BYTES_PER_S), MAX_INTERVAL_S)

    def close(self, *, notes: Sequence[str] = (), metadata: Mapping[str, Any] | None = None) -> None:
        """Show the final state with ``notes`` under it, and ``metadata`` kept with the output under "skytells"."""
        with self._lock:
            if self._over.is_set():
                return
            try:
                if self.mode == "plain":
                    self._print_end(notes)
                elif self._part.text or notes or self._shown:
                    if self.mode == "live":
                        self._seal()
                    kept = {"skytells": dict(metadata)} if metadata else {}
                    self._send(final=True, notes=notes, metadata=kept)
            finally:
                self._over.set()

    def _watch(self) -> None:
        """Shows what arrived before a stream fell silent; while pieces come, their reader does."""
        while not self._over.wait(STALL_CHECK_S):
            self.flush_due(late=READ_PAUSE_S)

    def _soon_sealed(self) -> bool:
        """Whether the open part is let grow until it can be cut, once: of a fast stream it would be sent twice."""
        new = self._length - self._told
        if self._held or not self._shown or len(self._part.text) + new <= self._seal_chars:
            return False
        self._held, self._due = True, self._clock() + MIN_INTERVAL_S
        return True

    @property
    def _seal_chars(self) -> int:
        return max(SEAL_CHARS, self._length // MOST_PARTS)

    def _seal(self) -> int:
        """Show what stands by itself for the last time, giving its bytes; the rest goes on in an output of its own."""
        weight = 0
        while parts := self._part.cut(self._seal_chars):
            self._part, rest = parts
            weight += self._send(final=True)
            self._sealed.append(self._display_id)
            self._part, self._display_id, self._shown = rest, new_display_id(), False
        return weight

    def _send(self, *, final: bool, notes: Sequence[str] = (), metadata: dict[str, Any] | None = None) -> int:
        """Publish the open part; gives the bytes of it."""
        assert self._publish is not None
        text = self._part.text
        page = "" if not text else self._part.whole_page() if final else self._part.page()
        page += "".join(f'<p class="skytells-note"><em>{escape(note)}</em></p>' for note in notes)
        # Partial states leave the plain text out: it would double the traffic of states that nobody keeps.
        words = [*([plain(text)] if text else []), *(f"[{plain(note)}]" for note in notes)] if final else []
        bundle = {"text/html": page, "text/plain": "\n\n".join(words)}
        self._publish(bundle, metadata or {}, display_id=self._display_id, update=self._shown)
        self._shown = True
        return sum(len(value.encode()) for value in bundle.values())

    def _print(self, piece: str) -> None:
        piece = self._tail + piece
        unfinished = _UNFINISHED_ESCAPE.search(piece)
        self._tail = unfinished.group() if unfinished else ""
        self._emit(plain(piece[: len(piece) - len(self._tail)]))

    def _print_end(self, notes: Sequence[str]) -> None:
        self._emit(plain(self._tail))
        if self._line_open:
            self._emit("\n")
        for note in notes:
            self._emit(f"[{plain(note)}]\n")

    def _emit(self, text: str) -> None:
        if text:
            self._out.write(text)
            self._out.flush()
            self._line_open = not text.endswith("\n")

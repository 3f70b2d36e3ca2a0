"""A streamed answer in a cell: shown while it grows, saved completely, and updated no faster than front ends accept.

A notebook server drops messages above 1,000 a second, and updates that repeat the whole text cost the square of its
length. So updates are spaced by their size, a long text is split into outputs that are not sent again, and in the open
segment only the last block is rendered again.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from skytells_nb.widgets.display import Mode, Publish, cell_publish, display_mode, new_display_id
from skytells_nb.widgets.growing_text import Format, TextSegment, split_at_lines, split_reasoning
from skytells_nb.widgets.safe_html import cover_chips, literal_markdown, safe_html, safe_markdown
from skytells_nb.widgets.safe_text import literal_html, plain

MIN_INTERVAL_S = 1 / 8
MAX_INTERVAL_S = 1.0
BYTES_PER_S = 12_000
SEGMENT_CHARS = 8_000
MARKDOWN_CHARS = 24_000
"""Up to so much text, the saved outputs have Markdown too, for exports that typeset it: it is as long as the text."""
MAX_SEGMENTS = 10
"""Later segments grow to this share of the text: JupyterLab shows 50 outputs of a cell and hides the rest."""
STALL_CHECK_S = 0.2
READ_PAUSE_S = 0.1
MAX_READ_PAUSE_S = 0.25
"""Waking for each token costs ten times as much as reading tokens together. Between two updates nothing is shown, so
the reader sleeps until the next one, within this limit.
"""
IDLE_THRESHOLD_S = 0.015
"""A reader that waited this long for pieces has read everything that had arrived."""
TRICKLE_CHARS_PER_S = 5_000
"""A faster stream is not paused."""

_UNFINISHED_ESCAPE = re.compile(r"(?:\r|\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]{0,500})?)\Z")


def answer_bundle(text: str) -> dict[str, str]:
    """Return the MIME bundle of a whole answer, without its reasoning."""
    _, answer = split_reasoning(text)
    return {
        "text/html": cover_chips(safe_html(answer)),
        "text/plain": plain(answer),
        "text/markdown": safe_markdown(answer),
    }


class StreamingOutput:
    """A growing text in the output of the running cell.

    ``write`` takes the next piece, ``close`` shows the final state with ``notes`` under it; nothing is sent after that.
    ``mode`` is ``live`` (an output that is updated, and a new one after ``SEGMENT_CHARS`` or more), ``final`` (one
    output at the end) or ``plain`` (to ``out`` as it arrives); the default depends on the front end. The saved output
    is sanitized HTML, with images from the web only with ``remote_images``, and text/plain.

    >>> with StreamingOutput(mode="plain") as output:
    ...     output.write("Hello, ")
    ...     output.write("world")
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
        self._closed = threading.Event()
        self._pieces: list[str] = []
        self._unfinished_escape = ""
        self._segment = TextSegment(format, remote_images=remote_images)
        self._finalized_ids: list[str] = []
        self._pending = False
        self._failed = False
        """Whether the display failed: the answer is paid for, so it is read to its end, and kept, all the same."""
        self._due = clock()
        self._display_id = new_display_id()
        self._shown = False
        self._line_open = False
        self._length = 0
        self._exported = 0
        self._shown_length, self._postponed = 0, False
        self._waited, self._returned = 0.0, clock()
        self._counted, self._counted_from = 0, self._returned

    def __enter__(self) -> StreamingOutput:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    @property
    def text(self) -> str:
        """Everything written so far."""
        return "".join(self._pieces)

    def write(self, piece: str, language: str = "") -> None:
        """Add a piece, with the format ``code`` in this language; the first is shown at once.

        For a slow stream this returns with a delay, so that the next pieces are read together.
        """
        now = self._clock()
        self._waited += now - self._returned
        with self._lock:
            if self._closed.is_set() or not piece:
                return
            self._pieces.append(piece)
            self._length += len(piece)
            if self.mode == "plain":
                self._print(piece)
                return
            self._segment.add(piece, language)
            self._pending = True
            if self.mode == "live":
                self.flush_due()
        if self._watch_stalls and not self._watching:
            self._watching = True
            # The copied context tells the kernel which cell the thread's output belongs to.
            context = contextvars.copy_context()
            # Where no thread can start, as in a browser, text is shown by the pieces that follow it.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=context.run, args=(self._watch,), name="skytells-live", daemon=True).start()
        since = now - self._counted_from
        if self._waited >= IDLE_THRESHOLD_S and since >= READ_PAUSE_S and self.mode == "live":
            trickles = self._length - self._counted < TRICKLE_CHARS_PER_S * since
            self._counted, self._counted_from = self._length, now
            if trickles:
                self._pause(min(max(READ_PAUSE_S, self._due - now), MAX_READ_PAUSE_S))
                self.flush_due()
            self._waited = 0.0
        self._returned = self._clock()

    def replace(self, text: str, language: str = "") -> None:
        """Replace everything shown with ``text``, in the same outputs; later pieces follow it.

        In a terminal, whose text cannot be replaced, it is appended.
        """
        if self.mode == "plain":
            self.write(text, language)
            return
        with self._lock:
            if self._closed.is_set():
                return
            self._pieces, self._length = [text], len(text)
            open_id, open_shown = self._display_id, self._shown
            *finalized, last = split_at_lines(text, len(self._finalized_ids) + 1)
            for display_id, piece in zip(self._finalized_ids, finalized, strict=True):
                self._segment = self._segment.new_segment()
                self._segment.add(piece, language)
                self._display_id, self._shown = display_id, True
                self._send(final=True)
            self._segment = self._segment.new_segment()
            self._segment.add(last, language)
            self._display_id, self._shown, self._pending = open_id, open_shown, True

    def flush_due(self, late: float = 0.0) -> None:
        """Show pending text, if an update has been due for ``late`` seconds."""
        with self._lock:
            if self._closed.is_set() or not self._pending or self._clock() < self._due + late:
                return
            weight = self._finalize()
            if not weight and self._should_postpone():
                return
            if not weight:
                weight = self._send(final=False)
                self._pending = False
            self._shown_length, self._postponed = self._length, False
            # The rest after a split waits for the next update: in a fast stream it would be sent for each segment.
            self._due = self._clock() + min(max(MIN_INTERVAL_S, weight / BYTES_PER_S), MAX_INTERVAL_S)

    def close(self, *, notes: Sequence[str] = (), metadata: Mapping[str, Any] | None = None) -> None:
        """Show the final state with ``notes`` under it; ``metadata`` is saved with the output under "skytells"."""
        with self._lock:
            if self._closed.is_set():
                return
            try:
                if self.mode == "plain":
                    self._print_end(notes)
                elif self._segment.text or notes or self._shown:
                    if self.mode == "live":
                        self._finalize()
                    output_metadata = {"skytells": dict(metadata)} if metadata else {}
                    self._send(final=True, notes=notes, metadata=output_metadata)
            finally:
                self._closed.set()

    def _watch(self) -> None:
        """Show the text that arrived before a stream paused; while pieces arrive, ``write`` does."""
        while not self._closed.wait(STALL_CHECK_S):
            self.flush_due(late=READ_PAUSE_S)

    def _should_postpone(self) -> bool:
        """Whether to postpone an update, once, until the segment can be split: a fast stream would send it twice."""
        new = self._length - self._shown_length
        if self._postponed or not self._shown or len(self._segment.text) + new <= self._segment_chars:
            return False
        self._postponed, self._due = True, self._clock() + MIN_INTERVAL_S
        return True

    @property
    def _segment_chars(self) -> int:
        return max(SEGMENT_CHARS, self._length // MAX_SEGMENTS)

    def _finalize(self) -> int:
        """Show complete segments for the last time and return their size in bytes; the rest gets a new output."""
        weight = 0
        while split := self._segment.split_complete(self._segment_chars):
            self._segment, rest = split
            weight += self._send(final=True)
            self._finalized_ids.append(self._display_id)
            self._segment, self._display_id, self._shown = rest, new_display_id(), False
        return weight

    def _send(self, *, final: bool, notes: Sequence[str] = (), metadata: dict[str, Any] | None = None) -> int:
        """Publish the open segment and return its size in bytes."""
        assert self._publish is not None
        text = self._segment.text
        page = "" if not text else self._segment.to_final_html() if final else self._segment.to_html()
        page = cover_chips(page)
        page += "".join(f'<p class="skytells-note"><em>{literal_html(note)}</em></p>' for note in notes)
        # Partial states leave out the plain text: it would double the traffic of states that are not saved.
        lines = [*([plain(text)] if text else []), *(f"[{plain(note)}]" for note in notes)] if final else []
        bundle = {"text/html": page, "text/plain": "\n\n".join(lines)}
        if final:
            self._exported += len(text)
            markdown = self._segment.to_markdown() if self._exported <= MARKDOWN_CHARS else ""
            if markdown:
                bundle["text/markdown"] = "\n\n".join([markdown, *(f"*{literal_markdown(note)}*" for note in notes)])
        try:
            if not self._failed:
                self._publish(bundle, metadata or {}, display_id=self._display_id, update=self._shown)
        except Exception:
            self._failed = True
        self._shown = True
        return sum(len(value.encode()) for value in bundle.values())

    def _print(self, piece: str) -> None:
        piece = self._unfinished_escape + piece
        unfinished = _UNFINISHED_ESCAPE.search(piece)
        self._unfinished_escape = unfinished.group() if unfinished else ""
        self._emit(plain(piece[: len(piece) - len(self._unfinished_escape)]))

    def _print_end(self, notes: Sequence[str]) -> None:
        self._emit(plain(self._unfinished_escape))
        if self._line_open:
            self._emit("\n")
        for note in notes:
            self._emit(f"[{plain(note)}]\n")

    def _emit(self, text: str) -> None:
        if text and not self._failed:
            try:
                self._out.write(text)
                self._out.flush()
            except Exception:
                self._failed = True
            self._line_open = not text.endswith("\n")

"""A streamed answer in a cell: shown while it grows, saved whole, and never faster than a front end can take.

A notebook server drops messages above 1,000 a second, and updates that repeat the whole text cost the square of its
length. So updates are spaced by what they weigh, and what has grown past ``SEAL_CHARS`` becomes an output of its own
that is not sent again.
"""

from __future__ import annotations

import contextvars
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TextIO

from skytells_nb.widgets.display import Mode, Publish, cell_publish, display_mode, new_display_id
from skytells_nb.widgets.safe_html import escape, plain, preformatted, safe_html

Format = Literal["markdown", "text"]

MIN_INTERVAL_S = 1 / 8
MAX_INTERVAL_S = 1.0
BYTES_PER_S = 32_000
SEAL_CHARS = 16_000
FORCED_SEAL_CHARS = 4 * SEAL_CHARS
"""Where no blank line came by this length, the cut is made at the end of a line."""
STALL_CHECK_S = 0.2

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)")
_UNFINISHED_ESCAPE = re.compile(r"(?:\r|\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]{0,500})?)\Z")


class Live:
    """Text that grows in the output of the running cell.

    ``write`` takes the next piece, ``close`` shows the final state with ``notes`` under it; nothing is sent after that.
    ``mode`` is how (``live``: one output, updated; ``final``: one output at the end; ``plain``: to ``out`` as it
    comes), chosen for the place by default. What is saved holds the text as HTML that cannot act and as text/plain.

    >>> with Live(mode="plain") as live:
    ...     live.write("Hello, ")
    ...     live.write("world")
    Hello, world
    """

    def __init__(
        self,
        *,
        format: Format = "markdown",
        mode: Mode | None = None,
        publish: Publish | None = None,
        clock: Callable[[], float] = time.monotonic,
        out: TextIO | None = None,
        watch_stalls: bool = True,
    ) -> None:
        self.mode = mode or ("live" if publish is not None else display_mode())
        self._format = format
        self._publish = publish
        if self.mode != "plain" and publish is None:
            self._publish = cell_publish()
        self._clock = clock
        self._out = out if out is not None else sys.stdout
        self._watch_stalls = watch_stalls and self.mode == "live"
        self._watching = False
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._parts: list[str] = []
        self._tail = ""
        self._open = ""
        self._pending = False
        self._due = clock()
        self._display_id = new_display_id()
        self._shown = False
        self._line_open = False
        self._fence = ""

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    @property
    def text(self) -> str:
        """Everything written so far."""
        return "".join(self._parts)

    def write(self, piece: str) -> None:
        """Add a piece; the first is shown at once."""
        with self._lock:
            if self._over.is_set() or not piece:
                return
            self._parts.append(piece)
            if self.mode == "plain":
                self._print(piece)
                return
            self._open += piece
            self._pending = True
            if self.mode == "live":
                self.flush_due()
        if self._watch_stalls and not self._watching:
            self._watching = True
            # The copied context tells the kernel which cell the thread's output belongs to.
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(self._watch,), name="skytells-live", daemon=True).start()

    def flush_due(self) -> None:
        """Show what is pending, if an update is due."""
        with self._lock:
            if self._over.is_set() or not self._pending or self._clock() < self._due:
                return
            while len(self._open) > SEAL_CHARS and (cut := _cut(self._open, self._fence)):
                self._seal(cut)
            weight = self._send(self._open, final=False)
            self._pending = False
            self._due = self._clock() + min(max(MIN_INTERVAL_S, weight / BYTES_PER_S), MAX_INTERVAL_S)

    def close(self, *, notes: Sequence[str] = (), metadata: Mapping[str, Any] | None = None) -> None:
        """Show the final state with ``notes`` under it, and ``metadata`` kept with the output under "skytells"."""
        with self._lock:
            if self._over.is_set():
                return
            try:
                if self.mode == "plain":
                    self._print_end(notes)
                elif self._open or notes or self._shown:
                    kept = {"skytells": dict(metadata)} if metadata else {}
                    self._send(self._open, final=True, notes=notes, metadata=kept)
            finally:
                self._over.set()

    def _watch(self) -> None:
        """Shows what arrived before a stream fell silent."""
        while not self._over.wait(STALL_CHECK_S):
            self.flush_due()

    def _seal(self, cut: int) -> None:
        head = self._open[:cut]
        self._send(head, final=True)
        self._fence = _open_fence(head, self._fence)
        self._open = self._open[cut:]
        self._display_id = new_display_id()
        self._shown = False

    def _send(
        self, text: str, *, final: bool, notes: Sequence[str] = (), metadata: dict[str, Any] | None = None
    ) -> int:
        """Publish the open part; gives the bytes of its page form."""
        assert self._publish is not None
        page = preformatted(text) if self._format == "text" else safe_html(self._fence + text)
        if not text:
            page = ""
        page += "".join(f'<p class="skytells-note"><em>{escape(note)}</em></p>' for note in notes)
        # Partial states leave the plain text out: it would double the traffic of states that nobody keeps.
        words = (
            "\n\n".join([*([plain(text)] if text else []), *(f"[{plain(note)}]" for note in notes)]) if final else ""
        )
        bundle = {"text/html": page, "text/plain": words}
        self._publish(bundle, metadata or {}, display_id=self._display_id, update=self._shown)
        self._shown = True
        return len(page.encode()) + len(words.encode())

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


def _cut(text: str, fence: str = "") -> int:
    """Where to end a part: after the last blank line outside a code fence; 0 where the text should go on growing.

    Past ``FORCED_SEAL_CHARS`` without such a line: after the last line, or the last character of a text without lines.
    """
    blank = position = 0
    marker = fence.strip()
    for line in text.split("\n")[:-1]:
        position += len(line) + 1
        marker = _fence_after(line, marker)
        if not marker and not line.strip():
            blank = position
    if blank or len(text) <= FORCED_SEAL_CHARS:
        return blank
    return position or len(text)


def _open_fence(text: str, fence: str) -> str:
    """The line that opens the code block in which this text ends, or nothing."""
    marker = fence.strip()
    for line in text.split("\n"):
        marker = _fence_after(line, marker)
    return f"{marker}\n" if marker else ""


def _fence_after(line: str, marker: str) -> str:
    """The opening line of the fence that is open after this line, given the one that was open before it."""
    found = _FENCE.match(line)
    if not found:
        return marker
    ticks, rest = found.group(1), found.group(2).strip()
    if marker:
        opened = len(marker) - len(marker.lstrip(ticks[0]))
        return "" if 0 < opened <= len(ticks) and not rest else marker
    return "" if ticks[0] == "`" and "`" in rest else f"{ticks}{rest}"

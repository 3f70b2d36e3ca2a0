"""The reasoning of a model above its answer: folded on a page, quoted in a terminal."""

from __future__ import annotations

import contextlib
import sys

from skytells_nb.widgets.display import Mode, Publish, cell_publish, new_display_id
from skytells_nb.widgets.safe_html import cover_chips, safe_html, safe_markdown
from skytells_nb.widgets.safe_text import plain

GROWTH = 1.25
"""The whole reasoning is sent with each update, so it has to grow by this factor before the next one."""
FIRST_CHARS = 80
SMALL_CHARS = 4_000
"""Reasoning up to this length is shown again after each paragraph."""


class ReasoningOutput:
    """The model's reasoning above the answer: folded on a page, quoted in a terminal.

    It is shown again only after it has grown by a part of its length, so that it needs few messages.
    """

    def __init__(self, mode: Mode, publish: Publish | None = None) -> None:
        self._mode = mode
        self._publish = publish
        self._items: list[str] = []
        self._pieces: list[str] = []
        self._new_chars = 0
        self._display_id = new_display_id()
        self._shown = ""

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._new_chars += len(piece)
        if self._mode == "live" and self._new_chars > max(FIRST_CHARS, (GROWTH - 1) * len(self._shown)):
            self.show()

    def end_paragraph(self) -> None:
        self._pieces.append("\n\n")
        long = len(self._shown) > SMALL_CHARS
        if self._mode != "final" and not (long and self._new_chars < (GROWTH - 1) * len(self._shown)):
            self.show()

    def end_item(self, text: str) -> None:
        """Finish one item of reasoning; an empty text keeps the text of its pieces."""
        self._items.append(text or "".join(self._pieces))
        self._pieces = []

    def show(self) -> None:
        """Show the reasoning so far, if it has grown since the last update."""
        self._new_chars = 0
        text = "\n\n".join(t.strip() for t in (*self._items, "".join(self._pieces)) if t.strip())
        if text == self._shown:
            return
        # A display that fails does not cost the answer, which is paid for.
        with contextlib.suppress(Exception):
            self._display(text)
        self._shown = text

    def _display(self, text: str) -> None:
        if self._mode == "plain":
            sys.stdout.write(reasoning_text(text.removeprefix(self._shown), title=not self._shown) + "\n\n")
            sys.stdout.flush()
        else:
            publish = self._publish or cell_publish()
            publish(reasoning_bundle(text), {}, display_id=self._display_id, update=bool(self._shown))


def reasoning_bundle(markdown: str) -> dict[str, str]:
    """Return the reasoning as a MIME bundle."""
    return {
        "text/html": cover_chips(reasoning_html(markdown)),
        "text/plain": reasoning_text(markdown),
        "text/markdown": reasoning_markdown(markdown),
    }


def reasoning_html(markdown: str) -> str:
    """Return the reasoning as a folded HTML element."""
    quote = f"<blockquote>{safe_html(markdown)}</blockquote>"
    return f'<details class="skytells-reasoning"><summary>Reasoning</summary>{quote}</details>'


def reasoning_text(text: str, *, title: bool = True) -> str:
    """Return the reasoning as quoted plain text."""
    head = ["Reasoning", ""] if title else []
    return "\n".join(f"> {line}".rstrip() for line in [*head, *plain(text).strip().splitlines()])


def reasoning_markdown(markdown: str) -> str:
    """Return the reasoning as a quotation."""
    lines = f"**Reasoning**\n\n{safe_markdown(markdown)}".splitlines()
    return "\n".join(f"> {line}".rstrip() for line in lines)

"""The output of a cell: collapsed reasoning, the answer in the requested format, and notes below it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skytells_nb.magics.chat_arguments import Format
from skytells_nb.magics.formats import Fragment, formatter_for
from skytells_nb.magics.question import PartKind
from skytells_nb.widgets.display import Mode, cell_publish, new_display_id
from skytells_nb.widgets.growing_text import Format as StreamFormat
from skytells_nb.widgets.highlighting import preload
from skytells_nb.widgets.live import StreamingOutput
from skytells_nb.widgets.safe_html import safe_html
from skytells_nb.widgets.safe_text import plain


class CellOutput:
    """Shows the parts of an answer as they arrive; nothing is shown after ``close``."""

    def __init__(self, format: Format, mode: Mode, *, remote_images: bool = False) -> None:
        stream_format = _stream_format(format)
        if stream_format == "code" and mode == "live":
            preload()
        self._stream = StreamingOutput(format=stream_format, mode=mode, remote_images=remote_images)
        self._formatter = formatter_for(format, mode)
        self._reasoning = ReasoningOutput(mode)

    def __enter__(self) -> CellOutput:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def write(self, parts: Iterable[tuple[PartKind, str]]) -> None:
        for kind, text in parts:
            match kind:
                case "reasoning":
                    self._reasoning.add(text)
                case "reasoning paragraph":
                    self._reasoning.end_paragraph()
                case "reasoning item":
                    self._reasoning.end_item(text)
                case "text":
                    self._reasoning.show()
                    self._write_fragments(self._formatter.feed(text))

    def close(self, *, notes: Sequence[str] = (), metadata: Mapping[str, Any] | None = None) -> None:
        self._reasoning.show()
        self._write_fragments(self._formatter.finish())
        replacement = self._formatter.replacement()
        if replacement is not None:
            self._stream.replace(*replacement)
        self._stream.close(notes=notes, metadata=metadata)

    def _write_fragments(self, fragments: Iterable[Fragment]) -> None:
        for text, language in fragments:
            self._stream.write(text, language)


def _stream_format(format: Format) -> StreamFormat:
    return format if format in ("markdown", "text") else "code"


class ReasoningOutput:
    """The model's reasoning summary above the answer: collapsed on a page, quoted in a terminal.

    It is shown one paragraph at a time, so that it needs few messages.
    """

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._items: list[str] = []
        self._pieces: list[str] = []
        self._display_id = new_display_id()
        self._shown = ""

    def add(self, piece: str) -> None:
        self._pieces.append(piece)

    def end_paragraph(self) -> None:
        self._pieces.append("\n\n")
        self.show()

    def end_item(self, text: str) -> None:
        """Finish one item of reasoning; an empty text keeps the text of its pieces."""
        self._items.append(text or "".join(self._pieces))
        self._pieces = []

    def show(self) -> None:
        """Show the reasoning so far, if it has grown since the last update."""
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
            data = {"text/html": reasoning_html(text), "text/plain": reasoning_text(text)}
            cell_publish()(data, {}, display_id=self._display_id, update=bool(self._shown))


def reasoning_html(markdown: str) -> str:
    """Return the reasoning as a collapsed HTML element."""
    quote = f"<blockquote>{safe_html(markdown)}</blockquote>"
    return f'<details class="skytells-reasoning"><summary>Reasoning</summary>{quote}</details>'


def reasoning_text(text: str, *, title: bool = True) -> str:
    """Return the reasoning as quoted plain text."""
    head = ["Reasoning", ""] if title else []
    return "\n".join(f"> {line}".rstrip() for line in [*head, *plain(text).strip().splitlines()])

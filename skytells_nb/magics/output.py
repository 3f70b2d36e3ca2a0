"""What a cell shows of one answer: its reasoning folded away, the answer in the form asked for, notes under it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skytells_nb.magics.chat_arguments import Format
from skytells_nb.magics.formats import Shown, formatter_for
from skytells_nb.magics.question import Kind
from skytells_nb.widgets.display import Mode, cell_publish, new_display_id
from skytells_nb.widgets.growing_text import Format as Drawing
from skytells_nb.widgets.highlighting import ready
from skytells_nb.widgets.live import StreamingOutput
from skytells_nb.widgets.safe_html import plain, safe_html


class CellOutput:
    """Takes the pieces of an answer as they come; nothing is shown after ``close``."""

    def __init__(self, format: Format, mode: Mode, *, remote_images: bool = False) -> None:
        drawing = _drawn_as(format)
        if drawing == "code" and mode == "live":
            ready()
        self._live = StreamingOutput(format=drawing, mode=mode, remote_images=remote_images)
        self._shape = formatter_for(format, mode)
        self._reasoning = Reasoning(mode)

    def __enter__(self) -> CellOutput:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def show(self, pieces: Iterable[tuple[Kind, str]]) -> None:
        for kind, text in pieces:
            match kind:
                case "reasoning":
                    self._reasoning.add(text)
                case "reasoning paragraph":
                    self._reasoning.end_paragraph()
                case "reasoning item":
                    self._reasoning.end_item(text)
                case "text":
                    self._reasoning.show()
                    self._write(self._shape.feed(text))

    def close(self, *, notes: Sequence[str] = (), metadata: Mapping[str, Any] | None = None) -> None:
        self._reasoning.show()
        self._write(self._shape.finish())
        instead = self._shape.instead()
        if instead is not None:
            self._live.replace(*instead)
        self._live.close(notes=notes, metadata=metadata)

    def _write(self, shown: Iterable[Shown]) -> None:
        for text, language in shown:
            self._live.write(text, language)


def _drawn_as(format: Format) -> Drawing:
    return format if format in ("markdown", "text") else "code"


class Reasoning:
    """A summary of what the model thought, above the answer: folded on a page, quoted in a terminal.

    It is shown a paragraph at a time, so that it costs few messages.
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

    def end_item(self, whole: str) -> None:
        """One item of reasoning is whole; an empty text leaves what its pieces said."""
        self._items.append(whole or "".join(self._pieces))
        self._pieces = []

    def show(self) -> None:
        """Show what there is, where that is more than is shown already."""
        text = "\n\n".join(t.strip() for t in (*self._items, "".join(self._pieces)) if t.strip())
        if text == self._shown:
            return
        if self._mode == "plain":
            sys.stdout.write(quoted(text.removeprefix(self._shown), title=not self._shown) + "\n\n")
            sys.stdout.flush()
        else:
            data = {"text/html": folded(text), "text/plain": quoted(text)}
            cell_publish()(data, {}, display_id=self._display_id, update=bool(self._shown))
        self._shown = text


def folded(markdown: str) -> str:
    """The reasoning as an element of the page that opens with a click."""
    quoted = f"<blockquote>{safe_html(markdown)}</blockquote>"
    return f'<details class="skytells-reasoning"><summary>Reasoning</summary>{quoted}</details>'


def quoted(text: str, *, title: bool = True) -> str:
    """The reasoning for a terminal and for readers without HTML."""
    head = ["Reasoning", ""] if title else []
    return "\n".join(f"> {line}".rstrip() for line in [*head, *plain(text).strip().splitlines()])

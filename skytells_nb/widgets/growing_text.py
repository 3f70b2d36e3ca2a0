"""The text of one output while it grows: rendered in proportion to what is new, and cut before it gets too long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from skytells_nb.widgets.highlighting import coloured
from skytells_nb.widgets.safe_html import framed, preformatted, safe_blocks, safe_html

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)")
_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])(?:\s|$)")


class MarkdownBlocks:
    """The borders in one part of a text, found line by line as it grows.

    ``fence`` is the opening line of the code block in which the part begins, or nothing.

    >>> blocks = Blocks()
    >>> blocks.read("One.\\n\\nTwo.\\n\\n- three\\n")
    >>> blocks.border
    6
    """

    def __init__(self, fence: str = "") -> None:
        self.fence = fence
        """The opening line of the code block that is open after the last whole line."""
        self.border = 0
        """Where the last block begins that stands by itself: after a blank line, not indented, no item of a list."""
        self.blank = 0
        """After the last blank line outside code."""
        self.line = 0
        """After the last whole line."""

    def read(self, text: str) -> None:
        """Take in the lines that ``text``, which begins as it did before, has more by now."""
        end = text.rfind("\n") + 1
        if end <= self.line:
            return
        for line in text[self.line : end - 1].split("\n"):
            after_blank = self.line == self.blank > 0
            if not self.fence:
                if not line.strip():
                    self.blank = self.line + len(line) + 1
                elif after_blank and not line[0].isspace() and not _ITEM.match(line):
                    self.border = self.line
            self.fence = _fence_after(line, self.fence)
            self.line += len(line) + 1


def _fence_after(line: str, fence: str) -> str:
    """The opening line of the code block that is open after this line, given that of the one open before it."""
    found = _FENCE.match(line)
    if not found:
        return fence
    ticks, rest = found.group(1), found.group(2).strip()
    if fence:
        opened = len(fence) - len(fence.lstrip(ticks[0]))
        return "" if 0 < opened <= len(ticks) and not rest else fence
    return "" if ticks[0] == "`" and "`" in rest else f"{ticks}{rest}"


Format = Literal["markdown", "text", "code"]

LIST_SEAL = 2
"""Where no block began by so many times the wanted size, the cut is between the items of a list; of code, at a line."""
FORCED_SEAL = 4
"""Where no blank line came by so many times the size either, the cut is made at the end of a line."""


class TextSegment:
    """Text that grows; ``fence`` is the opening line of the code block that it begins in, or nothing.

    With the format ``code`` each piece is in the language that comes with it.

    >>> part = Part()
    >>> part.add("*Hel")
    >>> part.add("lo*")
    >>> part.page()
    '<div class="skytells-md"><p><em>Hello</em></p>\\n</div>'
    """

    def __init__(self, format: Format = "markdown", fence: str = "", *, remote_images: bool = False) -> None:
        self.text = ""
        self._format = format
        self._remote_images = remote_images
        self._languages: list[tuple[int, str]] = []
        self._fence = fence
        self._blocks = MarkdownBlocks(fence)
        self._settled = 0
        self._settled_page = ""

    def add(self, piece: str, language: str = "") -> None:
        if not self._languages or self._languages[-1][1] != language:
            self._languages.append((len(self.text), language))
        self.text += piece

    def page(self) -> str:
        """The text as it stands, as HTML that cannot act; blocks that are complete are rendered once.

        A reference to a link that is defined in another block is resolved by ``whole_page`` alone.
        """
        if self._format != "markdown":
            return self.whole_page()
        self._blocks.read(self.text)
        border = self._blocks.border
        if border > self._settled:
            self._settled_page += self._rendered(self._settled, border)
            self._settled = border
        return framed(self._settled_page + self._rendered(self._settled, len(self.text)))

    def whole_page(self) -> str:
        """The same, rendered in one go."""
        match self._format:
            case "text":
                return preformatted(self.text)
            case "code":
                return coloured(self._runs(0, len(self.text)))
        return safe_html(self._opening + self.text, remote_images=self._remote_images)

    def cut(self, wanted: int) -> tuple[TextSegment, TextSegment] | None:
        """What stands by itself, and the rest; ``None`` where the text should go on growing, as up to ``wanted``
        characters.
        """
        blocks = self._blocks
        for times in (1, LIST_SEAL, FORCED_SEAL):
            reach = times * wanted
            if len(self.text) <= reach:
                return None
            blocks.read(self.text[:reach])
            end, fence = blocks.border, ""
            if not end and times >= LIST_SEAL:
                end = blocks.line if self._format == "code" else blocks.blank
            if end:
                break
        else:
            end, fence = blocks.line or reach, blocks.fence
        head, rest = self.new_segment(self._fence), self.new_segment(fence)
        for part, start, stop in ((head, 0, end), (rest, end, len(self.text))):
            for piece, language in self._runs(start, stop):
                part.add(piece, language)
        return head, rest

    def new_segment(self, fence: str = "") -> TextSegment:
        """An empty one of the same kind."""
        return TextSegment(self._format, fence, remote_images=self._remote_images)

    def _runs(self, start: int, stop: int) -> Iterator[tuple[str, str]]:
        """The text between two places, by language."""
        ends = [begin for begin, _ in self._languages[1:]] + [len(self.text)]
        for (begin, language), end in zip(self._languages, ends, strict=True):
            if piece := self.text[max(begin, start) : min(end, stop)]:
                yield piece, language

    @property
    def _opening(self) -> str:
        return f"{self._fence}\n" if self._fence else ""

    def _rendered(self, start: int, end: int) -> str:
        return safe_blocks(("" if start else self._opening) + self.text[start:end], remote_images=self._remote_images)


def split_at_lines(text: str, count: int) -> list[str]:
    """The text in so many pieces of about one length, cut at line ends where there are enough."""
    ends = [min(len(text), text.find("\n", len(text) * n // count) + 1 or len(text)) for n in range(1, count)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]

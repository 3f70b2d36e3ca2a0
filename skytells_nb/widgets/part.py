"""The text of one output while it grows: rendered in proportion to what is new, and cut before it gets too long."""

from __future__ import annotations

from typing import Literal

from skytells_nb.widgets.blocks import Blocks
from skytells_nb.widgets.safe_html import framed, preformatted, safe_blocks, safe_html

Format = Literal["markdown", "text"]

LIST_SEAL = 2
"""Where no block began by so many times the wanted size, the cut is made between the items of a list."""
FORCED_SEAL = 4
"""Where no blank line came by so many times the size either, the cut is made at the end of a line."""


class Part:
    """Text that grows; ``fence`` is the opening line of the code block that it begins in, or nothing.

    >>> part = Part()
    >>> part.add("*Hel")
    >>> part.add("lo*")
    >>> part.page()
    '<div class="skytells-md"><p><em>Hello</em></p>\\n</div>'
    """

    def __init__(self, format: Format = "markdown", fence: str = "") -> None:
        self.text = ""
        self._format = format
        self._fence = fence
        self._blocks = Blocks(fence)
        self._settled = 0
        self._settled_page = ""

    def add(self, piece: str) -> None:
        self.text += piece

    def page(self) -> str:
        """The text as it stands, as HTML that cannot act; blocks that are complete are rendered once.

        A reference to a link that is defined in another block is resolved by ``whole_page`` alone.
        """
        if self._format == "text":
            return preformatted(self.text)
        self._blocks.read(self.text)
        border = self._blocks.border
        if border > self._settled:
            self._settled_page += self._rendered(self._settled, border)
            self._settled = border
        return framed(self._settled_page + self._rendered(self._settled, len(self.text)))

    def whole_page(self) -> str:
        """The same, rendered in one go."""
        return preformatted(self.text) if self._format == "text" else safe_html(self._opening + self.text)

    def cut(self, wanted: int) -> tuple[Part, Part] | None:
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
                end = blocks.blank
            if end:
                break
        else:
            end, fence = blocks.line or reach, blocks.fence
        head, rest = Part(self._format, self._fence), Part(self._format, fence)
        head.add(self.text[:end])
        rest.add(self.text[end:])
        return head, rest

    @property
    def _opening(self) -> str:
        return f"{self._fence}\n" if self._fence else ""

    def _rendered(self, start: int, end: int) -> str:
        return safe_blocks(("" if start else self._opening) + self.text[start:end])

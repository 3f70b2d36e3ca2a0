"""Where growing Markdown can be cut, so that its parts rendered one by one read like the whole."""

from __future__ import annotations

import re

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)")
_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])(?:\s|$)")


class Blocks:
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

"""Code blocks in Markdown, found line by line, so that they can be shown while they come."""

from __future__ import annotations

import re
from collections.abc import Iterator

_OPENS = re.compile(r"([ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(`{3,}|~{3,})[ \t]*(.*)")
"""A fence, which may stand right after the mark of a list's item."""
_CLOSES = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*")
_LANGUAGE = re.compile(r"[\w+#.-]*")
PYTHON = frozenset({"", "python", "python3", "py", "ipython", "ipython3"})


class FencedLines:
    """Follows Markdown; ``feed`` a line at a time.

    >>> fences = FencedLines()
    >>> [fences.feed(line) for line in ("Run:", "```python", "1 + 1", "```")]
    [None, None, '1 + 1', None]
    """

    def __init__(self) -> None:
        self.language = ""
        """What the block of the last line says it is, in lower case; empty where it does not say."""
        self.count = 0
        """Blocks that have begun."""
        self._marker = ""
        self._indent = 0

    def feed(self, line: str) -> str | None:
        """The line as code, ``None`` where it is none."""
        if not self._marker:
            found = _OPENS.fullmatch(line)
            if found is None or (found[2][0] == "`" and "`" in found[3]):
                return None
            self._indent, self._marker = len(found[1]), found[2]
            said = _LANGUAGE.match(found[3])
            self.language = said.group().lower() if said else ""
            self.count += 1
            return None
        closing = _CLOSES.fullmatch(line)
        if closing is not None and closing[1].startswith(self._marker):
            self._marker = ""
            return None
        # A block within a list is indented with it.
        indent = len(line) - len(line.lstrip(" \t"))
        return line[min(indent, self._indent) :]


def code_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Each block's language and code, in order; a last block that is not closed counts."""
    fences = FencedLines()
    blocks: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        code = fences.feed(line)
        if len(blocks) < fences.count:
            blocks.append((fences.language, []))
        if code is not None:
            blocks[-1][1].append(code)
    return ((language, "\n".join(lines)) for language, lines in blocks)


def python_code(text: str) -> str:
    """The Python that an answer proposes: its blocks of Python or of no named language, an empty line between them."""
    return "\n\n".join(code for language, code in code_blocks(text) if language in PYTHON and code.strip())

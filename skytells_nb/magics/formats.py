"""Formatters: which part of an answer is shown in each format, piece by piece where possible."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeAlias

from skytells_nb.magics.chat_arguments import Format
from skytells_nb.widgets.display import Mode

_OPENS = re.compile(r"([ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(`{3,}|~{3,})[ \t]*(.*)")
"""An opening fence, possibly right after a list marker."""
_CLOSES = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*")
_LANGUAGE = re.compile(r"[\w+#.-]*")
PYTHON = frozenset({"", "python", "python3", "py", "ipython", "ipython3"})


class FenceParser:
    """A parser of fenced code in Markdown; ``feed`` takes one line at a time.

    >>> fences = FenceParser()
    >>> [fences.feed(line) for line in ("Run:", "```python", "1 + 1", "```")]
    [None, None, '1 + 1', None]
    """

    def __init__(self) -> None:
        self.language = ""
        """The language that the last line's block names, in lower case; empty if it names none."""
        self.count = 0
        """Number of blocks opened so far."""
        self._marker = ""
        self._indent = 0

    def feed(self, line: str) -> str | None:
        """Return the line as code, or ``None`` if it is outside code."""
        if not self._marker:
            opening = _OPENS.fullmatch(line)
            if opening is None or (opening[2][0] == "`" and "`" in opening[3]):
                return None
            self._indent, self._marker = len(opening[1]), opening[2]
            language = _LANGUAGE.match(opening[3])
            self.language = language.group().lower() if language else ""
            self.count += 1
            return None
        closing = _CLOSES.fullmatch(line)
        if closing is not None and closing[1].startswith(self._marker):
            self._marker = ""
            return None
        # A block in a list is indented with its item.
        indent = len(line) - len(line.lstrip(" \t"))
        return line[min(indent, self._indent) :]


def code_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield each block's language and code, in order, including an unclosed last block."""
    fences = FenceParser()
    blocks: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        code = fences.feed(line)
        if len(blocks) < fences.count:
            blocks.append((fences.language, []))
        if code is not None:
            blocks[-1][1].append(code)
    return ((language, "\n".join(lines)) for language, lines in blocks)


def python_code(text: str) -> str:
    """Return the Python code in an answer: its blocks in Python or without a language, separated by empty lines."""
    return "\n\n".join(code for language, code in code_blocks(text) if language in PYTHON and code.strip())


Fragment: TypeAlias = tuple[str, str]
"""A text and its language, empty for none."""

PROSE_LINES = 12
"""Lines before a first code block that count as its introduction."""


class Formatter(Protocol):
    """Takes an answer in pieces and returns the parts to show."""

    def feed(self, piece: str) -> Iterable[Fragment]: ...

    def finish(self) -> Iterable[Fragment]:
        """Return the remaining text, after the stream has ended in any way."""
        ...

    def replacement(self) -> Fragment | None:
        """Return what replaces everything shown, after the stream has ended; ``None`` to leave it."""
        ...


class Verbatim:
    """Shows the whole answer."""

    def feed(self, piece: str) -> Iterable[Fragment]:
        return ((piece, ""),)

    def finish(self) -> Iterable[Fragment]:
        return ()

    def replacement(self) -> Fragment | None:
        return None


class FencedCode:
    """Shows only code blocks, of one language if it is named; the whole answer if there are none.

    After more than ``PROSE_LINES`` without a block, text is shown as it arrives; if a block follows after all, the code
    replaces everything at the end. Without ``incremental``, text is shown at the end only, for outputs that cannot be
    replaced.
    """

    def __init__(self, language: str | None = None, incremental: bool = True) -> None:
        self._language = language
        self._incremental = incremental
        self._fences = FenceParser()
        self._line = ""
        self._unshown: list[str] = []
        self._lines = 0
        self._code: list[Fragment] = []
        self._block = 0

    def feed(self, piece: str) -> Iterable[Fragment]:
        *lines, self._line = (self._line + piece).split("\n")
        shown = [shown for line in lines for shown in self._show(line)]
        if self._block:
            return shown
        self._lines += len(lines)
        self._unshown.append(piece)
        return self._rest() if self._without_fence else ()

    def finish(self) -> Iterable[Fragment]:
        shown = list(self._show(self._line)) if self._line else []
        self._line = ""
        return shown if self._block else self._rest()

    def replacement(self) -> Fragment | None:
        if not (self._block and self._without_fence):
            return None
        return "".join(code for code, _ in self._code), self._code[0][1]

    @property
    def _without_fence(self) -> bool:
        """Whether the answer is treated as one without a block."""
        return self._incremental and self._lines > PROSE_LINES

    def _rest(self) -> list[Fragment]:
        """Return the text not shown yet, of an answer without a block."""
        text, self._unshown = "".join(self._unshown), []
        return [(text, self._language or "")] if text else []

    def _show(self, line: str) -> Iterator[Fragment]:
        code = self._fences.feed(line.removesuffix("\r"))
        if code is None or self._language not in (None, self._fences.language):
            return
        gap = "\n" if self._block not in (0, self._fences.count) else ""
        self._block = self._fences.count
        shown = f"{gap}{code}\n", self._fences.language
        if self._without_fence:
            self._code.append(shown)
        yield shown


class IndentedJson:
    """Shows JSON as it arrives, and replaces it with indented JSON at the end; other text is left unchanged.

    Without ``incremental`` nothing is shown before the end, for outputs that cannot be replaced.
    """

    def __init__(self, incremental: bool = True) -> None:
        self._incremental = incremental
        self._pieces: list[str] = []

    def feed(self, piece: str) -> Iterable[Fragment]:
        self._pieces.append(piece)
        return ((piece, "json"),) if self._incremental else ()

    def finish(self) -> Iterable[Fragment]:
        return () if self._incremental else ((self._indented() or "".join(self._pieces), "json"),)

    def replacement(self) -> Fragment | None:
        indented = self._indented() if self._incremental else None
        return (indented, "json") if indented is not None else None

    def _indented(self) -> str | None:
        try:
            return json.dumps(json.loads(unfenced("".join(self._pieces))), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return None


def unfenced(text: str) -> str:
    """Remove the code fence that some models put around JSON."""
    lines = text.strip().splitlines()
    fenced = len(lines) >= 2 and lines[0].startswith("```") and lines[-1].strip() == "```"
    return "\n".join(lines[1:-1]) if fenced else text


def formatter_for(format: Format, mode: Mode = "live") -> Formatter:
    """Return the formatter for a format; only ``live`` output can be replaced."""
    match format:
        case "code":
            return FencedCode(incremental=mode == "live")
        case "html-source":
            return FencedCode("html", incremental=mode == "live")
        case "json":
            return IndentedJson(incremental=mode == "live")
    return Verbatim()

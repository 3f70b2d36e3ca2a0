"""What of an answer is shown, for each of the formats, piece by piece where that can be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeAlias

from skytells_nb.magics.chat_arguments import Format
from skytells_nb.widgets.display import Mode

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


Shown: TypeAlias = tuple[str, str]
"""A text, and the language that it is in, empty where it is none."""

PROSE_LINES = 12
"""Lines before a first code block that are taken for its introduction."""


class Formatter(Protocol):
    """Takes the answer in pieces and gives what of it is to be shown."""

    def feed(self, piece: str) -> Iterable[Shown]: ...

    def finish(self) -> Iterable[Shown]:
        """The rest, once no more comes; however the answer ended."""
        ...

    def instead(self) -> Shown | None:
        """What takes the place of all that was shown, once no more comes; ``None`` where that can stay."""
        ...


class Verbatim:
    """All of it."""

    def feed(self, piece: str) -> Iterable[Shown]:
        return ((piece, ""),)

    def finish(self) -> Iterable[Shown]:
        return ()

    def instead(self) -> Shown | None:
        return None


class FencedOnly:
    """Only what stands in code blocks, of one language where it is named; all of it where there is none.

    What has gone on for more than ``PROSE_LINES`` without a block is shown as it comes; should a block turn up after
    all, it takes the place of everything in the end. Without ``early`` it is shown in the end only, for a place that
    cannot take back what it shows.
    """

    def __init__(self, language: str | None = None, early: bool = True) -> None:
        self._language = language
        self._early = early
        self._fences = FencedLines()
        self._line = ""
        self._unshown: list[str] = []
        self._lines = 0
        self._code: list[Shown] = []
        self._block = 0

    def feed(self, piece: str) -> Iterable[Shown]:
        *whole, self._line = (self._line + piece).split("\n")
        shown = [shown for line in whole for shown in self._show(line)]
        if self._block:
            return shown
        self._lines += len(whole)
        self._unshown.append(piece)
        return self._rest() if self._without_fence else ()

    def finish(self) -> Iterable[Shown]:
        shown = list(self._show(self._line)) if self._line else []
        self._line = ""
        return shown if self._block else self._rest()

    def instead(self) -> Shown | None:
        if not (self._block and self._without_fence):
            return None
        return "".join(code for code, _ in self._code), self._code[0][1]

    @property
    def _without_fence(self) -> bool:
        """Whether it was taken for an answer without a block."""
        return self._early and self._lines > PROSE_LINES

    def _rest(self) -> list[Shown]:
        """What is not shown yet of an answer without a block."""
        text, self._unshown = "".join(self._unshown), []
        return [(text, self._language or "")] if text else []

    def _show(self, line: str) -> Iterator[Shown]:
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
    """JSON as it comes, and with indentation in its place once it is whole; anything else stays as it came.

    Without ``early`` nothing is shown before the end, for a place that cannot take back what it shows.
    """

    def __init__(self, early: bool = True) -> None:
        self._early = early
        self._pieces: list[str] = []

    def feed(self, piece: str) -> Iterable[Shown]:
        self._pieces.append(piece)
        return ((piece, "json"),) if self._early else ()

    def finish(self) -> Iterable[Shown]:
        return () if self._early else ((self._indented() or "".join(self._pieces), "json"),)

    def instead(self) -> Shown | None:
        indented = self._indented() if self._early else None
        return (indented, "json") if indented is not None else None

    def _indented(self) -> str | None:
        try:
            return json.dumps(json.loads(unfenced("".join(self._pieces))), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return None


def unfenced(text: str) -> str:
    """The text without the code fence that some models put around JSON."""
    lines = text.strip().splitlines()
    fenced = len(lines) >= 2 and lines[0].startswith("```") and lines[-1].strip() == "```"
    return "\n".join(lines[1:-1]) if fenced else text


def formatter_for(format: Format, mode: Mode = "live") -> Formatter:
    match format:
        case "code":
            return FencedOnly(early=mode == "live")
        case "html-source":
            return FencedOnly("html", early=mode == "live")
        case "json":
            return IndentedJson(early=mode == "live")
    return Verbatim()

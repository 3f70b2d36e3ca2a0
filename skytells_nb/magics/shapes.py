"""What of an answer is shown, for each of the formats, piece by piece where that can be."""

from __future__ import annotations

import json
from typing import Protocol

from skytells_nb.magics.args import Format
from skytells_nb.magics.fences import FencedLines


class Shape(Protocol):
    """Takes the answer in pieces and gives what of it is to be shown."""

    def feed(self, piece: str) -> str: ...

    def finish(self) -> str:
        """The rest, once no more comes; however the answer ended."""
        ...


class AsItIs:
    """All of it."""

    def feed(self, piece: str) -> str:
        return piece

    def finish(self) -> str:
        return ""


class FencedOnly:
    """Only what stands in code blocks, of one language where it is named; all of it where there is none."""

    def __init__(self, language: str | None = None) -> None:
        self._language = language
        self._fences = FencedLines()
        self._line = ""
        self._seen: list[str] = []
        self._block = 0

    def feed(self, piece: str) -> str:
        *whole, self._line = (self._line + piece).split("\n")
        if not self._block:
            self._seen.append(piece)
        return "".join(map(self._show, whole))

    def finish(self) -> str:
        shown = self._show(self._line) if self._line else ""
        self._line = ""
        return shown if self._block else "".join(self._seen)

    def _show(self, line: str) -> str:
        code = self._fences.feed(line.removesuffix("\r"))
        if code is None or self._language not in (None, self._fences.language):
            return ""
        gap = "\n" if self._block not in (0, self._fences.count) else ""
        self._block = self._fences.count
        return f"{gap}{code}\n"


class IndentedJson:
    """JSON with indentation, once it is whole; anything else as it came."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def feed(self, piece: str) -> str:
        self._pieces.append(piece)
        return ""

    def finish(self) -> str:
        text = "".join(self._pieces)
        self._pieces = []
        try:
            return json.dumps(json.loads(unfenced(text)), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return text


def unfenced(text: str) -> str:
    """The text without the code fence that some models put around JSON."""
    lines = text.strip().splitlines()
    fenced = len(lines) >= 2 and lines[0].startswith("```") and lines[-1].strip() == "```"
    return "\n".join(lines[1:-1]) if fenced else text


def shape_of(format: Format) -> Shape:
    match format:
        case "code":
            return FencedOnly()
        case "html-source":
            return FencedOnly("html")
        case "json":
            return IndentedJson()
    return AsItIs()

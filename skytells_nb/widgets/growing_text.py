"""The growing text of one output: only new blocks are rendered, and long text is split into segments.

Reasoning is told apart from the answer. Some services send it in a field beside the text (``reasoning_content``,
``reasoning``), other models write it into the text, within ``<think>`` and ``</think>``. It is no part of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, cast

from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.responses import Response
from skytells_nb.widgets.highlighting import highlight_code
from skytells_nb.widgets.safe_html import safe_blocks, safe_html, safe_markdown, wrap_html
from skytells_nb.widgets.safe_text import preformatted

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)")
_DETAILS = re.compile(r"[ \t]{0,3}<(/?)details\b[^>]*>(.*)", re.IGNORECASE)
_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])(?:\s|$)")


class MarkdownBlocks:
    """The block boundaries of a growing text, found line by line.

    ``fence`` is the opening line of the code block that the text begins in, or empty.

    >>> blocks = MarkdownBlocks()
    >>> blocks.read("One.\\n\\nTwo.\\n\\n- three\\n")
    >>> blocks.boundary
    6
    """

    def __init__(self, fence: str = "", folded: int = 0) -> None:
        self.fence = fence
        """The opening line of the code block that is open after the last complete line."""
        self.folded = folded
        """How many folded texts (``<details>``) are open there."""
        self.boundary = 0
        """Start of the last independent block: after a blank line, not indented, not a list item."""
        self.blank = 0
        """End of the last blank line outside code."""
        self.folded_at_blank = folded
        self.line = 0
        """End of the last complete line."""

    def read(self, text: str) -> None:
        """Read the lines added to ``text`` since the last call."""
        end = text.rfind("\n") + 1
        if end <= self.line:
            return
        for line in text[self.line : end - 1].split("\n"):
            after_blank = self.line == self.blank > 0
            if not self.fence:
                if not line.strip():
                    self.blank, self.folded_at_blank = self.line + len(line) + 1, self.folded
                elif after_blank and not self.folded and not line[0].isspace() and not _ITEM.match(line):
                    self.boundary = self.line
                self.folded = _folded_after(line, self.folded)
            self.fence = fence_after(line, self.fence)
            self.line += len(line) + 1


def fence_after(line: str, fence: str) -> str:
    """Return the opening line of the code block open after this line, given that of the block open before it."""
    marker = _FENCE.match(line)
    if not marker:
        return fence
    ticks, rest = marker.group(1), marker.group(2).strip()
    if fence:
        opened = len(fence) - len(fence.lstrip(ticks[0]))
        return "" if 0 < opened <= len(ticks) and not rest else fence
    return "" if ticks[0] == "`" and "`" in rest else f"{ticks}{rest}"


def _folded_after(line: str, folded: int) -> int:
    """Return how many folded texts are open after this line."""
    mark = _DETAILS.match(line)
    if mark is None:
        return folded
    if mark.group(1):
        return max(0, folded - 1)
    return folded if mark.group(2).lower().rstrip().endswith("</details>") else folded + 1


Format = Literal["markdown", "text", "code"]

LIST_SPLIT_FACTOR = 2
"""Without a block boundary up to this multiple of the size, split between list items, or code at a line."""
FORCED_SPLIT_FACTOR = 4
"""Without a blank line up to this multiple of the size, split at the end of a line."""


class TextSegment:
    """A growing text; ``fence`` is the opening line of the code block that it begins in, or empty, and ``folded`` says
    in how many folded texts it begins.

    With the format ``code`` each piece has its own language.

    >>> segment = TextSegment()
    >>> segment.add("*Hel")
    >>> segment.add("lo*")
    >>> segment.to_html()
    '<div class="skytells-md"><p><em>Hello</em></p>\\n</div>'
    """

    def __init__(
        self, format: Format = "markdown", fence: str = "", folded: int = 0, *, remote_images: bool = False
    ) -> None:
        self.text = ""
        self._format = format
        self._remote_images = remote_images
        self._languages: list[tuple[int, str]] = []
        self._fence = fence
        self._folded = folded
        self._blocks = MarkdownBlocks(fence, folded)
        self._rendered_end = 0
        self._rendered_html = ""

    def add(self, piece: str, language: str = "") -> None:
        if not self._languages or self._languages[-1][1] != language:
            self._languages.append((len(self.text), language))
        self.text += piece

    def to_html(self) -> str:
        """Return the current text as sanitized HTML; complete blocks are rendered only once.

        A link reference defined in another block is resolved only by ``to_final_html``.
        """
        if self._format != "markdown":
            return self.to_final_html()
        self._blocks.read(self.text)
        boundary = self._blocks.boundary
        if boundary > self._rendered_end:
            self._rendered_html += self._render(self._rendered_end, boundary)
            self._rendered_end = boundary
        return wrap_html(self._rendered_html + self._render(self._rendered_end, len(self.text)))

    def to_final_html(self) -> str:
        """Return the same, rendered as a whole."""
        match self._format:
            case "text":
                return preformatted(self.text)
            case "code":
                return highlight_code(self._runs(0, len(self.text)))
        return safe_html(self._opening + self.text, remote_images=self._remote_images)

    def to_markdown(self) -> str:
        """Return the whole as Markdown for exports; empty for another format."""
        return safe_markdown(self._opening + self.text) if self._format == "markdown" else ""

    def split_complete(self, size: int) -> tuple[TextSegment, TextSegment] | None:
        """Split off the part that is complete; ``None`` while the text should grow, as up to ``size`` characters."""
        blocks = self._blocks
        for factor in (1, LIST_SPLIT_FACTOR, FORCED_SPLIT_FACTOR):
            limit = factor * size
            if len(self.text) <= limit:
                return None
            blocks.read(self.text[:limit])
            end, fence, folded = blocks.boundary, "", 0
            if not end and factor >= LIST_SPLIT_FACTOR:
                end, folded = (blocks.line, 0) if self._format == "code" else (blocks.blank, blocks.folded_at_blank)
            if end:
                break
        else:
            end, fence, folded = blocks.line or limit, blocks.fence, blocks.folded
        head, rest = self.new_segment(self._fence, self._folded), self.new_segment(fence, folded)
        for segment, start, stop in ((head, 0, end), (rest, end, len(self.text))):
            for piece, language in self._runs(start, stop):
                segment.add(piece, language)
        return head, rest

    def new_segment(self, fence: str = "", folded: int = 0) -> TextSegment:
        """Return an empty segment of the same format."""
        return TextSegment(self._format, fence, folded, remote_images=self._remote_images)

    def _runs(self, start: int, stop: int) -> Iterator[tuple[str, str]]:
        """Yield the text between two positions, by language."""
        ends = [begin for begin, _ in self._languages[1:]] + [len(self.text)]
        for (begin, language), end in zip(self._languages, ends, strict=True):
            if piece := self.text[max(begin, start) : min(end, stop)]:
                yield piece, language

    @property
    def _opening(self) -> str:
        return "<details>\n\n" * self._folded + (f"{self._fence}\n" if self._fence else "")

    def _render(self, start: int, end: int) -> str:
        return safe_blocks(("" if start else self._opening) + self.text[start:end], remote_images=self._remote_images)


def split_at_lines(text: str, count: int) -> list[str]:
    """Split the text into ``count`` pieces of similar length, at line ends if there are enough."""
    ends = [min(len(text), text.find("\n", len(text) * n // count) + 1 or len(text)) for n in range(1, count)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


Part = tuple[Literal["text", "reasoning"], str]
Answer = TypeVar("Answer", bound="ChatCompletion | Response")

FIELDS = ("reasoning_content", "reasoning")
_OTHER_FIELDS = ("reasoning_details",)
_OPENS = re.compile(r"\s*<think\s*>", re.IGNORECASE)
_CLOSES = re.compile(r"</think\s*>", re.IGNORECASE)
_MAY_OPEN = re.compile(r"\s*(?:<(?:t(?:h(?:i(?:n(?:k\s*)?)?)?)?)?)?", re.IGNORECASE)
_MAY_CLOSE = re.compile(r"<(?:/(?:t(?:h(?:i(?:n(?:k\s*)?)?)?)?)?)?\Z", re.IGNORECASE)


class ReasoningSplitter:
    """Tells reasoning in a growing text from the answer: what begins a line with ``<think>``, outside of code.

    >>> splitter = ReasoningSplitter()
    >>> [*splitter.feed("<thi"), *splitter.feed("nk>Hm.</think>\\n\\nHello!"), *splitter.finish()]
    [('reasoning', '\\n\\n'), ('reasoning', 'Hm.'), ('text', 'Hello!')]
    """

    def __init__(self) -> None:
        self._pending = ""
        self._inside = False
        self._line = ""
        self._fence = ""
        self._after = False
        """Whether the text continues after reasoning, so that the blank lines between belong to neither."""

    def feed(self, piece: str) -> list[Part]:
        """Return the parts that are certain; the beginning of a tag waits for its end."""
        text, self._pending = self._pending + piece, ""
        parts: list[Part] = []
        while text:
            text = self._read_reasoning(text, parts) if self._inside else self._read_text(text, parts)
        return parts

    def finish(self) -> list[Part]:
        """Return what waits."""
        text, self._pending = self._pending, ""
        if self._inside:
            return [("reasoning", text)] if text else []
        return [("text", text)] if text and not (self._after and not text.strip()) else []

    def _read_reasoning(self, text: str, parts: list[Part]) -> str:
        closing = _CLOSES.search(text)
        if closing is not None:
            if closing.start():
                parts.append(("reasoning", text[: closing.start()]))
            self._inside, self._after, self._line = False, True, ""
            return text[closing.end() :]
        begun = _MAY_CLOSE.search(text)
        end = begun.start() if begun is not None else len(text)
        if end:
            parts.append(("reasoning", text[:end]))
        self._pending = text[end:]
        return ""

    def _read_text(self, text: str, parts: list[Part]) -> str:
        if not self._line and not self._fence:
            opening = _OPENS.match(text)
            if opening is not None:
                self._inside = True
                parts.append(("reasoning", "\n\n"))
                return text[opening.end() :]
            if _MAY_OPEN.fullmatch(text):
                self._pending = text
                return ""
            if self._after:
                text, self._after = text.lstrip(), False
        end = len(text) if "<" not in text else text.find("\n") + 1 or len(text)
        *lines, self._line = (self._line + text[:end]).split("\n")
        for line in lines:
            self._fence = fence_after(line, self._fence)
        parts.append(("text", text[:end]))
        return text[end:]


def split_reasoning(text: str) -> tuple[str, str]:
    """Return the reasoning in the text, and the text without it.

    >>> split_reasoning("<think>Hm.</think>Hello!")
    ('Hm.', 'Hello!')
    """
    if "<think" not in text.lower():
        return "", text
    splitter = ReasoningSplitter()
    parts = [*splitter.feed(text), *splitter.finish()]
    pieces = {kind: "".join(piece for found, piece in parts if found == kind) for kind in ("reasoning", "text")}
    return pieces["reasoning"].strip(), pieces["text"]


def field_reasoning(message: Any) -> str:
    """Return the reasoning that a message, or what is new in it, has beside its text."""
    extra = message.model_extra or {}
    return next((extra[name] for name in FIELDS if isinstance(extra.get(name), str)), "")


def separate_reasoning(answer: Answer) -> tuple[str, Answer]:
    """Return the reasoning of an answer, and the answer without it; items of their own stay in a response."""
    if isinstance(answer, Response):
        return cast("tuple[str, Answer]", _of_response(answer))
    return cast("tuple[str, Answer]", _of_completion(cast(ChatCompletion, answer)))


def _of_completion(completion: ChatCompletion) -> tuple[str, ChatCompletion]:
    found: list[str] = []
    choices = []
    for number, choice in enumerate(completion.choices):
        message = choice.message
        written, text = split_reasoning(message.content)
        extra = message.model_extra or {}
        if written or any(name in extra for name in (*FIELDS, *_OTHER_FIELDS)):
            if number == 0:
                found = [part for part in (field_reasoning(message).strip(), written) if part]
            message = message.model_copy(update={"content": text})
            others = {name: value for name, value in extra.items() if name not in (*FIELDS, *_OTHER_FIELDS)}
            object.__setattr__(message, "__pydantic_extra__", others)
            choice = choice.model_copy(update={"message": message})
        choices.append(choice)
    if all(new is old for new, old in zip(choices, completion.choices, strict=True)):
        return "", completion
    return "\n\n".join(found), completion.model_copy(update={"choices": choices})


def _of_response(response: Response) -> tuple[str, Response]:
    found: list[str] = []
    items = []
    for item in response.output:
        parts = []
        for part in item.content:
            written, text = split_reasoning(part.text or "")
            if written:
                found.append(written)
                part = part.model_copy(update={"text": text})
            parts.append(part)
        items.append(item.model_copy(update={"content": parts}))
    return "\n\n".join(found), response.model_copy(update={"output": items}) if found else response

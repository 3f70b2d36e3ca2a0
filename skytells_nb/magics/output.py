"""The output of a cell: collapsed reasoning, the answer in the requested format, and notes below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skytells_nb.magics.chat_arguments import Format
from skytells_nb.magics.formats import Fragment, formatter_for
from skytells_nb.magics.question import PartKind
from skytells_nb.widgets.display import Mode
from skytells_nb.widgets.growing_text import Format as StreamFormat
from skytells_nb.widgets.growing_text import Part, ReasoningSplitter
from skytells_nb.widgets.highlighting import preload
from skytells_nb.widgets.live import StreamingOutput
from skytells_nb.widgets.reasoning import ReasoningOutput


class CellOutput:
    """Shows the parts of an answer as they arrive; nothing is shown after ``close``."""

    def __init__(self, format: Format, mode: Mode, *, remote_images: bool = False) -> None:
        stream_format = _stream_format(format)
        if stream_format == "code" and mode == "live":
            preload()
        self._mode = mode
        self._stream = StreamingOutput(format=stream_format, mode=mode, remote_images=remote_images)
        self._formatter = formatter_for(format, mode) if stream_format == "code" else None
        self._splitter = ReasoningSplitter()
        self._reasoning: ReasoningOutput | None = None

    def __enter__(self) -> CellOutput:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def write(self, parts: Iterable[tuple[PartKind, str]]) -> None:
        for kind, text in parts:
            if kind == "text":
                self._write_split(self._splitter.feed(text))
                continue
            reasoning = self._above()
            match kind:
                case "reasoning":
                    reasoning.add(text)
                case "reasoning paragraph":
                    reasoning.end_paragraph()
                case "reasoning item":
                    reasoning.end_item(text)

    def close(self, *, notes: Sequence[str] = (), metadata: Mapping[str, Any] | None = None) -> None:
        self._write_split(self._splitter.finish())
        self._show_reasoning()
        if self._formatter is not None:
            self._write_fragments(self._formatter.finish())
            replacement = self._formatter.replacement()
            if replacement is not None:
                self._stream.replace(*replacement)
        self._stream.close(notes=notes, metadata=metadata)

    def _above(self) -> ReasoningOutput:
        self._reasoning = self._reasoning or ReasoningOutput(self._mode)
        return self._reasoning

    def _show_reasoning(self) -> None:
        if self._reasoning is not None:
            self._reasoning.show()

    def _write_split(self, parts: Iterable[Part]) -> None:
        for kind, text in parts:
            if kind == "reasoning":
                self._above().add(text)
                continue
            self._show_reasoning()
            if self._formatter is None:
                self._stream.write(text)
            else:
                self._write_fragments(self._formatter.feed(text))

    def _write_fragments(self, fragments: Iterable[Fragment]) -> None:
        for text, language in fragments:
            self._stream.write(text, language)


def _stream_format(format: Format) -> StreamFormat:
    return format if format in ("markdown", "text") else "code"

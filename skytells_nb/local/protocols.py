"""Protocols of the three models that the local server uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TextEmbedder(Protocol):
    """Embeds texts as unit vectors."""

    @property
    def name(self) -> str: ...
    @property
    def dimensions(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def count_tokens(self, text: str) -> int: ...


class TextModerator(Protocol):
    """Scores texts: a severity for each category."""

    def score(self, texts: Sequence[str]) -> list[dict[str, str]]: ...


class TextPiece(Protocol):
    """A part of a generated text. The last one has the finish reason and the token counts."""

    @property
    def text(self) -> str: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...


class TextGenerator(Protocol):
    """Generates text from messages, piece by piece. Closing the iterator stops the generation."""

    @property
    def name(self) -> str: ...
    @property
    def available(self) -> bool: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def context(self) -> int: ...

    def count_tokens(self, messages_or_text: list[dict[str, Any]] | str) -> int: ...

    def stream(
        self,
        messages: list[dict[str, Any]],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float,
        stop: Sequence[str] = (),
        seed: int | None = None,
        presence_penalty: float = 0,
        frequency_penalty: float = 0,
        schema: dict[str, Any] | None = None,
        json: bool = False,
    ) -> Iterator[TextPiece]: ...


@dataclass(frozen=True, slots=True)
class LocalModels:
    """The three models of a local server."""

    embedder: TextEmbedder
    moderator: TextModerator
    generator: TextGenerator

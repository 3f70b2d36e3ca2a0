"""Texts cut and packed into parts that fit a model's window, the same way each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from skytells_nb.engine.plan import BYTES_PER_TOKEN, token_estimates

BETWEEN = "\n\n---\n\n"
"""What separates texts in one prompt."""
BETWEEN_TOKENS = 2


def pieces(text: str, most: int) -> Iterator[str]:
    """The text in pieces of at most ``most`` estimated tokens, cut at white space where there is some.

    >>> list(pieces("one two three four", 2))
    ['one two', 'three', 'four']
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        # Half a character cannot be sent, and the engine says so.
        size = 0
    limit = int(most * BYTES_PER_TOKEN)
    if size <= limit:
        yield text
        return
    start = 0
    while start < len(text):
        held = text[start : start + limit].encode()[:limit].decode(errors="ignore")
        stop = len(text) if start + len(held) >= len(text) else start + _cut(held, text[start + len(held)])
        piece = text[start:stop].strip()
        if piece:
            yield piece
        start = stop


def _cut(held: str, after: str) -> int:
    """Where to end a piece: the last white space of its second half, else its end."""
    if after.isspace():
        return len(held)
    space = max(held.rfind(" "), held.rfind("\n"))
    return space if space > len(held) // 2 else max(1, len(held))


def chunks(texts: Iterable[str], most: int, *, least: int = 1) -> list[list[str]]:
    """Texts in order, in chunks of at most ``most`` estimated tokens; a longer text goes in as its pieces.

    A chunk before the last holds ``least`` texts at least, so that with two of them a tree always gets smaller.

    >>> chunks(["four words of text", "two", "more"], 6)
    [['four words of text'], ['two', 'more']]
    """
    parts = [piece for text in texts for piece in pieces(text, most)]
    made: list[list[str]] = []
    room = 0
    for part, tokens in zip(parts, token_estimates(parts).tolist(), strict=True):
        needed = tokens + BETWEEN_TOKENS
        if made and (needed <= room or len(made[-1]) < least):
            made[-1].append(part)
        else:
            made.append([part])
            room = most + BETWEEN_TOKENS
        room -= needed
    return made


def prompt_of(chunk: Sequence[str]) -> str:
    """The texts of a chunk as one prompt."""
    return BETWEEN.join(chunk)

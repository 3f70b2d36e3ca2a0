"""Pictures for a prompt: checked here, and sent as the URL that both APIs take."""

from __future__ import annotations

import base64
import binascii
import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skytells_nb.magics.args import MagicUsageError

MOST_BYTES = 20_000_000
"""The upstream service's own limit for one picture (20 MB)."""

_STARTS = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""Of PIL's; what others hold, such as the CMYK of a JPEG, a PNG cannot or few read."""
_WEB = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_DATA = re.compile(r"data:[^,;]*;base64,", re.IGNORECASE)


def image_url(word: str, namespace: Mapping[str, Any]) -> str:
    """The picture that ``--image`` names: a web address as it is, everything else as a data URL.

    A variable of that name comes before a file of that name. Raises MagicUsageError for what is no PNG, JPEG, GIF or
    WebP, for more than ``MOST_BYTES``, and for what cannot be read.
    """
    if word in namespace:
        return _of_value(word, namespace[word])
    return _of_text(word, word)


def _of_value(word: str, value: Any) -> str:
    if isinstance(value, str):
        return _of_text(word, value)
    if isinstance(value, Path):
        return _of_file(word, value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _data_url(word, bytes(value))
    # A picture of PIL can only exist where PIL is imported already.
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(value, pil.Image):
        return _data_url(word, _png(word, value))
    raise MagicUsageError(
        f"--image {word}: a {type(value).__name__} is no picture; pass a path, bytes, a URL or a PIL image"
    )


def _png(word: str, picture: Any) -> bytes:
    written = io.BytesIO()
    try:
        (picture if picture.mode in _PNG_MODES else picture.convert("RGB")).save(written, format="PNG")
    except (OSError, ValueError) as problem:
        raise MagicUsageError(f"--image {word}: PIL cannot read or write this picture: {problem}") from None
    return written.getvalue()


def _of_text(word: str, text: str) -> str:
    if _WEB.match(text):
        return text
    data = _DATA.match(text)
    if data is None:
        return _of_file(word, Path(text))
    try:
        return _data_url(word, base64.b64decode(text[data.end() :], validate=True))
    except binascii.Error:
        raise MagicUsageError(f"--image {word}: the data URL is not valid base64") from None


def _of_file(word: str, path: Path) -> str:
    try:
        path = path.expanduser()
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise MagicUsageError(_too_large(word, size))
        return _data_url(word, path.read_bytes())
    except (OSError, ValueError, RuntimeError) as problem:
        if isinstance(problem, MagicUsageError):
            raise
        reason = getattr(problem, "strerror", None) or str(problem)
        raise MagicUsageError(f"--image {word}: no variable of this name, and no file: {reason}") from None


def _data_url(word: str, data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise MagicUsageError(_too_large(word, len(data)))
    kind = next((kind for kind, start in _STARTS.items() if start.match(data)), None)
    if kind is None:
        raise MagicUsageError(f"--image {word}: this is no PNG, JPEG, GIF or WebP")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _too_large(word: str, size: int) -> str:
    return f"--image {word}: {size / 1e6:,.1f} MB is more than {MOST_BYTES / 1e6:,.0f} MB; make the picture smaller"

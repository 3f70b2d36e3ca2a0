"""Pictures for a prompt: checked before anything is sent, and sent as the URL that both APIs take."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skytells_nb.errors import InputError

MAX_BYTES = 20_000_000
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


@dataclass(frozen=True, slots=True)
class Image:
    """One picture by its content. That of a file is read again when it is sent, so that many need no memory."""

    kind: str
    digest: str
    """SHA-256 of the bytes, in hexadecimal."""
    source: bytes | Path = field(repr=False, compare=False)

    @property
    def url(self) -> str:
        """The data URL. Raises InputError where the file is gone, or is another one by now."""
        source = self.source
        data = source if isinstance(source, bytes) else _read(source)
        if isinstance(source, Path) and hashlib.sha256(data).hexdigest() != self.digest:
            raise InputError(f"{source} has changed since the call began; call again")
        return f"data:{self.kind};base64,{base64.b64encode(data).decode()}"


def load_image(value: Any) -> Image | str:
    """The picture that a path, bytes, a data URL or a PIL image is; a web address stays as it is.

    Raises InputError for what is no PNG, JPEG, GIF or WebP, for more than ``MOST_BYTES``, and for what cannot be read.

    >>> picture("https://example.com/cat.png")
    'https://example.com/cat.png'
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, Path):
        return _of_file(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return _made(data, data)
    # A picture of PIL can only exist where PIL is imported already.
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(value, pil.Image):
        data = _png(value)
        return _made(data, data)
    raise InputError(f"a {type(value).__name__} is no picture; pass a path, bytes, a URL or a PIL image")


def _png(image: Any) -> bytes:
    written = io.BytesIO()
    try:
        (image if image.mode in _PNG_MODES else image.convert("RGB")).save(written, format="PNG")
    except (OSError, ValueError) as problem:
        raise InputError(f"PIL cannot read or write this picture: {problem}") from None
    return written.getvalue()


def _of_text(text: str) -> Image | str:
    if _WEB.match(text):
        return text
    start = _DATA.match(text)
    if start is None:
        return _of_file(Path(text))
    try:
        data = base64.b64decode(text[start.end() :], validate=True)
    except binascii.Error:
        raise InputError("the data URL is not valid base64") from None
    return _made(data, data)


def _of_file(path: Path) -> Image:
    try:
        found = path.expanduser().absolute()
    except RuntimeError as problem:
        raise InputError(str(problem)) from None
    return _made(_read(found), found)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(_too_large(size))
        return path.read_bytes()
    except InputError:
        raise
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise InputError(f"there is no file {path}: {reason}") from None


def _made(data: bytes, source: bytes | Path) -> Image:
    if len(data) > MAX_BYTES:
        raise InputError(_too_large(len(data)))
    kind = next((kind for kind, start in _STARTS.items() if start.match(data)), None)
    if kind is None:
        raise InputError("this is no PNG, JPEG, GIF or WebP")
    return Image(kind, hashlib.sha256(data).hexdigest(), source)


def _too_large(size: int) -> str:
    return f"{size / 1e6:,.1f} MB is more than {MAX_BYTES / 1e6:,.0f} MB; make the picture smaller"

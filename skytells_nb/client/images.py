"""Images for a prompt: checked before anything is sent, and sent as the URL that both APIs accept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skytells_nb.errors import InputError

MAX_BYTES = 20_000_000
"""The upstream service's limit for one image (20 MB)."""

_SIGNATURES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""Modes of PIL that a PNG can hold and that readers support; others, such as the CMYK of a JPEG, are converted."""
_WEB_URL = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_DATA_URL = re.compile(r"data:[^,;]*;base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Image:
    """An image by its content. A file is read again when it is sent, so that many images need no memory."""

    kind: str
    digest: str
    """SHA-256 of the bytes, in hexadecimal."""
    source: bytes | Path = field(repr=False, compare=False)

    @property
    def url(self) -> str:
        """The data URL. Raises InputError if the file was removed or changed."""
        source = self.source
        data = source if isinstance(source, bytes) else _read(source)
        if isinstance(source, Path) and hashlib.sha256(data).hexdigest() != self.digest:
            raise InputError(f"{source} has changed since the call began; call again")
        return f"data:{self.kind};base64,{base64.b64encode(data).decode()}"


def load_image(value: Any, root: Path | None = None) -> Image | str:
    """Return the image of a path, bytes, a data URL or a PIL image; a web address is returned unchanged.

    With ``root``, an absolute folder, a path is data and not the user's own: it must name a file below that folder,
    after every link, and ``~`` has no meaning in it. Raises InputError if the image is not a PNG, JPEG, GIF or WebP, is
    larger than ``MAX_BYTES``, no regular file or cannot be read.

    >>> load_image("https://example.com/cat.png")
    'https://example.com/cat.png'
    """
    if isinstance(value, str):
        return _from_text(value, root)
    if isinstance(value, Path):
        return _from_file(value, root)
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return _image(data, data)
    # A PIL image can exist only if PIL is imported already.
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(value, pil.Image):
        data = _png(value)
        return _image(data, data)
    raise InputError(f"an image must be a path, bytes, a URL or a PIL image, got {type(value).__name__}")


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        (image if image.mode in _PNG_MODES else image.convert("RGB")).save(buffer, format="PNG")
    except (OSError, ValueError) as problem:
        raise InputError(f"PIL cannot read or write this image: {problem}") from None
    return buffer.getvalue()


def _from_text(text: str, root: Path | None) -> Image | str:
    if _WEB_URL.match(text):
        return text
    start = _DATA_URL.match(text)
    if start is None:
        return _from_file(Path(text), root)
    try:
        data = base64.b64decode(text[start.end() :], validate=True)
    except binascii.Error:
        raise InputError("the data URL is not valid base64") from None
    return _image(data, data)


def _from_file(path: Path, root: Path | None) -> Image:
    if root is not None:
        return _from_folder(path, root)
    try:
        resolved = path.expanduser().absolute()
    except RuntimeError as problem:
        raise InputError(str(problem)) from None
    return _image(_read(resolved), resolved)


def _from_folder(path: Path, root: Path) -> Image:
    """Return the image of a path that is data: of a file below ``root``, which no link leads out of."""
    try:
        resolved = (root / path).resolve()
        inside = resolved.is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError) as problem:
        raise InputError(f"the file {str(path)[:200]!r} cannot be read: {_reason(problem)}") from None
    if not inside:
        raise InputError(
            f"an image that a cell names must be a URL or a file below {root}, got {str(path)[:200]!r}; "
            "images_from= names another folder"
        )
    return _image(_read(resolved), resolved)


def _read(path: Path) -> bytes:
    """Read a regular file: a pipe or a device has no size, and no end."""
    try:
        # Opening a pipe waits for its writer; opening a device may act on it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"the file {path} must be a regular file, got {_kind(status.st_mode)}")
            if status.st_size > MAX_BYTES:
                raise InputError(_too_large(status.st_size))
            with open(handle, "rb", closefd=False) as file:
                return file.read(MAX_BYTES + 1)
        finally:
            os.close(handle)
    except InputError:
        raise
    except (OSError, ValueError) as problem:
        raise InputError(f"the file {str(path)[:200]} cannot be read: {_reason(problem)}") from None


def _reason(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem)


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")


def _image(data: bytes, source: bytes | Path) -> Image:
    if len(data) > MAX_BYTES:
        raise InputError(_too_large(len(data)))
    kind = next((kind for kind, start in _SIGNATURES.items() if start.match(data)), None)
    if kind is None:
        raise InputError("an image must be PNG, JPEG, GIF or WebP, got something else; convert it first")
    return Image(kind, hashlib.sha256(data).hexdigest(), source)


def _too_large(size: int) -> str:
    return f"{size / 1e6:,.1f} MB is more than {MAX_BYTES / 1e6:,.0f} MB; make the image smaller"

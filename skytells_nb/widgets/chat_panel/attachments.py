"""What goes along with a question: variables of the notebook as text, and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skytells_nb.client.images import Image, load_image
from skytells_nb.errors import InputError
from skytells_nb.widgets.chat_panel.variable_text import variable_text


@dataclass(frozen=True, slots=True)
class Attachment:
    """A variable as text, or an image as a URL, by the name it was attached under."""

    name: str
    kind: str
    """What it is, for a person: the type of a variable, or the format of an image and its size."""
    content: str = field(repr=False)
    is_image: bool = False

    @property
    def prompt(self) -> str:
        """The variable as it is sent below the question."""
        marks = "```"
        while marks in self.content:
            marks += "`"
        return f"{self.name} ({self.kind}):\n{marks}\n{self.content}\n{marks}"

    @property
    def label(self) -> str:
        """Its name and kind."""
        return f"{self.name} ({self.kind})"


def attach(name: str, value: Any) -> Attachment:
    """Return a value as an attachment: bytes, a path or a PIL image is an image, everything else becomes text.

    Raises InputError for an image that cannot be sent, and for a value without a text form.

    >>> attach("total", 12.5).prompt
    'total (float):\\n```\\n12.5\\n```'
    """
    if isinstance(value, (bytes, bytearray, memoryview, Path)) or type(value).__module__.partition(".")[0] == "PIL":
        return _image(name, value)
    try:
        return Attachment(name, _kind(value), variable_text(name, value))
    except InputError as error:
        raise InputError(f"{name} {error}; an image must be bytes, a path or a PIL image.") from None


def _image(name: str, value: Any) -> Attachment:
    try:
        image = load_image(value)
    except InputError as error:
        raise InputError(f"{name} cannot be attached: {error}.") from None
    if not isinstance(image, Image):
        return Attachment(name, "image", image, is_image=True)
    url = image.url
    return Attachment(name, _image_kind(url), url, is_image=True)


def _image_kind(url: str) -> str:
    """The format and the size of an image in a data URL."""
    kind = url[: url.find(";")].rpartition("/")[2].upper()
    return f"{kind} image, {max(1, round(len(url) * 3 / 4 / 1000)):,} kB"


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{name}, {len(value):,} rows" if name in ("DataFrame", "Series") else name


def image_of_part(part: Mapping[str, Any], number: int) -> Attachment | None:
    """Return the image of a part of a message; ``None`` for another part."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else None
    if part.get("type") != "image_url" or not isinstance(url, str):
        return None
    kind = _image_kind(url) if url.startswith("data:image/") else "image"
    return Attachment(f"image {number}", kind, url, is_image=True)

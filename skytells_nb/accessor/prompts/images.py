"""Images of rows: from columns to parts of messages that refer to the images by digest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.text_columns import is_missing
from skytells_nb.client.images import Image, load_image
from skytells_nb.columns import column_of
from skytells_nb.engine.operations.conversation import IMAGE_REFERENCE, Message, map_images
from skytells_nb.errors import InputError

IMAGE_TOKENS = 765
"""Tokens of one image: OpenAI counts 85, and 170 for each of the four tiles of 1024 x 1024 in full detail."""


def image_folder(images_from: Any) -> Path:
    """Return the folder that cells may name images in; raise InputError if there is none.

    >>> image_folder(None) == Path.cwd()
    True
    """
    if images_from is None:
        images_from = "."
    if not isinstance(images_from, (str, Path)):
        raise InputError(f"images_from must be the path of a folder, got {type(images_from).__name__}.")
    try:
        folder = Path(images_from).expanduser().absolute()
        if folder.is_dir():
            return folder
    except (OSError, ValueError, RuntimeError):
        pass
    raise InputError(f"images_from must be the path of a folder that exists, got {str(images_from)[:200]!r}.")


class ImageStore:
    """The distinct images of one call, whose files are below ``root``; messages hold their digests."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.images: dict[str, Image] = {}
        self.count = 0
        """Number of images in all messages."""
        self._urls: dict[str | Path, str] = {}

    def url(self, value: Any) -> str:
        """Return the URL or reference of this image in a message; raise InputError if it cannot be sent."""
        key = value if isinstance(value, (str, Path)) else None
        url = None if key is None else self._urls.get(key)
        if url is None:
            image = load_image(value, self._root)
            if isinstance(image, str):
                url = image
            else:
                self.images[image.digest] = image
                url = f"{IMAGE_REFERENCE}{image.digest}"
            if key is not None:
                self._urls[key] = url
        return url

    def part(self, value: Any) -> Message:
        """Return the part of a message that holds this image."""
        return {"type": "image_url", "image_url": {"url": self.url(value)}}

    def replace_data(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with references in place of data URLs, and count their images."""

        def reference(url: str) -> str:
            self.count += 1
            return self.url(url) if url.startswith("data:") else url

        return map_images(messages, reference)


def image_cells(frame: pd.DataFrame, images: Any) -> tuple[list[Any], list[list[Any] | None]]:
    """Return the names of the columns, and the images of each row from left to right, ``None`` if a cell is missing."""
    # A tuple may be the name of a column with several levels.
    several = isinstance(images, list) or (isinstance(images, tuple) and images not in frame.columns)
    names = list(images) if several else [images]
    if not names:
        raise InputError("images must be a column of images or a list of columns, got an empty list.")
    columns = [[_cell_images(cell) for cell in column_of(frame, name)] for name in names]
    return names, [_concatenate(cells) for cells in zip(*columns, strict=True)]


def _cell_images(cell: Any) -> list[Any] | None:
    """Return the images of one cell, which may hold several or none; ``None`` if it is missing."""
    if isinstance(cell, (list, tuple, np.ndarray)):
        return list(cell)
    return None if is_missing(cell) else [cell]


def _concatenate(cells: Sequence[list[Any] | None]) -> list[Any] | None:
    images: list[Any] = []
    for cell in cells:
        if cell is None:
            return None
        images += cell
    return images

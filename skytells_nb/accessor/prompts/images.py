"""Pictures of rows: from columns to the parts of messages, with the pictures themselves beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.text_columns import column_of
from skytells_nb.client.images import Image, load_image
from skytells_nb.engine.operations.conversation import REFERENCE, Message, map_images
from skytells_nb.errors import InputError

IMAGE_TOKENS = 765
"""Tokens of one picture: OpenAI counts 85 and 170 for each of the four tiles of 1024 x 1024 in full detail."""


class ImageStore:
    """The pictures of one call, each once; messages hold their digests."""

    def __init__(self) -> None:
        self.pictures: dict[str, Image] = {}
        self.shown = 0
        """Pictures in all messages together."""
        self._known: dict[str | Path, str] = {}

    def url(self, value: Any) -> str:
        """What stands for this picture in a message; raises InputError for what is none."""
        named = value if isinstance(value, (str, Path)) else None
        found = None if named is None else self._known.get(named)
        if found is None:
            made = load_image(value)
            if isinstance(made, str):
                found = made
            else:
                self.pictures[made.digest] = made
                found = f"{REFERENCE}{made.digest}"
            if named is not None:
                self._known[named] = found
        return found

    def part(self, value: Any) -> Message:
        return {"type": "image_url", "image_url": {"url": self.url(value)}}

    def take(self, turns: Sequence[Message]) -> list[Message]:
        """The messages as they are sent, counted, with the pictures that they hold as data taken out."""

        def url(found: str) -> str:
            self.shown += 1
            return self.url(found) if found.startswith("data:") else found

        return map_images(turns, url)


def image_cells(frame: pd.DataFrame, images: Any) -> tuple[list[Any], list[list[Any] | None]]:
    """The names of the columns, and for each row its pictures from left to right, ``None`` where a cell is null."""
    names = list(images) if isinstance(images, list) else [images]
    if not names:
        raise InputError("images names a column of pictures, or a list of columns.")
    columns = [[_pictures(cell) for cell in column_of(frame, name)] for name in names]
    return names, [_joined(cells) for cells in zip(*columns, strict=True)]


def _pictures(cell: Any) -> list[Any] | None:
    """The pictures of one cell, which may hold several or none; ``None`` for a null."""
    if isinstance(cell, (list, tuple, np.ndarray)):
        return list(cell)
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell):
        return None
    return [cell]


def _joined(cells: Sequence[list[Any] | None]) -> list[Any] | None:
    found: list[Any] = []
    for cell in cells:
        if cell is None:
            return None
        found += cell
    return found

"""Warnings that point at the user's line."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from skytells_nb.errors import SkytellsWarning

_PACKAGE = str(Path(__file__).parent) + os.sep


def warn(message: str) -> None:
    """A SkytellsWarning from the nearest line outside this library."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        depth += 1
    warnings.warn(message, SkytellsWarning, stacklevel=depth)

"""Names of displays, the same each time that a notebook runs; and the display modes, for what is shown in a cell."""

from __future__ import annotations

import hashlib
import itertools

from skytells_nb.progress.display import cell_publish, display_mode, new_display_id, running_shell
from skytells_nb.progress.line import Mode, Publish

__all__ = [
    "Mode",
    "Publish",
    "cell_publish",
    "display_mode",
    "model_id",
    "new_display_id",
    "next_name",
    "running_shell",
]

_numbers: dict[str, itertools.count[int]] = {}


def next_name(kind: str) -> str:
    """Return a name for the next object of this kind in this process: a notebook that runs again has the same ones.

    >>> next_name("example"), next_name("example")
    ('skytells-example-1', 'skytells-example-2')
    """
    return f"skytells-{kind}-{next(_numbers.setdefault(kind, itertools.count(1)))}"


def model_id(name: str) -> str:
    """Return the id of the widget with this name, in the form of ids that ipywidgets makes."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]

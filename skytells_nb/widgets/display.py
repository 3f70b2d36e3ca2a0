"""What displays in a cell need: modes, names that are the same each time that a notebook runs, scripts and styles."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

from skytells_nb.progress.display import cell_publish as cell_publish
from skytells_nb.progress.display import display_mode as display_mode
from skytells_nb.progress.display import new_display_id as new_display_id
from skytells_nb.progress.display import running_shell as running_shell
from skytells_nb.progress.line import Mode as Mode
from skytells_nb.progress.line import Publish as Publish

_STATIC = Path(__file__).parent / "static"
OUTPUT = ".jp-OutputArea-child"
"""The selector of one output of a cell in JupyterLab and Notebook 7."""


def disconnected_style(followed_by: str, widget: str) -> str:
    """Return the style that hides an output that is a widget of this class no longer, given what follows it.

    Without a kernel a front end shows "Loading widget..." for it, and then an error.

    >>> disconnected_style("+ p", "skytells-panel")
    '<style>.jp-OutputArea-child:has(+ p):not(:has(.skytells-panel)){display: none !important}</style>'
    """
    return f"<style>{OUTPUT}:has({followed_by}):not(:has(.{widget})){{display: none !important}}</style>"


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


def read_assets(*names: str) -> str:
    """Concatenate these files: a page loads a widget's script as one module, which cannot import other files."""
    return "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in names)

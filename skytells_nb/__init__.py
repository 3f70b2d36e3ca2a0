"""Skytells language models inside notebooks: magics that stream, a pandas accessor that pays once, maps and charts.

``df.skytells`` and ``series.skytells`` are there as soon as this is imported; everything heavy loads where it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from skytells_nb import errors
from skytells_nb.accessor import register as _register_accessor

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from skytells_nb import plots, widgets
    from skytells_nb.client.client import Skytells
    from skytells_nb.session import Session, connect, current

__version__ = "0.1.0"

__all__ = [
    "Session",
    "Skytells",
    "__version__",
    "connect",
    "current",
    "errors",
    "load_ipython_extension",
    "plots",
    "unload_ipython_extension",
    "widgets",
]

_PLACES = {"Session": "session", "Skytells": "client.client", "connect": "session", "current": "session"}


def __getattr__(name: str) -> Any:
    if name in ("plots", "widgets"):
        return importlib.import_module(f"skytells_nb.{name}")
    if name in _PLACES:
        return getattr(importlib.import_module(f"skytells_nb.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'skytells_nb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext skytells_nb``: adds the magics; a second time changes nothing."""
    from skytells_nb import magics

    magics.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """``%unload_ext skytells_nb``: gives the shell back as it was found."""
    from skytells_nb import magics

    magics.unload(shell)


_register_accessor()

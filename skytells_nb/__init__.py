"""Skytells language models in notebooks: magics that stream, a pandas accessor that pays once, maps and charts.

Importing the package registers ``df.skytells`` and ``series.skytells``; heavy dependencies are imported on first use.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skytells_nb import errors
from skytells_nb.accessor import frame_accessor as _frame_accessor
from skytells_nb.accessor import register as _register_accessor
from skytells_nb.accessor import series_accessor as _series_accessor
from skytells_nb.errors import InputError as _InputError
from skytells_nb.errors import SkytellsError

if TYPE_CHECKING:
    import pandas as pd
    from IPython.core.interactiveshell import InteractiveShell

    from skytells_nb import columns as columns
    from skytells_nb import files as files
    from skytells_nb import partition as partition
    from skytells_nb import plots, widgets
    from skytells_nb.accessor.frame import FrameAccessor
    from skytells_nb.accessor.recipe import Recipe
    from skytells_nb.accessor.series import SeriesAccessor
    from skytells_nb.client.client import Skytells
    from skytells_nb.session import Session, connect, current

__version__ = "0.2.0"

__all__ = [
    "Session",
    "Skytells",
    "SkytellsError",
    "__version__",
    "connect",
    "current",
    "errors",
    "frame",
    "load_ipython_extension",
    "plots",
    "recipe",
    "series",
    "unload_ipython_extension",
    "widgets",
]

_LAZY_MODULES = ("columns", "files", "partition", "plots", "widgets")
_LAZY_NAMES = {"Session": "session", "Skytells": "client.client", "connect": "session", "current": "session"}


if not TYPE_CHECKING:  # so that a checker finds a misspelled name

    def __getattr__(name: str) -> Any:
        if name in _LAZY_MODULES:
            return importlib.import_module(f"skytells_nb.{name}")
        if name in _LAZY_NAMES:
            return getattr(importlib.import_module(f"skytells_nb.{_LAZY_NAMES[name]}"), name)
        raise AttributeError(f"module 'skytells_nb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def frame(df: pd.DataFrame) -> FrameAccessor:
    """Return the accessor of a frame, the same as ``df.skytells``, with a type that editors and checkers know.

    Parameters
    ----------
    df : pandas.DataFrame
        The frame; it is not changed.

    Returns
    -------
    FrameAccessor
        The methods of ``df.skytells``.

    Raises
    ------
    InputError
        If ``df`` is not a pandas DataFrame.

    Examples
    --------
    >>> import pandas as pd
    >>> frame(pd.DataFrame({"text": ["a cat", "a cat", None]})).estimate("{text}").distinct
    1
    """
    import pandas as pd

    if not isinstance(df, pd.DataFrame):
        raise _InputError(f"df must be a pandas DataFrame, got {_type_name(df)}.")
    return _frame_accessor(df)


def series(s: pd.Series[Any]) -> SeriesAccessor:
    """Return the accessor of a column, the same as ``s.skytells``, with a type that editors and checkers know.

    Parameters
    ----------
    s : pandas.Series
        The column; it is not changed.

    Returns
    -------
    SeriesAccessor
        The methods of ``s.skytells``.

    Raises
    ------
    InputError
        If ``s`` is not a pandas Series.

    Examples
    --------
    >>> import pandas as pd
    >>> series(pd.Series(["a cat", None])).embed(progress=False).isna().tolist()
    [False, True]
    """
    import pandas as pd

    if not isinstance(s, pd.Series):
        raise _InputError(f"s must be a pandas Series, got {_type_name(s)}.")
    return _series_accessor(s)


def recipe(df: pd.DataFrame, arguments: Mapping[Any, Mapping[str, Any]] | None = None) -> Recipe:
    """Return the calls that made the columns of a frame, to make them for another frame: ``recipe(df).apply(new)``.

    Parameters
    ----------
    df : pandas.DataFrame
        A frame that methods of ``df.skytells`` returned, or its Parquet file; ``df.skytells.lineage`` shows its calls.
    arguments : mapping, optional
        Arguments that are not recorded, since a record holds no texts of rows and no objects, by column: few-shot
        examples, functions, other frames, such as ``{"label": {"examples": pairs}}``. In the process that made the
        columns they are known.

    Returns
    -------
    Recipe
        ``apply(new)`` returns the frame with the columns; ``estimate(new)`` what that costs.

    Raises
    ------
    InputError
        If no column of the frame is known to be made by a method.

    Examples
    --------
    >>> import pandas as pd
    >>> df = pd.DataFrame({"text": ["a cat", "a dog"]}).skytells.embed("text", progress=False)
    >>> recipe(df).estimate(pd.DataFrame({"text": ["a cat", "a horse"]})).recipe
    RecipeReport(new=0, changed=1, reused=1)
    """
    from skytells_nb.accessor.recipe import Recipe

    return Recipe(df, arguments)


def _type_name(value: object) -> str:
    """The name of a value's type, with the package that it comes from."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Add the magics to a shell: ``%load_ext skytells_nb``. A second call changes nothing.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        The shell; IPython passes it.

    Examples
    --------
    >>> %load_ext skytells_nb  # doctest: +SKIP
    """
    from skytells_nb import magics

    magics.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics from a shell: ``%unload_ext skytells_nb``.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        The shell; IPython passes it.

    Examples
    --------
    >>> %unload_ext skytells_nb  # doctest: +SKIP
    """
    from skytells_nb import magics

    magics.unload(shell)


# ``python -m skytells_nb`` uses no accessor, and pandas takes longer to import than its help takes to print.
if not (sys.argv[:1] == ["-m"] and f"-m {__name__} " in f"{' '.join(sys.orig_argv)} "):
    _register_accessor()

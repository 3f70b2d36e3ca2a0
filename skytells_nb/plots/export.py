"""Saving figures: as a self-contained page or as an image."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from skytells_nb.errors import ConfigurationError, InputError
from skytells_nb.plots.pages.document import figure_page
from skytells_nb.plots.theme import PRINT_INK

if TYPE_CHECKING:
    import plotly.graph_objects as go

IMAGE_FORMATS = ("png", "svg", "pdf", "webp", "jpeg", "jpg")
PRINT_DPI, CSS_DPI = 300, 96


def save(
    figure: go.Figure,
    path: str | Path,
    *,
    width: int | None = None,
    height: int | None = None,
    scale: float | None = None,
) -> Path:
    """Write a figure to a file; the extension decides the format.

    ``.html`` is one interactive page of about 2 MB, and the texts of its rows, that loads nothing and runs no script
    but its own; it needs a browser of 2023 or later. The page of a semantic map in 2D has a search that lights the rows
    with all words, topics or categories to filter by, the full text of a point that is clicked, a lasso, the rows as
    CSV (texts that a spreadsheet would read as formulas begin with an apostrophe), and names of parts of topics on
    zoom. It has the columns that the map shows. Of up to 10,000 rows it takes at most 6 MB: longer texts are cut, which
    it says. A copy of a figure has no rows.

    ``.png``, ``.svg``, ``.pdf``, ``.webp`` and ``.jpeg`` are made by kaleido and need Chrome or Chromium. A figure
    without ``theme=`` has no background: a page follows the reader's light or dark setting, and a PNG is transparent.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        The figure.
    path : str or Path
        The file.
    width : int, optional
        Width of an image in pixels; by default the figure's own, or 1000.
    height : int, optional
        Height of an image in pixels; by default the figure's own.
    scale : float, optional
        Factor for the pixels of an image; by default 2, and for a figure with ``theme="print"`` the one that makes 300
        dots per inch.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the extension is not one of these.
    ConfigurationError
        If kaleido or the browser is missing.

    Examples
    --------
    >>> import tempfile, plotly.graph_objects as go
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(go.Figure(), Path(folder) / "map.html").name
    'map.html'
    """
    target = Path(path).expanduser()
    extension = target.suffix.lower().removeprefix(".")
    if extension == "html":
        target.write_text(figure_page(figure), encoding="utf-8")
    elif extension in IMAGE_FORMATS:
        layout = figure.layout
        printed = layout.template.layout.font.color == PRINT_INK
        _write_image(
            figure,
            target,
            width=width or layout.width or 1000,
            height=height or layout.height or 560,
            scale=scale if scale is not None else PRINT_DPI / CSS_DPI if printed else 2.0,
        )
    else:
        raise InputError(f"The extension must be .html, .{', .'.join(IMAGE_FORMATS)}, got {target.name!r}.")
    return target


def _write_image(figure: go.Figure, target: Path, *, width: int, height: int, scale: float) -> None:
    alternative = "Or save as .html, which needs neither."
    if find_spec("kaleido") is None:
        raise ConfigurationError(
            f"Saving a figure as {target.suffix} needs kaleido and Chrome or Chromium: pip install kaleido. "
            f"{alternative}"
        )
    try:
        figure.write_image(target, width=width, height=height, scale=scale)
    except (RuntimeError, ValueError) as error:
        if "chrome" not in str(error).lower():
            raise
        if "close immediately" in str(error):
            raise ConfigurationError(
                f"The browser that kaleido started to draw {target.name!r} ended at once. Start it from a terminal to "
                f"see why. {alternative}"
            ) from error
        raise ConfigurationError(
            f"Kaleido found no Chrome or Chromium to draw {target.name!r}. Install one of them. {alternative}"
        ) from error

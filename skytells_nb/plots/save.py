"""A figure as a file: a page that needs nothing else, or an image."""

from __future__ import annotations

import html
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from skytells_nb.errors import ConfigurationError, InputError
from skytells_nb.plots import theme as look

if TYPE_CHECKING:
    import plotly.graph_objects as go

IMAGES = ("png", "svg", "pdf", "webp", "jpeg", "jpg")
SCRIPT_START = "<head>"


def save(
    figure: go.Figure, path: str | Path, *, width: int = 1000, height: int | None = None, scale: float = 2.0
) -> Path:
    """Write a figure to a file; the extension decides the format.

    ``.html`` is one page of some 5 MB that needs no network: it zooms, filters and shows hover texts. ``.png``,
    ``.svg``, ``.pdf``, ``.webp`` and ``.jpeg`` are made by kaleido and need Chrome or Chromium. A figure without
    ``theme=`` has no background: a page follows the reader's light or dark setting, a PNG is transparent.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        The figure.
    path : str or Path
        The file.
    width : int, default 1000
        Width of an image in pixels.
    height : int, optional
        Height of an image in pixels; by default the figure's own.
    scale : float, default 2.0
        Factor for the pixels of an image.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the extension is another one.
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
    kind = target.suffix.lower().removeprefix(".")
    if kind == "html":
        target.write_text(_page(figure), encoding="utf-8")
    elif kind in IMAGES:
        _write_image(figure, target, width=width, height=height or figure.layout.height or 560, scale=scale)
    else:
        raise InputError(f"A figure is saved as .html, .{', .'.join(IMAGES)}; {target.name!r} ends otherwise.")
    return target


def _page(figure: go.Figure) -> str:
    ground = figure.layout.paper_bgcolor or figure.layout.template.layout.paper_bgcolor or "#ffffff"
    words = look.summary(figure)
    title = html.escape(look.plain(html.unescape(figure.layout.title.text or words or "Figure"), 120))
    follows = ground == look.NO_GROUND
    head = '<meta name="color-scheme" content="light dark">' if follows else ""
    head += f"<style>body{{margin:0{'' if follows else f';background:{html.escape(ground)}'}}}</style>"
    head += f"<title>{title.replace('&lt;br&gt;', ' ')}</title>"
    if words:
        head += f'<meta name="description" content="{html.escape(words)}">'
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page.replace(SCRIPT_START, SCRIPT_START + head, 1)


def _write_image(figure: go.Figure, target: Path, *, width: int, height: int, scale: float) -> None:
    otherwise = "Or save as .html, which needs nothing more."
    if find_spec("kaleido") is None:
        raise ConfigurationError(
            f"Saving a figure as {target.suffix} needs kaleido, and Chrome or Chromium: pip install kaleido. "
            f"{otherwise}"
        )
    try:
        figure.write_image(target, width=width, height=height, scale=scale)
    except (RuntimeError, ValueError) as problem:
        if "chrome" not in str(problem).lower():
            raise
        raise ConfigurationError(
            f"Kaleido found no Chrome or Chromium to draw {target.name!r} with. Install one. {otherwise}"
        ) from problem

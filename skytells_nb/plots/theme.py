"""The theme of figures, and text for them: escaped, wrapped and shortened.

The kernel cannot know whether the page is light or dark, so the default template has a transparent background and grays
that are legible on both. It is set on each figure; the user's default template of plotly is not changed.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Literal

from skytells_nb.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from plotly.graph_objects import Figure as Figure  # for packages that return figures without plotly

Theme = Literal["light", "dark", "print"]

GRAY = "#7a7a7a"
"""The only gray with a contrast above 4.2 on white and on JupyterLab's dark #111; no gray reaches 4.5 on both."""
GRID_COLOR = "rgba(128,128,128,.25)"
OUTLINE_COLOR = "rgba(122,122,122,.8)"

# The colors of Okabe and Ito without black and yellow, which are invisible on one of the backgrounds, then the same
# colors 45 % darker. For any type of color vision the smallest CIE76 distance is 16 among the first six and 10
# among all of them; symbols distinguish them further.
CATEGORY_COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"),
    *("#003F62", "#7F5700", "#00573F", "#70435C", "#2F6380", "#753400"),
)
CATEGORIES_PER_SYMBOL = 6
CATEGORY_SYMBOLS = ("circle", "diamond", "square", "triangle-up")
COLOR_SCALE = "Cividis"
_SCALE_PARTS: dict[Theme | None, tuple[float, float]] = {
    "light": (0.0, 0.92),
    "print": (0.0, 0.92),
    "dark": (0.3, 1.0),
    None: (0.25, 0.88),
}
"""The part of the scale that is seen on the page: it begins as dark as a dark one and ends as light as a light one."""

TRANSPARENT = "rgba(0,0,0,0)"
HALO_COLORS: dict[Theme | None, str] = {
    "light": "#ffffff",
    "print": "#ffffff",
    "dark": "#111111",
    None: "var(--jp-layout-color0, var(--vscode-editor-background, Canvas))",
}
"""The color around text on points, as CSS: that of the background, also of a notebook's or a browser's own."""

PRINT_INK = "#000000"
_THEME_COLORS: dict[Theme, tuple[str, str, str]] = {
    "light": ("#ffffff", "#333333", "#e3e3e3"),
    "print": ("#ffffff", PRINT_INK, "#d0d0d0"),
    "dark": ("#111111", "#dddddd", "#3a3a3a"),
}
# Control characters, bidirectional overrides (they reorder a line) and lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def graph_objects() -> Any:
    """Import ``plotly.graph_objects``; raise MissingExtraError if plotly is not installed."""
    try:
        import plotly.graph_objects
    except ImportError:
        raise MissingExtraError("A plot", "plots") from None
    return plotly.graph_objects


def template(theme: Theme | None = None) -> go.layout.Template:
    """The template of a figure: transparent for any page, or for a ``"light"`` or ``"dark"`` page, or ``"print"``."""
    if theme is not None and theme not in _THEME_COLORS:
        raise InputError(f'theme must be None, "light", "dark" or "print", got {theme!r}.')
    background, text_color, grid_color = _THEME_COLORS[theme] if theme else (TRANSPARENT, GRAY, GRID_COLOR)
    axis = {"gridcolor": grid_color, "linecolor": grid_color, "zerolinecolor": grid_color, "automargin": True}
    return graph_objects().layout.Template(
        layout={
            "paper_bgcolor": background,
            "plot_bgcolor": background,
            "font": {"color": text_color, "size": 13},
            "title": {
                "x": 0,
                "y": 1,
                "xref": "container",
                "yref": "container",
                "xanchor": "left",
                "yanchor": "top",
                "pad": {"l": 16, "t": 18},
            },
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"bgcolor": TRANSPARENT, "itemsizing": "constant"},
            "modebar": {"bgcolor": TRANSPARENT, "color": GRAY, "activecolor": text_color},
            "colorway": list(CATEGORY_COLORS),
            # A box with its own background, legible over any point on any page.
            "hoverlabel": {"bgcolor": "#222222", "bordercolor": GRAY, "font": {"color": "#f2f2f2"}, "align": "left"},
        }
    )


def apply_theme(
    figure: go.Figure, *, theme: Theme | None, title: str | None, caption: str, summary: str, subtitle: str = ""
) -> go.Figure:
    """Set the template, the texts and the summary (``layout.meta["summary"]``) of a figure.

    The subtitle has one sentence a line and needs a title.
    """
    caption_text = wrap_text(caption, width=110, limit=600)
    heading = wrap_text(title or "", width=80, limit=160)
    # Plotly moves a title up by half a line for each further line.
    extra_lines = heading.count("<br>")
    top = 56 + 22 * extra_lines if title else 24
    figure.update_layout(
        template=template(theme),
        margin={"l": 16, "r": 16, "t": top, "b": 44 + 16 * caption_text.count("<br>")},
        meta={"summary": summary},
    )
    if title:
        figure.update_layout(title={"text": heading, "pad": {"l": 16, "t": 18 + 12 * extra_lines}})
    if title and subtitle:
        finding = "<br>".join(wrap_text(line, width=100, limit=300) for line in subtitle.split("\n"))
        figure.update_layout(title={"subtitle": {"text": finding, "font": {"size": 13}}})
        figure.update_layout(margin={"t": top + 20 + 18 * finding.count("<br>")})
    figure.add_annotation(
        text=caption_text,
        name="caption",
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        yshift=-8,
        align="left",
        showarrow=False,
        font={"size": 11},
    )
    return figure


def empty_figure(message: str, *, theme: Theme | None, title: str | None) -> go.Figure:
    """Create a figure that shows one sentence in place of the data."""
    figure = graph_objects().Figure()
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=escape_text(message), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    figure.update_layout(height=220)
    return apply_theme(figure, theme=theme, title=title, caption="", summary=message)


def format_count(n: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is 1.

    >>> format_count(1_200, "row")
    '1,200 rows'
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def scale_colors(n: int, theme: Theme | None = None) -> list[str]:
    """Return ``n`` colors of the color scale from its first to its last that are seen on the page, as ``#rrggbb``.

    >>> scale_colors(2, "light"), scale_colors(2, "dark")
    (['#00224e', '#e9d44d'], ['#4f576d', '#fee838'])
    """
    from plotly.colors import sample_colorscale, unlabel_rgb

    first, last = _SCALE_PARTS[theme]
    shades = sample_colorscale(COLOR_SCALE, [first + (last - first) * index / max(n - 1, 1) for index in range(n)])
    return ["#" + bytes(round(part) for part in unlabel_rgb(shade)).hex() for shade in shades]


def with_opacity(color: str, opacity: float) -> str:
    """A ``#rrggbb`` color with an opacity.

    >>> with_opacity("#0072B2", 0.1)
    'rgba(0,114,178,0.1)'
    """
    red, green, blue = bytes.fromhex(color[1:])
    return f"rgba({red},{green},{blue},{opacity:g})"


def summary(figure: go.Figure) -> str:
    """Describe a figure in words, for readers who cannot see it: what it shows, of how many rows, by which method.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        A figure of this package.

    Returns
    -------
    str
        The description; empty for other figures.

    Examples
    --------
    >>> import plotly.graph_objects as go
    >>> summary(go.Figure(layout={"meta": {"summary": "Two points."}}))
    'Two points.'
    """
    meta = figure.layout.meta
    return str(meta.get("summary", "")) if isinstance(meta, dict) else ""


def escape_text(text: object, limit: int | None = None) -> str:
    """Escape a text so that plotly shows it literally, cut to ``limit`` characters.

    In nearly every text of a figure, plotly interprets some HTML (``<b>``, ``<a href>``), ``%{meta…}`` references and,
    with MathJax on the page, ``$…$``. It knows few entities: ``&quot;`` would be shown literally.
    """
    return _escape_entities(plain_text(text, limit))


def wrap_text(text: object, *, width: int = 50, limit: int = 100) -> str:
    """Escape a text and break it into lines of at most ``width`` characters, joined by ``<br>``."""
    rest, lines = plain_text(text, limit), []
    while len(rest) > width:
        # textwrap takes ten times as long, and a map wraps a text for each of its rows.
        space = rest.rfind(" ", 0, width + 1)
        lines.append(rest[: space if space > 0 else width])
        rest = rest[len(lines[-1]) :].lstrip()
    return _escape_entities("\n".join([*lines, rest])).replace("\n", "<br>")


def shorten(text: object, limit: int) -> str:
    """Escape a text and cut it in the middle to ``limit`` characters: similar names often differ at their ends."""
    result = plain_text(text, 8 * limit)
    if len(result) > limit:
        tail = (limit - 1) * 2 // 5
        result = f"{result[: limit - 1 - tail].rstrip()}…{result[-tail:].lstrip()}"
    return _escape_entities(result)


def plain_text(text: object, limit: int | None = None) -> str:
    """Return the text on one line, without control characters, cut to ``limit`` characters."""
    result = str(text)
    if limit is not None:
        result = result[: 8 * limit]
    # Nearly all texts are printable ones of one line: a map has a text for each of its rows.
    if not result.isprintable() or not result.isascii():
        result = _UNPRINTABLE.sub(" ", result)
    result = " ".join(result.split())
    return result if limit is None or len(result) <= limit else result[: limit - 1].rstrip() + "…"


_SPECIAL = re.compile("[&<>$]|%{")


def _escape_entities(text: str) -> str:
    if not _SPECIAL.search(text):
        return text
    return html.escape(text, quote=False).replace("$", "&#36;").replace("%{", "&#37;{")

"""How figures look, and how text gets onto them.

The kernel cannot know whether the page is light or dark, so the default template ``skytells`` draws on a transparent
ground in greys that read on both. It is set on each figure; the default of the user's plotly stays as it is.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Literal

from skytells_nb.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from plotly.graph_objects import Figure as Figure  # for rooms that pass figures on and draw none

Theme = Literal["light", "dark"]

GREY = "#7a7a7a"
"""The one grey with contrast above 4.2 on white and on JupyterLab's dark #111; no grey reaches 4.5 on both."""
FAINT = "rgba(128,128,128,.25)"
OUTLINE = "rgba(122,122,122,.8)"

# Okabe and Ito's colours without black and yellow, which vanish on one of the grounds, then the same 45 % darker. The
# smallest CIE76 distance for any kind of colour vision is 16 among the first six and 10 among all; symbols help.
CATEGORY_COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"),
    *("#003F62", "#7F5700", "#00573F", "#70435C", "#2F6380", "#753400"),
)
CATEGORIES_A_SYMBOL = 6
CATEGORY_SYMBOLS = ("circle", "diamond", "square", "triangle-up")
NUMBER_SCALE = "Cividis"

NO_GROUND = "rgba(0,0,0,0)"
LABEL_INKS: dict[Theme | None, tuple[str, str]] = {
    "light": ("#333333", "rgba(255,255,255,.8)"),
    "dark": ("#dddddd", "rgba(17,17,17,.8)"),
    None: ("#f2f2f2", "rgba(34,34,34,.8)"),
}
"""Ink and ground of a name that lies on coloured points; without a theme a box that reads on any page."""

_STRICT: dict[Theme, tuple[str, str, str]] = {
    "light": ("#ffffff", "#333333", "#e3e3e3"),
    "dark": ("#111111", "#dddddd", "#3a3a3a"),
}
# Control characters, the bidirectional overrides that reorder a line, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def graph_objects() -> Any:
    """``plotly.graph_objects``, or the error that says how to get it."""
    try:
        import plotly.graph_objects
    except ImportError:
        raise MissingExtraError("A plot", "plots") from None
    return plotly.graph_objects


def template(theme: Theme | None = None) -> go.layout.Template:
    """The look of a figure: transparent for any page, or strictly ``"light"`` or ``"dark"``."""
    if theme is not None and theme not in _STRICT:
        raise InputError(f'theme is None, "light" or "dark", not {theme!r}.')
    ground, ink, faint = _STRICT[theme] if theme else (NO_GROUND, GREY, FAINT)
    axis = {"gridcolor": faint, "linecolor": faint, "zerolinecolor": faint, "automargin": True}
    return graph_objects().layout.Template(
        layout={
            "paper_bgcolor": ground,
            "plot_bgcolor": ground,
            "font": {"color": ink, "size": 13},
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
            "legend": {"bgcolor": NO_GROUND, "itemsizing": "constant"},
            "modebar": {"bgcolor": NO_GROUND, "color": GREY, "activecolor": ink},
            "colorway": list(CATEGORY_COLORS),
            # A box of its own, readable over any point on any page.
            "hoverlabel": {"bgcolor": "#222222", "bordercolor": GREY, "font": {"color": "#f2f2f2"}, "align": "left"},
        }
    )


def apply_theme(figure: go.Figure, *, theme: Theme | None, title: str | None, caption: str, summary: str) -> go.Figure:
    """The figure with its template, title, caption line and the summary in words (``layout.meta["summary"]``)."""
    lines = wrapped(caption, width=110, limit=600)
    heading = wrapped(title or "", width=80, limit=160)
    # Plotly raises a title by half of each further line.
    more = heading.count("<br>")
    figure.update_layout(
        template=template(theme),
        margin={"l": 16, "r": 16, "t": 56 + 22 * more if title else 24, "b": 28 + 16 * (1 + lines.count("<br>"))},
        meta={"summary": summary},
    )
    if title:
        figure.update_layout(title={"text": heading, "pad": {"l": 16, "t": 18 + 12 * more}})
    figure.add_annotation(
        text=lines,
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


def empty_figure(figure: go.Figure, message: str) -> go.Figure:
    """A figure without axes that shows one sentence where the data would be."""
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=escaped(message), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    figure.update_layout(height=220)
    return figure


def translucent(color: str, opacity: float) -> str:
    """A ``#rrggbb`` colour that lets through what lies under it.

    >>> translucent("#0072B2", 0.1)
    'rgba(0,114,178,0.1)'
    """
    red, green, blue = bytes.fromhex(color[1:])
    return f"rgba({red},{green},{blue},{opacity:g})"


def summary(figure: go.Figure) -> str:
    """Describe a figure in words, for readers who cannot see it: what is drawn, of how many rows, made how.

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


def escaped(text: object, limit: int | None = None) -> str:
    """Text that plotly shows as it is, cut to ``limit`` characters.

    Plotly reads some HTML (``<b>``, ``<a href>``), ``%{meta…}`` references and, with MathJax on the page, ``$…$`` in
    nearly every text of a figure. Its entity table is short: ``&quot;`` would be shown as written.
    """
    return _entities(plain(text, limit))


def wrapped(text: object, *, width: int = 50, limit: int = 100) -> str:
    """Escaped text in lines of at most ``width`` characters, joined by ``<br>``."""
    rest, lines = plain(text, limit), []
    while len(rest) > width:
        # Not textwrap, which takes ten times as long: a map wraps a text for each of its rows.
        at = rest.rfind(" ", 0, width + 1)
        lines.append(rest[: at if at > 0 else width])
        rest = rest[len(lines[-1]) :].lstrip()
    return _entities("\n".join([*lines, rest])).replace("\n", "<br>")


def short(text: object, limit: int) -> str:
    """Escaped text of at most ``limit`` characters, cut in its middle: names of a kind often differ at their ends."""
    words = plain(text, 8 * limit)
    if len(words) > limit:
        tail = (limit - 1) * 2 // 5
        words = f"{words[: limit - 1 - tail].rstrip()}…{words[-tail:].lstrip()}"
    return _entities(words)


def plain(text: object, limit: int | None = None) -> str:
    """The text on one line, without control characters, cut to ``limit`` characters."""
    words = str(text)
    if limit is not None:
        words = words[: 8 * limit]
    words = " ".join(_UNPRINTABLE.sub(" ", words).split())
    return words if limit is None or len(words) <= limit else words[: limit - 1].rstrip() + "…"


def _entities(words: str) -> str:
    return html.escape(words, quote=False).replace("$", "&#36;").replace("%{", "&#37;{")

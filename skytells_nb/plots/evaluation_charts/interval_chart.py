"""Estimates with their intervals, a line for each name: what the charts of this package are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.theme import Theme, apply_theme, empty_figure, escape_text, graph_objects, shorten

if TYPE_CHECKING:
    import plotly.graph_objects as go

LINE_PX = 16
"""Height of one estimate; the estimates of a name lie below one another."""
MAX_NAMES = 60
LABEL_WIDTH = 28


@dataclass(frozen=True)
class Estimates:
    """One kind of estimate of every name; ``low`` and ``high`` are ``None`` for values without an interval."""

    title: str
    values: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None
    color: str
    symbol: str


def draw_intervals(
    names: Sequence[str],
    series: Sequence[Estimates],
    *,
    caption: str,
    summary: str,
    percent: bool = True,
    theme: Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw the estimates of each name as points with horizontal intervals, the first name on top."""
    if not len(names):
        return empty_figure("There is nothing to draw.", theme=theme, title=title)
    shown = list(names[:MAX_NAMES])
    figure = graph_objects().Figure()
    places = np.arange(len(shown), dtype=np.float64)
    offsets = (np.arange(len(series)) - (len(series) - 1) / 2) * (0.7 / max(len(series), 1))
    for each, offset in zip(series, offsets, strict=True):
        values = each.values[: len(shown)]
        bars = None
        texts = [_percent(value) if percent else f"{value:.4g}" for value in values]
        if each.low is not None and each.high is not None:
            low, high = each.low[: len(shown)], each.high[: len(shown)]
            bars = {
                "type": "data",
                "symmetric": False,
                "array": high - values,
                "arrayminus": values - low,
                "color": each.color,
                "thickness": 1.5,
                "width": 3,
            }
            limits = [
                (_percent(a), _percent(b)) if percent else (f"{a:.4g}", f"{b:.4g}")
                for a, b in zip(low, high, strict=True)
            ]
            texts = [f"{text} ({a} to {b})" for text, (a, b) in zip(texts, limits, strict=True)]
        figure.add_trace(
            graph_objects().Scatter(
                x=values,
                y=places + offset,
                mode="markers",
                name=each.title,
                marker={"color": each.color, "size": 9, "symbol": each.symbol},
                error_x=bars,
                hovertext=[
                    f"{escape_text(name, 100)}<br>{each.title} {text}" for name, text in zip(shown, texts, strict=True)
                ],
                hoverinfo="text",
            )
        )
    figure.update_xaxes(tickformat=".0%" if percent else None, rangemode="tozero")
    figure.update_yaxes(
        tickmode="array",
        tickvals=places,
        ticktext=[shorten(name, LABEL_WIDTH) for name in shown],
        range=[len(shown) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    rest = f" · the first {MAX_NAMES} of {len(names):,} are drawn" if len(names) > MAX_NAMES else ""
    apply_theme(figure, theme=theme, title=title, caption=caption + rest, summary=summary)
    figure.layout.annotations[-1].update(yshift=-28)
    height = LINE_PX * len(shown) * max(len(series), 2)
    top = figure.layout.margin.t + 28  # of the legend
    figure.update_layout(
        height=top + 110 + height,
        margin={"t": top, "b": 80},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    return figure


def _percent(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{100 * value:.1f}%"

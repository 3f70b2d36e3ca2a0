"""Variants of a comparison: how good each is against what it costs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.plots.theme import (
    CATEGORY_COLORS,
    CATEGORY_SYMBOLS,
    Theme,
    apply_theme,
    escape_text,
    graph_objects,
    plain_text,
    shorten,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

NAME_LENGTH = 28
HEIGHT_PX = 420
SPACING = 0.02
"""Of the largest value: variants that cost nearly the same are drawn so far apart."""


def draw_variants(
    table: pd.DataFrame, *, caption: str, level: float, theme: Theme | None, title: str | None
) -> go.Figure:
    """Draw a point for each row: its accuracy, or its kappa with the others, against dollars or seconds."""
    names = [plain_text(name) for name in table.index]
    judged = bool(table["accuracy"].notna().any())
    values = table["accuracy" if judged else "kappa"].to_numpy(dtype=float)
    costs, seconds = table["cost_per_1000"].to_numpy(dtype=float), table["latency_p50"].to_numpy(dtype=float)
    places, axis, shown = _horizontal(costs, seconds)
    figure = graph_objects().Figure()
    for number, name in enumerate(names):
        bars: dict[str, Any] | None = None
        limits = ""
        color = CATEGORY_COLORS[number % len(CATEGORY_COLORS)]
        if judged:
            low, high = (float(table[f"accuracy_{side}"].iloc[number]) for side in ("low", "high"))
            limits = f" ({low:.1%} to {high:.1%})"
            bars = {
                "type": "data",
                "symmetric": False,
                "array": [high - values[number]],
                "arrayminus": [values[number] - low],
                "color": color,
                "thickness": 1.5,
                "width": 4,
            }
        value = f"accuracy {values[number]:.1%}{limits}" if judged else f"kappa with the others {values[number]:.2f}"
        figure.add_trace(
            graph_objects().Scatter(
                x=[places[number]],
                y=[values[number]],
                mode="markers+text",
                name=escape_text(name, 100),
                text=[shorten(name, NAME_LENGTH)],
                textposition="top center" if bars is None else "middle right",
                marker={"color": color, "size": 11, "symbol": CATEGORY_SYMBOLS[number % len(CATEGORY_SYMBOLS)]},
                error_y=bars,
                hovertext=[f"{escape_text(name, 200)}<br>{value}<br>{_cost_in_words(costs[number], seconds[number])}"],
                hoverinfo="text",
                showlegend=False,
                cliponaxis=False,
            )
        )
    figure.update_xaxes(title=axis, rangemode="tozero", **shown)
    figure.update_yaxes(
        title="accuracy" if judged else "kappa with the others", tickformat=".0%" if judged else None, zeroline=False
    )
    bars_in_words = f" · bars: {100 * level:g}% confidence intervals" if judged else ""
    described = "; ".join(
        f"{name} {values[place]:.3f}, {_cost_in_words(costs[place], seconds[place])}"
        for place, name in enumerate(names[:20])
    )
    apply_theme(
        figure,
        theme=theme,
        title=title,
        caption=f"{caption}{bars_in_words}",
        summary=f"{plain_text(caption)}. {'Accuracy' if judged else 'Kappa with the others'}: {described}.",
    )
    figure.layout.annotations[-1].update(yshift=-64)
    figure.update_layout(height=HEIGHT_PX, margin={"b": 108, "r": 24, "t": figure.layout.margin.t + 16})
    return figure


def _horizontal(costs: Any, seconds: Any) -> tuple[Any, str, dict[str, Any]]:
    """Return the places of the variants, the title of the axis and its settings: dollars, else seconds, else none."""
    for values, axis in ((costs, "US dollars a thousand rows"), (seconds, "median seconds of a request")):
        if np.isfinite(values).all() and np.ptp(values) > 0:
            most = float(values.max())
            return _apart(values, SPACING * most), axis, {"range": [0, 1.25 * most]}
    places = np.arange(len(costs), dtype=float)
    return places, "", {"showticklabels": False, "showgrid": False, "range": [-0.5, len(costs) - 0.2]}


def _apart(values: Any, least: float) -> Any:
    """Return the places with at least so much between each two, so that no interval hides another."""
    places = values.copy()
    for before, after in pairwise(np.argsort(values, kind="stable")):
        places[after] = max(places[after], places[before] + least)
    return places


def _cost_in_words(cost: float, seconds: float) -> str:
    dollars = "no price known" if np.isnan(cost) else f"${cost:.4g} a thousand rows"
    return dollars if np.isnan(seconds) else f"{dollars}, {seconds:.2g} s a request"

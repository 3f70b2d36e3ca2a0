"""Precision, recall and F1 of each label with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skytells_nb.plots.evaluation_charts.interval_chart import Estimates, draw_intervals
from skytells_nb.plots.theme import CATEGORY_COLORS, CATEGORY_SYMBOLS, Theme, plain_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}


def draw_label_scores(
    table: pd.DataFrame, *, caption: str, level: float, theme: Theme | None, title: str | None
) -> go.Figure:
    """Draw the scores of a table with ``precision``, ``precision_low``, ``precision_high`` and so on by label."""
    names = [plain_text(label) for label in table.index]

    def column(name: str) -> Any:
        return table[name].to_numpy(dtype=float)

    series = [
        Estimates(
            score.replace("f1", "F1"), column(score), column(f"{score}_low"), column(f"{score}_high"), color, symbol
        )
        for score, color, symbol in zip(SCORES, CATEGORY_COLORS, CATEGORY_SYMBOLS, strict=False)
    ]
    described = "; ".join(
        f"{name} {', '.join(f'{each.title} {each.values[place]:.2f}' for each in series)}"
        for place, name in enumerate(names[:20])
    )
    return draw_intervals(
        names,
        series,
        caption=f"{caption} · bars: {100 * level:g}% confidence intervals",
        summary=f"{plain_text(caption)}. {described}.",
        theme=theme,
        title=title,
    )

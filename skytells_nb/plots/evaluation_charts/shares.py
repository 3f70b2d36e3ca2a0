"""Corrected shares or means with their intervals, beside the plain ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skytells_nb.errors import InputError
from skytells_nb.plots.evaluation_charts.interval_chart import Estimates, draw_intervals
from skytells_nb.plots.theme import CATEGORY_COLORS, GRAY, Theme, plain_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def shares(table: pd.DataFrame, *, theme: Theme | None = None, title: str | None = None) -> go.Figure:
    """Draw shares or means that judged rows corrected, with their intervals, beside those without correction.

    Parameters
    ----------
    table : pandas.DataFrame
        What ``df.skytells.share`` or ``df.skytells.mean`` returned.
    theme : {"light", "dark"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Raises
    ------
    InputError
        If the table is not such a result.

    Examples
    --------
    >>> import pandas as pd
    >>> df = pd.DataFrame({"label": ["late"] * 6 + ["broken"] * 4})
    >>> corrected = df.skytells.share("label", gold=df["label"])
    >>> shares(corrected.head(1)).layout.meta["summary"]
    'Corrected by 10 judged rows: broken 40.0% (40.0% to 40.0%), counted 40.0%.'
    """
    kind = next((name for name in ("share", "mean") if name in table.columns), None)
    needed = {"low", "high", "naive", "n_gold"}
    if kind is None or not needed <= set(table.columns):
        raise InputError("table must be what share() or mean() returned, with the columns low, high, naive and n_gold.")
    names = [plain_text(" · ".join(map(str, key)) if isinstance(key, tuple) else key) for key in table.index]

    def column(name: str) -> Any:
        return table[name].to_numpy(dtype=float)

    percent = kind == "share"
    corrected = Estimates("corrected", column(kind), column("low"), column("high"), CATEGORY_COLORS[0], "circle")
    counted = Estimates("counted" if percent else "plain mean", column("naive"), None, None, GRAY, "x")

    def shown(value: float) -> str:
        return f"{100 * value:.1f}%" if percent else f"{value:.4g}"

    described = "; ".join(
        f"{name} {shown(value)} ({shown(low)} to {shown(high)}), {counted.title} {shown(naive)}"
        for name, value, low, high, naive in zip(
            names[:20], corrected.values, column("low"), column("high"), counted.values, strict=False
        )
    )
    judged = int(table["n_gold"].max()) if len(table) else 0
    what = "share of the rows" if percent else "mean"
    where = " in the largest group" if table.index.nlevels > 1 else ""
    return draw_intervals(
        names,
        [corrected, counted],
        caption=f"{what}, corrected by {judged:,} judged rows{where} · bars: confidence intervals · gray crosses: "
        "without correction",
        summary=f"Corrected by {judged:,} judged rows: {described}.",
        percent=percent,
        theme=theme,
        title=title,
    )

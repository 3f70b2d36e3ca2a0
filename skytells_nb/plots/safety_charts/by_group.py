"""How often rows were flagged in each group, and how sure that is."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.errors import InputError
from skytells_nb.plots import theme as look
from skytells_nb.plots.safety_charts.findings import Source
from skytells_nb.plots.safety_charts.flag_rates import (
    Flag,
    FlagRates,
    bars,
    compared,
    percent,
    read_flagged,
    wilson_interval,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FEW_ROWS = 20
"""Below so many checked rows a group is drawn hollow."""
GROUP_PX = 26
POINT = "#0072B2"
START = 0.22
NARROW_PX, CHARACTER_PX = 700, 6.1
"""The numbers stand whole in a figure of this width, at the width of a character of theirs."""
SIGNS = {1: "above the rest", -1: "below the rest", 0: ""}


def safety_by(
    frame_or_tidy: pd.DataFrame,
    column: Hashable | pd.Series[Any],
    *,
    into: Hashable | None = None,
    source: Source | None = None,
    flag: Flag = "low",
    confidence: float = 0.95,
    max_groups: int = 40,
    theme: look.Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw the share of flagged rows in each group of a column, with Wilson's interval for each share.

    Rows that were not checked count neither as flagged nor as safe; each line says how many there are. Groups with
    fewer than 20 checked rows are drawn hollow, groups without any have no point. A group whose share differs from that
    of all the others is named so; the comparison is corrected for the number of groups.

    Parameters
    ----------
    frame_or_tidy : pandas.DataFrame
        A frame with completions, or a table of findings.
    column : hashable or pandas.Series
        A column of the frame, or a Series by row label (the only way for a table of findings).
    into : hashable, optional
        The column of completions, where the frame has several.
    source : {"prompt", "completion"}, optional
        Count this side only.
    flag : {"low", "medium", "high", "filtered"}, default "low"
        A row is flagged if anything of it was found at this level or above, or if any of it was withheld.
    confidence : float, default 0.95
        Confidence of the intervals, between 0 and 1.
    max_groups : int, default 40
        The largest groups that are drawn; the rest is "other".
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
        If a column, ``flag`` or ``confidence`` cannot be used.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = ["row", "source", "category", "severity", "filtered", "detected", "checked"]
    >>> findings = pd.DataFrame([[0, "prompt", "hate", "low", False, None, True]], columns=columns)
    >>> safety_by(findings, pd.Series(["news"], name="topic")).layout.meta["summary"]
    'Rows low or worse by topic: 1 of 1 checked (100%). news 1 of 1 (100%, 21% to 100%).'
    """
    if max_groups < 1:
        raise InputError(f"max_groups is at least 1, not {max_groups!r}.")
    objects = look.graph_objects()
    rows = read_flagged(frame_or_tidy, column, into=into, source=source, flag=flag, option="column")
    table = _groups(rows, max_groups, confidence)
    name = look.plain(rows.name, 40)
    if not len(table):
        words = "No safety verdicts to draw."
        return look.apply_theme(
            look.empty_figure(objects.Figure(), words), theme=theme, title=title, caption="", summary=words
        )
    figure = objects.Figure()
    for few in (False, True):
        some = table[(table["checked"] > 0) & ((table["checked"] < FEW_ROWS) == few)]
        if len(some):
            figure.add_trace(_points(some, few))
    hits, checked = int(table["flagged"].sum()), int(table["checked"].sum())
    if checked and len(table) > 1:
        figure.add_vline(x=hits / checked, line={"color": look.GREY, "dash": "dot", "width": 1})
    for at, (group, line) in enumerate(table.iterrows()):
        _write(figure, at, look.short(str(group), 28), x=-0.01, anchor="right", size=12)
        _write(figure, at, look.escaped(_said(line)), x=1.02, anchor="left", size=11)
    most = float(table.loc[table["checked"] > 0, "high"].max()) if checked else 1.0
    figure.update_xaxes(
        range=[-0.02 * most, 1.05 * most], tickformat=".1%" if most < 0.1 else ".0%", domain=[START, _end(table)]
    )
    figure.update_yaxes(range=[len(table) - 0.5, -0.5], showticklabels=False, showgrid=False, zeroline=False)
    caption = (
        f"rows {rows.what} of those checked, by {name} · bars: {100 * confidence:g}% intervals (Wilson) · "
        f"hollow: fewer than {FEW_ROWS} rows · dotted: all groups"
    )
    look.apply_theme(
        figure, theme=theme, title=title, caption=caption, summary=_words(rows, table, name, hits, checked)
    )
    figure.layout.annotations[-1].update(yshift=-28)
    top = figure.layout.margin.t
    figure.update_layout(height=top + 80 + GROUP_PX * len(table), margin={"b": 80}, showlegend=False)
    return figure


def _groups(rows: FlagRates, most: int, confidence: float) -> Any:
    """A line for each group, the highest rate first: rows, checked, flagged, rate, low, high, differs."""
    import pandas as pd

    values = rows.values
    null = values.isna().to_numpy()
    names = values.astype(str).to_numpy(dtype=object).copy()
    counts = pd.Series(names[~null]).value_counts()
    last = [f"other ({len(counts) - most:,} values)", f"no {look.plain(rows.name, 20)}"]
    if len(counts) > most:
        names[~np.isin(names, counts.index[:most])] = last[0]
    names[null] = last[1]
    flat = pd.DataFrame({"group": names, "rows": 1, "checked": rows.checked, "flagged": rows.flagged})
    table = flat.groupby("group", sort=True).sum()
    table["rate"] = table["flagged"] / table["checked"].where(table["checked"] > 0)
    table["low"], table["high"] = wilson_interval(table["flagged"], table["checked"], confidence)
    table["differs"] = compared(table["flagged"], table["checked"], confidence)
    # What is no group of its own comes below those that are.
    table["rank"] = [last.index(name) if name in last else -1 for name in table.index]
    table = table.sort_values(["rank", "rate"], ascending=[True, False], kind="stable")
    return table.assign(place=range(len(table)))


def _end(table: Any) -> float:
    """Where the axis ends, as a share of the width, so that the numbers beside it have room."""
    longest = max(len(_said(line)) for _, line in table.iterrows())
    return float(np.clip(0.98 - longest * CHARACTER_PX / NARROW_PX, START + 0.18, 0.68))


def _points(table: Any, few: bool) -> Any:
    """The shares of some groups with their intervals."""
    return look.graph_objects().Scatter(
        x=table["rate"],
        y=table["place"],
        mode="markers",
        marker={
            "color": POINT,
            "size": 9,
            "symbol": "circle-open" if few else "circle",
            "line": {"width": 1.5, "color": POINT},
        },
        error_x=bars(table, POINT, thickness=1.5, width=4),
        hovertext=[
            f"{look.wrapped(str(group), limit=100)}<br>{look.escaped(_said(line))}" for group, line in table.iterrows()
        ],
        hoverinfo="text",
    )


def _said(line: Any) -> str:
    """The numbers of a group on one line."""
    unknown = int(line["rows"] - line["checked"])
    parts = [f"{unknown:,} not checked"] if unknown else []
    if line["checked"]:
        share = f"{percent(line['rate'])}, {percent(line['low'])} to {percent(line['high'])}"
        parts.insert(0, f"{int(line['flagged']):,} of {int(line['checked']):,} ({share})")
    return " · ".join([*parts, *filter(None, [SIGNS[int(line["differs"])]])])


def _words(rows: FlagRates, table: Any, name: str, hits: int, checked: int) -> str:
    """The chart in sentences."""
    rate = f" ({percent(hits / checked)})" if checked else ""
    groups = [f"{look.plain(group, 60)} {_said(line).replace(' · ', ', ')}" for group, line in table.iterrows()]
    return f"Rows {rows.what} by {name}: {hits:,} of {checked:,} checked{rate}. {'; '.join(groups)}."


def _write(figure: go.Figure, place: int, text: str, *, x: float, anchor: str, size: int) -> None:
    figure.add_annotation(
        text=text,
        x=x,
        y=place,
        xref="x domain",
        yref="y",
        xanchor=anchor,
        yanchor="middle",
        showarrow=False,
        font={"size": size},
        align="left",
    )

"""The rate of flagged rows over time, and the number of rows."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.plots.periods import Period, Periods, check_period, parse_times, split_into_periods
from skytells_nb.plots.safety_charts.findings import Source
from skytells_nb.plots.safety_charts.flag_rates import (
    Flag,
    FlagRates,
    error_bars,
    format_percent,
    read_flag_rates,
    wilson_interval,
)
from skytells_nb.plots.safety_charts.severity import LEVELS
from skytells_nb.plots.theme import Theme, apply_theme, empty_figure, format_count, graph_objects, plain_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PALE = 0.45
LINE_COLOR = "#0072B2"


def safety_timeline(
    frame_or_tidy: pd.DataFrame,
    time: Hashable | pd.Series[Any],
    *,
    into: Hashable | None = None,
    source: Source | None = None,
    flag: Flag = "low",
    every: Period | None = None,
    confidence: float = 0.95,
    theme: Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw the share of flagged rows in each period with its interval, and below it the rows by their worst level.

    Rows that were not checked count neither as flagged nor as safe and have no fill below; periods without checked rows
    leave a gap. A first or last period that the rows do not cover, such as today, has an open circle and pale bars.
    Rows without a time are omitted; the caption counts them.

    Parameters
    ----------
    frame_or_tidy : pandas.DataFrame
        A frame with completions, or a table of findings.
    time : hashable or pandas.Series
        The column of times, or a Series by row label (which a table of findings needs, unless it has the column). Times
        with a time zone are shown in that zone.
    into : hashable, optional
        The column of completions, if the frame has several.
    source : {"prompt", "completion"}, optional
        Count only this source.
    flag : {"low", "medium", "high", "filtered"}, default "low"
        A row is flagged if it has a finding of this level or above, or if anything of it was filtered.
    every : {"minute", "hour", "day", "week", "month", "year"}, optional
        The period; by default the shortest with at most 60 periods.
    confidence : float, default 0.95
        Confidence of the intervals, between 0 and 1.
    theme : {"light", "dark", "print"}, optional
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
        If a column or a time is invalid, or an option has an unknown value.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = ["row", "source", "category", "severity", "filtered", "detected", "checked"]
    >>> findings = pd.DataFrame([[0, "prompt", "hate", "low", False, None, True]], columns=columns)
    >>> figure = safety_timeline(findings, pd.Series(["2026-03-01 09:30"], name="asked"), every="day")
    >>> figure.layout.meta["summary"]
    'Rows low or worse by day of asked, 2026-03-01 to 2026-03-01: 1 of 1 checked (100%). Highest on 2026-03-01: 1 of 1.'
    """
    graph_objects()  # raises if plotly is not installed
    check_period(every)
    rows = read_flag_rates(frame_or_tidy, time, into=into, source=source, flag=flag, option="time")
    times = parse_times(rows.values, rows.name)
    known = times.notna().to_numpy()
    if not known.any():
        return empty_figure("No safety results with a time to draw.", theme=theme, title=title)
    from plotly.subplots import make_subplots

    periods = split_into_periods(times[known], every)
    table, levels = _count_by_period(rows, known, periods, confidence)
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.55, 0.45], vertical_spacing=0.06)
    figure.add_trace(_rate_trace(table), 1, 1)
    widths_ms = (table["end"] - table["start"]).dt.total_seconds() * 1000
    for level in np.flatnonzero(levels.sum(axis=0)).tolist():
        figure.add_trace(_level_bars(table, levels[:, level], level, widths_ms, theme), 2, 1)
    _set_axes(figure, table, int(levels.sum(axis=1).max()))
    figure.update_xaxes(range=[table["start"].min(), table["end"].max()], showgrid=False)
    name = plain_text(rows.name, 40)
    notes = [
        f"checked rows that are {rows.definition}, by {periods.period} of {name}",
        f"bars: {100 * confidence:g}% confidence intervals (Wilson)",
    ]
    partial = table.loc[table["partial"], "name"].tolist()
    if partial:
        notes.append(f"open circle and pale bars: {' and '.join(partial)}, of which there are rows for a part only")
    if not known.all():
        missing = int((~known).sum())
        notes.append(f"{format_count(missing, 'row')} without a time omitted")
    summary = _summarize(rows, table, name, periods.period)
    apply_theme(figure, theme=theme, title=title, caption=" · ".join(notes), summary=summary)
    figure.layout.annotations[-1].update(yshift=-40)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    margin = {"t": 84 if title else 56, "b": 82}
    figure.update_layout(barmode="stack", bargap=0, height=470, legend=legend, margin=margin)
    return figure


def _set_axes(figure: go.Figure, table: Any, max_rows: int) -> None:
    """Start both vertical axes at zero and show whole numbers of rows."""
    highest = float(table["high"].where(table["checked"] > 0).max())
    max_rate = 1.0 if np.isnan(highest) else min(1.0, highest)
    figure.update_yaxes(title={"text": "flagged", "font": {"size": 12}, "standoff": 14}, row=1, col=1)
    tickformat = ".1%" if max_rate < 0.1 else ".0%"
    figure.update_yaxes(range=[-0.03 * max_rate, 1.05 * max_rate], tickformat=tickformat, row=1, col=1)
    figure.update_yaxes(title={"text": "rows", "font": {"size": 12}, "standoff": 14}, rangemode="tozero", row=2, col=1)
    figure.update_yaxes(dtick=1 if max_rows <= 5 else None, tickformat=",d", row=2, col=1)


def _count_by_period(rows: FlagRates, known: Any, periods: Periods, confidence: float) -> tuple[Any, Any]:
    """The periods with the counts and the rate of each, and the rows of each by level."""
    table, positions, n = periods.table, periods.positions, len(periods.table)
    checked, flagged = rows.checked[known], rows.flagged[known]
    table["checked"] = np.bincount(positions[checked], minlength=n)
    table["flagged"] = np.bincount(positions[flagged], minlength=n)
    table["rate"] = table["flagged"] / table["checked"].where(table["checked"] > 0)
    table["low"], table["high"] = wilson_interval(table["flagged"], table["checked"], confidence)
    levels = np.bincount(positions * len(LEVELS) + rows.level[known], minlength=n * len(LEVELS)).reshape(n, len(LEVELS))
    return table, levels


def _rate_trace(table: Any) -> Any:
    middle = table["start"] + (table["end"] - table["start"]) / 2
    return graph_objects().Scatter(
        x=middle,
        y=table["rate"],
        mode="lines+markers",
        line={"color": LINE_COLOR, "width": 1.5},
        marker={
            "size": 7,
            "color": LINE_COLOR,
            "symbol": ["circle-open" if partial else "circle" for partial in table["partial"]],
        },
        error_y=error_bars(table, LINE_COLOR, thickness=1, width=3),
        hovertext=[
            f"{line.name}{_partial_note(line.partial)}<br>{line.flagged:,} of {line.checked:,} flagged "
            f"({format_percent(line.rate)}, {format_percent(line.low)} to {format_percent(line.high)})"
            if line.checked
            else f"{line.name}{_partial_note(line.partial)}<br>no rows checked"
            for line in table.drop(columns=["start", "end"]).itertuples(index=False)
        ],
        hoverinfo="text",
        showlegend=False,
    )


def _partial_note(partial: bool) -> str:
    return " (partial)" if partial else ""


def _level_bars(table: Any, counts: Any, level: int, widths_ms: Any, theme: Theme | None) -> Any:
    return graph_objects().Bar(
        x=table["start"],
        y=counts.tolist(),
        offset=0,
        width=widths_ms,
        name=LEVELS[level].name,
        marker={**LEVELS[level].marker(theme), "opacity": [PALE if partial else 1.0 for partial in table["partial"]]},
        hovertext=[
            f"{name}{_partial_note(partial)}<br>{LEVELS[level].name}: {count:,}"
            for name, partial, count in zip(table["name"], table["partial"], counts.tolist(), strict=True)
        ],
        hoverinfo="text",
    )


def _summarize(rows: FlagRates, table: Any, name: str, period: Period) -> str:
    """The summary of the chart."""
    hits, checked = int(table["flagged"].sum()), int(table["checked"].sum())
    first, last = table["name"].iloc[0], table["name"].iloc[-1]
    text = f"Rows {rows.definition} by {period} of {name}, {first} to {last}: {hits:,} of {checked:,} checked"
    if not checked:
        return f"{text}."
    worst = table.loc[table["rate"].idxmax()]
    partial = table.loc[table["partial"], "name"].tolist()
    note = f" Only a part of {' and '.join(partial)} has rows." if partial else ""
    highest = f"Highest on {worst['name']}: {worst['flagged']:,} of {worst['checked']:,}." if hits else "None flagged."
    return f"{text} ({format_percent(hits / checked)}). {highest}{note}"

"""How often rows were flagged over time, and how many there were."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from skytells_nb.errors import InputError
from skytells_nb.plots import theme as look
from skytells_nb.plots.safety_charts.findings import Source
from skytells_nb.plots.safety_charts.flag_rates import Flag, FlagRates, bars, percent, read_flagged, wilson_interval
from skytells_nb.plots.safety_charts.severity import LEVELS

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Every = Literal["minute", "hour", "day", "week", "month", "year"]
CODES: dict[Every, str] = {"minute": "min", "hour": "h", "day": "D", "week": "W", "month": "M", "year": "Y"}
FITS = 60
"""Periods that are read with ease; the finest that has no more is chosen."""
MOST_PERIODS = 2_000
LINE = "#0072B2"


def safety_timeline(
    frame_or_tidy: pd.DataFrame,
    time: Hashable | pd.Series[Any],
    *,
    into: Hashable | None = None,
    source: Source | None = None,
    flag: Flag = "low",
    every: Every | None = None,
    confidence: float = 0.95,
    theme: look.Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw the share of flagged rows in each period with its interval, and below it the rows by their worst level.

    Rows that were not checked count neither as flagged nor as safe and are a class of their own below; periods without
    checked rows leave a gap. Rows without a time are left out, and the caption says how many.

    Parameters
    ----------
    frame_or_tidy : pandas.DataFrame
        A frame with completions, or a table of findings.
    time : hashable or pandas.Series
        The column of times, or a Series by row label (the only way for a table of findings). Times with a zone are
        drawn in that zone.
    into : hashable, optional
        The column of completions, where the frame has several.
    source : {"prompt", "completion"}, optional
        Count this side only.
    flag : {"low", "medium", "high", "filtered"}, default "low"
        A row is flagged if anything of it was found at this level or above, or if any of it was withheld.
    every : {"minute", "hour", "day", "week", "month", "year"}, optional
        The period; by default the finest that makes at most 60.
    confidence : float, default 0.95
        Confidence of the intervals, between 0 and 1.
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
        If a column, ``flag``, ``every`` or a time cannot be used.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = ["row", "source", "category", "severity", "filtered", "detected", "checked"]
    >>> findings = pd.DataFrame([[0, "prompt", "hate", "low", False, None, True]], columns=columns)
    >>> figure = safety_timeline(findings, pd.Series(["2026-03-01 09:30"], name="asked"), every="day")
    >>> figure.layout.meta["summary"]
    'Rows low or worse by day of asked, 2026-03-01 to 2026-03-01: 1 of 1 checked (100%). Highest on 2026-03-01: 1 of 1.'
    """
    objects = look.graph_objects()
    if every is not None and every not in get_args(Every):
        raise InputError(f"every is one of {', '.join(get_args(Every))}; found {every!r}.")
    rows = read_flagged(frame_or_tidy, time, into=into, source=source, flag=flag, option="time")
    times = _times(rows)
    known = times.notna().to_numpy()
    if not known.any():
        words = "No safety verdicts with a time to draw."
        return look.apply_theme(
            look.empty_figure(objects.Figure(), words), theme=theme, title=title, caption="", summary=words
        )
    from plotly.subplots import make_subplots

    period, table, levels = _periods(rows, times, known, every, confidence)
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.55, 0.45], vertical_spacing=0.06)
    figure.add_trace(_rates(table), 1, 1)
    widths = (table["end"] - table["start"]).dt.total_seconds() * 1000
    for level in np.flatnonzero(levels.sum(axis=0)).tolist():
        figure.add_trace(_bars(table, levels[:, level], level, widths), 2, 1)
    _scale(figure, table, int(levels.sum(axis=1).max()))
    figure.update_xaxes(range=[table["start"].min(), table["end"].max()], showgrid=False)
    name = look.plain(rows.name, 40)
    notes = [
        f"rows {rows.what} of those checked, by {period} of {name}",
        f"bars: {100 * confidence:g}% intervals (Wilson)",
    ]
    if not known.all():
        missing = int((~known).sum())
        notes.append(f"{missing:,} {'row' if missing == 1 else 'rows'} without a time left out")
    words = _words(rows, table, name, period)
    look.apply_theme(figure, theme=theme, title=title, caption=" · ".join(notes), summary=words)
    figure.layout.annotations[-1].update(yshift=-40)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    margin = {"t": 84 if title else 56, "b": 82}
    figure.update_layout(barmode="stack", bargap=0, height=470, legend=legend, margin=margin)
    return figure


def _scale(figure: go.Figure, table: Any, most: int) -> None:
    """Both upward axes start at zero; rows are counted in whole numbers."""
    highest = float(table["high"].where(table["checked"] > 0).max())
    top = 1.0 if np.isnan(highest) else min(1.0, highest)
    figure.update_yaxes(title={"text": "flagged", "font": {"size": 12}, "standoff": 14}, row=1, col=1)
    figure.update_yaxes(range=[-0.03 * top, 1.05 * top], tickformat=".1%" if top < 0.1 else ".0%", row=1, col=1)
    figure.update_yaxes(title={"text": "rows", "font": {"size": 12}, "standoff": 14}, rangemode="tozero", row=2, col=1)
    figure.update_yaxes(dtick=1 if most <= 5 else None, tickformat=",d", row=2, col=1)


def _times(rows: FlagRates) -> Any:
    """The times on the clock of their zone."""
    import pandas as pd

    values = rows.values
    kinds = pd.api.types
    if kinds.is_numeric_dtype(values.dtype) and values.notna().any():
        raise InputError(f"time= takes dates or times; {rows.name!r} holds {values.dtype}. See pandas.to_datetime.")
    try:
        times = pd.to_datetime(values, errors="raise")
    except (ValueError, TypeError):
        # Offsets of several zones, or texts of several forms.
        times = pd.to_datetime(values, errors="coerce", utc=True, format="mixed")
    bad = values.notna() & times.isna()
    if bad.any():
        raise InputError(f"time= takes dates or times; {rows.name!r} holds {str(values[bad].iloc[0])[:40]!r}.")
    return times.dt.tz_localize(None)


def _periods(rows: FlagRates, times: Any, known: Any, every: Every | None, confidence: float) -> tuple[Every, Any, Any]:
    """The period, a line for each with its rows and rate, and its rows by level."""
    import pandas as pd

    kept = times[known]
    choice: list[Every] = [every] if every else list(CODES)
    for period in choice:
        ordinals = kept.dt.to_period(CODES[period])
        first, last = ordinals.min(), ordinals.max()
        n = last.ordinal - first.ordinal + 1
        if n <= FITS:
            break
    if n > MOST_PERIODS:
        raise InputError(
            f"{n:,} periods of a {period} are too many to draw (at most {MOST_PERIODS:,}); take a longer every=."
        )
    place = pd.PeriodIndex(ordinals).asi8 - first.ordinal
    spans = pd.period_range(first, last)
    table = pd.DataFrame({"start": spans.start_time, "end": (spans + 1).start_time})
    checked, flagged = rows.checked[known], rows.flagged[known]
    table["checked"] = np.bincount(place[checked], minlength=n)
    table["flagged"] = np.bincount(place[flagged], minlength=n)
    table["rate"] = table["flagged"] / table["checked"].where(table["checked"] > 0)
    table["low"], table["high"] = wilson_interval(table["flagged"], table["checked"], confidence)
    table["name"] = [str(span.start_time if period in ("minute", "hour") else span.start_time.date()) for span in spans]
    levels = np.bincount(place * len(LEVELS) + rows.level[known], minlength=n * len(LEVELS)).reshape(n, len(LEVELS))
    return period, table, levels


def _rates(table: Any) -> Any:
    middle = table["start"] + (table["end"] - table["start"]) / 2
    return look.graph_objects().Scatter(
        x=middle,
        y=table["rate"],
        mode="lines+markers",
        line={"color": LINE, "width": 1.5},
        marker={"size": 7},
        error_y=bars(table, LINE, thickness=1, width=3),
        hovertext=[
            f"{line.name}<br>{line.flagged:,} of {line.checked:,} flagged ({percent(line.rate)}, "
            f"{percent(line.low)} to {percent(line.high)})"
            if line.checked
            else f"{line.name}<br>nothing checked"
            for line in table.drop(columns=["start", "end"]).itertuples(index=False)
        ],
        hoverinfo="text",
        showlegend=False,
    )


def _bars(table: Any, counts: Any, level: int, widths: Any) -> Any:
    return look.graph_objects().Bar(
        x=table["start"],
        y=counts,
        offset=0,
        width=widths,
        name=LEVELS[level].word,
        marker=LEVELS[level].marker(),
        hovertext=[
            f"{name}<br>{LEVELS[level].word}: {count:,}"
            for name, count in zip(table["name"], counts.tolist(), strict=True)
        ],
        hoverinfo="text",
    )


def _words(rows: FlagRates, table: Any, name: str, period: Every) -> str:
    """The chart in sentences."""
    hits, checked = int(table["flagged"].sum()), int(table["checked"].sum())
    first, last = table["name"].iloc[0], table["name"].iloc[-1]
    said = f"Rows {rows.what} by {period} of {name}, {first} to {last}: {hits:,} of {checked:,} checked"
    if not checked:
        return f"{said}."
    worst = table.loc[table["rate"].idxmax()]
    highest = f"Highest on {worst['name']}: {worst['flagged']:,} of {worst['checked']:,}." if hits else "None flagged."
    return f"{said} ({percent(hits / checked)}). {highest}"

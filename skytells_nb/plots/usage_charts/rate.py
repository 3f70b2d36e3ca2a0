"""The request rate of a run, with the rate limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.theme import GRAY, Theme, apply_theme, empty_figure, graph_objects, plain_text
from skytells_nb.plots.usage_charts.records import UsageRecord, read_usage

if TYPE_CHECKING:
    import plotly.graph_objects as go

SUCCEEDED_COLOR, REJECTED_COLOR, LIMIT_COLOR = "#56B4E9", "#C8500A", "#0072B2"


def rate(report: Any, *, theme: Theme | None = None, title: str | None = None) -> go.Figure:
    """Draw the requests per second of a run over time, succeeded and rejected, against the rate limit.

    Rejected requests are those with status 429. The limit is that of the account as known at that time. Others may
    share it, so that bars can stay below it. Without a known limit there is no record.

    Parameters
    ----------
    report : Report, dict, Session or sequence of reports
        A report or its ``to_dict()``; of a session or several reports, the last one with requests.
    theme : {"light", "dark", "print"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure; the axes are seconds and requests per second.

    Raises
    ------
    InputError
        If the argument is anything else.

    Examples
    --------
    >>> timeline = {"interval": 1.0, "answered": [4, 6], "refused": [0, 1], "permitted": [None, 5.0]}
    >>> report = {"operation": "embed", "model": "m", "tokens_in": 1, "tokens_out": 0, "timeline": timeline}
    >>> rate(report).layout.meta["summary"]
    'Rate of embed with m: 10 requests succeeded and 1 rejected in 2 s, at most 6/s; rate limit: 5/s.'
    """
    go = graph_objects()
    run = next((record for record in reversed(read_usage(report).calls) if record.timeline.get("answered")), None)
    if run is None:
        return empty_figure("No rate to draw: no requests were sent.", theme=theme, title=title)
    interval_s = float(run.timeline["interval"])
    succeeded, rejected = (np.asarray(run.timeline[name]) / interval_s for name in ("answered", "refused"))
    limits = np.array([np.nan if value is None else value for value in run.timeline["permitted"]], dtype=np.float64)
    known = np.flatnonzero(~np.isnan(limits))
    figure = go.Figure(_rate_bars("succeeded", succeeded, interval_s, SUCCEEDED_COLOR, ""))
    if rejected.any():
        figure.add_trace(_rate_bars("rejected (429)", rejected, interval_s, REJECTED_COLOR, "x"))
    if len(known):
        figure.add_trace(_limit_line(limits, known, interval_s))
    max_rate = float(max((succeeded + rejected).max(), np.nanmax(limits) if len(known) else 0))
    figure.update_xaxes(ticksuffix=" s", range=[0, interval_s * len(succeeded)])
    figure.update_yaxes(title={"text": "requests per second", "font": {"size": 12}}, range=[0, 1.08 * max_rate])
    operation = run.label.partition(" ")[2]
    bar_width = f"bars of {interval_s:g} s"
    limit = f"rate limit: {run.limit}" if run.limit else "no rate limit reported"
    summary = _summarize(run, operation, limits[known], interval_s)
    caption = f"{operation} with {run.model} · {bar_width} · {limit}"
    apply_theme(figure, theme=theme, title=title, caption=caption, summary=summary)
    figure.layout.annotations[-1].update(yshift=-26)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    margin = {"t": 84 if title else 48, "b": 62}
    figure.update_layout(barmode="stack", bargap=0, height=380, legend=legend, margin=margin, showlegend=True)
    return figure


def _rate_bars(name: str, rates: NDArray[np.float64], interval_s: float, color: str, pattern: str) -> Any:
    starts = interval_s * np.arange(len(rates))
    return graph_objects().Bar(
        x=starts,
        y=rates,
        offset=0,
        width=interval_s,
        name=name,
        marker={
            "color": color,
            "line": {"color": GRAY, "width": 0.5},
            "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": "#ffffff", "size": 7, "solidity": 0.25},
        },
        hovertext=[f"{start:g} s: {value:.3g}/s {name}" for start, value in zip(starts, rates, strict=True)],
        hoverinfo="text",
    )


def _limit_line(limits: NDArray[np.float64], known: NDArray[np.intp], interval_s: float) -> Any:
    """The limit as a step line, which continues over intervals in which no request ended."""
    steps = limits.copy()
    for position in range(known[0] + 1, len(steps)):
        if np.isnan(steps[position]):
            steps[position] = steps[position - 1]
    return graph_objects().Scatter(
        x=interval_s * np.arange(len(steps) + 1),
        y=[*steps, steps[-1]],
        mode="lines",
        line={"color": LIMIT_COLOR, "width": 2, "shape": "hv", "dash": "dash"},
        name="rate limit",
        hoverinfo="skip",
    )


def _summarize(run: UsageRecord, operation: str, known: NDArray[np.float64], interval_s: float) -> str:
    succeeded, rejected = (np.asarray(run.timeline[name]) for name in ("answered", "refused"))
    max_rate = f"{(succeeded / interval_s).max():.3g}"
    limit = f"rate limit: {known[-1]:.3g}/s" if len(known) else "no known rate limit"
    return (
        f"Rate of {plain_text(operation, 40)} with {plain_text(run.model, 60)}: {succeeded.sum():,} requests succeeded "
        f"and {rejected.sum():,} rejected in {interval_s * len(succeeded):g} s, at most {max_rate}/s; {limit}."
    )

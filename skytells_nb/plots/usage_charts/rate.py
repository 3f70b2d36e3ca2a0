"""How fast a run went, against the limit of the account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots import theme as look
from skytells_nb.plots.usage_charts.records import UsageRecord, read_usage

if TYPE_CHECKING:
    import plotly.graph_objects as go

ANSWERED, REFUSED, LIMIT = "#56B4E9", "#C8500A", "#0072B2"


def rate(report: Any, *, theme: look.Theme | None = None, title: str | None = None) -> go.Figure:
    """Draw the requests per second of a run over time, succeeded and rejected, against the rate limit.

    Rejected requests are those with status 429. The limit is the account's, as it was known then, for everyone who
    shares it, so that the bars may stay below it; without a known limit there is no line.

    Parameters
    ----------
    report : Report, dict, Session or sequence of reports
        A report or what its ``to_dict()`` returns; of a session or several reports the last one with requests.
    theme : {"light", "dark"}, optional
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
        If it is given anything else.

    Examples
    --------
    >>> course = {"stretch": 1.0, "answered": [4, 6], "refused": [0, 1], "permitted": [None, 5.0]}
    >>> report = {"operation": "embed", "model": "m", "tokens_in": 1, "tokens_out": 0, "course": course}
    >>> rate(report).layout.meta["summary"]
    'Rate of embed with m: 10 requests answered and 1 refused in 2 s, at most 6 a second; the limit: 5 a second.'
    """
    objects = look.graph_objects()
    run = next((line for line in reversed(read_usage(report).calls) if line.course.get("answered")), None)
    if run is None:
        words = "No rate is known: nothing was asked of the service."
        return look.apply_theme(
            look.empty_figure(objects.Figure(), words), theme=theme, title=title, caption="", summary=words
        )
    stretch = float(run.course["stretch"])
    answered, refused = (np.asarray(run.course[name]) / stretch for name in ("answered", "refused"))
    permitted = np.array([np.nan if value is None else value for value in run.course["permitted"]], dtype=np.float64)
    known = np.flatnonzero(~np.isnan(permitted))
    figure = objects.Figure(_rate_bars("answered", answered, stretch, ANSWERED, ""))
    if refused.any():
        figure.add_trace(_rate_bars("refused (429)", refused, stretch, REFUSED, "x"))
    if len(known):
        figure.add_trace(_limit(permitted, known, stretch))
    top = float(max((answered + refused).max(), np.nanmax(permitted) if len(known) else 0))
    figure.update_xaxes(ticksuffix=" s", range=[0, stretch * len(answered)])
    figure.update_yaxes(title={"text": "requests a second", "font": {"size": 12}}, range=[0, 1.08 * top])
    operation = run.label.partition(" ")[2]
    each = f"each bar {stretch:g} s"
    limit = f"the limit: {run.limit}" if run.limit else "no limit was told"
    words = _rate_words(run, operation, permitted[known], stretch)
    caption = f"{operation} with {run.model} · {each} · {limit}"
    look.apply_theme(figure, theme=theme, title=title, caption=caption, summary=words)
    figure.layout.annotations[-1].update(yshift=-26)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    margin = {"t": 84 if title else 48, "b": 62}
    figure.update_layout(barmode="stack", bargap=0, height=380, legend=legend, margin=margin, showlegend=True)
    return figure


def _rate_bars(name: str, rates: NDArray[np.float64], stretch: float, color: str, pattern: str) -> Any:
    starts = stretch * np.arange(len(rates))
    return look.graph_objects().Bar(
        x=starts,
        y=rates,
        offset=0,
        width=stretch,
        name=name,
        marker={
            "color": color,
            "line": {"color": look.GREY, "width": 0.5},
            "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": "#ffffff", "size": 7, "solidity": 0.25},
        },
        hovertext=[f"{start:g} s: {value:.3g} a second {name}" for start, value in zip(starts, rates, strict=True)],
        hoverinfo="text",
    )


def _limit(permitted: NDArray[np.float64], known: NDArray[np.intp], stretch: float) -> Any:
    """The limit as steps, held over stretches in which nothing ended."""
    held = permitted.copy()
    for at in range(known[0] + 1, len(held)):
        if np.isnan(held[at]):
            held[at] = held[at - 1]
    return look.graph_objects().Scatter(
        x=stretch * np.arange(len(held) + 1),
        y=[*held, held[-1]],
        mode="lines",
        line={"color": LIMIT, "width": 2, "shape": "hv", "dash": "dash"},
        name="limit of the account",
        hoverinfo="skip",
    )


def _rate_words(run: UsageRecord, operation: str, known: NDArray[np.float64], stretch: float) -> str:
    answered, refused = (np.asarray(run.course[name]) for name in ("answered", "refused"))
    most = f"{(answered / stretch).max():.3g}"
    limit = f"the limit: {known[-1]:.3g} a second" if len(known) else "no limit was known"
    return (
        f"Rate of {look.plain(operation, 40)} with {look.plain(run.model, 60)}: {answered.sum():,} requests answered "
        f"and {refused.sum():,} refused in {stretch * len(answered):g} s, at most {most} a second; {limit}."
    )

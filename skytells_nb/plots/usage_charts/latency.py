"""Latencies of requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.theme import (
    GRAY,
    Theme,
    apply_theme,
    empty_figure,
    format_count,
    graph_objects,
    plain_text,
    shorten,
)
from skytells_nb.plots.usage_charts.records import UsageRecord, read_usage

if TYPE_CHECKING:
    import plotly.graph_objects as go

BAR_COLOR = "#56B4E9"
PERCENTILES = (50, 95, 99)
TICKS_S = [base * 10**power for power in range(-3, 4) for base in (1, 2, 5)]
GROUP_PX = 90
BOTTOM_PX = 66
"""Height of the caption and the labels of the axis above it."""
AXIS_MARGIN = 0.2
"""In powers of ten: then even the smallest range of latencies has a tick at 1, 2 or 5."""


def latency(session_or_reports: Any, *, theme: Theme | None = None, title: str | None = None) -> go.Figure:
    """Draw the latencies of requests: a histogram for each model, with median and 95th percentile.

    Latencies of successful requests, from sending to the last byte, without the wait for the rate limit. The scale is
    logarithmic. Percentiles are accurate to 9 %, as only counts are stored.

    Parameters
    ----------
    session_or_reports : Session, Report, dict or sequence of these
        The same as for ``plots.usage``.
    theme : {"light", "dark", "print"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure; the axis is in seconds.

    Raises
    ------
    InputError
        If the argument is anything else.

    Examples
    --------
    >>> timeline = {"latencies": [0] * 40 + [3, 1], "least": 0.001, "per_doubling": 4}
    >>> report = {"operation": "embed", "model": "m", "tokens_in": 1, "tokens_out": 0, "timeline": timeline}
    >>> latency(report).layout.meta["summary"]
    'Latency of 4 requests. m: 50% within 1.1 s, 95% within 1.3 s, 99% within 1.3 s.'
    """
    graph_objects()  # raises if plotly is not installed
    histograms = _histograms(read_usage(session_or_reports).calls)
    if not histograms:
        return empty_figure("No latencies to draw: no requests were sent.", theme=theme, title=title)
    from plotly.subplots import make_subplots

    figure = make_subplots(len(histograms), 1, shared_xaxes=True, vertical_spacing=min(0.16, 0.3 / len(histograms)))
    for row, histogram in enumerate(histograms, start=1):
        figure.add_trace(histogram.bars(), row, 1)
        for percent in PERCENTILES[:2]:
            x = np.log10(histogram.percentile(percent))
            figure.add_vline(x=x, line={"color": GRAY, "dash": "dot", "width": 1.5}, row=row, col=1)
        _add_heading(figure, histogram.model, row)
        figure.update_yaxes(nticks=4, rangemode="tozero", tickformat=",d", row=row, col=1)
        figure.update_yaxes(dtick=1 if histogram.counts.max() <= 4 else None, row=row, col=1)
    low = np.log10(min(h.edges[0] for h in histograms))
    high = np.log10(max(h.edges[-1] for h in histograms))
    ticks = [s for s in TICKS_S if low - AXIS_MARGIN <= np.log10(s) <= high + AXIS_MARGIN]
    figure.update_xaxes(
        range=[low - AXIS_MARGIN, high + AXIS_MARGIN],
        tickvals=np.log10(ticks),
        ticktext=[_format_seconds(s) for s in ticks],
    )
    total = sum(int(h.counts.sum()) for h in histograms)
    requests = format_count(total, "successful request")
    caption = f"{requests} by latency, without waits for the rate limit · dotted lines: 50% and 95%"
    descriptions = [f"{plain_text(h.model, 60)}: {h.describe()}" for h in histograms]
    summary = f"Latency of {format_count(total, 'request')}. {'; '.join(descriptions)}."
    apply_theme(figure, theme=theme, title=title, caption=caption, summary=summary)
    figure.layout.annotations[-1].update(yshift=-26)
    top = 76 if title else 36
    height = top + BOTTOM_PX + max(200, GROUP_PX * len(histograms))
    figure.update_layout(height=height, margin={"t": top, "b": BOTTOM_PX}, showlegend=False, bargap=0)
    return figure


def _add_heading(figure: go.Figure, model: str, row: int) -> None:
    """Write the model above its panel, as names are longer than the height of a panel."""
    figure.add_annotation(
        text=shorten(model, 70),
        x=0,
        y=1,
        xref="x domain",
        yref=f"y{row if row > 1 else ''} domain",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
        font={"size": 12},
    )


@dataclass(frozen=True, slots=True)
class _Histogram:
    """Requests of one model by latency; ``edges`` in seconds are one more than ``counts``."""

    model: str
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]

    def percentile(self, percent: float) -> float:
        """A percentile in seconds: the middle of its bin."""
        bin_index = int(np.searchsorted(np.cumsum(self.counts), percent / 100 * self.counts.sum()))
        return float(np.sqrt(self.edges[bin_index] * self.edges[bin_index + 1]))

    def describe(self) -> str:
        """The percentiles in words."""
        return ", ".join(f"{p}% within {_format_seconds(self.percentile(p))}" for p in PERCENTILES)

    def bars(self) -> Any:
        # Plotted as logarithms, as plotly does not support the width of bars on a logarithmic axis.
        logs = np.log10(self.edges)
        return graph_objects().Bar(
            x=logs[:-1],
            y=self.counts,
            offset=0,
            width=np.diff(logs),
            marker={"color": BAR_COLOR, "line": {"color": GRAY, "width": 1}},
            hovertext=[
                f"{_format_seconds(low)} to {_format_seconds(high)}: {n:,}"
                for low, high, n in zip(self.edges[:-1], self.edges[1:], self.counts.tolist(), strict=True)
            ],
            hoverinfo="text",
        )


def _format_seconds(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.0995 else f"{round(1000 * seconds, -1):.0f} ms"
    return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:,.0f} s"


def _histograms(calls: list[UsageRecord]) -> list[_Histogram]:
    """The histogram of each model, from its first to its last bin with a request."""
    counts: dict[tuple[str, float, float], list[int]] = {}
    for record in calls:
        timeline: Mapping[str, Any] = record.timeline
        if not any(timeline.get("latencies") or ()):
            continue
        key = (record.model, float(timeline["least"]), float(timeline["per_doubling"]))
        previous, new = counts.get(key, []), list(timeline["latencies"])
        size = max(len(previous), len(new))
        counts[key] = [a + b for a, b in zip(_pad(previous, size), _pad(new, size), strict=True)]
    histograms = []
    for (model, least, per_doubling), bins in sorted(counts.items()):
        used = np.flatnonzero(bins)
        first, last = int(used[0]), int(used[-1])
        edges = least * 2 ** (np.arange(first, last + 2) / per_doubling)
        histograms.append(_Histogram(model, np.asarray(bins[first : last + 1], dtype=np.int64), edges))
    return histograms


def _pad(counts: list[int], size: int) -> list[int]:
    return counts + [0] * (size - len(counts))

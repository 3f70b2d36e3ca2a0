"""How long answers took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots import theme as look
from skytells_nb.plots.usage_charts.records import UsageRecord, read_usage

if TYPE_CHECKING:
    import plotly.graph_objects as go

BAR = "#56B4E9"
PERCENTILES = (50, 95, 99)
TICKS_S = [base * 10**power for power in range(-3, 4) for base in (1, 2, 5)]
GROUP_PX = 90
MARGIN = 0.2
"""On the axis of latencies, in powers of ten: the least range then holds one of 1, 2 and 5."""


def latency(session_or_reports: Any, *, theme: look.Theme | None = None, title: str | None = None) -> go.Figure:
    """Draw how long requests took: a histogram for each model on a logarithmic scale, with median and 95th percentile.

    Each request that succeeded counts, from sending to the last byte, without the wait for the rate limit. Percentiles
    are accurate to 9 %: counts are stored, not every latency.

    Parameters
    ----------
    session_or_reports : Session, Report, dict or sequence of these
        What ``plots.usage`` takes.
    theme : {"light", "dark"}, optional
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
        If it is given anything else.

    Examples
    --------
    >>> course = {"latencies": [0] * 40 + [3, 1], "least": 0.001, "per_doubling": 4}
    >>> report = {"operation": "embed", "model": "m", "tokens_in": 1, "tokens_out": 0, "course": course}
    >>> latency(report).layout.meta["summary"]
    'Latency of 4 answers. m: half within 1.1 s, 95% within 1.3 s, 99% within 1.3 s.'
    """
    objects = look.graph_objects()
    found = _histograms(read_usage(session_or_reports).calls)
    if not found:
        words = "No latencies are known: nothing was asked of the service."
        return look.apply_theme(
            look.empty_figure(objects.Figure(), words), theme=theme, title=title, caption="", summary=words
        )
    from plotly.subplots import make_subplots

    figure = make_subplots(len(found), 1, shared_xaxes=True, vertical_spacing=min(0.16, 0.3 / len(found)))
    for at, histogram in enumerate(found, start=1):
        figure.add_trace(histogram.bars(), at, 1)
        for share in PERCENTILES[:2]:
            x = np.log10(histogram.within(share))
            figure.add_vline(x=x, line={"color": look.GREY, "dash": "dot", "width": 1.5}, row=at, col=1)
        _head(figure, histogram.model, at)
        figure.update_yaxes(nticks=4, rangemode="tozero", tickformat=",d", row=at, col=1)
        figure.update_yaxes(dtick=1 if histogram.counts.max() <= 4 else None, row=at, col=1)
    low = np.log10(min(h.edges[0] for h in found))
    high = np.log10(max(h.edges[-1] for h in found))
    ticks = [s for s in TICKS_S if low - MARGIN <= np.log10(s) <= high + MARGIN]
    figure.update_xaxes(
        range=[low - MARGIN, high + MARGIN], tickvals=np.log10(ticks), ticktext=[_seconds(s) for s in ticks]
    )
    total = sum(int(h.counts.sum()) for h in found)
    caption = f"{total:,} answered requests by seconds, without waits for the limit · dotted: median and 95 %"
    said = [f"{look.plain(h.model, 60)}: {h.said()}" for h in found]
    words = f"Latency of {total:,} {'answer' if total == 1 else 'answers'}. {'; '.join(said)}."
    look.apply_theme(figure, theme=theme, title=title, caption=caption, summary=words)
    figure.layout.annotations[-1].update(yshift=-26)
    top = 76 if title else 36
    figure.update_layout(
        height=top + 66 + max(200, GROUP_PX * len(found)), margin={"t": top, "b": 66}, showlegend=False, bargap=0
    )
    return figure


def _head(figure: go.Figure, model: str, row: int) -> None:
    """The model above its panel: names are longer than a panel is high."""
    figure.add_annotation(
        text=look.short(model, 70),
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
    """Answers of one model by latency; ``edges`` are seconds, one more than there are ``counts``."""

    model: str
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]

    def within(self, percent: float) -> float:
        """Seconds within which so many percent were answered: the middle of that step."""
        at = int(np.searchsorted(np.cumsum(self.counts), percent / 100 * self.counts.sum()))
        return float(np.sqrt(self.edges[at] * self.edges[at + 1]))

    def said(self) -> str:
        half, *rest = (_seconds(self.within(percent)) for percent in PERCENTILES)
        return f"half within {half}, " + ", ".join(
            f"{p}% within {s}" for p, s in zip(PERCENTILES[1:], rest, strict=True)
        )

    def bars(self) -> Any:
        # On the logarithms, as plotly widens no bar on a logarithmic axis.
        logs = np.log10(self.edges)
        return look.graph_objects().Bar(
            x=logs[:-1],
            y=self.counts,
            offset=0,
            width=np.diff(logs),
            marker={"color": BAR, "line": {"color": look.GREY, "width": 1}},
            hovertext=[
                f"{_seconds(low)} to {_seconds(high)}: {n:,}"
                for low, high, n in zip(self.edges[:-1], self.edges[1:], self.counts.tolist(), strict=True)
            ],
            hoverinfo="text",
        )


def _seconds(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.0995 else f"{round(1000 * seconds, -1):.0f} ms"
    return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:,.0f} s"


def _histograms(calls: list[UsageRecord]) -> list[_Histogram]:
    """The latencies of each model, from its first to its last step with an answer."""
    counts: dict[tuple[str, float, float], list[int]] = {}
    for line in calls:
        seen: Mapping[str, Any] = line.course
        if not any(seen.get("latencies") or ()):
            continue
        key = (line.model, float(seen["least"]), float(seen["per_doubling"]))
        before, new = counts.get(key, []), list(seen["latencies"])
        size = max(len(before), len(new))
        counts[key] = [a + b for a, b in zip(_padded(before, size), _padded(new, size), strict=True)]
    made = []
    for (model, least, per_doubling), steps in sorted(counts.items()):
        used = np.flatnonzero(steps)
        first, last = int(used[0]), int(used[-1])
        edges = least * 2 ** (np.arange(first, last + 2) / per_doubling)
        made.append(_Histogram(model, np.asarray(steps[first : last + 1], dtype=np.int64), edges))
    return made


def _padded(counts: list[int], size: int) -> list[int]:
    return counts + [0] * (size - len(counts))

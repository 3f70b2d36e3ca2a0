"""Usage: tokens, cost and results from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from skytells_nb.errors import InputError
from skytells_nb.formatting import format_dollars
from skytells_nb.plots.safety_charts.flag_rates import format_percent
from skytells_nb.plots.theme import (
    GRAY,
    Theme,
    apply_theme,
    empty_figure,
    escape_text,
    format_count,
    graph_objects,
    plain_text,
    wrap_text,
)
from skytells_nb.plots.usage_charts.records import Usage, UsageRecord, group_by_model, read_usage, total

if TYPE_CHECKING:
    import plotly.graph_objects as go

By = Literal["model", "run"]

ROW_PX = 30
BOTTOM_PX = 66
"""Height of the caption and the labels of the axis above it."""
MAX_ROWS = 40
TOKENS_IN_COLOR, TOKENS_OUT_COLOR, COST_COLOR, SERVICE_COLOR = "#0072B2", "#E69F00", "#009E73", "#56B4E9"
PANELS = ("tokens", "US dollars", "results")


def usage(
    session_or_reports: Any, *, by: By = "model", theme: Theme | None = None, title: str | None = None
) -> go.Figure:
    """Draw bars of input and output tokens, cost in dollars, and results from cache and service, by model or by call.

    Tokens are counted by the service. A cost without a known price is shown as such, not as zero. Results are counted
    by distinct input.

    Parameters
    ----------
    session_or_reports : Session, pandas.DataFrame, Report, dict or sequence of these
        A session (its calls, and its single requests as "cells"), a frame that a method returned (its call), one or
        more reports, or their ``to_dict()``.
    by : {"model", "run"}, default "model"
        One line for each model, or for each of the last 40 calls, oldest first.
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
        If the argument is anything else.

    Examples
    --------
    >>> report = {"operation": "embed", "model": "m", "tokens_in": 120, "tokens_out": 0, "requests": 2, "cost": 0.5}
    >>> usage({**report, "cached": 3, "sent": 9}).layout.meta["summary"]
    'Usage by model: 120 tokens in, 0 out, $0.50, 3 of 12 results from the cache (25%). m: 120 in, 0 out, $0.50.'
    """
    if by not in get_args(By):
        raise InputError(f'by must be "model" or "run", got {by!r}.')
    graph_objects()  # raises if plotly is not installed
    source_usage = read_usage(session_or_reports)
    records = group_by_model(source_usage) if by == "model" else _by_run(source_usage)
    if not records:
        return empty_figure("No usage yet.", theme=theme, title=title)
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 3, shared_yaxes=True, horizontal_spacing=0.05, column_widths=[0.4, 0.3, 0.3])
    _add_bars(figure, records, 1, "tokens in", TOKENS_IN_COLOR, "", [record.tokens_in for record in records])
    _add_bars(figure, records, 1, "tokens out", TOKENS_OUT_COLOR, "/", [record.tokens_out for record in records])
    _add_bars(figure, records, 2, "US dollars", COST_COLOR, "", [record.cost or 0.0 for record in records])
    _add_bars(figure, records, 3, "from the service", SERVICE_COLOR, "", [record.sent for record in records])
    _add_bars(figure, records, 3, "from the cache", "rgba(0,0,0,0)", ".", [record.cached for record in records])
    max_cost = max(record.cost or 0.0 for record in records) or 1.0
    for row, record in enumerate(records):
        _add_cost(figure, row, record)
    for column, heading in enumerate(PANELS, start=1):
        _format_axis(figure, column, heading)
    figure.update_xaxes(range=[0, 1.5 * max_cost], showticklabels=False, showgrid=False, col=2)
    labels = [escape_text(_label(record, by), 36) for record in records]
    figure.update_yaxes(range=[len(records) - 0.5, -0.5], showgrid=False, zeroline=False)
    figure.update_yaxes(tickvals=list(range(len(records))), ticktext=labels, col=1)
    summary = _summarize(source_usage, records, by)
    apply_theme(figure, theme=theme, title=title, caption=_caption(source_usage, by), summary=summary)
    figure.layout.annotations[-1].update(yshift=-30)
    top = 104 if title else 76
    height = top + BOTTOM_PX + ROW_PX * max(2, len(records))
    legend = {"orientation": "h", "x": 0, "y": 1 - (34 if title else 6) / height, "yref": "container", "yanchor": "top"}
    figure.update_layout(barmode="stack", height=height, margin={"t": top, "b": BOTTOM_PX}, legend=legend)
    figure.update_layout(legend_traceorder="normal")
    return figure


def _by_run(source_usage: Usage) -> list[UsageRecord]:
    """A record for each of the last calls, then the single requests of each model."""
    return [*source_usage.calls[-MAX_ROWS:], *source_usage.cells]


def _label(record: UsageRecord, by: By) -> str:
    if by == "model":
        return record.label
    state = "" if record.state == "done" else f" ({record.state})"
    return f"{record.label}{state} · {record.model}"


def _add_bars(
    figure: go.Figure,
    records: list[UsageRecord],
    column: int,
    name: str,
    color: str,
    pattern: str,
    values: list[Any],
) -> None:
    texts = [format_dollars(v) if column == 2 else f"{v:,}" for v in values]
    bar = graph_objects().Bar(
        x=values,
        y=list(range(len(records))),
        orientation="h",
        width=0.6,
        name=name,
        showlegend=column != 2,
        marker={
            "color": color,
            "line": {"color": GRAY, "width": 1},
            "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": GRAY, "size": 7, "solidity": 0.25},
        },
        hovertext=[
            f"{wrap_text(record.label, limit=60)}<br>{name}: {escape_text(text)}"
            for record, text in zip(records, texts, strict=True)
        ],
        hoverinfo="text",
    )
    figure.add_trace(bar, 1, column)


def _format_axis(figure: go.Figure, column: int, heading: str) -> None:
    bars = [trace for trace in figure.data if trace.xaxis == ("x" if column == 1 else f"x{column}")]
    max_total = max(sum(values) for values in zip(*(bar.x for bar in bars), strict=True))
    ticks = {"tickformat": "~s"} if max_total >= 10 else {"dtick": 1, "tickformat": "d"}
    figure.update_xaxes(range=[0, 1.05 * max_total if max_total else 1], nticks=4, tickangle=0, col=column, **ticks)
    figure.add_annotation(
        text=heading,
        x=0,
        y=1,
        xref=f"x{column if column > 1 else ''} domain",
        yref="paper",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
    )


def _add_cost(figure: go.Figure, row: int, record: UsageRecord) -> None:
    """Write the cost beside its bar instead of ticks, as costs differ by powers of ten."""
    figure.add_annotation(
        text=escape_text(format_dollars(record.cost)),
        x=record.cost or 0.0,
        y=row,
        xanchor="left",
        xshift=4,
        showarrow=False,
        font={"size": 11},
        row=1,
        col=2,
    )


def _caption(source_usage: Usage, by: By) -> str:
    calls = len(source_usage.calls)
    requests = sum(record.requests for record in (*source_usage.calls, *source_usage.cells))
    cells = sum(record.requests for record in source_usage.cells)
    parts = [format_count(calls, "call"), *([format_count(cells, "single request")] if cells else [])]
    last = f" · last {MAX_ROWS} calls shown" if by == "run" and calls > MAX_ROWS else ""
    return f"{' and '.join(parts)}, {format_count(requests, 'request')}{last} · tokens as counted by the service"


def _summarize(source_usage: Usage, records: list[UsageRecord], by: By) -> str:
    """The summary of the chart."""
    all_records = [*source_usage.calls, *source_usage.cells]
    overall = total(all_records, "all")
    priced = [record for record in all_records if record.cost is not None or not record.requests]
    cost = total(priced or all_records, "all").cost
    text = f"Usage by {by}: {overall.tokens_in:,} tokens in, {overall.tokens_out:,} out, {format_dollars(cost)}"
    if cost and len(priced) < len(all_records):
        text += " plus usage without a known price"
    if overall.results:
        share = format_percent(overall.cached / overall.results)
        text += f", {overall.cached:,} of {overall.results:,} results from the cache ({share})"
    descriptions = []
    for record in records:
        tokens = f"{record.tokens_in:,} in, {record.tokens_out:,} out"
        descriptions.append(f"{plain_text(_label(record, by), 60)}: {tokens}, {format_dollars(record.cost)}")
    return f"{text}. {'; '.join(descriptions)}."

"""What calls used: tokens, dollars, and what the cache saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from skytells_nb.errors import InputError
from skytells_nb.plots import theme as look
from skytells_nb.plots.safety_charts.flag_rates import percent
from skytells_nb.plots.usage_charts.records import Usage, UsageRecord, group_by_model, read_usage, total

if TYPE_CHECKING:
    import plotly.graph_objects as go

By = Literal["model", "run"]

LINE_PX = 30
MOST_LINES = 40
IN, OUT, MONEY, SERVICE = "#0072B2", "#E69F00", "#009E73", "#56B4E9"
PANELS = ("tokens", "US dollars", "answers")


def usage(
    session_or_reports: Any, *, by: By = "model", theme: look.Theme | None = None, title: str | None = None
) -> go.Figure:
    """Draw bars of tokens in and out, of dollars, and of answers from cache and service, by model or by run.

    Tokens are the service's own count. Where no price is known the line says so: that is not zero. Answers are counted
    by distinct input.

    Parameters
    ----------
    session_or_reports : Session, Report, dict or sequence of these
        A session (its calls, and its single answers as "cells"), one report, several, or what ``to_dict()`` returns of
        them.
    by : {"model", "run"}, default "model"
        One line for each model, or for each call, oldest first; of more than 40 calls the older ones share one line.
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
        If it is given anything else.

    Examples
    --------
    >>> report = {"operation": "embed", "model": "m", "tokens_in": 120, "tokens_out": 0, "requests": 2, "cost": 0.5}
    >>> usage({**report, "cached": 3, "sent": 9}).layout.meta["summary"]
    'Usage by model: 120 tokens in, 0 out, $0.50, 3 of 12 answers from the cache (25%). m: 120 in, 0 out, $0.50.'
    """
    if by not in get_args(By):
        raise InputError(f'by is "model" or "run", not {by!r}.')
    objects = look.graph_objects()
    used = read_usage(session_or_reports)
    lines = group_by_model(used) if by == "model" else _by_run(used)
    if not lines:
        words = "Nothing was used yet."
        return look.apply_theme(
            look.empty_figure(objects.Figure(), words), theme=theme, title=title, caption="", summary=words
        )
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 3, shared_yaxes=True, horizontal_spacing=0.05, column_widths=[0.4, 0.3, 0.3])
    _bars(figure, lines, 1, "tokens in", IN, "", [line.tokens_in for line in lines])
    _bars(figure, lines, 1, "tokens out", OUT, "/", [line.tokens_out for line in lines])
    _bars(figure, lines, 2, "US dollars", MONEY, "", [line.cost or 0.0 for line in lines])
    _bars(figure, lines, 3, "from the service", SERVICE, "", [line.sent for line in lines])
    _bars(figure, lines, 3, "from the cache", "rgba(0,0,0,0)", ".", [line.cached for line in lines])
    dearest = max(line.cost or 0.0 for line in lines) or 1.0
    for at, line in enumerate(lines):
        _say_cost(figure, at, line)
    for column, head in enumerate(PANELS, start=1):
        _axis(figure, column, head)
    figure.update_xaxes(range=[0, 1.5 * dearest], showticklabels=False, showgrid=False, col=2)
    labels = [look.escaped(_label(line, by), 36) for line in lines]
    figure.update_yaxes(range=[len(lines) - 0.5, -0.5], showgrid=False, zeroline=False)
    figure.update_yaxes(tickvals=list(range(len(lines))), ticktext=labels, col=1)
    look.apply_theme(figure, theme=theme, title=title, caption=_caption(used, by), summary=_words(used, lines, by))
    figure.layout.annotations[-1].update(yshift=-30)
    top = 104 if title else 76
    height = top + 66 + LINE_PX * max(2, len(lines))
    legend = {"orientation": "h", "x": 0, "y": 1 - (34 if title else 6) / height, "yref": "container", "yanchor": "top"}
    figure.update_layout(barmode="stack", height=height, margin={"t": top, "b": 66}, legend=legend)
    figure.update_layout(legend_traceorder="normal")
    return figure


def money(amount: float | None) -> str:
    """US dollars; below a cent with as many digits as it takes."""
    if amount is None:
        return "no price known"
    if amount == 0 or amount >= 0.00995:
        return f"${amount:,.2f}"
    return f"${amount:.6f}".rstrip("0") if amount >= 0.000001 else "under $0.000001"


def _by_run(used: Usage) -> list[UsageRecord]:
    """A line for each of the last calls, then the single cells of each model."""
    return [*used.calls[-MOST_LINES:], *used.cells]


def _label(line: UsageRecord, by: By) -> str:
    if by == "model":
        return line.label
    ended = "" if line.state == "done" else f" ({line.state})"
    return f"{line.label}{ended} · {line.model}"


def _bars(
    figure: go.Figure,
    lines: list[UsageRecord],
    column: int,
    name: str,
    color: str,
    pattern: str,
    values: list[Any],
) -> None:
    said = [money(v) if column == 2 else f"{v:,}" for v in values]
    bar = look.graph_objects().Bar(
        x=values,
        y=list(range(len(lines))),
        orientation="h",
        width=0.6,
        name=name,
        showlegend=column != 2,
        marker={
            "color": color,
            "line": {"color": look.GREY, "width": 1},
            "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": look.GREY, "size": 7, "solidity": 0.25},
        },
        hovertext=[
            f"{look.wrapped(line.label, limit=60)}<br>{name}: {look.escaped(text)}"
            for line, text in zip(lines, said, strict=True)
        ],
        hoverinfo="text",
    )
    figure.add_trace(bar, 1, column)


def _axis(figure: go.Figure, column: int, head: str) -> None:
    bars = [trace for trace in figure.data if trace.xaxis == ("x" if column == 1 else f"x{column}")]
    most = max(sum(values) for values in zip(*(bar.x for bar in bars), strict=True))
    ticks = {"tickformat": "~s"} if most >= 10 else {"dtick": 1, "tickformat": "d"}
    figure.update_xaxes(range=[0, 1.05 * most if most else 1], nticks=4, tickangle=0, col=column, **ticks)
    figure.add_annotation(
        text=head,
        x=0,
        y=1,
        xref=f"x{column if column > 1 else ''} domain",
        yref="paper",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
    )


def _say_cost(figure: go.Figure, place: int, line: UsageRecord) -> None:
    """The dollars behind their bar, in the place of ticks: sums differ by powers of ten."""
    figure.add_annotation(
        text=look.escaped(money(line.cost)),
        x=line.cost or 0.0,
        y=place,
        xanchor="left",
        xshift=4,
        showarrow=False,
        font={"size": 11},
        row=1,
        col=2,
    )


def _caption(used: Usage, by: By) -> str:
    n, requests = len(used.calls), sum(line.requests for line in (*used.calls, *used.cells))
    cells = sum(line.requests for line in used.cells)
    parts = [_count(n, "call"), *([_count(cells, "single answer")] if cells else [])]
    last = f" · drawn are the last {MOST_LINES} calls" if by == "run" and n > MOST_LINES else ""
    return f"{' and '.join(parts)}, {_count(requests, 'request')}{last} · tokens as the service counted them"


def _words(used: Usage, lines: list[UsageRecord], by: By) -> str:
    """The chart in sentences."""
    every = [*used.calls, *used.cells]
    everything = total([line for line in every if line.cost is not None or not line.requests] or every, "all")
    unpriced = ", and more at no known price" if any(line.cost is None for line in every) and everything.cost else ""
    cached, answers = sum(line.cached for line in every), sum(line.answers for line in every)
    cache = f", {cached:,} of {answers:,} answers from the cache ({percent(cached / answers)})" if answers else ""
    tokens = f"{sum(line.tokens_in for line in every):,} tokens in, {sum(line.tokens_out for line in every):,} out"
    said = [
        f"{look.plain(_label(line, by), 60)}: {line.tokens_in:,} in, {line.tokens_out:,} out, {money(line.cost)}"
        for line in lines
    ]
    return f"Usage by {by}: {tokens}, {money(everything.cost)}{unpriced}{cache}. {'; '.join(said)}."


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"

"""The share of each topic over time."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.column_types import category_names
from skytells_nb.plots.maps.hues import text_color
from skytells_nb.plots.maps.names import two_lines
from skytells_nb.plots.maps.topics import cluster_column
from skytells_nb.plots.periods import Period, Periods, check_period, parse_times, split_into_periods
from skytells_nb.plots.theme import (
    CATEGORY_COLORS,
    Theme,
    apply_theme,
    empty_figure,
    escape_text,
    format_count,
    graph_objects,
    plain_text,
)
from skytells_nb.statistics.intervals import wilson_limits

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MAX_LINES = 6
"""As many colors as differ clearly for every type of color vision."""
CONFIDENCE = 0.95
NAME_CHARACTERS = 60
HEIGHT_PX, LABEL_FONT_PX, LINE_PX = 460, 12, 16
SIDE_PX, LABELS_PX = 16, 180
BOTTOM_PX = 72


def topics_over_time(
    frame: pd.DataFrame,
    time: Hashable | pd.Series[Any],
    *,
    into: Hashable | None = None,
    every: Period | None = None,
    theme: Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw the share of the rows of each period that each topic has, for the six largest topics.

    The subtitle names the topic whose share changed most between the first and the last third of the periods, if that
    is more than chance. A first or last period that the rows do not cover, such as today, has open circles; a period
    without rows leaves a gap. Rows without a time or a topic are omitted; the caption counts them.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows.
    time : hashable or pandas.Series
        The column of times, or a Series with the labels of the rows. Times with a time zone are shown in that zone.
    into : hashable, optional
        The column of topics, of any categories; by default the newest that ``cluster`` made.
    every : {"minute", "hour", "day", "week", "month", "year"}, optional
        The period; by default the shortest with at most 60 periods.
    theme : {"light", "dark", "print"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure; ``plots.summary(figure)`` describes it.

    Raises
    ------
    InputError
        If a column or a time is invalid, or there is no column of topics.
    MissingExtraError
        If plotly is not installed.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"day": ["2026-03-01", "2026-03-02"] * 3, "about": ["price"] * 4 + ["delay"] * 2})
    >>> figure = topics_over_time(frame, "day", into="about", every="day")
    >>> [(trace.name, trace.y.round(2).tolist()) for trace in figure.data]
    [('price', [0.67, 0.67]), ('delay', [0.33, 0.33])]
    """
    import pandas as pd

    objects = graph_objects()
    check_period(every)
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"frame must be a DataFrame, got {type(frame).__name__}.")
    moments, time_name = _times_of(frame, time)
    topics = _topics_of(frame, into)
    has_topic, has_time = topics.notna().to_numpy(dtype=bool), moments.notna().to_numpy(dtype=bool)
    known = has_topic & has_time
    if not known.any():
        return empty_figure("No rows with a time and a topic to draw.", theme=theme, title=title)
    codes, names = pd.factorize(np.array(category_names(topics[known]), dtype=object))
    periods = split_into_periods(moments[known], every)
    counts = _count(codes, periods, len(names))
    order = np.argsort(-counts.sum(axis=1), kind="stable")[:MAX_LINES]
    counts, total = counts[order], counts.sum(axis=0)
    shown = [plain_text(names[at], NAME_CHARACTERS) for at in order.tolist()]
    colors = [CATEGORY_COLORS[at % len(CATEGORY_COLORS)] for at in range(len(order))]
    figure = objects.Figure()
    for name, color, rows in zip(shown, colors, counts, strict=True):
        figure.add_trace(_line(name, color, rows, total, periods))
    _write_names(figure, shown, colors, counts, total, theme)
    finding = _finding(shown, counts, total)
    column = plain_text(time_name, 40)
    notes = [format_count(int(known.sum()), "row"), f"share of the rows of each {periods.period} of {column}"]
    if len(names) > len(order):
        notes.append(f"the {len(order)} largest of {len(names):,} topics")
    partial = periods.table.loc[periods.table["partial"], "name"].tolist()
    if partial:
        notes.append(f"open circle: {' and '.join(partial)}, of which there are rows for a part only")
    for mask, what in ((~has_time, "time"), (has_time & ~has_topic, "topic")):
        if mask.any():
            notes.append(f"{format_count(int(mask.sum()), 'row')} without a {what} omitted")
    first, last = periods.table["name"].iloc[0], periods.table["name"].iloc[-1]
    listed = "; ".join(f"{name} {int(rows.sum()):,}" for name, rows in zip(shown, counts, strict=True))
    summary = f"Topics by {periods.period} of {column}, {first} to {last}: {listed}. {finding}"
    title = title or f"Topics by {periods.period}"
    apply_theme(figure, theme=theme, title=title, subtitle=finding, caption=" · ".join(notes), summary=summary)
    figure.layout.annotations[-1].update(yshift=-34)
    figure.update_layout(height=HEIGHT_PX, showlegend=False, margin={"r": LABELS_PX, "b": BOTTOM_PX})
    highest = float(np.nanmax(_shares(counts, total)))
    figure.update_yaxes(range=[-0.02 * highest, 1.06 * highest], tickformat=".0%")
    figure.update_xaxes(showgrid=False)
    return figure


def _times_of(frame: Any, time: Any) -> tuple[Any, str]:
    import pandas as pd

    from skytells_nb.columns import column_of

    if isinstance(time, pd.Series):
        if not time.index.equals(frame.index):
            if not time.index.is_unique:
                raise InputError("time must be a Series with one value for each row label, got labels more than once.")
            time = time.reindex(frame.index)
        name = "time" if time.name is None else str(time.name)
        return parse_times(time, name), name
    return parse_times(column_of(frame, time), str(time)), str(time)


def _topics_of(frame: Any, into: Any) -> Any:
    from skytells_nb.columns import column_of

    if into is None:
        into = cluster_column(frame)
    if into is None:
        raise InputError(
            "There is no column that cluster() made. Make one with frame.skytells.cluster(...), or pass a column of "
            "categories as into=."
        )
    return column_of(frame, into)


def _count(codes: Any, periods: Periods, topics: int) -> NDArray[np.int64]:
    """The rows (topics, periods) of each topic in each period."""
    n = len(periods.table)
    counts: NDArray[np.int64] = np.bincount(codes * n + periods.positions, minlength=topics * n).reshape(topics, n)
    return counts


def _shares(counts: Any, total: Any) -> NDArray[np.float64]:
    """The shares of a period's rows, NaN for a period without rows."""
    shares: NDArray[np.float64] = np.divide(counts, total, out=np.full(np.shape(counts), np.nan), where=total > 0)
    return shares


def _line(name: str, color: str, rows: Any, total: Any, periods: Periods) -> Any:
    table = periods.table
    low, high = wilson_limits(rows / np.maximum(total, 1), 1 / np.maximum(total, 1), CONFIDENCE)
    texts = [
        f"{escape_text(name)}<br>{when}{' (partial)' if partial else ''}: {count:,} of {of:,} rows "
        f"({count / max(of, 1):.0%}, {lower:.0%} to {upper:.0%})"
        for when, partial, count, of, lower, upper in zip(
            table["name"], table["partial"], rows.tolist(), total.tolist(), low.tolist(), high.tolist(), strict=True
        )
    ]
    return graph_objects().Scatter(
        x=table["start"] + (table["end"] - table["start"]) / 2,
        y=_shares(rows, total),
        name=escape_text(name),
        mode="lines+markers",
        line={"color": color, "width": 2.2},
        marker={
            "size": 6,
            "color": color,
            "symbol": ["circle-open" if partial else "circle" for partial in table["partial"]],
        },
        hovertext=texts,
        hoverinfo="text",
    )


def _write_names(
    figure: Any, names: list[str], colors: list[str], counts: Any, total: Any, theme: Theme | None
) -> None:
    """Write each name beside the end of its line, in its color, so that none covers another."""
    shares = _shares(counts, total)
    ends = np.array([line[np.isfinite(line)][-1] for line in shares])
    height = HEIGHT_PX - BOTTOM_PX - 84.0
    highest = float(np.nanmax(shares))
    lines = [two_lines(name, 22) for name in names]
    sizes = np.array([LINE_PX * len(line) + 4.0 for line in lines])
    places = _spread(height * (1 - (ends / highest + 0.02) / 1.08), sizes, height)
    for line, color, end, place in zip(lines, colors, ends, places, strict=True):
        at = height * (1 - (end / highest + 0.02) / 1.08)
        figure.add_annotation(
            text="<br>".join(map(escape_text, line)),
            name="topic",
            x=1,
            y=end,
            xref="paper",
            xanchor="left",
            yanchor="middle",
            xshift=6,
            yshift=at - place,
            align="left",
            showarrow=False,
            font={"size": LABEL_FONT_PX, "color": text_color(color, theme), "weight": "bold"},
        )


def _spread(wanted: Any, sizes: Any, height: float) -> Any:
    """Places near the wanted ones, in their order, whose sizes do not overlap: each pushes those below it."""
    places = np.array(wanted, dtype=np.float64)
    order = np.argsort(places, kind="stable").tolist()
    for above, below in pairwise(order):
        places[below] = max(places[below], places[above] + (sizes[above] + sizes[below]) / 2)
    # Back up what was pushed out at the bottom.
    edge = height
    for at in reversed(order):
        places[at] = min(places[at], edge - sizes[at] / 2)
        edge = places[at] - sizes[at] / 2
    return places


def _finding(names: list[str], counts: Any, total: Any) -> str:
    """What changed between the first and the last third of the periods with rows, in one sentence."""
    used = np.flatnonzero(total)
    third = len(used) // 3
    if len(used) < 2:
        at = int(counts.sum(axis=1).argmax())
        return f"The largest topic is “{names[at]}” ({counts[at].sum() / total.sum():.0%} of the rows)."
    early, late = (used[:third], used[-third:]) if third else (used[:1], used[-1:])
    n, m = int(total[early].sum()), int(total[late].sum())
    p, q = counts[:, early].sum(axis=1) / n, counts[:, late].sum(axis=1) / m
    # Newcombe's interval for a difference, with Bonferroni's correction for the number of topics.
    level = 1 - (1 - CONFIDENCE) / len(names)
    p_low, p_high = wilson_limits(p, 1 / n, level)
    q_low, q_high = wilson_limits(q, 1 / m, level)
    grew = q - p - np.hypot(q - q_low, p_high - p) > 0
    fell = q - p + np.hypot(q_high - q, p - p_low) < 0
    changed = np.flatnonzero(grew | fell)
    if not len(changed):
        return "No topic's share changed by more than chance."
    at = int(changed[np.abs(q - p)[changed].argmax()])
    return f"“{names[at]}” {'grew' if grew[at] else 'fell'} from {p[at]:.0%} to {q[at]:.0%} of the rows."

"""The safety overview: what became of all rows, and the flagged rows by category, prompts beside completions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.safety_charts.findings import (
    ALL_CATEGORIES,
    SOURCES,
    Findings,
    Source,
    group_rare_categories,
    read_findings,
)
from skytells_nb.plots.safety_charts.flag_rates import format_percent, wilson_interval
from skytells_nb.plots.safety_charts.headline import headline
from skytells_nb.plots.safety_charts.severity import DETECTED, LEVEL_NAMES, LEVELS, SAFE, UNCHECKED
from skytells_nb.plots.theme import (
    GRAY,
    TRANSPARENT,
    Theme,
    apply_theme,
    empty_figure,
    format_count,
    graph_objects,
    plain_text,
    wrap_text,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

WITHHELD = "withheld"
NOT_CHECKED_NOTE = "not checked does not mean safe"
STRIP_PX, STRIP_TEXT_PX, AXIS_PX, LINE_PX, THIN_LINE_PX = 34, 58, 34, 34, 26
THIN_ABOVE_LINES = 10
LEGEND_PX, HEADING_PX, CAPTION_PX = 30, 24, 40
MIN_CELL = 0.014
"""The least width of a cell of the strip: one row of thousands is seen."""
BAR_HEIGHT, WITHHELD_HEIGHT = 0.52, 0.14
TEXT_SPACE = {1: 0.42, 2: 0.9}
"""Space for the texts beside the bars, as a fraction of the longest bar, by the number of sources."""
STRIP_TEXT_CHARACTERS = 52
STRIP_ORDER = (*range(len(LEVELS) - 1, UNCHECKED, -1), UNCHECKED, SAFE)


def safety(
    frame_or_tidy: pd.DataFrame,
    *,
    into: Hashable | None = None,
    source: Source | None = None,
    max_categories: int | None = 16,
    confidence: float = 0.95,
    theme: Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw what the safety filter found: all rows by their worst level, and the flagged rows by category.

    Prompts are beside completions. The strip has all rows of a source; a level with very few rows has a least width,
    and its count is in words. Below it each category has the share of flagged rows as a bar, the most severe first,
    with Wilson's interval and, as a thin bar, what was withheld. Shares are of the checked rows. Severe levels have the
    strongest ink on a light and on a dark page, however few rows they have, "safe" the faintest. Rows that were not
    checked are always counted, have no fill and never count as safe. Categories without grades are "safe" or
    "detected". Of several findings for one row and category, the worst counts.

    Parameters
    ----------
    frame_or_tidy : pandas.DataFrame
        The table that ``frame.skytells.safety()`` returns, with one line for each finding and the columns ``row``,
        ``source``, ``category``, ``severity``, ``filtered``, ``detected`` and ``checked``; or a frame with completions
        or the columns of ``moderate``.
    into : hashable, optional
        The column of completions or the prefix of ``moderate``, if the frame has several.
    source : {"prompt", "completion"}, optional
        Show only this source.
    max_categories : int or None, default 16
        Maximum number of lines. Of more categories, those without flagged rows share one line, and the least flagged
        another; ``None`` shows all.
    confidence : float, default 0.95
        Confidence of the intervals, between 0 and 1.
    theme : {"light", "dark", "print"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure; by default it names the number of prompts and completions. Below it is the finding.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure; ``plots.summary(figure)`` describes it with all counts.

    Raises
    ------
    InputError
        If a column is missing, or an option is invalid.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = ["row", "source", "category", "severity", "filtered", "detected", "checked"]
    >>> findings = pd.DataFrame([[0, "prompt", "hate", "low", False, None, True]], columns=columns)
    >>> safety(findings).layout.title.subtitle.text
    '1 of 1 prompt was flagged for hate; none was withheld.'
    """
    graph_objects()  # raises if plotly is not installed
    if max_categories is not None and max_categories < 1:
        raise InputError(f"max_categories must be at least 1, or None for all, got {max_categories!r}.")
    findings = read_findings(frame_or_tidy, into).for_source(source)
    finding = headline(findings)
    grouped: list[str] = []
    if max_categories is not None:
        findings, grouped = group_rare_categories(findings, max_categories)
    all_counts = _count_by_source(findings, confidence)
    if not all_counts:
        message = "No safety results to draw" + (f" for {source}s." if source else ".")
        return empty_figure(message, theme=theme, title=title)
    from plotly.subplots import make_subplots

    lines = {category: place for place, category in enumerate(_order_categories(all_counts, grouped))}
    line_px = THIN_LINE_PX if len(lines) > THIN_ABOVE_LINES else LINE_PX
    lines_px = line_px * len(lines)
    # Between the strip and the lines are the texts of the strip.
    plot_px = STRIP_PX + STRIP_TEXT_PX + lines_px
    figure = make_subplots(
        2,
        len(all_counts),
        horizontal_spacing=0.04,
        vertical_spacing=STRIP_TEXT_PX / plot_px,
        row_heights=[STRIP_PX, lines_px],
        shared_yaxes=True,
    )
    longest = max(float(counts.high[name]) for counts in all_counts for name in counts.high)
    for column, counts in enumerate(all_counts, start=1):
        _add_strip(figure, counts, column, theme)
        _add_lines(figure, counts, column, lines, longest * (1 + TEXT_SPACE[len(all_counts)]), theme)
    _add_legend(figure, all_counts, theme)
    label_width = 30 if len(all_counts) == 1 else 22
    labels = [wrap_text(_category_label(name), width=label_width, limit=label_width) for name in lines]
    _set_axes(figure, labels, longest, len(all_counts))
    totals = " and ".join(format_count(counts.total, counts.source) for counts in all_counts)
    percent = f"{100 * confidence:g}%"
    notes = f"bars: share of the checked rows, with {percent} confidence intervals (Wilson) · {NOT_CHECKED_NOTE}"
    summary = _summarize(all_counts, [*lines, ALL_CATEGORIES], totals, finding)
    heading = title or f"Safety of {totals}"
    apply_theme(figure, theme=theme, title=heading, subtitle=finding, caption=notes, summary=summary)
    top = figure.layout.margin.t + LEGEND_PX + HEADING_PX
    figure.layout.annotations[-1].update(yshift=-AXIS_PX)
    margin = {"t": top, "b": AXIS_PX + CAPTION_PX, "r": 24}
    legend = {"orientation": "h", "x": 0, "xref": "container", "yref": "container", "traceorder": "normal"}
    height = top + plot_px + margin["b"]
    legend.update(
        xanchor="left", yanchor="bottom", y=1 - (top - HEADING_PX) / height, font={"size": 12}, itemclick=False
    )
    figure.update_layout(barmode="overlay", bargap=0, height=height, margin=margin, legend=legend)
    return figure


@dataclass(frozen=True, slots=True)
class _SourceCounts:
    """Rows of one source by category and level (``counts``, in the order of LEVELS), of ``total`` rows.

    ``levels`` has all rows by their worst level. ``checked`` has the rows that shares are of, ``low`` and ``high`` the
    bounds of the share of flagged rows.
    """

    source: Source
    total: int
    levels: NDArray[np.int64]
    withheld: int
    counts: dict[str, NDArray[np.int64]]
    filtered: dict[str, int]
    checked: dict[str, int]
    low: dict[str, float]
    high: dict[str, float]

    def flagged(self, category: str) -> int:
        counts = self.counts.get(category)
        return 0 if counts is None else int(counts.sum() - counts[SAFE] - counts[UNCHECKED])

    def share(self, category: str, n: int) -> float:
        """``n`` as a share of the checked rows of a category."""
        return n / self.checked[category] if self.checked[category] else 0.0


def _count_by_source(findings: Findings, confidence: float) -> list[_SourceCounts]:
    all_counts = []
    n = len(findings.categories)
    for index, source in enumerate(SOURCES):
        in_source = findings.source == index
        if not in_source.any():
            continue
        category, level = findings.category[in_source], findings.level[in_source]
        table = np.bincount(category * len(LEVELS) + level, minlength=n * len(LEVELS)).reshape(n, len(LEVELS))
        filtered = np.bincount(category[findings.filtered[in_source]], minlength=n)
        rows, positions = np.unique(findings.row[in_source], return_inverse=True)
        worst = np.zeros(len(rows), np.int64)
        np.maximum.at(worst, positions, level)
        counts = {name: table[place] for place, name in enumerate(findings.categories) if table[place].any()}
        whole = int(counts[ALL_CATEGORIES][UNCHECKED]) if ALL_CATEGORIES in counts else 0
        flagged = {name: int(line.sum() - line[SAFE] - line[UNCHECKED]) for name, line in counts.items()}
        withheld = {name: int(filtered[findings.categories.index(name)]) for name in counts}
        checked = {
            name: max(
                len(rows) - int(line[UNCHECKED]) - whole * (name != ALL_CATEGORIES), flagged[name], withheld[name]
            )
            for name, line in counts.items()
        }
        low, high = wilson_interval(list(flagged.values()), list(checked.values()), confidence)
        # An interval of a share of nothing is no finding, and would set the scale of all others.
        bounds = [
            (float(a), float(b)) if n else (0.0, 0.0) for a, b, n in zip(low, high, flagged.values(), strict=True)
        ]
        all_counts.append(
            _SourceCounts(
                source=source,
                total=len(rows),
                levels=np.bincount(worst, minlength=len(LEVELS)),
                withheld=len(np.unique(findings.row[in_source & findings.filtered])),
                counts=counts,
                filtered=withheld,
                checked=checked,
                low={name: bound[0] for name, bound in zip(counts, bounds, strict=True)},
                high={name: bound[1] for name, bound in zip(counts, bounds, strict=True)},
            )
        )
    return all_counts


def _order_categories(all_counts: list[_SourceCounts], grouped: list[str]) -> list[str]:
    """Categories by the number of flagged rows, most first; then grouped categories and whole results."""
    names = {name for counts in all_counts for name in counts.counts}
    if len(names) > 1 and not any(counts.flagged(ALL_CATEGORIES) for counts in all_counts):
        # Rows that were not checked at all are in the strip.
        names.discard(ALL_CATEGORIES)
    last = [*grouped, ALL_CATEGORIES]
    ranks = {name: last.index(name) + 1 if name in last else 0 for name in names}
    flagged = {name: sum(counts.flagged(name) for counts in all_counts) for name in names}
    return sorted(names, key=lambda name: (ranks[name], -flagged[name], name))


def _strip_cells(levels: NDArray[np.int64]) -> list[tuple[int, float, float]]:
    """The level, left and right edge of each cell of the strip, the most severe first; a small cell is widened."""
    shown = [level for level in STRIP_ORDER if levels[level]]
    widths = np.maximum(levels[shown] / levels.sum(), MIN_CELL)
    # The widest cells give up what the small ones are widened by.
    wide = widths > 2 * MIN_CELL
    if wide.any():
        widths[wide] -= (widths.sum() - 1) * widths[wide] / widths[wide].sum()
    edges = np.r_[0, np.cumsum(widths / widths.sum())]
    return [(level, float(edges[i]), float(edges[i + 1])) for i, level in enumerate(shown)]


def _add_strip(figure: go.Figure, counts: _SourceCounts, column: int, theme: Theme | None) -> None:
    """All rows of a source by their worst level, and the same in words below it."""
    objects = graph_objects()
    for level, left, right in _strip_cells(counts.levels):
        n, color = int(counts.levels[level]), LEVELS[level].color(theme)
        text = f"{LEVEL_NAMES[level]}: {n:,} of {format_count(counts.total, counts.source)}"
        # The value of a cell is its share, which the width of a small cell is not.
        cell = objects.Heatmap(
            x=[left, right],
            y=[-0.5, 0.5],
            z=[[n / counts.total]],
            zmin=0,
            zmax=1,
            colorscale=[[0, color], [1, color]],
            showscale=False,
            name=LEVEL_NAMES[level],
            text=[[f"{text} ({format_percent(n / counts.total)})"]],
            hoverinfo="text",
        )
        outline = objects.Bar(
            orientation="h",
            x=[right - left],
            base=[left],
            y=[0],
            width=1,
            marker={**LEVELS[level].marker(theme), "color": TRANSPARENT},
            name=LEVEL_NAMES[level],
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_trace(cell, 1, column)
        figure.add_trace(outline, 1, column)
    shared: dict[str, Any] = {
        "xref": f"x{column if column > 1 else ''} domain",
        "yref": f"y{column if column > 1 else ''} domain",
    }
    shared |= {"x": 0, "xanchor": "left", "showarrow": False, "align": "left"}
    figure.add_annotation(
        text=f"<b>{format_count(counts.total, counts.source)}</b>", y=1, yanchor="bottom", yshift=2, **shared
    )
    figure.add_annotation(text=_strip_text(counts), y=0, yanchor="top", yshift=-3, font={"size": 11}, **shared)


def _strip_text(counts: _SourceCounts) -> str:
    """The counts of all levels in words, in two lines if they are long; that of unchecked rows always."""
    parts = [f"{counts.withheld:,} {WITHHELD}"] if counts.withheld else []
    for level in STRIP_ORDER:
        if counts.levels[level] or level == UNCHECKED:
            parts.append(f"{counts.levels[level]:,} {LEVEL_NAMES[level]}")
    first = parts.copy()
    while len(" · ".join(first)) > STRIP_TEXT_CHARACTERS:
        first.pop()
    lines = [first, parts[len(first) :]]
    return "<br>".join(" · ".join(line) for line in lines if line)


def _add_lines(
    figure: go.Figure,
    counts: _SourceCounts,
    column: int,
    lines: dict[str, int],
    x_end: float,
    theme: Theme | None,
) -> None:
    """The bars of all categories of a source, their intervals, and counts in words beside them."""
    objects = graph_objects()
    reported = [name for name in lines if name in counts.counts]
    ends = dict.fromkeys(reported, 0.0)
    for level in range(len(LEVELS) - 1, UNCHECKED, -1):
        names = [name for name in reported if counts.counts[name][level]]
        if not names:
            continue
        shares = [counts.share(name, int(counts.counts[name][level])) for name in names]
        bar = objects.Bar(
            orientation="h",
            x=shares,
            base=[ends[name] for name in names],
            y=[lines[name] for name in names],
            width=BAR_HEIGHT,
            marker=LEVELS[level].marker(theme),
            name=LEVEL_NAMES[level],
            hovertext=[_hover_text(counts, name, level) for name in names],
            hoverinfo="text",
            showlegend=False,
        )
        figure.add_trace(bar, 2, column)
        for name, share in zip(names, shares, strict=True):
            ends[name] += share
    withheld = [name for name in reported if counts.filtered[name]]
    if withheld:
        bar = objects.Bar(
            orientation="h",
            x=[counts.share(name, counts.filtered[name]) for name in withheld],
            y=[lines[name] + (BAR_HEIGHT + WITHHELD_HEIGHT) / 2 + 0.03 for name in withheld],
            width=WITHHELD_HEIGHT,
            marker={"color": LEVELS[DETECTED].color(theme), "line": {"width": 0}},
            name=WITHHELD,
            hovertext=[f"{counts.filtered[name]:,} {WITHHELD} for {_hover_name(name)}" for name in withheld],
            hoverinfo="text",
            showlegend=False,
        )
        figure.add_trace(bar, 2, column)
    flagged = [name for name in reported if counts.flagged(name)]
    if flagged:
        interval = {"type": "data", "symmetric": False, "color": GRAY, "thickness": 1.5, "width": 4}
        points = objects.Scatter(
            x=[ends[name] for name in flagged],
            y=[lines[name] for name in flagged],
            mode="markers",
            marker={"size": 1, "color": GRAY},
            error_x={
                **interval,
                "array": [counts.high[name] - ends[name] for name in flagged],
                "arrayminus": [ends[name] - counts.low[name] for name in flagged],
            },
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_trace(points, 2, column)
    texts = objects.Scatter(
        x=[counts.high.get(name, 0.0) + 0.016 * (x_end or 1) for name in lines],
        y=list(lines.values()),
        text=[_line_text(counts, name) for name in lines],
        mode="text",
        textposition="middle right",
        textfont={"size": 11},
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )
    figure.add_trace(texts, 2, column)
    figure.update_xaxes(range=[0, x_end or 1], row=2, col=column)


def _hover_name(category: str) -> str:
    return wrap_text(_category_label(category), limit=60)


def _hover_text(counts: _SourceCounts, category: str, level: int) -> str:
    n = int(counts.counts[category][level])
    share = format_percent(counts.share(category, n))
    bounds = f"{format_percent(counts.low[category])} to {format_percent(counts.high[category])}"
    return (
        f"{_hover_name(category)}<br>{LEVEL_NAMES[level]}: {n:,} of {counts.checked[category]:,} checked "
        f"{counts.source}s ({share})<br>all levels: {counts.flagged(category):,} ({bounds})"
    )


def _line_text(counts: _SourceCounts, category: str) -> str:
    """The counts of a category in words."""
    if category not in counts.counts:
        return "not reported"
    flagged, unchecked = counts.flagged(category), int(counts.counts[category][UNCHECKED])
    parts = []
    if flagged:
        parts.append(f"{flagged:,} ({format_percent(counts.share(category, flagged))})")
    elif counts.counts[category][SAFE]:
        parts.append("none")
    if counts.filtered[category]:
        parts.append(f"{counts.filtered[category]:,} {WITHHELD}")
    if unchecked:
        parts.append(f"{unchecked:,} {LEVEL_NAMES[UNCHECKED]}")
    return " · ".join(parts)


def _add_legend(figure: go.Figure, all_counts: list[_SourceCounts], theme: Theme | None) -> None:
    """An entry for each level that occurs, by severity; "not checked" always."""
    objects = graph_objects()
    levels = np.sum([counts.levels for counts in all_counts], axis=0)
    by_category = np.sum([line for counts in all_counts for line in counts.counts.values()], axis=0)
    for level in STRIP_ORDER:
        if levels[level] or by_category[level] or level == UNCHECKED:
            marker = LEVELS[level].marker(theme)
            name = LEVEL_NAMES[level]
            figure.add_trace(objects.Bar(x=[None], y=[None], name=name, marker=marker, showlegend=True), 2, 1)
    if any(counts.withheld for counts in all_counts):
        marker = {"color": LEVELS[DETECTED].color(theme), "symbol": "line-ew", "size": 12}
        marker["line"] = {"color": LEVELS[DETECTED].color(theme), "width": 4}
        entry = objects.Scatter(x=[None], y=[None], mode="markers", name=WITHHELD, marker=marker, showlegend=True)
        figure.add_trace(entry, 2, 1)


def _set_axes(figure: go.Figure, labels: list[str], longest: float, sources: int) -> None:
    hidden = {"showgrid": False, "zeroline": False, "showline": False, "ticks": ""}
    figure.update_yaxes(**hidden, row=2, range=[len(labels) - 0.5, -0.5])
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, showticklabels=True, ticklabelstandoff=6, row=2, col=1
    )
    for column in range(1, sources + 1):
        figure.update_yaxes(**hidden, range=[-0.5, 0.5], showticklabels=False, row=1, col=column)
        figure.update_xaxes(**hidden, range=[0, 1], showticklabels=False, row=1, col=column)
        figure.update_xaxes(
            tickformat=".1%" if longest < 0.05 else ".0%",
            # No ticks below the texts beside the bars.
            tickmode="array" if longest else "auto",
            tickvals=_ticks(longest) if longest else None,
            showticklabels=bool(longest),
            showgrid=False,
            row=2,
            col=column,
        )


def _ticks(end: float) -> list[float]:
    """Round values from 0 to ``end``, three to five of them."""
    step = 10 ** np.floor(np.log10(end))
    step *= next(factor for factor in (0.2, 0.25, 0.5, 1, 2, 2.5) if end / (step * factor) <= 4)
    return [float(step * i) for i in range(int(end / step + 1e-9) + 1)]


def _category_label(name: str) -> str:
    return "all categories" if name == ALL_CATEGORIES else name.replace("_", " ")


def _summarize(all_counts: list[_SourceCounts], order: list[str], totals: str, finding: str) -> str:
    """The summary of the chart."""
    sentences = []
    for counts in all_counts:
        parts = []
        for name in (name for name in dict.fromkeys(order) if name in counts.counts):
            line = zip(LEVEL_NAMES, counts.counts[name].tolist(), strict=True)
            levels = ", ".join(f"{level} {n:,} ({n / counts.total:.0%})" for level, n in line if n)
            filtered = f", filtered {counts.filtered[name]:,}" if counts.filtered[name] else ""
            parts.append(f"{plain_text(_category_label(name), 60)} {levels}{filtered}")
        sentences.append(f"{counts.source.capitalize()}: {'; '.join(parts)}.")
    return " ".join([f"Safety of {totals}.", *finding.split("\n"), *sentences])

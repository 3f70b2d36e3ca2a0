"""The safety heatmap: categories by severity, for prompts beside completions."""

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
from skytells_nb.plots.safety_charts.flag_rates import format_percent
from skytells_nb.plots.safety_charts.severity import LEVEL_NAMES, LEVELS, SAFE, UNCHECKED
from skytells_nb.plots.theme import Theme, apply_theme, empty_figure, format_count, graph_objects, plain_text, wrap_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FILTERED = "filtered"
ROW_PX, THIN_ROW_PX = 58, 37
THIN_ABOVE_LINES = 10
TOP_PX, TITLE_PX, CAPTION_PX = 76, 28, 40
TILE_WIDTH, TILE_HEIGHT, THIN_TILE_HEIGHT = 0.84, 0.36, 0.42
TILE_TOP = 0.46
COLUMN_GAP = 0.05
NOT_CHECKED_NOTE = "not checked does not mean safe"


def safety(
    frame_or_tidy: pd.DataFrame,
    *,
    into: Hashable | None = None,
    source: Source | None = None,
    max_categories: int | None = 16,
    theme: Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw a heatmap of category by severity with counts and shares of the rows, prompts beside completions.

    Severe findings have the strongest color, however few they are, "safe" the faintest; below each tile is the share of
    the rows of its source. What a line lacks to 100 % was not reported. Rows that were not checked have a column of
    their own, without a fill, and never count as safe. Categories without grades are "safe" or "detected". Of several
    findings for one row and category, the worst counts.

    Parameters
    ----------
    frame_or_tidy : pandas.DataFrame
        The table that ``frame.skytells.safety()`` returns, with one line for each finding and the columns ``row``,
        ``source``, ``category``, ``severity``, ``filtered``, ``detected`` and ``checked``; or a frame with completions.
    into : hashable, optional
        The column of completions, if the frame has several.
    source : {"prompt", "completion"}, optional
        Show only this source.
    max_categories : int or None, default 16
        Maximum number of lines. Of more categories, those without flagged rows share one line, and the least flagged
        another; ``None`` shows all. More than 10 lines are thin and show only counts, with shares on hover.
    theme : {"light", "dark"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure; ``plots.summary(figure)`` describes it with all counts.

    Raises
    ------
    InputError
        If a column is missing, ``source`` is unknown or ``max_categories`` is below 1.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = ["row", "source", "category", "severity", "filtered", "detected", "checked"]
    >>> findings = pd.DataFrame([[0, "prompt", "hate", "low", False, None, True]], columns=columns)
    >>> safety(findings).layout.meta["summary"]
    'Safety of 1 prompt. Prompt: hate low 1 (100%).'
    """
    graph_objects()  # raises if plotly is not installed
    if max_categories is not None and max_categories < 1:
        raise InputError(f"max_categories must be at least 1, or None for all, got {max_categories!r}.")
    findings = read_findings(frame_or_tidy, into).for_source(source)
    grouped: list[str] = []
    if max_categories is not None:
        findings, grouped = group_rare_categories(findings, max_categories)
    all_counts = _count_by_source(findings)
    if not all_counts:
        message = "No safety results to draw" + (f" for {source}s." if source else ".")
        return empty_figure(message, theme=theme, title=title)
    from plotly.subplots import make_subplots

    lines = {category: position for position, category in enumerate(_order_categories(all_counts, grouped))}
    columns = _column_names(all_counts)
    thin = len(lines) > THIN_ABOVE_LINES
    figure = make_subplots(1, len(all_counts), shared_yaxes=True, horizontal_spacing=COLUMN_GAP)
    for position, source_counts in enumerate(all_counts, start=1):
        for column, name in enumerate(columns):
            if name != FILTERED:
                figure.add_traces(_tile_traces(source_counts, name, column, lines, thin), rows=1, cols=position)
        figure.add_trace(_number_trace(source_counts, columns, lines, thin), 1, position)
        _add_heading(figure, source_counts, (position - 1) * (1 + COLUMN_GAP) / len(all_counts))
    width, limit = (30, 30) if thin else (20, 38)
    labels = [wrap_text(_category_label(name), width=width, limit=limit) for name in lines]
    figure.update_xaxes(
        range=[-0.5, len(columns) - 0.5],
        tickvals=list(range(len(columns))),
        ticktext=[name.replace(" ", "<br>") for name in columns],
    )
    figure.update_xaxes(side="top", showgrid=False, zeroline=False, showline=False, tickfont={"size": 11}, tickangle=0)
    figure.update_xaxes(ticks="")
    figure.update_yaxes(ticks="", range=[len(lines) - 0.5, -0.5], showgrid=False, zeroline=False, showline=False)
    figure.update_yaxes(tickvals=list(range(len(lines))), ticktext=labels)
    share = "with their share on hover" if thin else "and their share"
    caption = f"rows by their worst finding in the category, {share} · {NOT_CHECKED_NOTE}"
    apply_theme(figure, theme=theme, title=title, caption=caption, summary=_summarize(all_counts, list(lines)))
    top = TOP_PX + (TITLE_PX if title else 0)
    margin = {"t": top, "b": CAPTION_PX}
    height = top + CAPTION_PX + (THIN_ROW_PX if thin else ROW_PX) * len(lines)
    figure.update_layout(showlegend=False, barmode="overlay", height=height, margin=margin)
    return figure


@dataclass(frozen=True, slots=True)
class _SourceCounts:
    """Rows of one source by category and level (``counts``, in the order of LEVELS), of ``total`` rows."""

    source: Source
    total: int
    counts: dict[str, NDArray[np.int64]]
    filtered: dict[str, int]

    def flagged(self, category: str) -> int:
        counts = self.counts.get(category)
        return 0 if counts is None else int(counts.sum() - counts[SAFE] - counts[UNCHECKED])

    def count(self, category: str, column: str) -> int:
        """Number of rows of a category in a column of the chart."""
        if category not in self.counts:
            return 0
        return self.filtered[category] if column == FILTERED else int(self.counts[category][LEVEL_NAMES.index(column)])


def _count_by_source(findings: Findings) -> list[_SourceCounts]:
    all_counts = []
    n = len(findings.categories)
    for index, source in enumerate(SOURCES):
        in_source = findings.source == index
        if not in_source.any():
            continue
        category, level = findings.category[in_source], findings.level[in_source]
        counts = np.bincount(category * len(LEVELS) + level, minlength=n * len(LEVELS)).reshape(n, len(LEVELS))
        filtered = np.bincount(category[findings.filtered[in_source]], minlength=n)
        categories = {name: index for index, name in enumerate(findings.categories) if counts[index].any()}
        total = len(np.unique(findings.row[in_source]))
        all_counts.append(
            _SourceCounts(
                source,
                total,
                {name: counts[index] for name, index in categories.items()},
                {name: int(filtered[index]) for name, index in categories.items()},
            )
        )
    return all_counts


def _order_categories(all_counts: list[_SourceCounts], grouped: list[str]) -> list[str]:
    """Categories by the number of flagged rows, most first; then grouped categories and whole results."""
    names = {name for source_counts in all_counts for name in source_counts.counts}
    last = [*grouped, ALL_CATEGORIES]
    ranks = {name: last.index(name) + 1 if name in last else 0 for name in names}
    flagged = {name: sum(source_counts.flagged(name) for source_counts in all_counts) for name in names}
    return sorted(names, key=lambda name: (ranks[name], -flagged[name], name))


def _column_names(all_counts: list[_SourceCounts]) -> list[str]:
    """The levels that occur, and "filtered" if it occurs."""
    totals = sum(counts for source_counts in all_counts for counts in source_counts.counts.values())
    filtered = any(any(source_counts.filtered.values()) for source_counts in all_counts)
    return [name for name, n in zip(LEVEL_NAMES, np.asarray(totals).tolist(), strict=True) if n] + [FILTERED] * filtered


def _tile_traces(
    source_counts: _SourceCounts, level_name: str, column: int, lines: dict[str, int], thin: bool
) -> list[Any]:
    """One column of the heatmap: tiles with the ink of their level, and over them outline and pattern."""
    tile_height = THIN_TILE_HEIGHT if thin else TILE_HEIGHT
    objects, level = graph_objects(), LEVELS[LEVEL_NAMES.index(level_name)]
    shares = {name: source_counts.count(name, level_name) / source_counts.total for name in lines}
    # Between the tiles are empty cells for the numbers.
    z: list[list[float | None]] = [[cell] for name in lines for cell in (shares[name] or None, None)][:-1]
    y = [edge for line in lines.values() for edge in (line - TILE_TOP, line - TILE_TOP + tile_height)]
    texts = [_hover_text(source_counts, name, level_name) for name in lines]
    shown = [name for name in lines if shares[name]]
    fill = objects.Heatmap(
        x=[column - TILE_WIDTH / 2, column + TILE_WIDTH / 2],
        y=y,
        z=z,
        zmin=0,
        zmax=1,
        colorscale=[[0, level.color(level.min_opacity)], [1, level.color(level.max_opacity)]],
        showscale=False,
        name=level_name,
        text=[[text] for name_text in texts for text in (name_text, "")][:-1],
        hoverinfo="text",
        hoverongaps=False,
    )
    outline = objects.Bar(
        x=[column] * len(shown),
        y=[tile_height] * len(shown),
        base=[lines[name] - TILE_TOP for name in shown],
        width=TILE_WIDTH,
        marker={**level.marker(), "color": "rgba(0,0,0,0)"},
        name=level_name,
        hoverinfo="skip",
    )
    return [fill, outline]


def _hover_text(source_counts: _SourceCounts, category: str, column_name: str) -> str:
    name = wrap_text(_category_label(category), limit=60)
    count = source_counts.count(category, column_name)
    share = format_percent(count / source_counts.total)
    return f"{name}<br>{column_name}: {count:,} of {source_counts.total:,} {source_counts.source}s ({share})"


def _number_trace(source_counts: _SourceCounts, columns: list[str], lines: dict[str, int], thin: bool) -> Any:
    """Count and share below each tile; a dash if the category was not reported for this source."""
    offset = THIN_TILE_HEIGHT + 0.02 if thin else TILE_HEIGHT + 0.06
    cells = [(column, name, category) for category in lines for column, name in enumerate(columns)]
    return graph_objects().Scatter(
        x=[column for column, _, _ in cells],
        y=[lines[category] - TILE_TOP + offset for _, _, category in cells],
        text=[_number_text(source_counts, category, name, thin) for _, name, category in cells],
        mode="text",
        textposition="bottom center",
        textfont={"size": 11},
        hoverinfo="skip",
        cliponaxis=False,
    )


def _number_text(source_counts: _SourceCounts, category: str, column_name: str, thin: bool) -> str:
    if category not in source_counts.counts:
        return "-"
    count = source_counts.count(category, column_name)
    if thin:
        # Many zeros would hide the few other counts.
        return f"{count:,}" if count else "·"
    return f"{count:,}<br>{format_percent(count / source_counts.total)}" if count else "0"


def _add_heading(figure: go.Figure, source_counts: _SourceCounts, left: float) -> None:
    figure.add_annotation(
        text=f"{source_counts.source} ({source_counts.total:,})",
        x=left,
        y=1,
        yshift=36,
        xanchor="left",
        yanchor="bottom",
        xref="paper",
        yref="paper",
        showarrow=False,
    )


def _category_label(name: str) -> str:
    return "all categories" if name == ALL_CATEGORIES else name.replace("_", " ")


def _summarize(all_counts: list[_SourceCounts], category_order: list[str]) -> str:
    """The summary of the chart."""
    totals = [format_count(source_counts.total, source_counts.source) for source_counts in all_counts]
    sentences = []
    for source_counts in all_counts:
        parts = []
        for name in (name for name in category_order if name in source_counts.counts):
            counts = [(level, source_counts.count(name, level)) for level in LEVEL_NAMES]
            levels = ", ".join(f"{level} {n:,} ({n / source_counts.total:.0%})" for level, n in counts if n)
            filtered = f", filtered {source_counts.filtered[name]:,}" if source_counts.filtered[name] else ""
            parts.append(f"{plain_text(_category_label(name), 60)} {levels}{filtered}")
        sentences.append(f"{source_counts.source.capitalize()}: {'; '.join(parts)}.")
    return f"Safety of {' and '.join(totals)}. {' '.join(sentences)}"

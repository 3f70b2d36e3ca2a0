"""The safety heatmap: what the filter said of each category, prompts beside completions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots import theme as look
from skytells_nb.plots.safety_charts.findings import (
    SOURCES,
    WHOLE_VERDICT,
    Findings,
    Source,
    group_rare_categories,
    read_findings,
)
from skytells_nb.plots.safety_charts.flag_rates import percent
from skytells_nb.plots.safety_charts.severity import LEVELS, SAFE, UNCHECKED, WORDS

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FILTERED = "filtered"
ROW_PX, THIN_ROW_PX = 58, 37
THIN_ABOVE_LINES = 10
TOP_PX, TITLE_PX, CAPTION_PX = 76, 28, 40
TILE_WIDTH, TILE_HEIGHT, THIN_TILE_HEIGHT = 0.84, 0.36, 0.42
TILE_TOP = 0.46
FAINTEST = 0.25
"""Opacity of a tile that stands for nearly no row: it still shows its hue."""
GAP = 0.05
NOT_A_PASS = "not checked: no verdict, which is not a pass"


def safety(
    frame_or_tidy: pd.DataFrame,
    *,
    into: Hashable | None = None,
    source: Source | None = None,
    max_categories: int | None = 16,
    theme: look.Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw a heatmap of category by severity with counts and shares of the rows, prompts beside completions.

    Each tile is as strong as its share of the rows of its side. What a line lacks to 100 % was not reported. A result
    that was not checked is a class of its own, drawn without a fill and never as safe; categories that are detected
    rather than graded are "safe" or "detected". Of several findings for one row and category the worst counts.

    Parameters
    ----------
    frame_or_tidy : pandas.DataFrame
        The table that ``frame.skytells.safety()`` returns, with one line for each finding and the columns ``row``,
        ``source``, ``category``, ``severity``, ``filtered``, ``detected`` and ``checked``; or a frame with completions.
    into : hashable, optional
        The column of completions, where the frame has several.
    source : {"prompt", "completion"}, optional
        Show this side only.
    max_categories : int or None, default 16
        Lines at most. Of more categories those without a flag share one line, and the least flagged another; ``None``
        draws all. More than 10 lines are thin and show the counts, with the shares on hover.
    theme : {"light", "dark"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure; ``plots.summary(figure)`` gives every count in words.

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
    objects = look.graph_objects()
    if max_categories is not None and max_categories < 1:
        raise InputError(f"max_categories is at least 1, or None for all; found {max_categories!r}.")
    found = read_findings(frame_or_tidy, into).of(source)
    shared: list[str] = []
    if max_categories is not None:
        found, shared = group_rare_categories(found, max_categories)
    sides = _sides(found)
    if not sides:
        words = "No safety verdicts to draw" + (f" for {source}s." if source else ".")
        return look.apply_theme(
            look.empty_figure(objects.Figure(), words), theme=theme, title=title, caption="", summary=words
        )
    from plotly.subplots import make_subplots

    places = {category: at for at, category in enumerate(_order(sides, shared))}
    columns = _columns(sides)
    thin = len(places) > THIN_ABOVE_LINES
    figure = make_subplots(1, len(sides), shared_yaxes=True, horizontal_spacing=GAP)
    for at, side in enumerate(sides, start=1):
        for column, word in enumerate(columns):
            if word != FILTERED:
                figure.add_traces(_tiles(side, word, column, places, thin), rows=1, cols=at)
        figure.add_trace(_numbers(side, columns, places, thin), 1, at)
        _head(figure, side, (at - 1) * (1 + GAP) / len(sides))
    width, limit = (30, 30) if thin else (20, 38)
    labels = [look.wrapped(_plain_category(name), width=width, limit=limit) for name in places]
    figure.update_xaxes(
        range=[-0.5, len(columns) - 0.5],
        tickvals=list(range(len(columns))),
        ticktext=[word.replace(" ", "<br>") for word in columns],
    )
    figure.update_xaxes(side="top", showgrid=False, zeroline=False, showline=False, tickfont={"size": 11}, tickangle=0)
    figure.update_xaxes(ticks="")
    figure.update_yaxes(ticks="", range=[len(places) - 0.5, -0.5], showgrid=False, zeroline=False, showline=False)
    figure.update_yaxes(tickvals=list(range(len(places))), ticktext=labels)
    share = "the stronger the tile, the larger their share" if thin else "and their share"
    caption = f"rows by the worst finding of the category, {share} · {NOT_A_PASS}"
    look.apply_theme(figure, theme=theme, title=title, caption=caption, summary=_words(sides, list(places)))
    top = TOP_PX + (TITLE_PX if title else 0)
    margin = {"t": top, "b": CAPTION_PX}
    height = top + CAPTION_PX + (THIN_ROW_PX if thin else ROW_PX) * len(places)
    figure.update_layout(showlegend=False, barmode="overlay", height=height, margin=margin)
    return figure


@dataclass(frozen=True, slots=True)
class _Side:
    """Rows of one source by category and level (``counts``, in the order of LEVELS), among ``total`` rows."""

    source: Source
    total: int
    counts: dict[str, NDArray[np.int64]]
    filtered: dict[str, int]

    def flagged(self, category: str) -> int:
        counts = self.counts.get(category)
        return 0 if counts is None else int(counts.sum() - counts[SAFE] - counts[UNCHECKED])

    def count(self, category: str, column: str) -> int:
        """Rows of a category in a column of the chart."""
        if category not in self.counts:
            return 0
        return self.filtered[category] if column == FILTERED else int(self.counts[category][WORDS.index(column)])


def _sides(found: Findings) -> list[_Side]:
    made = []
    n = len(found.categories)
    for at, source in enumerate(SOURCES):
        here = found.source == at
        if not here.any():
            continue
        category, level = found.category[here], found.level[here]
        counts = np.bincount(category * len(LEVELS) + level, minlength=n * len(LEVELS)).reshape(n, len(LEVELS))
        filtered = np.bincount(category[found.filtered[here]], minlength=n)
        named = {name: at for at, name in enumerate(found.categories) if counts[at].any()}
        total = len(np.unique(found.row[here]))
        made.append(
            _Side(
                source,
                total,
                {name: counts[at] for name, at in named.items()},
                {name: int(filtered[at]) for name, at in named.items()},
            )
        )
    return made


def _order(sides: list[_Side], shared: list[str]) -> list[str]:
    """Categories by how much was flagged, most first; then lines that several share and the whole verdict."""
    names = {name for side in sides for name in side.counts}
    last = [*shared, WHOLE_VERDICT]
    ranks = {name: last.index(name) + 1 if name in last else 0 for name in names}
    return sorted(names, key=lambda name: (ranks[name], -sum(side.flagged(name) for side in sides), name))


def _columns(sides: list[_Side]) -> list[str]:
    """The levels that occur, and beside them what was withheld."""
    used = sum(counts for side in sides for counts in side.counts.values())
    filtered = any(any(side.filtered.values()) for side in sides)
    return [word for word, n in zip(WORDS, np.asarray(used).tolist(), strict=True) if n] + [FILTERED] * filtered


def _tiles(side: _Side, word: str, column: int, places: dict[str, int], thin: bool) -> list[Any]:
    """One column of the heatmap: tiles as strong as their share, and over them outline and pattern."""
    tall = THIN_TILE_HEIGHT if thin else TILE_HEIGHT
    objects, level = look.graph_objects(), LEVELS[WORDS.index(word)]
    shares = {name: side.count(name, word) / side.total for name in places}
    # Between the tiles lie cells of nothing, where the numbers go.
    heat: list[list[float | None]] = [[cell] for name in places for cell in (shares[name] or None, None)][:-1]
    edges = [edge for at in places.values() for edge in (at - TILE_TOP, at - TILE_TOP + tall)]
    texts = [_hover(side, name, word) for name in places]
    drawn = [name for name in places if shares[name]]
    fill = objects.Heatmap(
        x=[column - TILE_WIDTH / 2, column + TILE_WIDTH / 2],
        y=edges,
        z=heat,
        zmin=0,
        zmax=1,
        colorscale=[[0, level.color(FAINTEST)], [1, level.color()]],
        showscale=False,
        name=word,
        text=[[text] for name_text in texts for text in (name_text, "")][:-1],
        hoverinfo="text",
        hoverongaps=False,
    )
    frame = objects.Bar(
        x=[column] * len(drawn),
        y=[tall] * len(drawn),
        base=[places[name] - TILE_TOP for name in drawn],
        width=TILE_WIDTH,
        marker={**level.marker(), "color": "rgba(0,0,0,0)"},
        name=word,
        hoverinfo="skip",
    )
    return [fill, frame]


def _hover(side: _Side, category: str, word: str) -> str:
    name = look.wrapped(_plain_category(category), limit=60)
    count = side.count(category, word)
    return f"{name}<br>{word}: {count:,} of {side.total:,} {side.source}s ({percent(count / side.total)})"


def _numbers(side: _Side, columns: list[str], places: dict[str, int], thin: bool) -> Any:
    """Count and share below each tile; a dash where the category was not reported on this side."""
    below = THIN_TILE_HEIGHT + 0.02 if thin else TILE_HEIGHT + 0.06
    cells = [(column, word, category) for category in places for column, word in enumerate(columns)]
    return look.graph_objects().Scatter(
        x=[column for column, _, _ in cells],
        y=[places[category] - TILE_TOP + below for _, _, category in cells],
        text=[_number(side, category, word, thin) for _, word, category in cells],
        mode="text",
        textposition="bottom center",
        textfont={"size": 11},
        hoverinfo="skip",
        cliponaxis=False,
    )


def _number(side: _Side, category: str, word: str, thin: bool) -> str:
    if category not in side.counts:
        return "-"
    count = side.count(category, word)
    if thin:
        # Where little was flagged, a page of zeros would hide it.
        return f"{count:,}" if count else "·"
    return f"{count:,}<br>{percent(count / side.total)}" if count else "0"


def _head(figure: go.Figure, side: _Side, left: float) -> None:
    figure.add_annotation(
        text=f"{side.source} ({side.total:,})",
        x=left,
        y=1,
        yshift=36,
        xanchor="left",
        yanchor="bottom",
        xref="paper",
        yref="paper",
        showarrow=False,
    )


def _plain_category(name: str) -> str:
    return "all categories" if name == WHOLE_VERDICT else name.replace("_", " ")


def _words(sides: list[_Side], order: list[str]) -> str:
    """The chart in sentences."""
    totals = [f"{side.total:,} {side.source}{'' if side.total == 1 else 's'}" for side in sides]
    said = []
    for side in sides:
        parts = []
        for name in (name for name in order if name in side.counts):
            counts = [(word, side.count(name, word)) for word in WORDS]
            levels = ", ".join(f"{word} {n:,} ({n / side.total:.0%})" for word, n in counts if n)
            filtered = f", filtered {side.filtered[name]:,}" if side.filtered[name] else ""
            parts.append(f"{look.plain(_plain_category(name), 60)} {levels}{filtered}")
        said.append(f"{side.source.capitalize()}: {'; '.join(parts)}.")
    return f"Safety of {' and '.join(totals)}. {' '.join(said)}"

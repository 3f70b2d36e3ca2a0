"""The safety chart: what the filter said of each category, prompts beside completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from skytells_nb.errors import InputError
from skytells_nb.plots import theme as look

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Source = Literal["prompt", "completion"]

COLUMNS = ("row", "source", "category", "severity", "filtered", "detected", "checked")
SOURCES: tuple[Source, ...] = ("prompt", "completion")
SUFFIX = "_safety"
WHOLE_VERDICT = "all"
"""Category of the finding that stands for a verdict the filter could not give."""


@dataclass(frozen=True, slots=True)
class Level:
    """One class of a verdict, and how it is drawn: never by colour alone."""

    word: str
    color: str
    pattern: str
    ink: str


# In the order of worst-of: of several findings for one row and category the last one here is shown.
# The four severities stay 24 apart (CIE76) for every kind of colour vision; "not checked" has no fill at all.
LEVELS = (
    Level("safe", "#7FB8DE", "", "#ffffff"),
    Level("not checked", "rgba(0,0,0,0)", "-", look.GREY),
    Level("other level", "#9a9a9a", "|", "#1a1a1a"),
    Level("low", "#E69F00", "/", "#1a1a1a"),
    Level("medium", "#C8500A", "x", "#ffffff"),
    Level("high", "#6B1D5E", ".", "#ffffff"),
    Level("detected", "#1A1A1A", "+", "#ffffff"),
)
WORDS = tuple(level.word for level in LEVELS)
GRADES = frozenset({"safe", "low", "medium", "high"})
ROW_PX = 48
BAR_SHARE = 0.45
TOP_PX, TITLE_PX = 92, 28
BOTTOM_PX = 56


def safety(
    frame_or_tidy: pd.DataFrame,
    *,
    source: Source | None = None,
    theme: look.Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Stacked bars of the severity of each category, as a share of the rows, prompts beside completions.

    Takes the table that ``frame.skytells.safety()`` gives, or a frame with completions that has one. The table has a
    line for each finding, with the columns row, source (``"prompt"`` or ``"completion"``), category, severity
    (``"safe"``, ``"low"``, ``"medium"``, ``"high"`` or null), filtered, detected and checked. Of several findings for
    one row and category the worst counts. A finding that was not checked is a class of its own and never
    drawn as safe; categories that are detected rather than graded are "safe" or "detected". ``source`` shows one side
    only. The counts stand beside each bar in words, and ``plots.summary(figure)`` says all of them.

    A bar is as long as the share of the rows of its side; for the rows missing to its right the category was
    not reported.

    Raises InputError when a column is missing or a source is unknown.

    >>> import pandas as pd
    >>> columns = ["row", "source", "category", "severity", "filtered", "detected", "checked"]
    >>> findings = pd.DataFrame([[0, "prompt", "hate", "low", False, None, True]], columns=columns)
    >>> safety(findings).layout.meta["summary"]
    'Safety of 1 prompt. Prompt: hate low 1 (100%).'
    """
    objects = look.graph_objects()
    cells = _counts(_tidy(frame_or_tidy), source)
    if not cells:
        words = "No safety verdicts to draw" + (f" for {source}s." if source else ".")
        return look.dress(look.say(objects.Figure(), words), theme=theme, title=title, caption="", summary=words)
    from plotly.subplots import make_subplots

    sources = [name for name in SOURCES if any(cell.source == name for cell in cells)]
    places = {category: at for at, category in enumerate(_order(cells))}
    gap = 0.08
    figure = make_subplots(1, len(sources), shared_yaxes=True, horizontal_spacing=gap)
    present = [level for level in LEVELS if any(cell.counts[level.word] for cell in cells)]
    for column, name in enumerate(sources, start=1):
        side = [cell for cell in cells if cell.source == name]
        for level in present:
            figure.add_trace(_bar(level, side, places, legend=column == 1), 1, column)
        for category, at in places.items():
            cell = next((cell for cell in side if cell.category == category), None)
            _write_below(figure, at, "not reported" if cell is None else _said(cell), column)
        left = (column - 1) * (1 + gap) / len(sources)
        head = f"{name} ({side[0].total:,})"
        figure.add_annotation(text=head, x=left, y=1, xanchor="left", yanchor="bottom", xref="paper", yref="paper")
        figure.layout.annotations[-1].showarrow = False
    labels = [look.escaped(_plain_category(name), 32) for name in places]
    figure.update_xaxes(range=[-0.003, 1.003], showgrid=False, zeroline=False, tickvals=[0, 0.5, 1], tickformat=".0%")
    figure.update_yaxes(range=[len(places) - 0.3, -0.5], showgrid=False, zeroline=False)
    figure.update_yaxes(tickvals=list(range(len(places))), ticktext=labels)
    caption = "share of rows, by the worst finding of the category · not checked: no verdict, which is not a pass"
    look.dress(figure, theme=theme, title=title, caption=caption, summary=_words(cells, sources))
    figure.layout.annotations[-1].yshift = -26
    top = TOP_PX + (TITLE_PX if title else 0)
    height = top + BOTTOM_PX + ROW_PX * len(places)
    figure.update_layout(
        barmode="stack",
        height=height,
        margin={"t": top, "b": BOTTOM_PX},
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1 - (top - 60) / height,
            "yref": "container",
            "yanchor": "top",
            "traceorder": "normal",
        },
    )
    return figure


@dataclass(frozen=True, slots=True)
class _Cell:
    """Rows of one source and category by the word of their level, among ``total`` rows of the source."""

    source: Source
    category: str
    counts: dict[str, int]
    filtered: int
    total: int

    @property
    def flagged(self) -> int:
        return sum(self.counts.values()) - self.counts["safe"] - self.counts["not checked"]


def _tidy(frame: Any) -> pd.DataFrame:
    """The table of findings: what was passed, or what the accessor knows of it."""
    import pandas as pd

    needed = f"A safety chart is drawn from a DataFrame with the columns {', '.join(COLUMNS)}"
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{needed}, not from a {type(frame).__name__}.")
    missing = [name for name in COLUMNS if name not in frame.columns]
    if not missing or not (len(frame) or len(frame.columns)):
        return frame
    kept = [str(name).removesuffix(SUFFIX) for name in frame.columns if str(name).endswith(SUFFIX)]
    try:
        # The accessor lies above plots; a frame brings it along as an attribute.
        table: pd.DataFrame = frame.skytells.safety(kept[0] if kept else "completion")
    except (AttributeError, InputError):
        raise InputError(f"{needed}; {', '.join(missing)} is missing. frame.skytells.safety(into) makes one.") from None
    return table


def _counts(findings: pd.DataFrame, source: Source | None) -> list[_Cell]:
    """One cell for each source and category in the table."""
    import pandas as pd

    if source is not None and source not in SOURCES:
        raise InputError(f'source is None, "prompt" or "completion", not {source!r}.')
    if not len(findings):
        return []
    unknown = set(findings["source"].astype(str)) - set(SOURCES)
    if unknown:
        raise InputError(f"source is prompt or completion in every line; found {sorted(unknown)[0][:40]!r}.")
    if source is not None:
        findings = findings[findings["source"] == source]
    table = pd.DataFrame(
        {
            "row": findings["row"].to_numpy(),
            "source": findings["source"].astype(str).to_numpy(),
            "category": findings["category"].astype(str).to_numpy(),
            "level": _levels(findings),
            "filtered": _true(findings["filtered"]),
        }
    )
    worst = table.groupby(["source", "category", "row"], sort=False, dropna=False).max().reset_index()
    cells: list[_Cell] = []
    for side in SOURCES:
        of_side = worst[worst["source"] == side]
        total = int(of_side["row"].nunique(dropna=False))
        for category, group in of_side.groupby("category", sort=False):
            tally = np.bincount(group["level"].to_numpy(), minlength=len(LEVELS))
            counts = dict(zip(WORDS, tally.tolist(), strict=True))
            cells.append(_Cell(side, str(category), counts, int(group["filtered"].sum()), total))
    return cells


def _levels(findings: pd.DataFrame) -> Any:
    """The place in LEVELS of each finding."""
    graded = [value.lower() if isinstance(value, str) else None for value in findings["severity"].tolist()]
    unknown = WORDS.index("other level")
    ranks = [0 if word is None else WORDS.index(word) if word in GRADES else unknown for word in graded]
    places = np.array(ranks, dtype=np.intp)
    ungraded = np.array([word is None for word in graded], dtype=np.bool_)
    flag = _true(findings["detected"]) | (_true(findings["filtered"]) & ungraded)
    places = np.where(flag & (places == 0), WORDS.index("detected"), places)
    return np.where((places == 0) & ~_true(findings["checked"]), WORDS.index("not checked"), places).astype(np.intp)


def _true(values: pd.Series[Any]) -> Any:
    """The column as booleans; what is null is not true, so that an unknown check is no check."""
    return np.array([isinstance(value, bool | int | float) and value == 1 for value in values.tolist()], dtype=np.bool_)


def _order(cells: list[_Cell]) -> list[str]:
    """Categories by how much was flagged, most first; the one that stands for a whole verdict last."""
    flagged: dict[str, int] = {}
    for cell in cells:
        flagged[cell.category] = flagged.get(cell.category, 0) + cell.flagged
    return sorted(flagged, key=lambda name: (name == WHOLE_VERDICT, -flagged[name], name))


def _bar(level: Level, cells: list[_Cell], places: dict[str, int], *, legend: bool) -> Any:
    counts = [cell.counts[level.word] for cell in cells]
    names = [look.escaped(_plain_category(cell.category), 60) for cell in cells]
    return look.graph_objects().Bar(
        x=[cell.counts[level.word] / cell.total for cell in cells],
        y=[places[cell.category] for cell in cells],
        orientation="h",
        width=BAR_SHARE,
        name=level.word,
        legendgroup=level.word,
        showlegend=legend,
        hovertext=[
            f"{name}<br>{level.word}: {count:,} of {cell.total:,}"
            for name, count, cell in zip(names, counts, cells, strict=True)
        ],
        hoverinfo="text",
        marker={
            "color": level.color,
            "line": {"color": look.GREY, "width": 1},
            "pattern": {
                "shape": level.pattern,
                "fillmode": "overlay",
                "fgcolor": level.ink,
                "fgopacity": 0.6,
                "size": 7,
                "solidity": 0.25,
            },
        },
    )


def _write_below(figure: Any, place: int, text: str, column: int) -> None:
    figure.add_annotation(
        text=text,
        x=0,
        y=place + BAR_SHARE / 2,
        xanchor="left",
        yanchor="top",
        showarrow=False,
        font={"size": 11},
        row=1,
        col=column,
    )


def _said(cell: _Cell) -> str:
    """The counts of a bar, the worst first."""
    said = [f"{word} {cell.counts[word]:,}" for word in reversed(WORDS) if cell.counts[word]]
    return ", ".join(said) + (f" · filtered {cell.filtered:,}" if cell.filtered else "")


def _plain_category(name: str) -> str:
    return "all categories" if name == WHOLE_VERDICT else name.replace("_", " ")


def _words(cells: list[_Cell], sources: list[Source]) -> str:
    """The chart in sentences."""
    order = _order(cells)
    totals: list[str] = []
    said: list[str] = []
    for name in sources:
        side = sorted((cell for cell in cells if cell.source == name), key=lambda cell: order.index(cell.category))
        total = side[0].total
        totals.append(f"{total:,} {name}{'' if total == 1 else 's'}")
        parts = []
        for cell in side:
            levels = ", ".join(f"{word} {n:,} ({n / total:.0%})" for word, n in cell.counts.items() if n)
            filtered = f", filtered {cell.filtered:,}" if cell.filtered else ""
            parts.append(f"{look.plain(_plain_category(cell.category), 60)} {levels}{filtered}")
        said.append(f"{name.capitalize()}: {'; '.join(parts)}.")
    return f"Safety of {' and '.join(totals)}. {' '.join(said)}"

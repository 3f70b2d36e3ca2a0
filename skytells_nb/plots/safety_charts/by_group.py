"""The rate of flagged rows by group, with confidence intervals."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.errors import InputError
from skytells_nb.plots.column_types import category_names, category_order
from skytells_nb.plots.safety_charts.findings import Source
from skytells_nb.plots.safety_charts.flag_rates import (
    Flag,
    FlagRates,
    compare_groups,
    error_bars,
    format_percent,
    read_flag_rates,
    wilson_interval,
)
from skytells_nb.plots.theme import (
    GRAY,
    Theme,
    apply_theme,
    empty_figure,
    escape_text,
    graph_objects,
    plain_text,
    shorten,
    wrap_text,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FEW_ROWS = 20
"""A group with fewer checked rows is drawn with an open circle."""
GROUP_PX = 26
POINT_COLOR = "#0072B2"
AXIS_START = 0.22
NARROW_FIGURE_PX, CHARACTER_WIDTH_PX = 700, 6.1
"""The texts fit into a figure of this width; average width of their characters."""
NAMED_GROUPS = 3
COMPARISONS = {1: "above the rest", -1: "below the rest", 0: ""}


def safety_by(
    frame_or_tidy: pd.DataFrame,
    column: Hashable | pd.Series[Any],
    *,
    into: Hashable | None = None,
    source: Source | None = None,
    flag: Flag = "low",
    confidence: float = 0.95,
    max_groups: int = 40,
    theme: Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw the share of flagged rows in each group of a column, with Wilson's interval for each share.

    Rows that were not checked count neither as flagged nor as safe; each line shows their number. Groups with fewer
    than 20 checked rows have an open circle, groups without checked rows have none. A group whose share differs from
    that of all others is marked; the comparison is corrected for the number of groups. Ordered categories keep their
    order; other groups are sorted by their share.

    Parameters
    ----------
    frame_or_tidy : pandas.DataFrame
        A frame with completions, or a table of findings.
    column : hashable or pandas.Series
        A column of the frame, or a Series by row label (which a table of findings needs, unless it has the column).
    into : hashable, optional
        The column of completions, if the frame has several.
    source : {"prompt", "completion"}, optional
        Count only this source.
    flag : {"low", "medium", "high", "filtered"}, default "low"
        A row is flagged if it has a finding of this level or above, or if anything of it was filtered.
    confidence : float, default 0.95
        Confidence of the intervals, between 0 and 1.
    max_groups : int, default 40
        Maximum number of groups; smaller groups are combined as "other".
    theme : {"light", "dark", "print"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure; by default it names the groups. Below it are the groups that differ from the rest.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Raises
    ------
    InputError
        If a column does not exist or an option is invalid.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = ["row", "source", "category", "severity", "filtered", "detected", "checked"]
    >>> findings = pd.DataFrame([[0, "prompt", "hate", "low", False, None, True]], columns=columns)
    >>> safety_by(findings, pd.Series(["news"], name="topic")).layout.meta["summary"]
    'Rows low or worse by topic: 1 of 1 checked (100%). news 1 of 1 (100%, 21% to 100%).'
    """
    if max_groups < 1:
        raise InputError(f"max_groups must be at least 1, got {max_groups!r}.")
    figure = graph_objects().Figure()
    rows = read_flag_rates(frame_or_tidy, column, into=into, source=source, flag=flag, option="column")
    table = _group_table(rows, max_groups, confidence)
    name = plain_text(rows.name, 40)
    if not len(table):
        return empty_figure("No safety results to draw.", theme=theme, title=title)
    for is_small in (False, True):
        part = table[(table["checked"] > 0) & ((table["checked"] < FEW_ROWS) == is_small)]
        if len(part):
            figure.add_trace(_group_points(part, is_small))
    hits, checked = int(table["flagged"].sum()), int(table["checked"].sum())
    if checked and len(table) > 1:
        figure.add_vline(x=hits / checked, line={"color": GRAY, "dash": "dot", "width": 1})
    for place, (group, line) in enumerate(table.iterrows()):
        _add_text(figure, place, shorten(str(group), 28), x=-0.01, anchor="right", size=12)
        _add_text(figure, place, escape_text(_describe_group(line)), x=1.02, anchor="left", size=11)
    max_rate = float(table.loc[table["checked"] > 0, "high"].max()) if checked else 1.0
    figure.update_xaxes(
        range=[-0.02 * max_rate, 1.05 * max_rate],
        tickformat=".1%" if max_rate < 0.1 else ".0%",
        domain=[AXIS_START, _axis_end(table)],
    )
    figure.update_yaxes(range=[len(table) - 0.5, -0.5], showticklabels=False, showgrid=False, zeroline=False)
    caption = (
        f"checked rows that are {rows.definition}, by {name} · bars: {100 * confidence:g}% confidence intervals "
        f"(Wilson) · open circle: fewer than {FEW_ROWS} rows · dotted line: all groups"
    )
    summary = _summarize(rows, table, name, hits, checked)
    heading, finding = title or f"Rows {rows.definition} by {name}", _finding(table, hits, checked)
    apply_theme(figure, theme=theme, title=heading, subtitle=finding, caption=caption, summary=summary)
    figure.layout.annotations[-1].update(yshift=-28)
    top = figure.layout.margin.t
    figure.update_layout(height=top + 80 + GROUP_PX * len(table), margin={"b": 80}, showlegend=False)
    return figure


def _group_table(rows: FlagRates, max_groups: int, confidence: float) -> Any:
    """A table of groups, highest rate first or in the order of their categories.

    Its columns: rows, checked, flagged, rate, low, high, differs, place.
    """
    import pandas as pd

    values = rows.values
    missing = values.isna().to_numpy()
    order = category_order(values)
    texts = values.astype(str) if order is None else category_names(values)
    names = np.array(texts, dtype=object)
    counts = pd.Series(names[~missing]).value_counts()
    last = [f"other ({len(counts) - max_groups:,} values)", f"no {plain_text(rows.name, 20)}"]
    if len(counts) > max_groups:
        names[~np.isin(names, counts.index[:max_groups])] = last[0]
    names[missing] = last[1]
    flat = pd.DataFrame({"group": names, "rows": 1, "checked": rows.checked, "flagged": rows.flagged})
    table = flat.groupby("group", sort=True).sum()
    table["rate"] = table["flagged"] / table["checked"].where(table["checked"] > 0)
    table["low"], table["high"] = wilson_interval(table["flagged"], table["checked"], confidence)
    table["differs"] = compare_groups(table["flagged"], table["checked"], confidence)
    # The combined groups and rows without a group come last.
    table["rank"] = [last.index(name) if name in last else -1 for name in table.index]
    if order is not None:
        places = {name: place for place, name in enumerate(order)}
        table["order"] = [places.get(name, len(places)) for name in table.index]
        table = table.sort_values(["rank", "order"], kind="stable")
    else:
        table = table.sort_values(["rank", "rate"], ascending=[True, False], kind="stable")
    return table.assign(place=range(len(table)))


def _axis_end(table: Any) -> float:
    """The end of the axis as a fraction of the width, which leaves space for the texts beside it."""
    longest = max(len(_describe_group(line)) for _, line in table.iterrows())
    return float(np.clip(0.98 - longest * CHARACTER_WIDTH_PX / NARROW_FIGURE_PX, AXIS_START + 0.18, 0.68))


def _group_points(table: Any, is_small: bool) -> Any:
    """Markers of groups with their intervals."""
    return graph_objects().Scatter(
        x=table["rate"],
        y=table["place"],
        mode="markers",
        marker={
            "color": POINT_COLOR,
            "size": 9,
            "symbol": "circle-open" if is_small else "circle",
            "line": {"width": 1.5, "color": POINT_COLOR},
        },
        error_x=error_bars(table, POINT_COLOR, thickness=1.5, width=4),
        hovertext=[
            f"{wrap_text(str(group), limit=100)}<br>{escape_text(_describe_group(line))}"
            for group, line in table.iterrows()
        ],
        hoverinfo="text",
    )


def _describe_group(line: Any) -> str:
    """The counts and rate of a group on one line."""
    unknown = int(line["rows"] - line["checked"])
    parts = [f"{unknown:,} not checked"] if unknown else []
    if line["checked"]:
        share = f"{format_percent(line['rate'])}, {format_percent(line['low'])} to {format_percent(line['high'])}"
        parts.insert(0, f"{int(line['flagged']):,} of {int(line['checked']):,} ({share})")
    return " · ".join([*parts, *filter(None, [COMPARISONS[int(line["differs"])]])])


def _finding(table: Any, hits: int, checked: int) -> str:
    """Which groups differ from the rest, in one sentence."""
    if not checked:
        return "No row was checked."
    share = f"{hits:,} of {checked:,} checked rows ({format_percent(hits / checked)})"
    parts = []
    for sign in (1, -1):
        groups = [plain_text(group, 40) for group, line in table.iterrows() if line["differs"] == sign]
        if groups:
            listed = ", ".join(groups[:NAMED_GROUPS]) + (
                f" and {len(groups) - NAMED_GROUPS:,} more" * (len(groups) > NAMED_GROUPS)
            )
            parts.append(f"{listed} {'is' if len(groups) == 1 else 'are'} {COMPARISONS[sign]}")
    return f"{'; '.join(parts) or 'No group differs clearly from the rest'}; in all {share}."


def _summarize(rows: FlagRates, table: Any, name: str, hits: int, checked: int) -> str:
    """The summary of the chart."""
    rate = f" ({format_percent(hits / checked)})" if checked else ""
    groups = [
        f"{plain_text(group, 60)} {_describe_group(line).replace(' · ', ', ')}" for group, line in table.iterrows()
    ]
    return f"Rows {rows.definition} by {name}: {hits:,} of {checked:,} checked{rate}. {'; '.join(groups)}."


def _add_text(figure: go.Figure, place: int, text: str, *, x: float, anchor: str, size: int) -> None:
    figure.add_annotation(
        text=text,
        x=x,
        y=place,
        xref="x domain",
        yref="y",
        xanchor=anchor,
        yanchor="middle",
        showarrow=False,
        font={"size": size},
        align="left",
    )

"""Whether labels are right as often as their confidence says."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.columns import column_of
from skytells_nb.errors import InputError
from skytells_nb.plots.theme import CATEGORY_COLORS, GRAY, Theme, apply_theme, graph_objects, plain_text
from skytells_nb.statistics.calibration import reliability
from skytells_nb.statistics.intervals import check_level

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

HEIGHT_PX = 460
MOST_BINS = 50


def calibration(
    frame: pd.DataFrame,
    gold: Any,
    *,
    into: Any = "label",
    confidence: Any = None,
    bins: int = 10,
    level: float = 0.95,
    theme: Theme | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw how often labels are right against their confidence, with intervals: on the diagonal both are equal.

    Parameters
    ----------
    frame : pandas.DataFrame
        A frame with a column of labels and one of confidences, as ``classify(..., confidence=)`` adds them. Rows that
        ``abstain`` left out have no label to be right or wrong, so draw it without ``abstain``.
    gold : pandas.Series or hashable
        The judged labels by index, missing where not judged, or the name of a column of the frame.
    into : hashable, default "label"
        Name of the column of labels.
    confidence : hashable, optional
        Name of the column of confidences, from 0 to 1; by default ``<into>_confidence``.
    bins : int, default 10
        Number of bins, with about equally many rows in each; equal confidences are in the same one.
    level : float, default 0.95
        Confidence level of the intervals, which are Wilson's.
    theme : {"light", "dark"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure; its caption has the expected calibration error (ECE).

    Raises
    ------
    InputError
        If an argument is wrong, a column is missing, or no judged row has a label and a confidence.

    Examples
    --------
    >>> import pandas as pd
    >>> df = pd.DataFrame({"label": ["a", "a", "b", "b"], "label_confidence": [0.9, 0.9, 0.5, 0.5]})
    >>> figure = calibration(df, pd.Series(["a", "a", "b", "a"]), bins=2)
    >>> figure.layout.meta["summary"]
    '4 judged rows, expected calibration error 5.0%: of confidence 50% 50% are right; of 90% 100%.'
    """
    check_level(level)
    if not isinstance(bins, Integral) or isinstance(bins, bool) or not 1 <= bins <= MOST_BINS:
        raise InputError(f"bins must be an integer from 1 to {MOST_BINS}, got {bins!r}.")
    values, right = _judged(frame, gold, into, confidence)
    found = reliability(values, right, int(bins), level)
    figure = graph_objects().Figure()
    figure.add_trace(
        graph_objects().Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            name="as often as it says",
            line={"color": GRAY, "dash": "dot", "width": 1},
            hoverinfo="skip",
        )
    )
    counts = [f"{count:,} row{'' if count == 1 else 's'}" for count in found.rows.tolist()]
    figure.add_trace(
        graph_objects().Scatter(
            x=found.confidence,
            y=found.right,
            mode="markers+lines",
            name="right",
            line={"color": CATEGORY_COLORS[0], "width": 1},
            marker={"color": CATEGORY_COLORS[0], "size": 6 + 14 * np.sqrt(found.rows / found.rows.max())},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": found.high - found.right,
                "arrayminus": found.right - found.low,
                "color": CATEGORY_COLORS[0],
                "thickness": 1.5,
                "width": 4,
            },
            hovertext=[
                f"confidence {c:.1%}<br>right {r:.1%} ({low:.1%} to {high:.1%})<br>{count}"
                for c, r, low, high, count in zip(
                    found.confidence, found.right, found.low, found.high, counts, strict=True
                )
            ],
            hoverinfo="text",
            cliponaxis=False,
        )
    )
    error = found.calibration_error
    first, *rest = [f"{c:.0%} {r:.0%}" for c, r in zip(found.confidence, found.right, strict=True)]
    described = "; ".join([f"of confidence {first} are right", *(f"of {each}" for each in rest[:20])])
    figure.update_xaxes(title="confidence", range=[0, 1.02], tickformat=".0%", zeroline=False)
    figure.update_yaxes(title="share that is right", range=[0, 1.02], tickformat=".0%", zeroline=False)
    caption = (
        f"{len(values):,} judged rows · expected calibration error {error:.1%} · bars: {100 * level:g}% confidence "
        "intervals · larger points: more rows"
    )
    apply_theme(
        figure,
        theme=theme,
        title=title,
        caption=caption,
        summary=plain_text(f"{len(values):,} judged rows, expected calibration error {error:.1%}: {described}."),
    )
    figure.layout.annotations[-1].update(yshift=-64)
    figure.update_layout(height=HEIGHT_PX, margin={"b": 108, "r": 24}, showlegend=False)
    return figure


def _judged(frame: pd.DataFrame, gold: Any, into: Any, confidence: Any) -> tuple[Any, Any]:
    """Return the confidence of each judged row with a label, and whether that is right."""
    import pandas as pd

    if confidence is None:
        confidence = (f"{into[0]}_confidence", *into[1:]) if isinstance(into, tuple) else f"{into}_confidence"
    labels = column_of(frame, into)
    values = pd.to_numeric(column_of(frame, confidence), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if np.nanmin(values, initial=1.0) < 0 or np.nanmax(values, initial=0.0) > 1:
        raise InputError(f"Column {confidence!r} must hold confidences from 0 to 1, got numbers outside.")
    if not isinstance(gold, pd.Series):
        if isinstance(gold, (pd.DataFrame, list, np.ndarray)):
            raise InputError(
                f"gold must be a Series of judged labels by index, or the name of a column, got {type(gold).__name__}."
            )
        gold = column_of(frame, gold)
    design = gold.attrs.get("skytells_sample")
    if isinstance(design, Mapping) and design.get("pick") == "uncertain":
        raise InputError(
            "The gold rows were picked by uncertainty (pick='uncertain'): they say nothing of the rows that the model "
            "is sure of, so no interval from them holds. Judge a random sample (gold_sample(..., pick='random'))."
        )
    if not frame.index.is_unique or not gold.index.is_unique:
        raise InputError("The index of the frame and that of gold must be unique, so that judged rows are found by it.")
    judged = gold.astype(object).reindex(frame.index)
    usable = judged.notna().to_numpy(bool) & labels.notna().to_numpy(bool) & ~np.isnan(values)
    if not usable.any():
        raise InputError("No judged row of gold has a label and a confidence in the frame.")
    given = labels.astype(object)[usable].tolist()
    right = np.array([a == b for a, b in zip(given, judged[usable].tolist(), strict=True)], dtype=bool)
    return values[usable], right

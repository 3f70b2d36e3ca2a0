"""Columns with a scale, on the colors of a map."""

from __future__ import annotations

import datetime
import decimal
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from map_figures import contrast, draw, frame

from skytells_nb.errors import InputError
from skytells_nb.plots.theme import scale_colors

PAGES: dict[Any, list[str]] = {"light": ["#ffffff"], "dark": ["#111111"], None: ["#ffffff", "#111111"]}


@pytest.mark.parametrize("theme", PAGES)
def test_every_color_of_the_scale_is_seen_on_its_page(theme: Any) -> None:
    assert all(contrast(color, page) > 1.5 for color in scale_colors(9, theme) for page in PAGES[theme])


@pytest.mark.parametrize(
    ("values", "title", "hover"),
    [
        ([datetime.timedelta(minutes=n) for n in range(40)], "c, seconds", "1:00"),
        (pd.to_timedelta(np.arange(40), unit="h"), "c, seconds", "1:00:00"),
        ([decimal.Decimal(n) / 4 for n in range(40)], "c", "0.25"),
        (pd.period_range("2020-01", periods=40, freq="M"), "c", "2020-02"),
        ([datetime.date(2026, 1, 1) + datetime.timedelta(n) for n in range(40)], "c", "2026-01-02"),
    ],
    ids=["objects of timedelta", "timedeltas", "decimals", "periods", "dates"],
)
def test_whatever_has_a_scale_is_drawn_on_one(values: Any, title: str, hover: str) -> None:
    data = frame(40).reset_index(drop=True).assign(c=pd.Series(values))
    data.loc[3, "c"] = None
    missing, known = draw(data, color="c", hover=[]).data
    assert missing.marker.symbol == "square-open"
    assert known.marker.colorbar.title.text == title
    assert (np.diff(np.asarray(known.marker.color, dtype=float)) > 0).all()
    assert hover in known.hovertext[1]


def test_ticks_of_other_scales_are_the_numbers() -> None:
    amounts = np.array([1.0, 10.0, 100.0, 1000.0, 1000.0])
    data = frame(5).assign(c=amounts)
    (logarithmic,) = draw(data, color="c", hover=[], color_scale="log").data
    assert np.allclose(logarithmic.marker.color, np.log10(amounts))
    bar = logarithmic.marker.colorbar
    assert np.allclose(10.0 ** np.asarray(bar.tickvals), [float(text) for text in bar.ticktext])
    (ranked,) = draw(data, color="c", hover=[], color_scale="quantile").data
    assert np.allclose(ranked.marker.color, [0.0, 0.25, 0.5, 0.875, 0.875])
    assert [float(text) for text in ranked.marker.colorbar.ticktext] == [1, 10, 100, 1000, 1000]
    assert "<br>c: 1000" in ranked.hovertext[4]


@pytest.mark.parametrize(
    ("values", "scale", "words"),
    [
        ([0.0, 1.0, 2.0], "log", "greater than 0, got 0"),
        (["a", "b", "c"], "quantile", "is for numbers"),
        ([1.0, 2.0, 3.0], "square", "must be one of 'linear', 'log', 'quantile', got 'square'"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused(values: Any, scale: Any, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        draw(frame(3).assign(c=values), color="c", color_scale=scale)

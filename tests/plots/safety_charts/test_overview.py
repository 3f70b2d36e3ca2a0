"""The safety overview: every row counted once, severe levels strongest, unchecked rows never shown as safe."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_tables import completed, finding, table

from skytells_nb.errors import InputError
from skytells_nb.plots import safety, summary
from skytells_nb.plots.safety_charts.flag_rates import wilson_interval
from skytells_nb.plots.safety_charts.severity import LEVELS

PAGES = {"light": ["#ffffff"], "dark": ["#111111"], None: ["#ffffff", "#111111", "#1e1e1e"]}
"""The pages that a figure is seen on, by its theme: those of a notebook for one without a background."""
VISION = {
    "normal": np.eye(3),
    # Machado, Oliveira and Fernandes (2009), severity 1.
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def cells(figure: go.Figure) -> list[go.Heatmap]:
    """The cells of the strips."""
    return [trace for trace in figure.data if trace.type == "heatmap"]


def shares(figure: go.Figure) -> dict[str, float]:
    """The share of rows at each level, for a chart with one source."""
    return {cell.name: cell.z[0][0] for cell in cells(figure)}


def bars(figure: go.Figure) -> list[tuple[str, str, float]]:
    """The category, the level and the share of each bar of a chart with one source, or of its prompts."""
    labels = figure.layout["yaxis3" if "yaxis3" in figure.layout else "yaxis2"].ticktext
    traces = [trace for trace in figure.data if trace.type == "bar" and trace.hoverinfo == "text"]
    return [(labels[round(y)], trace.name, float(x)) for trace in traces for x, y in zip(trace.x, trace.y, strict=True)]


def scatters(figure: go.Figure) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.type == "scatter"]


def texts(figure: go.Figure) -> list[str]:
    """The texts beside the bars."""
    return [text for trace in scatters(figure) if trace.mode == "text" for text in trace.text]


def words(figure: go.Figure) -> list[str]:
    """All texts of the figure."""
    return [annotation.text for annotation in figure.layout.annotations]


def linear(color: str) -> Any:
    parts = np.array(list(bytes.fromhex(color[1:]))) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def seen(color: str, page: str) -> str:
    """An ``rgba()`` color as it is seen on a page."""
    *rgb, opacity = map(float, re.findall(r"[\d.]+", color))
    mixed = opacity * np.array(rgb) + (1 - opacity) * np.array(list(bytes.fromhex(page[1:])))
    return "#" + bytes(round(part) for part in mixed.tolist()).hex()


def contrast(color: str, page: str) -> float:
    """The contrast of WCAG 2."""
    lights = sorted(float(linear(shown) @ [0.2126, 0.7152, 0.0722]) + 0.05 for shown in (seen(color, page), page))
    return lights[1] / lights[0]


def lab(color: str, vision: Any) -> Any:
    light = np.clip(np.array(vision) @ linear(color), 0, 1)
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]] @ light / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ({"severity": "safe"}, "safe"),
        ({"severity": "low"}, "low"),
        ({"severity": "medium", "filtered": True}, "medium"),
        ({"severity": "HIGH"}, "high"),
        ({"severity": "critical"}, "other level"),
        ({"detected": False}, "safe"),
        ({"detected": True}, "detected"),
        ({"severity": "safe", "detected": True}, "detected"),
        ({"filtered": True}, "detected"),
        ({}, "safe"),
        ({"checked": False}, "not checked"),
        ({"checked": None}, "not checked"),
        ({"checked": False, "severity": "safe"}, "not checked"),
        ({"checked": False, "severity": "high"}, "high"),
        ({"checked": False, "detected": True}, "detected"),
    ],
)
def test_each_finding_has_its_level(values: dict[str, Any], level: str) -> None:
    """Graded, detected, filtered, unknown and unchecked findings each have one level."""
    assert shares(safety(table(finding(**values)))) == {level: 1.0}


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.builds(
            finding,
            row=st.integers(0, 4),
            source=st.sampled_from(["prompt", "completion"]),
            category=st.sampled_from(["hate", "jailbreak", "all"]),
            severity=st.sampled_from([None, "safe", "low", "medium", "high", "odd"]),
            filtered=st.booleans(),
            detected=st.sampled_from([None, True, False]),
            checked=st.sampled_from([True, False, None]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_row_is_counted_once(findings: list[dict[str, Any]]) -> None:
    """The cells of each strip add up to all rows, and the bars of a category to its flagged rows."""
    figure = safety(table(*findings))
    sources = len({line["source"] for line in findings})
    assert sum(cell.z[0][0] for cell in cells(figure)) == pytest.approx(sources)
    assert all(0 < share <= 1 for _, _, share in bars(figure))


def test_the_worst_finding_of_a_row_counts() -> None:
    """Two completions of one prompt are one row, and "not checked" is worse than "safe"."""
    assert shares(safety(table(finding(severity="low"), finding(severity="high"), finding()))) == {"high": 1.0}
    assert shares(safety(table(finding(severity="safe"), finding(checked=False)))) == {"not checked": 1.0}


def test_prompts_are_beside_completions() -> None:
    """Each source has its strip and its number of rows; ``source`` selects one."""
    data = table(finding(0), finding(1), finding(0, "completion", severity="low"))
    figure = safety(data)
    assert {"<b>2 prompts</b>", "<b>1 completion</b>"} <= set(words(figure))
    one = safety(data, source="completion")
    assert {cell.name for cell in cells(one)} == {"low"}
    assert "prompt" not in summary(one)


def test_an_unreported_category_is_not_shown_as_safe() -> None:
    """A source without findings of a category says so, and "none" is said only of what was checked."""
    figure = safety(table(finding(category="hate"), finding(source="completion", category="violence")))
    assert sorted(texts(figure)) == ["none", "none", "not reported", "not reported"]
    unchecked = safety(table(finding(0, checked=False), finding(1, category="violence")))
    assert sorted(texts(unchecked)) == ["1 not checked", "none"]


def test_unchecked_rows_are_a_share_of_all_rows_and_not_of_the_checked_ones() -> None:
    """One unchecked row of four is 25 % of the strip, and a flag is one of three."""
    data = table(
        *[finding(row, severity="low" if row == 1 else "safe") for row in range(1, 4)],
        finding(0, category="all", checked=False),
    )
    figure = safety(data)
    assert shares(figure) == {"low": 0.25, "not checked": 0.25, "safe": 0.5}
    assert bars(figure) == [("hate", "low", pytest.approx(1 / 3))]
    assert "all categories not checked 1 (25%)" in summary(figure)


def test_the_number_of_unchecked_rows_is_always_said() -> None:
    """Also where it is zero; in the legend too."""
    figure = safety(table(finding(0, severity="high"), finding(1)))
    assert "1 high · 0 not checked · 1 safe" in words(figure)
    assert [trace.name for trace in figure.data if trace.showlegend] == ["high", "not checked", "safe"]


def test_levels_differ_by_more_than_color() -> None:
    """Each level has its own name and pattern, and every bar an outline."""
    for kind in ("name", "pattern"):
        assert len({getattr(level, kind) for level in LEVELS}) == len(LEVELS)
    light = {level.name: level.inks["light"][0] for level in LEVELS if level.inks}
    assert [light[name] for name in ("safe", "low", "medium", "high")] == ["#7FB8DE", "#E69F00", "#C8500A", "#6B1D5E"]
    drawn = [bar for bar in safety(table(finding(severity="low"))).data if bar.type == "bar" and bar.x[0]]
    assert {bar.marker.line.width for bar in drawn} == {1}
    assert {bar.marker.pattern.shape for bar in drawn} == {"/"}


@pytest.mark.parametrize(("theme", "page"), [(theme, page) for theme, pages in PAGES.items() for page in pages])
def test_severe_levels_have_the_strongest_ink_on_every_page(theme: Any, page: str) -> None:
    """By their contrast with the page: in grayscale as well. However few rows they have."""
    data = table(
        *[finding(row, severity="safe") for row in range(995)],
        *[finding(995 + at, severity=level) for at, level in enumerate(("odd", "low", "medium", "high"))],
        finding(999, category="jailbreak", detected=True),
    )
    figure = safety(data, theme=theme)
    by_level = {cell.name: contrast(cell.colorscale[1][1], page) for cell in cells(figure)}
    order = ["safe", "other level", "low", "medium", "high"]
    assert sorted(order, key=by_level.__getitem__) == order
    assert by_level["safe"] < 1.5
    assert by_level["detected"] > by_level["medium"] * 1.15
    assert by_level["high"] > by_level["medium"] * 1.15
    assert min(by_level["high"], by_level["detected"]) > (3.5 if page == "#1e1e1e" else 4)
    assert all(len({color for _, color in cell.colorscale}) == 1 for cell in cells(figure))
    fills = {bar.name: bar.marker.color for bar in figure.data if bar.type == "bar" and bar.hoverinfo == "text"}
    assert {name: pytest.approx(contrast(color, page)) for name, color in fills.items()} == {
        name: by_level[name] for name in fills
    }


@pytest.mark.parametrize(("theme", "page"), [(theme, page) for theme, pages in PAGES.items() for page in pages])
@pytest.mark.parametrize("vision", VISION)
def test_levels_differ_for_every_type_of_color_vision(theme: Any, page: str, vision: str) -> None:
    """By a CIE76 distance of 12 at least."""
    colors = [lab(seen(level.color(theme), page), VISION[vision]) for level in LEVELS if level.inks]
    distances = [float(np.linalg.norm(a - b)) for at, a in enumerate(colors) for b in colors[:at]]
    assert min(distances) > 12


def test_a_level_with_one_row_of_thousands_is_seen() -> None:
    """Its cell has a least width, and its share is in words."""
    data = table(*[finding(row, severity="high" if row == 7 else "safe") for row in range(3_000)])
    cell = next(cell for cell in cells(safety(data)) if cell.name == "high")
    assert cell.x[1] - cell.x[0] >= 0.01
    assert cell.z[0][0] == pytest.approx(1 / 3_000)
    assert cell.text[0][0] == "high: 1 of 3,000 prompts (under 0.1%)"


def test_unchecked_rows_have_no_fill() -> None:
    """However many rows were not checked, on every page."""
    for theme in PAGES:
        (cell,) = cells(safety(table(*[finding(row, checked=False) for row in range(9)]), theme=theme))
        assert {color for _, color in cell.colorscale} == {"rgba(0,0,0,0)"}


def test_bars_have_the_share_of_the_flagged_rows_with_its_interval() -> None:
    """The most severe level starts at zero, and the interval is that of all flagged rows."""
    data = table(*[finding(row, severity=["high", "low", "low", "safe"][row % 4]) for row in range(40)])
    figure = safety(data)
    assert bars(figure) == [("hate", "high", 0.25), ("hate", "low", 0.5)]
    high, low = [bar for bar in figure.data if bar.type == "bar" and bar.hoverinfo == "text"]
    assert (high.base[0], low.base[0]) == (0, 0.25)
    (point,) = [trace for trace in scatters(figure) if trace.error_x.array is not None]
    bounds = wilson_interval([30], [40])
    assert [point.x[0] - point.error_x.arrayminus[0], point.x[0] + point.error_x.array[0]] == pytest.approx(
        [bounds[0][0], bounds[1][0]]
    )


def test_counts_are_beside_the_bars_and_below_the_strip() -> None:
    """All counts can be read without colors, including those of withheld rows."""
    data = table(finding(0, severity="low"), finding(1, severity="high", filtered=True), finding(2))
    figure = safety(data)
    assert texts(figure) == ["2 (67%) · 1 withheld"]
    assert "1 withheld · 1 high · 1 low · 0 not checked · 1 safe" in words(figure)
    assert ("hate", "withheld", pytest.approx(1 / 3)) in bars(figure)


def test_the_summary_has_every_count() -> None:
    """It has the same content as the chart."""
    data = table(finding(0, severity="low", filtered=True), finding(1), finding(0, "completion", checked=False))
    assert summary(safety(data)) == (
        "Safety of 2 prompts and 1 completion. 1 of 2 prompts was withheld for hate. 1 of 1 completion was not "
        "checked. Prompt: hate safe 1 (50%), low 1 (50%), filtered 1. Completion: hate not checked 1 (100%)."
    )


def test_categories_with_the_most_flags_come_first() -> None:
    """Findings about all categories come last, and only where they are flagged."""
    data = [finding(category="hate"), finding(category="violence", severity="low")]
    unchecked = safety(table(*data, finding(category="all", checked=False)))
    assert list(unchecked.layout.yaxis2.ticktext) == ["violence", "hate"]
    filtered = safety(table(*data, finding(category="all", filtered=True)))
    assert list(filtered.layout.yaxis2.ticktext) == ["violence", "hate", "all categories"]


@pytest.mark.parametrize("data", [pd.DataFrame(), table()], ids=["no columns", "no rows"])
def test_an_empty_table_gives_a_message(data: pd.DataFrame) -> None:
    """It does not raise, and it does not mean safe."""
    figure = safety(data)
    assert len(figure.data) == 0
    assert summary(figure) == "No safety results to draw."


def test_a_source_without_findings_gives_a_message() -> None:
    """A table of prompts has no completions."""
    assert summary(safety(table(finding()), source="completion")) == "No safety results to draw for completions."


def test_names_of_categories_are_escaped() -> None:
    """They come from the service. Two names that are equal when shortened remain two lines."""
    untrusted = "<b>$x$</b> %{meta.summary} " + "long " * 20
    figure = safety(
        table(finding(category=untrusted + "1", severity="low"), finding(category=untrusted + "2")), title=untrusted
    )
    shown = [
        *figure.layout.yaxis2.ticktext,
        figure.layout.title.text,
        figure.layout.title.subtitle.text,
        *[text for bar in figure.data if bar.type == "bar" for text in bar.hovertext or ()],
    ]
    assert any("long" in text for text in shown[3:])
    for text in shown:
        assert not set("<>$") & set(text.replace("<br>", "")), text
        assert "%{" not in text
    assert len(figure.layout.yaxis2.ticktext) == 2


def test_columns_from_a_file_are_understood() -> None:
    """Nullable booleans and numbers 0 and 1 are booleans; a missing value is not a check."""
    data = table(finding(0, detected=True), finding(1), finding(2))
    data["detected"] = data["detected"].astype("boolean")
    data["checked"] = [1.0, 1.0, float("nan")]
    assert shares(safety(data)) == pytest.approx({"safe": 1 / 3, "not checked": 1 / 3, "detected": 1 / 3})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table(finding()).drop(columns=["severity", "checked"]), "Missing: severity, checked"),
        (pd.DataFrame({"text": ["a"]}), "There are none for 'completion'. Call the method with details=True"),
        ([finding()], "got list"),
        (table(finding(source="user")), "got 'user'"),
    ],
)
def test_an_invalid_table_raises(data: Any, message: str) -> None:
    """The error names the expected columns."""
    with pytest.raises(InputError, match=message):
        safety(data)


def test_a_frame_with_completions_is_drawn() -> None:
    """By its column of findings, which ``details=True`` adds."""
    figure = safety(completed([finding(source="completion", severity="low")], None))
    assert summary(figure) == (
        "Safety of 1 completion. 1 of 1 completion was flagged for hate; none was withheld. "
        "Completion: hate low 1 (100%)."
    )


def test_an_unknown_source_raises() -> None:
    """The sources are prompts and completions."""
    with pytest.raises(InputError, match="got 'answers'"):
        safety(table(finding()), source="answers")  # type: ignore[arg-type]


def test_forty_categories_fit_on_a_screen() -> None:
    """Those without a flag share a line that counts each row once; max_categories=None shows all."""
    data = table(
        *(
            finding(row, category=f"c{at:02}", severity="low" if at < 5 and row == at else "safe", checked=row != 5)
            for row in range(6)
            for at in range(40)
        )
    )
    figure = safety(data)
    labels = list(figure.layout.yaxis2.ticktext)
    assert labels == ["c00", "c01", "c02", "c03", "c04", "35 categories without a flag"]
    assert figure.layout.height < 540
    assert "35 categories without a flag safe 5 (83%), not checked 1 (17%)" in summary(figure)
    every = safety(data, max_categories=None)
    assert len(every.layout.yaxis2.ticktext) == 40
    assert every.layout.height < 1_700


def test_the_least_flagged_categories_share_a_line() -> None:
    """In a shared line, the worst finding of each row counts."""
    data = table(
        *(
            finding(row, category=f"c{at}", severity="high" if row <= at else "safe")
            for row in range(9)
            for at in range(6)
        )
    )
    figure = safety(data, max_categories=2)
    assert list(figure.layout.yaxis2.ticktext) == ["c5", "c4", "4 more categories"]
    assert "4 more categories safe 5 (56%), high 4 (44%)" in summary(figure)
    with pytest.raises(InputError, match="at least 1"):
        safety(data, max_categories=0)

"""The safety heatmap: every row counted once, unchecked rows never shown as safe."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_tables import completed, finding, table

from skytells_nb.errors import InputError
from skytells_nb.plots import safety, summary
from skytells_nb.plots.safety_charts.severity import LEVELS


def tiles(figure: go.Figure) -> list[go.Heatmap]:
    return [trace for trace in figure.data if trace.type == "heatmap"]


def counts(figure: go.Figure) -> dict[str, float]:
    """The share of rows at each level, for a chart with one line."""
    return {tile.name: tile.z[0][0] for tile in tiles(figure) if tile.z[0][0]}


def numbers(figure: go.Figure) -> list[str]:
    """The texts below the tiles."""
    return [text for trace in figure.data if trace.type == "scatter" for text in trace.text]


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
    assert counts(safety(table(finding(**values)))) == {level: 1.0}


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
def test_every_row_is_counted_once_in_each_category(findings: list[dict[str, Any]]) -> None:
    """The tiles of a line add up to the share of rows with a finding of the category."""
    drawn = sum(cell[0] or 0 for tile in tiles(safety(table(*findings))) for cell in tile.z)
    cells = {(line["source"], line["category"], line["row"]) for line in findings}
    rows = {source: len({row for other, _, row in cells if other == source}) for source, _, _ in cells}
    assert drawn == pytest.approx(sum(1 / rows[source] for source, _, _ in cells))


def test_the_worst_finding_of_a_row_counts() -> None:
    """Two completions of one prompt are one row, and "not checked" is worse than "safe"."""
    assert counts(safety(table(finding(severity="low"), finding(severity="high"), finding()))) == {"high": 1.0}
    assert counts(safety(table(finding(severity="safe"), finding(checked=False)))) == {"not checked": 1.0}


def test_prompts_are_beside_completions() -> None:
    """Each source has its tiles and its number of rows; ``source`` selects one."""
    data = table(finding(0), finding(1), finding(0, "completion", severity="low"))
    figure = safety(data)
    heads = [a.text for a in figure.layout.annotations]
    assert "prompt (2)" in heads
    assert "completion (1)" in heads
    one = safety(data, source="completion")
    assert {tile.name for tile in tiles(one)} == {"low"}
    assert "prompt" not in summary(one)


def test_an_unreported_category_is_not_shown_as_safe() -> None:
    """A source without findings of a category has a dash, not a zero, and no tile."""
    figure = safety(table(finding(category="hate"), finding(source="completion", category="violence")))
    assert sorted(numbers(figure)) == ["-", "-", "1<br>100%", "1<br>100%"]
    assert [cell[0] for tile in tiles(figure) for cell in tile.z if cell[0]] == [1.0, 1.0]


def test_unchecked_rows_are_a_share_of_all_rows() -> None:
    """One unchecked row of four is 25 %, not 100 %."""
    data = table(*[finding(row) for row in range(4)], finding(0, category="all", checked=False))
    unchecked = next(tile for tile in tiles(safety(data)) if tile.name == "not checked")
    assert max(cell[0] or 0 for cell in unchecked.z) == 0.25
    assert "all categories not checked 1 (25%)" in summary(safety(data))


def test_levels_differ_by_more_than_color() -> None:
    """Each level has its own name, color and pattern, and every tile an outline."""
    for kind in ("name", "rgb", "pattern"):
        assert len({getattr(level, kind) for level in LEVELS}) == len(LEVELS)
    hexes = {level.name: "#{:02X}{:02X}{:02X}".format(*level.rgb) for level in LEVELS if level.rgb}
    assert [hexes[name] for name in ("safe", "low", "medium", "high")] == ["#7FB8DE", "#E69F00", "#C8500A", "#6B1D5E"]
    (outline,) = [bar for bar in safety(table(finding(severity="low"))).data if bar.type == "bar"]
    assert outline.marker.line.width == 1
    assert outline.marker.pattern.shape == "/"


def test_unchecked_rows_have_no_fill_at_any_share() -> None:
    """However many rows were not checked."""
    (tile,) = tiles(safety(table(*[finding(row, checked=False) for row in range(9)])))
    assert {color for _, color in tile.colorscale} == {"rgba(0,0,0,0)"}


def test_the_opacity_of_a_tile_shows_its_share() -> None:
    """All tiles have the same scale from 0 to 1."""
    data = table(*[finding(row, severity="low" if row else "high") for row in range(4)])
    assert all((tile.zmin, tile.zmax) == (0, 1) for tile in tiles(safety(data)))
    assert counts(safety(data)) == {"low": 0.75, "high": 0.25}


def ink(color: str) -> float:
    """How dark a color with an opacity is on white, 0 to 1."""
    red, green, blue, opacity = map(float, re.findall(r"[\d.]+", color))
    return opacity * (1 - (0.299 * red + 0.587 * green + 0.114 * blue) / 255)


def test_one_severe_row_has_more_ink_than_all_the_safe_ones() -> None:
    """What needs attention is seen first, and a rare severe finding is not fainter than a frequent one."""
    most = {level.name: ink(level.color(level.max_opacity)) for level in LEVELS if level.rgb}
    least = {level.name: ink(level.color(level.min_opacity)) for level in LEVELS if level.rgb}
    assert most["safe"] < min(least[name] for name in most if name != "safe")
    assert least["low"] < least["medium"] < least["high"] < least["detected"]
    assert all(least[name] == most[name] for name in ("medium", "high", "detected"))
    data = table(*[finding(row, severity="safe") for row in range(99)], finding(99, severity="high"))
    drawn = {tile.name: [ink(color) for _, color in tile.colorscale] for tile in tiles(safety(data))}
    assert drawn == {"safe": [least["safe"], most["safe"]], "high": [least["high"], most["high"]]}


def test_counts_and_shares_are_below_the_tiles() -> None:
    """All counts can be read without colors, including those of filtered rows."""
    data = table(finding(0, severity="low"), finding(1, severity="high", filtered=True), finding(2))
    assert list(safety(data).layout.xaxis.ticktext) == ["safe", "low", "high", "filtered"]
    assert numbers(safety(data)) == ["1<br>33%"] * 4


def test_the_summary_has_every_count() -> None:
    """It has the same content as the chart."""
    data = table(finding(0, severity="low", filtered=True), finding(1), finding(0, "completion", checked=False))
    assert summary(safety(data)) == (
        "Safety of 2 prompts and 1 completion. Prompt: hate safe 1 (50%), low 1 (50%), filtered 1. "
        "Completion: hate not checked 1 (100%)."
    )


def test_categories_with_the_most_flags_come_first() -> None:
    """Findings about all categories come last."""
    data = table(
        finding(category="all", checked=False), finding(category="hate"), finding(category="violence", severity="low")
    )
    assert list(safety(data).layout.yaxis.ticktext) == ["violence", "hate", "all categories"]


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
    figure = safety(table(finding(category=untrusted + "1"), finding(category=untrusted + "2")), title=untrusted)
    texts = [
        *figure.layout.yaxis.ticktext,
        figure.layout.title.text,
        *[text for tile in tiles(figure) for line in tile.text for text in line],
    ]
    for text in texts:
        assert not set("<>$") & set(text.replace("<br>", "")), text
        assert "%{" not in text
    assert len(figure.layout.yaxis.ticktext) == 2


def test_columns_from_a_file_are_understood() -> None:
    """Nullable booleans and numbers 0 and 1 are booleans; a missing value is not a check."""
    data = table(finding(0, detected=True), finding(1), finding(2))
    data["detected"] = data["detected"].astype("boolean")
    data["checked"] = [1.0, 1.0, float("nan")]
    assert counts(safety(data)) == pytest.approx({"safe": 1 / 3, "not checked": 1 / 3, "detected": 1 / 3})


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
    assert summary(figure) == "Safety of 1 completion. Completion: hate low 1 (100%)."


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
    labels = list(figure.layout.yaxis.ticktext)
    assert labels == ["c00", "c01", "c02", "c03", "c04", "35 categories<br>without a flag"]
    assert figure.layout.height < 500
    assert "35 categories without a flag safe 5 (83%), not checked 1 (17%)" in summary(figure)
    every = safety(data, max_categories=None)
    assert len(every.layout.yaxis.ticktext) == 40
    assert every.layout.height < 1_600


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
    assert list(figure.layout.yaxis.ticktext) == ["c5", "c4", "4 more categories"]
    assert "4 more categories safe 5 (56%), high 4 (44%)" in summary(figure)
    with pytest.raises(InputError, match="at least 1"):
        safety(data, max_categories=0)

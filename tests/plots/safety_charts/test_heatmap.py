"""The safety chart: every finding counted once, nothing unchecked drawn as safe."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verdicts import completed, finding, table

from skytells_nb.errors import InputError
from skytells_nb.plots import safety, summary
from skytells_nb.plots.safety_charts.severity import LEVELS


def tiles(figure: go.Figure) -> list[go.Heatmap]:
    return [trace for trace in figure.data if trace.type == "heatmap"]


def counts(figure: go.Figure) -> dict[str, float]:
    """The share of the rows on each level of a chart with one line."""
    return {tile.name: tile.z[0][0] for tile in tiles(figure) if tile.z[0][0]}


def numbers(figure: go.Figure) -> list[str]:
    """What stands below the tiles."""
    return [text for trace in figure.data if trace.type == "scatter" for text in trace.text]


@pytest.mark.parametrize(
    ("verdict", "level"),
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
def test_each_verdict_has_its_level(verdict: dict[str, Any], level: str) -> None:
    """Graded, detected, withheld, unknown and unchecked verdicts each land in one class."""
    assert counts(safety(table(finding(**verdict)))) == {level: 1.0}


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
    """The tiles of a line add up to the share of the rows that have a finding of the category."""
    drawn = sum(cell[0] or 0 for tile in tiles(safety(table(*findings))) for cell in tile.z)
    cells = {(line["source"], line["category"], line["row"]) for line in findings}
    rows = {source: len({row for side, _, row in cells if side == source}) for source, _, _ in cells}
    assert drawn == pytest.approx(sum(1 / rows[source] for source, _, _ in cells))


def test_the_worst_finding_of_a_row_counts() -> None:
    """Two answers to one prompt are one row, and an unchecked one outweighs a safe one."""
    assert counts(safety(table(finding(severity="low"), finding(severity="high"), finding()))) == {"high": 1.0}
    assert counts(safety(table(finding(severity="safe"), finding(checked=False)))) == {"not checked": 1.0}


def test_prompts_stand_beside_completions() -> None:
    """Each side has its tiles and its number of rows; ``source`` shows one."""
    data = table(finding(0), finding(1), finding(0, "completion", severity="low"))
    figure = safety(data)
    heads = [a.text for a in figure.layout.annotations]
    assert "prompt (2)" in heads
    assert "completion (1)" in heads
    one = safety(data, source="completion")
    assert {tile.name for tile in tiles(one)} == {"low"}
    assert "prompt" not in summary(one)


def test_a_category_that_was_not_reported_is_not_a_safe_one() -> None:
    """A side without findings of a category has a dash there and no tile, not a zero."""
    figure = safety(table(finding(category="hate"), finding(source="completion", category="violence")))
    assert sorted(numbers(figure)) == ["-", "-", "1<br>100%", "1<br>100%"]
    assert [cell[0] for tile in tiles(figure) for cell in tile.z if cell[0]] == [1.0, 1.0]


def test_a_missing_verdict_is_a_share_of_all_rows() -> None:
    """One unchecked exchange of four is a quarter of the rows, not all of them."""
    data = table(*[finding(row) for row in range(4)], finding(0, category="all", checked=False))
    unchecked = next(tile for tile in tiles(safety(data)) if tile.name == "not checked")
    assert max(cell[0] or 0 for cell in unchecked.z) == 0.25
    assert "all categories not checked 1 (25%)" in summary(safety(data))


def test_levels_differ_by_more_than_colour() -> None:
    """Each level has its own word, colour and pattern, and every tile an outline."""
    for kind in ("word", "rgb", "pattern"):
        assert len({getattr(level, kind) for level in LEVELS}) == len(LEVELS)
    hexes = {level.word: "#{:02X}{:02X}{:02X}".format(*level.rgb) for level in LEVELS if level.rgb}
    assert [hexes[w] for w in ("safe", "low", "medium", "high")] == ["#7FB8DE", "#E69F00", "#C8500A", "#6B1D5E"]
    (outline,) = [bar for bar in safety(table(finding(severity="low"))).data if bar.type == "bar"]
    assert outline.marker.line.width == 1
    assert outline.marker.pattern.shape == "/"


def test_what_was_not_checked_has_no_fill_at_any_share() -> None:
    """However many rows were not checked, no colour says that they passed."""
    (tile,) = tiles(safety(table(*[finding(row, checked=False) for row in range(9)])))
    assert {color for _, color in tile.colorscale} == {"rgba(0,0,0,0)"}


def test_a_stronger_tile_stands_for_more_rows() -> None:
    """Every tile is on the scale of shares from none to all."""
    data = table(*[finding(row, severity="low" if row else "high") for row in range(4)])
    assert all((tile.zmin, tile.zmax) == (0, 1) for tile in tiles(safety(data)))
    assert counts(safety(data)) == {"low": 0.75, "high": 0.25}


def test_counts_and_shares_stand_below_the_tiles() -> None:
    """What is drawn can be read without telling colours apart, what was withheld too."""
    data = table(finding(0, severity="low"), finding(1, severity="high", filtered=True), finding(2))
    assert list(safety(data).layout.xaxis.ticktext) == ["safe", "low", "high", "filtered"]
    assert numbers(safety(data)) == ["1<br>33%"] * 4


def test_the_summary_says_every_count() -> None:
    """The words hold what the picture holds."""
    data = table(finding(0, severity="low", filtered=True), finding(1), finding(0, "completion", checked=False))
    assert summary(safety(data)) == (
        "Safety of 2 prompts and 1 completion. Prompt: hate safe 1 (50%), low 1 (50%), filtered 1. "
        "Completion: hate not checked 1 (100%)."
    )


def test_categories_with_the_most_flags_come_first() -> None:
    """And the entry that stands for a whole verdict comes last."""
    data = table(
        finding(category="all", checked=False), finding(category="hate"), finding(category="violence", severity="low")
    )
    assert list(safety(data).layout.yaxis.ticktext) == ["violence", "hate", "all categories"]


@pytest.mark.parametrize("data", [pd.DataFrame(), table()], ids=["no columns", "no rows"])
def test_an_empty_table_gives_a_figure_that_says_so(data: pd.DataFrame) -> None:
    """Nothing to draw is not an error and not a clean bill."""
    figure = safety(data)
    assert len(figure.data) == 0
    assert summary(figure) == "No safety verdicts to draw."


def test_a_side_without_findings_says_which() -> None:
    """Asking for completions of a table of prompts."""
    assert summary(safety(table(finding()), source="completion")) == "No safety verdicts to draw for completions."


def test_names_of_categories_are_not_trusted() -> None:
    """A category is text of the service, shown as it is; two that look alike when cut stay two bars."""
    evil = "<b>$x$</b> %{meta.summary} " + "long " * 20
    figure = safety(table(finding(category=evil + "1"), finding(category=evil + "2")), title=evil)
    texts = [
        *figure.layout.yaxis.ticktext,
        figure.layout.title.text,
        *[text for tile in tiles(figure) for line in tile.text for text in line],
    ]
    for text in texts:
        assert not set("<>$") & set(text.replace("<br>", "")), text
        assert "%{" not in text
    assert len(figure.layout.yaxis.ticktext) == 2


def test_columns_read_back_from_a_file_are_understood() -> None:
    """Nullable booleans and 0/1 numbers mean what they say; a null check is no check."""
    data = table(finding(0, detected=True), finding(1), finding(2))
    data["detected"] = data["detected"].astype("boolean")
    data["checked"] = [1.0, 1.0, float("nan")]
    assert counts(safety(data)) == pytest.approx({"safe": 1 / 3, "not checked": 1 / 3, "detected": 1 / 3})


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (table(finding()).drop(columns=["severity", "checked"]), "severity, checked is missing"),
        (pd.DataFrame({"text": ["a"]}), "There are none for 'completion' here: ask with details=True"),
        ([finding()], "not from a list"),
        (table(finding(source="user")), "found 'user'"),
    ],
)
def test_a_wrong_table_is_refused_with_the_columns_it_needs(data: Any, found: str) -> None:
    """The error says what a safety table looks like."""
    with pytest.raises(InputError, match=found):
        safety(data)


def test_a_frame_of_completions_is_drawn_by_what_the_accessor_keeps() -> None:
    """The column that ``details=True`` leaves in a frame holds its verdicts."""
    figure = safety(completed([finding(source="completion", severity="low")], None))
    assert summary(figure) == "Safety of 1 completion. Completion: hate low 1 (100%)."


def test_an_unknown_side_is_refused() -> None:
    """There are prompts and completions."""
    with pytest.raises(InputError, match="not 'answers'"):
        safety(table(finding()), source="answers")  # type: ignore[arg-type]


def test_forty_categories_fit_on_a_screen() -> None:
    """Those without a flag share a line that counts each row once, and all of them are drawn where asked for."""
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


def test_the_least_flagged_of_many_share_a_line() -> None:
    """The most flagged keep their own; in the shared line the worst finding of each row counts."""
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

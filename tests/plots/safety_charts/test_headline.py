"""The finding of a chart in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from safety_tables import finding, table

from skytells_nb.plots.safety_charts.findings import read_findings
from skytells_nb.plots.safety_charts.headline import headline


def rows(*levels: tuple[str, int, dict[str, Any]]) -> list[dict[str, Any]]:
    """``n`` rows of one category and severity each."""
    found: list[dict[str, Any]] = []
    for category, n, values in levels:
        found += [finding(len(found) + at, category=category, **values) for at in range(n)]
    return found


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            rows(("violence", 6, {"severity": "high", "filtered": True}), ("hate", 394, {"severity": "safe"})),
            "6 of 400 prompts were withheld, all for violence.",
        ),
        (
            rows(("hate", 1, {"filtered": True}), ("self_harm", 2, {"filtered": True}), ("hate", 3, {})),
            "3 of 6 prompts were withheld for self harm (2) and hate (1).",
        ),
        (
            rows(*[(name, 1, {"filtered": True}) for name in "abcde"], ("a", 2, {"severity": "low"})),
            "5 of 7 prompts were withheld for a (1), b (1), c (1) and 2 more categories; 2 more were flagged.",
        ),
        (rows(("all", 1, {"filtered": True})), "1 of 1 prompt was withheld without a reason."),
        (
            rows(("hate", 2, {"severity": "low"}), ("hate", 1, {"severity": "high"}), ("hate", 7, {})),
            "3 of 10 prompts were flagged, all for hate, 1 of them high; none was withheld.",
        ),
        (rows(("hate", 5, {"severity": "safe"})), "Nothing was found in 5 checked prompts."),
        (
            rows(("hate", 5, {}), ("all", 2, {"checked": False})),
            "Nothing was found in 5 checked prompts; 2 prompts were not checked.",
        ),
        (rows(("all", 3, {"checked": False})), "3 of 3 prompts were not checked."),
        ([], ""),
    ],
)
def test_the_headline_says_what_was_found(found: list[dict[str, Any]], sentence: str) -> None:
    """What was withheld comes first, and what was not checked is never left out or called safe."""
    assert headline(read_findings(table(*found))) == sentence


def test_each_source_has_a_line() -> None:
    """Prompts first."""
    found = table(finding(0), finding(0, "completion", severity="low"))
    assert headline(read_findings(found)).split("\n") == [
        "Nothing was found in 1 checked prompt.",
        "1 of 1 completion was flagged for hate; none was withheld.",
    ]

"""Severity levels of safety findings in order, and their markers, which differ by more than color."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skytells_nb.plots.theme import GRAY


@dataclass(frozen=True, slots=True)
class SeverityLevel:
    """One level: its name, its color as red, green and blue, its pattern and the color of the pattern.

    ``min_opacity`` and ``max_opacity`` are those of a tile for almost no rows and for all of them: what needs attention
    has the strongest color wherever there is one row of it.
    """

    name: str
    rgb: tuple[int, int, int] | None
    pattern: str
    pattern_color: str
    min_opacity: float = 1.0
    max_opacity: float = 1.0

    def color(self, opacity: float = 1.0) -> str:
        """The fill color; "not checked" has no fill at any opacity."""
        if self.rgb is None:
            return "rgba(0,0,0,0)"
        return f"rgba({','.join(map(str, self.rgb))},{opacity:g})"

    def marker(self, opacity: float = 1.0) -> dict[str, Any]:
        """The marker of a bar: fill, outline and pattern."""
        pattern = {"shape": self.pattern, "fillmode": "overlay", "fgcolor": self.pattern_color, "fgopacity": 0.6}
        return {
            "color": self.color(opacity),
            "line": {"color": GRAY, "width": 1},
            "pattern": {**pattern, "size": 7, "solidity": 0.25},
        }


# In ascending order: of several findings for one row, the last of these levels is shown.
# The four severities differ by at least 24 (CIE76) for every type of color vision; "not checked" has no fill.
LEVELS = (
    SeverityLevel("safe", (0x7F, 0xB8, 0xDE), "", "#ffffff", 0.1, 0.35),
    SeverityLevel("not checked", None, "-", GRAY),
    SeverityLevel("other level", (0x9A, 0x9A, 0x9A), "|", "#1a1a1a", 0.6, 0.8),
    SeverityLevel("low", (0xE6, 0x9F, 0x00), "/", "#1a1a1a", 0.7, 1.0),
    SeverityLevel("medium", (0xC8, 0x50, 0x0A), "x", "#ffffff"),
    SeverityLevel("high", (0x6B, 0x1D, 0x5E), ".", "#ffffff"),
    SeverityLevel("detected", (0x1A, 0x1A, 0x1A), "+", "#ffffff"),
)
LEVEL_NAMES = tuple(level.name for level in LEVELS)
SAFE, UNCHECKED, OTHER, LOW, MEDIUM, HIGH, DETECTED = range(len(LEVELS))
GRADES = {"safe": SAFE, "low": LOW, "medium": MEDIUM, "high": HIGH}

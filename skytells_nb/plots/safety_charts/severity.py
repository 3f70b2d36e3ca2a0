"""Severity levels of safety findings in order, and their inks, which are stronger the more severe the level is.

A level is recognized by its name, its pattern and its contrast with the page as well as by its color, so a chart can be
read in grayscale and with any type of color vision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skytells_nb.plots.theme import GRAY, TRANSPARENT, Theme, with_opacity

Ink = tuple[str, float]
"""A color as ``#rrggbb`` with an opacity."""


@dataclass(frozen=True, slots=True)
class SeverityLevel:
    """One level: its name, its ink on each background (none for what was not checked), and its pattern."""

    name: str
    inks: Mapping[Theme | None, Ink] | None
    pattern: str

    def color(self, theme: Theme | None = None) -> str:
        """The fill color on the background of a theme; "not checked" has no fill."""
        return TRANSPARENT if self.inks is None else with_opacity(*self.inks["light" if theme == "print" else theme])

    def marker(self, theme: Theme | None = None) -> dict[str, Any]:
        """The marker of a bar: fill, outline and pattern."""
        pattern_color = GRAY
        if self.inks is not None:
            red, green, blue = bytes.fromhex(self.inks["light" if theme == "print" else theme][0][1:])
            pattern_color = "#1a1a1a" if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else "#ffffff"
        pattern = {"shape": self.pattern, "fillmode": "overlay", "fgcolor": pattern_color, "fgopacity": 0.55}
        return {
            "color": self.color(theme),
            "line": {"color": GRAY, "width": 1},
            "pattern": {**pattern, "size": 7, "solidity": 0.22},
        }


def _level(name: str, pattern: str, light: Ink, dark: Ink, transparent: Ink) -> SeverityLevel:
    return SeverityLevel(name, {"light": light, "dark": dark, None: transparent}, pattern)


# In ascending order: of several findings for one row, the last of these levels is shown.
# The contrast with the background rises from level to level. No color has a contrast above 4.4 with white and with a
# dark page at once, so the inks for any page are of one brightness, and opacity makes the difference between levels.
LEVELS = (
    _level("safe", "", ("#7FB8DE", 0.35), ("#7FB8DE", 0.18), ("#6BA1E3", 0.2)),
    SeverityLevel("not checked", None, "-"),
    _level("other level", "|", ("#9A9A9A", 0.8), ("#5B5B5C", 1.0), ("#848481", 0.5)),
    _level("low", "/", ("#E69F00", 1.0), ("#8A5E10", 1.0), ("#84632D", 0.7)),
    _level("medium", "x", ("#C8500A", 1.0), ("#FC7E31", 1.0), ("#C44C06", 0.84)),
    _level("high", ".", ("#6B1D5E", 1.0), ("#F4A2F4", 1.0), ("#CE1FBC", 1.0)),
    _level("detected", "+", ("#1A1A1A", 1.0), ("#F6F6F4", 1.0), ("#75787A", 1.0)),
)
LEVEL_NAMES = tuple(level.name for level in LEVELS)
SAFE, UNCHECKED, OTHER, LOW, MEDIUM, HIGH, DETECTED = range(len(LEVELS))
GRADES = {"safe": SAFE, "low": LOW, "medium": MEDIUM, "high": HIGH}

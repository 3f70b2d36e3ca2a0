"""The ordered classes of a safety verdict, and how each is drawn: never by colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skytells_nb.plots import theme as look


@dataclass(frozen=True, slots=True)
class SeverityLevel:
    """One class of a verdict: its word, its hue as red, green and blue, its pattern and the colour of the pattern."""

    word: str
    rgb: tuple[int, int, int] | None
    pattern: str
    ink: str

    def color(self, opacity: float = 1.0) -> str:
        """The fill; "not checked" has none, whatever the opacity."""
        if self.rgb is None:
            return "rgba(0,0,0,0)"
        return f"rgba({','.join(map(str, self.rgb))},{opacity:g})"

    def marker(self, opacity: float = 1.0) -> dict[str, Any]:
        """The marker of a bar: fill, outline and pattern."""
        pattern = {"shape": self.pattern, "fillmode": "overlay", "fgcolor": self.ink, "fgopacity": 0.6}
        return {
            "color": self.color(opacity),
            "line": {"color": look.GREY, "width": 1},
            "pattern": {**pattern, "size": 7, "solidity": 0.25},
        }


# In the order of worst-of: of several findings for one row the last one here is shown.
# The four severities stay 24 apart (CIE76) for every kind of colour vision; "not checked" has no fill at all.
LEVELS = (
    SeverityLevel("safe", (0x7F, 0xB8, 0xDE), "", "#ffffff"),
    SeverityLevel("not checked", None, "-", look.GREY),
    SeverityLevel("other level", (0x9A, 0x9A, 0x9A), "|", "#1a1a1a"),
    SeverityLevel("low", (0xE6, 0x9F, 0x00), "/", "#1a1a1a"),
    SeverityLevel("medium", (0xC8, 0x50, 0x0A), "x", "#ffffff"),
    SeverityLevel("high", (0x6B, 0x1D, 0x5E), ".", "#ffffff"),
    SeverityLevel("detected", (0x1A, 0x1A, 0x1A), "+", "#ffffff"),
)
WORDS = tuple(level.word for level in LEVELS)
SAFE, UNCHECKED, OTHER, LOW, MEDIUM, HIGH, DETECTED = range(len(LEVELS))
GRADES = {"safe": SAFE, "low": LOW, "medium": MEDIUM, "high": HIGH}

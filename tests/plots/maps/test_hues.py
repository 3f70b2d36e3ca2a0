"""Colors of topics by their place."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
from map_figures import contrast, linear

from skytells_nb.plots.maps.hues import VISION, place_colors, text_color

PAGES: dict[Any, list[str]] = {
    "light": ["#ffffff"],
    "print": ["#ffffff"],
    "dark": ["#111111"],
    None: ["#ffffff", "#111111"],
}
CENTERS = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 2 * np.pi, 12, endpoint=False)])


def hue(color: str) -> float:
    return colorsys.rgb_to_hsv(*bytes.fromhex(color[1:]))[0]


def test_neighbors_have_related_hues() -> None:
    """A topic's hue is nearer to that of its neighbor than to that across the map."""
    hues = [hue(points) for points, _ in place_colors(CENTERS, [1] * 12, "light")]

    def apart(a: int, b: int) -> float:
        return min(abs(hues[a] - hues[b]), 1 - abs(hues[a] - hues[b]))

    assert all(apart(at, (at + 1) % 12) < apart(at, (at + 6) % 12) for at in range(12))


@pytest.mark.parametrize(("theme", "page"), [(theme, page) for theme, pages in PAGES.items() for page in pages])
def test_points_and_names_are_seen_on_every_page(theme: Any, page: str) -> None:
    """Points with a contrast of 2 at least, names with one that text needs."""
    for points, text in place_colors(CENTERS, range(12, 0, -1), theme):
        assert contrast(points, page) > 2
        assert contrast(text, page) > (3.4 if theme is None else 5)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("vision", range(4))
def test_nearby_topics_differ_for_every_type_of_color_vision(theme: Any, vision: int) -> None:
    """A topic and its two neighbors."""
    seen = [
        np.cbrt(np.clip(VISION[vision] @ linear(points), 0, 1)) for points, _ in place_colors(CENTERS, [1] * 12, theme)
    ]
    assert min(float(np.linalg.norm(seen[at] - seen[at - 1])) for at in range(12)) > 0.05


def test_equal_places_have_colors_too() -> None:
    """Also a single topic, and none."""
    assert place_colors([], [], None) == []
    assert len(place_colors([[1.0, 1.0]], [3], None)) == 1
    assert len(set(place_colors([[1.0, 1.0]] * 3, [3, 2, 1], "light"))) == 3


def test_text_in_the_hue_of_a_color_can_be_read() -> None:
    """Gray stays gray."""
    for theme, pages in PAGES.items():
        for color in ("#E69F00", "#56B4E9", "#003F62", "#7a7a7a"):
            assert min(contrast(text_color(color, theme), page) for page in pages) > 3.4

"""The places of names on a map."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytells_nb.plots.maps.names import GAP_PX, MapName, nearest_in, place_names, two_lines

SIZE = (820.0, 470.0)


def box_of(name: MapName, center: tuple[float, float]) -> tuple[float, float, float, float]:
    width, height = name.size
    return center[0] - width / 2, center[1] - height / 2, center[0] + width / 2, center[1] + height / 2


def crosses(a: tuple[tuple[float, float], ...], b: tuple[tuple[float, float], ...]) -> bool:
    (p, q), (r, s) = np.array(a), np.array(b)
    matrix = np.column_stack([q - p, r - s])
    if abs(np.linalg.det(matrix)) < 1e-9:
        return False
    t, u = np.linalg.solve(matrix, r - p)
    return 1e-6 < t < 1 - 1e-6 and 1e-6 < u < 1 - 1e-6


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.floats(0, SIZE[0]), st.floats(0, SIZE[1]), st.integers(3, 20)), min_size=1, max_size=16),
    st.integers(0, 5),
)
def test_names_cover_no_name_and_their_lines_do_not_cross(anchors: list[tuple[float, float, int]], seed: int) -> None:
    """For any places of the topics; every name is in the plot."""
    names = [MapName(("x" * length, "y" * length), 12.0, (x, y)) for x, y, length in anchors]
    points = np.random.default_rng(seed).uniform((0, 0), SIZE, size=(300, 2))
    centers = place_names(names, points, SIZE)
    placed = [(name, center) for name, center in zip(names, centers, strict=True) if center is not None]
    boxes = [box_of(name, center) for name, center in placed]
    for a, b in itertools.combinations(boxes, 2):
        assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
    for left, top, right, bottom in boxes:
        assert -0.01 <= left <= right <= SIZE[0] + 0.01
        assert -0.01 <= top <= bottom <= SIZE[1] + 0.01
    lines = [
        (nearest_in((box[0] - GAP_PX, box[1], box[2] + GAP_PX, box[3]), name.anchor), name.anchor)
        for box, (name, _) in zip(boxes, placed, strict=True)
    ]
    long = [line for line in lines if np.hypot(line[0][0] - line[1][0], line[0][1] - line[1][1]) > 12]
    assert not any(crosses(a, b) for a, b in itertools.combinations(long, 2))


def test_no_name_is_dropped_while_there_is_room() -> None:
    """Fourteen topics in the middle of a wide plot: names go around them."""
    random = np.random.default_rng(0)
    anchors = random.uniform((300, 150), (520, 320), size=(14, 2)).tolist()
    names = [MapName(("topic with", "two lines"), 12.0, (x, y)) for x, y in anchors]
    assert None not in place_names(names, np.array(anchors), SIZE)


def test_a_name_prefers_a_place_without_points() -> None:
    """Beside a cloud and not on it."""
    random = np.random.default_rng(0)
    points = random.normal((400, 235), (40, 20), size=(2_000, 2))
    name = MapName(("cloud",), 12.0, (400.0, 235.0))
    (center,) = place_names([name], points, SIZE)
    assert center is not None
    left, top, right, bottom = box_of(name, center)
    inside = ((points >= (left, top)) & (points <= (right, bottom))).all(axis=1)
    assert inside.mean() < 0.02


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("short", ("short",)),
        ("client library for the API", ("client library", "for the API")),
        ("x" * 60, ("x" * 27 + "…",)),
        ("word " * 20, ("word word word word word…", "word word word word word…")),
    ],
)
def test_a_long_name_has_two_lines(name: str, lines: tuple[str, ...]) -> None:
    """Of similar length; a longer rest is cut at its end."""
    assert two_lines(name.strip()) == lines


def test_characters_of_east_asia_are_as_wide_as_they_are_drawn() -> None:
    """A name of them needs more space than one of as many Latin letters, whose mean width a bold font has."""
    latin, chinese = (MapName((text,), 10.0, (0.0, 0.0)).size[0] for text in ("maps", "文本地图"))
    assert 22 < latin < 28
    assert chinese >= 40


def test_a_name_is_on_its_own_points_rather_than_on_those_of_its_neighbor() -> None:
    """Which it would seem to name: the whole plot is covered, and the anchor is at the border of the two."""
    points = np.random.default_rng(0).uniform((0, 0), SIZE, size=(4_000, 2))
    border = SIZE[0] / 2
    for own in (points[:, 0] < border, points[:, 0] >= border):
        name = MapName(("own points",), 12.0, (border, 235.0), own=own)
        (center,) = place_names([name], points, SIZE)
        assert center is not None
        left, top, right, bottom = box_of(name, center)
        under = ((points >= (left, top)) & (points <= (right, bottom))).all(axis=1)
        assert (own & under).sum() >= 4 * (~own & under).sum()

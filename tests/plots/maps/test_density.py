"""The density of a map: its view, its regions and its image."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skytells_nb.plots.maps.density import encode_png, find_regions, glow_image, measure_density, robust_view


def blobs(*centers: tuple[float, float], n: int = 200, spread: float = 0.4) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.concatenate([random.normal(center, spread, size=(n, 2)) for center in centers]).astype(np.float32)


def test_each_blob_is_a_region_and_the_largest_is_first() -> None:
    """Their number is found, not given."""
    points = np.concatenate([blobs((0, 0), n=80), blobs((8, 0), n=300), blobs((4, 6), n=150)])
    labels = find_regions(measure_density(points, robust_view(points)), 16)
    assert sorted(set(labels.tolist()) - {-1}) == [0, 1, 2]
    sizes = np.bincount(labels[labels >= 0])
    assert (np.diff(sizes) <= 0).all()
    of_blob = np.repeat([2, 0, 1], [80, 300, 150])
    assert (labels == of_blob).mean() > 0.85
    assert set(labels.tolist()) <= {-1, 0, 1, 2}


def test_no_more_regions_than_a_reader_can_take_in() -> None:
    """Of one cloud, and no region has half of the points."""
    points = blobs(*[(x * 0.9, y * 0.9) for x in range(8) for y in range(8)], n=60)
    labels = find_regions(measure_density(points, robust_view(points)), 10)
    sizes = np.bincount(labels[labels >= 0])
    assert 5 <= len(sizes) <= 10
    assert sizes.max() < len(points) / 2


@settings(deadline=None, max_examples=40)
@given(arrays(np.float32, st.tuples(st.integers(1, 60), st.just(2)), elements=st.floats(-1e4, 1e4, width=32)))
def test_any_points_have_a_view_and_regions(points: np.ndarray) -> None:
    """Each point has a region or none, the numbers have no gaps, and nearly all points are in the view."""
    view = robust_view(points)
    assert view[0] < view[1]
    assert view[2] < view[3]
    density = measure_density(points, view)
    assert density.inside.mean() >= 0.88
    labels = find_regions(density, 5)
    assert sorted(set(labels.tolist()) - {-1}) == list(range(labels.max() + 1))
    assert (labels[~density.inside] == -1).all()


def test_an_island_does_not_shrink_the_rest() -> None:
    """A few points far from all others are outside of the view; a larger island is not."""
    main = blobs((0, 0), n=970, spread=1.0)
    far = robust_view(np.concatenate([main, blobs((40, -40), n=20)]))
    assert far[1] < 8
    assert far[2] > -8
    large = robust_view(np.concatenate([main, blobs((40, -40), n=200)]))
    assert large[1] > 38
    assert large[2] < -38


def test_the_view_is_filled() -> None:
    """The points reach over more than three quarters of it in both directions."""
    points = blobs((0, 0), (3, 9), (1, 30), n=400)
    left, right, bottom, top = robust_view(points)
    reach = np.ptp(points, axis=0)
    assert reach[0] / (right - left) > 0.75
    assert reach[1] / (top - bottom) > 0.75


def decode(png: bytes) -> np.ndarray:
    """The pixels of a PNG whose lines are differences."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    at, data = 8, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * 4)
    assert (lines[:, 0] == 1).all()
    pixels: np.ndarray = lines[:, 1:].reshape(height, width, 4).cumsum(axis=1, dtype=np.uint8)
    return pixels


@given(arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 7), st.just(4))))
def test_an_image_has_its_pixels(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode_png(pixels)), pixels)


def test_the_glow_has_the_colors_of_the_points_and_is_transparent_without_points() -> None:
    """At the place of each blob, its top is the top of the view."""
    points = blobs((0, 0), (10, 10))
    colors = np.repeat([[200, 0, 0], [0, 0, 200]], 200, axis=0).astype(np.uint8)
    density = measure_density(points, robust_view(points))
    uri = glow_image(density, colors, strength=0.5)
    assert uri.startswith("data:image/png;base64,")
    assert len(uri) < 60_000
    pixels = decode(base64.b64decode(uri.partition(",")[2]))
    height, width, _ = pixels.shape
    (lower, upper) = pixels[int(height * 0.88), int(width * 0.1)], pixels[int(height * 0.1), int(width * 0.88)]
    assert lower[0] > 150 > lower[2]
    assert upper[2] > 150 > upper[0]
    assert pixels[height // 10, width // 10, 3] == 0
    assert 60 < pixels[..., 3].max() == pytest.approx(128, abs=3)


def test_the_glow_has_steps_that_show_where_points_are_densest() -> None:
    """A few opacities, the highest in the middle of a blob, falling outwards; it is finer than the density."""
    points = blobs((0, 0), n=900)
    density = measure_density(points, robust_view(points))
    uri = glow_image(density, np.zeros((900, 3), np.uint8), strength=0.5)
    opacity = decode(base64.b64decode(uri.partition(",")[2]))[..., 3].astype(int)
    height, width = opacity.shape
    assert height > density.values.shape[0]
    assert 4 <= len(np.unique(opacity)) <= 9
    outwards = opacity[height // 2, width // 2 :: width // 12]
    assert outwards[0] > 100 > outwards[-1]

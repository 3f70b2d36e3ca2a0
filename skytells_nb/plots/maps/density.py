"""The density of the points of a map: peaks with the regions around them, and an image of it."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.vectors.arrays import Floats

View = tuple[float, float, float, float]
"""Left, right, bottom and top of the part of a map that is shown."""
Doubles = NDArray[np.float64]

GRID = (150, 100)
"""Cells of the density, horizontally and vertically."""
GLOW_FINER, GLOW_BANDWIDTH = 3, 0.85
"""The image of the density has so many times its cells in both directions, and is smoothed less."""
GLOW_STEPS, GLOW_FROM = 7, 0.1
"""Steps of its opacity, which show the shape of dense places where a gradient is a haze, from this level on."""
COLOR_STEP = 6
BANDWIDTH_CELLS, BANDWIDTH_ROWS = 1.8, 3_000
"""The bandwidth for that many points; fewer need a wider one (Silverman, 1986: the sixth root in 2D)."""
FAR_SHARE, FAR_GAP = 0.03, 0.15
"""At each side the view leaves out this share of the points at most, beyond a gap of this fraction of the rest."""
MARGIN = 0.06
MIN_PROMINENCE = 0.1
"""Peaks whose saddle to a higher peak is less than this fraction below them are one."""
DISTINCT, BARELY_DISTINCT = 2.0, 0.6
MAX_JOINED_SHARE = 0.2
"""Two regions with more than this share of the points are not joined for a lack of prominence."""
MIN_REGION_ROWS, MIN_REGION_SHARE = 6, 0.008
UNCLUSTERED_DENSITY = 0.06
"""Points where the density is below this fraction of that at their peak are in no region."""


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """Rows for each cell (vertical, horizontal), smoothed.

    ``places`` (n, 2) are those of the points, as fractions of the view, ``cells`` (n, 2) their cells.
    """

    values: Doubles
    places: Doubles
    cells: NDArray[np.int64]
    inside: NDArray[np.bool_]
    view: View
    bandwidth: float


def robust_view(points: Floats) -> View:
    """The part of a map that has nearly all points: without islands that would leave the rest little space.

    >>> robust_view(np.array([[0, 0], [10, 5]], dtype=np.float32))
    (-0.6, 10.6, -0.3, 5.3)
    """
    shown = points.astype(np.float64)
    for axis in (0, 1):
        for sign in (1, -1):
            shown = _without_island(shown, axis, sign)
    edges: list[float] = []
    for axis in (0, 1):
        low, high = float(shown[:, axis].min()), float(shown[:, axis].max())
        # Coordinates are float32: a smaller range is one of rounding errors.
        is_point = high - low <= 1e-6 * max(abs(low), abs(high), 1e-6)
        margin = max(abs(low), 1.0) if is_point else MARGIN * (high - low)
        edges += [low - margin, high + margin]
    return (edges[0], edges[1], edges[2], edges[3])


def _without_island(points: Doubles, axis: int, sign: int) -> Doubles:
    """Leave out the few points that a wide gap parts from all others at one side."""
    values = np.sort(sign * points[:, axis])
    most = int(FAR_SHARE * len(values))
    if not most:
        return points
    tail = values[-most - 1 :]
    far = np.flatnonzero(np.diff(tail) > FAR_GAP * (tail[:-1] - values[0]))
    if not len(far):
        return points
    kept: Doubles = points[sign * points[:, axis] <= tail[far[0]]]
    return kept


def measure_density(points: Floats, view: View) -> Density:
    """Count the points (n, 2) in the cells of a view, and smooth the counts."""
    low, span = np.array(view[::2]), np.array([view[1] - view[0], view[3] - view[2]])
    places = (points.astype(np.float64) - low) / span
    inside = ((places >= 0) & (places <= 1)).all(axis=1)
    cells = np.clip((places * GRID).astype(np.int64), 0, np.array(GRID) - 1)
    bandwidth = float(np.clip(BANDWIDTH_CELLS * (BANDWIDTH_ROWS / max(len(points), 1)) ** (1 / 6), 1.4, 4.0))
    return Density(_smooth(_count(cells[inside]), bandwidth), places, cells, inside, view, bandwidth)


def find_regions(density: Density, most: int) -> NDArray[np.int64]:
    """The region (n,) of each point, numbered by size from 0; -1 for points between the regions.

    Each cell belongs to the peak that its steepest ascent leads to. A peak that rises little above its saddle to a
    higher one, or has few points, belongs to that one; then the least prominent peaks do until ``most`` are left.
    """
    values = density.values
    flat = values.ravel()
    width = values.shape[1]
    order = np.argsort(-flat, kind="stable")
    order = order[flat[order] > flat.max() * 1e-4]
    parent = np.full(flat.size, -1, dtype=np.int64)
    weights = _count(density.cells[density.inside]).ravel()
    # (peak, peak that it joins, saddle) in the order in which a falling water level joins them.
    merges: list[tuple[int, int, float]] = []
    region_of = np.full(flat.size, -1, dtype=np.int64)
    for cell in order.tolist():
        column = cell % width
        around = [cell - width, cell + width] + [cell - 1] * (column > 0) + [cell + 1] * (column < width - 1)
        known = [other for other in around if 0 <= other < flat.size and region_of[other] >= 0]
        if not known:
            region_of[cell] = parent[cell] = cell
            continue
        region_of[cell] = region_of[max(known, key=flat.__getitem__)]
        root_of = {other: _root(parent, int(region_of[other])) for other in known}
        roots = sorted(set(root_of.values()), key=lambda peak: -flat[peak])
        for lower in roots[1:]:
            # It joins the region beside it, which is not always that of the highest peak.
            beside = max((other for other in known if root_of[other] != lower), key=flat.__getitem__)
            merges.append((lower, int(region_of[beside]), float(flat[cell])))
            parent[lower] = roots[0]
    target, sizes = _join_peaks(flat, region_of, weights, merges, most)
    labels = np.full(len(density.cells), -1, dtype=np.int64)
    at = density.cells[:, 1] * width + density.cells[:, 0]
    region = region_of[at]
    known_region = (region >= 0) & density.inside
    labels[known_region] = target[region[known_region]]
    peaks = np.flatnonzero(sizes)
    clear = known_region.copy()
    clear[known_region] = flat[at[known_region]] >= UNCLUSTERED_DENSITY * flat[labels[known_region]]
    labels[~clear] = -1
    counts = np.array([(labels == peak).sum() for peak in peaks])
    rank = np.full(flat.size + 1, -1, dtype=np.int64)
    rank[peaks[np.argsort(-counts, kind="stable")]] = np.arange(len(peaks))
    return rank[labels]


def _root(parent: NDArray[np.int64], peak: int) -> int:
    while parent[peak] != peak:
        parent[peak] = parent[parent[peak]]
        peak = int(parent[peak])
    return peak


def _join_peaks(
    flat: Doubles, region_of: NDArray[np.int64], weights: Doubles, merges: list[tuple[int, int, float]], most: int
) -> tuple[NDArray[np.int64], Doubles]:
    """The peak that each peak belongs to after all joins, and the rows of those that are left."""
    known = region_of >= 0
    sizes: Doubles = np.bincount(region_of[known], weights=weights[known], minlength=flat.size).astype(np.float64)
    least = max(MIN_REGION_ROWS, MIN_REGION_SHARE * float(weights.sum()))
    target: NDArray[np.int64] = np.arange(flat.size, dtype=np.int64)
    total = max(float(weights.sum()), 1.0)
    left = {lower: (into, saddle) for lower, into, saddle in merges}

    def owner(peak: int) -> int:
        while target[peak] != peak:
            peak = int(target[peak])
        return peak

    while left:
        joined = {peak: float(sizes[peak] + sizes[owner(into)]) / total for peak, (into, _) in left.items()}
        prominence = {peak: 1 - saddle / flat[peak] for peak, (_, saddle) in left.items()}
        # Small regions join before large ones: a single topic of half of the rows tells nothing.
        weakest = min(
            left, key=lambda peak: prominence[peak] * min(1.0, sizes[peak] / least) * (0.2 + joined[peak] * most)
        )
        # A count varies by its square root: what is within that is no saddle.
        distinct = prominence[weakest] * float(flat[weakest]) ** 0.5
        clear = prominence[weakest] >= MIN_PROMINENCE and distinct >= DISTINCT
        clear |= joined[weakest] > MAX_JOINED_SHARE and distinct >= BARELY_DISTINCT
        if clear and sizes[weakest] >= least and len(left) < most:
            break
        into = owner(left.pop(weakest)[0])
        target[weakest] = into
        sizes[into] += sizes[weakest]
        sizes[weakest] = 0
    while (target != target[target]).any():
        target = target[target]
    return target, sizes


def own_peak_of(density: Density, members: NDArray[np.bool_]) -> tuple[float, float]:
    """The middle of the cell where some points are densest, whatever others are there."""
    values = _smooth(_count(density.cells[members & density.inside]), density.bandwidth)
    return peak_of(replace(density, values=values), members)


def peak_of(density: Density, members: NDArray[np.bool_]) -> tuple[float, float]:
    """The middle of the densest cell among those of some points."""
    cells = density.cells[members]
    column, row = cells[density.values[cells[:, 1], cells[:, 0]].argmax()].tolist()
    left, right, bottom, top = density.view
    return (
        left + (column + 0.5) / GRID[0] * (right - left),
        bottom + (row + 0.5) / GRID[1] * (top - bottom),
    )


def glow_image(density: Density, colors: NDArray[np.uint8], *, strength: float) -> str:
    """The density as a PNG in a data URI, in the colors (n, 3) of the points, transparent where there are none."""
    grid = (GRID[0] * GLOW_FINER, GRID[1] * GLOW_FINER)
    cells = np.clip((density.places[density.inside] * grid).astype(np.int64), 0, np.array(grid) - 1)
    shades = colors[density.inside].astype(np.float64)
    bandwidth = density.bandwidth * GLOW_FINER * GLOW_BANDWIDTH
    # Half the time in single precision, which an image of 256 levels does not see.
    planes = np.stack([_count(cells, weights, grid) for weights in (None, *shades.T)]).astype(np.float32)
    counts, *colored = _smooth(planes, bandwidth)
    channels = np.stack(colored, axis=2)
    # Fewer colors at the borders of topics: half the bytes, and no difference that one sees.
    mixed = channels / np.maximum(counts, 1e-9)[:, :, None] // COLOR_STEP * COLOR_STEP
    # Quiet where points are few, and never so strong that points on it are not seen.
    some = counts > counts.max(initial=0.0) * 1e-3
    level = np.clip(counts / max(float(np.quantile(counts[some], 0.97)) if some.any() else 1.0, 1e-9), 0, 1) ** 0.5
    steps = np.ceil((level - GLOW_FROM) / (1 - GLOW_FROM) * GLOW_STEPS).clip(0)
    opacity = 255 * strength * steps / GLOW_STEPS
    pixels = np.concatenate([mixed, opacity[:, :, None]], axis=2).clip(0, 255).round().astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels[::-1])).decode()


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode pixels (height, width, 4) as a PNG, truecolor with alpha, each line as a difference (RFC 2083)."""
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + width * 4), dtype=np.uint8)
    lines[:, 0] = 1
    lines[:, 1:] = np.diff(pixels, axis=1, prepend=np.zeros((height, 1, 4), np.uint8)).reshape(height, -1)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 6)),
        (b"IEND", b""),
    )
    whole = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        whole += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return whole


def _count(cells: NDArray[np.int64], weights: Any = None, grid: tuple[int, int] = GRID) -> Doubles:
    width, height = grid
    at = cells[:, 1] * width + cells[:, 0]
    return np.bincount(at, weights=weights, minlength=width * height).astype(np.float64).reshape(height, width)


def _smooth(values: Any, bandwidth: float) -> Any:
    """Convolve with a Gaussian of the bandwidth, separately along the last two axes, in the precision of the values."""
    height, width = values.shape[-2:]
    down, across = (_kernel(size, bandwidth).astype(values.dtype, copy=False) for size in (height, width))
    return down @ values @ across


@lru_cache(maxsize=8)
def _kernel(size: int, bandwidth: float) -> Doubles:
    distance = np.subtract.outer(np.arange(size), np.arange(size)) / bandwidth
    kernel: Doubles = np.exp(-0.5 * distance**2)
    return kernel

"""From vectors to points on a map: PCA in numpy, UMAP when it is asked for and there is enough to lay out.

The policy, by the number of different vectors: below 4 plain PCA; up to 15,000 UMAP on everything; up to 100,000 UMAP
after PCA to 50 dimensions; above that UMAP on a seeded sample of 50,000, and every other vector at the weighted mean of
its 5 nearest neighbours in the sample.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError, MissingExtraError

Method = Literal["umap", "pca"]
Metric = Literal["cosine", "euclidean"]
Floats = NDArray[np.float32]

UMAP_MIN_ROWS = 4
SPECTRAL_MIN_ROWS = 50
PCA_FIRST_ABOVE_ROWS = 15_000
PCA_FIRST_DIMENSIONS = 50
PCA_FIT_ROWS = 20_000
SAMPLE_ABOVE_ROWS = 100_000
SAMPLE_ROWS = 50_000
PLACE_NEIGHBOURS = 5
# 500 x 50,000 float32 distances are 100 MB.
PLACE_BLOCK_ROWS = 500
CACHED_PROJECTIONS = 16

_log = logging.getLogger(__name__)
_cache: OrderedDict[bytes, Projection] = OrderedDict()
_cache_lock = Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Points (n, 2) in the order of the vectors, and in words how they were made."""

    points: Floats
    method: Method
    how: str


def project(
    matrix: Floats,
    *,
    method: Method = "umap",
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Metric = "cosine",
    random_state: int | None = 42,
) -> Projection:
    """Points for the vectors of a finite float32 matrix (n, d); equal vectors get equal points.

    Deterministic for one ``random_state``. The same vectors with the same parameters are answered from memory, so that
    a map is coloured again at once.
    """
    _check(method, n_neighbors, min_dist, metric)
    digests = [hashlib.blake2b(row.data, digest_size=16).digest() for row in np.ascontiguousarray(matrix)]
    asked = f"{matrix.shape} {method} {n_neighbors} {min_dist} {metric} {random_state}"
    key = hashlib.blake2b(b"".join(digests) + asked.encode()).digest()
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    first: dict[bytes, int] = {}
    place = np.fromiter((first.setdefault(digest, len(first)) for digest in digests), np.intp, len(digests))
    _, where = np.unique(place, return_index=True)
    distinct = matrix if len(first) == len(matrix) else matrix[where]
    found = _lay_out(distinct, method, n_neighbors, min_dist, metric, random_state)
    points = np.ascontiguousarray(found.points[place])
    points.flags.writeable = False
    equal = len(matrix) - len(distinct)
    how = found.how + (f", {equal:,} rows lie on an equal one" if equal and len(distinct) > 1 else "")
    projection = Projection(points, found.method, how)
    if random_state is not None:
        with _cache_lock:
            _cache[key] = projection
            while len(_cache) > CACHED_PROJECTIONS:
                _cache.popitem(last=False)
    return projection


def pca(matrix: Floats, dimensions: int, *, seed: int | None = 42) -> tuple[Floats, NDArray[np.float64]]:
    """Coordinates (n, dimensions) on the principal axes, and the share of the variance on each axis.

    The largest loading of each axis is positive, so the sign does not depend on the machine. Axes that do not exist are
    zero. Above 20,000 rows the axes are fitted on a seeded sample of that many.
    """
    n, d = matrix.shape
    fit = matrix
    if n > PCA_FIT_ROWS:
        fit = matrix[np.sort(np.random.default_rng(seed).choice(n, PCA_FIT_ROWS, replace=False))]
    mean = fit.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = fit - mean
    # The smaller of the two Gram matrices has all that is needed: no SVD of n x d.
    wide = len(fit) < d
    values, columns = np.linalg.eigh((centred @ centred.T if wide else centred.T @ centred).astype(np.float64))
    values, columns = np.clip(values[::-1], 0, None), columns[:, ::-1]
    total = float(values.sum())
    kept = int((values[:dimensions] > 1e-9 * max(total, 1e-30)).sum())
    axes = columns[:, :kept]
    if wide:
        axes = centred.T.astype(np.float64) @ axes / np.sqrt(values[:kept])
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(kept)]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    coordinates = np.zeros((n, dimensions), dtype=np.float32)
    coordinates[:, :kept] = (matrix - mean) @ axes.astype(np.float32)
    shares = np.zeros(dimensions)
    shares[:kept] = values[:kept] / total if total else 0.0
    return coordinates, shares


def _check(method: str, n_neighbors: int, min_dist: float, metric: str) -> None:
    if method not in ("umap", "pca"):
        raise InputError(f'method is "umap" or "pca", not {method!r}.')
    if metric not in ("cosine", "euclidean"):
        raise InputError(f'metric is "cosine" or "euclidean", not {metric!r}.')
    if n_neighbors < 2:
        raise InputError(f"n_neighbors is at least 2, not {n_neighbors!r}.")
    if not 0 <= min_dist <= 1:
        raise InputError(f"min_dist lies between 0 and 1, not {min_dist!r}.")


def _lay_out(
    matrix: Floats, method: Method, n_neighbors: int, min_dist: float, metric: Metric, seed: int | None
) -> Projection:
    """The policy of the page, on different vectors."""
    n = len(matrix)
    if n < 2:
        return Projection(np.zeros((n, 2), np.float32), "pca", "all vectors are equal" if n else "no vectors")
    if metric == "cosine":
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        # On unit vectors the Euclidean order of neighbours is the cosine order; a vector of zeros stays at the origin.
        matrix = matrix / np.maximum(lengths, np.finfo(np.float32).tiny)
    if method == "pca" or n < UMAP_MIN_ROWS:
        points, shares = pca(matrix, 2, seed=seed)
        unit = " of unit vectors" if metric == "cosine" else ""
        few = f" (UMAP needs {UMAP_MIN_ROWS} different vectors)" if method == "umap" else ""
        return Projection(points, "pca", f"PCA{unit}, {shares.sum():.0%} of the variance{few}")
    n_neighbors = min(n_neighbors, n - 1)
    how = f"UMAP of {metric} distance, {n_neighbors} neighbours, min_dist {min_dist:g}, "
    how += "no seed" if seed is None else f"seed {seed}"
    if n > PCA_FIRST_ABOVE_ROWS and matrix.shape[1] > PCA_FIRST_DIMENSIONS:
        matrix, _ = pca(matrix, PCA_FIRST_DIMENSIONS, seed=seed)
        how += f", after PCA to {PCA_FIRST_DIMENSIONS} dimensions"
    if n <= SAMPLE_ABOVE_ROWS:
        return Projection(_umap(matrix, n_neighbors, min_dist, seed), "umap", how)
    chosen = np.zeros(n, dtype=np.bool_)
    chosen[np.random.default_rng(seed).choice(n, SAMPLE_ROWS, replace=False)] = True
    points = np.empty((n, 2), dtype=np.float32)
    points[chosen] = _umap(matrix[chosen], n_neighbors, min_dist, seed)
    points[~chosen] = place(matrix[~chosen], matrix[chosen], points[chosen])
    return Projection(points, "umap", f"{how}, laid out on a sample of {SAMPLE_ROWS:,}, the rest placed by neighbours")


def place(matrix: Floats, known: Floats, points: Floats, k: int = PLACE_NEIGHBOURS) -> Floats:
    """Points for vectors that were not laid out: the mean of their ``k`` nearest known ones, the nearer the heavier."""
    k = min(k, len(known))
    placed = np.empty((len(matrix), 2), dtype=np.float32)
    squares = np.einsum("ij,ij->i", known, known)
    for start in range(0, len(matrix), PLACE_BLOCK_ROWS):
        block = matrix[start : start + PLACE_BLOCK_ROWS]
        distances = squares - 2 * (block @ known.T) + np.einsum("ij,ij->i", block, block)[:, None]
        near = np.argpartition(distances, k - 1, axis=1)[:, :k]
        apart = np.sqrt(np.clip(np.take_along_axis(distances, near, axis=1), 0, None))
        weights = 1 / (apart + 1e-6)
        weights /= weights.sum(axis=1, keepdims=True)
        placed[start : start + len(block)] = np.einsum("ij,ijk->ik", weights, points[near])
    return placed


def _umap(matrix: Floats, n_neighbors: int, min_dist: float, seed: int | None) -> Floats:
    keep_compiled_code()
    with warnings.catch_warnings():
        # It warns of its own defaults (one thread under a seed, a graph in parts, its fallback from spectral
        # initialisation) and of its dependencies' renamed arguments.
        warnings.filterwarnings("ignore", module=r"(umap|pynndescent|sklearn|numba)(\.|$)")
        warnings.filterwarnings(
            "ignore", message=r"(?i).*(n_jobs|spectral|disconnected|not fully connected|tensorflow)"
        )
        try:
            if "umap" not in sys.modules:
                _log.info("Loading UMAP: the first map of a session compiles for 10 to 40 seconds.")
            from umap import UMAP
        except ImportError:
            raise MissingExtraError('A UMAP map (method="pca" works without it)', "plots") from None
        start: Any = "spectral"
        if len(matrix) < SPECTRAL_MIN_ROWS:
            # The spectral start fails on small graphs.
            start, _ = pca(matrix, 2)
            spread = float(np.ptp(start)) or 1.0
            start += np.random.default_rng(seed).normal(scale=1e-3 * spread, size=start.shape).astype(np.float32)
        layout = UMAP(
            n_neighbors=n_neighbors,
            min_dist=min_dist,
            metric="euclidean",
            random_state=seed,
            n_jobs=1 if seed is not None else -1,
            init=start,
        )
        points: Floats = np.asarray(layout.fit_transform(matrix), dtype=np.float32)
    return points


def keep_compiled_code() -> None:
    """Let numba keep what it compiles in the user's cache directory, also where site-packages is read-only."""
    if "NUMBA_CACHE_DIR" in os.environ or "numba" in sys.modules:
        return
    try:
        directory = _user_caches() / "skytells-nb" / "numba"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    os.environ["NUMBA_CACHE_DIR"] = str(directory)


def _user_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")

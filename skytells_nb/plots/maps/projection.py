"""Where the points of a map lie."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.maps.progress import StageCallback, quiet
from skytells_nb.plots.maps.umap_layout import umap_points
from skytells_nb.user_dirs import cache_dir
from skytells_nb.vectors.arrays import Floats
from skytells_nb.vectors.neighbors import place
from skytells_nb.vectors.pca import principal_axes

if TYPE_CHECKING:
    import pandas as pd


Method = Literal["umap", "pca"]


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Points (n, 2 or 3) in the order of the vectors, and in words how they were made."""

    points: Floats
    method: Method
    how: str


def given_points(frame: pd.DataFrame, coordinates: Any) -> tuple[NDArray[np.float64], str]:
    """Points (n, 2) at two columns of numbers, ``(x, y)``, and in words where.

    Raises InputError for columns that do not exist or hold something else, and for rows without finite numbers.

    >>> import pandas as pd
    >>> given_points(pd.DataFrame({"x": [1, 2], "y": [0.5, 0.0]}), ("x", "y"))[1]
    'at x and y'
    """
    import pandas as pd

    if not isinstance(coordinates, (tuple, list)) or len(coordinates) != 2:
        raise InputError(f"coordinates are the names of two columns, (x, y); found {coordinates!r}.")
    for name in coordinates:
        if name not in frame.columns or isinstance(frame[name], pd.DataFrame):
            raise InputError(f"There is no column {name!r}, or more than one; coordinates name one column each.")
    columns = [frame[name] for name in coordinates]
    x, y = coordinates
    if not all(pd.api.types.is_numeric_dtype(column.dtype) for column in columns):
        raise InputError(f"The columns {x!r} and {y!r} are to hold numbers.")
    found = np.column_stack([column.to_numpy(dtype=np.float64, na_value=np.nan) for column in columns])
    odd = int((~np.isfinite(found).all(axis=1)).sum())
    if odd:
        raise InputError(f"{odd:,} rows have no finite coordinates in {x!r} and {y!r}.")
    return found, f"at {x} and {y}"


IN_MEMORY = 16
ON_DISK = 64

_log = logging.getLogger(__name__)
_memory: OrderedDict[str, Projection] = OrderedDict()
_lock = Lock()


def load_cached(key: str) -> Projection | None:
    """The projection kept under a key."""
    with _lock:
        if key in _memory:
            _memory.move_to_end(key)
            return _memory[key]
    found = _read(key)
    if found is not None:
        _remember(key, found)
    return found


def store_cached(key: str, projection: Projection) -> None:
    """Keep a projection; what cannot be written is made again in the next process."""
    _remember(key, projection)
    folder = _folder()
    if folder is None or projection.method != "umap":
        return
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            np.savez(file, points=projection.points, method=projection.method, how=projection.how)
        os.replace(file.name, folder / f"{key}.npz")
        _prune(folder)
    except OSError as problem:
        _log.warning("A map was not kept in %s: %s", folder, problem)


def _remember(key: str, projection: Projection) -> None:
    with _lock:
        _memory[key] = projection
        while len(_memory) > IN_MEMORY:
            _memory.popitem(last=False)


def _read(key: str) -> Projection | None:
    folder = _folder()
    if folder is None:
        return None
    path = folder / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            points = np.ascontiguousarray(file["points"], dtype=np.float32)
            method, how = str(file["method"]), str(file["how"])
        os.utime(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        _log.warning("The map kept in %s cannot be read and is made again: %s", path, problem)
        return None
    points.flags.writeable = False
    return Projection(points, "umap" if method == "umap" else "pca", how)


def _prune(folder: Path) -> None:
    """Leave the maps that were used last, and no part of a file whose writer has died."""
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[ON_DISK:]:
        path.unlink(missing_ok=True)
    newest = files[0].stat().st_mtime if files else 0.0
    for path in folder.glob("*.part"):
        if path.stat().st_mtime < newest - 3600:
            path.unlink(missing_ok=True)


def _folder() -> Path | None:
    if os.environ.get("SKYTELLS_CACHE", "").strip().lower() == "off":
        return None
    try:
        return cache_dir() / "maps"
    except RuntimeError:
        # There is no home folder.
        return None


Metric = Literal["cosine", "euclidean"]
Dimensions = Literal[2, 3]

UMAP_MIN_ROWS = 4
PCA_FIRST_ABOVE_ROWS = 15_000
PCA_FIRST_DIMENSIONS = 50
SAMPLE_ABOVE_ROWS = 100_000
SAMPLE_ROWS = 50_000
KEY_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Asked:
    """The parameters that decide where points lie."""

    method: Method
    dimensions: Dimensions
    n_neighbors: int
    min_dist: float
    metric: Metric
    seed: int | None


def project(
    matrix: Floats,
    *,
    method: Method = "umap",
    dimensions: Dimensions = 2,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Metric = "cosine",
    random_state: int | None = 42,
    basis: Floats | None = None,
    tell: StageCallback = quiet,
) -> Projection:
    """Points for the vectors of a finite float32 matrix (n, d); equal vectors get equal points.

    Deterministic for one ``random_state``. The same vectors with the same parameters are answered from memory, and a
    UMAP layout from disk, so that a map is coloured again at once. ``basis`` (m, d) holds the vectors that are laid
    out, whether or not they are in the matrix: the others are placed among them and move none of them, on the same axes
    for PCA and at the weighted mean of their 5 nearest neighbours for UMAP (``neighbours.place`` says why). ``tell``
    hears of each stage of a long fit.

    >>> corners = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    >>> project(corners, method="pca").points.shape
    (3, 2)
    """
    asked = _Asked(method, dimensions, n_neighbors, min_dist, metric, random_state)
    _check(asked)
    if basis is not None:
        return _placed(matrix, basis, asked, tell)
    digests = _digests(matrix)
    key = _key(digests, matrix.shape, asked)
    kept = load_cached(key) if random_state is not None else None
    if kept is not None:
        return kept
    distinct, place_of = _distinct(matrix, digests)
    found = _lay_out(distinct, asked, tell)
    points = np.ascontiguousarray(found.points[place_of])
    points.flags.writeable = False
    equal = len(matrix) - len(distinct)
    how = found.how + (f", {equal:,} rows lie on an equal one" if equal and len(distinct) > 1 else "")
    projection = Projection(points, found.method, how)
    if random_state is not None:
        store_cached(key, projection)
    return projection


def unit_vectors(matrix: Floats, metric: str) -> Floats:
    """What is laid out for a metric: on unit vectors the Euclidean order of neighbours is the cosine order."""
    if metric != "cosine":
        return matrix
    # A vector of zeros stays at the origin.
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit: Floats = matrix / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _check(asked: _Asked) -> None:
    if asked.method not in ("umap", "pca"):
        raise InputError(f'method is "umap" or "pca", not {asked.method!r}.')
    if asked.metric not in ("cosine", "euclidean"):
        raise InputError(f'metric is "cosine" or "euclidean", not {asked.metric!r}.')
    if asked.dimensions not in (2, 3):
        raise InputError(f"dimensions is 2 or 3, not {asked.dimensions!r}.")
    if asked.n_neighbors < 2:
        raise InputError(f"n_neighbors is at least 2, not {asked.n_neighbors!r}.")
    if not 0 <= asked.min_dist <= 1:
        raise InputError(f"min_dist lies between 0 and 1, not {asked.min_dist!r}.")


def _digests(matrix: Floats) -> list[bytes]:
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in np.ascontiguousarray(matrix)]


def _key(digests: list[bytes], shape: tuple[int, ...], asked: _Asked) -> str:
    """The name of a projection: what went in, how, and which UMAP made it."""
    version = ""
    if asked.method == "umap":
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as version_of

        try:
            version = version_of("umap-learn")
        except PackageNotFoundError:
            version = "none"
    words = f"{KEY_VERSION} {shape} {asked} {version}"
    return hashlib.blake2b(b"".join(digests) + words.encode(), digest_size=20).hexdigest()


def _distinct(matrix: Floats, digests: list[bytes]) -> tuple[Floats, NDArray[np.intp]]:
    """The different vectors in the order of their first appearance, and for each row which of them it is."""
    first: dict[bytes, int] = {}
    place_of = np.fromiter((first.setdefault(digest, len(first)) for digest in digests), np.intp, len(digests))
    if len(first) == len(matrix):
        return matrix, place_of
    _, where = np.unique(place_of, return_index=True)
    return matrix[where], place_of


def _lay_out(matrix: Floats, asked: _Asked, tell: StageCallback) -> Projection:
    """The policy of the page, on different vectors."""
    n = len(matrix)
    if n < 2:
        words = "all vectors are equal" if n else "no vectors"
        return Projection(np.zeros((n, asked.dimensions), np.float32), "pca", words)
    matrix = unit_vectors(matrix, asked.metric)
    if asked.method == "pca" or n < UMAP_MIN_ROWS:
        axes = principal_axes(matrix, asked.dimensions, seed=asked.seed)
        unit = " of unit vectors" if asked.metric == "cosine" else ""
        few = f" (UMAP needs {UMAP_MIN_ROWS} different vectors)" if asked.method == "umap" else ""
        how = f"PCA{unit}, {axes.shares.sum():.0%} of the variance{few}"
        return Projection(axes.coordinates(matrix), "pca", how)
    asked = replace(asked, n_neighbors=min(asked.n_neighbors, n - 1))
    how = f"UMAP of {asked.metric} distance, {asked.n_neighbors} neighbours, min_dist {asked.min_dist:g}, "
    how += "no seed" if asked.seed is None else f"seed {asked.seed}"
    if n > PCA_FIRST_ABOVE_ROWS and matrix.shape[1] > PCA_FIRST_DIMENSIONS:
        matrix = principal_axes(matrix, PCA_FIRST_DIMENSIONS, seed=asked.seed).coordinates(matrix)
        how += f", after PCA to {PCA_FIRST_DIMENSIONS} dimensions"
    if n <= SAMPLE_ABOVE_ROWS:
        return Projection(_umap(matrix, asked, tell), "umap", how)
    chosen = np.zeros(n, dtype=np.bool_)
    chosen[np.random.default_rng(asked.seed).choice(n, SAMPLE_ROWS, replace=False)] = True
    points = np.empty((n, asked.dimensions), dtype=np.float32)
    points[chosen] = _umap(matrix[chosen], asked, tell)
    rest = n - SAMPLE_ROWS
    points[~chosen] = place(
        matrix[~chosen], matrix[chosen], points[chosen], tell=lambda done: tell("placing the rest", done, rest)
    )
    return Projection(points, "umap", f"{how}, laid out on a sample of {SAMPLE_ROWS:,}, the rest placed by neighbours")


def _umap(matrix: Floats, asked: _Asked, tell: StageCallback) -> Floats:
    return umap_points(
        matrix,
        dimensions=asked.dimensions,
        n_neighbors=asked.n_neighbors,
        min_dist=asked.min_dist,
        seed=asked.seed,
        tell=tell,
    )


def _placed(matrix: Floats, basis: Floats, asked: _Asked, tell: StageCallback) -> Projection:
    """Points on the map of the basis, which stays as it is."""
    if not len(basis):
        raise InputError("basis= holds no vector to place others among.")
    if len(matrix) and matrix.shape[1] != basis.shape[1]:
        raise InputError(
            f"The vectors have {matrix.shape[1]} dimensions and those of basis= have {basis.shape[1]}. "
            "Embed both with one model and one dimensions=."
        )
    laid_out = project(
        basis,
        method=asked.method,
        dimensions=asked.dimensions,
        n_neighbors=asked.n_neighbors,
        min_dist=asked.min_dist,
        metric=asked.metric,
        random_state=asked.seed,
        tell=tell,
    )
    basis_digests = _digests(basis)
    at = {digest: row for row, digest in enumerate(basis_digests)}
    known = np.array([at.get(digest, -1) for digest in _digests(matrix)], dtype=np.intp)
    new = known < 0
    points = np.ascontiguousarray(laid_out.points[known])
    if new.any():
        distinct, _ = _distinct(basis, basis_digests)
        vectors, fit = unit_vectors(matrix[new], asked.metric), unit_vectors(distinct, asked.metric)
        if laid_out.method == "pca":
            points[new] = principal_axes(fit, asked.dimensions, seed=asked.seed).coordinates(vectors)
        else:
            spots = laid_out.points[[at[digest] for digest in dict.fromkeys(basis_digests)]]
            count = int(new.sum())
            points[new] = place(vectors, fit, spots, tell=lambda done: tell("placing new rows", done, count))
    points.flags.writeable = False
    words = f", laid out on {len(basis):,} rows, {int(new.sum()):,} placed among them"
    return Projection(points, laid_out.method, laid_out.how + words)

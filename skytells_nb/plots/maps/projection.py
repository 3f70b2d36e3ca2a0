"""Projection of vectors to the points of a map, with a cache in memory and on disk."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections import OrderedDict
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.maps.progress import StageCallback, no_progress
from skytells_nb.plots.maps.umap_layout import umap_points
from skytells_nb.user_dirs import cache_dir, cache_is_off
from skytells_nb.vectors.arrays import Floats, unit_vectors
from skytells_nb.vectors.neighbors import interpolate_points
from skytells_nb.vectors.pca import principal_axes

if TYPE_CHECKING:
    import pandas as pd


Method = Literal["umap", "pca"]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Projection:
    """Points (n, 2 or 3) in the order of the vectors, with a description of the method."""

    points: Floats
    method: Method
    description: str


def points_from_columns(frame: pd.DataFrame, coordinates: Any) -> tuple[NDArray[np.float64], str]:
    """Points (n, 2) from two numeric columns ``(x, y)``, with a description.

    Raises InputError for columns that do not exist or are not numeric, and for rows without finite numbers.

    >>> import pandas as pd
    >>> points_from_columns(pd.DataFrame({"x": [1, 2], "y": [0.5, 0.0]}), ("x", "y"))[1]
    'at x and y'
    """
    import pandas as pd

    if not isinstance(coordinates, (tuple, list)) or len(coordinates) != 2:
        raise InputError(f"coordinates must be the names of two columns, (x, y), got {coordinates!r}.")
    for name in coordinates:
        if name not in frame.columns or isinstance(frame[name], pd.DataFrame):
            raise InputError(f"There is no column {name!r}, or more than one. coordinates= takes two column names.")
    columns = [frame[name] for name in coordinates]
    x, y = coordinates
    if not all(pd.api.types.is_numeric_dtype(column.dtype) for column in columns):
        raise InputError(f"The columns of coordinates=, {x!r} and {y!r}, must be numeric.")
    points = np.column_stack([column.to_numpy(dtype=np.float64, na_value=np.nan) for column in columns])
    invalid = int((~np.isfinite(points).all(axis=1)).sum())
    if invalid:
        raise InputError(f"{invalid:,} rows have no finite coordinates in {x!r} and {y!r}. Drop or fill them first.")
    return points, f"at {x} and {y}"


MAX_IN_MEMORY = 16
MAX_ON_DISK = 64

_log = logging.getLogger(__name__)
_memory: OrderedDict[str, Projection] = OrderedDict()
_lock = Lock()


def load_cached(key: str) -> Projection | None:
    """The cached projection of a key, or None."""
    with _lock:
        if key in _memory:
            _memory.move_to_end(key)
            return _memory[key]
    projection = _load_from_disk(key)
    if projection is not None:
        _store_in_memory(key, projection)
    return projection


def store_cached(key: str, projection: Projection) -> None:
    """Cache a projection; if it cannot be written to disk, the next process computes it again."""
    _store_in_memory(key, projection)
    folder = _cache_folder()
    if folder is None or projection.method != "umap":
        return
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            np.savez(file, points=projection.points, method=projection.method, description=projection.description)
        os.replace(file.name, folder / f"{key}.npz")
        _prune_folder(folder)
    except OSError as error:
        _log.warning("A map could not be cached in %s: %s", folder, error)


def _store_in_memory(key: str, projection: Projection) -> None:
    with _lock:
        _memory[key] = projection
        while len(_memory) > MAX_IN_MEMORY:
            _memory.popitem(last=False)


def _load_from_disk(key: str) -> Projection | None:
    folder = _cache_folder()
    if folder is None:
        return None
    path = folder / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            points = np.ascontiguousarray(file["points"], dtype=np.float32)
            method, description = str(file["method"]), str(file["description"])
        os.utime(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("The map cached in %s cannot be read and is computed again: %s", path, error)
        return None
    points.flags.writeable = False
    return Projection(points, "umap" if method == "umap" else "pca", description)


def _prune_folder(folder: Path) -> None:
    """Delete all but the most recently used maps, and partial files of processes that died."""
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[MAX_ON_DISK:]:
        path.unlink(missing_ok=True)
    newest = files[0].stat().st_mtime if files else 0.0
    for path in folder.glob("*.part"):
        if path.stat().st_mtime < newest - 3600:
            path.unlink(missing_ok=True)


def _cache_folder() -> Path | None:
    if cache_is_off():
        return None
    try:
        return cache_dir() / "maps"
    except RuntimeError:
        # The home directory is unknown.
        return None


Metric = Literal["cosine", "euclidean"]
Dimensions = Literal[2, 3]

UMAP_MIN_ROWS = 4
PCA_FIRST_ABOVE_ROWS = 15_000
PCA_FIRST_DIMENSIONS = 50
SAMPLE_ABOVE_ROWS = 100_000
SAMPLE_ROWS = 50_000
KEY_VERSION = 2


@dataclass(frozen=True, slots=True)
class _LayoutParameters:
    """The parameters that determine the points."""

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
    on_progress: StageCallback = no_progress,
) -> Projection:
    """Project the vectors of a finite float32 matrix (n, d) to points; equal vectors get equal points.

    The result is deterministic for one ``random_state``. Projections are cached in memory, and UMAP layouts on disk as
    well, so that the same map in other colors is fast. ``basis`` (m, d) holds the vectors that are laid out, whether or
    not they are in the matrix: other vectors are placed among them without moving them, on the same axes for PCA and at
    the weighted mean of their 5 nearest neighbors for UMAP (see ``vectors.neighbors``). ``on_progress`` is called with
    the stages of a long layout.

    >>> corners = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    >>> project(corners, method="pca").points.shape
    (3, 2)
    """
    parameters = _LayoutParameters(method, dimensions, n_neighbors, min_dist, metric, random_state)
    _check_parameters(parameters)
    if basis is not None:
        return _place_on_basis(matrix, basis, parameters, on_progress)
    digests = _hash_rows(matrix)
    key = _cache_key(digests, matrix.shape, parameters)
    cached = load_cached(key) if random_state is not None else None
    if cached is not None:
        return cached
    unique, indices = _unique_rows(matrix, digests)
    layout = _compute_layout(unique, parameters, on_progress)
    points = np.ascontiguousarray(layout.points[indices])
    points.flags.writeable = False
    duplicates = len(matrix) - len(unique)
    note = f", {duplicates:,} duplicate vectors" if duplicates and len(unique) > 1 else ""
    projection = Projection(points, layout.method, layout.description + note)
    if random_state is not None:
        store_cached(key, projection)
    return projection


def scale_for_metric(matrix: Floats, metric: str) -> Floats:
    """Return unit vectors for the cosine metric: their Euclidean order is the cosine order."""
    return unit_vectors(matrix) if metric == "cosine" else matrix


def _check_parameters(parameters: _LayoutParameters) -> None:
    if parameters.method not in ("umap", "pca"):
        raise InputError(f'method must be "umap" or "pca", got {parameters.method!r}.')
    if parameters.metric not in ("cosine", "euclidean"):
        raise InputError(f'metric must be "cosine" or "euclidean", got {parameters.metric!r}.')
    if parameters.dimensions not in (2, 3):
        raise InputError(f"dimensions must be 2 or 3, got {parameters.dimensions!r}.")
    if parameters.n_neighbors < 2:
        raise InputError(f"n_neighbors must be at least 2, got {parameters.n_neighbors!r}.")
    if not 0 <= parameters.min_dist <= 1:
        raise InputError(f"min_dist must be between 0 and 1, got {parameters.min_dist!r}.")


def _hash_rows(matrix: Floats) -> list[bytes]:
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in np.ascontiguousarray(matrix)]


def _cache_key(digests: list[bytes], shape: tuple[int, ...], parameters: _LayoutParameters) -> str:
    """The cache key of a projection: the vectors, the parameters and the version of UMAP."""
    version = ""
    if parameters.method == "umap":
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as version_of

        try:
            version = version_of("umap-learn")
        except PackageNotFoundError:
            version = "none"
    settings = f"{KEY_VERSION} {shape} {astuple(parameters)} {version}"
    return hashlib.blake2b(b"".join(digests) + settings.encode(), digest_size=20).hexdigest()


def _unique_rows(matrix: Floats, digests: list[bytes]) -> tuple[Floats, NDArray[np.intp]]:
    """The distinct vectors in order of first appearance, and for each row the index of its vector."""
    first: dict[bytes, int] = {}
    indices = np.fromiter((first.setdefault(digest, len(first)) for digest in digests), np.intp, len(digests))
    if len(first) == len(matrix):
        return matrix, indices
    _, first_rows = np.unique(indices, return_index=True)
    return matrix[first_rows], indices


def _compute_layout(matrix: Floats, parameters: _LayoutParameters, on_progress: StageCallback) -> Projection:
    """Lay out distinct vectors: by PCA if there are few, by UMAP of a sample if there are very many."""
    n = len(matrix)
    if n < 2:
        description = "all vectors are equal" if n else "no vectors"
        return Projection(np.zeros((n, parameters.dimensions), np.float32), "pca", description)
    matrix = scale_for_metric(matrix, parameters.metric)
    if parameters.method == "pca" or n < UMAP_MIN_ROWS:
        axes = principal_axes(matrix, parameters.dimensions, seed=parameters.seed)
        unit = " of unit vectors" if parameters.metric == "cosine" else ""
        note = f" (UMAP needs {UMAP_MIN_ROWS} distinct vectors)" if parameters.method == "umap" else ""
        description = f"PCA{unit}, {axes.shares.sum():.0%} of the variance{note}"
        return Projection(axes.coordinates(matrix), "pca", description)
    parameters = replace(parameters, n_neighbors=min(parameters.n_neighbors, n - 1))
    description = f"UMAP of {parameters.metric} distance, {parameters.n_neighbors} neighbors, "
    description += f"min_dist {parameters.min_dist:g}, "
    description += "no seed" if parameters.seed is None else f"seed {parameters.seed}"
    if n > PCA_FIRST_ABOVE_ROWS and matrix.shape[1] > PCA_FIRST_DIMENSIONS:
        matrix = principal_axes(matrix, PCA_FIRST_DIMENSIONS, seed=parameters.seed).coordinates(matrix)
        description += f", after PCA to {PCA_FIRST_DIMENSIONS} dimensions"
    if n <= SAMPLE_ABOVE_ROWS:
        return Projection(_compute_umap(matrix, parameters, on_progress), "umap", description)
    sampled = np.zeros(n, dtype=np.bool_)
    sampled[np.random.default_rng(parameters.seed).choice(n, SAMPLE_ROWS, replace=False)] = True
    points = np.empty((n, parameters.dimensions), dtype=np.float32)
    points[sampled] = _compute_umap(matrix[sampled], parameters, on_progress)
    rest = n - SAMPLE_ROWS
    points[~sampled] = interpolate_points(
        matrix[~sampled],
        matrix[sampled],
        points[sampled],
        on_progress=lambda done: on_progress("placing the rest", done, rest),
    )
    description += f", laid out on a sample of {SAMPLE_ROWS:,}, the rest placed by their neighbors"
    return Projection(points, "umap", description)


def _compute_umap(matrix: Floats, parameters: _LayoutParameters, on_progress: StageCallback) -> Floats:
    return umap_points(
        matrix,
        dimensions=parameters.dimensions,
        n_neighbors=parameters.n_neighbors,
        min_dist=parameters.min_dist,
        seed=parameters.seed,
        on_progress=on_progress,
    )


def _place_on_basis(
    matrix: Floats, basis: Floats, parameters: _LayoutParameters, on_progress: StageCallback
) -> Projection:
    """Place vectors on the map of the basis without moving its points."""
    if not len(basis):
        raise InputError("basis= has no vectors. Pass a frame with embeddings.")
    if len(matrix) and matrix.shape[1] != basis.shape[1]:
        raise InputError(
            f"The vectors have {matrix.shape[1]} dimensions, but those of basis= have {basis.shape[1]}. "
            "Embed both with the same model and the same dimensions=."
        )
    laid_out = project(
        basis,
        method=parameters.method,
        dimensions=parameters.dimensions,
        n_neighbors=parameters.n_neighbors,
        min_dist=parameters.min_dist,
        metric=parameters.metric,
        random_state=parameters.seed,
        on_progress=on_progress,
    )
    basis_digests = _hash_rows(basis)
    row_of = {digest: row for row, digest in enumerate(basis_digests)}
    basis_rows = np.array([row_of.get(digest, -1) for digest in _hash_rows(matrix)], dtype=np.intp)
    is_new = basis_rows < 0
    points = np.ascontiguousarray(laid_out.points[basis_rows])
    if is_new.any():
        unique, _ = _unique_rows(basis, basis_digests)
        vectors = scale_for_metric(matrix[is_new], parameters.metric)
        basis_vectors = scale_for_metric(unique, parameters.metric)
        if laid_out.method == "pca":
            axes = principal_axes(basis_vectors, parameters.dimensions, seed=parameters.seed)
            points[is_new] = axes.coordinates(vectors)
        else:
            basis_points = laid_out.points[[row_of[digest] for digest in dict.fromkeys(basis_digests)]]
            count = int(is_new.sum())
            points[is_new] = interpolate_points(
                vectors,
                basis_vectors,
                basis_points,
                on_progress=lambda done: on_progress("placing new rows", done, count),
            )
    points.flags.writeable = False
    note = f", laid out on {len(basis):,} rows, {int(is_new.sum()):,} placed among them"
    return Projection(points, laid_out.method, laid_out.description + note)

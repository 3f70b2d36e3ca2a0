"""UMAP called so that the first map of a process comes soon, the same each time, and says how far it is."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import MissingExtraError
from skytells_nb.plots.maps.progress import StageCallback
from skytells_nb.user_dirs import user_cache_dir
from skytells_nb.vectors.neighbors import nearest_by_distance
from skytells_nb.vectors.pca import principal_axes

Floats = NDArray[np.float32]

SPECTRAL_MIN_ROWS = 50
EXACT_NEIGHBOURS_UP_TO_ROWS = 15_000

_log = logging.getLogger(__name__)
_bar_lock = Lock()


def umap_points(
    matrix: Floats, *, dimensions: int, n_neighbors: int, min_dist: float, seed: int | None, tell: StageCallback
) -> Floats:
    """UMAP's points (n, dimensions) for at least 4 different vectors, by Euclidean distance."""
    keep_compiled_code()
    with warnings.catch_warnings():
        # It warns of its own defaults (one thread under a seed, a graph in parts, its fallback from spectral
        # initialisation, neighbours without a search index) and of its dependencies' renamed arguments.
        warnings.filterwarnings("ignore", module=r"(umap|pynndescent|sklearn|numba)(\.|$)")
        warnings.filterwarnings(
            "ignore", message=r"(?i).*(n_jobs|spectral|disconnected|not fully connected|tensorflow|precomputed_knn)"
        )
        umap = _loaded(tell)
        knn: tuple[Any, ...] = (None, None, None)
        if len(matrix) <= EXACT_NEIGHBOURS_UP_TO_ROWS:
            # Exact neighbours cost a few seconds; compiling UMAP's own search costs some thirty in every process.
            stage = partial(tell, "finding neighbours")
            knn = (
                *nearest_by_distance(matrix, matrix, n_neighbors, own=True, tell=lambda n: stage(n, len(matrix))),
                None,
            )
        else:
            tell("finding neighbours", 0, 0)
        start: Any = "spectral"
        if len(matrix) < SPECTRAL_MIN_ROWS or len(matrix) <= dimensions + 1:
            # The spectral start fails on small graphs.
            start = principal_axes(matrix, dimensions).coordinates(matrix)
            spread = float(np.ptp(start)) or 1.0
            start += np.random.default_rng(seed).normal(scale=1e-3 * spread, size=start.shape).astype(np.float32)
        layout = umap.UMAP(
            n_neighbors=n_neighbors,
            n_components=dimensions,
            min_dist=min_dist,
            metric="euclidean",
            random_state=seed,
            n_jobs=1 if seed is not None else -1,
            init=start,
            precomputed_knn=knn,
        )
        if knn[0] is not None:
            tell("compiling", 0, 0)
        with _epochs_told(umap.layouts, tell):
            points: Floats = np.asarray(layout.fit_transform(matrix), dtype=np.float32)
    return points


def _loaded(tell: StageCallback) -> Any:
    if "umap" not in sys.modules:
        tell("loading UMAP", 0, 0)
        _log.info("Loading UMAP: the first map of a process compiles for 10 to 40 seconds.")
    try:
        import umap
        import umap.layouts
    except ImportError:
        raise MissingExtraError('A UMAP map (method="pca" works without it)', "plots") from None
    return umap


@contextmanager
def _epochs_told(layouts: Any, tell: StageCallback) -> Iterator[None]:
    """Hear of UMAP's epochs: it has no callback, only the bar that it iterates over."""
    bar = getattr(layouts, "tqdm", None)
    if bar is None or not _bar_lock.acquire(blocking=False):
        yield
        return

    def told(epochs: Any, **settings: Any) -> Iterator[Any]:
        for epoch in bar(epochs, **settings):
            tell("laying out", epoch, len(epochs))
            yield epoch

    layouts.tqdm = told
    try:
        yield
    finally:
        layouts.tqdm = bar
        _bar_lock.release()


def keep_compiled_code() -> None:
    """Let numba keep what it compiles in the user's cache directory, also where site-packages is read-only."""
    if "NUMBA_CACHE_DIR" in os.environ or "numba" in sys.modules:
        return
    try:
        directory = user_cache_dir() / "numba"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    os.environ["NUMBA_CACHE_DIR"] = str(directory)

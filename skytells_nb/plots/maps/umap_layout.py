"""Layouts by UMAP: a fast first map of a process, reproducible, with progress."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from skytells_nb.errors import MissingExtraError
from skytells_nb.plots.maps.progress import StageCallback, no_progress
from skytells_nb.user_dirs import user_cache_dir
from skytells_nb.vectors.arrays import Floats
from skytells_nb.vectors.neighbors import nearest_by_distance
from skytells_nb.vectors.pca import principal_axes

SPECTRAL_MIN_ROWS = 50
EXACT_NEIGHBORS_MAX_ROWS = 15_000

_log = logging.getLogger(__name__)
_tqdm_lock = Lock()


def umap_points(
    matrix: Floats, *, dimensions: int, n_neighbors: int, min_dist: float, seed: int | None, on_progress: StageCallback
) -> Floats:
    """UMAP's points (n, dimensions) for at least 4 different vectors, by Euclidean distance."""
    set_numba_cache_dir()
    with without_umap_warnings():
        umap = _import_umap(on_progress)
        knn: tuple[Any, ...] = (None, None, None)
        if len(matrix) <= EXACT_NEIGHBORS_MAX_ROWS:
            # Exact neighbors take a few seconds; compiling UMAP's own search takes about thirty in every process.
            report = partial(on_progress, "finding neighbors")
            nearest = nearest_by_distance(
                matrix, matrix, n_neighbors, self_first=True, on_progress=lambda done: report(done, len(matrix))
            )
            knn = (*nearest, None)
        else:
            on_progress("finding neighbors", 0, 0)
        init: Any = "spectral"
        if len(matrix) < SPECTRAL_MIN_ROWS or len(matrix) <= dimensions + 1:
            # Spectral initialization fails for small graphs.
            init = principal_axes(matrix, dimensions).coordinates(matrix)
            spread = float(np.ptp(init)) or 1.0
            init += np.random.default_rng(seed).normal(scale=1e-3 * spread, size=init.shape).astype(np.float32)
        layout = umap.UMAP(
            n_neighbors=n_neighbors,
            n_components=dimensions,
            min_dist=min_dist,
            metric="euclidean",
            random_state=seed,
            n_jobs=1 if seed is not None else -1,
            init=init,
            precomputed_knn=knn,
        )
        if knn[0] is not None:
            on_progress("compiling", 0, 0)
        with _report_epochs(umap.layouts, on_progress):
            points: Floats = np.asarray(layout.fit_transform(matrix), dtype=np.float32)
    return points


@contextmanager
def without_umap_warnings() -> Iterator[None]:
    """Silence warnings of UMAP's own defaults, of renamed arguments of its dependencies and of numba's cache.

    The defaults: one thread with a seed, a graph in several parts, neighbors without a search index.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(umap|pynndescent|sklearn|numba)(\.|$)")
        # Numba names the file and not the module, and a few functions cannot be cached.
        own = "n_jobs|spectral|disconnected|not fully connected|tensorflow|precomputed_knn|cannot cache compiled"
        warnings.filterwarnings("ignore", message=f"(?i).*({own})")
        yield


def _import_umap(on_progress: StageCallback) -> Any:
    if "umap" not in sys.modules:
        on_progress("loading UMAP", 0, 0)
        _log.info("Loading UMAP: the first map on a machine takes half a minute to compile.")
    try:
        import umap
        import umap.layouts
    except ImportError:
        raise MissingExtraError('A UMAP map (method="pca" works without it)', "plots") from None
    _cache_compiled_code()
    return umap


def compile_umap(on_progress: StageCallback = no_progress) -> bool:
    """Compile UMAP for the maps of later processes; return False if that was done before, or without UMAP."""
    if find_spec("umap") is None:
        return False
    set_numba_cache_dir()
    directory = _code_dir()
    if directory is not None and any(directory.rglob("*.nbc")):
        return False
    matrix = np.random.default_rng(0).standard_normal((SPECTRAL_MIN_ROWS * 4, 16)).astype(np.float32)
    umap_points(matrix, dimensions=2, n_neighbors=15, min_dist=0.1, seed=42, on_progress=on_progress)
    return True


def _cache_compiled_code() -> None:
    """Let numba store what it compiles of UMAP: nearly none of its functions asks for it, and each process starts over.

    First map of 1,500 × 64 with a full cache, import included: 4.0 s of CPU, 8.9 + 1.8 s without; 3.4 MB of cache. The
    points are the same.
    """
    directory = _code_dir()
    if directory is None:
        return
    from numba.core.caching import NullCache
    from numba.core.dispatcher import Dispatcher

    # Incompletely typed: its settings are made at import.
    config: Any = import_module("numba.core.config")
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory)
    try:
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] not in ("umap", "pynndescent") or module is None:
                continue
            for function in list(vars(module).values()):
                if isinstance(function, Dispatcher) and isinstance(getattr(function, "_cache", None), NullCache):
                    function.enable_caching()
    except (OSError, RuntimeError) as error:
        _log.info("Compiled code is not cached: %s", error)
    finally:
        config.CACHE_DIR = before


def _code_dir() -> Path | None:
    """Return the folder for code of these versions; code inlines functions of other files, whose age is not checked."""
    parent = os.environ.get("NUMBA_CACHE_DIR")
    try:
        # Numba may have been imported by others, before the variable was set.
        directory = Path(parent) if parent else user_cache_dir() / "numba"
    except RuntimeError:
        return None
    versions = "-".join(version(name) for name in ("umap-learn", "pynndescent", "numba", "numpy"))
    return directory / f"umap-{versions}"


@contextmanager
def _report_epochs(layouts: Any, on_progress: StageCallback) -> Iterator[None]:
    """Report the epochs of UMAP, which has no callback, through the progress bar that it iterates over."""
    progress_bar = getattr(layouts, "tqdm", None)
    if progress_bar is None or not _tqdm_lock.acquire(blocking=False):
        yield
        return

    def reporting_bar(epochs: Any, **settings: Any) -> Iterator[Any]:
        for epoch in progress_bar(epochs, **settings):
            on_progress("laying out", epoch, len(epochs))
            yield epoch

    layouts.tqdm = reporting_bar
    try:
        yield
    finally:
        layouts.tqdm = progress_bar
        _tqdm_lock.release()


def set_numba_cache_dir() -> None:
    """Let numba cache compiled code in the user's cache directory, as site-packages may be read-only."""
    if "NUMBA_CACHE_DIR" in os.environ or "numba" in sys.modules:
        return
    try:
        directory = user_cache_dir() / "numba"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    os.environ["NUMBA_CACHE_DIR"] = str(directory)

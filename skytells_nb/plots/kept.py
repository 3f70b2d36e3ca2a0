"""Projections that were made before: in memory for this process, and UMAP's on disk for the next one.

On disk lie points and the words about them, under a digest of the vectors: neither vectors nor texts. The folder is
``maps`` in ``SKYTELLS_CACHE_DIR`` or in the user's cache; ``SKYTELLS_CACHE=off`` leaves it alone.
"""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock

import numpy as np

from skytells_nb.plots.projection import Projection
from skytells_nb.user_dirs import cache_dir

IN_MEMORY = 16
ON_DISK = 64

_log = logging.getLogger(__name__)
_memory: OrderedDict[str, Projection] = OrderedDict()
_lock = Lock()


def recall(key: str) -> Projection | None:
    """The projection kept under a key."""
    with _lock:
        if key in _memory:
            _memory.move_to_end(key)
            return _memory[key]
    found = _read(key)
    if found is not None:
        _remember(key, found)
    return found


def keep(key: str, projection: Projection) -> None:
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

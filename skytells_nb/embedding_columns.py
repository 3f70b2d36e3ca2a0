"""The unit vectors of a column of embeddings, prepared once for search, dedupe, clusters, maps and the explorer."""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.columns import column_of, to_matrix
from skytells_nb.errors import InputError
from skytells_nb.progress.events import StepCallback, no_step
from skytells_nb.vectors.arrays import Floats, Indices, unit_vectors


@dataclass(frozen=True)
class UnitVectors:
    """Vectors of length one, float32 (m, d), and the positions (m,) of the rows that have them.

    A vector of zeros stays one: it has no direction, and a cosine of 0 with everything. Do not write to the matrix: it
    may be that of the column.
    """

    matrix: Floats
    rows: Indices

    @classmethod
    def of(
        cls,
        series: pd.Series[Any],
        on_progress: StepCallback = no_step,
        nonfinite: Literal["raise", "missing"] = "raise",
    ) -> UnitVectors:
        """Return the vectors of a column of embeddings; raise InputError for a column of anything else."""
        matrix, valid = to_matrix(series, nonfinite=nonfinite, on_progress=on_progress)
        return cls(unit_vectors(matrix), np.flatnonzero(valid).astype(np.int64))

    @classmethod
    def none(cls) -> UnitVectors:
        return cls(np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.matrix)


class _Prepared:
    """The unit vectors of a column, and its cells as they were when these were made."""

    __slots__ = ("__weakref__", "_cells", "_identities", "vectors")

    def __init__(self, cells: NDArray[Any], vectors: UnitVectors) -> None:
        # A copy, which keeps the cells alive, so that no other object gets the address of one.
        self._cells = cells.copy()
        self._identities = _identities(self._cells)
        self.vectors = vectors

    def is_of(self, identities: NDArray[np.intp]) -> bool:
        """Whether these are the identities of the cells, all of the same objects in the same order."""
        return np.array_equal(self._identities, identities)


_of_frames: dict[int, tuple[weakref.ref[pd.DataFrame], dict[Any, _Prepared]]] = {}
"""By the identity of a frame, as long as it lives, what was prepared of its columns."""
_of_cells: weakref.WeakValueDictionary[int, _Prepared] = weakref.WeakValueDictionary()
"""By the identities of its cells, what was prepared of a column, for other frames with the same cells."""


def unit_vectors_of(
    frame: pd.DataFrame,
    name: Any,
    on_progress: StepCallback = no_step,
    nonfinite: Literal["raise", "missing"] = "raise",
) -> UnitVectors:
    """Return the unit vectors of a column of embeddings.

    They are kept as long as the frame lives, also for other frames with the same cells, unless cells may change in
    place. Raises InputError if the column does not exist or holds anything else; a vector with NaN or an infinite
    number is ``"missing"`` where that is passed. ``on_progress`` is called with the number of vectors that are copied,
    and of all.
    """
    series = column_of(frame, name)
    known = known_unit_vectors(frame, name)
    if known is not None:
        return known
    vectors = UnitVectors.of(series, on_progress, nonfinite)
    if nonfinite == "missing" and len(vectors) < int(series.notna().sum()):
        # Not kept: for others these cells are an error.
        return vectors
    cells = _cells(series)
    if len(vectors) and (isinstance(series.dtype, pd.ArrowDtype) or not any(map(_may_change, cells.tolist()))):
        _keep(frame, name, _Prepared(cells, vectors), _identities(cells))
    return vectors


def known_unit_vectors(frame: pd.DataFrame, name: Any) -> UnitVectors | None:
    """Return what an earlier call prepared of these cells, in this frame or another; ``None`` if there is nothing."""
    series = column_of(frame, name)
    if not _of_cells or not (series.dtype == object or isinstance(series.dtype, pd.ArrowDtype)):
        return None
    identities = _identities(_cells(series))
    entry = _of_frames.get(id(frame))
    kept = entry[1].get(name) if entry is not None and entry[0]() is frame else None
    if kept is not None and kept.is_of(identities):
        return kept.vectors
    shared = _of_cells.get(_key_of(identities))
    if shared is None or not shared.is_of(identities):
        return None
    _keep(frame, name, shared, identities)
    return shared.vectors


def _keep(frame: pd.DataFrame, name: Any, prepared: _Prepared, identities: NDArray[np.intp]) -> None:
    key = id(frame)
    entry = _of_frames.get(key)
    if entry is None or entry[0]() is not frame:
        entry = _of_frames[key] = (weakref.ref(frame, lambda _: _of_frames.pop(key, None)), {})
    entry[1][name] = prepared
    _of_cells[_key_of(identities)] = prepared


def _cells(series: pd.Series[Any]) -> NDArray[Any]:
    """Return the objects of which a column consists: its cells, or the one immutable array of an Arrow column."""
    if isinstance(series.dtype, pd.ArrowDtype):
        cells = np.empty(1, dtype=object)
        cells[0] = series.array.__arrow_array__()
        return cells
    return series.to_numpy()


class _Addresses:
    """The memory of an array of objects, as numbers."""

    def __init__(self, cells: NDArray[Any]) -> None:
        self.cells = cells
        form = {"typestr": np.dtype(np.intp).str, "descr": [("", np.dtype(np.intp).str)]}
        self.__array_interface__ = {**cells.__array_interface__, **form}


def _identities(cells: NDArray[Any]) -> NDArray[np.intp]:
    """Return the ``id`` of each object, which is its address in memory, as the array holds it."""
    return np.asarray(_Addresses(cells))


def _key_of(identities: NDArray[np.intp]) -> int:
    """Return a number that columns of the same cells share; others may share it too."""
    return int(np.bitwise_xor.reduce(identities)) if len(identities) else 0


def _may_change(cell: Any) -> bool:
    """Whether a cell that is not missing could be written to."""
    if isinstance(cell, np.ndarray):
        return cell.flags.writeable
    return not (cell is None or cell is pd.NA or isinstance(cell, float))


_HASHED_ROWS = 1_000


def frame_hash(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of a frame, a few rows at a time: as text its vectors would take several times the memory."""
    digest = hashlib.sha256("\x1f".join(map(str, frame.columns)).encode("utf-8", "surrogatepass"))
    for start in range(0, max(1, len(frame)), _HASHED_ROWS):
        part = frame.iloc[start : start + _HASHED_ROWS]
        plain = []
        for at in range(part.shape[1]):
            try:
                matrix, valid = to_matrix(part.iloc[:, at])
            except InputError:
                plain.append(at)
            else:
                digest.update(valid.tobytes() + matrix.tobytes())
        text = part.iloc[:, plain].to_json(orient="split", index=False, default_handler=str)
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()

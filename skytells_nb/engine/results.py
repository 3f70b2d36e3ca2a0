"""Results by number of distinct input: completions as the cache stores them, vectors in one matrix or one file."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from skytells_nb.engine.planning import Plan
from skytells_nb.engine.report import Report
from skytells_nb.errors import InvalidResponseError, ScratchFileError

Values: TypeAlias = Sequence[bytes | None] | NDArray[np.float32]
"""Results as bytes, ``None`` for a missing one; or vectors, float32 (m, d)."""


class ResultBuffer(Protocol):
    """Results of the inputs 0 … n-1 of a run; several threads may put different ones at once."""

    filled: NDArray[np.bool_]
    """Which inputs have a result, (n,)."""

    def put(self, numbers: NDArray[np.int64], values: Values) -> None:
        """Take these results; none of ``values`` is ``None``."""
        ...


class CompletionFormat(Protocol):
    """How completions are stored: in two parts, of which many completions share the second."""

    def split(self, value: bytes) -> tuple[bytes, bytes]:
        """Return both parts of a completion as the cache stores it."""
        ...

    def join(self, own: bytes, shared: bytes) -> bytes:
        """Return the completion as the cache stores it."""
        ...

    def dump(self, completion: Any) -> bytes:
        """Return a parsed completion as the cache stores it."""
        ...


class CompletionBuffer:
    """Completions, as the cache stores them; what many of them share is in memory once.

    Once they are read, their bytes are gone.
    """

    def __init__(self, count: int, layout: CompletionFormat) -> None:
        self.filled = np.zeros(count, dtype=np.bool_)
        self._layout = layout
        self._own: list[bytes | None] = [None] * count
        self._shared: list[bytes] = [b""] * count
        self._known: dict[bytes, bytes] = {}
        self._completions: list[Any] | None = None

    def put(self, numbers: NDArray[np.int64], values: Values) -> None:
        for number, value in zip(numbers.tolist(), values, strict=True):
            own, shared = self._layout.split(cast(bytes, value))
            self._own[number] = own
            self._shared[number] = self._known.setdefault(shared, shared)
        self.filled[numbers] = True

    def values(self, has_result: NDArray[np.bool_]) -> list[bytes | None]:
        """Return those of these inputs as the cache stores them, ``None`` for the others."""
        if self._completions is not None:
            return [None if c is None else self._layout.dump(c) for c in self._completions]
        parts = zip(self._own, self._shared, has_result.tolist(), strict=True)
        return [self._layout.join(own, shared) if there and own is not None else None for own, shared, there in parts]

    def read(self, has_result: NDArray[np.bool_], parse: Callable[[bytes, bytes], Any]) -> list[Any]:
        """Return those of these inputs as ``parse`` makes them of both parts, ``None`` for the others; parsed once."""
        if self._completions is None:
            # What a thread that was left behind puts after an interrupt is not of this run any more.
            own, self._own = self._own, [None] * len(self._own)
            completions: list[Any] = [None] * len(own)
            for number in np.flatnonzero(has_result).tolist():
                value, own[number] = own[number], None
                if value is not None:
                    completions[number] = parse(value, self._shared[number])
            self._shared, self._known = [b""] * len(own), {}
            self._completions = completions
        return self._completions


class VectorBuffer:
    """Vectors of one length, float32, in ``matrix`` (n, d); rows without a result are uninitialized.

    Memory is used as rows are filled. ``put`` raises InvalidResponseError for vectors of another length than the first
    ones.
    """

    def __init__(self, count: int) -> None:
        self.filled = np.zeros(count, dtype=np.bool_)
        self.matrix: NDArray[np.float32] = np.empty((count, 0), dtype=np.float32)
        self._lock = threading.Lock()

    def put(self, numbers: NDArray[np.int64], values: Values) -> None:
        rows = as_matrix(values)
        with self._lock:
            if not self.matrix.shape[1]:
                self.matrix = np.empty((len(self.filled), rows.shape[1]), dtype=np.float32)
        if rows.shape[1] != self.matrix.shape[1]:
            raise dimension_mismatch(self.matrix.shape[1], rows.shape[1])
        self.matrix[numbers] = rows
        self.filled[numbers] = True


class VectorFile:
    """Vectors of one length in a file of raw float32 rows, for more of them than fit into memory.

    Raises ScratchFileError if the file cannot be written. Where the system permits it the file has no name while it is
    used, so that a killed process leaves nothing behind; elsewhere ``close`` removes it.
    """

    def __init__(self, count: int, path: Path) -> None:
        self.filled = np.zeros(count, dtype=np.bool_)
        self.size = 0
        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = path.open("x+b")
        except OSError as problem:
            raise self._failure(problem) from None
        self._unlinked = False
        if os.name == "posix":
            with contextlib.suppress(OSError):
                path.unlink()
                self._unlinked = True

    def put(self, numbers: NDArray[np.int64], values: Values) -> None:
        rows = np.ascontiguousarray(as_matrix(values), dtype="<f4")
        with self._lock:
            size = self.size = self.size or rows.shape[1]
            if rows.shape[1] != size:
                raise dimension_mismatch(size, rows.shape[1])
            try:
                for start, stop in _runs(numbers):
                    self._file.seek(int(numbers[start]) * size * 4)
                    self._file.write(rows[start:stop].data)
                self._file.flush()
            except OSError as problem:
                raise self._failure(problem) from None
            self.filled[numbers] = True

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of these inputs, which must all have one, float32 (m, d)."""
        wanted, positions = np.unique(numbers, return_inverse=True)
        vectors = np.empty((len(wanted), self.size), dtype="<f4")
        with self._lock:
            for start, stop in _runs(wanted):
                self._file.seek(int(wanted[start]) * self.size * 4)
                self._file.readinto(vectors[start:stop].data.cast("B"))
        return vectors[positions]

    def close(self) -> None:
        """Close and remove the file."""
        try:
            with contextlib.suppress(OSError):
                self._file.close()
        finally:
            if not self._unlinked:
                self._path.unlink(missing_ok=True)

    def _failure(self, problem: OSError) -> ScratchFileError:
        return ScratchFileError(
            f"The vectors cannot be written to a scratch file in {self._path.parent}: "
            f"{problem.strerror or problem}. Free some space, or choose another folder for to=."
        )


def _runs(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of consecutive numbers."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    ends = [0, *breaks.tolist(), len(numbers)]
    return [(start, stop) for start, stop in pairwise(ends) if start < stop]


def as_matrix(values: Values) -> NDArray[np.float32]:
    """Return vectors, or the bytes of each, as one matrix (m, d); raise InvalidResponseError if lengths differ."""
    if isinstance(values, np.ndarray):
        return values
    rows = cast(Sequence[bytes], values)
    size = len(rows[0]) if rows else 0
    other = next((len(row) for row in rows if len(row) != size), None)
    if other is not None:
        raise dimension_mismatch(size // 4, other // 4)
    return np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), size // 4)


def dimension_mismatch(one: int, other: int) -> InvalidResponseError:
    """Return the error for vectors of two lengths in one column."""
    return InvalidResponseError(
        f"Vectors of {one} and of {other} dimensions came for one model; they cannot share a column. Pass dimensions= "
        "or another cache= to separate them."
    )


@dataclass(frozen=True, slots=True)
class RunResult:
    """The results of a run: ``report.errors`` maps rows to errors, ``result_index`` rows to their results."""

    plan: Plan
    buffer: ResultBuffer
    has_result: NDArray[np.bool_]
    """Which distinct inputs have a result, (k,)."""
    report: Report

    @property
    def result_index(self) -> NDArray[np.int64]:
        """For each row the number of its result, or -1 if it has none. int64 (n,)."""
        codes = self.plan.codes
        if not len(self.has_result):
            return np.full(len(codes), -1, dtype=np.int64)
        return np.where((codes >= 0) & self.has_result[codes], codes, -1)

    @property
    def values(self) -> list[bytes | None]:
        """Completions as the cache stores them, ``None`` for a missing one."""
        if not isinstance(self.buffer, CompletionBuffer):
            raise TypeError("This result holds vectors; use matrix.")
        return self.buffer.values(self.has_result)

    @property
    def matrix(self) -> NDArray[np.float32]:
        """Vectors, float32 (k, d); rows without a result are uninitialized."""
        if not isinstance(self.buffer, VectorBuffer):
            raise TypeError("This result holds completions; use values.")
        return self.buffer.matrix

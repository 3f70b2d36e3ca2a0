"""What came back, by number of distinct input: completions as they are kept, vectors in one matrix or one file."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from skytells_nb.engine.planning import Plan
from skytells_nb.engine.report import Report
from skytells_nb.errors import CacheError, InvalidResponseError

Values: TypeAlias = Sequence[bytes | None] | NDArray[np.float32]
"""Answers as bytes, ``None`` where there is none; or vectors, float32 (m, d)."""


class ResultBuffer(Protocol):
    """Answers to the inputs 0 … n-1 of a run; several threads may put different ones at once."""

    have: NDArray[np.bool_]
    """Which inputs have one, (n,)."""

    def put(self, numbers: NDArray[np.int64], values: Values) -> None:
        """Hold these answers; none of ``values`` is ``None``."""
        ...


class CompletionBuffer:
    """Completions, as the cache keeps them."""

    def __init__(self, count: int) -> None:
        self.have = np.zeros(count, dtype=np.bool_)
        self.values: list[bytes | None] = [None] * count

    def put(self, numbers: NDArray[np.int64], values: Values) -> None:
        for number, value in zip(numbers.tolist(), values, strict=True):
            self.values[number] = cast(bytes, value)
        self.have[numbers] = True


class VectorBuffer:
    """Vectors of one length, float32, in ``matrix`` (n, d); rows without an answer hold anything.

    Memory is taken as rows are filled. ``put`` raises InvalidResponseError for vectors of another
    length than the first ones.
    """

    def __init__(self, count: int) -> None:
        self.have = np.zeros(count, dtype=np.bool_)
        self.matrix: NDArray[np.float32] = np.empty((count, 0), dtype=np.float32)
        self._lock = threading.Lock()

    def put(self, numbers: NDArray[np.int64], values: Values) -> None:
        rows = as_matrix(values)
        with self._lock:
            if not self.matrix.shape[1]:
                self.matrix = np.empty((len(self.have), rows.shape[1]), dtype=np.float32)
        if rows.shape[1] != self.matrix.shape[1]:
            raise lengths_differ(self.matrix.shape[1], rows.shape[1])
        self.matrix[numbers] = rows
        self.have[numbers] = True


class VectorFile:
    """Vectors of one length in a file of raw float32 rows, for more of them than memory holds.

    Raises CacheError where the file cannot be written. Close it, which removes the file, when the rows were read.
    """

    def __init__(self, count: int, path: Path) -> None:
        self.have = np.zeros(count, dtype=np.bool_)
        self.size = 0
        self._path = path
        self._lock = threading.Lock()
        self._file = path.open("w+b")

    def put(self, numbers: NDArray[np.int64], values: Values) -> None:
        rows = np.ascontiguousarray(as_matrix(values), dtype="<f4")
        with self._lock:
            size = self.size = self.size or rows.shape[1]
            if rows.shape[1] != size:
                raise lengths_differ(size, rows.shape[1])
            try:
                for start, stop in _runs(numbers):
                    self._file.seek(int(numbers[start]) * size * 4)
                    self._file.write(rows[start:stop].data)
                self._file.flush()
            except OSError as problem:
                raise CacheError(
                    f"{self._path} cannot be written: {problem.strerror}. Every answer that arrived is in the cache."
                ) from None
            self.have[numbers] = True

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of these inputs, which must have one, float32 (m, d)."""
        wanted, places = np.unique(numbers, return_inverse=True)
        found = np.empty((len(wanted), self.size), dtype="<f4")
        with self._lock:
            for start, stop in _runs(wanted):
                self._file.seek(int(wanted[start]) * self.size * 4)
                self._file.readinto(found[start:stop].data.cast("B"))
        return found[places]

    def close(self) -> None:
        try:
            with contextlib.suppress(OSError):
                self._file.close()
        finally:
            self._path.unlink(missing_ok=True)


def _runs(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where numbers follow each other one by one: (start, stop) of each stretch."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    ends = [0, *breaks.tolist(), len(numbers)]
    return [(start, stop) for start, stop in pairwise(ends) if start < stop]


def as_matrix(values: Values) -> NDArray[np.float32]:
    """Vectors, or the bytes of each, as one matrix (m, d). Raises InvalidResponseError where they differ in length."""
    if isinstance(values, np.ndarray):
        return values
    kept = cast(Sequence[bytes], values)
    size = len(kept[0]) if kept else 0
    odd = next((len(value) for value in kept if len(value) != size), None)
    if odd is not None:
        raise lengths_differ(size // 4, odd // 4)
    return np.frombuffer(b"".join(kept), dtype="<f4").reshape(len(kept), size // 4)


def lengths_differ(one: int, other: int) -> InvalidResponseError:
    return InvalidResponseError(
        f"Vectors of {one} and of {other} dimensions came for one model; they cannot share a column. Every answer is "
        "in the cache; pass dimensions= or another cache= to keep the kinds apart."
    )


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came back: ``report.errors`` maps rows to errors, ``answered`` rows to the numbers of their answers."""

    plan: Plan
    answers: ResultBuffer
    have: NDArray[np.bool_]
    """Which distinct inputs have an answer, (k,)."""
    report: Report

    @property
    def result_index(self) -> NDArray[np.int64]:
        """For each row the number of its answer, or -1 where it has none. int64 (n,)."""
        codes = self.plan.codes
        if not len(self.have):
            return np.full(len(codes), -1, dtype=np.int64)
        return np.where((codes >= 0) & self.have[codes], codes, -1)

    @property
    def values(self) -> list[bytes | None]:
        """Completions as the cache keeps them, ``None`` where there is none."""
        if not isinstance(self.answers, CompletionBuffer):
            raise TypeError("This outcome holds vectors; see matrix.")
        return [value if there else None for value, there in zip(self.answers.values, self.have.tolist(), strict=True)]

    @property
    def matrix(self) -> NDArray[np.float32]:
        """Vectors, float32 (k, d); rows that no number of ``answered`` names hold anything."""
        if not isinstance(self.answers, VectorBuffer):
            raise TypeError("This outcome holds completions; see values.")
        return self.answers.matrix

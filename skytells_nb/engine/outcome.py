"""What a run gives back: answers by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytells_nb.engine.answers import Answers, Completions, Vectors
from skytells_nb.engine.plan import Plan
from skytells_nb.engine.report import Report


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back: ``report.errors`` maps rows to errors, ``answered`` rows to the numbers of their answers."""

    plan: Plan
    answers: Answers
    have: NDArray[np.bool_]
    """Which distinct inputs have an answer, (k,)."""
    report: Report

    @property
    def answered(self) -> NDArray[np.int64]:
        """For each row the number of its answer, or -1 where it has none. int64 (n,)."""
        codes = self.plan.codes
        if not len(self.have):
            return np.full(len(codes), -1, dtype=np.int64)
        return np.where((codes >= 0) & self.have[codes], codes, -1)

    @property
    def values(self) -> list[bytes | None]:
        """Completions as the cache keeps them, ``None`` where there is none."""
        if not isinstance(self.answers, Completions):
            raise TypeError("This outcome holds vectors; see matrix.")
        return [value if there else None for value, there in zip(self.answers.values, self.have.tolist(), strict=True)]

    @property
    def matrix(self) -> NDArray[np.float32]:
        """Vectors, float32 (k, d); rows that no number of ``answered`` names hold anything."""
        if not isinstance(self.answers, Vectors):
            raise TypeError("This outcome holds completions; see values.")
        return self.answers.matrix
